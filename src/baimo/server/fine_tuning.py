"""OpenAI's fine-tuning API: jobs, their events and checkpoints, and the deletion of a tuned model, per tenant.

Source: developers.openai.com/api/reference/resources/fine_tuning.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from baimo.core.tenant import DataClass
from baimo.core.tuning import TuneJob
from baimo.errors import CallRefused, Conflict, Forbidden, NotFound, NotSupported
from baimo.evals.graders.kinds import grader_of, models_of, runs_code
from baimo.server import fine_tuning_wire as wire
from baimo.server.evals import allowed_code
from baimo.server.files import class_of, classed, cursor, number, permitted
from baimo.server.replies import caller, json_response, service_of
from baimo.workspace.fine_tuning import FineTuning, Page, validating
from baimo.workspace.permit import permit
from baimo.workspace.queue import tended
from baimo.workspace.serving import Service

SURFACE = "fine_tuning"
TUNED = "ft:"
MOST = 1000
"""Rows of a page."""
_JOBS = "/v1/fine_tuning/jobs"
_PERMISSIONS = "/v1/fine_tuning/checkpoints/{name:path}/permissions"


def routes() -> list[BaseRoute]:
    """The routes of fine-tuning."""
    return [
        Route(_JOBS, _ordered, methods=["POST"]),
        Route(_JOBS, _listed, methods=["GET"]),
        Route(f"{_JOBS}/{{id}}", _retrieved, methods=["GET"]),
        Route(f"{_JOBS}/{{id}}/cancel", _cancelled, methods=["POST"]),
        Route(f"{_JOBS}/{{id}}/pause", _paused, methods=["POST"]),
        Route(f"{_JOBS}/{{id}}/resume", _resumed, methods=["POST"]),
        Route(f"{_JOBS}/{{id}}/events", _events, methods=["GET"]),
        Route(f"{_JOBS}/{{id}}/checkpoints", _checkpoints, methods=["GET"]),
        Route(_PERMISSIONS, _permissions, methods=["GET"]),
        Route(_PERMISSIONS, _permission_given, methods=["POST"]),
        Route(f"{_PERMISSIONS}/{{id}}", _permission_taken, methods=["DELETE"]),
        Route("/v1/models/{name:path}", _model_deleted, methods=["DELETE"]),
    ]


@contextlib.asynccontextmanager
async def running(service: Service) -> AsyncGenerator[None]:
    """Files are validated and jobs looked after meanwhile; children work on afterwards."""
    ordered, ready = asyncio.Event(), asyncio.Event()
    service.on_order, service.on_wish = ordered.set, ready.set
    tasks = [
        asyncio.create_task(validating(service.tuning, ordered, ready), name="baimo-validating"),
        asyncio.create_task(tended(service.tuning.queue, ready), name="baimo-tending"),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(service.tuning.queue.close)


async def _ordered(request: Request) -> Response:
    key, tenant = permitted(request, SURFACE)
    order = wire.ordered(await request.body())
    service = service_of(request)
    named = (order.training_file, order.validation_file)
    files = [await asyncio.to_thread(service.files.get, tenant, id) for id in named if id]
    classes: list[DataClass] = [class_of(service, file) for file in files if file is not None]
    data = classed(request, *classes)
    if order.grader is not None:
        grader = grader_of(order.grader)
        if runs_code(grader):
            await allowed_code(tenant)
        allowed = permit(service.settings.policy, *caller(request), data)
        for name in sorted(models_of(grader)):
            model = service.catalogue.model(name)
            allowed.check(model, inside=service.catalogue.vendor(model.vendor).inside)
            allowed.check_money(model)
    job = await asyncio.to_thread(service.tuning.order, order, key, tenant, data)
    service.on_order()
    return json_response(_row(request, job))


async def _listed(request: Request) -> Response:
    _, tenant = permitted(request, SURFACE)
    limit = number(request, "limit", usual=20, most=MOST)
    after = cursor(request, "ftjob-")
    labels = _labels(request)
    page = await asyncio.to_thread(_tuning(request).page, tenant, limit=limit, after=after, labels=labels)
    return json_response(_listing([_row(request, job) for job in page.rows], page))


async def _retrieved(request: Request) -> Response:
    return json_response(_row(request, await _job(request)))


async def _cancelled(request: Request) -> Response:
    return await _wished(request, "cancel")


async def _paused(request: Request) -> Response:
    return await _wished(request, "pause")


async def _resumed(request: Request) -> Response:
    return await _wished(request, "resume")


async def _wished(request: Request, wish: str) -> Response:
    job = await _job(request)
    tuning = _tuning(request)
    try:
        after = await asyncio.to_thread(getattr(tuning.queue, wish), job.spec.tenant, job.spec.id)
    except Conflict:
        # as OpenAI answers: 400, not 409
        now = await _job(request)
        known = "finetuning.completed" if now.status.ended else f"finetuning.cannot_{wish}"
        raise CallRefused(known, id=now.spec.id, status=now.status.value) from None
    service_of(request).on_wish()
    return json_response(_row(request, after))


async def _events(request: Request) -> Response:
    job = await _job(request)
    limit = number(request, "limit", usual=20, most=MOST)
    after = cursor(request, "ftevent-")
    page = await asyncio.to_thread(_tuning(request).events, job, limit=limit, after=after)
    return json_response(_listing([wire.event_row(event, job) for event in page.rows], page))


async def _checkpoints(request: Request) -> Response:
    job = await _job(request)
    limit = number(request, "limit", usual=10, most=MOST)
    after = cursor(request, "ftckpt_")
    made = await asyncio.to_thread(_tuning(request).checkpoints, job)
    rows = [wire.checkpoint_row(adapter, figures) for adapter, figures in made]
    ids = [row["id"] for row in rows]
    if after:
        rows = rows[ids.index(after) + 1 :] if after in ids else []
    shown = rows[:limit]
    ends = {"first_id": shown[0]["id"] if shown else None, "last_id": shown[-1]["id"] if shown else None}
    return json_response({**_listing(shown, Page(shown, len(rows) > limit)), **ends})


async def _permissions(request: Request) -> Response:
    """A tuned model belongs to its tenant, and to nobody else: the list is empty."""
    await _model(request)
    return json_response({**_listing([], Page([], more=False)), "first_id": None, "last_id": None})


async def _permission_given(request: Request) -> Response:
    await _model(request)
    raise NotSupported("finetuning.no_permissions")


async def _permission_taken(request: Request) -> Response:
    await _model(request)
    raise NotFound("finetuning.no_permission", id=str(request.path_params["id"])[:100])


async def _model(request: Request) -> str:
    _, tenant = permitted(request, SURFACE)
    name = str(request.path_params["name"])
    if await asyncio.to_thread(_tuning(request).adapters.named, name, tenant) is None:
        raise NotFound("finetuning.no_model", field="model", name=name[:200])
    return name


async def _model_deleted(request: Request) -> Response:
    key, tenant = permitted(request, SURFACE)
    name = str(request.path_params["name"])
    service = service_of(request)
    if not await asyncio.to_thread(service.tuning.forget, tenant, name):
        models, routes = service.offered(key)
        known = name in routes or any(model.name == name for model in models)
        if known and not name.startswith(TUNED):
            raise Forbidden("finetuning.not_yours", name=name[:200])
        raise NotFound("finetuning.no_model", field="model", name=name[:200])
    return json_response({"id": name, "object": "model", "deleted": True})


async def _job(request: Request) -> TuneJob:
    _, tenant = permitted(request, SURFACE)
    return await asyncio.to_thread(_tuning(request).job, tenant, str(request.path_params["id"]))


def _tuning(request: Request) -> FineTuning:
    return service_of(request).tuning


def _row(request: Request, job: TuneJob) -> dict[str, Any]:
    return wire.job_row(job, service_of(request).settings.tune.organization)


def _listing(rows: list[dict[str, Any]], page: Page) -> dict[str, Any]:
    return {"object": "list", "data": rows, "has_more": page.more}


def _labels(request: Request) -> Mapping[str, str] | None:
    """The metadata that jobs must have: `metadata[k]=v`; `metadata=null` asks for jobs without any."""
    given = request.query_params
    if given.get("metadata") == "null":
        return None
    return {
        name.removeprefix("metadata[").removesuffix("]"): value
        for name, value in given.items()
        if name.startswith("metadata[") and name.endswith("]")
    }
