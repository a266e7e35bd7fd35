"""Pages: at most so many things, and a cursor that goes on after the last of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

import msgspec

from baimo.errors import UsageError

Limit = Annotated[int, msgspec.Meta(ge=1, le=1000)]
"""How many things one page may have."""
_Thing = TypeVar("_Thing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Paged:
    """What every list takes."""

    limit: Limit = 100
    """Most things on one page."""
    cursor: str | None = None
    """`next` of the page before; None = from the beginning."""


def cut(
    things: Sequence[_Thing], asked: Paged, name: Callable[[_Thing], str]
) -> tuple[Sequence[_Thing], str | None]:
    """One page, and the cursor of the next.

    Args:
        things: all of them, in their order.
        asked: which page.
        name: what tells one thing from the others; it is the cursor.

    Raises:
        UsageError: the cursor is of something that is not there any more.
    """
    start = 0
    if asked.cursor is not None:
        start = next((at for at, one in enumerate(things, 1) if name(one) == asked.cursor), 0)
        if not start:
            raise UsageError("admin.bad_cursor", field="/cursor")
    page = things[start : start + asked.limit]
    return page, name(page[-1]) if page and start + asked.limit < len(things) else None
