"""An answer of a model whose name nobody is to know yet, piece by piece.

Prevents two failures: a name that is read out of what else comes with an answer (its id, its model, how it counts
tokens, what it costs, what its vendor says when it fails: nothing but words is passed on), and a model that writes on
for somebody who pressed stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from time import monotonic
from typing import Any, NamedTuple

import msgspec
from starlette.responses import Response

from baimo.errors import BaimoError
from baimo.gateway.answers import by_name
from baimo.gateway.call import Call
from baimo.providers.faults import Place
from baimo.providers.openai_reply import ChunkReader
from baimo.providers.sse import SseParser
from baimo.server.admin.operation import Asking
from baimo.server.surfaces.table import surfaces

CHAT = "/v1/chat/completions"
_HEADERS: Mapping[bytes, bytes] = {b"content-type": b"application/json"}
_WHERE = Place(host="", model="", key="")


class Said(NamedTuple):
    """What came of a call."""

    record: str
    """Record.id; empty = it was not let in."""
    answer: str
    """Its words, as far as they came."""


class Hearing:
    """Takes the answer of a call; fits `Reply`."""

    def __init__(self) -> None:
        self.gone = False
        self.started = False
        self.status = 0
        self.record = ""
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()

    def whole(self, status: int, head: bytes, body: bytes) -> None:
        """A refusal: a call that wants a stream gets nothing else at once."""
        self.start(status, head)
        self.end()

    def start(self, status: int, head: bytes) -> None:
        self.started, self.status = True, status
        self.record = by_name(head).get(b"x-baimo-record", b"").decode()

    def write(self, piece: bytes) -> None:
        self._pieces.put_nowait(piece)

    def end(self) -> None:
        self._pieces.put_nowait(None)

    def abort(self) -> None:
        self.status = 502
        self.end()

    def drained(self) -> Awaitable[None] | None:
        return None

    async def next(self) -> bytes | None:
        """The next bytes of the stream; None = that was all."""
        return await self._pieces.get()


class BlindAnswer(Response):
    """Server-sent events: {"text": …} for each piece, at the end {"done": true} or {"failed": status}.

    Args:
        asking: who asks and pays.
        body: of a call of Chat Completions that wants a stream.
        ended: is told what came of it, however it ends.
    """

    media_type = "text/event-stream"

    def __init__(
        self, asking: Asking, body: dict[str, Any], ended: Callable[[Said], Awaitable[None]]
    ) -> None:
        super().__init__(None, 200)
        self.raw_headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
        self._asking = asking
        self._asked = body
        self._ended = ended

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        pouring = asyncio.ensure_future(self._pour(send))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait((pouring, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (pouring, leaving):
                task.cancel()
            with suppress(OSError, asyncio.CancelledError):
                await pouring

    async def _pour(self, send: Any) -> None:
        async with aclosing(self._pieces()) as pieces:
            async for piece in pieces:
                line = b"data: " + msgspec.json.encode(piece) + b"\n\n"
                await send({"type": "http.response.body", "body": line, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _pieces(self) -> AsyncGenerator[dict[str, Any]]:
        asking, hearing, said = self._asking, Hearing(), list[str]()
        call = Call(
            surface=surfaces()[CHAT],
            body=msgspec.json.encode(self._asked),
            headers=_HEADERS,
            key=asking.key,
            tenant=asking.tenant,
            reply=hearing,
            began=monotonic(),
            request_id=asking.request_id,
        )
        serving = asyncio.ensure_future(asking.service.gateway.serve(call))
        serving.add_done_callback(lambda _: hearing.end())
        try:
            async for text in _words(hearing):
                said.append(text)
                yield {"text": text}
            yield {"failed": hearing.status} if hearing.status >= 400 else {"done": True}
        finally:
            hearing.gone = True
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving
            await asyncio.shield(self._ended(Said(hearing.record, "".join(said))))


async def _words(hearing: Hearing) -> AsyncGenerator[str]:
    """The words of an answer; a stream that breaks off sets the status of a failure."""
    parser, reader = SseParser(), ChunkReader(_WHERE)
    try:
        while (piece := await hearing.next()) is not None:
            for event in parser.feed(piece):
                for delta in reader.feed(event):
                    if delta.text:
                        yield delta.text
        if hearing.status < 400:
            for delta in reader.close():
                if delta.text:
                    yield delta.text
    except BaimoError:  # the model's server said so in its stream, in words that tell whose it is
        hearing.status = 502


async def _left(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
