"""OpenAI's Files API: upload, list, read, delete, per tenant.

Source: developers.openai.com/api/reference/resources/files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from baimo.core.tenant import DataClass, Key
from baimo.errors import CallRefused, Conflict, Forbidden, NotFound, TooLarge
from baimo.gateway.batch_input import MOST_BYTES
from baimo.gateway.keyring import permits_surface
from baimo.gateway.policy import data_class, strictest
from baimo.server.replies import caller, json_response, presented, service_of
from baimo.server.surfaces.form import boundary_of
from baimo.server.upload import Form
from baimo.store.evaluations import Evaluation
from baimo.store.files import Files, Incoming, StoredFile
from baimo.workspace.serving import Service

_MIB_512 = 512 * 1024 * 1024
PURPOSES: Mapping[str, int] = {"batch": MOST_BYTES, "fine-tune": _MIB_512, "evals": _MIB_512}
"""What may be uploaded, and how long it may be."""
FORM = 64 * 1024
"""Bytes of the form around a file, at most."""
LONGEST_FORM = max(PURPOSES.values()) + FORM
"""Bytes of an upload with the form around it."""
DAYS_30_S = 30 * 86_400
MOST_LISTED = 10_000
_LONGEST_FIELD = 4096
LONGEST_NAME = 512
"""Characters of a file's name that are kept."""
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


def classed(request: Request, *named: DataClass) -> DataClass:
    """The class of what a request works on: the strictest of tenant, key, header, and of what it only names.

    Raises:
        Unauthenticated: no valid key.
        CallRefused: its header names no class.
    """
    key, tenant = caller(request)
    policy = service_of(request).settings.policy
    return strictest(data_class(policy, key, tenant, dict(request.headers.raw)), *named)


def class_of(service: Service, kept: StoredFile | Evaluation) -> DataClass:
    """The class of what is kept: what was said when it came, or what its key says now."""
    maker = service.keyring.known(kept.key)
    return strictest(kept.data_class, (maker and maker.data_class) or "public")


def number(request: Request, field: str, *, usual: int, most: int) -> int:
    """A number of the query.

    Raises:
        CallRefused: it is none, or out of range.
    """
    given = request.query_params.get(field, str(usual))
    if not (given.isascii() and given.isdigit() and len(given) < 10 and 1 <= int(given) <= most):
        raise CallRefused("files.wrong_value", field=field, got=given[:40], expected=f"1 … {most}")
    return int(given)


def cursor(request: Request, start: str, field: str = "after") -> str:
    """The id behind which a page begins, of something that may be gone by now; empty = the page is the first.

    Args:
        request: has it in its query.
        start: how ids of what is listed begin.
        field: its name.

    Raises:
        CallRefused: it is the id of something else, or none.
    """
    given = request.query_params.get(field, "")
    if given and not given.startswith(start):
        raise CallRefused("files.wrong_value", field=field, got=given[:40], expected=f"{start}…")
    return given


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


class Taken(NamedTuple):
    """A form with a file in it."""

    fields: dict[str, str]
    incoming: Incoming
    filename: str


async def _upload(request: Request) -> Response:
    key, tenant = permitted(request, "files")
    files, data = service_of(request).files, classed(request)
    # the purpose may come behind the file: the longest of all holds until then
    taking = Taking(boundary_of(presented(request)), "file", lambda: files.incoming(tenant, most_of(None)))
    try:
        async for piece in request.stream():
            await taking.take(piece)
        taken = await taking.done()
        purpose = taken.fields.get("purpose")
        if purpose is None:
            raise CallRefused("surfaces.missing", field="purpose")
        usable(purpose, taken.filename, taken.incoming.size)
        made = await asyncio.to_thread(
            files.keep,
            taken.incoming,
            tenant=tenant,
            key=key.public,
            name=taken.filename[:LONGEST_NAME] or taken.incoming.path.name,
            purpose=purpose,
            lives_s=_lives_s(taken.fields),
            data_class=data,
        )
    except ClientDisconnect:
        return Response(status_code=499)
    finally:
        await taking.abandon()
    await asyncio.to_thread(readable, files, made)
    return json_response(file_row(made))


def readable(files: Files, file: StoredFile) -> None:
    """Delete a file for tuning again that could never be read as one.

    Raises:
        CallRefused: it could not.
    """
    if file.purpose == "fine-tune":
        from baimo.tuning.data.openai import upload_fault  # loaded where something is tuned

        fault = upload_fault(files.path(file.tenant, file.id))
        if fault is not None:
            files.delete(file.tenant, file.id)
            raise CallRefused("files.not_lines", field="file", message=fault.message)


def usable(purpose: str, filename: str, size: int) -> None:
    """Refuse a file that nothing here could use.

    Args:
        purpose: what the client wants to use it for.
        filename: as the client calls it.
        size: bytes.

    Raises:
        CallRefused: nothing reads such files, or they have another form.
        TooLarge: it is longer than files for this purpose may be.
    """
    most = most_of(purpose)
    if size > most:
        raise TooLarge("files.no_room", limit=most)
    if purpose == "fine-tune" and not filename.lower().endswith(".jsonl"):
        raise CallRefused("files.not_jsonl", field="file")


def most_of(purpose: str | None) -> int:
    """Bytes of a file for this purpose, at most; None = for any.

    Raises:
        CallRefused: nothing here reads files for it.
    """
    if purpose is None:
        return max(PURPOSES.values())
    if purpose not in PURPOSES:
        raise CallRefused("files.purpose", field="purpose", purpose=purpose[:40], known=", ".join(PURPOSES))
    return PURPOSES[purpose]


class Taking:
    """A form with one file, on its way in.

    Args:
        boundary: of `boundary_of`.
        field: name of the file's field.
        opened: where the file is written; called when it begins.
    """

    def __init__(self, boundary: bytes, field: str, opened: Callable[[], Incoming]) -> None:
        self._form = Form(boundary)
        self._field = field
        self._opened = opened
        self._fields: dict[str, str] = {}
        self._incoming: Incoming | None = None
        self._filename = ""
        self._whole = False
        self._waiting: list[bytes] = []
        self._size = 0

    async def take(self, piece: bytes) -> None:
        """Bytes of the body."""
        for part in self._form.feed(piece):
            if part.name == self._field and part.filename is not None:
                if self._incoming is None:
                    self._incoming = await asyncio.to_thread(self._opened)
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

    async def done(self) -> Taken:
        """The whole form.

        Raises:
            CallRefused: it is broken, or there is no file in it.
        """
        if not self._form.ended:
            raise CallRefused("surfaces.broken_form")
        await self._write()
        if self._incoming is None:
            raise CallRefused("surfaces.missing", field=self._field)
        return Taken(self._fields, self._incoming, self._filename)

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
        return usual_lifetime(fields["purpose"])
    return lifetime(anchor, seconds, "expires_after")


def usual_lifetime(purpose: str) -> int | None:
    """Seconds that a file is kept when the client does not say; None = it stays."""
    return DAYS_30_S if purpose == "batch" else None


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
        after=cursor(request, "file-"),
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
    validated = await asyncio.to_thread(service.tuning.using, file.tenant, file.id)
    if validated is not None:
        raise Conflict("finetuning.file_in_use", id=file.id, job=validated)
    await asyncio.to_thread(service.files.delete, file.tenant, file.id)
    return json_response({"id": file.id, "object": "file", "deleted": True})


async def _file(request: Request) -> StoredFile:
    _, tenant = permitted(request, "files")
    id = str(request.path_params["id"])
    file = await asyncio.to_thread(service_of(request).files.get, tenant, id)
    if file is None:
        raise NotFound("files.unknown", id=id[:100])
    return file
