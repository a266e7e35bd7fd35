"""OpenAI's Batches API, and who answers them: what it asks is asked as a client of this server asks it.

Source: developers.openai.com/api/reference/resources/batches.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from time import monotonic
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from baimo.core.call import Usage
from baimo.core.tenant import DataClass, Key
from baimo.errors import BaimoError, CallRefused, Conflict, NotFound, StoreError, TooLarge
from baimo.gateway.batch_input import MOST_BYTES, Line
from baimo.gateway.batch_work import LIVES_S, Tools
from baimo.gateway.batches import crew
from baimo.gateway.call import Call
from baimo.gateway.collected import Collected
from baimo.gateway.idle import Gate, Room
from baimo.gateway.policy import CLASS_HEADER, data_class
from baimo.gateway.surface import Counts, Surface
from baimo.server.files import class_of, classed, cursor, lifetime, listing, number, permitted
from baimo.server.replies import json_response, service_of
from baimo.server.surfaces.given import Given
from baimo.server.surfaces.responses_memory import Remembering, begun
from baimo.server.surfaces.table import surfaces
from baimo.server.surfaces.told import told
from baimo.settings import AT_ONCE, ProviderSettings
from baimo.store.batches import Batch, LineError
from baimo.workspace.serving import Service

ENDPOINTS = (
    *("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages"),
    "/v1/moderations",
)
WINDOW_MS = 24 * 3_600_000
BESIDE = 4
"""Lines of batches that a model of this machine computes together: an arriving caller waits for no more than these."""
_HERE = frozenset({"local", "vllm"})
_JSON: Mapping[bytes, bytes] = {b"content-type": b"application/json"}
_TIMES = ("in_progress", "expires", "finalizing", "cancelling")


def routes() -> list[BaseRoute]:
    """The routes of batches."""
    return [
        Route("/v1/batches", _created, methods=["POST"]),
        Route("/v1/batches", _listed, methods=["GET"]),
        Route("/v1/batches/{id}", _retrieved, methods=["GET"]),
        Route("/v1/batches/{id}/cancel", _cancelled, methods=["POST"]),
    ]


def batch_row(batch: Batch) -> dict[str, Any]:
    """A batch as OpenAI describes it."""
    ended = {
        f"{name}_at": batch.ended_ms // 1000 if batch.status == name else None
        for name in ("completed", "failed", "expired", "cancelled")
    }
    done = not batch.active
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model or None,
        "errors": {"object": "list", "data": [_error_row(one) for one in batch.errors]}
        if batch.errors
        else None,
        "input_file_id": batch.input_file,
        "completion_window": "24h",
        "status": batch.status,
        "output_file_id": (done and batch.output_file) or None,
        "error_file_id": (done and batch.error_file) or None,
        "created_at": batch.created_ms // 1000,
        **{f"{name}_at": getattr(batch, f"{name}_ms") // 1000 or None for name in _TIMES},
        **ended,
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "usage": {
            "input_tokens": batch.tokens_in,
            "input_tokens_details": {"cached_tokens": batch.tokens_cached},
            "output_tokens": batch.tokens_out,
            "output_tokens_details": {"reasoning_tokens": batch.tokens_reasoning},
            "total_tokens": batch.tokens_in + batch.tokens_out,
        },
        "metadata": dict(batch.metadata) or None,
    }


@contextlib.asynccontextmanager
async def running(service: Service) -> AsyncGenerator[None]:
    """Batches are worked on meanwhile."""
    working = crew(_tools(service))
    service.on_batch = working.nudge
    working.start()
    try:
        yield
    finally:
        await working.stop(service.settings.serve.drain_s)


def _tools(service: Service) -> Tools:
    table = surfaces()

    async def ask(batch: Batch, line: Line, request_id: str, reply: Collected) -> None:
        key, tenant = await service.keyring.ordered_by(batch.key)
        surface, body, headers = table[batch.endpoint], line.body, _headers(batch.data_class)
        remembering: Remembering | None = None
        if batch.endpoint == "/v1/responses":
            data = data_class(service.settings.policy, key, tenant, headers)
            try:
                turn = await begun(body, service.responses, tenant=tenant.id, key=key.public, data_class=data)
            except StoreError as error:
                raise told(error) from None
            body, headers = turn.body, _headers(turn.data_class)
            remembering = Remembering(reply, turn, service.responses) if turn.kept else None
        await service.gateway.serve(
            Call(
                surface=surface,
                body=body,
                headers=headers,
                key=key,
                tenant=tenant,
                reply=remembering or reply,
                began=monotonic(),
                request_id=request_id,
                batch=batch.id,
            )
        )
        if remembering is not None:
            await remembering.settled()

    def vendors(batch: Batch, name: str) -> frozenset[str]:
        try:
            key, _ = service.keyring.standing(batch.key)
        except BaimoError:
            return frozenset()
        return frozenset(model.vendor for model in service.parts.router.behind(name, key))

    def usage(endpoint: str, body: bytes) -> Usage | Counts | None:
        surface: Surface = table[endpoint]
        return surface.seen(body).usage

    return Tools(
        service.batches,
        service.files,
        Gate(service.gateway.waited_for, lambda vendor: room(service, vendor)),
        service.books.holder,
        ask,
        vendors,
        usage,
        lambda: int(service.settings.serve.max_body_mib * 1024 * 1024),
    )


def room(service: Service, vendor: str) -> Room:
    """What may be taken of a vendor now by what can wait."""
    settings = service.settings
    concurrency = settings.providers.get(vendor, ProviderSettings()).concurrency or AT_ONCE
    share = max(1, int(concurrency * settings.serve.batch_share))
    here = vendor in _HERE or service.catalogue.vendor(vendor).protocol in _HERE
    return Room(concurrency, min(share, BESIDE) if here else share, here)


async def _created(request: Request) -> Response:
    key, tenant = permitted(request, "batches")
    given = Given.body(await request.body())
    service = service_of(request)
    endpoint, window = given.needed("endpoint"), given.needed("completion_window")
    if endpoint not in ENDPOINTS:
        known = ", ".join(ENDPOINTS)
        raise CallRefused("batches.endpoint", field="endpoint", endpoint=endpoint[:100], known=known)
    if window != "24h":
        raise CallRefused("batches.window", field="completion_window", got=window[:40])
    id = given.needed("input_file_id")
    file = await asyncio.to_thread(service.files.get, tenant, id)
    if file is None:
        raise NotFound("files.unknown", id=id[:100])
    if file.purpose != "batch":
        raise CallRefused("batches.not_batch", field="input_file_id", id=file.id, purpose=file.purpose)
    if file.bytes > MOST_BYTES:
        raise TooLarge("batches.too_long", bytes=file.bytes, limit=MOST_BYTES)
    after = given.object("output_expires_after")
    lives_s = LIVES_S
    if after is not None:
        lives_s = lifetime(after.row.get("anchor"), after.row.get("seconds"), "output_expires_after")
    batch = ordered(service, key, tenant, endpoint=endpoint, input_file=file.id, metadata=metadata(given))
    batch = replace(batch, output_lives_s=lives_s, data_class=classed(request, class_of(service, file)))
    # however soon the client wanted it deleted: not before its lines were asked
    await asyncio.to_thread(service.files.extend, tenant, file.id, batch.expires_ms + WINDOW_MS)
    await asyncio.to_thread(service.batches.add, batch)
    service.on_batch()
    return json_response(batch_row(batch))


def ordered(
    service: Service,
    key: Key,
    tenant: str,
    *,
    endpoint: str,
    input_file: str,
    metadata: Mapping[str, str] | None = None,
) -> Batch:
    """A new batch."""
    now_ms = service.batches.now_ms()
    return Batch(
        id=service.batches.new_id(),
        tenant=tenant,
        key=key.public,
        endpoint=endpoint,
        input_file=input_file,
        metadata=metadata or {},
        created_ms=now_ms,
        expires_ms=now_ms + WINDOW_MS,
    )


def _headers(data: DataClass) -> Mapping[bytes, bytes]:
    return {**_JSON, CLASS_HEADER: data.encode()}


def metadata(given: Given) -> dict[str, str]:
    """The labels of a body.

    Raises:
        CallRefused: there are too many, or they are too long, or no text.
    """
    labels = given.object("metadata")
    row = {} if labels is None else dict(labels.row)
    fits = len(row) <= 16 and all(
        len(name) <= 64 and isinstance(value, str) and len(value) <= 512 for name, value in row.items()
    )
    if not fits:
        raise CallRefused("batches.metadata", field="metadata")
    return row


async def _listed(request: Request) -> Response:
    _, tenant = permitted(request, "batches")
    limit = number(request, "limit", usual=20, most=100)
    found = await asyncio.to_thread(
        service_of(request).batches.page,
        tenant,
        surface="batches",
        limit=limit + 1,
        after=cursor(request, "batch_"),
    )
    return json_response(listing([batch_row(batch) for batch in found], limit))


async def _retrieved(request: Request) -> Response:
    return json_response(batch_row(await found(request, "batches")))


async def _cancelled(request: Request) -> Response:
    batch = await cancelled(request, "batches")
    return json_response(batch_row(batch))


async def found(request: Request, surface: str) -> Batch:
    """The batch that the path names.

    Raises:
        NotFound: there is none, or it is another tenant's.
    """
    _, tenant = permitted(request, "batches")
    id = str(request.path_params["id"])
    batch = await asyncio.to_thread(service_of(request).batches.get, tenant, id)
    if batch is None or batch.surface != surface:
        raise NotFound("batches.unknown", id=id[:100])
    return batch


async def cancelled(request: Request, surface: str) -> Batch:
    """The batch that the path names, after it was told to stop.

    Raises:
        NotFound: there is none, or it is another tenant's.
        Conflict: it has ended.
    """
    batch = await found(request, surface)
    service = service_of(request)
    now_ms = service.batches.now_ms()

    def stopped(one: Batch) -> Batch:
        if one.status not in ("validating", "in_progress"):
            return one
        return replace(one, status="cancelling", cancelling_ms=now_ms)

    after = await asyncio.to_thread(service.batches.change, batch.tenant, batch.id, stopped)
    if after is None:
        raise NotFound("batches.unknown", id=batch.id)
    if not after.active:
        raise Conflict("batches.ended", id=after.id, status=after.status)
    service.on_batch()
    return after


def _error_row(error: LineError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "line": error.line, "param": error.param}
