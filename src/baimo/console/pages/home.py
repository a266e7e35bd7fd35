"""Home: is all well, what did today cost, what to do next."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from starlette.responses import Response

from baimo.console.api import Refused, named
from baimo.console.page import Page
from baimo.console.visit import Visit, words

COMMANDS = {
    "call": """curl ADDRESS/v1/chat/completions \\
  -H 'Authorization: Bearer <key>' -H 'Content-Type: application/json' \\
  -d '{"model": "local/smollm2-135m-instruct", "messages": [{"role": "user", "content": "Hello"}]}'""",
    "compare": "baimo tasks new my-task\nbaimo compare my-task",
    "tune": "baimo tune my-task --model local/smollm2-135m-instruct",
}
"""What a new workspace can do next."""
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


async def home(visit: Visit) -> Response:
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    sums, limits, health = await asyncio.gather(
        _optional(visit, "ledger_sums", "/api/ledger/sums", since=today, by="model"),
        _optional(visit, "limits_list", "/api/limits", limit=50),
        _optional(visit, "health", "/api/health"),
    )
    spent: list[Any] = sums["data"] if sums else []
    used = bool(spent)
    if not used:
        newest: Any = await _optional(visit, "ledger_records", "/api/ledger/records", limit=1)
        used = bool(newest and newest["data"])
    return visit.shown(
        "home.html",
        page="home",
        health=health,
        totals=totals(spent),
        limits=tightest(limits["data"] if limits else []),
        warnings=[*_warnings(spent, health), *await _shutdowns(visit)],
        steps=[] if used else _steps(visit),
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
    """Sums over groups, one for each currency: calls, failures, tokens, money."""
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
                "cost": Decimal(),
            },
        )
        for name in ("calls", "failed", "unpriced"):
            total[name] += one[name]
        total["tokens"] += one["tokens_in"] + one["tokens_out"]
        total["cost"] += Decimal(one["cost"])
    return list(found.values())


def tightest(limits: Sequence[Mapping[str, Any]], most: int = 5) -> list[dict[str, Any]]:
    """The limits of which the largest part is used, with that part."""
    found = [
        {**one, "share": float(Decimal(one["used"]) / Decimal(one["amount"]))}
        for one in limits
        if one["counts"] != "concurrency"
    ]
    return sorted(found, key=lambda one: -one["share"])[:most]


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
    told: list[Warning] = []
    for name in names[:50]:
        shown = await visit.api.get(named("/api/models/{model}", model=name))
        ends = shown["shutdown_date"]
        if ends and _days_until(ends) <= SOON_DAYS:
            told.append(Warning(words("warn_shutdown", model=name, when=ends), f"/models?text={name}"))
    return told


def _days_until(day: str) -> int:
    """Negative = it was before today. `day` may be a month: its first day counts."""
    ends = date.fromisoformat(day if len(day) == 10 else f"{day}-01"[:10])
    return (ends - datetime.now(UTC).date()).days


def _steps(visit: Visit) -> list[Step]:
    origin = f"{visit.request.url.scheme}://{visit.request.url.netloc}"
    return [
        Step(words(f"step_{name}"), words(f"step_what_{name}"), command.replace("ADDRESS", origin))
        for name, command in COMMANDS.items()
    ]


HOME = Page(name="home", path="/", views=(("GET", "/", home),))
