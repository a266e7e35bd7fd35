"""A model's server for tests: speaks OpenAI's and Anthropic's format, counts what it was asked, misbehaves on demand.

The last user message says what happens, up to " #": what follows tells calls apart. Anything else is answered with
"echo: <message>"; "say a b c", streamed, with these words.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.upstream_answers import TOKENS_IN, TOKENS_OUT, WORDS, events, form, whole, wish_of
from tests.waiting import PATIENCE_S

__all__ = ["TOKENS_IN", "TOKENS_OUT", "WORDS", "Upstream", "upstream"]


@dataclass
class Upstream:
    """The server, while it runs."""

    port: int = 0
    served: Counter[str] = field(default_factory=Counter)
    """Answers that were sent to their end, by path."""
    asked: Counter[str] = field(default_factory=Counter)
    """Requests that arrived, by path."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    """What was asked, newest last."""
    headers: list[dict[str, str]] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    """How often a flaky wish was refused."""
    holding: set[str] = field(default_factory=set[str])
    """The last user messages of streams that are held: "hold 3" after three events, "hold 3.5" within the fourth."""
    deserted: set[str] = field(default_factory=set[str])
    """Those of them whose connection was closed by who had asked."""
    lines: list[list[str]] = field(default_factory=list)
    """The last user messages that came over each connection, in order."""
    delay_s: float = 0.0
    """Before an answer, and between the pieces of a stream."""

    @property
    def address(self) -> str:
        """Base address for OpenAI's format; Anthropic's is the same."""
        return f"http://127.0.0.1:{self.port}/v1"


@contextmanager
def upstream(**facts: Any) -> Iterator[Upstream]:
    """Run one in a thread of its own."""
    made = Upstream(**facts)
    loop = asyncio.new_event_loop()
    ready = threading.Event()

    async def serve() -> None:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await _connection(made, reader, writer)
            writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", made.port, limit=1 << 27)
        made.port = server.sockets[0].getsockname()[1]
        ready.set()
        async with server:
            await stop.wait()

    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), name="upstream")
    thread.start()
    assert ready.wait(PATIENCE_S)
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE_S)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


async def _connection(made: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    over: list[str] = []
    made.lines.append(over)
    while line := await reader.readline():
        path = line.split()[1].decode()
        headers: dict[str, str] = {}
        while (header := await reader.readline()).strip():
            name, _, value = header.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        row = json.loads(body) if body[:1] == b"{" else form(body)
        made.asked[path] += 1
        made.bodies.append(row)
        made.headers.append(headers)
        over.append(wish_of(row))
        if made.delay_s:
            await asyncio.sleep(made.delay_s)
        if not await _answered(made, path, row, reader, writer):
            return


async def _answered(
    made: Upstream,
    path: str,
    row: dict[str, Any],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> bool:
    """Answer one request; False = the connection is not to be used again."""
    said = wish_of(row)
    wish = said.partition(" #")[0]
    if wish == "reset":
        writer.transport.abort()
        return False
    if wish == "stall":
        await asyncio.sleep(3600)
    if wish.startswith("status "):
        status, *after = wish.split()[1:]
        headers = f"retry-after: {after[0]}\r\n" if after else ""
        if after == ["final"]:
            headers = "x-should-retry: false\r\n"
        body = json.dumps({"error": {"message": f"told to say {status}"}}).encode()
        await _send(writer, body, int(status), headers)
        return True
    if wish.startswith("flaky ") and made.refused[said] < int(wish.split()[1]):  # so often, then it answers
        made.refused[said] += 1
        await _send(writer, b'{"error": {"message": "not yet"}}', 503, "retry-after-ms: 1\r\n")
        return True
    if wish == "lie short":  # more bytes than announced
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n"
            + whole(path, row, said)
        )
        await writer.drain()
        return True
    if wish in ("lie long", "half", "half open"):
        body = whole(path, row, said)
        head = (
            f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body) + 100}\r\n\r\n"
        )
        writer.write(head.encode() + (body if wish == "lie long" else body[: len(body) // 2]))
        await writer.drain()
        if wish == "half open":  # neither the rest nor an end
            await asyncio.sleep(3600)
        return False
    if wish == "huge":
        piece = b"x" * (1 << 20)
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (65 << 20)
        )
        for _ in range(65):
            writer.write(piece)
            await writer.drain()
        return True
    if wish.startswith("hold "):
        await _held(made, path, row, said, reader, writer)
        return False
    if row.get("stream") or row.get("stream_format") == "sse":
        await _stream(made, path, row, said, writer)
    else:
        await _send(writer, whole(path, row, said))
    made.served[path] += 1
    return True


async def _send(writer: asyncio.StreamWriter, body: bytes, status: int = 200, headers: str = "") -> None:
    kind = "application/json" if body.startswith(b"{") else "audio/mpeg"
    framing = f"content-type: {kind}\r\ncontent-length: {len(body)}\r\n"
    writer.write(f"HTTP/1.1 {status} X\r\n{headers}{framing}\r\n".encode() + body)
    await writer.drain()


async def _held(
    made: Upstream,
    path: str,
    row: dict[str, Any],
    said: str,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """The beginning of a stream, then nothing until the other side leaves."""
    count, _, tenths = said.split()[1].partition(".")
    shown = [event.encode() for event in events(path, row, said)]
    data = b"".join(shown[: int(count)])
    if tenths:
        data += shown[int(count)][: len(shown[int(count)]) * int(tenths) // 10]
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    if data:
        writer.write(b"%x\r\n%s\r\n" % (len(data), data))
    await writer.drain()
    made.holding.add(said)
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    made.deserted.add(said)


async def _stream(
    made: Upstream, path: str, row: dict[str, Any], said: str, writer: asyncio.StreamWriter
) -> None:
    wish = said.partition(" #")[0]
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    for number, event in enumerate(events(path, row, said)):
        if wish.startswith("break ") and number == int(wish.split()[1]):
            writer.transport.abort()
            raise ConnectionResetError
        data = event.encode()
        writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await writer.drain()
        if made.delay_s:
            await asyncio.sleep(made.delay_s)
    writer.write(b"0\r\n\r\n")
    await writer.drain()
