"""What cold routes share: who asks, and answers in JSON, refusals included."""

from __future__ import annotations

import logging
from typing import cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from baimo.core.tenant import ROLES, Key, Role, Tenant
from baimo.errors import BaimoError, Forbidden
from baimo.server.credentials import credential
from baimo.server.surfaces import anthropic_errors, openai_errors
from baimo.workspace.serving import Service

log = logging.getLogger("baimo.serve")


def service_of(request: Request) -> Service:
    """What answers in this process."""
    return cast("Service", request.state.service)


def caller(request: Request, role: Role = "app") -> tuple[Key, Tenant]:
    """Who asks.

    Raises:
        Unauthenticated: no valid key.
        Forbidden: its role is not enough.
    """
    peer = request.client.host if request.client else ""
    presented = credential(dict(request.headers.raw))
    key, tenant = service_of(request).keyring.authenticate(presented, peer)
    if ROLES.index(key.role) < ROLES.index(role):
        raise Forbidden("serve.role", key=key.public, role=key.role, wanted=role)
    return key, tenant


def json_response(data: object, status: int = 200) -> Response:
    """`data` as JSON."""
    return Response(msgspec.json.encode(data), status, media_type="application/json")


async def refused(request: Request, error: Exception) -> Response:
    """An error in the words of the API that was called; what is no refusal of ours is a fault, and says nothing."""
    if not isinstance(error, BaimoError):
        log.error("fault", exc_info=error)
        error = BaimoError("gateway.fault", request=request.headers.get("x-request-id", ""))
    words = anthropic_errors if request.url.path.startswith("/v1/messages") else openai_errors
    request_id = request.headers.get("x-request-id", "")
    headers = {"x-request-id": request_id} if request_id else {}
    if (seconds := getattr(error, "retry_after_s", None)) is not None:
        headers["retry-after"] = str(max(1, round(seconds + 0.499)))
    if error.http_status == 401:
        headers["www-authenticate"] = "Bearer"
    body = words.refusal(error, request_id=request_id)
    return Response(body, error.http_status, headers, media_type="application/json")
