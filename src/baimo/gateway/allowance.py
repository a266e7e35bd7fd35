"""How much a provider may be asked by this process: calls at once, requests and tokens per minute, in order of coming.

Prevents three failures: a limit of `[providers.NAME]` that only holds where requests are translated, a call that waits
for a place which it cannot get in time, and a place that is never given back because its client left while it waited.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from baimo.errors import LimitReached
from baimo.providers.pace import Window
from baimo.settings import ProviderSettings, Settings

TRY_AGAIN_S = 1.0
"""What a client is told to wait for a call to end: nobody knows when that will be."""


class Alarm(Protocol):
    """A call of a function that is still to come."""

    def cancel(self) -> object: ...


Later = Callable[[float, Callable[[], None]], Alarm]
"""Calls a function after so many seconds."""


class Most(NamedTuple):
    """What a provider may be asked; None = no limit of ours."""

    concurrency: int | None
    requests: int | None
    tokens: int | None


class Held(NamedTuple):
    """Why a call cannot go now."""

    counts: str
    """concurrency, requests or tokens."""
    limit: int
    for_s: float | None
    """At least so long; None = until another one ends."""


class _Waiting(NamedTuple):
    """A call in line."""

    size: int
    tokens: int
    place: asyncio.Future[Place]


class Place:
    """Leave to ask once, held until the answer has ended."""

    __slots__ = ("_allowance", "_held", "_requests", "_size", "_tokens")

    def __init__(self, allowance: Allowance, size: int, requests: list[float], tokens: list[float]) -> None:
        self._allowance = allowance
        self._size = size
        self._requests = requests
        self._tokens = tokens
        self._held = True

    def leave(self, tokens: int | None, *, asked: bool = True) -> None:
        """Let the next one go. A second time it does nothing.

        Args:
            tokens: that it took; None = nobody knows, and the estimate stays.
            asked: whether a request was sent at all.
        """
        if self._held:
            self._held = False
            self._allowance.left(self._size, None if asked else self._requests, self._tokens, tokens)


class Allowance:
    """Of one provider. Belongs to one event loop."""

    def __init__(
        self, provider: str, most: Most, *, now: Callable[[], float], later: Later | None = None
    ) -> None:
        """
        Args:
            provider: its name, for messages.
            most: what it may be asked.
            now: monotonic seconds.
            later: the event loop's timer, unless told otherwise.
        """
        self.most = most
        self._provider = provider
        self._now = now
        self._later = later or _later
        self._requests = Window(most.requests)
        self._tokens = Window(most.tokens)
        self._taken = 0
        self._line: deque[_Waiting] = deque()
        self._in_line = (0, 0)
        """Requests and tokens of those who wait."""
        self._alarm: Alarm | None = None
        self._held = Held("concurrency", 1, None)
        """Why a call could not go, the last time."""

    def adopt(self, most: Most) -> None:
        """Go on under other limits; what is under way and what went before counts."""
        self.most = most
        self._requests.limit, self._tokens.limit = most.requests, most.tokens
        self._admit()

    def take(self, size: int, tokens: int) -> Place | None:
        """A place, if there is one and nobody waits for it.

        Args:
            size: requests that the call is sent as.
            tokens: that all of it may take, prompt and answer, roughly.
        """
        if self._line or self._held_up(size, tokens) is not None:
            return None
        return self._place(size, tokens)

    async def wait(self, size: int, tokens: int, wait_s: float) -> Place:
        """A place, after those who came before; no longer than `wait_s`.

        Raises:
            LimitReached: there was none in time, or there cannot be one.
        """
        before = self._in_line
        held = self._held_up(size + before[0], tokens + before[1])
        if wait_s <= 0 or (held is not None and (held.for_s or 0.0) > wait_s):
            raise self._refusal()
        waiting = _Waiting(size, tokens, asyncio.get_running_loop().create_future())
        self._line.append(waiting)
        self._in_line = before[0] + size, before[1] + tokens
        self._admit()
        patience = self._later(wait_s, lambda: self._give_up(waiting))
        try:
            return await waiting.place
        except asyncio.CancelledError:
            place = waiting.place
            if place.cancelled() or not place.done():
                self._forget(waiting)
                self._admit()
            elif place.exception() is None:
                place.result().leave(0, asked=False)
            raise
        finally:
            patience.cancel()

    def left(self, size: int, requests: list[float] | None, tokens: list[float], used: int | None) -> None:
        """A place is free again, see `Place.leave`.

        Args:
            size: calls at once that it stood for.
            requests: entry of requests that were never sent; None = they were.
            tokens: entry of its tokens.
            used: what they were; None = nobody knows.
        """
        self._taken -= size
        now = self._now()
        if requests is not None:
            self._requests.settle(requests, 0, now)
        if used is not None:
            self._tokens.settle(tokens, used, now)
        self._admit()

    def _held_up(self, size: int, tokens: int) -> Held | None:
        most, now = self.most, self._now()
        if most.requests is not None and (wait := self._requests.delay(size, now)) > 0:
            self._held = Held("requests", most.requests, wait)
        elif most.tokens is not None and (wait := self._tokens.delay(tokens, now)) > 0:
            self._held = Held("tokens", most.tokens, wait)
        elif most.concurrency is not None and self._taken + min(size, most.concurrency) > most.concurrency:
            self._held = Held("concurrency", most.concurrency, None)
        else:
            return None
        return self._held

    def _place(self, size: int, tokens: int) -> Place:
        now = self._now()
        # what is sent as more requests than there are places takes all of them
        places = size if self.most.concurrency is None else min(size, self.most.concurrency)
        self._taken += places
        return Place(self, places, self._requests.enter(size, now), self._tokens.enter(tokens, now))

    def _admit(self) -> None:
        """Let those go who can, the first in line first; look again when time alone makes room."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        while self._line:
            first = self._line[0]
            held = self._held_up(first.size, first.tokens)
            if held is not None:
                if held.for_s is not None:
                    self._alarm = self._later(held.for_s, self._admit)
                return
            self._forget(first)
            if not first.place.done():
                first.place.set_result(self._place(first.size, first.tokens))

    def _give_up(self, waiting: _Waiting) -> None:
        if not waiting.place.done():
            self._held_up(*self._in_line)
            waiting.place.set_exception(self._refusal())
            self._forget(waiting)
            self._admit()

    def _forget(self, waiting: _Waiting) -> None:
        """It is not in line any more."""
        if waiting not in self._line:
            return
        self._line.remove(waiting)
        self._in_line = self._in_line[0] - waiting.size, self._in_line[1] - waiting.tokens

    def _refusal(self) -> LimitReached:
        held = self._held
        wait_s = held.for_s or TRY_AGAIN_S
        facts = {"provider": self._provider, "limit": held.limit, "wait_s": wait_s}
        return LimitReached(f"gateway.held_{held.counts}", retry_after_s=wait_s, **facts)


def _later(seconds: float, ring: Callable[[], None]) -> Alarm:
    return asyncio.get_running_loop().call_later(seconds, ring)


def allowances(settings: Settings, now: Callable[[], float]) -> dict[str, Allowance]:
    """Of every provider whose limits are set in `[providers.NAME]`: a default would throttle who set none.

    Each worker has its part of them, so that all together never exceed what is set (where it is at least one each).
    """
    found: dict[str, Allowance] = {}
    for name, given in settings.providers.items():
        most = _most(given, settings.serve.workers)
        if any(one is not None for one in most):
            found[name] = Allowance(name, most, now=now)
    return found


def carried(before: Mapping[str, Allowance], after: dict[str, Allowance]) -> None:
    """What was under way and went before under other settings counts `after` them."""
    for name, allowance in before.items():
        if name in after and after[name] is not allowance:
            allowance.adopt(after[name].most)
            after[name] = allowance


def _most(given: ProviderSettings, workers: int) -> Most:
    def part(whole: int | None) -> int | None:
        return None if whole is None else max(1, whole // workers)

    return Most(part(given.concurrency), part(given.requests_per_minute), part(given.tokens_per_minute))
