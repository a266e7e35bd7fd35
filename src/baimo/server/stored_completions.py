"""Chat completions that were stored: read, listed, labelled, forgotten. Their hot route is in `hot`.

A completion is stored when its request says `store: true` and its tenant keeps what is said (`keep_contents`).
Source: developers.openai.com/api/reference/resources/chat (stored completions), and the official SDK 3.54.
"""

from __future__ import annotations

import asyncio
import re
from itertools import islice
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from baimo.errors import CallRefused, NotFound
from baimo.providers.openai_reply import fields, items
from baimo.server.batches import metadata
from baimo.server.evals_wire import page_row
from baimo.server.files import cursor, number, permitted
from baimo.server.replies import json_response, service_of
from baimo.server.surfaces.given import Given
from baimo.store.audit import Actor
from baimo.store.completions import StoredCompletion
from baimo.store.contents import Contents
from baimo.workspace.eval_sampling import said

_LABEL = re.compile(r"metadata\[([^\]]+)\]")
_ROOT = "/v1/chat/completions"


def routes() -> list[BaseRoute]:
    """The routes beside `POST /v1/chat/completions`."""
    return [
        Route(_ROOT, _listed, methods=["GET"]),
        Route(f"{_ROOT}/{{id}}", _retrieved, methods=["GET"]),
        Route(f"{_ROOT}/{{id}}", _labelled, methods=["POST"]),
        Route(f"{_ROOT}/{{id}}", _deleted, methods=["DELETE"]),
        Route(f"{_ROOT}/{{id}}/messages", _messages, methods=["GET"]),
    ]


def completion_row(one: StoredCompletion) -> dict[str, Any]:
    """A stored completion as OpenAI describes it: the answer, what it was asked with, and its labels."""
    asked = ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "tools", "tool_choice")
    given = {name: one.request.get(name) for name in (*asked, "response_format")}
    return {**given, **one.answer, "object": "chat.completion", "id": one.id, "metadata": dict(one.labels)}


async def _listed(request: Request) -> Response:
    tenant = await _tenant(request)
    limit = number(request, "limit", usual=20, most=100)
    order = request.query_params.get("order", "asc")
    if order not in ("asc", "desc"):
        raise CallRefused("files.wrong_value", field="order", got=order[:40], expected="asc | desc")
    labels = {
        match[1]: value
        for name, value in request.query_params.items()
        if (match := _LABEL.fullmatch(name)) is not None
    }

    def found() -> list[StoredCompletion]:
        walk = service_of(request).completions.walk(
            tenant,
            after=request.query_params.get("after", ""),
            ascending=order == "asc",
            model=request.query_params.get("model", ""),
            labels=labels,
        )
        return list(islice(walk, limit + 1))

    rows = [completion_row(one) for one in await asyncio.to_thread(found)]
    return json_response(page_row(rows, limit))


async def _retrieved(request: Request) -> Response:
    return json_response(completion_row(await _completion(request)))


async def _labelled(request: Request) -> Response:
    one = await _completion(request)
    tenant = await _tenant(request)
    labels = metadata(Given.body(await request.body()))
    await asyncio.to_thread(service_of(request).completions.label, tenant, one.id, labels)
    return json_response({**completion_row(one), "metadata": labels})


async def _deleted(request: Request) -> Response:
    one, service = await _completion(request), service_of(request)
    key, tenant = permitted(request, "chat")

    contents, by = Contents(service.workspace.store.database), Actor(tenant, key.public)
    await asyncio.to_thread(contents.forget, tenant=tenant, record=one.record, by=by)
    return json_response({"object": "chat.completion.deleted", "id": one.id, "deleted": True})


async def _messages(request: Request) -> Response:
    one = await _completion(request)
    limit = number(request, "limit", usual=20, most=100)
    turns = [
        _message_row(one.id, place, fields(row))
        for place, row in enumerate(items(one.request.get("messages")))
    ]
    if request.query_params.get("order", "asc") == "desc":
        turns.reverse()
    after = cursor(request, f"{one.id}-")
    ids = [turn["id"] for turn in turns]
    begin = 0 if not after else ids.index(after) + 1 if after in ids else len(ids)
    return json_response(page_row(turns[begin : begin + limit + 1], limit))


def _message_row(id: str, place: int, row: Any) -> dict[str, Any]:
    content = row.get("content")
    parts = [fields(part) for part in items(content)] if isinstance(content, list) else None
    return {
        "refusal": None,
        "name": None,
        **row,
        "id": f"{id}-{place}",
        "content": said(row) if content is not None else None,
        "content_parts": parts,
    }


async def _completion(request: Request) -> StoredCompletion:
    tenant, id = await _tenant(request), str(request.path_params["id"])
    one = await asyncio.to_thread(service_of(request).completions.get, tenant, id)
    if one is None:
        raise NotFound("evaluations.unknown_completion", id=id[:100])
    return one


async def _tenant(request: Request) -> str:
    """Whose completions may be seen. What this process has just answered is moved to where they are looked for."""
    _, tenant = permitted(request, "chat")
    await asyncio.to_thread(service_of(request).books.flush)
    return tenant
