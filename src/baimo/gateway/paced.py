"""Attempts that keep to what a provider may be asked. Where nothing is set, `Attempts` do without.

A call waits in the line of its provider; where a fallback can take it, it does not wait but falls back, as it does when
a model's own limits leave no room. Its wait is queue time, never the model's.
"""

from __future__ import annotations

from collections.abc import Mapping

from baimo.errors import BaimoError, LimitReached
from baimo.gateway.allowance import Allowance, Place
from baimo.gateway.answers import Flow, Whole
from baimo.gateway.attempts import Attempts, Ways
from baimo.gateway.bound import WITHOUT_OUTPUT
from baimo.gateway.call import Call, Grant, Reply
from baimo.gateway.failures import AttemptFailed
from baimo.gateway.surface import MOST_TOKENS, Seen
from baimo.providers.pace import ANSWER_TOKENS, BYTES_PER_TOKEN, PART_TOKENS


class PacedAttempts(Attempts):
    """Asks a provider only where there is a place."""

    def __init__(self, ways: Ways, allowances: Mapping[str, Allowance]) -> None:
        """
        Args:
            ways: see `Attempts`.
            allowances: by provider; the others are asked at once.
        """
        super().__init__(ways)
        self._allowances = allowances

    async def attempt(self, call: Call, grant: Grant) -> Whole | Flow:
        """See `Attempts`; a stream holds its place until it ends."""
        model = grant.terms.model
        allowance = self._allowances.get(model.vendor)
        if allowance is None or not self.ways.breaker(model.name).ready():
            return await super().attempt(call, grant)
        size = grant.peek.answers if grant.terms.masked or not grant.terms.passes(call.surface) else 1
        tokens = _estimate(call, grant, size)
        place = allowance.take(size, tokens) or await self._waited(allowance, size, tokens, call, grant)
        try:
            answer = await super().attempt(call, grant)
        except AttemptFailed as failure:
            # the breaker may have opened meanwhile: then nothing was sent
            place.leave(None if failure.unsure else 0, asked=failure.error.key != "gateway.resting")
            raise
        except BaseException:
            place.leave(None)
            raise
        if isinstance(answer, Whole):
            place.leave(_used(answer.seen))
            return answer
        return Placed(answer, place)

    async def _waited(self, allowance: Allowance, size: int, tokens: int, call: Call, grant: Grant) -> Place:
        ways = self.ways
        began = ways.now()
        left_s = grant.deadline - began
        if self._passes_on(grant):
            wait_s = 0.0
        elif call.waits:
            wait_s = min(ways.settings.serve.limit_wait_s, left_s)
        else:  # a line of a batch has nobody who would come again
            wait_s = left_s
        try:
            return await allowance.wait(size, tokens, wait_s)
        except LimitReached as error:
            raise AttemptFailed(error) from None
        finally:
            grant.queue_s += ways.now() - began
            grant.entry.queue_ms = grant.queue_s * 1000.0

    def _passes_on(self, grant: Grant) -> bool:
        """Whether another model could take the call."""
        choice = grant.choice
        if "rate_limit" not in choice.fallback_on:
            return False
        names = [choice.model.name, *(one.name for one in choice.fallbacks)]
        asked = grant.terms.model.name
        later = names[names.index(asked) + 1 :] if asked in names else []
        return any(self.ways.breaker(name).ready() for name in later)


class Placed:
    """A stream that holds a place."""

    __slots__ = ("_flow", "_place", "calls", "headers", "status")

    def __init__(self, flow: Flow, place: Place) -> None:
        self._flow = flow
        self._place = place
        self.status = flow.status
        self.headers = flow.headers
        self.calls = flow.calls

    async def pour(self, reply: Reply, *, hold: bool, keep: list[bytes] | None) -> bytes:
        """See `Flow`."""
        last = await self._flow.pour(reply, hold=hold, keep=keep)
        self._place.leave(_used(self._flow.seen()))
        return last

    def seen(self) -> Seen:
        """See `Flow`."""
        return self._flow.seen()

    def failed(self, error: BaimoError) -> bytes:
        """See `Flow`."""
        return self._flow.failed(error)

    async def aclose(self) -> None:
        """See `Flow`."""
        try:
            await self._flow.aclose()
        finally:
            self._place.leave(_used(self._flow.seen()))


def _estimate(call: Call, grant: Grant, size: int) -> int:
    """About how many tokens a call will take; never more than it may."""
    peek = grant.peek
    text = min(
        peek.text_bytes, len(call.body)
    )  # the one has room for any template, the other holds pictures too
    prompt = (text // BYTES_PER_TOKEN + peek.attachments * PART_TOKENS) * size
    answers = 0 if call.surface.name in WITHOUT_OUTPUT else (peek.max_tokens or ANSWER_TOKENS) * peek.answers
    return min(prompt + answers, grant.bound.tokens)


def _used(seen: Seen) -> int | None:
    usage = seen.usage
    if usage is None or usage.tokens_in is None:
        return None
    tokens = usage.tokens_in + (usage.tokens_out or 0)
    return tokens if tokens <= MOST_TOKENS else None
