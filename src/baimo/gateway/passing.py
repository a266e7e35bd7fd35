"""The pass-through: the client's bytes to a model that speaks the same wire format, and its answer back.

Prevents four failures: a key of ours shown to a client because a vendor repeats it in a refusal, a stream that
breaks off and looks complete, a whole answer that was cut by a wrong content-length and looks complete, and a client
that reads slowly filling this process's memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import msgspec

from baimo.errors import AuthenticationFailed, BadReply, BaimoError, ProviderError, RequestRefused
from baimo.gateway.answers import EVENTS, Keeper, Whole
from baimo.gateway.call import Call, Grant, Reply
from baimo.gateway.failures import AttemptFailed, Refusal, may_be_executed
from baimo.gateway.surface import Peek, Seen, Surface, Watch
from baimo.gateway.upstream import Outbound, Upstream, handed_back
from baimo.providers.faults import Place, body_fault, http_fault, parsed
from baimo.providers.openai_reply import fields
from baimo.providers.sse import SseParser
from baimo.providers.wire.decoded import Decoded
from baimo.providers.wire.origin import Lines, Origin

LONGEST_REFUSAL = 1024 * 1024
"""Most bytes of an error answer that are read."""
LONGEST_WORDS = 65536
"""Most bytes of an error answer in which its reason is looked for."""
_RESULTS = ("choices", "data", "output", "results")
"""What is in an answer; an error beside it concerns a part of it."""


class Exchange(Protocol):
    """An answer of a model's server whose head has come: `wire.Answer`."""

    status: int
    headers: Mapping[bytes, bytes]

    async def whole(self, limit_bytes: int) -> bytes: ...

    def pieces(self) -> AsyncIterator[bytes]: ...

    def close(self) -> None: ...


class Pool(Protocol):
    """Connections to models' servers: `wire.Pools`."""

    async def send(
        self,
        origin: Origin,
        method: bytes,
        target: bytes,
        headers: Lines | Sequence[tuple[bytes, bytes]] = (),
        body: bytes = b"",
        *,
        deadline: float | None = None,
    ) -> Exchange: ...


class Passing:
    """Asks models in the client's own wire format."""

    def __init__(
        self, pool: Pool, *, now: Callable[[], float], wall: Callable[[], float], limit_bytes: int
    ) -> None:
        """
        Args:
            pool: of this event loop.
            now: monotonic seconds, the clock of deadlines.
            wall: seconds since 1970.
            limit_bytes: longest whole answer.
        """
        self._pool = pool
        self._now = now
        self._wall = wall
        self._limit_bytes = limit_bytes

    async def ask(self, call: Call, grant: Grant, upstream: Upstream) -> Whole | Passed:
        """Send once; the whole answer, or a stream whose first piece has come.

        Raises:
            AttemptFailed: there is nothing that the client could be given as an answer.
        """
        surface, peek, terms = call.surface, grant.peek, grant.terms
        try:
            out = upstream.outbound(surface, terms.model, call.headers)
        except ProviderError as error:
            raise AttemptFailed(error) from None
        body = surface.sent(
            call.body,
            peek,
            model=terms.model.upstream,
            max_tokens=terms.max_tokens(peek, surface.name),
            quirks=upstream.quirks,
        )
        sent_at = self._now()
        exchange: Exchange | None = None
        try:
            exchange = await self._pool.send(
                out.origin, b"POST", out.target, out.headers, body, deadline=grant.deadline
            )
            coding = exchange.headers.get(b"content-encoding")
            if coding is not None and coding != b"identity":
                host, limit = out.place.host, self._limit_bytes
                exchange = Decoded(exchange, coding, host=host, limit_bytes=limit)
            if exchange.status >= 300:
                raise await self._refusal(exchange, out)
            if peek.stream:
                return await self._stream(call, peek, exchange, out.place)
            data = await exchange.whole(self._limit_bytes)
            if not data and surface.neutral:  # a transcript of silence may well be nothing
                raise BadReply("gateway.empty", model=terms.model.name)
            seen = surface.seen(data)
            odd = not seen.finish_reason if surface.neutral else seen.usage is None
            if odd and (surface.neutral or b"json" in exchange.headers.get(b"content-type", b"")):
                _check(surface, data, seen, out.place)
        except ProviderError as error:
            raise AttemptFailed(error, unsure=int(may_be_executed(error))) from None
        except BaseException:
            if exchange is not None:
                exchange.close()
            raise
        finally:
            grant.model_s += self._now() - sent_at
        return Whole(exchange.status, handed_back(exchange.headers), data, seen, peek.billed)

    async def _stream(self, call: Call, peek: Peek, exchange: Exchange, place: Place) -> Passed | Whole:
        watch = call.surface.watch(peek)
        pieces = exchange.pieces()
        first, begun = b"", False
        # held back whole (a usage chunk), or empty: not yet a reason to begin
        async for piece in pieces:
            if not begun and piece.lstrip()[:1] == b"{":  # no line of events, whatever its type says
                told = _unstreamed(call, exchange, piece + b"".join([more async for more in pieces]), place)
                if isinstance(told, Whole):
                    return told
                passed = Passed(
                    exchange, pieces, watch, watch.feed(told), call.surface, peek, call.request_id
                )
                passed.headers = EVENTS
                return passed
            begun = True
            first = watch.feed(piece)
            if first:
                break
        else:
            first = watch.rest()
            seen = watch.seen()
            if not seen.complete and not seen.failed:
                raise AttemptFailed(BadReply("gateway.broke_off", model=peek.model), unsure=1)
        seen = watch.seen()
        if seen.failed:
            raise _begun_badly(first, seen, place)
        return Passed(exchange, pieces, watch, first, call.surface, peek, call.request_id)

    async def _refusal(self, exchange: Exchange, out: Outbound) -> AttemptFailed:
        body, ended = await _arrived(exchange)
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in exchange.headers.items()
        }
        error = http_fault(exchange.status, headers, body, out.place, self._wall())
        shown = None
        told = 400 <= exchange.status < 500 and not isinstance(error, AuthenticationFailed)
        readable = ended and parsed(body) is not None  # else it may be a proxy's page, and name our servers
        if told and not readable and isinstance(error, RequestRefused):
            error.http_status = exchange.status
        elif told and readable:
            for secret in out.place.secrets:
                body = body.replace(secret.encode(), b"***")
            shown = Refusal(exchange.status, tuple(handed_back(exchange.headers)), body)
        words = body[:LONGEST_WORDS].decode("utf-8", errors="replace")
        return AttemptFailed(error, unsure=int(may_be_executed(error)), refusal=shown, body=words)


class Passed:
    """A passed-through stream that has begun."""

    __slots__ = (
        *("_exchange", "_first", "_id", "_peek", "_pieces", "_surface", "_watch"),
        *("calls", "headers", "status"),
    )

    def __init__(
        self,
        exchange: Exchange,
        pieces: AsyncIterator[bytes],
        watch: Watch,
        first: bytes,
        surface: Surface,
        peek: Peek,
        request_id: str,
    ) -> None:
        self._exchange = exchange
        self._pieces = pieces
        self._watch = watch
        self._first = first
        self._surface = surface
        self._peek = peek
        self._id = request_id
        self.calls = peek.billed
        self.status = exchange.status
        self.headers = handed_back(exchange.headers)

    async def pour(self, reply: Reply, *, hold: bool, keep: list[bytes] | None) -> bytes:
        """See `Flow`."""
        if hold or keep is not None:
            return await self._pour_watched(reply, hold, keep)
        feed, write, drained = self._watch.feed, reply.write, reply.drained
        write(self._first)
        async for piece in self._pieces:
            shown = feed(piece)
            if shown:
                write(shown)
                waiting = drained()
                if waiting is not None:
                    await waiting
        return self._ended(reply)

    async def _pour_watched(self, reply: Reply, hold: bool, keep: list[bytes] | None) -> bytes:
        keeper = None if keep is None else Keeper(keep)
        held: list[bytes] = []
        shown = self._first
        while True:
            if keeper is not None:
                keeper.add(shown)
            if hold and (held or self._watch.seen().complete):
                held.append(shown)
            elif shown:
                reply.write(shown)
                waiting = reply.drained()
                if waiting is not None:
                    await waiting
            piece = await anext(self._pieces, None)
            if piece is None:
                break
            shown = self._watch.feed(piece)
        last = b"".join(held)
        rest = self._ended(reply, last)
        if keeper is not None:
            keeper.add(rest)
        return last + rest

    def _ended(self, reply: Reply, last: bytes = b"") -> bytes:
        """What was held back when the stream came to its end; half an event of a broken one is dropped.

        Args:
            reply: where the model's own error goes, at once.
            last: events that have not been written.
        """
        rest = self._watch.rest()
        seen = self._watch.seen()
        if seen.failed:
            reply.write(last + rest)  # the model's own error, which may lack its blank line
            raise _said(seen)
        if not seen.complete:
            raise BadReply("gateway.broke_off", model=self._peek.model)
        return rest

    def seen(self) -> Seen:
        """What the stream has said about itself so far."""
        return self._watch.seen()

    def failed(self, error: BaimoError) -> bytes:
        """An error event; empty when the model's own went through already, or the wire format has none."""
        if self._watch.seen().failed or not self._surface.neutral:
            return b""
        return self._watch.failed(error, self._surface.events(self._peek, id=self._id, created_s=0))

    async def aclose(self) -> None:
        """Give the connection back, or close it if the answer has not ended."""
        self._exchange.close()


async def _arrived(exchange: Exchange) -> tuple[bytes, bool]:
    """The body of a refusal and whether it is complete. What is missing is not missed: the status says what it is."""
    body, ended = bytearray(), False
    with suppress(ProviderError):
        async for piece in exchange.pieces():
            body += piece
            if len(body) > LONGEST_REFUSAL:
                break
        else:
            ended = True
    return bytes(body[:LONGEST_REFUSAL]), ended


def _unstreamed(call: Call, exchange: Exchange, body: bytes, place: Place) -> bytes | Whole:
    """A whole answer to a request for a stream: the stream, where clients can read nothing else.

    Raises:
        BadReply: nothing is known that could be made of it.
        AttemptFailed: it is an error.
    """
    surface = call.surface
    seen = surface.seen(body)
    if seen.usage is None or surface.neutral:
        _check(surface, body, seen, place)
    if not surface.neutral:  # whisper-1 ignores the wish, as its documentation says
        return Whole(exchange.status, handed_back(exchange.headers), body, seen)
    retold = getattr(surface, "retold", None)
    told: bytes = b"" if retold is None else retold(body)
    if not told:
        raise BadReply("gateway.not_streamed", model=place.model)
    return told


def _check(surface: Surface, body: bytes, seen: Seen, place: Place) -> None:
    """Look whether JSON is an answer that names no reason for its end, or counts nothing. Many are: vectors, pictures,
    transcripts.

    Raises:
        BadReply: it is no JSON, or nothing is in it.
        AttemptFailed: it is an error, which came with status 200.
    """
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except msgspec.DecodeError:
        raise BadReply("gateway.not_json", model=place.model) from None
    holds: str = getattr(surface, "holds", "")
    if seen.finish_reason or not (holds or body.find(b'"error"') >= 0 or body.find(b'"base_resp"') >= 0):
        return  # a response that failed says so itself
    row = fields(parsed(body))
    if any(row.get(name) for name in (*_RESULTS, holds)):
        return
    error = body_fault(row, place)
    if error is not None:
        words = body[:LONGEST_WORDS].decode("utf-8", errors="replace")
        raise AttemptFailed(error, unsure=int(may_be_executed(error)), body=words)
    if holds:
        raise BadReply("providers.no_choices", host=place.host, model=place.model)


def _begun_badly(first: bytes, seen: Seen, place: Place) -> AttemptFailed:
    """What the error in a stream's first events means: what it would as JSON, but that events before it may have cost
    something."""
    parser, before = SseParser(), 0
    for event in (*parser.feed(first + b"\n\n"), *parser.close()):
        row = fields(parsed(event.data.encode()))
        if row.get("type") == "error" and not row.get("error"):
            row = {"error": row}  # as the Responses API has it
        error = body_fault(fields(row.get("response")) or row, place)
        if error is not None:
            return AttemptFailed(error, body=event.data, unsure=int(before > 0 or may_be_executed(error)))
        before += bool(row) and row.get("type") != "ping"
    return AttemptFailed(_said(seen), body=seen.failed, unsure=1)


def _said(seen: Seen) -> ProviderError:
    return BadReply("gateway.stream_failed", problem=" ".join(seen.failed.split())[:300])
