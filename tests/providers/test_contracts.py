"""Every provider here keeps the promises that the platform relies on."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from provider_doubles import CANARY, Scripted, said, settings, vendor

from baimo.core.call import Provider, Request
from baimo.providers.anthropic import AnthropicProvider
from baimo.providers.factory import provider
from baimo.providers.fake import FakeProvider
from baimo.providers.openai import OpenAIProvider
from baimo.testing.provider_contract import ProviderContract


class Echoing(ProviderContract):
    """A model that repeats the question, and refuses to talk about the weather."""

    secret = CANARY

    def expected(self, prompt: str) -> str:
        return prompt

    def refused(self) -> Request:
        return self.request("weather")


async def openai_echo(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    prompt = body["messages"][-1]["content"]
    if prompt == "weather":
        return web.json_response({"error": {"message": f"no weather for {request.headers}"}}, status=400)
    if not body.get("stream"):
        return web.json_response(said(prompt))
    chunks = [{"choices": [{"delta": {"content": letter}}]} for letter in prompt]
    last = {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": said()["usage"]}
    return await _events(request, [*chunks, last, "[DONE]"])


async def anthropic_echo(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    prompt = body["messages"][-1]["content"][0]["text"]
    usage = {"input_tokens": 3, "output_tokens": 2}
    if prompt == "weather":
        return web.json_response(
            {"type": "error", "error": {"message": f"no: {request.headers}"}}, status=400
        )
    if not body.get("stream"):
        content = [{"type": "text", "text": prompt}]
        return web.json_response({"content": content, "stop_reason": "end_turn", "usage": usage})
    deltas = [
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": letter}} for letter in prompt
    ]
    start = {"type": "message_start", "message": {"usage": usage}}
    end = [{"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, {"type": "message_stop"}]
    return await _events(request, [start, *deltas, *end])


async def _events(request: web.Request, events: list[Any]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for event in events:
        data = event if isinstance(event, str) else json.dumps(event)
        await response.write(f"data: {data}\n\n".encode())
    return response


class TestOpenAI(Echoing):
    @asynccontextmanager
    async def providing(self) -> AsyncGenerator[Provider, None]:
        async with Scripted(openai_echo).running() as url:
            built = OpenAIProvider(vendor(), settings(f"{url}/v1", concurrency=4))
            yield built
            await built.aclose()


class TestAnthropic(Echoing):
    @asynccontextmanager
    async def providing(self) -> AsyncGenerator[Provider, None]:
        async with Scripted(anthropic_echo).running() as url:
            built = AnthropicProvider(vendor("anthropic"), settings(url, concurrency=4))
            yield built
            await built.aclose()


class TestFake(Echoing):
    @asynccontextmanager
    async def providing(self) -> AsyncGenerator[Provider, None]:
        table = {prompt: prompt for prompt in self.prompts}
        yield FakeProvider(vendor("fake"), settings(options={"table": table}, concurrency=4))


class TestReplay(Echoing):
    @pytest.fixture(autouse=True)
    def recording(self, tmp_path: Path) -> None:
        self.path = tmp_path / "recording.jsonl"
        rows = [{"model": self.model, "prompt": prompt, "reply": prompt} for prompt in self.prompts]
        self.path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    @asynccontextmanager
    async def providing(self) -> AsyncGenerator[Provider, None]:
        built = provider(vendor("replay"), settings(options={"file": str(self.path)}))
        yield built
        await built.aclose()
