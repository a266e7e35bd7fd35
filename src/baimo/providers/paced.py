"""What every provider that can fail in passing has in common: leave to ask, patience, streams, no double answers.

A subclass says how one attempt is made; here is when it is made, and what happens when it fails.
"""

from __future__ import annotations

import dataclasses
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from baimo.core.call import Completion, Delta, Request, Usage
from baimo.core.registry import Spec
from baimo.errors import ProviderError, RateLimited
from baimo.providers.pace import Clock, Pace, Slot, SystemClock, estimated_tokens
from baimo.providers.retry import LONGEST_WAIT_S, Patience
from baimo.settings import AT_ONCE, ProviderSettings

log = logging.getLogger("baimo.providers")


class PacedProvider(ABC):
    """Implements `Provider` on top of single attempts."""

    longest_wait_s = LONGEST_WAIT_S
    """Longest time that one call waits because the server asked for it; 0 = whoever calls decides about that."""

    def __init__(
        self, settings: ProviderSettings, *, clock: Clock | None = None, chance: random.Random | None = None
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self.pace = Pace(
            concurrency=settings.concurrency or AT_ONCE,
            requests_per_minute=settings.requests_per_minute,
            tokens_per_minute=settings.tokens_per_minute,
            clock=self.clock,
        )
        self._retries = settings.retries
        self._chance = chance or random.Random()

    def unpaced(self) -> None:
        """From now on whoever calls decides when to ask, and how long to be patient."""
        self.longest_wait_s = 0.0
        self.pace = Pace(concurrency=None, clock=self.clock)

    @property
    @abstractmethod
    def spec(self) -> Spec:
        """How to build this provider again."""

    @abstractmethod
    async def attempt(self, request: Request, patience: Patience) -> Completion:
        """Ask once; raise a ProviderError when there is no answer."""

    @abstractmethod
    def attempt_stream(self, request: Request, patience: Patience) -> AsyncGenerator[Delta, None]:
        """Ask once for a stream."""

    async def complete(self, request: Request) -> Completion:
        """Answer one request. Whatever it raises has `attempts`: how often it was sent, 0 = not at all."""
        patience = self._patience()
        try:
            return await self._answered(request, patience)
        except BaseException as error:  # whoever keeps the ledger must know, also when the call was given up
            vars(error)["attempts"] = patience.attempts
            raise

    async def _answered(self, request: Request, patience: Patience) -> Completion:
        while True:
            async with self.pace.slot(estimated_tokens(request)) as slot:
                started = self.clock.now()
                try:
                    completion = await self.attempt(request, patience)
                    slot.answered(completion.usage)
                    elapsed = completion.latency_ms
                    if elapsed is None:
                        elapsed = (self.clock.now() - started) * 1000
                    return dataclasses.replace(completion, attempts=patience.attempts, latency_ms=elapsed)
                except ProviderError as error:
                    delay = self._delay(error, slot, patience, request)
            await self.clock.sleep(delay)

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Answer piece by piece; a failure is retried as long as no piece was given out. Close it when done with it."""
        patience = self._patience()
        while True:
            begun = False
            async with self.pace.slot(estimated_tokens(request)) as slot:
                try:
                    async with aclosing(self.attempt_stream(request, patience)) as deltas:
                        async for delta in deltas:
                            if delta.finish_reason is not None:
                                slot.answered(delta.usage or Usage())
                            begun = True
                            yield delta
                    return
                except ProviderError as error:
                    delay = self._delay(error, slot, patience, request)
                    if begun:
                        raise
            await self.clock.sleep(delay)

    @abstractmethod
    async def aclose(self) -> None:
        """Give back what is held open."""

    def _patience(self) -> Patience:
        return Patience(retries=self._retries, chance=self._chance, longest_wait_s=self.longest_wait_s)

    def _delay(self, error: ProviderError, slot: Slot, patience: Patience, request: Request) -> float:
        """How long to wait after a failure; raises it when it is final. When one call is told to slow down, all do."""
        try:
            delay = patience.delay_s(error)
        except ProviderError:
            if isinstance(error, RateLimited):
                slot.limited(0)
            raise
        if isinstance(error, RateLimited):
            slot.limited(delay)
        log.info("%s: %s; attempt %d in %.1f s", request.model, error.key, patience.attempts + 1, delay)
        return delay


async def gathered(deltas: AsyncIterator[Delta]) -> Completion:
    """A stream as one Completion."""
    pieces = [delta async for delta in deltas]
    last = pieces[-1] if pieces else Delta()
    return Completion(
        text="".join(piece.text for piece in pieces),
        reasoning="".join(piece.reasoning for piece in pieces) or None,
        tool_calls=tuple(call for piece in pieces for call in piece.tool_calls),
        finish_reason=last.finish_reason or "unknown",
        refused=last.refused,
        stop_sequence=last.stop_sequence,
        usage=last.usage or Usage(),
        model=last.model,
    )


def as_delta(completion: Completion) -> Delta:
    """A whole answer as the only piece of a stream."""
    return Delta(
        text=completion.text,
        reasoning=completion.reasoning or "",
        tool_calls=completion.tool_calls,
        finish_reason=completion.finish_reason,
        refused=completion.refused,
        stop_sequence=completion.stop_sequence,
        usage=completion.usage,
        model=completion.model,
    )
