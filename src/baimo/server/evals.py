"""OpenAI's Evals API: evaluations, runs and output items, executed here.

Source: developers.openai.com/api/reference/resources/evals, and the official SDK 3.54.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any, Literal, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from baimo.core.tenant import DataClass
from baimo.errors import CallRefused, Conflict, NotFound, NotSupported
from baimo.evals.graders.code import isolated
from baimo.evals.graders.kinds import models_of, runs_code
from baimo.gateway.idle import Gate
from baimo.gateway.policy import strictest
from baimo.server.batches import metadata, room
from baimo.server.evals_wire import config, criteria, data_source, graders, name, page_row
from baimo.server.files import class_of, classed, cursor, number, permitted
from baimo.server.lines import SURFACE, Lines
from baimo.server.replies import json_response, service_of
from baimo.server.surfaces.given import Given
from baimo.store.evaluation_runs import ACTIVE, EvalRun
from baimo.store.evaluations import Evaluation
from baimo.workspace.eval_crew import crew
from baimo.workspace.eval_rows import evaluation_row, item_row, run_row
from baimo.workspace.eval_sources import Kept
from baimo.workspace.eval_work import Tools
from baimo.workspace.serving import Service

_STATUSES = ("queued", "in_progress", "completed", "canceled", "failed")
_ITEMS = {"pass": "pass", "fail": "fail", "failed": "fail", "error": "error"}
"""The reference names the filter fail in one place and failed in another."""


def routes() -> list[BaseRoute]:
    """The routes of evaluations."""
    runs, items = "/v1/evals/{id}/runs", "/v1/evals/{id}/runs/{run}/output_items"
    return [
        Route("/v1/evals", _created, methods=["POST"]),
        Route("/v1/evals", _listed, methods=["GET"]),
        Route("/v1/evals/{id}", _retrieved, methods=["GET"]),
        Route("/v1/evals/{id}", _updated, methods=["POST"]),
        Route("/v1/evals/{id}", _deleted, methods=["DELETE"]),
        Route(runs, _run_created, methods=["POST"]),
        Route(runs, _runs_listed, methods=["GET"]),
        Route(f"{runs}/{{run}}", _run_retrieved, methods=["GET"]),
        Route(f"{runs}/{{run}}", _run_canceled, methods=["POST"]),
        Route(f"{runs}/{{run}}/cancel", _run_canceled, methods=["POST"]),
        Route(f"{runs}/{{run}}", _run_deleted, methods=["DELETE"]),
        Route(items, _items_listed, methods=["GET"]),
        Route(f"{items}/{{item}}", _item_retrieved, methods=["GET"]),
    ]


@contextlib.asynccontextmanager
async def running(service: Service) -> AsyncGenerator[None]:
    """Runs are worked on meanwhile."""
    gate = Gate(service.gateway.waited_for, lambda vendor: room(service, vendor))
    kept = Kept(service.files, service.completions, service.responses, service.books.flush)
    lines = Lines(service, gate)
    tools = Tools(service.evaluations, service.eval_runs, kept, service.books.holder, lines.of_run)
    working = crew(tools)
    service.on_evaluation = working.nudge
    working.start()
    try:
        yield
    finally:
        await working.stop(service.settings.serve.drain_s)


# evaluations


async def _created(request: Request) -> Response:
    key, tenant = permitted(request, SURFACE)
    service, given = service_of(request), Given.body(await request.body())
    now_ms = service.evaluations.now_ms()
    evaluation = Evaluation(
        id=service.evaluations.new_id(),
        tenant=tenant,
        key=key.public,
        name=name(given, "eval"),
        source=await asyncio.to_thread(config, given),
        criteria=criteria(given),
        data_class=classed(request),
        metadata=metadata(given),
        created_ms=now_ms,
        updated_ms=now_ms,
    )
    lines = Lines(service)
    for grader in graders(evaluation):
        for model in models_of(grader):
            lines.known(model, key)
        if runs_code(grader):
            await allowed_code(tenant)
    await asyncio.to_thread(service.evaluations.add, evaluation)
    return json_response(evaluation_row(evaluation), 201)


async def allowed_code(tenant: str) -> None:
    """Refuse the code of tenants where it cannot be kept apart from the machine.

    Raises:
        NotSupported: it cannot.
    """
    if tenant and not await isolated():
        raise NotSupported("graders.not_isolated")


async def _listed(request: Request) -> Response:
    _, tenant = permitted(request, SURFACE)
    limit = number(request, "limit", usual=20, most=100)
    by = _word(request, "order_by", ("created_at", "updated_at"))
    found = await asyncio.to_thread(
        service_of(request).evaluations.page,
        tenant,
        limit=limit + 1,
        after=cursor(request, "eval_"),
        ascending=_ascending(request),
        by=cast('Literal["created_at", "updated_at"]', by),
    )
    return json_response(page_row([evaluation_row(one) for one in found], limit))


async def _retrieved(request: Request) -> Response:
    return json_response(evaluation_row(await _evaluation(request)))


async def _updated(request: Request) -> Response:
    evaluation = await _evaluation(request)
    service, given = service_of(request), Given.body(await request.body())
    facts: dict[str, Any] = {"name": name(given, evaluation.name)}
    if "metadata" in given.row:
        facts["metadata"] = metadata(given)
    facts["updated_ms"] = service.evaluations.now_ms()
    after = await asyncio.to_thread(
        service.evaluations.change, evaluation.tenant, evaluation.id, lambda one: replace(one, **facts)
    )
    if after is None:
        raise NotFound("evaluations.unknown", id=evaluation.id)
    return json_response(evaluation_row(after))


async def _deleted(request: Request) -> Response:
    evaluation = await _evaluation(request)
    await asyncio.to_thread(service_of(request).evaluations.delete, evaluation.tenant, evaluation.id)
    return json_response({"object": "eval.deleted", "deleted": True, "eval_id": evaluation.id})


# runs


async def _run_created(request: Request) -> Response:
    key, _ = permitted(request, SURFACE)
    evaluation = await _evaluation(request)
    service, given = service_of(request), Given.body(await request.body())
    asked = await asyncio.to_thread(data_source, given, evaluation)
    model = str(asked.get("model") or "")
    if model:
        Lines(service).known(model, key)
    if any(runs_code(grader) for grader in graders(evaluation)):
        await allowed_code(evaluation.tenant)
    source, data = asked["source"], classed(request, class_of(service, evaluation))
    if source["type"] == "file_id":
        data = strictest(data, await _file_class(service, evaluation.tenant, source["id"]))
    run = EvalRun(
        id=service.eval_runs.new_id(),
        tenant=evaluation.tenant,
        key=key.public,
        evaluation=evaluation.id,
        name=name(given, model or evaluation.name),
        model=model,
        data_class=data,
        metadata=metadata(given),
        created_ms=service.eval_runs.now_ms(),
    )
    await asyncio.to_thread(service.eval_runs.add, run, asked)
    service.on_evaluation()
    return json_response(run_row(run, asked, _address(request)), 201)


async def _file_class(service: Service, tenant: str, id: str) -> DataClass:
    """The class of a file that can be used."""
    file = await asyncio.to_thread(service.files.get, tenant, id)
    if file is None:
        raise NotFound("files.unknown", id=id[:100])
    if file.purpose not in ("evals", "fine-tune", "batch", "user_data"):
        raise CallRefused(
            "evaluations.not_evals", field="data_source.source.id", id=file.id, purpose=file.purpose
        )
    return class_of(service, file)


async def _runs_listed(request: Request) -> Response:
    evaluation, service = await _evaluation(request), service_of(request)
    limit = number(request, "limit", usual=20, most=100)
    runs = await asyncio.to_thread(
        service.eval_runs.page,
        evaluation.tenant,
        evaluation.id,
        limit=limit + 1,
        after=cursor(request, "evalrun_"),
        ascending=_ascending(request),
        status=_word(request, "status", ("", *_STATUSES)),
    )
    return json_response(page_row([await _shown(request, run) for run in runs], limit))


async def _run_retrieved(request: Request) -> Response:
    return json_response(await _shown(request, await _run(request)))


async def _run_canceled(request: Request) -> Response:
    run, service = await _run(request), service_of(request)
    now_ms = service.eval_runs.now_ms()
    before: list[str] = []

    def canceled(one: EvalRun) -> EvalRun:
        before.append(one.status)
        return replace(one, status="canceled", ended_ms=now_ms) if one.active else one

    after = await asyncio.to_thread(service.eval_runs.change, run.tenant, run.id, canceled)
    if after is None:
        raise NotFound("evaluations.unknown_run", id=run.id)
    if before[-1] not in (*ACTIVE, "canceled"):
        raise Conflict("evaluations.run_ended", id=run.id, status=after.status)
    return json_response(await _shown(request, after))


async def _run_deleted(request: Request) -> Response:
    run = await _run(request)
    await asyncio.to_thread(service_of(request).eval_runs.delete, run.tenant, run.id)
    return json_response({"object": "eval.run.deleted", "deleted": True, "run_id": run.id})


# output items


async def _items_listed(request: Request) -> Response:
    run = await _run(request)
    limit = number(request, "limit", usual=20, most=100)
    status = _word(request, "status", ("", *_ITEMS))
    found = await asyncio.to_thread(
        service_of(request).eval_runs.items,
        run,
        limit=limit + 1,
        after=cursor(request, "outputitem_"),
        ascending=_ascending(request),
        status=_ITEMS.get(status, ""),
    )
    return json_response(page_row([item_row(run, item) for item in found], limit))


async def _item_retrieved(request: Request) -> Response:
    run, id = await _run(request), str(request.path_params["item"])
    item = await asyncio.to_thread(service_of(request).eval_runs.item, run, id)
    if item is None:
        raise NotFound("evaluations.unknown_item", id=id[:100])
    return json_response(item_row(run, item))


# small things


async def _evaluation(request: Request) -> Evaluation:
    _, tenant = permitted(request, SURFACE)
    id = str(request.path_params["id"])
    found = await asyncio.to_thread(service_of(request).evaluations.get, tenant, id)
    if found is None:
        raise NotFound("evaluations.unknown", id=id[:100])
    return found


async def _run(request: Request) -> EvalRun:
    evaluation = await _evaluation(request)
    id = str(request.path_params["run"])
    run = await asyncio.to_thread(service_of(request).eval_runs.get, evaluation.tenant, id)
    if run is None or run.evaluation != evaluation.id:
        raise NotFound("evaluations.unknown_run", id=id[:100])
    return run


async def _shown(request: Request, run: EvalRun) -> dict[str, Any]:
    asked = await asyncio.to_thread(service_of(request).eval_runs.asked, run.tenant, run.id)
    return run_row(run, asked, _address(request))


def _address(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _ascending(request: Request) -> bool:
    return _word(request, "order", ("asc", "desc")) == "asc"


def _word(request: Request, field: str, known: tuple[str, ...]) -> str:
    """A word of the query; the first one is the usual."""
    given = request.query_params.get(field, known[0])
    if given not in known:
        raise CallRefused(
            "files.wrong_value", field=field, got=given[:40], expected=" | ".join(filter(None, known))
        )
    return given
