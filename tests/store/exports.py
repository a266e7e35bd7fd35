"""Exports as providers write them, made from calls that the tests invent."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

DAY = 86_400
FIRST = 1_793_923_200
"""2026-11-06T00:00:00Z, seconds since 1970."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call as the provider knows it."""

    day: int = 0
    """Days after FIRST."""
    model: str
    fresh: int = 0
    cached: int = 0
    written: int = 0
    out: int = 0
    cost: Decimal = Decimal(0)
    """Dollars."""
    key: str = "key_1"


def iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _grouped(calls: Sequence[Call]) -> dict[int, dict[tuple[str, str], list[Call]]]:
    days: dict[int, dict[tuple[str, str], list[Call]]] = defaultdict(lambda: defaultdict(list))
    for call in calls:
        days[call.day][call.model, call.key].append(call)
    return days


def _total(calls: Sequence[Call], name: str) -> int:
    return sum(getattr(call, name) for call in calls)


def _page(buckets: list[dict[str, Any]], **more: Any) -> str:
    page = {"object": "page", "data": buckets, "has_more": False, "next_page": None, **more}
    return json.dumps(page, default=str, indent=2)


class Number(float):
    """A decimal that JSON writes with all its digits."""

    def __new__(cls, value: Decimal) -> Number:
        made = super().__new__(cls, value)
        made.digits = f"{value:f}"
        return made

    def __repr__(self) -> str:
        return self.digits

    digits: str


def openai_usage(calls: Sequence[Call], days: int = 3, **more: Any) -> str:
    """GET /v1/organization/usage/completions?group_by[]=model&group_by[]=api_key_id&bucket_width=1d"""
    grouped = _grouped(calls)
    buckets = [
        {
            "object": "bucket",
            "start_time": FIRST + day * DAY,
            "end_time": FIRST + (day + 1) * DAY,
            "results": [
                {
                    "object": "organization.usage.completions.result",
                    "input_tokens": sum(_total(some, name) for name in ("fresh", "cached", "written")),
                    "output_tokens": _total(some, "out"),
                    "input_cached_tokens": _total(some, "cached"),
                    "input_cache_write_tokens": _total(some, "written"),
                    "input_audio_tokens": 0,
                    "output_audio_tokens": 0,
                    "num_model_requests": len(some),
                    "project_id": None,
                    "user_id": None,
                    "api_key_id": key,
                    "model": model,
                    "batch": None,
                }
                for (model, key), some in grouped[day].items()
            ],
        }
        for day in range(days)
    ]
    return _page(buckets, **more)


def openai_costs(calls: Sequence[Call], days: int = 3) -> str:
    """GET /v1/organization/costs?group_by[]=line_item: each model's cost split over two items."""
    grouped = _grouped(calls)
    buckets = []
    for day in range(days):
        results = []
        for (model, _), some in grouped[day].items():
            cost = sum((call.cost for call in some), Decimal(0))
            halves = (cost / 3).quantize(Decimal("0.000000000001"))
            for item, value in (("input", halves), ("cached input", Decimal(0)), ("output", cost - halves)):
                amount = {"value": Number(value), "currency": "usd"}
                result = {"object": "organization.costs.result", "amount": amount}
                results.append({**result, "line_item": f"{model}, {item}", "project_id": None})
        begins = FIRST + day * DAY
        buckets.append(
            {"object": "bucket", "start_time": begins, "end_time": begins + DAY, "results": results}
        )
    text = _page(buckets)
    assert json.loads(text)["data"]
    return text


def _csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(columns)
    table.writerows(rows)
    return out.getvalue()


def openai_usage_csv(calls: Sequence[Call]) -> str:
    """platform.openai.com/usage → Export → Activity, by the minute; counts of calls as floats."""
    columns = (
        *("start_time", "end_time", "start_time_iso", "end_time_iso", "project_id", "num_model_requests"),
        *("user_id", "api_key_id", "model", "batch", "service_tier", "input_tokens", "output_tokens"),
        *("input_cached_tokens", "input_uncached_tokens"),
    )
    rows: list[list[Any]] = []
    for number, call in enumerate(calls):
        begins = FIRST + call.day * DAY + (number % 1440) * 60
        asked = call.fresh + call.cached + call.written
        times = [begins, begins + 60, iso(begins), iso(begins + 60)]
        rows.append([*times, "proj_1", "1.0", "", call.key, call.model, "", "", asked, call.out, call.cached])
        rows[-1].append(asked - call.cached)
    return _csv(columns, rows)


def openai_costs_csv(calls: Sequence[Call]) -> str:
    """platform.openai.com/usage → Export → Cost."""
    columns = (
        *("start_time", "end_time", "start_time_iso", "end_time_iso", "amount_value", "amount_currency"),
        *("quantity", "quantity_unit", "line_item", "user_id", "api_key_id", "project_id", "organization_id"),
        *("project_name", "organization_name", "user_email", "api_source"),
    )
    rows: list[list[Any]] = [
        [FIRST, FIRST + DAY, iso(FIRST), iso(FIRST + DAY), *[""] * 13],  # a time without any cost
    ]
    for call in calls:
        begins = FIRST + call.day * DAY
        times = [begins, begins + DAY, iso(begins), iso(begins + DAY)]
        item = f"{call.model}, output"
        amount = [f"{call.cost:.30f}", "usd", 1000, "tokens", item, "", call.key, "proj_1", "org-1"]
        rows.append([*times, *amount, "Proj", "Org", "", ""])
    return _csv(columns, rows)


def anthropic_usage(calls: Sequence[Call], days: int = 3) -> str:
    """GET /v1/organizations/usage_report/messages?group_by[]=model&group_by[]=api_key_id&bucket_width=1d"""
    grouped = _grouped(calls)
    buckets = [
        {
            "starting_at": iso(FIRST + day * DAY),
            "ending_at": iso(FIRST + (day + 1) * DAY),
            "results": [
                {
                    "uncached_input_tokens": _total(some, "fresh"),
                    "cache_creation": {
                        "ephemeral_1h_input_tokens": _total(some, "written") // 3,
                        "ephemeral_5m_input_tokens": _total(some, "written") - _total(some, "written") // 3,
                    },
                    "cache_read_input_tokens": _total(some, "cached"),
                    "output_tokens": _total(some, "out"),
                    "server_tool_use": {"web_search_requests": 0},
                    "api_key_id": key,
                    "workspace_id": None,
                    "model": model,
                    "service_tier": "standard",
                    "context_window": "0-200k",
                }
                for (model, key), some in grouped[day].items()
            ],
        }
        for day in range(days)
    ]
    return json.dumps({"data": buckets, "has_more": False, "next_page": None})


def anthropic_cost(calls: Sequence[Call], days: int = 3) -> str:
    """GET /v1/organizations/cost_report?group_by[]=description: cents as decimal strings."""
    grouped = _grouped(calls)
    buckets = []
    for day in range(days):
        results = [
            {
                "currency": "USD",
                "amount": f"{sum((call.cost for call in some), Decimal(0)) * 100:f}",
                "workspace_id": None,
                "description": f"{model} Usage - Output Tokens",
                "cost_type": "tokens",
                "context_window": "0-200k",
                "model": model,
                "service_tier": "standard",
                "token_type": "output_tokens",
            }
            for (model, _), some in grouped[day].items()
        ]
        begins = FIRST + day * DAY
        buckets.append({"starting_at": iso(begins), "ending_at": iso(begins + DAY), "results": results})
    return json.dumps({"data": buckets, "has_more": False, "next_page": None})


def anthropic_usage_csv(calls: Sequence[Call]) -> str:
    """The Console's usage export."""
    columns = (
        *("usage_date_utc", "model_version", "api_key", "workspace", "usage_type", "context_window"),
        *("usage_input_tokens_no_cache", "usage_input_tokens_cache_write_5m"),
        *("usage_input_tokens_cache_write_1h", "usage_input_tokens_cache_read", "usage_output_tokens"),
        *("web_search_count", "inference_geo", "speed"),
    )
    rows = [
        [
            *(iso(FIRST + call.day * DAY)[:10], call.model, call.key, "Default", "message", "≤ 200k"),
            *(call.fresh, call.written, 0, call.cached, call.out, 0, "global", ""),
        ]
        for call in calls
    ]
    return _csv(columns, rows)


def anthropic_cost_csv(calls: Sequence[Call], title: str = "Claude Haiku 4.5") -> str:
    """The Console's cost export: models by their titles, amounts rounded to the cent."""
    columns = (
        *("usage_date_utc", "model", "workspace", "api_key", "usage_type", "context_window", "token_type"),
        *("cost_usd", "list_price_usd", "cost_type", "inference_geo", "speed"),
    )
    rows = []
    for day, models in _grouped(calls).items():
        for (_, key), some in models.items():
            cents = sum((call.cost for call in some), Decimal(0)).quantize(Decimal("0.01"), ROUND_HALF_UP)
            date = iso(FIRST + day * DAY)[:10]
            kind = ("message", "≤ 200k", "output")
            rows.append([date, title, "Default", key, *kind, cents, cents, "token", "not_available", ""])
    return _csv(columns, rows)


def written(folder: Path, text: str, name: str = "export") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path
