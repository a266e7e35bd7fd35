"""OpenAI's Uploads API: a long file in parts, per tenant.

Source: developers.openai.com/api/reference/resources/uploads.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from baimo.core.tenant import DataClass
from baimo.errors import CallRefused, NotFound
from baimo.server.files import (
    LONGEST_NAME,
    Taking,
    classed,
    file_row,
    lifetime,
    permitted,
    readable,
    usable,
    usual_lifetime,
)
from baimo.server.replies import json_response, presented, service_of
from baimo.server.surfaces.form import boundary_of
from baimo.server.surfaces.given import Given
from baimo.store.files import StoredFile
from baimo.store.uploads import Upload


def routes() -> list[BaseRoute]:
    """The routes of uploads."""
    return [
        Route("/v1/uploads", _begun, methods=["POST"]),
        Route("/v1/uploads/{id}/parts", _taken, methods=["POST"]),
        Route("/v1/uploads/{id}/complete", _completed, methods=["POST"]),
        Route("/v1/uploads/{id}/cancel", _cancelled, methods=["POST"]),
    ]


def upload_row(upload: Upload, file: StoredFile | None = None) -> dict[str, Any]:
    """An upload as OpenAI describes it."""
    return {
        "id": upload.id,
        "object": "upload",
        "bytes": upload.bytes,
        "created_at": upload.created_ms // 1000,
        "expires_at": upload.expires_ms // 1000,
        "filename": upload.name,
        "purpose": upload.purpose,
        "status": upload.status,
        "file": None if file is None else file_row(file),
    }


async def _begun(request: Request) -> Response:
    key, tenant = permitted(request, "files")
    given = Given.body(await request.body())
    name, purpose, _ = given.needed("filename"), given.needed("purpose"), given.needed("mime_type")
    size = given.whole("bytes", 1)
    if size is None:
        raise given.wrong("bytes", "integer >= 1")
    usable(purpose, name, size)
    after = given.object("expires_after")
    lives_s = usual_lifetime(purpose)
    if after is not None:
        lives_s = lifetime(after.row.get("anchor"), after.row.get("seconds"), "expires_after")
    made = await asyncio.to_thread(
        service_of(request).uploads.begin,
        tenant=tenant,
        key=key.public,
        name=name[:LONGEST_NAME],
        purpose=purpose,
        size=size,
        lives_s=lives_s,
        data_class=classed(request),
    )
    return json_response(upload_row(made))


async def _taken(request: Request) -> Response:
    upload, data = await _upload(request), classed(request)
    uploads = service_of(request).uploads
    taking = Taking(boundary_of(presented(request)), "data", lambda: uploads.incoming(upload))
    try:
        async for piece in request.stream():
            await taking.take(piece)
        taken = await taking.done()
        part = await asyncio.to_thread(uploads.add, upload, taken.incoming, data)
    except ClientDisconnect:
        return Response(status_code=499)
    finally:
        await taking.abandon()
    row = {"id": part.id, "object": "upload.part", "created_at": part.created_ms // 1000}
    return json_response({**row, "upload_id": upload.id})


async def _completed(request: Request) -> Response:
    upload = await _upload(request)
    given = Given.body(await request.body())
    parts = given.texts("part_ids")
    if not parts:
        raise CallRefused("surfaces.missing", field="part_ids")
    service = service_of(request)
    told: list[DataClass] = [upload.data_class, *(part.data_class for part in upload.parts)]
    upload = replace(upload, data_class=classed(request, *told))
    ended, file = await asyncio.to_thread(service.uploads.complete, upload, parts, given.text("md5"))
    await asyncio.to_thread(readable, service.files, file)
    return json_response(upload_row(ended, file))


async def _cancelled(request: Request) -> Response:
    upload = await _upload(request)
    return json_response(upload_row(await asyncio.to_thread(service_of(request).uploads.cancel, upload)))


async def _upload(request: Request) -> Upload:
    _, tenant = permitted(request, "files")
    id = str(request.path_params["id"])
    found = await asyncio.to_thread(service_of(request).uploads.get, tenant, id)
    if found is None:
        raise NotFound("uploads.unknown", id=id[:100])
    return found
