"""A server of scripted models on loopback, and workspaces that point at it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from aiohttp import web

from baimo.core.verdict import Forecast, Progress
from baimo.workspace.workspace import Workspace
from tests.waiting import PATIENCE_S

Reply = str | int | None
Behaviour = Callable[[str, int], Reply]
"""Last user message and number of the attempt → answer, HTTP status of a refusal, or None: the connection is reset."""


def skilled(share: float, seed: str) -> Behaviour:
    """Answers `a + b` rightly in about this share of the questions, always the same ones."""

    def answer(prompt: str, _: int) -> Reply:
        first, second = (int(word) for word in prompt.rstrip("?").split(" + "))
        right = random.Random(f"{seed}/{prompt}").random() < share
        return str(first + second if right else first + second + 1)

    return answer


def shaky(behaviour: Behaviour, rate: float) -> Behaviour:
    """The same model on a server where this share of the attempts goes wrong."""

    def answer(prompt: str, attempt: int) -> Reply:
        chance = random.Random(f"{prompt}/{attempt}")
        if chance.random() < rate:
            return chance.choice((429, 500, 503, None))
        return behaviour(prompt, attempt)

    return answer


def broken(status: int | None) -> Behaviour:
    """Never answers."""
    return lambda prompt, attempt: status


@dataclass
class Server:
    """Runs in a thread of its own; use it as a context manager."""

    models: dict[str, Behaviour]
    latency_s: float = 0.0
    key: str = ""
    port: int = 0
    attempts: Counter[tuple[str, str]] = field(default_factory=Counter)
    answered: Counter[tuple[str, str]] = field(default_factory=Counter)
    dies_after: int | None = None
    """Requests after which it resets every connection, as long as it is not None."""

    @property
    def requests(self) -> int:
        """How many arrived."""
        return self.attempts.total()

    @property
    def address(self) -> str:
        """Root of the API."""
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Server:
        ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(PATIENCE_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(PATIENCE_S)

    def _run(self, ready: threading.Event) -> None:
        async def serve() -> None:
            self._closing = asyncio.Event()
            app = web.Application(client_max_size=2**24)
            app.router.add_post("/v1/chat/completions", self._chat)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", self.port).start()
            self.port = runner.addresses[0][1]
            ready.set()
            await self._closing.wait()
            await runner.cleanup()

        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(serve())

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        model, prompt = body["model"], body["messages"][-1]["content"]
        attempt = self.attempts[model, prompt]
        self.attempts[model, prompt] += 1
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": {"message": "bad key", "code": "invalid_api_key"}}, status=401)
        await asyncio.sleep(self.latency_s)
        dead = self.dies_after is not None and self.requests > self.dies_after
        reply = None if dead else self.models[model](prompt, attempt)
        if reply is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if isinstance(reply, int):
            error = {"error": {"message": "scripted", "type": "server_error"}}
            return web.json_response(error, status=reply, headers={"Retry-After": "0.01"})
        self.answered[model, prompt] += 1
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": reply}}
        return web.json_response({"id": "1", "model": model, "choices": [choice], "usage": usage})


def write_task(folder: Path, *, examples: int = 60, scorer: str = 'name = "exact"', head: str = "") -> Path:
    """A task of sums."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.toml").write_text(
        f'name = "sums"\n[data]\nmetadata = ["parity"]\n{head}\n[[scorers]]\n{scorer}\n', encoding="utf-8"
    )
    with (folder / "test.jsonl").open("w", encoding="utf-8") as file:
        for number in range(examples):
            row = {"id": str(number), "input": f"{number} + {7 * number}?", "target": str(8 * number)}
            file.write(json.dumps({**row, "parity": "even" if number % 2 == 0 else "odd"}) + "\n")
    return folder


def write_settings(folder: Path, *servers: tuple[str, Server, str], prices: str = "") -> None:
    """baimo.toml with providers (name, server, further lines)."""
    lines: list[str] = []
    for name, server, more in servers:
        lines += [f"[providers.{name}]", f'base_url = "{server.address}"', "inside = true", more]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "baimo.toml").write_text("\n".join(lines) + "\n" + prices, encoding="utf-8")


def priced(*models: str, each: float = 1000.0) -> str:
    """Settings that make every prompt token cost `each` micro-units, and every generated one ten times that."""
    return "".join(
        f'[models."{model}"]\ninput_per_million = {each}\noutput_per_million = {10 * each}\n'
        for model in models
    )


@dataclass
class Listener:
    """A watcher that remembers."""

    notices: list[str] = field(default_factory=list)
    seen: list[Progress] = field(default_factory=list)
    planned: Forecast | None = None

    def forecast(self, forecast: Forecast) -> None:
        self.planned = forecast

    def progress(self, progress: Progress) -> None:
        self.seen.append(progress)

    def notice(self, message: str) -> None:
        self.notices.append(message)


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command line as a process of its own."""
    environment = {**os.environ, "BAIMO_LANG": "en", "NO_COLOR": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-m", "baimo", *arguments], cwd=folder, env=environment, **pipes)


def sent(workspace: Workspace, run: str | None = None) -> int:
    """How many requests the ledger says were sent."""
    return sum(record.attempts for record in workspace.store.records(run=run))
