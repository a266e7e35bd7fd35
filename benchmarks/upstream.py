"""An OpenAI-compatible server on loopback that answers as recorded models did, and misbehaves on request.

    python benchmarks/upstream.py --replies replies.jsonl.gz --prompts prompts.jsonl --port 0 --latency-ms 20 \
        --faults 0.05 --seed 1 --log served.jsonl

Prints its port on the first line of stdout. Replies are rows {model, id, reply}; prompts are rows {id, prompt,
question}. An example is recognised by the text of the last user message: the prompt, the question, or a text that
contains one of them. Faults are a function of (seed, model, example, attempt). Every request is appended to the log
when it arrives, before it is answered, so that a killed client can be checked for what it bought:
{"model", "example", "attempt", "outcome", "stream", "at_ms"}. `GET /stats` counts the same.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from aiohttp import web

FAULTS = ("429", "500", "truncated", "malformed", "reset", "slow")


@dataclass
class Board:
    """Recorded models, and what was asked of them."""

    replies: dict[tuple[str, str], str]
    examples: dict[str, str]
    seed: int = 0
    faults: float = 0.0
    latency_s: float = 0.0
    slow_s: float = 2.0
    log: IO[str] | None = None
    attempts: Counter[tuple[str, str]] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)

    def example(self, prompt: str) -> str | None:
        """The example that a prompt asks about."""
        found = self.examples.get(prompt.strip())
        if found is None:
            found = next((name for known, name in self.examples.items() if known in prompt), None)
        return found

    def outcome(self, model: str, example: str, *, stream: bool) -> str:
        """What this request gets: ok or a fault; counted and logged at once."""
        attempt = self.attempts[model, example]
        self.attempts[model, example] += 1
        chance = random.Random(f"{self.seed}/{model}/{example}/{attempt}")
        outcome = chance.choice(FAULTS) if chance.random() < self.faults else "ok"
        self.outcomes[outcome] += 1
        if self.log is not None:
            row = {
                "model": model,
                "example": example,
                "attempt": attempt,
                "outcome": outcome,
                "stream": stream,
            }
            self.log.write(json.dumps({**row, "at_ms": int(time.time() * 1000)}) + "\n")
            self.log.flush()
        return outcome


BOARD = web.AppKey("board", Board)


def application(board: Board) -> web.Application:
    """The server, to be run alone or inside a test."""
    app = web.Application(client_max_size=32 * 1024 * 1024)
    app[BOARD] = board
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_get("/v1/models", models)
    app.router.add_get("/stats", stats)
    return app


async def models(request: web.Request) -> web.Response:
    """The recorded models."""
    names = sorted({model for model, _ in request.app[BOARD].replies})
    rows = [{"id": name, "object": "model", "created": 0, "owned_by": "recorded"} for name in names]
    return web.json_response({"object": "list", "data": rows})


async def stats(request: web.Request) -> web.Response:
    """How often each cell was asked for, and what became of it."""
    board = request.app[BOARD]
    return web.json_response(
        {
            "requests": sum(board.attempts.values()),
            "cells": len(board.attempts),
            "outcomes": dict(board.outcomes),
            "repeated": {f"{model} {example}": n for (model, example), n in board.attempts.items() if n > 1},
        }
    )


async def chat(request: web.Request) -> web.StreamResponse:
    """One chat completion."""
    board = request.app[BOARD]
    try:
        body = await request.json()
        model, prompt = body["model"], last_user_text(body["messages"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return refusal(400, "invalid_request_error", "the body is no chat completion request")
    example = board.example(prompt)
    if example is None:
        return refusal(400, "prompt_not_recorded", "this prompt contains no recorded question")
    reply = board.replies.get((model, example))
    if reply is None:
        return refusal(404, "model_not_found", f"the model {model!r} has no reply to {example}")
    outcome = board.outcome(model, example, stream=bool(body.get("stream")))
    await asyncio.sleep(board.slow_s if outcome == "slow" else board.latency_s)
    if outcome == "429":
        return refusal(429, "rate_limit_exceeded", "slow down", {"Retry-After": "0.2"})
    if outcome == "500":
        return refusal(500, "server_error", "something broke")
    if outcome == "reset":
        assert request.transport is not None
        request.transport.abort()
        return web.Response()
    if outcome == "malformed":
        return web.Response(body=b'{"choices": [{"message": {"content": "un', content_type="application/json")
    answer = completion(model, prompt, reply)
    if body.get("stream"):
        usage = bool((body.get("stream_options") or {}).get("include_usage"))
        return await streamed(request, answer, reply, usage=usage, cut=outcome == "truncated")
    if outcome == "truncated":
        return await truncated(request, json.dumps(answer).encode())
    return web.json_response(answer)


async def truncated(request: web.Request, body: bytes) -> web.StreamResponse:
    """Half of what the headers promise."""
    response = web.StreamResponse(
        headers={"Content-Type": "application/json", "Content-Length": str(len(body))}
    )
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    assert request.transport is not None
    request.transport.close()
    return response


async def streamed(
    request: web.Request, answer: dict[str, Any], reply: str, *, usage: bool, cut: bool
) -> web.StreamResponse:
    """The same answer as server-sent events of 32 characters each."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    pieces = [reply[start : start + 32] for start in range(0, len(reply), 32)]
    for piece in pieces[: len(pieces) // 2] if cut else pieces:
        await response.write(
            event(answer, [{"index": 0, "delta": {"content": piece}, "finish_reason": None}])
        )
    if cut:
        await response.write_eof()  # an orderly end of the body, but not of the answer
        return response
    await response.write(event(answer, [{"index": 0, "delta": {}, "finish_reason": "stop"}]))
    if usage:
        await response.write(event(answer, [], usage=answer["usage"]))
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


def event(answer: dict[str, Any], choices: list[dict[str, Any]], **more: Any) -> bytes:
    """One chunk."""
    chunk = {"id": answer["id"], "object": "chat.completion.chunk", "created": 0, "model": answer["model"]}
    return f"data: {json.dumps({**chunk, 'choices': choices, **more})}\n\n".encode()


def completion(model: str, prompt: str, reply: str) -> dict[str, Any]:
    """A whole answer; four bytes count as a token."""
    counts = [max(1, len(text.encode()) // 4) for text in (prompt, reply)]
    usage = {"prompt_tokens": counts[0], "completion_tokens": counts[1], "total_tokens": sum(counts)}
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": reply}}
    head = {"id": "chatcmpl-recorded", "object": "chat.completion", "created": 0, "model": model}
    return {**head, "choices": [choice], "usage": usage}


def refusal(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    """An error as OpenAI words it."""
    kind = "invalid_request_error" if status < 429 else code
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return web.json_response(body, status=status, headers=headers)


def last_user_text(messages: list[dict[str, Any]]) -> str:
    """The text of the last user message, whether plain or in parts."""
    content = next(message["content"] for message in reversed(messages) if message["role"] == "user")
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def rows(path: Path) -> list[dict[str, Any]]:
    """A file of JSON lines, gzipped or not."""
    with (
        gzip.open(path, "rt", encoding="utf-8")
        if path.suffix == ".gz"
        else path.open(encoding="utf-8") as file
    ):
        return [json.loads(line) for line in file]


def board(replies: Path, prompts: Path, **settings: Any) -> Board:
    """The recorded models of two files."""
    examples: dict[str, str] = {}
    for row in rows(prompts):
        for name in ("prompt", "question"):
            if row.get(name):
                examples.setdefault(row[name].strip(), row["id"])
    answers = {(row["model"], row["id"]): row["reply"] for row in rows(replies)}
    return Board(replies=answers, examples=examples, **settings)


async def serve(app: web.Application, port: int) -> None:
    """Run on loopback until interrupted."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--replies", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=20)
    parser.add_argument("--slow-ms", type=float, default=2000)
    parser.add_argument("--faults", type=float, default=0.0, help="share of requests that go wrong")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path)
    given = parser.parse_args()
    log = given.log.open("a", encoding="utf-8") if given.log else None
    timing = {"latency_s": given.latency_ms / 1000, "slow_s": given.slow_ms / 1000}
    recorded = board(given.replies, given.prompts, seed=given.seed, faults=given.faults, log=log, **timing)
    try:
        asyncio.run(serve(application(recorded), given.port))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
