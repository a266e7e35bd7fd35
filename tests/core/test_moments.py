from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.moments import DAY_MS, day, moment_ms, shown
from baimo.errors import UsageError

NOW = 1_800_000_000_000


@pytest.mark.parametrize(
    ("source", "back", "expected"),
    [
        ("30m", True, NOW - 30 * 60_000),
        ("12h", False, NOW + 12 * 3_600_000),
        ("90d", False, NOW + 90 * DAY_MS),
        ("2w", True, NOW - 14 * DAY_MS),
        ("1970-01-02", True, DAY_MS),
        ("1970-01-02T00:00:01.5", False, DAY_MS + 1500),
        ("1970-01-02T08:00+08:00", False, DAY_MS),
        ("1970-01-02T00:00:00Z", False, DAY_MS),
    ],
)
def test_a_moment_is_a_date_a_time_or_a_distance_in_utc(source: str, back: bool, expected: int) -> None:
    assert moment_ms(source, NOW, back=back) == expected


@pytest.mark.parametrize(
    "source",
    [
        "",
        "soon",
        "90",
        "-3d",
        "2027-02-30",
        "90 days",
        "9999999d",
        "99999w",
        "0001-01-01T00:00+14:00",
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_anything_else_is_refused_with_the_forms_that_there_are(source: str) -> None:
    with pytest.raises(UsageError, match="no moment") as caught:
        moment_ms(source, NOW, back=True)
    assert "90d" in caught.value.hint


@given(st.integers(0, 4_000_000_000))
def test_what_is_shown_is_read_again(seconds: int) -> None:
    assert moment_ms(shown(seconds * 1000), 0, back=True) == seconds * 1000
    assert moment_ms(day(seconds * 1000), 0, back=True) == seconds * 1000 // DAY_MS * DAY_MS
