"""How the models of an evaluation are asked: as clients of this server ask them, a few at a time, again where it helps.

Prevents two failures: a judge that is called past policy, budget and ledger (everything goes through the gateway), and
an evaluation that ends in errors because a model's server was full for a minute.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import msgspec

from baimo.core.call import Completion, Request, Usage
from baimo.errors import CallRefused
from baimo.evals.graders.grading import Embedded, Helpers
from baimo.gateway.idle import Gate
from baimo.providers.faults import Place
from baimo.providers.openai import chat_body
from baimo.providers.openai_reply import completion, count, fields, items, usage
from baimo.store.evaluation_runs import ModelTokens

CHAT, RESPONSES, EMBEDDINGS = "/v1/chat/completions", "/v1/responses", "/v1/embeddings"
EMBEDDER = "text-embedding-3-large"
"""Model that OpenAI's cosine compares by: a name that an installation may give to its own."""
PAUSES_S = (2.0, 10.0)
"""Before a call is made again whose server failed or could not be reached."""
LONGEST_PAUSE_S = 60.0
"""A limit that lets go later than this is an error."""
_PASSING = frozenset({502, 504})
_FULL = frozenset({429, 503})


class Said(NamedTuple):
    """An answer as a client gets it."""

    status: int
    body: bytes
    retry_after_s: float | None = None


Send = Callable[[str, bytes], Awaitable[Said]]
"""Sends a body to a path of this server's API in somebody's name; raises BaimoError when they may not ask any more."""


class Halted(Exception):
    """The run ends, or this process does: nothing is begun any more."""


class Line(NamedTuple):
    """The way to all models."""

    send: Send
    embedder: str = ""
    """Name of the model that embeds texts; empty = there is none."""
    gate: Gate | None = None
    """Who may begin; None = at once."""
    vendors: Callable[[str], frozenset[str]] = lambda name: frozenset()
    """Vendors of all models that may answer what asks for this name."""
    halted: Callable[[], bool] = lambda: False
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    """Waits, or until `halted`."""


class Asker:
    """Asks models for one row of data, and counts what that took."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.taken: dict[str, ModelTokens] = {}
        """Model → what it was asked."""

    @property
    def helpers(self) -> Helpers:
        """What graders need."""
        return Helpers(self.complete, self.embed if self._line.embedder else None)

    async def complete(self, request: Request) -> Completion:
        """The answer to a neutral request; fits `Ask`.

        Raises:
            CallRefused: there is none; says why.
        """
        body = {**chat_body(request)[0], **(request.extra or {})}
        data = await self.answer(CHAT, body)
        return completion(data, Place(host="", model=request.model, key=""))

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """Vectors of texts; fits `Embed`.

        Raises:
            CallRefused: there are none.
        """
        name = self._line.embedder
        data = await self.answer(
            EMBEDDINGS, {"model": name, "input": list(texts), "encoding_format": "float"}
        )
        rows = sorted(map(fields, items(data.get("data"))), key=lambda row: count(row.get("index")) or 0)
        vectors = [[float(value) for value in items(row.get("embedding"))] for row in rows]
        if len(vectors) != len(texts):
            raise CallRefused("evaluations.call_failed", status=200, code="bad_reply", problem="embeddings")
        return Embedded(vectors, name, used(data))

    async def answer(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The body of a good answer.

        Args:
            path: of the operation.
            body: its request; names the model.

        Raises:
            CallRefused: there is none; `facts` has `status` and `code`.
            Halted: it was not begun.
        """
        line, name = self._line, str(body.get("model", ""))
        sent = msgspec.json.encode(body)
        tries = 0
        while True:
            said = await self._said(line, name, path, sent)
            if said.status == 200:
                data = fields(msgspec.json.decode(said.body))
                self._count(name, used(data))
                return data
            pause_s = self._pause_s(said, tries)
            if pause_s is None:
                raise _refusal(said)
            tries += said.status in _PASSING
            await line.pause(pause_s)

    async def _said(self, line: Line, name: str, path: str, sent: bytes) -> Said:
        if line.gate is None:
            return await line.send(path, sent)
        vendors = line.vendors(name)
        if not await line.gate.enter(vendors, line.halted):
            raise Halted
        try:
            return await line.send(path, sent)
        finally:
            line.gate.leave(vendors)

    def _pause_s(self, said: Said, tries: int) -> float | None:
        """Seconds until it is asked again; None = the answer stands."""
        if self._line.gate is None or self._line.halted():
            return None
        if said.status in _FULL and said.retry_after_s is not None:
            return said.retry_after_s if said.retry_after_s <= LONGEST_PAUSE_S else None
        return PAUSES_S[tries] if said.status in _PASSING and tries < len(PAUSES_S) else None

    def _count(self, name: str, tokens: Usage) -> None:
        before = self.taken.get(name, ModelTokens(model=name))
        self.taken[name] = ModelTokens(
            model=name,
            calls=before.calls + 1,
            tokens_in=before.tokens_in + (tokens.tokens_in or 0),
            tokens_out=before.tokens_out + (tokens.tokens_out or 0),
            tokens_cached=before.tokens_cached + (tokens.tokens_cached or 0),
        )


def used(data: Mapping[str, Any]) -> Usage:
    """Tokens of an answer in either of OpenAI's spellings."""
    row = fields(data.get("usage"))
    if "input_tokens" in row:
        return Usage(
            tokens_in=count(row.get("input_tokens")),
            tokens_out=count(row.get("output_tokens")),
            tokens_cached=count(fields(row.get("input_tokens_details")).get("cached_tokens")),
        )
    return usage(row) or Usage(tokens_in=count(row.get("prompt_tokens")))


def _refusal(said: Said) -> CallRefused:
    try:
        error = fields(fields(json.loads(said.body)).get("error"))
    except ValueError:
        error = cast("Mapping[str, Any]", {})
    code = str(error.get("code") or error.get("type") or "server_error")
    problem = str(error.get("message") or said.status)
    return CallRefused("evaluations.call_failed", status=said.status, code=code, problem=problem)
