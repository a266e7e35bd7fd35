"""How fast one provider may be asked: calls at once, requests and tokens per minute, pauses, first come first served.

Prevents two failures: hundreds of calls that each discover the same rate limit for themselves, and a limit that
holds "on average" but is broken in the first minute. Rates are counted in an exact sliding window (no 60 seconds
ever hold more than the limit; a token bucket would allow twice that at the start). A 429 halves the number of calls
at once, every answer gives a little back: additive increase, multiplicative decrease (Chiu & Jain 1989).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Protocol

from baimo.core.call import Request, Usage
from baimo.core.message import Part

WINDOW_S = 60.0
SHORTEST_S = 0.001
"""Shortest wait, so that rounding cannot make one that never ends."""
BYTES_PER_TOKEN = 4
"""UTF-8 bytes per token, roughly: four English letters, or one and a third Chinese characters."""
ANSWER_TOKENS = 256
"""Assumed length of an answer that has no `max_tokens`, until its real length is known."""
PART_TOKENS = 1000
"""Assumed size of an image or a sound."""


class Clock(Protocol):
    """Time, so that tests need not wait for it."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def wall(self) -> float:
        """Seconds since 1970, for dates that a server names."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        ...


class SystemClock:
    """The machine's own time."""

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Window:
    """At most `limit` units in any 60 seconds; None = no limit."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._entries: deque[list[float]] = deque()
        self._used = 0.0

    def delay(self, amount: float, now: float) -> float:
        """Seconds until `amount` fits; 0 = now. What exceeds a whole minute's limit fits into an empty window."""
        if self.limit is None:
            return 0.0
        while self._entries and self._entries[0][0] + WINDOW_S <= now:
            self._used -= self._entries.popleft()[1]
        excess = self._used + min(amount, self.limit) - self.limit
        for at, size in self._entries:
            if excess <= 0:
                break
            excess -= size
            if excess <= 0:
                return max(at + WINDOW_S - now, SHORTEST_S)
        return 0.0

    def enter(self, amount: float, now: float) -> list[float]:
        """Count `amount` at `now`; the entry can be corrected with `settle`."""
        if self.limit is None:
            return [float("-inf"), float(amount)]  # should there be a limit later, it was never counted
        entry = [now, float(amount)]
        self._entries.append(entry)
        self._used += entry[1]
        return entry

    def settle(self, entry: list[float], amount: float, now: float) -> None:
        """Replace what was estimated for `entry` by what it was."""
        if self.limit is not None and entry[0] + WINDOW_S > now:
            self._used += amount - entry[1]
            entry[1] = float(amount)


class Slot:
    """Leave to make one attempt."""

    def __init__(self, pace: Pace, entry: list[float], started: float) -> None:
        self._pace = pace
        self._entry = entry
        self.started = started

    def answered(self, usage: Usage) -> None:
        """The attempt succeeded: correct the estimate and let a little more through."""
        pace = self._pace
        if usage.tokens_in is not None and usage.tokens_out is not None:
            pace.tokens.settle(self._entry, usage.tokens_in + usage.tokens_out, pace.clock.now())
        pace.allowed = min(pace.concurrency, pace.allowed + 1 / pace.allowed)

    def limited(self, pause_s: float) -> None:
        """The server asked to slow down: nobody starts for `pause_s`, and fewer go at once afterwards.

        One burst of refusals counts once: attempts that started before the last cut do not cut again.
        """
        pace = self._pace
        pace.tokens.settle(self._entry, 0, pace.clock.now())
        pace.paused_until = max(pace.paused_until, pace.clock.now() + pause_s)
        if self.started >= pace.last_cut:
            pace.allowed = max(1.0, pace.allowed / 2)
            pace.last_cut = pace.clock.now()


class Pace:
    """Limits of one provider, shared by all its calls; None = no limit."""

    def __init__(
        self,
        *,
        concurrency: int | None,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        clock: Clock,
    ) -> None:
        self.concurrency = math.inf if concurrency is None else float(max(1, concurrency))
        self.allowed = self.concurrency
        self.requests = Window(requests_per_minute)
        self.tokens = Window(tokens_per_minute)
        self.clock = clock
        self.paused_until = 0.0
        self.last_cut = float("-inf")
        self.in_flight = 0
        self._turnstile = asyncio.Lock()  # wakes its waiters in the order in which they came
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def slot(self, tokens: float = 0) -> AsyncGenerator[Slot, None]:
        """Wait for leave to make one attempt of about `tokens` tokens, and hold it for the block."""
        async with self._turnstile:
            while self.in_flight + 1 > self.allowed:
                self._freed.clear()
                await self._freed.wait()
            while (delay := self._delay(tokens)) > 0:
                await self.clock.sleep(delay)
            now = self.clock.now()
            self.requests.enter(1, now)
            slot = Slot(self, self.tokens.enter(tokens, now), now)
            self.in_flight += 1
        try:
            yield slot
        finally:
            self.in_flight -= 1
            self._freed.set()

    def _delay(self, tokens: float) -> float:
        now = self.clock.now()
        return max(self.paused_until - now, self.requests.delay(1, now), self.tokens.delay(tokens, now))


def estimated_tokens(request: Request) -> int:
    """About how many tokens a request and its answer will take; errs high where the answer has no limit."""
    size = sum(_content_tokens(message.content) for message in request.messages)
    size += (
        sum(len(tool.description) + len(str(tool.parameters or "")) for tool in request.tools)
        // BYTES_PER_TOKEN
    )
    return size + (request.sampling.max_tokens or ANSWER_TOKENS)


def _content_tokens(content: str | tuple[Part, ...]) -> int:
    if isinstance(content, str):
        return len(content.encode("utf-8", errors="replace")) // BYTES_PER_TOKEN + 4
    texts = [part.data for part in content if part.kind == "text"]
    return sum(_content_tokens(text) for text in texts) + PART_TOKENS * (len(content) - len(texts))
