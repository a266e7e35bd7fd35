"""Home: is all well, what did today cost, what to do next."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import urlencode

from starlette.responses import Response

from baimo.console.api import Refused, named
from baimo.console.live import events_of, live
from baimo.console.page import Page
from baimo.console.visit import Visit, words
from baimo.core.tuned_name import brief

COMMANDS = {
    "call": """curl ADDRESS/v1/chat/completions \\
  -H 'Authorization: Bearer <key>' -H 'Content-Type: application/json' \\
  -d '{"model": "MODEL", "messages": [{"role": "user", "content": "Hello"}]}'""",
    "compare": "baimo tasks new my-task\nbaimo compare my-task",
    "tune": "baimo tune my-task --model MODEL",
}
"""What a new workspace can do next, from a command line; pages can do as much."""
PAGES = {
    "call": ("/chat", "sessions_begin"),
    "compare": ("/compare/new", "comparisons_start"),
    "tune": ("/tune/new", "tuning_order"),
}
"""Step → the page that does the same, and the operation without which it is of no use."""
EMBEDDED = "local/smollm2-135m-instruct"
MOST_LOOKED = 50
"""Models behind routes that are looked up for one page."""
SOON_DAYS = 90
"""A model that is switched off within so many days is a warning."""


class Warning(NamedTuple):
    """Something that wants looking after."""

    message: str
    link: str
    """Where; below /console."""


class Step(NamedTuple):
    """Something that a new workspace can do next."""

    title: str
    what: str
    command: str
    page: str
    """Where the console does it; below /console; empty = this visitor may not."""


class Work(NamedTuple):
    """Something that goes on."""

    title: str
    link: str
    """Below /console."""
    status: str
    """For people."""
    since: str
    """ISO 8601."""
    done: float | None
    """Share that is done; None = not known."""
    left_s: float | None
    """Forecast; None = not known."""


async def home(visit: Visit) -> Response:
    events = await events_of(visit)
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    sums, limits, health, providers, shutdowns, work = await asyncio.gather(
        _optional(visit, "ledger_sums", "/api/ledger/sums", since=today, by="model"),
        _optional(visit, "limits_list", "/api/limits", tightest="true", limit=5),
        _optional(visit, "health", "/api/health"),
        _optional(visit, "providers_list", "/api/providers", configured="true", limit=500),
        _shutdowns(visit),
        _work(visit),
    )
    spent: list[Any] = sums["data"] if sums else []
    tightest: list[Any] = limits["data"] if limits else []
    used = bool(spent)
    if not used:
        newest: Any = await _optional(visit, "ledger_records", "/api/ledger/records", limit=1)
        used = bool(newest and newest["data"])
    return visit.shown(
        "home.html",
        page="home",
        events=events,
        health=health,
        totals=totals(spent),
        limits=[_with_share(one) for one in tightest],
        warnings=[*_warnings(spent, health), *_resting(providers), *shutdowns],
        work=work,
        steps=[] if used else await _steps(visit),
    )


async def _optional(visit: Visit, operation: str, path: str, **query: Any) -> Any:
    """What the API says, or None where this visitor may not ask."""
    if not visit.may(operation):
        return None
    try:
        return await visit.api.get(path, **query)
    except Refused as refused:
        if refused.status == 403:
            return None
        raise


def totals(sums: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Sums over groups, one for each currency: calls, failures, tokens, money (None = of no call it is known)."""
    found: dict[str, dict[str, Any]] = {}
    for one in sums:
        total = found.setdefault(
            one["currency"],
            {
                "currency": one["currency"],
                "calls": 0,
                "failed": 0,
                "unpriced": 0,
                "tokens": 0,
                "cost": None,
            },
        )
        for name in ("calls", "failed", "unpriced"):
            total[name] += one[name]
        total["tokens"] += one["tokens_in"] + one["tokens_out"]
        if one["cost"] is not None:
            total["cost"] = (total["cost"] or 0) + Decimal(one["cost"])
    return list(found.values())


def _with_share(limit: Mapping[str, Any]) -> dict[str, Any]:
    return {**limit, "share": float(Decimal(limit["used"]) / Decimal(limit["amount"]))}


def _warnings(sums: Sequence[Mapping[str, Any]], health: Mapping[str, Any] | None) -> list[Warning]:
    found: list[Warning] = []
    for problem in health["trouble"] if health else ():
        found.append(Warning(str(problem), "/settings"))
    for one in sums:
        model = one["group"]["model"]
        if one["unpriced"]:
            found.append(
                Warning(
                    words("warn_unpriced", model=model, count=one["unpriced"]),
                    f"/usage/records?model={model}",
                )
            )
        if one["calls"] >= 20 and one["failed"] * 5 > one["calls"]:
            share = round(100 * one["failed"] / one["calls"])
            link = f"/usage/records?model={model}&status=failed"
            found.append(Warning(words("warn_failing", model=model, share=share), link))
    return found


async def _shutdowns(visit: Visit) -> list[Warning]:
    """Models behind a route that will be switched off soon."""
    found: Any = await _optional(visit, "routes_list", "/api/routes") or {"data": []}
    names: list[str] = sorted({name for route in found["data"] for name in route["leads_to"]})
    looked = await asyncio.gather(*(_end_of(visit, name) for name in names[:MOST_LOOKED]))
    return [
        Warning(words("warn_shutdown", model=name, when=ends), f"/models/{name}")
        for name, ends in zip(names, looked, strict=False)
        if ends and _days_until(ends) <= SOON_DAYS
    ]


async def _end_of(visit: Visit, model: str) -> str | None:
    """When a model will be switched off; None = not known, or a route leads to what this visitor may not ask for."""
    try:
        shown = await visit.api.get(named("/api/models/{model}", model=model))
    except Refused as refused:
        if refused.status == 404:
            return None
        raise
    return shown["shutdown_date"]


def _days_until(day: str) -> int:
    """Negative = it was before today. `day` may be a month: its first day counts."""
    ends = date.fromisoformat(day if len(day) == 10 else f"{day}-01"[:10])
    return (ends - datetime.now(UTC).date()).days


def _resting(providers: Mapping[str, Any] | None) -> list[Warning]:
    """Models whose servers are left alone for now, because they failed again and again."""
    rows: list[Mapping[str, Any]] = providers["data"] if providers else []
    return [
        Warning(words("console_home.resting", model=one["model"]), f"/models/{one['model']}")
        for provider in rows
        for one in provider["breakers"]
        if one["state"] != "closed"
    ]


async def _work(visit: Visit) -> list[Work]:
    """Comparisons and tuning jobs that are under way, and those that wait for somebody."""
    *found, jobs = await asyncio.gather(
        *(
            _optional(visit, "comparisons_list", "/api/comparisons", status=status, limit=5)
            for status in ("running", "queued", "interrupted")
        ),
        _optional(visit, "tuning_list", "/api/tuning/jobs", status="unended", limit=5),
    )
    compared: list[Mapping[str, Any]] = [one for some in found if some for one in some["data"]]
    work = [
        Work(
            words("console_home.comparing", task=one["task"], count=len(one["candidates"])),
            named("/compare/{run}", run=one["id"]),
            words(f"console_compare.status_{one['status']}"),
            one["started"],
            None,
            None,
        )
        for one in compared
    ]
    return work + [_job(one) for one in (jobs["data"] if jobs else ())]


def _job(job: Mapping[str, Any]) -> Work:
    progress = job["progress"]
    learnt = job["task"] or job["file"] or "–"
    title = words("console_home.tuning", base=brief(job["base"]), task=learnt)
    return Work(
        f"{job['suffix']} · {title}" if job["suffix"] else title,
        named("/tune/{job}", job=job["job"]),
        words(f"console_tune.phase_{job['phase']}"),
        job["started"] or job["created"],
        progress["step"] / progress["steps"] if progress and progress["steps"] else None,
        progress["eta_s"] if progress else None,
    )


async def _steps(visit: Visit) -> list[Step]:
    origin = f"{visit.request.url.scheme}://{visit.request.url.netloc}"
    offered: Any = await visit.api.get("/v1/models")
    names = [str(one["id"]) for one in offered["data"]]
    model = EMBEDDED if EMBEDDED in names or not names else names[0]
    made: list[Step] = []
    for name, command in COMMANDS.items():
        page, operation = PAGES[name]
        base = EMBEDDED if name == "tune" else model
        written = command.replace("ADDRESS", origin).replace("MODEL", base)
        link = page if visit.may(operation) else ""
        if link == "/chat" and names:
            link = f"/chat?{urlencode({'model': model})}"
        made.append(Step(words(f"step_{name}"), words(f"step_what_{name}"), written, link))
    return made


HOME = Page(name="home", path="/", views=(("GET", "/", home), ("GET", "/live", live)))
