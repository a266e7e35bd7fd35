"""What cold routes share: who asks, and answers in JSON, refusals included."""

from __future__ import annotations

import logging
import traceback
from typing import Any, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from baimo.core.tenant import ROLES, Key, Role, Tenant
from baimo.errors import BaimoError, Forbidden
from baimo.gateway.answers import retry_headers
from baimo.server.admin import refusals
from baimo.server.credentials import credential
from baimo.server.surfaces import anthropic_errors, openai_errors
from baimo.text import speak
from baimo.workspace.serving import Service

log = logging.getLogger("baimo.serve")


def service_of(request: Request) -> Service:
    """What answers in this process."""
    return cast("Service", request.state.service)


def presented(request: Request) -> dict[bytes, bytes]:
    """Headers by lower-case name, repeated ones joined: two keys are none, here as on the hot routes."""
    fields: dict[bytes, bytes] = {}
    for name, value in request.headers.raw:
        fields[name] = fields[name] + b", " + value if name in fields else value
    return fields


def caller(request: Request, role: Role = "app", *, given: bytes | None = None) -> tuple[Key, Tenant]:
    """Who asks.

    Args:
        request: names the key in a header.
        role: the least that it must have.
        given: the key, where it came another way.

    Raises:
        Unauthenticated: no valid key.
        Forbidden: its role is not enough.
    """
    peer = request.client.host if request.client else ""
    given = given or credential(presented(request))
    key, tenant = service_of(request).keyring.authenticate(given, peer)
    if ROLES.index(key.role) < ROLES.index(role):
        raise Forbidden("serve.role", key=key.public, role=key.role, wanted=role)
    return key, tenant


def json_response(data: object, status: int = 200) -> Response:
    """`data` as JSON."""
    return Response(msgspec.json.encode(data), status, media_type="application/json")


def _words(path: str) -> Any:
    if path.startswith("/api/"):
        return refusals
    return anthropic_errors if path.startswith("/v1/messages") else openai_errors


async def refused(request: Request, error: Exception) -> Response:
    """An error in the words of the API that was called; what is no refusal of ours is a fault, and says nothing."""
    if not isinstance(error, BaimoError):
        # type and place only: a message may quote what a client sent
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "?"
        # a client that has left is no fault
        level = logging.DEBUG if isinstance(error, ConnectionAbortedError) else logging.ERROR
        log.log(level, "%s: %s at %s", request.headers.get("x-request-id", ""), type(error).__name__, place)
        error = BaimoError("gateway.fault", request=request.headers.get("x-request-id", ""))
    words = _words(request.url.path)
    if words is refusals:
        speak(refusals.preferred(request.headers.get("accept-language", "")))
    request_id = request.headers.get("x-request-id", "")
    headers = {"x-request-id": request_id} if request_id else {}
    headers |= {name.decode(): value.decode() for name, value in retry_headers(error)}
    if error.http_status == 401:
        headers["www-authenticate"] = "Bearer"
    body = words.refusal(error, request_id=request_id)
    return Response(body, error.http_status, headers, media_type="application/json")
