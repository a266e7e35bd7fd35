"""Waiting for something, but not for ever."""

from __future__ import annotations

import asyncio
from contextlib import suppress


async def happened(event: asyncio.Event, within_s: float) -> bool:
    """Return when it is set, or after a while; whether it is set.

    Not `asyncio.wait_for`: until Python 3.12 that loses a cancellation which comes together with the event, and whoever
    has cancelled waits for ever (github.com/python/cpython/issues/86296).
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await event.wait()
    return event.is_set()
