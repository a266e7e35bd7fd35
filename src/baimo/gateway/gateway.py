"""The spine: admit → route → call → settle. Whatever happens to a call that was admitted, one Record is written.

Prevents the failure of every gateway whose accounting is a callback: a client that leaves, a time-out or a bug between
the call and the callback, and the money is gone without a line.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

import msgspec

from baimo.errors import (
    AuthenticationFailed,
    BadReply,
    BaimoError,
    BudgetExceeded,
    ConfigError,
    Forbidden,
    LimitReached,
    Overloaded,
)
from baimo.gateway.allowance import Allowance, carried
from baimo.gateway.answers import Flow, Headers, Whole, lines, retry_headers
from baimo.gateway.attempts import Attempts
from baimo.gateway.bound import NOTHING, Bound
from baimo.gateway.breaker import Breaker
from baimo.gateway.cache import NOT_LOOKED_UP, Cache, Kept, LookedUp
from baimo.gateway.call import Call, Choice, Grant
from baimo.gateway.failures import AttemptFailed
from baimo.gateway.heads import STREAMED, head
from baimo.gateway.ids import RecordIds
from baimo.gateway.observe import Observer
from baimo.gateway.policy import cache_modes
from baimo.gateway.routing import Router
from baimo.gateway.semantic import Semantic
from baimo.gateway.settling import CLIENT_GONE, FAULT, GONE, STOPPING, Books, Settler
from baimo.gateway.surface import Peek
from baimo.gateway.terms import Terms, TermsBook, passed_over
from baimo.settings import Settings
from baimo.store.entry import Charge

JSON: Headers = [(b"content-type", b"application/json")]
RATE_LIMIT = "rate_limit"
LONGEST_CONTENT = 1024 * 1024
"""Bytes of prompt and of answer that are kept with a Record, each."""


class Parts(msgspec.Struct, frozen=True):
    """What the spine is made of."""

    settings: Settings
    config_hash: str
    """Of the settings, for every Record."""
    router: Router
    terms: TermsBook
    attempts: Attempts
    settler: Settler
    cache: Cache
    books: Books
    observer: Observer
    secret: bytes
    """Key of the hashes of requests and conversations, so that nobody can guess texts from them; at most 64 bytes."""
    allowances: dict[str, Allowance]
    """What providers may be asked, where that is limited."""
    semantic: Semantic | None = None
    """None = only the same question is answered from the cache."""
    now: Callable[[], float] = time.monotonic
    breakers: Mapping[str, Breaker] = MappingProxyType({})
    """By model's name, of those that were called."""
    usable: Callable[[str], bool] = lambda vendor: True
    """Whether a vendor can be called: address and key are known."""


class Gateway:
    """Answers calls. Belongs to one event loop."""

    def __init__(self, parts: Parts) -> None:
        self.in_flight = 0
        self.stopping = False
        """New calls are refused; those in flight go on."""
        self.waited_for: dict[str, int] = {}
        """Calls in flight for whose answers somebody waits, by vendor."""
        self._ids = RecordIds(random.SystemRandom().getrandbits(256))
        self._parts = parts
        self.adopt(parts)

    def adopt(self, parts: Parts) -> None:
        """Go on under other settings. Calls in flight keep the terms that they were admitted under."""
        carried(self._parts.allowances, parts.allowances)
        self._parts = parts
        self._most = parts.settings.serve.max_in_flight
        self._timeout_s = parts.settings.serve.call_timeout_s
        self._cache_open = parts.settings.policy.cache != "off"
        self._keyed = hashlib.blake2b(digest_size=16, key=parts.secret)
        self._durable = parts.settings.ledger.durability == "answer"

    async def serve(self, call: Call) -> None:
        """Answer one call. Whatever happens, exactly one Record is written if it is admitted."""
        if self.in_flight >= self._most or self.stopping:
            self._refuse(call, Overloaded("gateway.full", limit=self._most, retry_after_s=1.0))
            return
        self.in_flight += 1
        try:
            try:
                grant = await self._admit(call)
            except BaimoError as error:
                self._refuse(call, error)
                return
            except Exception:
                self._refuse(call, BaimoError(FAULT, request=call.request_id))
                raise
            vendor, waits = grant.choice.model.vendor, call.waits
            if waits:
                self.waited_for[vendor] = self.waited_for.get(vendor, 0) + 1
            try:
                if grant.entry.route == "cache":
                    await self._from_cache(call, grant)
                else:
                    await self._answer(call, grant)
            except BaimoError as error:
                # StoreError of durable(): the Record may not be on disk, so no answer leaves
                self._error(call, grant, error)
            except BaseException as error:
                self._broken(call, grant, error)
                raise
            finally:
                if waits:
                    self.waited_for[vendor] -= 1
        finally:
            self.in_flight -= 1

    # admit

    async def _admit(self, call: Call) -> Grant:
        """Who pays, and the most that it may cost: reserved and opened.

        Raises:
            BaimoError: it is not let in; nothing is reserved.
        """
        parts, key, tenant, headers = self._parts, call.key, call.tenant, call.headers
        surface, books = call.surface.name, parts.books
        peek = call.surface.peek(call.body, headers)
        if peek.vendor_id and parts.settings.policy.vendor_ids == "refuse":
            raise Forbidden("gateway.vendor_id", field=peek.vendor_id)
        conversation = self._hash(peek.opening) if peek.opening else ""
        choice, data = parts.router.choice(peek, call.surface, key, tenant, headers, conversation)
        terms = parts.terms.of(key, tenant, choice.model, choice.route, batch=bool(call.batch))
        found = NOT_LOOKED_UP
        if self._cache_open or tenant.cache != "off":
            found = await self._looked_up(call, peek)
        kept = found.kept
        try:
            bound = NOTHING if kept is not None else terms.bound(peek, call.surface)
        except Forbidden as error:
            choice, terms, bound = self._payable(call, peek, choice, error)
        now_ms, asked_at = books.now_ms(), parts.now()
        reserved = terms.plan.charges(now_ms, bound.tokens, bound.micros or 0)
        queue_s = 0.0
        if reserved and not books.reserve(reserved):
            if kept is None and choice.fallbacks and RATE_LIMIT in choice.fallback_on:
                choice, terms, bound, reserved = await self._with_room(call, peek, choice, now_ms)
            else:
                await books.obtain(reserved, parts.settings.serve.limit_wait_s)
            queue_s = parts.now() - asked_at
        entry = terms.entry()
        entry.id, entry.began_ms = self._ids.next(now_ms), now_ms
        entry.surface, entry.run = call.recorded_as or surface, call.batch or call.run
        entry.asked, entry.route = peek.model, choice.why if kept is None else "cache"
        entry.streamed, entry.queue_ms = 1 if peek.stream else 0, queue_s * 1000.0
        entry.request_hash, entry.conversation = self._hash(call.body), conversation
        entry.config_hash, entry.reserved = parts.config_hash, reserved
        # should this process die: also where no limit counts it yet
        entry.charged_micros, entry.charged_tokens = bound.micros or 0, bound.tokens
        grant = Grant(
            entry=entry,
            peek=peek,
            data_class=data,
            choice=choice,
            terms=terms,
            bound=bound,
            deadline=call.began + self._timeout_s,
            reserved=reserved,
            began=call.began,
            queue_s=queue_s,
            looked_up=found,
            kept=[] if found.key or tenant.keep_contents else None,
        )
        try:
            books.open(entry)
        except BaseException:
            books.release(reserved)
            raise
        parts.observer.admitted(call, grant)
        return grant

    def _payable(
        self, call: Call, peek: Peek, choice: Choice, error: Forbidden
    ) -> tuple[Choice, Terms, Bound]:
        """The next model of the choice of which can be told what the call may take, where it cannot of the first.

        Raises:
            Forbidden: of none; the first one's `error`.
        """
        if choice.fallbacks:
            passed_over(choice.model, error)
        for place, model in enumerate(choice.fallbacks):
            terms = self._parts.terms.of(call.key, call.tenant, model, choice.route, batch=bool(call.batch))
            try:
                bound = terms.bound(peek, call.surface)
            except Forbidden as other:
                passed_over(model, other)
                continue
            later = choice.fallbacks[place + 1 :]
            return msgspec.structs.replace(choice, model=model, fallbacks=later), terms, bound
        raise error

    async def _with_room(
        self, call: Call, peek: Peek, choice: Choice, now_ms: int
    ) -> tuple[Choice, Terms, Bound, tuple[Charge, ...]]:
        """The first model of the choice whose own limits leave room; what it takes is reserved.

        Raises:
            LimitReached, BudgetExceeded: a limit of the caller, or the last model's, does not leave room.
        """
        parts, wait_s = self._parts, self._parts.settings.serve.limit_wait_s
        models = (choice.model, *choice.fallbacks)
        payable: list[tuple[int, Terms, Bound]] = []
        for place, model in enumerate(models):
            terms = parts.terms.of(call.key, call.tenant, model, choice.route, batch=bool(call.batch))
            try:
                payable.append((place, terms, terms.bound(peek, call.surface)))
            except Forbidden as error:  # nobody knows what it costs: for this key it is no way out
                passed_over(model, error)
        for place, terms, bound in payable:
            reserved = terms.plan.charges(now_ms, bound.tokens, bound.micros or 0)
            last = place == payable[-1][0]
            try:
                await parts.books.obtain(reserved, wait_s if last else 0.0)
            except (LimitReached, BudgetExceeded) as error:
                if last:
                    raise
                if not _callers(str(error.facts.get("bucket")), choice.route):
                    continue
                await parts.books.obtain(reserved, wait_s)
            why = f"fallback:{RATE_LIMIT}" if place else choice.why
            later = models[place + 1 :]
            chosen = msgspec.structs.replace(choice, model=models[place], why=why, fallbacks=later)
            return chosen, terms, bound, reserved
        raise AssertionError("the last model either has room or says why not")

    async def _looked_up(self, call: Call, peek: Peek) -> LookedUp:
        """What the tenant's cache has, and where a new answer goes."""
        parts, tenant = self._parts, call.tenant.id
        reads, writes = cache_modes(parts.settings.policy, call.tenant, call.headers)
        key = parts.cache.key(call, peek) if reads or writes else ""
        if not key:
            return NOT_LOOKED_UP
        kept, mark = await parts.cache.get(tenant, key, near=reads)
        if kept is not None and reads:
            return LookedUp(kept, how=b"hit")
        question, vector = None, None
        if parts.semantic is not None and (question := parts.semantic.question(call, peek)) is not None:
            vector = await parts.semantic.vector(self.serve, call, question.text)
            hit = parts.semantic.nearest(tenant, question, vector) if reads and vector is not None else None
            kept = (await parts.cache.get(tenant, hit.key))[0] if hit is not None else None
            if hit is not None and kept is not None:
                return LookedUp(kept, how=b"similar; cosine=%.4f" % hit.similarity)
        return LookedUp(None, key if writes else "", mark, question, vector)

    # answer

    async def _answer(self, call: Call, grant: Grant) -> None:
        try:
            answer = await self._parts.attempts.answer(call, grant)
        except AttemptFailed as failure:
            self._failed(call, grant, failure)
            return
        if isinstance(answer, Whole):
            await self._whole(call, grant, answer)
        else:
            try:
                await self._stream(call, grant, answer)
            finally:
                await answer.aclose()

    async def _whole(self, call: Call, grant: Grant, answer: Whole) -> None:
        parts, entry, reply = self._parts, grant.entry, call.reply
        elapsed = parts.now() - grant.began
        entry.first_byte_ms = elapsed * 1000.0
        self._keep_content(call, grant, answer.body)
        status = GONE if reply.gone else answer.status
        parts.settler.answered(call, grant, answer.seen, status, calls=answer.calls, answer=answer.body)
        if self._durable:
            await parts.books.durable()
        overhead_s = parts.now() - grant.began - grant.model_s - grant.queue_s
        headers = head(grant, answer.headers, parts.books.remaining, overhead_s)
        reply.whole(answer.status, headers, answer.body)
        if grant.looked_up.key:
            await self._cached(call, grant, answer.headers, answer.body, answer.seen.model)

    async def _stream(self, call: Call, grant: Grant, flow: Flow) -> None:
        parts, entry, reply = self._parts, grant.entry, call.reply
        elapsed = parts.now() - grant.began
        entry.first_byte_ms = elapsed * 1000.0
        grant.overhead_s = elapsed - grant.model_s - grant.queue_s
        headers = head(grant, flow.headers, parts.books.remaining, grant.overhead_s)
        reply.start(flow.status, headers + STREAMED)
        started_at = parts.now()
        try:
            last = await flow.pour(reply, hold=self._durable, keep=grant.kept)
        except BaseException as error:
            grant.model_s += parts.now() - started_at
            self._stream_broken(call, grant, flow, error)
            if not isinstance(error, BaimoError):
                raise
            return
        grant.model_s += parts.now() - started_at
        seen = flow.seen()
        shown = b"".join(grant.kept or ())
        self._keep_content(call, grant, shown)
        parts.settler.answered(call, grant, seen, GONE if reply.gone else flow.status, calls=flow.calls)
        if self._durable:
            await parts.books.durable()
        if last:
            reply.write(last)
        reply.end()
        if grant.looked_up.key:
            await self._cached(call, grant, flow.headers, shown, seen.model)

    async def _from_cache(self, call: Call, grant: Grant) -> None:
        parts, kept, reply = self._parts, grant.looked_up.kept, call.reply
        assert kept is not None  # its route says so
        grant.entry.model = kept.model
        grant.entry.first_byte_ms = (parts.now() - grant.began) * 1000.0
        parts.settler.from_cache(call, grant, kept.model_used, GONE if reply.gone else 200)
        if self._durable:
            await parts.books.durable()
        overhead_s = parts.now() - grant.began - grant.queue_s
        headers = head(grant, kept.headers, parts.books.remaining, overhead_s)
        headers += lines([(b"x-baimo-cache", grant.looked_up.how)])
        if grant.peek.stream:
            reply.start(200, headers + STREAMED)
            reply.write(kept.body)
            reply.end()
        else:
            reply.whole(200, headers, kept.body)

    async def _cached(self, call: Call, grant: Grant, headers: Headers, body: bytes, model_used: str) -> None:
        found, cache = grant.looked_up, self._parts.cache
        if body and cache.takes(found.mark):
            # before the store is written: the client has its answer and may ask again at once
            if self._parts.semantic is not None and found.question is not None and found.vector is not None:
                self._parts.semantic.remember(call.tenant.id, found.question, found.vector, found.key)
            kept = Kept(headers, body, grant.entry.model, model_used, grant.entry.at_ms)
            await cache.put(call.tenant.id, found.key, kept, found.mark)

    # what went wrong

    def _refuse(self, call: Call, error: BaimoError) -> None:
        """Not let in: no Record."""
        said = lines([*JSON, *retry_headers(error)])
        call.reply.whole(error.http_status, said, call.surface.refusal(error, request_id=call.request_id))
        self._parts.observer.refused(error, call.surface.name, call.key, call.tenant, call)

    def _failed(self, call: Call, grant: Grant, failure: AttemptFailed) -> None:
        """No model answered."""
        error, refusal = failure.error, failure.refusal
        if refusal is None:
            if failure.kind == "timeout":
                error.http_status = 504
            self._error(call, grant, error)
            return
        self._parts.settler.failed(call, grant, error.key, GONE if call.reply.gone else refusal.status)
        call.reply.whole(refusal.status, self._head(grant, list(refusal.headers)), refusal.body)

    def _error(self, call: Call, grant: Grant, error: BaimoError) -> None:
        if not grant.closed:
            status = 502 if isinstance(error, ConfigError) else error.http_status
            self._parts.settler.failed(call, grant, error.key, GONE if call.reply.gone else status)
        if call.reply.started:
            call.reply.abort()
            return
        if isinstance(error, (AuthenticationFailed, ConfigError)):
            # names of variables and accounts are for the log
            error = BadReply("gateway.no_access", model=grant.entry.model)
        headers = self._head(grant, [*JSON, *retry_headers(error)])
        call.reply.whole(error.http_status, headers, call.surface.refusal(error, request_id=call.request_id))

    def _stream_broken(self, call: Call, grant: Grant, flow: Flow, error: BaseException) -> None:
        """A stream that had begun came to no end."""
        shown, reply = _shown(call, error), call.reply
        status, http_status = (CLIENT_GONE, GONE) if shown is None else (shown.key, flow.status)
        self._keep_content(call, grant, b"".join(grant.kept or ()))
        self._parts.settler.broken(call, grant, status, http_status, flow.seen(), calls=flow.calls)
        if shown is None:
            return
        reply.write(flow.failed(shown))
        if getattr(call.surface, "ends_failed", False):
            reply.end()
        else:
            reply.abort()

    def _broken(self, call: Call, grant: Grant, error: BaseException) -> None:
        """Cancelled, because the client is gone or the server stops; or a fault of ours."""
        shown = _shown(call, error)
        if not grant.closed:
            status, http_status = (CLIENT_GONE, GONE) if shown is None else (shown.key, shown.http_status)
            if grant.out:  # nobody knows how far the attempt came
                grant.entry.unsure += 1
                self._parts.settler.broken(call, grant, status, http_status)
            else:
                self._parts.settler.failed(call, grant, status, http_status)
        if shown is None or (shown.key == STOPPING and not call.waits):
            return  # a line that was broken off is asked again
        if call.reply.started:
            call.reply.abort()
            return
        body = call.surface.refusal(shown, request_id=call.request_id)
        headers = self._head(grant, [*JSON, *retry_headers(shown)])
        call.reply.whole(shown.http_status, headers, body)

    def _head(self, grant: Grant, given: Headers) -> bytes:
        parts = self._parts
        overhead_s = parts.now() - grant.began - grant.model_s - grant.queue_s
        return head(grant, given, parts.books.remaining, overhead_s)

    # small things

    def _keep_content(self, call: Call, grant: Grant, answer: bytes) -> None:
        if call.tenant.keep_contents:
            grant.entry.content = msgspec.msgpack.encode(
                {
                    "surface": call.surface.name,
                    "request": call.body[:LONGEST_CONTENT],
                    "answer": answer[:LONGEST_CONTENT],
                    "cut": max(len(call.body), len(answer)) > LONGEST_CONTENT,
                    "data_class": grant.data_class,
                }
            )

    def _hash(self, data: bytes) -> str:
        hashed = self._keyed.copy()
        hashed.update(data)
        return hashed.hexdigest()


def _callers(bucket: str, route: str) -> bool:
    """Whether a limit holds for every model of the choice: those of a model, and of a route within it, do not."""
    scope, _, rest = bucket.partition(":")
    return scope != "model" and (scope != "route" or rest.startswith(f"{route}:"))


def _shown(call: Call, error: BaseException) -> BaimoError | None:
    """What is said of a call that broke off; None = its client is gone."""
    if isinstance(error, BaimoError):
        return error
    if isinstance(error, Exception):
        return BaimoError(FAULT, request=call.request_id)
    if isinstance(error, asyncio.CancelledError) and not call.reply.gone:
        return Overloaded(STOPPING, retry_after_s=1.0)
    return None
