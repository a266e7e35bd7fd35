"""From a Choice to an answer: one attempt, and what follows when it fails.

Prevents three failures: a request executed twice on one model because its answer got lost, a fallback that costs what
nobody reserved, and a server that is down being asked again by every call.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import msgspec

from baimo.core.model import Model
from baimo.errors import BaimoError, ConfigError, Forbidden, Overloaded, RateLimited, Unreachable
from baimo.gateway.answers import Flow, Whole
from baimo.gateway.bound import Bound
from baimo.gateway.breaker import Breaker
from baimo.gateway.call import Call, Grant
from baimo.gateway.failures import AttemptFailed, of_server
from baimo.gateway.limits import merged
from baimo.gateway.observe import Observer
from baimo.gateway.passing import Passing
from baimo.gateway.settling import Books
from baimo.gateway.strategies import Latencies
from baimo.gateway.terms import Terms, TermsBook, passed_over
from baimo.gateway.translated import Translated
from baimo.gateway.upstream import Upstream
from baimo.settings import Settings

LONGEST_PAUSE_S = 60.0
"""A vendor that asks for more patience than this is not waited for: the client is told, and decides."""
FIRST_PAUSE_S = 0.1
"""Before the second repetition of an attempt that never reached the server; then twice as long each time."""


class Ways(msgspec.Struct, frozen=True):
    """Everything that attempts need."""

    settings: Settings
    terms: TermsBook
    passing: Passing
    translated: Translated
    upstream: Callable[[str], Upstream]
    """By vendor's name; raises ConfigError."""
    breaker: Callable[[str], Breaker]
    """By model's name."""
    latencies: Latencies
    books: Books
    observer: Observer
    now: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    chance: random.Random


class Attempts:
    """Asks models until one answers."""

    def __init__(self, ways: Ways) -> None:
        self.ways = ways
        self._retries = ways.settings.serve.retries

    async def answer(self, call: Call, grant: Grant) -> Whole | Flow:
        """The first answer that can be shown.

        Raises:
            AttemptFailed: no model gave one; it is the last failure.
            CallRefused: the request cannot be translated.
        """
        if grant.choice.hedge_after_ms is not None and grant.choice.fallbacks:
            from baimo.gateway.hedging import hedged

            try:
                return await hedged(self, call, grant)
            except AttemptFailed as failure:
                return await self._recovered(call, grant, failure)
        try:
            return await self.attempt(call, grant)
        except AttemptFailed as failure:
            return await self._recovered(call, grant, failure)

    async def attempt(self, call: Call, grant: Grant) -> Whole | Flow:
        """Ask the model of `grant.terms` once.

        Raises:
            AttemptFailed: it gave nothing.
        """
        ways, terms = self.ways, grant.terms
        name = terms.model.name
        breaker = ways.breaker(name)
        if breaker.state != "closed" and not breaker.allows():
            rest = Overloaded(
                "gateway.resting", model=name, seconds=round(breaker.rest), retry_after_s=breaker.rest
            )
            raise AttemptFailed(rest)
        grant.entry.attempts += 1
        grant.out = True
        asked_at, upstream = ways.now(), None
        try:
            if terms.masked or not terms.passes(call.surface):
                answer = await ways.translated.ask(call, grant, mask=terms.masked)
            else:
                upstream = self._upstream(terms.vendor.name)
                answer = await ways.passing.ask(call, grant, upstream)
        except AttemptFailed as failure:
            failure.error.facts["model"] = name  # by which clients know it; the server's name is for the log
            if upstream is not None and failure.error.key == "providers.key_refused":
                upstream.read_again()
            if of_server(failure.error):
                breaker.failed()
            else:
                breaker.succeeded()
            ways.latencies.failed(name, ways.now() - asked_at)
            ways.observer.attempt_failed(grant, name, failure.error, failure.kind, failure.unsure)
            raise
        except BaseException as error:
            if "unsent" in vars(error):
                grant.out = False
            breaker.gave_up()
            raise
        breaker.succeeded()
        ways.latencies.seen(name, ways.now() - asked_at)
        return answer

    def _upstream(self, vendor: str) -> Upstream:
        try:
            return self.ways.upstream(vendor)
        except ConfigError as error:  # the next model may be configured better
            raise AttemptFailed(error) from None

    async def _recovered(self, call: Call, grant: Grant, failure: AttemptFailed) -> Whole | Flow:
        left = list(grant.choice.fallbacks)
        repeated = 0
        while True:
            lose(grant, failure.unsure)
            pause = self._pause_s(grant, failure, repeated, falls_back=self._takes(grant, failure, left))
            if pause is not None:
                repeated += 1
                if pause:
                    await self._rested(grant, pause)
            elif await self._moved(call, grant, failure, left):
                repeated = 0
            else:
                raise failure
            try:
                return await self.attempt(call, grant)
            except AttemptFailed as error:
                failure = error

    def _pause_s(
        self, grant: Grant, failure: AttemptFailed, repeated: int, *, falls_back: bool
    ) -> float | None:
        """Seconds until the same model is asked again; None = it is not.

        Only where nothing can have been executed: the request never reached the server, or the server said when to
        come again.
        """
        error = failure.error
        if failure.unsure or repeated >= self._retries:
            return None
        left = grant.deadline - self.ways.now()
        if isinstance(error, RateLimited) and error.retry_after_s is not None and not falls_back:
            # a little later than asked: everybody else was told the same moment
            pause = error.retry_after_s + self.ways.chance.uniform(0, min(1.0, error.retry_after_s * 0.1))
            return pause if pause <= LONGEST_PAUSE_S and pause < left else None
        if isinstance(error, Unreachable) and error.retryable:
            if not repeated:
                return 0.0
            pause = FIRST_PAUSE_S * 2 ** (repeated - 1)
            return None if falls_back or pause >= left else pause
        return None

    async def _rested(self, grant: Grant, pause: float) -> None:
        """Wait before the same model is asked again; it is the model that this time is waited for."""
        began = self.ways.now()
        try:
            await self.ways.sleep(pause)
        finally:
            grant.model_s += self.ways.now() - began

    def _takes(self, grant: Grant, failure: AttemptFailed, left: list[Model]) -> bool:
        return failure.kind in grant.choice.fallback_on and any(
            self.ways.breaker(one.name).ready() for one in left
        )

    async def _moved(self, call: Call, grant: Grant, failure: AttemptFailed, left: list[Model]) -> bool:
        """Go over to the next model that this class of failure may be passed on to, and that can be paid."""
        if failure.kind not in grant.choice.fallback_on or grant.deadline <= self.ways.now():
            return False
        while left:
            model = left.pop(0)
            if not self.ways.breaker(model.name).ready():
                continue
            terms = self.ways.terms.of(
                call.key, call.tenant, model, grant.choice.route, batch=bool(call.batch)
            )
            if await self.reserved(call, grant, terms):
                grant.entry.model = model.name
                grant.entry.route = f"fallback:{failure.kind}"
                grant.notes.append(f"{failure.error.key} → {model.name}")
                return True
        return False

    async def reserved(self, call: Call, grant: Grant, terms: Terms, *, beside: Bound | None = None) -> bool:
        """Reserve for a further model what is not reserved yet; False = it cannot be paid.

        Args:
            call: what is asked.
            grant: whose terms and bound become those of the new model, unless it runs `beside` the old one.
            terms: of the new model.
            beside: what another attempt under way may take; it is reserved besides.
        """
        books, entry, lost = self.ways.books, grant.entry, grant.lost
        try:
            bound = terms.bound(grant.peek, call.surface)
            also = beside or Bound(0, 0)
            tokens = bound.tokens + lost.tokens + also.tokens
            micros = (bound.micros or 0) + (lost.micros or 0) + (also.micros or 0)
            # the windows of its admission: a call does not change its month because a server was slow
            wanted = terms.plan.charges(entry.began_ms, tokens, micros)
            if beside is not None:
                # whoever wins is charged what the other may have taken; until then the old model's own come first
                _, wanted = merged(wanted, grant.terms.plan.charges(entry.began_ms, tokens, micros))
            extra, whole = merged(grant.reserved, wanted)
            if extra:
                if not books.reserve(extra):
                    await books.obtain(extra, 0.0)
                try:
                    entry.reserved = whole
                    books.open(entry)  # again: should this process die, all of it is charged
                except BaseException:
                    entry.reserved = grant.reserved
                    books.release(extra)
                    raise
        except BaimoError as error:
            grant.notes.append(f"{error.key}: {terms.model.name}")
            if isinstance(error, Forbidden):
                passed_over(terms.model, error)
            return False
        grant.reserved = entry.reserved = whole
        if beside is None:
            grant.terms, grant.bound = terms, bound
        return True


def lose(grant: Grant, unsure: int) -> None:
    """An attempt has failed: remember what those without a usage may have cost; it stays reserved and is charged."""
    grant.out = False
    if unsure:
        grant.entry.unsure += unsure
        lost, bound = grant.lost, grant.bound
        grant.lost = Bound(lost.tokens + bound.tokens, (lost.micros or 0) + (bound.micros or 0))
