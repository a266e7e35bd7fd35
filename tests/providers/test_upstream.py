"""The recorded server of the benchmarks: judged by the official SDK, and by our own provider through all its faults."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import openai
import pytest
from aiohttp import ClientSession, web
from provider_doubles import asked, settings, vendor

from baimo.core.call import Completion, Request
from baimo.errors import BadReply, RequestRefused
from baimo.providers.openai import OpenAIProvider
from baimo.testing.clock import FakeClock

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "upstream.py"
MODELS, EXAMPLES = ("alpha", "beta"), tuple(f"ex-{number}" for number in range(40))


@pytest.fixture(scope="module")
def upstream() -> ModuleType:
    spec = importlib.util.spec_from_file_location("upstream_benchmark", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    replies = [
        {"model": m, "id": e, "reply": f"{m} answers {e} {'百' * 50}"} for m in MODELS for e in EXAMPLES
    ]
    prompts = [
        {"id": e, "question": f"<{e}> what?", "prompt": f"Think. <{e}> what? Answer."} for e in EXAMPLES
    ]
    for name, rows in (("replies", replies), ("prompts", prompts)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "replies.jsonl", tmp_path / "prompts.jsonl"


@asynccontextmanager
async def serving(app: web.Application) -> AsyncGenerator[str, None]:
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


def question(example: str, model: str = "alpha") -> Request:
    return Request(model=model, messages=asked(f"Please: <{example}> what?").messages)


def test_the_official_sdk_is_served_whole_and_in_pieces(
    upstream: ModuleType, files: tuple[Path, Path]
) -> None:
    async def scenario() -> tuple[str, str, list[str], int]:
        async with serving(upstream.application(upstream.board(*files))) as url:
            client = openai.AsyncOpenAI(base_url=url, api_key="none")
            messages: Any = [{"role": "user", "content": "Think. <ex-3> what? Answer."}]
            whole = await client.chat.completions.create(model="beta", messages=messages)
            assert whole.usage is not None and whole.usage.completion_tokens > 40
            stream = await client.chat.completions.create(
                model="beta", messages=messages, stream=True, stream_options={"include_usage": True}
            )
            chunks = [chunk async for chunk in stream]
            pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
            assert chunks[-1].usage is not None
            with pytest.raises(openai.NotFoundError):
                await client.chat.completions.create(model="gamma", messages=messages)
            names = [model.id async for model in client.models.list()]
            await client.close()
            return (
                str(whole.choices[0].message.content),
                "".join(pieces),
                names,
                chunks[-1].usage.completion_tokens,
            )

    whole, pieces, names, tokens = asyncio.run(scenario())
    assert whole == pieces == f"beta answers ex-3 {'百' * 50}"
    assert names == list(MODELS) and tokens == len(whole.encode()) // 4


@pytest.mark.parametrize("streaming", [False, True])
def test_every_answer_arrives_through_faults_and_each_fault_is_the_same_every_time(
    upstream: ModuleType, files: tuple[Path, Path], streaming: bool
) -> None:
    async def scenario() -> tuple[list[str], dict[str, int]]:
        board = upstream.board(*files, seed=3, faults=0.4, slow_s=0.01)
        async with serving(upstream.application(board)) as url:
            provider = OpenAIProvider(vendor(), settings(url, retries=20, concurrency=8), clock=FakeClock())

            async def answer(example: str) -> str:
                if streaming:
                    return await patient(provider, question(example))
                return (await provider.complete(question(example))).text

            found = await asyncio.gather(*map(answer, EXAMPLES))
            await provider.aclose()
            return found, dict(board.outcomes)

    found, outcomes = asyncio.run(scenario())
    assert found == [f"alpha answers {example} {'百' * 50}" for example in EXAMPLES]
    assert set(outcomes) == {"ok", *upstream.FAULTS}
    again = asyncio.run(scenario())[1]
    assert again == outcomes


async def patient(provider: OpenAIProvider, request: Request) -> str:
    """A stream that broke off after its first piece is the caller's to ask for again."""
    while True:
        try:
            return "".join([delta.text async for delta in provider.stream(request)])
        except BadReply:
            continue


def test_what_is_not_recorded_is_refused(upstream: ModuleType, files: tuple[Path, Path]) -> None:
    async def scenario(request: Request) -> Completion:
        async with serving(upstream.application(upstream.board(*files))) as url:
            provider = OpenAIProvider(vendor(), settings(url))
            try:
                return await provider.complete(request)
            finally:
                await provider.aclose()

    for request in (asked("something else"), question("ex-1", "gamma")):
        with pytest.raises(RequestRefused):
            asyncio.run(scenario(request))


@pytest.fixture
def process(files: tuple[Path, Path], tmp_path: Path) -> Iterator[tuple[str, Path]]:
    log = tmp_path / "served.jsonl"
    given = ["--replies", files[0], "--prompts", files[1], "--log", log, "--latency-ms", 0]
    child = subprocess.Popen([sys.executable, SCRIPT, *map(str, given)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(child.stdout.readline())}/v1", log
    finally:
        child.stdout.close()
        os.kill(child.pid, signal.SIGKILL)
        child.wait()


def test_the_log_of_a_killed_server_names_every_request_once(process: tuple[str, Path]) -> None:
    url, log = process

    async def scenario() -> dict[str, Any]:
        provider = OpenAIProvider(vendor(), settings(url))
        requests = [question(example, model) for model in MODELS for example in EXAMPLES]
        await asyncio.gather(*map(provider.complete, [*requests, requests[0]]))
        await provider.aclose()
        async with ClientSession() as session, session.get(url.replace("/v1", "/stats")) as response:
            return await response.json()

    stats = asyncio.run(scenario())
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    counts = Counter((row["model"], row["example"]) for row in rows)
    assert stats == {"requests": 81, "cells": 80, "outcomes": {"ok": 81}, "repeated": {"alpha ex-0": 2}}
    assert len(rows) == 81 and len(counts) == 80 and counts["alpha", "ex-0"] == 2


def test_the_public_recordings_are_served(upstream: ModuleType, shared_data: Path) -> None:
    names = ("zeroeval_crux_replies.jsonl.gz", "zeroeval_crux_prompts.jsonl")
    board = upstream.board(*(shared_data / name for name in names))
    assert len({model for model, _ in board.replies}) == 51
    prompts = upstream.rows(shared_data / names[1])
    assert all(
        board.example(row["prompt"]) == board.example(row["question"]) == row["id"] for row in prompts[:100]
    )
