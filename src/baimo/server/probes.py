"""/healthz, /readyz and /metrics: what those ask who restart, route and watch.

They want no key, so they say what is wrong and never where: addresses and file names are for the log and /api/health.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import text as sql
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import baimo
from baimo.core.tenant import OWNER
from baimo.errors import BaimoError, Forbidden
from baimo.gateway.routing import models_of
from baimo.server.replies import caller, json_response, service_of
from baimo.text import text

if TYPE_CHECKING:
    from baimo.workspace.serving import Service

PATIENCE_S = 2.0
"""Longest wait for the database."""
_STARTED = time.monotonic()


class Reason(NamedTuple):
    """What is wrong."""

    check: str
    """stopping, ledger, keys, database or models."""
    problem: str


class State(NamedTuple):
    """Whether calls are welcome."""

    ready: bool
    reasons: list[Reason]
    """What is wrong, also where calls are admitted all the same."""


def routes() -> list[Route]:
    """The three of them."""
    return [Route("/healthz", _alive), Route("/readyz", _ready), Route("/metrics", _metrics)]


async def state(service: Service) -> State:
    """Whether calls are welcome, and what is wrong.

    Without the database calls go on, against keys and leases in memory, so it is no reason until it has been away for
    `serve.ready_grace_s`: every process would be taken out at once. A disk that is full is one at once.
    """
    away: list[Reason] = []
    if not service.books.health().ok:
        away.append(Reason("ledger", text("observe.ledger_fails")))
    if service.keyring.trouble is not None:
        away.append(Reason("keys", text("observe.keys_fail")))
    if not await _reached(service):
        away.append(Reason("database", text("observe.database_fails")))
    now = time.monotonic()
    service.away_since = (service.away_since or now) if away else None
    too_long = (
        service.away_since is not None and now - service.away_since >= service.settings.serve.ready_grace_s
    )
    closed: list[Reason] = []
    if service.gateway.stopping:
        closed.append(Reason("stopping", text("observe.stopping")))
    if _all_broken(service):
        closed.append(Reason("models", text("observe.models_fail")))
    return State(not closed and not too_long and service.books.admits(), closed + away)


async def _reached(service: Service) -> bool:
    database = service.workspace.store.database

    def asked() -> None:
        with database.reading() as connection:
            connection.execute(sql("SELECT 1"))

    try:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.to_thread(asked)
    except (BaimoError, TimeoutError):
        return False
    return True


def _all_broken(service: Service) -> bool:
    """Whether every model that is offered by name, or else every one that was called, is left alone."""
    breakers, settings = service.parts.breakers, service.settings
    names = {model.name for route in service.parts.router.routes.values() for model in models_of(route)}
    default = settings.serve.default_model
    if default and default not in settings.routes:
        names.add(service.catalogue.model(default).name)
    called = [one for name, one in breakers.items() if name in names or not names]
    return bool(called) and len(called) >= len(names) and not any(one.ready() for one in called)


async def _alive(_: Request) -> Response:
    facts = {"status": "ok", "version": baimo.__version__, "pid": os.getpid()}
    return json_response(facts | {"uptime_s": round(time.monotonic() - _STARTED, 1)})


async def _ready(request: Request) -> Response:
    service = service_of(request)
    found = await state(service)
    facts = {
        "status": "ready" if found.ready else "not ready",
        "reasons": [one._asdict() for one in found.reasons],
        "in_flight": service.gateway.in_flight,
    }
    return json_response(facts, 200 if found.ready else 503)


async def _metrics(request: Request) -> Response:
    if service_of(request).settings.observe.metrics_key:
        key, _ = caller(request, "viewer")
        if key.tenant != OWNER:
            raise Forbidden("observe.owners_only", key=key.public)
    body, content_type = await request.state.watching.page(request.headers.get("accept", ""))
    return Response(body, media_type=None, headers={"content-type": content_type})
