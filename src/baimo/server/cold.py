"""A request for the ASGI application: everything that is not a hot route."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import MutableMapping, Sequence
from contextvars import Context
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from baimo.gateway.answers import lines
from baimo.server.head import BODILESS, STATUS, crossing, refusal
from baimo.server.turn import Line

if TYPE_CHECKING:
    from uvicorn.config import Config

HIGH_WATER = 64 * 1024
"""Bytes of a request's body that may wait for the application before the client is no longer read."""
Message = MutableMapping[str, Any]

log = logging.getLogger("baimo.server")


class Asked(NamedTuple):
    """A request's head."""

    method: bytes
    target: bytes
    headers: Sequence[tuple[bytes, bytes]]
    peer: str
    """The client's address; empty = a Unix socket."""
    request_id: str
    keep_alive: bool
    modern: bool
    """HTTP/1.1."""
    expects: bool
    """The client waits for 100 before it sends the body."""
    secure: bool


class Cold:
    """One ASGI call (specification version 2.4): its scope, `receive` and `send`."""

    def __init__(
        self, lane: Line, asked: Asked, config: Config, state: dict[str, Any], body_limit: int
    ) -> None:
        self._lane = lane
        self._body_limit = body_limit
        self._app = config.loaded_app
        self._head_only = asked.method == b"HEAD"
        self._keep_alive = asked.keep_alive
        self._modern = asked.modern
        self._expects = asked.expects
        self._request_id = asked.request_id.encode("ascii")
        self._pieces: list[bytes] = []
        self._waiting = self._size = 0
        self._complete = self._told = self._ended = False
        self._left: int | None = None
        """Bytes that the answer still owes; None = it is chunked, or ends with the connection."""
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.gone = False
        self.started = False
        path, _, query = asked.target.partition(b"?")
        seen = [pair for pair in asked.headers if pair[0] != b"x-request-id"]
        self._scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": config.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1" if asked.modern else "1.0",
            "method": asked.method.decode("ascii"),
            "scheme": "https" if asked.secure else "http",
            "path": config.root_path + unquote(path.decode("latin-1")),
            "raw_path": config.root_path.encode() + path,
            "query_string": query,
            "root_path": config.root_path,
            "headers": [*seen, (b"x-request-id", self._request_id)],
            "client": (asked.peer, 0) if asked.peer else None,
            "server": (config.host, config.port),
            "state": state.copy(),
        }

    # the lane's side

    def begin(self) -> None:
        """Run the application."""
        # its own context: what is set for one request must not be seen by the next on this connection
        self._task = asyncio.get_running_loop().create_task(self._run(), context=Context())
        self._lane.tasks.add(self._task)
        self._task.add_done_callback(self._lane.tasks.discard)

    def take(self, piece: bytes) -> bool:
        """Bytes of the request's body; False = it is too long."""
        self._size += len(piece)
        if self._size > self._body_limit:
            return False
        if not self._ended:  # else nobody wants them
            self._pieces.append(piece)
            self._waiting += len(piece)
            if self._waiting > HIGH_WATER:
                self._lane.read(False)
            self._news.set()
        return True

    def body_ended(self) -> None:
        self._complete = True
        self._news.set()

    def lost(self) -> None:
        """The client has gone: `receive` says so, and `send` does nothing any more."""
        self.gone = True
        self._news.set()

    # ASGI

    async def receive(self) -> Message:
        """The body as it comes; then, when there is nothing more to come, that the client has left."""
        if self._expects and not self._complete and not self.started and not self.gone:
            self._expects = False
            self._lane.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while True:
            if self.gone or self._ended:
                return {"type": "http.disconnect"}
            if self._pieces or (self._complete and not self._told):
                body = b"".join(self._pieces)
                self._pieces.clear()
                self._waiting = 0
                self._told = self._complete
                if not self._complete:
                    self._lane.read(True)
                return {"type": "http.request", "body": body, "more_body": not self._complete}
            self._news.clear()
            self._lane.read(True)  # it may have stopped behind other requests
            await self._news.wait()

    async def send(self, message: Message) -> None:
        """A part of the answer.

        Raises:
            OSError: the client has left.
            RuntimeError: the application does not keep to ASGI or to its own content-length.
        """
        if self.gone:
            raise ConnectionAbortedError("the client has left")  # an OSError, as ASGI 2.4 wants it
        kind = message["type"]
        if not self.started and kind == "http.response.start":
            self._start(message["status"], list(message.get("headers", ())))
        elif self.started and not self._ended and kind == "http.response.body":
            self._body(message.get("body", b""), message.get("more_body", False))
            if not self._ended and (behind := self._lane.drained()) is not None:
                await behind
        else:
            raise RuntimeError(f"unexpected ASGI message {kind}")

    async def _run(self) -> None:
        cut = False
        try:
            await self._app(self._scope, self.receive, self.send)  # type: ignore[arg-type]
        except BaseException as error:
            cut = isinstance(error, asyncio.CancelledError) and self._lane.draining
            if not cut and not (self.gone and isinstance(error, (OSError, asyncio.CancelledError))):
                # type and place only: a message may quote what a client sent
                frame = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{frame.filename}:{frame.lineno}"
                name = type(error).__name__
                log.error("%s: application failed with %s at %s", self._request_id.decode(), name, place)
        if self.gone or self._ended:
            return
        if self.started:
            self.gone = True
            self._lane.abort()
        else:
            self.started = self._ended = True
            status, key = (503, "gateway.stopping") if cut else (500, "lane.internal")
            request_id = self._request_id.decode("ascii")
            self._lane.write(refusal(status, key, self._lane.lanes.standing, request_id=request_id))
            self._lane.ended(False)

    def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        fields = {name.lower(): value for name, value in headers}
        if self._lane.draining or not self._complete or b"close" in fields.get(b"connection", b"").lower():
            self._keep_alive = False  # a body that nobody reads would be taken for the next request
        framing = b""
        bodiless = status in BODILESS
        if b"content-length" in fields:
            self._left = 0 if bodiless or self._head_only else int(fields[b"content-length"])
        elif bodiless or self._head_only:
            self._left = 0
        elif self._modern:
            framing = b"transfer-encoding: chunked\r\n"
        else:
            self._keep_alive = False
        if b"x-request-id" not in fields:
            framing += b"x-request-id: %s\r\n" % self._request_id
        ours = {b"connection", b"transfer-encoding", b"date", b"server"}
        block = lines([(name.lower(), value) for name, value in headers if name.lower() not in ours])
        closing = b"" if self._keep_alive else b"connection: close\r\n"
        if (origins := self._lane.lanes.origins) and self._scope["path"].startswith("/v1/"):
            block += crossing(dict(self._scope["headers"]).get(b"origin"), origins)
        self.started = True
        self._lane.write(
            b"%s%s%s%s%s\r\n" % (STATUS[status], self._lane.lanes.standing, block, framing, closing)
        )

    def _body(self, body: bytes, more: bool) -> None:
        if self._head_only:
            body = b""
        if self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (self._left > 0 and not more):
                raise RuntimeError("the answer is not as long as its content-length")
            out = body
        elif self._modern:
            out = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            out += b"" if more else b"0\r\n\r\n"
        else:
            out = body
        if out:
            self._lane.write(out)
        if not more:
            self._ended = True
            self._news.set()
            self._lane.ended(self._keep_alive)
