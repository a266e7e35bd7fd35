"""What clients are told about trying again."""

from __future__ import annotations

import pytest

from baimo.errors import BaimoError, BudgetExceeded, LimitReached, NotSupported, Overloaded, RateLimited
from baimo.gateway.answers import retry_headers

FINAL = (b"x-should-retry", b"false")


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (BudgetExceeded("x"), [FINAL]),
        (NotSupported("x"), [FINAL]),
        (LimitReached("x"), [FINAL]),
        (LimitReached("x", retry_after_s=3600.0), [(b"retry-after", b"3600"), FINAL]),
        (LimitReached("x", retry_after_s=1.2), [(b"retry-after", b"2")]),
        (Overloaded("x", retry_after_s=0.1), [(b"retry-after", b"1")]),
        (RateLimited("x"), []),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, BaimoError) else None,
)
def test_programs_try_again_only_where_that_can_help(
    error: BaimoError, headers: list[tuple[bytes, bytes]]
) -> None:
    assert retry_headers(error) == headers
