"""A real uvicorn server with `Lane` on loopback, and clients that send exactly what a test says."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from baimo.server.lane import Lane
from baimo.server.lanes import Handler, Lanes
from baimo.settings import ServeSettings
from tests.waiting import PATIENCE_S


@dataclass
class House:
    port: int
    server: uvicorn.Server
    lanes: Lanes
    seen: list[Any] = field(default_factory=list)

    async def client(self) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        return Client(reader, writer)

    async def exchange(self, data: bytes) -> bytes:
        """Send `data`, read until the server closes."""
        client = await self.client()
        client.writer.write(data)
        try:
            return await asyncio.wait_for(client.reader.read(), 10)
        finally:
            client.writer.close()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool = True


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)

    async def answer(self, *, head_only: bool = False) -> Answer:
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)).decode("latin-1")
        first, *rest = head.rstrip("\r\n").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
        status = int(first.split(" ")[1])
        if head_only or status in {100, 204, 304}:
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            pieces: list[bytes] = []
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                pieces.append((await self.reader.readexactly(size + 2))[:-2])
            assert await self.reader.readexactly(2) == b"\r\n"
            return Answer(status, headers, b"".join(pieces))
        if "content-length" in headers:
            return Answer(status, headers, await self.reader.readexactly(int(headers["content-length"])))
        return Answer(status, headers, await self.reader.read())

    def close(self) -> None:
        self.writer.close()


@contextlib.asynccontextmanager
async def house(
    routes: Mapping[tuple[bytes, bytes], Handler],
    app: Any = None,
    *,
    drain_s: int = 5,
    options: Mapping[str, Any] | None = None,
    **settings: Any,
) -> AsyncGenerator[House]:
    """Serves until the block ends; then drains as uvicorn does."""
    lanes = Lanes(routes, ServeSettings(**settings))

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["hot"] = lanes
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await (app or nothing)(scope, receive, send)

    config = uvicorn.Config(
        application,
        http=Lane,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_graceful_shutdown=drain_s,
        **(options or {}),
    )
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]  # the test's process keeps its own
    running = asyncio.create_task(server.serve([listening]))
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    try:
        yield House(listening.getsockname()[1], server, lanes)
    finally:
        server.should_exit = True
        await asyncio.wait_for(running, PATIENCE_S)
        listening.close()


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
"""What Java's and curl's clients put into a head to say that they would rather speak HTTP/2."""


def post(body: bytes = b"{}", *, path: bytes = b"/hot", head: bytes = b"") -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n%s\r\n%s" % (path, len(body), head, body)
