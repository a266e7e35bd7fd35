"""From the table of operations to routes: who asks, may they, what do they ask, the answer.

Prevents the failure where a check is forgotten for one operation: there is one road, and it takes every one of them.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar, cast

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from baimo.errors import NotSupported, Overloaded, StoreError, TooLarge, Unauthenticated, UsageError
from baimo.server.admin import refusals
from baimo.server.admin.operation import Asking, Operation
from baimo.server.admin.reading import taken
from baimo.server.admin.streams import Pieces, Streamed, Work
from baimo.server.admin.table import OPERATIONS
from baimo.server.credentials import password
from baimo.server.replies import caller, presented, service_of
from baimo.text import speak

THREADS = 4
"""Questions of one process at once: the request path needs the database, too."""
STREAMS = 2
"""Exports and proofs of one process at once."""
STANDING_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_Result = TypeVar("_Result")


def admin_routes() -> Sequence[BaseRoute]:
    """The routes of every operation, one for each path."""
    desk = Desk()
    paths: dict[str, dict[str, Operation]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = operation
    return [Route(path, Resource(operations, desk)) for path, operations in paths.items()]


class Desk:
    """Threads in which questions are answered."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "baimo-admin")
        self._streaming = ThreadPoolExecutor(STREAMS, "baimo-export")
        self._streams = 0

    async def do(self, does: Callable[[], _Result]) -> _Result:
        """Do it in a thread, in the reader's language."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, copy_context().run, does)

    async def stream(self, work: Work, media: str, name: str) -> Response:
        """An answer of unknown length.

        Raises:
            Overloaded: too many of them are under way.
            BaimoError: it failed before its first byte.
        """
        if self._streams >= STREAMS:
            raise Overloaded("admin.busy", limit=STREAMS, retry_after_s=5.0)
        self._streams += 1
        pieces = Pieces()
        loop = asyncio.get_running_loop()
        loop.run_in_executor(self._streaming, copy_context().run, partial(pieces.run, work))
        try:
            first = await pieces.next()
        except BaseException:
            pieces.stop()
            self._ended()
            raise
        headers = {
            **STANDING_HEADERS,
            "content-type": media,
            "content-disposition": f'attachment; filename="{name}"',
        }
        return Streamed(first, pieces, headers, self._ended)

    def _ended(self) -> None:
        self._streams -= 1


class Resource:
    """Everything at one path, as an ASGI application."""

    def __init__(self, operations: dict[str, Operation], desk: Desk) -> None:
        self.operations = operations
        """By method."""
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        speak(refusals.preferred(request.headers.get("accept-language", "")))
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        operation = self.operations.get(method)
        page = operation is not None and operation.browser
        try:
            # only pages take a browser's password, so nothing is forged
            key, tenant = caller(request, given=password(presented(request)) if page else None)
        except Unauthenticated as error:
            if not page:
                raise
            return _challenge(request, error)
        if operation is None:
            return self._other_method(request)
        asking = Asking(
            service_of(request),
            key,
            tenant,
            request.headers.get("x-request-id", ""),
            request.headers.get("accept", ""),
            request.headers.get("last-event-id", ""),
        )
        asking.check(operation)
        path = {name: str(value) for name, value in request.path_params.items()}
        body = await _body(request, operation.longest) if operation.method in ("POST", "PATCH") else None
        asked = taken(operation.takes, path, request.query_params.multi_items(), body)
        return await self._done(operation, asking, asked)

    async def _done(self, operation: Operation, asking: Asking, asked: Any) -> Response:
        if inspect.iscoroutinefunction(operation.does):
            given = await operation.does(asking, asked)
        else:
            given = await self._desk.do(partial(operation.does, asking, asked))
        if operation.method != "GET" and operation.tag in ("keys", "tenants", "sessions"):
            with suppress(StoreError):  # the keyring looks again by itself, a moment later
                await self._desk.do(asking.service.keyring.refresh)
        if isinstance(given, Response):
            given.headers.update(STANDING_HEADERS)
            if given.media_type == "text/event-stream":
                given.headers["x-accel-buffering"] = "no"
            return given
        if callable(given):
            form = getattr(asked, "format", "jsonl")
            media = "text/csv; charset=utf-8; header=present" if form == "csv" else "application/jsonl"
            return await self._desk.stream(cast("Work", given), media, f"{operation.id}.{form}")
        body = msgspec.json.encode(given)
        return Response(body, operation.status, STANDING_HEADERS, media_type="application/json")

    def _other_method(self, request: Request) -> Response:
        allowed = ", ".join(self.operations)
        error = NotSupported("admin.other_method", method=request.method, allowed=allowed)
        body = refusals.refusal(error, request_id=request.headers.get("x-request-id", ""))
        return Response(body, 405, {"allow": allowed, **STANDING_HEADERS}, media_type="application/json")


async def _body(request: Request, longest: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        pieces.append(piece)
        size += len(piece)
        if size > longest:
            raise TooLarge("admin.long_body", limit=longest)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if size and kind != "application/json":
        raise UsageError("admin.no_json", field="")
    return b"".join(pieces)


def _challenge(request: Request, error: Unauthenticated) -> Response:
    body = refusals.refusal(error, request_id=request.headers.get("x-request-id", ""))
    headers = {**STANDING_HEADERS, "www-authenticate": 'Basic realm="baimo", charset="UTF-8"'}
    return Response(body, 401, headers, media_type="application/json")
