"""Versions of a task, what each changed, and the way back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from starlette.responses import Response

from baimo.console.api import named
from baimo.console.pages.task_links import facts_of, gone, task_path, whose
from baimo.console.visit import Visit


async def history(visit: Visit) -> Response:
    """Every version, newest first."""
    cursor = visit.request.query_params.get("cursor")
    facts, found = await asyncio.gather(
        facts_of(visit),
        visit.api.get(f"{task_path(visit)}/history", **whose(visit), cursor=cursor, limit=50),
    )
    return visit.shown("task_history.html", **facts, found=found, asked={"cursor": cursor, **whose(visit)})


async def version(visit: Visit) -> Response:
    """What a version changed, and the way back to it."""
    number = str(visit.request.path_params["version"])
    if visit.request.method == "POST":
        wanted = {"version": int(number) if number.isdigit() else 0, **whose(visit)}
        await visit.api.post(f"{task_path(visit)}/restore", wanted)
        name = str(visit.request.path_params["task"])
        return gone(visit, "tasks", name, "history")
    path = named(f"{task_path(visit)}/history/{{version}}", version=number)
    facts, one = await asyncio.gather(facts_of(visit), visit.api.get(path, **whose(visit)))
    return visit.shown("task_version.html", **facts, one=one, rows=_rows(one["changes"]))


def _rows(changes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Lines before and after; of a line that is an example, its id and what differs in it."""
    return [
        {"file": one["file"], "parts": _parts(_row(one["before"]), _row(one["after"])), **_sides(one)}
        for one in changes
    ]


def _sides(one: Mapping[str, Any]) -> dict[str, Any]:
    before, after = _row(one["before"]), _row(one["after"])
    return {"before": one["before"], "after": one["after"], "id": (after or before or {}).get("id")}


def _row(line: str | None) -> dict[str, Any] | None:
    try:
        found: Any = json.loads(line or "null")
    except ValueError:
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def _parts(before: dict[str, Any] | None, after: dict[str, Any] | None) -> list[tuple[str, str, str]]:
    """(field, before, after) of what differs."""
    if before is None and after is None:
        return []
    old, new = before or {}, after or {}
    names = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
    return [(name, _short(old.get(name)), _short(new.get(name))) for name in names if name != "id"]


def _short(value: Any) -> str:
    said = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return said if len(said) <= 400 else f"{said[:400]}…"
