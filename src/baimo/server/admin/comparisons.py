"""Comparisons: begun, watched, stopped and read by clients of the endpoint."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

import msgspec
from starlette.responses import Response

from baimo.core.moments import shown
from baimo.errors import NotFound, UsageError
from baimo.evals.options import LIMITS, CompareOptions
from baimo.evals.report.report import Report, asked, expected
from baimo.server.admin.columns import MEDIA
from baimo.server.admin.comparison_forms import (
    AnswerShown,
    ComparisonDetail,
    ComparisonEvent,
    ComparisonEventsAsked,
    ComparisonShown,
    DifferencesAsked,
    DifferenceShown,
    DifferencesPage,
    ForecastShown,
    ReportAsked,
    ResumeAsked,
    RunNamed,
)
from baimo.server.admin.comparison_list import (
    ComparisonsAsked,
    ComparisonsExport,
    ComparisonsPage,
    export,
    listed,
    options_of,
    shown_comparison,
)
from baimo.server.admin.news import News, Said
from baimo.server.admin.operation import Asking, Operation
from baimo.server.admin.streams import Events
from baimo.store import audit
from baimo.store.comparisons import Entered
from baimo.workspace.compare_folder import latest, run_folder
from baimo.workspace.compare_queue import Prepared

MOST = 100
"""Events of one look."""
_FILES = {"html": "text/html", "json": "application/json", "markdown": "text/markdown"}


async def _forecast(asking: Asking, asked: CompareOptions) -> ForecastShown:
    found = await _prepared(asking, asked, enter=False)
    return ForecastShown(
        task=found.task,
        candidates=found.candidates,
        forecast=found.forecast,
        fetches=found.fetches,
        notices=found.notices,
    )


async def _start(asking: Asking, asked: CompareOptions) -> ComparisonDetail:
    found = await _prepared(asking, asked, enter=True)
    said = {"task": asked.task, "max_cost": asked.max_cost}
    await asyncio.to_thread(_entered, asking, "comparison.start", found.run, said)
    asking.service.on_comparison()
    return await asyncio.to_thread(_get, asking, RunNamed(run=found.run))


async def _prepared(asking: Asking, asked: CompareOptions, *, enter: bool) -> Prepared:
    for name in ("resume", "forecast", "require"):
        if getattr(asked, name):
            raise UsageError("compare.another_way", name=name, field=f"/{name}")
    if not asked.task:
        raise UsageError("admin.missing", field="/task")
    return await asking.service.comparisons.prepared(asked, asking.key, enter=enter)


def _get(asking: Asking, asked: RunNamed) -> ComparisonDetail:
    found = _one(asking, asked.run)
    told = latest(run_folder(asking.service.workspace.path, found.run.id))
    verdict = found.verdict
    forecast = told.forecast or (verdict.forecast if verdict else None)
    return ComparisonDetail(
        comparison=shown_comparison(asking, found),
        options=options_of(found.run),
        forecast=forecast,
        progress=told.progress,
        notices=list(told.notices),
        place=told.place,
        verdict=verdict,
    )


async def _stop(asking: Asking, asked: RunNamed) -> ComparisonDetail:
    found = await asyncio.to_thread(_one, asking, asked.run)
    await asyncio.to_thread(asking.service.comparisons.stop, found.run)
    await asyncio.to_thread(_entered, asking, "comparison.stop", found.run.id, {})
    asking.service.on_comparison()
    return await asyncio.to_thread(_get, asking, asked)


async def _resume(asking: Asking, asked: ResumeAsked) -> ComparisonDetail:
    found = await asyncio.to_thread(_one, asking, asked.run)
    limits = {name: getattr(asked, name) for name in LIMITS}
    CompareOptions(task="", **limits)  # raises UsageError where one is out of its range
    await asyncio.to_thread(asking.service.comparisons.resume, found.run, limits, asking.key)
    said = {name: value for name, value in limits.items() if value is not None}
    await asyncio.to_thread(_entered, asking, "comparison.resume", found.run.id, said)
    asking.service.on_comparison()
    return await asyncio.to_thread(_get, asking, RunNamed(run=asked.run))


async def _events(asking: Asking, asked: ComparisonEventsAsked) -> Response:
    found = await asyncio.to_thread(_one, asking, asked.run)
    queue, id, news = asking.service.comparisons, found.run.id, News.of(asking.service)
    folder = run_folder(asking.service.workspace.path, id)
    place = int(asking.last_event) if asking.last_event.isdecimal() else asked.after
    news.admit()

    def more() -> Said:
        nonlocal place
        now = queue.runs.get(None, id)
        ended = now is None or queue.standing(now.run) not in ("queued", "running")
        works = ended and folder.path.exists() and folder.alive  # its last words come after its status
        events = list(islice(folder.events(place), MOST))
        place = events[-1][0] if events else place
        said = [_event(behind, event) for behind, event in events]
        return Said(said, over=ended and not works and not said, last_words=works)

    return Events(news.stream(lambda sign: sign.id == id, more))


def _event(behind: int, event: Mapping[str, Any]) -> bytes:
    """An event of a folder; its id is the place behind it, from where a client may go on."""
    facts = {name: value for name, value in event.items() if name not in ("at_ms", "kind")}
    data = json.dumps({"at": shown(int(event["at_ms"])), "facts": facts}, ensure_ascii=False)
    return f"id: {behind}\nevent: {event['kind']}\ndata: {data}\n\n".encode()


def _export(asking: Asking, asked: ReportAsked) -> Response:
    from baimo.evals.report.data import data
    from baimo.evals.report.html import html
    from baimo.evals.report.markdown import markdown

    report = _report(asking, asked.run)
    match asked.format:
        case "json":
            body: bytes | str = msgspec.json.encode(data(report))
        case "markdown":
            body = markdown(report.verdict)
        case _:
            body = html(report)
    ending = {"markdown": "md"}.get(asked.format, asked.format)
    headers = {"content-disposition": f'attachment; filename="{report.run.id}.{ending}"'}
    return Response(body, headers=headers, media_type=_FILES[asked.format])


def _differences(asking: Asking, asked: DifferencesAsked) -> DifferencesPage:
    if asked.cursor is not None and not asked.cursor.isdecimal():
        raise UsageError("admin.bad_cursor", field="/cursor")
    start = int(asked.cursor or 0)
    found = _report(asking, asked.run).differences(start + asked.limit)
    end = start + asked.limit
    return DifferencesPage(
        data=[_difference(one) for one in found.shown[start:]],
        total=found.total,
        compared=found.compared,
        next=str(end) if end < found.total else None,
    )


def _difference(one: Any) -> DifferenceShown:
    return DifferenceShown(
        example=one.example.id,
        asked=asked(one.example),
        expected=expected(one.example),
        spread=one.spread,
        answers=[
            AnswerShown(
                candidate=answer.candidate,
                score=answer.score,
                outcome=answer.sample.score.outcome.value,
                reply=answer.reply,
                explanation=answer.sample.score.explanation,
            )
            for answer in one.answers
        ],
    )


def _one(asking: Asking, id: str) -> Entered:
    """A run that this key may see.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    found = asking.service.comparisons.runs.get(None if asking.owner else asking.tenant.id, id)
    if found is None:
        raise NotFound("admin.no_run", field="/run")
    return found


def _report(asking: Asking, id: str) -> Report:
    run = _one(asking, id).run
    made = asking.service.workspace.report(run.id)
    return replace(made, run=replace(run, options=options_of(run)))


def _entered(asking: Asking, act: str, run: str, facts: Mapping[str, Any]) -> None:
    with asking.service.workspace.store.database.writing() as connection:
        audit.enter(connection, asking.actor, act, run, facts, time.time_ns() // 1_000_000)


COMPARISONS = (
    Operation(
        method="POST", path="/api/comparisons/forecast", role="engineer", takes=CompareOptions,
        gives=ForecastShown, does=_forecast, tag="compare", summary="admin.comparisons_forecast",
        errors=(404, 429, 503),
    ),
    Operation(
        method="GET", path="/api/comparisons", role="viewer", takes=ComparisonsAsked, gives=ComparisonsPage,
        does=listed, tag="compare", summary="admin.comparisons_list", errors=(404,),
    ),
    Operation(
        method="GET", path="/api/comparisons/export", role="viewer", takes=ComparisonsExport,
        gives=ComparisonShown, does=export, tag="compare", summary="admin.comparisons_list_export",
        media=MEDIA, errors=(404,),
    ),
    Operation(
        method="POST", path="/api/comparisons", role="engineer", takes=CompareOptions,
        gives=ComparisonDetail, does=_start, tag="compare", summary="admin.comparisons_start", status=201,
        errors=(404, 429, 503),
    ),
    Operation(
        method="GET", path="/api/comparisons/{run}", role="viewer", takes=RunNamed, gives=ComparisonDetail,
        does=_get, tag="compare", summary="admin.comparisons_get", errors=(404,),
    ),
    Operation(
        method="GET", path="/api/comparisons/{run}/events", role="viewer", takes=ComparisonEventsAsked,
        gives=ComparisonEvent, does=_events, tag="compare", summary="admin.comparisons_events",
        media=("text/event-stream",),
        errors=(404, 503),
    ),
    Operation(
        method="POST", path="/api/comparisons/{run}/stop", role="engineer", takes=RunNamed,
        gives=ComparisonDetail, does=_stop, tag="compare", summary="admin.comparisons_stop", errors=(404, 409),
    ),
    Operation(
        method="POST", path="/api/comparisons/{run}/resume", role="engineer", takes=ResumeAsked,
        gives=ComparisonDetail, does=_resume, tag="compare", summary="admin.comparisons_resume",
        errors=(404, 409),
    ),
    Operation(
        method="GET", path="/api/comparisons/{run}/export", role="viewer", takes=ReportAsked,
        gives=ComparisonDetail, does=_export, tag="compare", summary="admin.comparisons_export",
        media=tuple(_FILES.values()), errors=(404,),
    ),
    Operation(
        method="GET", path="/api/comparisons/{run}/differences", role="viewer", takes=DifferencesAsked,
        gives=DifferencesPage, does=_differences, tag="compare", summary="admin.comparisons_differences",
        errors=(404,),
    ),
)  # fmt: skip
