"""Anthropic's Message Batches API, on the same runner as OpenAI's batches.

Source: platform.claude.com/docs/en/api/creating-message-batches and the pages beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from baimo.core.tenant import DataClass, Key
from baimo.errors import CallRefused, Conflict, NotFound, TooLarge
from baimo.gateway.batch_input import MOST_BYTES, MOST_LINES
from baimo.server.batches import cancelled, found, ordered
from baimo.server.files import DAYS_30_S, classed, cursor, number, permitted
from baimo.server.replies import json_response, service_of
from baimo.server.surfaces import wirejson
from baimo.store.batches import Batch
from baimo.store.files import StoredFile
from baimo.typed import json_decoder
from baimo.workspace.serving import Service

ENDPOINT = "/v1/messages"
SURFACE = "message_batches"
LONGEST_ID = 64
_TOGETHER = 64


class _Params(msgspec.Struct):
    stream: bool | None = None


class _Asked(msgspec.Struct):
    custom_id: str
    params: msgspec.Raw


class _Order(msgspec.Struct):
    requests: list[_Asked]


class _Failure(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Answer(msgspec.Struct):
    status_code: int = 0
    body: msgspec.Raw = msgspec.Raw(b"{}")


class _Row(msgspec.Struct):
    id: str
    custom_id: str
    response: _Answer | None = None
    error: _Failure | None = None


_order = json_decoder(_Order)
_params = json_decoder(_Params)
_row = json_decoder(_Row)


def routes() -> list[BaseRoute]:
    """The routes of message batches."""
    place = "/v1/messages/batches"
    return [
        Route(place, _created, methods=["POST"]),
        Route(place, _listed, methods=["GET"]),
        Route(place + "/{id}", _retrieved, methods=["GET"]),
        Route(place + "/{id}", _deleted, methods=["DELETE"]),
        Route(place + "/{id}/cancel", _cancelled, methods=["POST"]),
        Route(place + "/{id}/results", _results, methods=["GET"]),
    ]


def batch_row(batch: Batch, address: str) -> dict[str, Any]:
    """A batch as Anthropic describes it.

    Args:
        batch: to be described.
        address: base address under which the client knows this server.
    """
    done = not batch.active
    never = batch.unexecuted if done else 0
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": "ended"
        if done
        else ("canceling" if batch.status == "cancelling" else "in_progress"),
        # all but `processing` are 0 until the whole batch has ended
        "request_counts": {
            "processing": 0 if done else batch.total,
            "succeeded": batch.completed if done else 0,
            "errored": batch.failed - never if done else 0,
            "canceled": never if batch.status == "cancelled" else 0,
            "expired": never if batch.status != "cancelled" else 0,
        },
        "created_at": _moment(batch.created_ms),
        "expires_at": _moment(batch.expires_ms),
        "ended_at": _moment(batch.ended_ms),
        "cancel_initiated_at": _moment(batch.cancelling_ms),
        "archived_at": None,
        "results_url": f"{address}v1/messages/batches/{batch.id}/results" if done else None,
    }


async def _created(request: Request) -> Response:
    key, tenant = permitted(request, "batches")
    service = service_of(request)
    body = await request.body()
    data = classed(request)
    asked = await asyncio.to_thread(_checked, body)
    file = await asyncio.to_thread(_written, service, key, tenant, asked, data)
    batch = ordered(service, key, tenant, endpoint=ENDPOINT, input_file=file.id)
    batch = replace(
        batch,
        data_class=data,
        id=service.batches.new_id("msgbatch"),
        surface=SURFACE,
        total=len(asked),
        output_lives_s=DAYS_30_S,
    )
    await asyncio.to_thread(service.batches.add, batch)
    service.on_batch()
    return _shown(request, batch)


def _checked(body: bytes) -> Sequence[_Asked]:
    asked = wirejson.read(_order, body).requests
    if not 1 <= len(asked) <= MOST_LINES:
        raise CallRefused("files.wrong_value", field="requests", got=len(asked), expected=f"1 … {MOST_LINES}")
    first: dict[str, int] = {}
    for place, one in enumerate(asked):
        if not 1 <= len(one.custom_id) <= LONGEST_ID:
            field = f"requests[{place}].custom_id"
            raise CallRefused("batches.line_custom_id_length", field=field, limit=LONGEST_ID)
        if first.setdefault(one.custom_id, place) != place:
            raise CallRefused(
                "batches.line_duplicate_custom_id", id=one.custom_id, first=first[one.custom_id] + 1
            )
        if wirejson.read(_params, bytes(one.params)).stream:
            raise CallRefused("batches.line_stream", field=f"requests[{place}].params.stream")
    return asked


def _written(service: Service, key: Key, tenant: str, asked: Sequence[_Asked], data: DataClass) -> StoredFile:
    incoming = service.files.incoming(tenant, MOST_BYTES)
    try:
        for one in asked:
            # line feeds between the tokens of JSON mean nothing, and within a string there are none
            params = bytes(one.params).replace(b"\n", b" ").replace(b"\r", b" ")
            name = msgspec.json.encode(one.custom_id)
            incoming.write(
                b'{"custom_id":%b,"method":"POST","url":"%b","body":%b}\n' % (name, ENDPOINT.encode(), params)
            )
        return service.files.keep(
            incoming,
            tenant=tenant,
            key=key.public,
            name="requests.jsonl",
            purpose="batch",
            lives_s=DAYS_30_S,
            data_class=data,
        )
    except TooLarge as error:
        raise TooLarge("batches.too_long", bytes=incoming.size, limit=MOST_BYTES) from error
    finally:
        incoming.abandon()


async def _listed(request: Request) -> Response:
    _, tenant = permitted(request, "batches")
    limit = number(request, "limit", usual=20, most=1000)
    before = cursor(request, "msgbatch_", "before_id")
    rows = await asyncio.to_thread(
        service_of(request).batches.page,
        tenant,
        surface=SURFACE,
        limit=limit + 1,
        after=cursor(request, "msgbatch_", "after_id"),
        before=before,
    )
    more = len(rows) > limit
    shown = (rows[-limit:] if before else rows[:limit]) if more else rows
    address = str(request.base_url)
    return json_response(
        {
            "data": [batch_row(batch, address) for batch in shown],
            "has_more": more,
            "first_id": shown[0].id if shown else None,
            "last_id": shown[-1].id if shown else None,
        }
    )


async def _retrieved(request: Request) -> Response:
    return _shown(request, await found(request, SURFACE))


async def _cancelled(request: Request) -> Response:
    return _shown(request, await cancelled(request, SURFACE))


async def _deleted(request: Request) -> Response:
    batch, service = await found(request, SURFACE), service_of(request)
    if batch.active:
        raise Conflict("batches.not_ended", id=batch.id, status=batch.status)
    for file in (batch.input_file, batch.output_file, batch.error_file):
        await asyncio.to_thread(service.files.delete, batch.tenant, file)
    await asyncio.to_thread(service.batches.delete, batch.tenant, batch.id)
    return json_response({"id": batch.id, "type": "message_batch_deleted"})


async def _results(request: Request) -> Response:
    batch, files = await found(request, SURFACE), service_of(request).files
    if batch.active:
        raise NotFound("batches.no_results", id=batch.id)
    paths = [
        files.path(batch.tenant, id)
        for id in (batch.output_file, batch.error_file)
        if id and files.get(batch.tenant, id) is not None
    ]
    return StreamingResponse(_streamed(paths), media_type="application/x-jsonl")


async def _streamed(paths: Sequence[Path]) -> AsyncGenerator[bytes]:
    rows = _rows(paths)
    while piece := await asyncio.to_thread(lambda: b"".join(islice(rows, _TOGETHER))):
        yield piece


def _rows(paths: Sequence[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as file:
            for line in file:
                row = _row(line)
                result = _result(row)
                yield msgspec.json.encode({"custom_id": row.custom_id, "result": result}) + b"\n"


def _result(row: _Row) -> dict[str, Any]:
    if row.response is not None and row.response.status_code == 200:
        return {"type": "succeeded", "message": row.response.body}
    if row.response is not None:
        return {"type": "errored", "error": row.response.body}
    failure = row.error or _Failure()
    if failure.code in ("batch_cancelled", "batch_expired"):
        return {"type": "canceled" if failure.code == "batch_cancelled" else "expired"}
    error = {"type": "api_error", "message": failure.message}
    return {"type": "errored", "error": {"type": "error", "error": error, "request_id": row.id}}


def _shown(request: Request, batch: Batch) -> Response:
    return json_response(batch_row(batch, str(request.base_url)))


def _moment(milliseconds: int) -> str | None:
    if not milliseconds:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
