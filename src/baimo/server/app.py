"""The ASGI application: everything that is not a hot route, and the life of what answers the hot ones.

Prevents the failure where a client of an API that we do not offer gets a page about a missing page: every path under
/v1 answers in the words of the API, with 501 where there is nothing behind it.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import sys
from collections.abc import AsyncGenerator, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

import baimo
from baimo.config import settings
from baimo.console.app import console
from baimo.errors import BaimoError, NotFound, NotSupported
from baimo.server import (
    batches,
    comparisons,
    engine,
    evals,
    files,
    fine_tuning,
    graders,
    logs,
    message_batches,
    probes,
    responses_routes,
    stored_completions,
    uploads,
)
from baimo.server.admin.routes import admin_routes
from baimo.server.credentials import credential, password
from baimo.server.hot import hot_routes
from baimo.server.replies import caller, json_response, presented, refused, service_of
from baimo.server.surfaces.embeddings import Embeddings
from baimo.server.surfaces.models import model_row, models_body, route_row
from baimo.server.watching import Watching
from baimo.workspace.serving import Service
from baimo.workspace.workspace import Workspace

log = logging.getLogger("baimo.serve")
PREFLIGHT_S = 600
"""For how long a browser need not ask again whether a page may call."""
HANDOVER_S = 0.0005
"""Longest wait of the event loop for another thread's turn at the interpreter; Python's own is ten times that."""
COLLECTED = (5_000, 100, 100)
"""Allocations that outlive their call before cycles are looked for, which stops everything for 2 ms; and how often in
older generations: seldom, because what calls leave is freed without that."""


def app() -> Starlette:
    """The application of one process, for the workspace of the current folder; made by uvicorn."""
    folder = Path()
    workspace = Workspace(folder)
    logs.configure(workspace.settings.observe)
    return application(workspace, partial(settings, folder))


def application(workspace: Workspace, read: Any) -> Starlette:
    """The application.

    Args:
        workspace: whose models are served.
        read: its settings as they are now.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[dict[str, Any]]:
        elsewhere = engine.reached()
        async with contextlib.AsyncExitStack() as stack:
            with _told():
                watching = await stack.enter_async_context(Watching(workspace))
                service = Service(
                    workspace,
                    read=read,
                    elsewhere={} if elsewhere is None else {engine.VENDOR: elsewhere},
                    observer=watching,
                    embeddings=Embeddings(),
                )
                await stack.enter_async_context(service)
                lanes = hot_routes(service)
                service.draining = lanes.draining
                service.on_settings = lanes.adopt
            watching.over(service, lanes)
            await stack.enter_async_context(batches.running(service))
            await stack.enter_async_context(evals.running(service))
            await stack.enter_async_context(fine_tuning.running(service))
            await stack.enter_async_context(comparisons.running(service))
            _spare_the_collector()
            sys.setswitchinterval(HANDOVER_S)
            yield {"service": service, "hot": lanes, "watching": watching}

    made = Starlette(routes=routes(), lifespan=lifespan, middleware=[Middleware(Newcomers)])
    made.router.redirect_slashes = False  # clients do not take their key along, nor TLS that a proxy speaks
    made.add_exception_handler(BaimoError, refused)
    made.add_exception_handler(404, _nothing)
    made.add_exception_handler(405, _nothing)
    made.add_exception_handler(Exception, refused)
    return made


class Newcomers:
    """Has a key or session that was made a moment ago in another process looked up before anybody refuses it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = Request(scope)
            keyring, headers = service_of(request).keyring, presented(request)
            if keyring.unknown(credential(headers) or password(headers)):
                await keyring.catch_up()
        await self._app(scope, receive, send)


@contextlib.contextmanager
def _told() -> Generator[None]:
    """Why it cannot start goes into the log in our words; uvicorn only knows that it did not."""
    try:
        yield
    except BaimoError as error:
        log.error("%s", error, extra={"facts": {"hint": error.hint or None}})
        raise


def _spare_the_collector() -> None:
    """What has been made until now stays: looking through it for garbage again and again costs every call."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTED)


def routes() -> Sequence[BaseRoute]:
    """Every cold route."""
    return [
        Route("/", _about),
        *probes.routes(),
        Route("/v1/models", _models),
        Route("/v1/models/{name:path}", _model),
        *responses_routes.routes(),
        *files.routes(),
        *uploads.routes(),
        *fine_tuning.routes(),
        *batches.routes(),
        *evals.routes(),
        *graders.routes(),
        *stored_completions.routes(),
        *message_batches.routes(),
        *admin_routes(),
        Route("/console", _console),
        console(),
    ]


async def _about(_: Request) -> Response:
    return json_response({"name": "baimo", "version": baimo.__version__, "api": "/v1", "health": "/healthz"})


async def _console(_: Request) -> Response:
    return RedirectResponse("/console/")


async def _models(request: Request) -> Response:
    service = service_of(request)
    key, _ = caller(request)
    models, routes = service.offered(key)
    return Response(models_body(models, routes, _inside(service)), media_type="application/json")


async def _model(request: Request) -> Response:
    service, name = service_of(request), str(request.path_params["name"])
    key, _ = caller(request)
    models, routes = service.offered(key)
    if name in routes:
        return json_response(route_row(name, routes[name], _inside(service)))
    found = next((model for model in models if model.name == name), None)
    if found is None:
        raise NotFound("serve.no_model", name=name)
    return json_response(model_row(found, _inside(service)))


def _inside(service: Service) -> frozenset[str]:
    return frozenset(vendor.name for vendor in service.catalogue.vendors() if vendor.inside)


async def _nothing(request: Request, _: Exception) -> Response:
    path = request.url.path
    if request.method == "OPTIONS" and path.startswith("/v1/") and request.state.hot.origins:
        return _asked_ahead(request)
    try:
        caller(request)  # what there is and is not is told to those who have a key
    except BaimoError as error:
        return await refused(request, error)
    if path.startswith("/v1/"):
        return await refused(request, NotSupported("serve.not_offered", method=request.method, path=path))
    return await refused(request, NotFound("serve.no_page", path=path))


def _asked_ahead(request: Request) -> Response:
    """What a browser asks before it lets a page from elsewhere call; whose pages may is told with every answer."""
    asked = {
        "methods": request.headers.get("access-control-request-method", ""),
        "headers": request.headers.get("access-control-request-headers", ""),
    }
    allowed = {f"access-control-allow-{what}": value for what, value in asked.items() if value}
    return Response(status_code=204, headers={**allowed, "access-control-max-age": str(PREFLIGHT_S)})
