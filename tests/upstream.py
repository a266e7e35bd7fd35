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
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

TOKENS_IN, TOKENS_OUT = 24, 21
"""Usage of every answer."""
WORDS = ["The ", "quick ", "brown ", "fox ", "jumps."]


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
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
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
    assert ready.wait(10)
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
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
        row = json.loads(body) if body[:1] == b"{" else {}
        made.asked[path] += 1
        made.bodies.append(row)
        made.headers.append(headers)
        over.append(_wish(row))
        if made.delay_s:
            await asyncio.sleep(made.delay_s)
        if not await _answered(made, path, row, writer):
            return


async def _answered(made: Upstream, path: str, row: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
    """Answer one request; False = the connection is not to be used again."""
    said = _wish(row)
    wish = said.partition(" #")[0]
    if wish == "reset":
        writer.transport.abort()
        return False
    if wish == "stall":
        await asyncio.sleep(3600)
    if wish.startswith("status "):
        status, *after = wish.split()[1:]
        headers = f"retry-after: {after[0]}\r\n" if after else ""
        body = json.dumps({"error": {"message": f"told to say {status}"}}).encode()
        await _send(writer, body, int(status), headers)
        return True
    if wish == "lie short":  # more bytes than announced
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n"
            + _whole(path, row, said)
        )
        await writer.drain()
        return True
    if wish in ("lie long", "half", "half open"):
        body = _whole(path, row, said)
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
    if row.get("stream"):
        await _stream(made, path, row, said, writer)
    else:
        await _send(writer, _whole(path, row, said))
    made.served[path] += 1
    return True


async def _send(writer: asyncio.StreamWriter, body: bytes, status: int = 200, headers: str = "") -> None:
    framing = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
    writer.write(f"HTTP/1.1 {status} X\r\n{headers}{framing}\r\n".encode() + body)
    await writer.drain()


async def _stream(
    made: Upstream, path: str, row: dict[str, Any], said: str, writer: asyncio.StreamWriter
) -> None:
    wish = said.partition(" #")[0]
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    number = 0
    async for event in _events(path, row, said):
        if wish.startswith("break ") and number == int(wish.split()[1]):
            writer.transport.abort()
            raise ConnectionResetError
        data = event.encode()
        writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await writer.drain()
        if made.delay_s:
            await asyncio.sleep(made.delay_s)
        number += 1
    writer.write(b"0\r\n\r\n")
    await writer.drain()


def _wish(row: dict[str, Any]) -> str:
    messages = row.get("messages") or row.get("input") or row.get("prompt") or ""
    content: Any = messages[-1] if isinstance(messages, list) and messages else messages
    if isinstance(content, dict):
        content = content.get("content", "")
    if isinstance(content, list):
        content = " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content)


def _whole(path: str, row: dict[str, Any], wish: str) -> bytes:
    usage = {
        "prompt_tokens": TOKENS_IN,
        "completion_tokens": TOKENS_OUT,
        "total_tokens": TOKENS_IN + TOKENS_OUT,
    }
    if path.endswith("/messages"):
        counts = {"input_tokens": TOKENS_IN, "output_tokens": TOKENS_OUT}
        content = [{"type": "text", "text": f"echo: {wish}"}]
        facts = {"id": "msg_1", "type": "message", "role": "assistant", "model": row.get("model")}
        return json.dumps(
            {**facts, "content": content, "stop_reason": "end_turn", "stop_sequence": None, "usage": counts}
        ).encode()
    if path.endswith("/embeddings"):
        data = [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}]
        counts = {"prompt_tokens": TOKENS_IN, "total_tokens": TOKENS_IN}
        return json.dumps(
            {"object": "list", "data": data, "model": row.get("model"), "usage": counts}
        ).encode()
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "logprobs": None}
    if path.endswith("/chat/completions"):
        choice["message"] = {"role": "assistant", "content": f"echo: {wish}", "refusal": None}
        kind = "chat.completion"
    else:
        choice["text"], kind = f"echo: {wish}", "text_completion"
    facts = {"id": "chatcmpl-1", "object": kind, "created": 1, "model": row.get("model")}
    return json.dumps({**facts, "choices": [choice], "usage": usage}).encode()


async def _events(path: str, row: dict[str, Any], said: str) -> AsyncIterator[str]:
    words = [f"{word} " for word in said.split()[1:]] if said.startswith("say ") else WORDS
    if path.endswith("/messages"):
        facts = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": row.get("model"),
            "content": [],
        }
        start = {
            **facts,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": TOKENS_IN, "output_tokens": 1},
        }
        yield _named({"type": "message_start", "message": start})
        yield _named(
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        )
        for word in words:
            yield _named(
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
            )
        yield _named({"type": "content_block_stop", "index": 0})
        ended = {"stop_reason": "end_turn", "stop_sequence": None}
        yield _named({"type": "message_delta", "delta": ended, "usage": {"output_tokens": TOKENS_OUT}})
        yield _named({"type": "message_stop"})
        return
    chat = path.endswith("/chat/completions")
    facts = {"id": "chatcmpl-1", "created": 1, "model": row.get("model")}
    facts["object"] = "chat.completion.chunk" if chat else "text_completion"
    for word in words:
        choice: dict[str, Any] = {"index": 0, "finish_reason": None, "logprobs": None}
        choice |= {"delta": {"role": "assistant", "content": word}} if chat else {"text": word}
        yield f"data: {json.dumps({**facts, 'choices': [choice]})}\n\n"
    choice = {"index": 0, "finish_reason": "stop", **({"delta": {}} if chat else {"text": ""})}
    yield f"data: {json.dumps({**facts, 'choices': [choice]})}\n\n"
    if (row.get("stream_options") or {}).get("include_usage") and said != "no usage":
        usage = {
            "prompt_tokens": TOKENS_IN,
            "completion_tokens": TOKENS_OUT,
            "total_tokens": TOKENS_IN + TOKENS_OUT,
        }
        yield f"data: {json.dumps({**facts, 'choices': [], 'usage': usage})}\n\n"
    yield "data: [DONE]\n\n"


def _named(event: dict[str, Any]) -> str:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
