"""One client connection: HTTP/1.1 from the bytes to a handler, without a framework between.

uvicorn runs it in place of its own protocol (`http=Lane`) and keeps signals, workers, TLS and drain. Hot routes become
an `Exchange` and a driven coroutine; everything else becomes an ASGI call (`cold.py`). Prevents the failures of a
server that trusts clients: requests that two parsers would cut differently (llhttp refuses them; nothing is lenient
here), heads and bodies that never end, readers that never read, and the connection that stays open behind an answer
that refused it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import httptools

from baimo.providers.wire.outbox import outbox
from baimo.providers.wire.parked import Parked
from baimo.server.cold import Asked, Cold
from baimo.server.exchange import Exchange, Hot
from baimo.server.head import Refused, crossing, forwarded, joined, not_upgrading, refusal, unacceptable
from baimo.server.known import Known
from baimo.server.lanes import Handler, Lanes
from baimo.server.turn import Turn

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

NEVER = float("inf")
RESTING, HEAD, BODY, DEAF = range(4)
"""What is being read: nothing, a request's head, its body; DEAF = whatever comes is thrown away."""
_NONE: Mapping[bytes, Handler] = {}


class Lane(asyncio.Protocol):
    """See the module."""

    __slots__ = (
        "_behind",
        "_config",
        "_current",
        "_due",
        "_expects",
        "_head_bytes",
        "_headers",
        "_incoming",
        "_instead",
        "_known",
        "_outbox",
        "_parser",
        "_peer",
        "_pumping",
        "_queue",
        "_reading",
        "_secure",
        "_server_state",
        "_stalled",
        "_state",
        "_transport",
        "_trusts",
        "_unread",
        "_url",
        "draining",
        "lanes",
        "loop",
        "tasks",
    )

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Called by uvicorn. `app_state["hot"]` is the application's `Lanes`."""
        self.lanes: Lanes = app_state["hot"]
        self._config = config
        self._server_state = server_state
        self._state = app_state
        self.loop = _loop or asyncio.get_running_loop()
        self._outbox = outbox(self.loop)
        self.tasks: set[Any] = server_state.tasks
        self.draining = False
        self._parser: Any = None
        self._known: Known | None = None
        self._peer: str = ""
        self._trusts = self._secure = self._expects = False
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._instead = b""
        self._reading = RESTING
        self._due = NEVER
        self._incoming: Turn | None = None
        self._current: Turn | Refused | None = None
        self._queue: deque[Turn | Refused] = deque()
        self._pumping = False
        self._unread = True
        self._behind: list[Parked[None]] | None = None
        self._stalled = (NEVER, 0)

    # what a turn may do (turn.Line)

    @property
    def body_limit(self) -> int:
        return self.lanes.limits.body_bytes

    def write(self, data: bytes) -> None:
        self._outbox.write(self._transport, data)

    def push(self) -> None:
        self._outbox.flush()

    def abort(self) -> None:
        self._reading = DEAF
        self._outbox.flush()
        self._current = None  # whoever breaks the connection knows; only others are told that it is lost
        self._transport.abort()

    def later(self, write: Callable[[], None]) -> None:
        self._outbox.later(write)

    def drained(self) -> Awaitable[None] | None:
        if self._behind is None:
            return None
        parked: Parked[None] = Parked()
        self._behind.append(parked)
        return parked

    def read(self, on: bool) -> None:
        if on != self._unread and not self._transport.is_closing():
            self._unread = on
            if self._reading in (HEAD, BODY):
                limits = self.lanes.limits
                patience = limits.header_s if self._reading == HEAD else limits.body_s
                self._due = self.lanes.now + self.lanes.tick_s + patience if on else NEVER
            if on:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def ended(self, keep_alive: bool) -> None:
        self._server_state.total_requests += 1
        unfinished = self._incoming is not None and self._incoming is self._current
        self._current = None
        if self._transport.is_closing():
            return
        if unfinished:
            self._linger()
        elif not keep_alive or self.draining:
            self._close()
        elif not self._pumping:
            self._pump()

    def refuse(self, status: int, key: str, limit: float = 0, lines: bytes = b"") -> None:
        """Answer with an error when it is this request's turn, and end the connection."""
        self.lanes.refused[key] += 1
        self._reading = DEAF
        self._due = NEVER
        incoming, self._incoming = self._incoming, None
        if incoming is not None and incoming is self._current:  # cold: answered while it is read
            incoming.lost()
            if incoming.started:
                self.abort()
                return
            self._current = None
        elif incoming is not None and incoming in self._queue:
            self._queue.remove(incoming)
        self._queue.append(Refused(status, key, limit, lines))
        if not self._pumping:
            self._pump()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        connections = cast("set[Any]", self._server_state.connections)
        connections.add(self)
        self.lanes.watch(connections)
        limits = self.lanes.limits
        self._due = self.loop.time() + limits.header_s
        if len(connections) > limits.connections:
            self.refuse(503, "lane.too_many_connections", limit=limits.connections)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server_state.connections.discard(cast(Any, self))
        self._reading = DEAF
        turns = [self._current, *self._queue, self._incoming]
        self._current = self._incoming = None
        self._queue.clear()
        for turn in dict.fromkeys(turn for turn in turns if turn is not None):
            if not isinstance(turn, Refused):
                turn.lost()
        self._let_write()
        self._parser = None

    def eof_received(self) -> None:
        """A client that closes its half has left: nobody can tell it from one that has closed both."""

    def pause_writing(self) -> None:
        self._behind = []
        self._stalled = (
            self.loop.time() + self.lanes.limits.write_s,
            self._transport.get_write_buffer_size(),
        )

    def resume_writing(self) -> None:
        self._stalled = (NEVER, 0)
        self._let_write()

    def shutdown(self) -> None:
        """uvicorn stops: close when nothing is under way, else after the answer."""
        self.draining = True
        self.lanes.draining.set()
        if self.lanes.drain_s is not None:  # uvicorn looks when it has told every connection
            self._config.timeout_graceful_shutdown = self.lanes.drain_s
        if self._current is None and not self._queue and self._incoming is None:
            self._close()

    def renew(self) -> None:
        """The settings have changed: is this peer's word still taken?"""
        self._trusts = self.lanes.trusted(self._peer)

    def check(self, now: float) -> None:
        """Called every tick: what has taken too long?"""
        until, size = self._stalled
        if until is not NEVER:
            left = self._transport.get_write_buffer_size()
            if left < size:
                self._stalled = (now + self.lanes.limits.write_s, left)
            elif now > until:
                self._transport.abort()
                return
        if now <= self._due:
            return
        if self._reading == DEAF or self._transport.is_closing():
            self._transport.abort()
        elif self._reading == HEAD and (self._head_bytes or self._headers):
            self.refuse(408, "lane.slow_head", limit=self.lanes.limits.header_s)
        elif self._reading == BODY and not self._expects:
            self.refuse(408, "lane.slow_body", limit=self.lanes.limits.body_s)
        elif self._current is None:
            self._close()

    def data_received(self, data: bytes) -> None:
        before = self._reading
        if before == DEAF:
            return
        idle = before == RESTING and self._current is None and not self._queue
        known = self._known
        if known is not None and idle and data.startswith(known.before):
            body = known.body(data, self.lanes.limits.body_bytes)
            if body is not None:
                self._due = NEVER
                request_id = self.lanes.request_id(None)
                self._current = exchange = Exchange(
                    self, known.hot, self._peer, request_id, monotonic(), body
                )
                exchange.begin()
                return
        parser = self._parser
        if parser is None:
            parser = self._first()
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._read_on(data, error):
                return
        reading, limits = self._reading, self.lanes.limits
        if reading == RESTING:
            self._due = NEVER
            if idle and len(self._queue) == 1 and isinstance(read := self._queue[0], Exchange):
                self._known = self.lanes.heads.learned(data, read.hot)
        elif reading == HEAD:
            if self._head_bytes:
                self._head_bytes += len(data)
            else:  # it began in this read, maybe behind other requests
                self._due = self.lanes.now + self.lanes.tick_s + limits.header_s
                fields = sum(len(name) + len(value) for name, value in self._headers)
                first = idle and not self._queue
                self._head_bytes = len(data) if first else 1 + len(self._url) + fields
            if self._head_bytes > limits.head_bytes:
                self.refuse(431, "lane.long_head", limit=limits.head_bytes)
        elif reading == BODY and self._unread:
            self._due = self.lanes.now + self.lanes.tick_s + limits.body_s
            if self._head_bytes < 0:
                self._head_bytes = 0
            elif before == BODY:  # nothing but chunk extensions or trailers, which no limit of the body holds
                self._head_bytes += len(data)
                if self._head_bytes > limits.head_bytes:
                    self.refuse(431, "lane.long_head", limit=limits.head_bytes)
        if self._current is None:
            self._pump()
        elif len(self._queue) > limits.pipelined:
            self.read(False)

    # the parser's side

    def on_message_begin(self) -> None:
        if self._reading != DEAF:
            self._reading = HEAD
            self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if (
            self._reading == BODY
        ):  # a trailer belongs to no head: not to this one, nor to the next (RFC 9110, 6.5)
            return
        self._headers.append((name.lower(), value.rstrip()))  # llhttp leaves the blanks after a value

    def on_headers_complete(self) -> None:
        target, self._url = self._url, b""
        headers, self._headers = self._headers, []
        if self._reading == DEAF:
            return
        self._reading = BODY
        parser, lanes = self._parser, self.lanes
        method: bytes = parser.get_method()
        fields = dict(headers)
        if len(fields) != len(headers):
            fields = joined(headers)
        keep_alive: bool = parser.should_keep_alive()
        # only who wants to keep a connection that would not be kept by default is asked for its version
        modern = True if keep_alive and b"connection" not in fields else parser.get_http_version() == "1.1"
        keep_alive = keep_alive and modern  # HTTP/1.0 would have to be told
        upgrade: bool = parser.should_upgrade()
        if upgrade and method != b"CONNECT" and fields[b"upgrade"].lower() == b"h2c":
            self._instead = not_upgrading(method, target, headers, modern, keep_alive)
            return
        path, _, query = target.partition(b"?")
        handler = lanes.hot.get(method, _NONE).get(path)
        if handler is None:
            meant, handler = lanes.meant(method, path)
            if meant != path:
                path = meant
                target = path + target[target.find(b"?") :] if query else path
        limits = lanes.limits_of(path) if handler is None else lanes.limits
        trouble = unacceptable(method, target, headers, fields, modern, upgrade, limits)
        if trouble is not None:
            if lanes.origins and path.startswith(b"/v1/"):
                trouble = trouble._replace(lines=crossing(fields.get(b"origin"), lanes.origins))
            self.refuse(*trouble)
            return
        expects = modern and b"expect" in fields
        chain = fields.get(b"x-forwarded-for") if self._trusts else None
        peer = self._peer if chain is None else lanes.forwarded(self._peer, chain)
        request_id = lanes.request_id(fields.get(b"x-request-id"))
        if handler is None:
            pairs, secure = (
                forwarded(headers, fields, self._secure) if self._trusts else (headers, self._secure)
            )
            asked = Asked(method, target, pairs, peer, request_id, keep_alive, modern, expects, secure)
            self._incoming = Cold(self, asked, self._config, self._state, limits.body_bytes)
            self._queue.append(self._incoming)
            self._expects = False  # it says so itself
            return
        self._expects = expects
        hot = Hot(handler, method, path, query, fields, keep_alive, modern)
        self._incoming = Exchange(self, hot, peer, request_id, monotonic())

    def on_body(self, piece: bytes) -> None:
        self._head_bytes = -1  # this read brought some of the body
        incoming = self._incoming
        if incoming is not None and self._reading == BODY and not incoming.take(piece):
            self.refuse(413, "lane.long_body", limit=self.lanes.limits.body_bytes)

    def on_message_complete(self) -> None:
        if self._reading == DEAF or self._instead:
            return
        self._reading = RESTING
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.body_ended()
            if incoming.__class__ is Exchange:
                self._queue.append(incoming)

    # turns

    def _pump(self) -> None:
        """Begin the next turn; as long as turns end at once, the one after it."""
        self._pumping = True
        queue = self._queue
        while self._current is None and queue and not self._transport.is_closing():
            turn = self._current = queue.popleft()
            if isinstance(turn, Refused):
                self._say_no(turn)
                break
            turn.begin()
        self._pumping = False
        # a cold request reads on by itself, when it listens
        if (
            not self._unread
            and not isinstance(self._incoming, Cold)
            and len(queue) <= self.lanes.limits.pipelined // 2
        ):
            self.read(True)
        if self._current is None and not queue:
            if self._reading == RESTING:
                self._due = self.lanes.now + self.lanes.tick_s + self.lanes.limits.idle_s
            elif self._expects and self._reading == BODY:  # a hot request, and it is next
                self._expects = False
                self._due = self.lanes.now + self.lanes.tick_s + self.lanes.limits.body_s
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _say_no(self, refused: Refused) -> None:
        standing = self.lanes.standing + refused.lines
        self.write(refusal(refused.status, refused.key, standing, limit=refused.limit))
        self._server_state.total_requests += 1
        self._linger()

    def _read_on(self, data: bytes, stopped: Exception) -> bool:
        """The parser has stopped; whether `data` was read to its end all the same.

        Behind a head that wants to upgrade httptools reads nothing more, not even the body. Where that is answered as
        HTTP/1.1, a new parser begins with a head that does not want to, and reads on from there.
        """
        rest = memoryview(data)
        while self._instead:
            head, self._instead = self._instead, b""
            rest = rest[stopped.args[0] :]
            self._parser = parser = httptools.HttpRequestParser(self)
            try:
                parser.feed_data(head)
                parser.feed_data(rest)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
                stopped = error
            else:
                return True
        if self._reading != DEAF:
            self._broken(stopped)
        return False

    def _broken(self, error: Exception) -> None:
        if isinstance(error, httptools.HttpParserCallbackError) and error.__context__ is not None:
            self.abort()
            raise error.__context__
        self.refuse(400, "lane.not_http")

    def _linger(self) -> None:
        """Close without a reset, which would take the answer from a client that is still sending (RFC 9112, 9.6)."""
        self._reading = DEAF
        self._due = self.loop.time() + self.lanes.limits.linger_s
        if not self._unread:
            self._unread = True
            self._transport.resume_reading()
        self._outbox.flush()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def _let_write(self) -> None:
        behind, self._behind = self._behind, None
        for parked in behind or ():
            parked.set(None)

    def _close(self) -> None:
        self._reading = DEAF
        self._due = self.loop.time() + self.lanes.limits.write_s  # for what is still to be written
        self._outbox.flush()
        self._transport.close()

    def _first(self) -> Any:
        """The parser is made with the first byte: ten thousand silent connections need none."""
        self._parser = httptools.HttpRequestParser(self)
        name: Any = self._transport.get_extra_info("peername")
        self._peer = cast(str, name[0]) if isinstance(name, tuple) else ""
        self._secure = self._transport.get_extra_info("sslcontext") is not None
        self._trusts = self.lanes.trusted(self._peer)
        return self._parser
