"""OpenAI's Files API: upload, list, read, delete, per tenant.

Source: developers.openai.com/api/reference/resources/files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from baimo.core.tenant import Key
from baimo.errors import CallRefused, Conflict, Forbidden, NotFound
from baimo.gateway.batch_input import MOST_BYTES
from baimo.gateway.keyring import permits_surface
from baimo.server.replies import caller, json_response, presented, service_of
from baimo.server.surfaces.form import boundary_of
from baimo.server.upload import Form
from baimo.store.files import Files, Incoming, StoredFile

PURPOSES: Mapping[str, int] = {"batch": MOST_BYTES}
"""What may be uploaded, and how long it may be."""
LONGEST_FORM = max(PURPOSES.values()) + 64 * 1024
"""Bytes of an upload with the form around it."""
DAYS_30_S = 30 * 86_400
MOST_LISTED = 10_000
_LONGEST_FIELD = 4096
_LONGEST_NAME = 512
_TOGETHER = 1024 * 1024


def routes() -> list[BaseRoute]:
    """The routes of files."""
    return [
        Route("/v1/files", _upload, methods=["POST"]),
        Route("/v1/files", _listed, methods=["GET"]),
        Route("/v1/files/{id}", _retrieved, methods=["GET"]),
        Route("/v1/files/{id}", _deleted, methods=["DELETE"]),
        Route("/v1/files/{id}/content", _content, methods=["GET"]),
    ]


def file_row(file: StoredFile) -> dict[str, Any]:
    """A file as OpenAI describes it."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": file.created_ms // 1000,
        "expires_at": None if file.expires_ms is None else file.expires_ms // 1000,
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def permitted(request: Request, surface: str) -> tuple[Key, str]:
    """Who asks, and for which tenant.

    Raises:
        Unauthenticated, Forbidden: the key may not use this.
    """
    key, tenant = caller(request)
    if not permits_surface(key, surface):
        raise Forbidden("gateway.surface_forbidden", key=key.public, surface=surface)
    return key, tenant.id


def number(request: Request, field: str, *, usual: int, most: int) -> int:
    """A number of the query.

    Raises:
        CallRefused: it is none, or out of range.
    """
    given = request.query_params.get(field, str(usual))
    if not (given.isascii() and given.isdigit() and len(given) < 10 and 1 <= int(given) <= most):
        raise CallRefused("files.wrong_value", field=field, got=given[:40], expected=f"1 … {most}")
    return int(given)


def lifetime(anchor: object, seconds: object, field: str) -> int:
    """The seconds of an expires_after.

    Raises:
        CallRefused: it cannot be used.
    """
    if anchor != "created_at":
        raise CallRefused(
            "files.wrong_value", field=f"{field}.anchor", got=str(anchor)[:40], expected="created_at"
        )
    text = str(seconds)
    if isinstance(seconds, bool) or not (
        text.isascii() and text.isdigit() and 3600 <= int(text) <= DAYS_30_S
    ):
        raise CallRefused(
            "files.wrong_value", field=f"{field}.seconds", got=text[:40], expected=f"3600 … {DAYS_30_S}"
        )
    return int(text)


class _Upload(NamedTuple):
    fields: dict[str, str]
    incoming: Incoming
    filename: str


async def _upload(request: Request) -> Response:
    key, tenant = permitted(request, "files")
    files = service_of(request).files
    headers = presented(request)
    taking = _Taking(files, tenant, boundary_of(headers))
    try:
        async for piece in request.stream():
            await taking.take(piece)
        upload = await taking.done()
        purpose = upload.fields["purpose"]
        made = await asyncio.to_thread(
            files.keep,
            upload.incoming,
            tenant=tenant,
            key=key.public,
            name=upload.filename[:_LONGEST_NAME] or upload.incoming.path.name,
            purpose=purpose,
            lives_s=_lives_s(upload.fields),
        )
    except ClientDisconnect:
        return Response(status_code=499)
    finally:
        await taking.abandon()
    return json_response(file_row(made))


class _Taking:
    """An upload under way."""

    def __init__(self, files: Files, tenant: str, boundary: bytes) -> None:
        self._files = files
        self._tenant = tenant
        self._form = Form(boundary)
        self._fields: dict[str, str] = {}
        self._incoming: Incoming | None = None
        self._filename = ""
        self._whole = False
        self._waiting: list[bytes] = []
        self._size = 0

    async def take(self, piece: bytes) -> None:
        """Bytes of the body."""
        for part in self._form.feed(piece):
            if part.name == "file" and part.filename is not None:
                if self._incoming is None:
                    # the purpose may come behind the file: the longest of all holds until then
                    most = max(PURPOSES.values())
                    self._incoming = await asyncio.to_thread(self._files.incoming, self._tenant, most)
                    self._filename = part.filename
                if self._whole:  # a second file
                    raise CallRefused("surfaces.broken_form")
                self._whole = part.last
                self._waiting.append(part.data)
                self._size += len(part.data)
                if self._size >= _TOGETHER:
                    await self._write()
            else:
                self._fields[part.name] = self._fields.get(part.name, "") + part.data.decode(
                    "utf-8", "replace"
                )
                if sum(map(len, self._fields.values())) > _LONGEST_FIELD:
                    raise CallRefused("surfaces.broken_form")

    async def done(self) -> _Upload:
        """The whole form.

        Raises:
            CallRefused: a field is missing or cannot be used.
        """
        if not self._form.ended:
            raise CallRefused("surfaces.broken_form")
        await self._write()
        for field, there in (("file", self._incoming), ("purpose", self._fields.get("purpose"))):
            if there is None:
                raise CallRefused("surfaces.missing", field=field)
        assert self._incoming is not None
        purpose = self._fields["purpose"]
        if purpose not in PURPOSES:
            raise CallRefused(
                "files.purpose", field="purpose", purpose=purpose[:40], known=", ".join(PURPOSES)
            )
        return _Upload(self._fields, self._incoming, self._filename)

    async def abandon(self) -> None:
        """Whatever was not kept is forgotten."""
        if self._incoming is not None:
            await asyncio.to_thread(self._incoming.abandon)

    async def _write(self) -> None:
        waiting, self._waiting, self._size = self._waiting, [], 0
        if self._incoming is not None and waiting:
            await asyncio.to_thread(self._incoming.write, b"".join(waiting))


def _lives_s(fields: Mapping[str, str]) -> int | None:
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return DAYS_30_S if fields["purpose"] == "batch" else None
    return lifetime(anchor, seconds, "expires_after")


async def _listed(request: Request) -> Response:
    _, tenant = permitted(request, "files")
    given = request.query_params
    limit = number(request, "limit", usual=MOST_LISTED, most=MOST_LISTED)
    order = given.get("order", "desc")
    if order not in ("asc", "desc"):
        raise CallRefused("files.wrong_value", field="order", got=order[:40], expected="asc | desc")
    found = await asyncio.to_thread(
        service_of(request).files.page,
        tenant,
        limit=limit + 1,
        after=given.get("after", ""),
        purpose=given.get("purpose", ""),
        ascending=order == "asc",
    )
    return json_response(listing([file_row(file) for file in found], limit))


def listing(rows: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    """A page of rows, of which there is one more than `limit` when there are more."""
    shown = rows[:limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(rows) > limit,
    }


async def _retrieved(request: Request) -> Response:
    return json_response(file_row(await _file(request)))


async def _content(request: Request) -> Response:
    file = await _file(request)
    path = service_of(request).files.path(file.tenant, file.id)
    if not path.exists():
        raise NotFound("files.not_here", id=file.id)
    return FileResponse(path, media_type="application/octet-stream", filename=file.name)


async def _deleted(request: Request) -> Response:
    file = await _file(request)
    service = service_of(request)
    using = await asyncio.to_thread(service.batches.using, file.tenant, file.id)
    if using is not None:
        raise Conflict("files.in_use", id=file.id, batch=using.id)
    await asyncio.to_thread(service.files.delete, file.tenant, file.id)
    return json_response({"id": file.id, "object": "file", "deleted": True})


async def _file(request: Request) -> StoredFile:
    _, tenant = permitted(request, "files")
    id = str(request.path_params["id"])
    file = await asyncio.to_thread(service_of(request).files.get, tenant, id)
    if file is None:
        raise NotFound("files.unknown", id=id[:100])
    return file
