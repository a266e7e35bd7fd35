"""One hot request and its answer; what a handler sees of a client."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import msgspec

from baimo.providers.wire.parked import Driver, start
from baimo.server.head import BODILESS, STATUS, crossing, refusal
from baimo.server.turn import Line

FLUSH_ABOVE = 64 * 1024
"""Pieces of one pass of the event loop are sent together, up to this many bytes."""

SMALL = 4096
"""Pieces of a body below this many bytes are put together: as objects of their own they take many times their bytes."""

log = logging.getLogger("baimo.server")


class Hot(msgspec.Struct, frozen=True):
    """What the head of a hot request says."""

    handler: Callable[[Exchange], Coroutine[Any, Any, None]]
    method: bytes
    path: bytes
    query: bytes
    headers: Mapping[bytes, bytes]
    keep_alive: bool
    chunked: bool
    """Whether the client understands chunks (HTTP/1.1)."""


class Exchange:
    """A request whose body is complete, and the `Reply` to it (see `gateway/call.py`)."""

    __slots__ = (
        "_driver",
        "_ended",
        "_lane",
        "_out",
        "_out_bytes",
        "_pieces",
        "_size",
        "began",
        "body",
        "gone",
        "headers",
        "hot",
        "keep_alive",
        "peer",
        "request_id",
        "started",
    )

    def __init__(
        self, lane: Line, hot: Hot, peer: str, request_id: str, began: float, body: bytes | None = None
    ) -> None:
        self._lane = lane
        self._driver: Driver | None = None
        self._out: list[bytes] | None = None
        self._pieces: list[bytes | bytearray] | None = None
        self._ended = self.gone = self.started = False
        self.hot = hot
        self.headers = hot.headers
        """Lower-case names; values of a repeated one joined by a comma. Not to be changed: calls share it."""
        self.body = body or b""
        self.peer = peer
        """The client's address; empty = a Unix socket."""
        self.request_id = request_id
        self.began = began
        """Monotonic seconds when the head was complete."""
        self.keep_alive = hot.keep_alive

    @property
    def method(self) -> bytes:
        return self.hot.method

    @property
    def path(self) -> bytes:
        return self.hot.path

    @property
    def query(self) -> bytes:
        return self.hot.query

    @property
    def reply(self) -> Exchange:
        """The client's side."""
        return self

    # Reply

    def whole(self, status: int, head: bytes, body: bytes) -> None:
        """A complete answer in one write."""
        if self.gone or self.started:
            return
        self.started = True
        if status in BODILESS:
            self._lane.write(self._head(status, head, b"\r\n"))
        else:
            self._lane.write(self._head(status, head, b"content-length: %d\r\n\r\n%s" % (len(body), body)))
        self._end()

    def start(self, status: int, head: bytes) -> None:
        """The head of a stream."""
        if self.gone or self.started:
            return
        if not self.hot.chunked:  # HTTP/1.0: the end of the connection is the end of the body
            self.keep_alive = False
        framing = b"transfer-encoding: chunked\r\n\r\n" if self.hot.chunked else b"\r\n"
        self.started = True
        self._put(self._head(status, head, framing))

    def write(self, piece: bytes) -> None:
        """A piece of a stream; nothing for an empty one, which would end it."""
        if self.gone or self._ended or not piece:
            return
        self._put(b"%x\r\n%b\r\n" % (len(piece), piece) if self.hot.chunked else piece)

    def end(self) -> None:
        """The stream is complete."""
        if self.gone or self._ended or not self.started:
            return
        if self.hot.chunked:
            self._put(b"0\r\n\r\n")
        self.flush()
        self._end()

    def abort(self) -> None:
        """Break the connection."""
        if not self.gone and not self._ended:
            self.flush()  # what was said was said
            self._ended = True
            self._lane.abort()

    def drained(self) -> Awaitable[None] | None:
        """None while the client keeps up."""
        return None if self.gone else self._lane.drained()

    # the lane's side

    def take(self, piece: bytes) -> bool:
        """Bytes of the request's body; False = it is too long."""
        pieces = self._pieces
        if pieces is None:
            self.body = piece  # most have no second one
            self._pieces = []
            self._size = 0
        elif len(piece) >= SMALL:
            pieces.append(piece)
        elif pieces and isinstance(last := pieces[-1], bytearray):
            last += piece
        else:
            pieces.append(bytearray(piece))
        self._size += len(piece)
        return self._size <= self._lane.body_limit

    def body_ended(self) -> None:
        if self._pieces:
            self.body = b"".join([self.body, *self._pieces])
        self._pieces = None

    def begin(self) -> None:
        """Run the handler."""
        driver = self._driver = start(self.hot.handler(self), self._handled, self._lane.loop)
        if not driver.done():
            self._lane.tasks.add(driver)

    def lost(self) -> None:
        """The client has gone: nobody waits for the model any more."""
        self.gone = True
        self._out = None
        if self._driver is not None:
            self._driver.cancel()

    def flush(self) -> None:
        out, self._out = self._out, None
        if out and not self.gone:
            self._lane.write(out[0] if len(out) == 1 else b"".join(out))

    def _head(self, status: int, head: bytes, rest: bytes) -> bytes:
        lane = self._lane
        if lane.draining:
            self.keep_alive = False
        closing = b"" if self.keep_alive else b"connection: close\r\n"
        if origins := lane.lanes.origins:
            head += crossing(self.headers.get(b"origin"), origins)
        return b"%s%s%s%sx-request-id: %s\r\n%s" % (
            STATUS[status],
            lane.lanes.standing,
            head,
            closing,
            self.request_id.encode("ascii"),
            rest,
        )

    def _put(self, framed: bytes) -> None:
        if self._out is None:
            self._out = []
            self._out_bytes = 0
            self._lane.later(self.flush)
        self._out.append(framed)
        self._out_bytes += len(framed)
        if self._out_bytes > FLUSH_ABOVE:
            self.flush()
            self._lane.push()

    def _end(self) -> None:
        self._ended = True
        self._lane.ended(self.keep_alive)

    def _handled(self, value: object, error: BaseException | None) -> None:
        if self._driver is not None:
            self._lane.tasks.discard(self._driver)
        cut = isinstance(error, asyncio.CancelledError) and (self.gone or self._lane.draining)
        if error is not None and not cut:
            # type and place only: a message may quote what a client sent
            frames = traceback.extract_tb(error.__traceback__)
            place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "?"
            log.error("%s: handler failed with %s at %s", self.request_id, type(error).__name__, place)
        if self.gone or self._ended:
            return
        if self.started:
            self.abort()
        else:
            self.started = True
            self.keep_alive = False
            status, key = (503, "gateway.stopping") if cut else (500, "lane.internal")
            lanes = self._lane.lanes
            standing = lanes.standing
            if lanes.origins:
                standing += crossing(self.headers.get(b"origin"), lanes.origins)
            self._lane.write(refusal(status, key, standing, request_id=self.request_id))
            self._end()
