"""A clock that jumps: whoever sleeps is woken in the right order, at the right time, without waiting."""

from __future__ import annotations

import asyncio

PASSES = 20
"""Turns of the event loop that everybody else gets before time moves on."""


class FakeClock:
    """Time that moves only when somebody sleeps; fits every `Clock` parameter."""

    def __init__(self, *, now: float = 0.0, wall: float = 1_800_000_000.0) -> None:
        self._now = now
        self._epoch = wall - now
        self._wakes: list[float] = []
        self.sleeps: list[float] = []
        """Every length that was slept, in the order in which sleeping began; zeros left out."""

    def now(self) -> float:
        """Seconds since the test began."""
        return self._now

    def wall(self) -> float:
        """Seconds since 1970."""
        return self._epoch + self._now

    def advance(self, seconds: float) -> None:
        """Let time pass without anybody sleeping."""
        self._now += seconds

    async def sleep(self, seconds: float) -> None:
        """Return once all earlier sleepers have been woken; time is then `seconds` later than at the call."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        self.sleeps.append(seconds)
        wake = self._now + seconds
        self._wakes.append(wake)
        try:
            while True:
                for _ in range(PASSES):
                    await asyncio.sleep(0)
                if wake <= min(self._wakes):
                    break
        finally:
            self._wakes.remove(wake)
        self._now = max(self._now, wake)
