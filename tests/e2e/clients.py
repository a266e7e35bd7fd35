"""HTTP clients for tests that see every byte: a crowd at once, one that leaves in mid-answer, one that drips."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from tests.serving import Endpoint
from tests.waiting import PATIENCE_S

PATHS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "embeddings": "/v1/embeddings",
}


class Answer(NamedTuple):
    """What a client got."""

    status: int
    """0 = the connection ended before a head came."""
    headers: Mapping[str, str]
    body: bytes
    """Without the framing of chunks; of a broken answer, what came."""
    whole: bool
    """It ended where it said it would."""

    @property
    def row(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """What the model said."""
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            return "".join(_said(event) for event in self.events)
        row = self.row
        if "content" in row:
            return "".join(part["text"] for part in row["content"])
        if "output" in row:
            return "".join(part["text"] for item in row["output"] for part in item.get("content", ()))
        choice = row["choices"][0]
        return str(choice["message"]["content"] if "message" in choice else choice["text"])

    @property
    def events(self) -> list[dict[str, Any]]:
        """The JSON events of a stream."""
        lines = self.body.decode().splitlines()
        data = [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]
        return [json.loads(one) for one in data if one != "[DONE]"]


def _said(event: dict[str, Any]) -> str:
    delta = event.get("delta")
    if isinstance(delta, str):  # responses
        return delta if event["type"] == "response.output_text.delta" else ""
    if isinstance(delta, dict):  # messages
        return str(delta.get("text", ""))
    choices = event.get("choices") or [{}]
    return str((choices[0].get("delta") or {}).get("content") or choices[0].get("text") or "")


def asked(surface: str, model: str, text: str, *, stream: bool = False, most: int | None = None) -> bytes:
    """The body of a call."""
    row: dict[str, Any] = {"model": model}
    if surface in ("chat", "messages"):
        row["messages"] = [{"role": "user", "content": text}]
    elif surface == "completions":
        row["prompt"] = text
    else:
        row["input"] = text
    if stream:
        row["stream"] = True
    if most is not None:
        row["max_output_tokens" if surface == "responses" else "max_tokens"] = most
    return json.dumps(row).encode()


def request(path: str, key: str, body: bytes, *headers: str) -> bytes:
    """A POST as it goes over the wire."""
    lines = [
        f"POST {path} HTTP/1.1",
        "host: baimo",
        f"authorization: Bearer {key}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Line(NamedTuple):
    """One connection of a client."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def post(self, path: str, key: str, body: bytes, *headers: str) -> Answer:
        """Send a call and read its answer."""
        self.writer.write(request(path, key, body, *headers))
        try:
            await self.writer.drain()
        except ConnectionError:
            return Answer(0, {}, b"", False)
        return await answered(self.reader)

    async def leave(self) -> None:
        """Break the connection."""
        self.writer.transport.abort()
        await asyncio.sleep(0)


@asynccontextmanager
async def line(endpoint: Endpoint) -> AsyncGenerator[Line]:
    """Connect."""
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port, limit=1 << 27)
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def post(endpoint: Endpoint, path: str, key: str, body: bytes, *headers: str) -> Answer:
    """One call on a connection of its own."""
    async with line(endpoint) as connected:
        return await connected.post(path, key, body, *headers)


async def crowd(endpoint: Endpoint, path: str, key: str, bodies: Sequence[bytes]) -> list[Answer]:
    """Everybody at once, each on a connection of its own that exists before the first call is sent."""
    ready = asyncio.Barrier(len(bodies))

    async def client(body: bytes) -> Answer:
        async with line(endpoint) as connected:
            await ready.wait()
            return await connected.post(path, key, body)

    return list(await asyncio.gather(*map(client, bodies)))


async def answered(reader: asyncio.StreamReader) -> Answer:
    """Read one answer; what is cut off is told, not raised."""
    async with asyncio.timeout(PATIENCE_S):
        try:
            status, headers = await _head(reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            return Answer(0, {}, b"", False)
        body = bytearray()
        try:
            if headers.get("transfer-encoding") == "chunked":
                while size := int(await reader.readuntil(b"\r\n"), 16):
                    body += (await reader.readexactly(size + 2))[:-2]
                await reader.readexactly(2)
            elif "content-length" in headers:
                body += await reader.readexactly(int(headers["content-length"]))
        except asyncio.IncompleteReadError as error:
            return Answer(status, headers, bytes(body + error.partial), False)
        except ConnectionError:
            return Answer(status, headers, bytes(body), False)
        return Answer(status, headers, bytes(body), True)


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    for field in lines[1:-2]:
        name, _, value = field.partition(":")
        headers[name.lower()] = value.strip()
    return int(lines[0].split()[1]), headers
