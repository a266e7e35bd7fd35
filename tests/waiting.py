"""How tests wait: for as long as a slow machine with busy neighbours may need, since only a fault takes that long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE_S = 180.0
Found = TypeVar("Found")


def until(true: Callable[[], Found], *, within_s: float = PATIENCE_S) -> Found:
    """What `true()` says, when it says something."""
    deadline = time.monotonic() + within_s
    while not (found := true()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)
    return found


async def settled(true: Callable[[], object]) -> None:
    """Return when `true()`; everything else goes on meanwhile."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110 - whatever it is, there is no event for it
            await asyncio.sleep(0.005)
