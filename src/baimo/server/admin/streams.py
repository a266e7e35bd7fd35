"""An answer that a thread writes while a client reads it: exports, and work that tells how far it is.

Prevents two failures: a ledger of millions of lines that is put together in memory, and a thread that goes on for a
client that has left.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

PIECE_BYTES = 64 * 1024
WAITING = 4
"""Pieces that wait for the client before the thread has to."""
LOOK_S = 0.5
"""How often a waiting thread looks whether anybody is still there."""
Work = Callable[["Pieces"], None]
"""Writes the answer piece by piece; runs in a thread."""


class Stopped(Exception):
    """The client has left: nobody wants the rest."""


class Pieces:
    """Text on its way from a thread to a client. `write` is for the thread, the rest for the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue()
        self._room = threading.Semaphore(WAITING)
        self._stopped = threading.Event()
        self._held: list[str] = []
        self._size = 0

    def write(self, text: str, /) -> int:
        """
        Raises:
            Stopped: the client has left.
        """
        self._held.append(text)
        self._size += len(text)
        if self._size >= PIECE_BYTES:
            self.flush()
        return len(text)

    def flush(self) -> None:
        """Let the client have what was written.

        Raises:
            Stopped: the client has left.
        """
        if self._stopped.is_set():
            raise Stopped
        if self._held:
            piece = "".join(self._held).encode()
            self._held, self._size = [], 0
            self._put(piece)

    def run(self, work: Work) -> None:
        """Do the work; in a thread."""
        try:
            work(self)
            self.flush()
            self._put(None)
        except Stopped:
            pass
        except BaseException as error:
            self._put(error)

    async def next(self) -> bytes | None:
        """The next piece; None = that was all.

        Raises:
            Exception: what the work raised.
        """
        piece = await self._queue.get()
        self._room.release()
        if isinstance(piece, BaseException):
            raise piece
        return piece

    def stop(self) -> None:
        """Nobody reads any more: the thread ends at its next piece."""
        self._stopped.set()
        self._room.release()

    def _put(self, piece: bytes | BaseException | None) -> None:
        while not self._room.acquire(timeout=LOOK_S):
            if self._stopped.is_set() or self._loop.is_closed():
                raise Stopped
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, piece)
        except RuntimeError:  # the loop has ended
            raise Stopped from None


class Streamed(Response):
    """Sends the pieces as they come. An answer that fails half-way breaks off and never looks complete."""

    def __init__(
        self, first: bytes | None, pieces: Pieces, headers: Mapping[str, str], ended: Callable[[], None]
    ) -> None:
        super().__init__(None, 200, dict(headers))
        self.raw_headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
        self._first = first
        self._pieces = pieces
        self._over = ended

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            piece = self._first
            while piece is not None:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                piece = await self._pieces.next()
            await send({"type": "http.response.body", "body": b""})
        except OSError:
            pass  # the client has left
        finally:
            self._pieces.stop()
            self._over()


class Events(StreamingResponse):
    """Sends server-sent events as they come. Whoever looks on may leave at any moment, and nothing is sent on then."""

    media_type = "text/event-stream"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        telling = asyncio.create_task(self.stream_response(send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait((telling, leaving), return_when=asyncio.FIRST_COMPLETED)
            if telling.done() and not isinstance(telling.exception(), OSError):
                telling.result()
        finally:
            for task in (telling, leaving):
                task.cancel()
            await asyncio.gather(telling, leaving, return_exceptions=True)
            pieces: Any = self.body_iterator
            await pieces.aclose()  # now, and not when somebody looks for garbage


async def _left(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
