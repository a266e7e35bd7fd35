"""A scripted HTTP server on loopback, and short ways to make requests and providers."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import web

from baimo.core.call import Request
from baimo.core.message import Message
from baimo.core.model import Vendor
from baimo.settings import ProviderSettings

KEY_VARIABLE = "BAIMO_TEST_PROVIDER_KEY"
CANARY = "sk-canary-5b1c0de-never-shown"


class Seen(NamedTuple):
    """A request as the server saw it."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: dict[str, Any]


Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Scripted:
    """Answers the first request with the first answer and so on; the last one holds for all that follow."""

    def __init__(self, *answers: Answering) -> None:
        self.answers = answers
        self.seen: list[Seen] = []

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[str, None]:
        """Serve on a random port; yields the address."""
        app = web.Application()
        app.router.add_post("/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.5)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        row = Seen(request.path, dict(request.query), dict(request.headers), await request.json())
        self.seen.append(row)
        return await self.answers[min(len(self.seen), len(self.answers)) - 1](request)


def says(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answering:
    """An answer in JSON, or as the text given."""

    async def answer(request: web.Request) -> web.StreamResponse:
        text = data if isinstance(data, str) else json.dumps(data)
        return web.Response(text=text, status=status, headers=headers, content_type="application/json")

    return answer


def streams(*events: dict[str, Any] | str, named: bool = False, cut: bool = False) -> Answering:
    """An event stream; `named` puts each event's type before it, `cut` drops the connection at the end."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for event in events:
            data = event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)
            kind = f"event: {event['type']}\n" if named and isinstance(event, dict) else ""
            await response.write(f"{kind}data: {data}\n\n".encode())
        if cut:
            assert request.transport is not None
            request.transport.close()
        return response

    return answer


def said(text: str = "hello", **more: Any) -> dict[str, Any]:
    """A chat completion."""
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "c1", "model": "m-2026", "choices": [choice], "usage": usage, **more}


def asked(prompt: str = "hi", **more: Any) -> Request:
    """A request for the model m."""
    return Request(model="m", messages=(Message(role="user", content=prompt),), **more)


def vendor(protocol: str = "openai", **more: Any) -> Vendor:
    """A vendor called acme whose key is in KEY_VARIABLE."""
    return Vendor(name="acme", title="Acme", protocol=protocol, key_variable=KEY_VARIABLE, **more)


def settings(base_url: str = "", **more: Any) -> ProviderSettings:
    """Settings with this address."""
    return ProviderSettings(base_url=base_url, **more)
