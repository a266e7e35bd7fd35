"""What is kept of the Responses API: read, listed, forgotten. Its hot route is in `hot`."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from baimo.errors import CallRefused, Forbidden, NotSupported
from baimo.gateway.keyring import permits_surface
from baimo.server.replies import caller, service_of
from baimo.server.surfaces.responses_kept import deleted, input_items, retrieved

_ORDERS = ("asc", "desc")


def routes() -> list[BaseRoute]:
    """The routes beside `POST /v1/responses`."""
    return [
        Route("/v1/responses/{id}", _retrieved, methods=["GET"]),
        Route("/v1/responses/{id}", _deleted, methods=["DELETE"]),
        Route("/v1/responses/{id}/input_items", _input_items, methods=["GET"]),
    ]


async def _retrieved(request: Request) -> Response:
    tenant = _tenant(request)
    if request.query_params.get("stream") == "true":
        raise NotSupported("responses.replay")
    return _json(
        await asyncio.to_thread(retrieved, service_of(request).responses, tenant=tenant, id=_id(request))
    )


async def _deleted(request: Request) -> Response:
    tenant = _tenant(request)
    return _json(
        await asyncio.to_thread(deleted, service_of(request).responses, tenant=tenant, id=_id(request))
    )


async def _input_items(request: Request) -> Response:
    tenant, given = _tenant(request), request.query_params
    limit, order = given.get("limit", "20"), given.get("order", "desc")
    if not (limit.isascii() and limit.isdigit() and len(limit) < 10):
        raise CallRefused("surfaces.wrong_type", field="limit", expected="integer", got=limit[:40])
    if order not in _ORDERS:
        raise CallRefused("surfaces.wrong_type", field="order", expected=" | ".join(_ORDERS), got=order[:40])
    body = await asyncio.to_thread(
        input_items,
        service_of(request).responses,
        tenant=tenant,
        id=_id(request),
        limit=int(limit),
        order="asc" if order == "asc" else "desc",
        after=given.get("after", ""),
    )
    return _json(body)


def _tenant(request: Request) -> str:
    """Whose responses may be seen: all keys of a tenant see the same."""
    key, tenant = caller(request)
    if not permits_surface(key, "responses"):
        raise Forbidden("gateway.surface_forbidden", key=key.public, surface="responses")
    return tenant.id


def _id(request: Request) -> str:
    return str(request.path_params["id"])


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")
