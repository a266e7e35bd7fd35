"""A real HTTP server on loopback that answers through one surface from a script."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from baimo.core.call import Completion, Delta, Request, Usage
from baimo.errors import BaimoError
from baimo.gateway.surface import Peek, Surface
from tests.waiting import PATIENCE_S

CREATED = 1_763_800_000
CALL = "rec_01jd3kabcdefghjkmnpq"

Script = Callable[[Request], Sequence[Delta | BaimoError]]


def whole(deltas: Sequence[Delta | BaimoError]) -> Completion:
    """What the pieces come to."""
    pieces: list[Delta] = []
    for delta in deltas:
        if isinstance(delta, BaimoError):
            raise delta
        pieces.append(delta)
    return Completion(
        text="".join(delta.text for delta in pieces),
        reasoning="".join(delta.reasoning for delta in pieces) or None,
        tool_calls=tuple(call for delta in pieces for call in delta.tool_calls),
        finish_reason=next(
            (delta.finish_reason for delta in reversed(pieces) if delta.finish_reason), "unknown"
        ),
        refused=any(delta.refused for delta in pieces),
        stop_sequence=next((delta.stop_sequence for delta in pieces if delta.stop_sequence), None),
        usage=next((delta.usage for delta in reversed(pieces) if delta.usage), Usage()),
    )


@dataclass
class Endpoint:
    """An ASGI app: every POST is a call of the surface, answered by `script`."""

    surface: Surface
    script: Script
    model: str = "somewhere/model"
    retry: bool = False
    seen: list[Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.bodies.append(body)
        self.paths.append(scope["path"])
        started = False

        async def start(status: int, kind: bytes) -> None:
            nonlocal started
            started = True
            headers = [(b"content-type", kind), (b"x-should-retry", b"true" if self.retry else b"false")]
            headers.append((b"retry-after-ms", b"1"))
            await send({"type": "http.response.start", "status": status, "headers": headers})

        try:
            peek = self.surface.peek(body, dict(scope["headers"]))
            request = self.surface.request(body, peek, model=self.model)
            self.seen.append(request)
            deltas = self.script(request)
            if not peek.stream:
                answer = self.surface.answer(whole(deltas), peek, id=CALL, created_s=CREATED)
                await start(200, b"application/json")
                await send({"type": "http.response.body", "body": answer})
                return
            if deltas and isinstance(deltas[0], BaimoError):
                raise deltas[0]
            await start(200, b"text/event-stream")
            async for piece in self._stream(deltas, peek):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except BaimoError as error:
            assert not started
            await start(error.http_status, b"application/json")
            await send(
                {"type": "http.response.body", "body": self.surface.refusal(error, request_id="req_1")}
            )

    async def _stream(self, deltas: Sequence[Delta | BaimoError], peek: Peek) -> AsyncIterator[bytes]:
        events = self.surface.events(peek, id=CALL, created_s=CREATED)
        for delta in deltas:
            if isinstance(delta, BaimoError):
                yield events.failed(delta)
                return
            yield events.delta(delta)
        yield events.end()


class Listener:
    """One server for all tests of a session: to start and stop one takes longer than most tests."""

    def __init__(self) -> None:
        self.app: Any = None
        self._socket = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(self, lifespan="off", log_level="warning", ws="none", http="httptools")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.005)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(PATIENCE_S)
        self._socket.close()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


_LISTENERS: list[Listener] = []


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """The address at which the app answers until the end of the block."""
    if not _LISTENERS:
        _LISTENERS.append(Listener())
    listener = _LISTENERS[0]
    listener.app = app
    yield listener.address
    listener.app = None


def stop() -> None:
    """Stop listening."""
    while _LISTENERS:
        _LISTENERS.pop().close()


def streamed(surface: Surface, peek: Peek, deltas: Sequence[Delta]) -> bytes:
    """A whole stream as bytes."""
    events = surface.events(peek, id=CALL, created_s=CREATED)
    return b"".join((*(events.delta(delta) for delta in deltas), events.end()))
