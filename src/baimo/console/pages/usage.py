"""Usage: what was spent, by whom, on what, and every Record behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from markupsafe import Markup
from starlette.responses import Response

from baimo.console.api import Refused, named
from baimo.console.page import Page
from baimo.console.pages.home import totals
from baimo.console.pages.reconcile import reconcile
from baimo.console.plots import Bar, bars
from baimo.console.visit import Visit, words

SPANS = ("1d", "7d", "30d", "90d", "365d")
GROUPS = ("model", "key", "tenant", "surface", "status", "route", "day")
SCENARIO = "tag:scenario"
"""The label by which applications tell their scenarios apart."""
FILTERS = ("tenant", "key", "model", "surface", "status", "route", "tag")
TIMED = ("model", "key", "tenant", "surface", "route", "model_used")
SORTS = ("cost", "calls", "failed", "unpriced", "tokens_in", "tokens_out", "group")


def asked_of(visit: Visit) -> dict[str, str]:
    """Span, group, order and filters of the page's address."""
    given = visit.request.query_params
    span, sort = given.get("span", "30d"), given.get("sort", "cost")
    by = given.get("label", "") and f"tag:{given['label']}"
    by = by or given.get("by", "model")
    found = {
        "span": span if span in SPANS else "30d",
        "by": by if by in GROUPS or (by.startswith("tag:") and by != "tag:") else "model",
        "sort": sort if sort in SORTS else "cost",
    }
    return found | {name: given[name] for name in FILTERS if given.get(name)}


async def usage(visit: Visit) -> Response:
    """Sums per day and per group."""
    asked = asked_of(visit)
    since = since_of(asked["span"])
    filters = {name: asked.get(name) for name in FILTERS}
    per_day, groups = await asyncio.gather(
        visit.api.get("/api/ledger/sums", **filters, since=since, by="day", limit=1000),
        visit.api.get("/api/ledger/sums", **filters, since=since, by=asked["by"], limit=1000),
    )
    return visit.shown(
        "usage.html",
        page="usage",
        asked=asked,
        what=_group(asked["by"]),
        spans=SPANS,
        groups=[(name, _group(name)) for name in (*GROUPS, SCENARIO)],
        rows=[{**one, "drill": _drill(asked, one, since)} for one in _sorted(groups["data"], asked["sort"])],
        more=groups["next"] is not None,
        totals=totals(groups["data"]),
        plots=_plots(per_day["data"], since),
        since=since,
    )


def _sorted(rows: Sequence[Mapping[str, Any]], by: str) -> list[Mapping[str, Any]]:
    """Largest first; names and days as they are read."""
    if by == "group":
        return sorted(rows, key=lambda one: list(one["group"].values()))
    return sorted(rows, key=lambda one: (-Decimal(one[by] or 0), -one["calls"], str(one["group"])))


def _drill(asked: Mapping[str, str], row: Mapping[str, Any], since: str) -> dict[str, str]:
    """What to ask the list of Records to see those of a row."""
    by, value = asked["by"], next(iter(row["group"].values()))
    found = {name: asked[name] for name in FILTERS if name in asked} | {"since": since}
    if by == "day":
        return found | {"since": value, "until": f"{date.fromisoformat(value) + timedelta(days=1)}"}
    if by.startswith("tag:"):
        return found | {"tag": f"{by[4:]}={value}"} if value else found
    return found | {by: value}


def _group(by: str) -> str:
    """What the rows of a table are."""
    if by == SCENARIO:
        return words("console_usage.scenario")
    if by == "day":
        return words("console_usage.day")
    return words("group_tag", tag=by[4:]) if by.startswith("tag:") else words(f"group_{by}")


async def latency(visit: Visit) -> Response:
    """How long answers took."""
    asked = asked_of(visit)
    by = asked["by"] if asked["by"] in TIMED else "model"
    filters = {name: asked.get(name) for name in FILTERS}
    found = await visit.api.get("/api/ledger/latency", **filters, since=since_of(asked["span"]), by=by)
    slowest = max((one["p99"] or 0.0 for one in found["data"]), default=0.0)
    return visit.shown(
        "usage_latency.html",
        page="usage",
        asked=asked | {"by": by},
        what=words("console_usage.answered_by") if by == "model_used" else _group(by),
        found=found,
        slowest=slowest or 1.0,
        spans=SPANS,
        groups=[
            (name, words("console_usage.answered_by") if name == "model_used" else _group(name))
            for name in TIMED
        ],
        since=since_of(asked["span"]),
    )


def since_of(span: str) -> str:
    """The first day of a span that ends today, ISO 8601."""
    days = int(span.removesuffix("d"))
    return f"{datetime.now(UTC).date() - timedelta(days=days - 1)}"


def _plots(sums: Sequence[Mapping[str, Any]], since: str) -> list[tuple[str, Markup]]:
    """Calls, failures and, for each currency, money per day: (message, drawing)."""
    first, today = date.fromisoformat(since), datetime.now(UTC).date()
    days = [f"{first + timedelta(days=n)}" for n in range((today - first).days + 1)]
    calls, failed = dict.fromkeys(days, 0), dict.fromkeys(days, 0)
    money: dict[str, dict[str, Decimal]] = {}
    for one in sums:
        day = one["group"]["day"]
        if day in calls:
            calls[day] += one["calls"]
            failed[day] += one["failed"]
            spent = money.setdefault(one["currency"], {})
            spent[day] = spent.get(day, Decimal()) + Decimal(one["cost"] or 0)
    found = [("calls_per_day", bars([Bar(day, float(count)) for day, count in calls.items()]))]
    if any(failed.values()):
        found.append(
            ("console_usage.failed_per_day", bars([Bar(day, float(n)) for day, n in failed.items()]))
        )
    for currency, spent in money.items():
        if any(spent.values()):
            series = [Bar(day, float(spent.get(day, 0))) for day in days]
            found.append(("money_per_day", bars(series, unit=currency)))
    return found


async def records(visit: Visit) -> Response:
    """Records, newest first."""
    given = visit.request.query_params
    filters = {name: given.get(name) for name in (*FILTERS, "since", "until", "run", "cursor")}
    found = await visit.api.get("/api/ledger/records", **filters, limit=50)
    kept = {name: value for name, value in filters.items() if value and name != "cursor"}
    return visit.shown("records.html", page="usage", found=found, asked=kept)


async def record(visit: Visit) -> Response:
    """Everything about one, and its content where the tenant keeps it and the visitor may read it."""
    id = str(visit.request.path_params["record"])
    shown = await visit.api.get(named("/api/ledger/records/{record}", record=id))
    content = None
    if shown.get("content_hash") and visit.may("ledger_content"):
        try:
            content = await visit.api.get(named("/api/ledger/records/{record}/content", record=id))
        except Refused as refused:  # it was kept, and has been forgotten
            if refused.status != 404:
                raise
    return visit.shown("record.html", page="usage", record=shown, content=content)


async def export(visit: Visit) -> Response:
    """The Records of a question as a file."""
    visit.must("ledger_export")
    given = visit.request.query_params
    query = {name: given.get(name) for name in (*FILTERS, "since", "until")}
    return visit.api.forwarded("/api/ledger/export", query={**query, "format": given.get("format", "csv")})


USAGE = Page(
    name="usage",
    path="/usage",
    needs=("ledger_sums",),
    views=(
        ("GET", "/usage", usage),
        ("GET", "/usage/latency", latency),
        ("GET", "/usage/reconcile", reconcile),
        ("POST", "/usage/reconcile", reconcile),
        ("GET", "/usage/records", records),
        ("GET", "/usage/records/{record}", record),
        ("GET", "/usage/export", export),
    ),
)
