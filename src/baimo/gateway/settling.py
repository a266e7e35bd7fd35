"""From what an answer said about itself to a closed Record: usage → money → charges.

Prevents three failures: a second Record for one call, an unknown cost that is written as 0, and a limit that is charged
less than a call whose cost nobody knows may have taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec.structs import replace

from baimo.core.call import Usage
from baimo.gateway.bound import Bound
from baimo.gateway.call import Call, Grant
from baimo.gateway.estimate import CountTokens, estimated
from baimo.gateway.observe import Observer
from baimo.gateway.surface import MOST_TOKENS, Counts, Seen
from baimo.store.entry import Charge, Entry

GONE = 499
"""http_status of a call whose client left before the end (nginx's number)."""
CLIENT_GONE = "gateway.client_gone"
FAULT = "gateway.fault"
STOPPING = "gateway.stopping"


class Books(Protocol):
    """`store.books.Books`, as the request path uses it."""

    def reserve(self, charges: Sequence[Charge]) -> bool: ...

    async def obtain(self, charges: Sequence[Charge], wait_s: float) -> None: ...

    def release(self, charges: Sequence[Charge]) -> None: ...

    def open(self, entry: Entry) -> None: ...

    def close(self, entry: Entry, charged: Sequence[Charge]) -> None: ...

    async def durable(self) -> None: ...

    def now_ms(self) -> int: ...

    def remaining(self, bucket: str, limit: int) -> int: ...


class Settler:
    """Closes Records."""

    def __init__(
        self,
        books: Books,
        observer: Observer,
        *,
        now: Callable[[], float],
        count_tokens: CountTokens | None,
    ) -> None:
        """
        Args:
            books: where Records go.
            observer: is told of each.
            now: monotonic seconds.
            count_tokens: a model's own tokenizer, where there is one.
        """
        self._books = books
        self._observer = observer
        self._now = now
        self._count_tokens = count_tokens

    def answered(
        self, call: Call, grant: Grant, seen: Seen, http_status: int, *, calls: int = 1, answer: bytes = b""
    ) -> None:
        """The model answered to its end.

        Args:
            call: what was asked.
            grant: who pays.
            seen: what the answer says about itself.
            http_status: what the client gets.
            calls: how many calls it is the sum of.
            answer: a whole answer, to estimate from where usage is missing.
        """
        usage = self._used(call, grant, seen, answer)
        micros = _reckoned(call, grant, seen, usage, calls)
        self._close(call, grant, micros, "ok", http_status)

    def broken(
        self,
        call: Call,
        grant: Grant,
        status: str,
        http_status: int,
        seen: Seen | None = None,
        *,
        calls: int = 1,
    ) -> None:
        """The model began or may have begun to answer, and no end came: it may be billed.

        Args:
            call: what was asked.
            grant: who pays.
            status: message key of what happened.
            http_status: what the client got.
            seen: what came until then; None = nothing did.
            calls: how many calls it is the sum of.
        """
        micros = None
        if seen is not None:
            # counts before the model's last word (Anthropic's message_start has some) are not what is billed
            known = seen.usage is not None and seen.usage.tokens_out is not None and bool(seen.finish_reason)
            if not known:
                grant.entry.unsure += 1
                seen = replace(seen, usage=None)
            usage = self._used(call, grant, seen, b"")
            if usage is not None:
                micros = _reckoned(call, grant, seen, usage, calls)
            if not known:
                micros = None  # an estimate of what arrived: more may have been generated
        self._close(call, grant, micros, status, http_status)

    def failed(self, call: Call, grant: Grant, status: str, http_status: int) -> None:
        """No attempt gave an answer; those that may have been executed are in `entry.unsure` and `grant.lost`."""
        entry = grant.entry
        micros: int | None = None
        if not entry.unsure:
            # nothing was executed: this is known, and it is nothing
            entry.tokens_in = entry.tokens_out = 0
            grant.terms.reckon(entry, calls=0)
            entry.cost_micros = entry.cost_rest = micros = 0
        grant.bound = Bound(0, 0)
        self._close(call, grant, micros, status, http_status)

    def from_cache(self, call: Call, grant: Grant, model_used: str, http_status: int) -> None:
        """The tenant's cache answered: nothing was sent."""
        entry = grant.entry
        entry.route = "cache"
        entry.model_used = model_used
        entry.tokens_in = entry.tokens_out = 0
        entry.cost_micros = entry.cost_rest = 0
        self._close(call, grant, 0, "ok", http_status)

    def _used(self, call: Call, grant: Grant, seen: Seen, answer: bytes) -> Usage | Counts | None:
        entry, usage = grant.entry, seen.usage
        entry.model_used = seen.model
        if usage is not None and (
            (usage.tokens_in or 0) > MOST_TOKENS or (usage.tokens_out or 0) > MOST_TOKENS
        ):
            usage = None
        if (usage is None or usage.tokens_in is None) and self._count_tokens is not None:
            usage = estimated(self._count_tokens, call, grant, seen, answer) or usage
        if usage is not None:
            entry.tokens_in = usage.tokens_in
            entry.tokens_out = usage.tokens_out
            if entry.tokens_out is None and grant.terms.bounds.tokens_out(grant.peek, call.surface.name) == 0:
                entry.tokens_out = (
                    0  # embeddings: the API has no such count because there is nothing to count
                )
            entry.tokens_cached = usage.tokens_cached
            entry.tokens_reasoning = usage.tokens_reasoning
            entry.tokens_cache_write = usage.tokens_cache_write
            entry.estimated = 1 if usage.estimated else 0
        return usage

    def _close(self, call: Call, grant: Grant, micros: int | None, status: str, http_status: int) -> None:
        entry, lost, now = grant.entry, grant.lost, self._now()
        tokens = grant.bound.tokens
        if (
            entry.tokens_in is not None
            and entry.tokens_out is not None
            and (micros is not None or status == "ok")
        ):
            tokens = entry.tokens_in + entry.tokens_out
        if micros is None:
            micros = grant.bound.micros or 0
        entry.charged_micros = micros + (lost.micros or 0)
        entry.charged_tokens = tokens + lost.tokens
        entry.status = status
        entry.http_status = http_status
        entry.latency_ms = (now - grant.began) * 1000.0
        charged = grant.terms.plan.charged(grant.reserved, entry.charged_tokens, entry.charged_micros)
        self._books.close(entry, charged)
        grant.closed = True  # not before: what fails up to here is a fault, which has its Record too
        self._observer.settled(call, grant, entry, now - grant.began - grant.model_s - grant.queue_s)


def _reckoned(
    call: Call, grant: Grant, seen: Seen, usage: Usage | Counts | None, calls: int = 1
) -> int | None:
    terms, peek = grant.terms, grant.peek
    kept = 0 if usage is None else usage.tokens_cache_write_1h or 0
    tier = seen.tier or (peek.tier and terms.tier(peek, call.surface))
    unpriced = usage is not None and usage.unpriced and not terms.vendor.inside
    if peek.unpriced and not (peek.told and usage is not None and not usage.estimated):
        unpriced = unpriced or bool(terms.unpriced(peek, call.surface))
    return terms.reckon(grant.entry, calls, tier=tier, unpriced=unpriced, tokens_cache_write_1h=kept)
