"""The recipe of a task: prompts, scorers, sampling, candidates by form or as text, and what a model would be sent."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from starlette.responses import Response

from baimo.console.api import Refused
from baimo.console.pages.task_links import gone, linked, task_path, whose
from baimo.console.pages.task_recipe_form import SAMPLING, Draft, Kinds, arranged, body_of, drawn, sent
from baimo.console.visit import Visit

USUAL = {"temperature": "0", "max_tokens": "256"}
"""What counts where nothing is said."""


async def recipe(visit: Visit) -> Response:
    """The form, and what becomes of it; to those who may not change it, the recipe as it is."""
    found, kinds = await asyncio.gather(_found(visit), _kinds(visit))
    if found["problem"] is not None:
        return gone(visit, "tasks", found["task"], "recipe", "text")
    draft, refused, pairs = drawn(found, kinds), None, list[tuple[str, str]]()
    if visit.request.method == "POST":
        visit.must("tasks_recipe_change")
        pairs = await _sent(visit)
        draft = sent(pairs, kinds)
        form = dict(pairs)
        draft = arranged(draft, form.get("act", ""), kinds)
        if form.get("act") == "save":
            try:
                body = {**body_of(draft, kinds), "before": form.get("before", ""), **whose(visit)}
                made = await visit.api.patch(f"{task_path(visit)}/recipe", body)
                return gone(visit, "tasks", found["task"], "recipe", saved=made["version"])
            except Refused as error:
                refused = error
    facts = await _facts(visit, found, draft, kinds, dict(pairs))
    return visit.shown("task_recipe.html", refused.status if refused else 200, refused=refused, **facts)


async def text(visit: Visit) -> Response:
    """task.toml as text."""
    found, refused = await _found(visit), None
    typed, before = found["manifest"], found["hash"]
    if visit.request.method == "POST":
        visit.must("tasks_recipe_change")
        form = dict(await _sent(visit))
        typed, before = form.get("manifest", "").replace("\r\n", "\n"), form.get("before", "")
        try:
            body = {"manifest": typed, "before": before, **whose(visit)}
            made = await visit.api.patch(f"{task_path(visit)}/recipe", body)
            return gone(visit, "tasks", found["task"], "recipe", "text", saved=made["version"])
        except Refused as error:
            refused = error
    facts = {**_shared(visit, found), "typed": typed, "before": before, "wrong": _line(typed, refused)}
    return visit.shown("task_text.html", refused.status if refused else 200, refused=refused, **facts)


def _line(typed: str, refused: Refused | None) -> tuple[int, str] | None:
    """The line that a refusal names, and what stands there."""
    told = re.search(r"task\.toml\D{1,8}(\d+)|\(at line (\d+)", refused.message) if refused else None
    lines = typed.split("\n")
    number = int(told[1] or told[2]) if told else 0
    return (number, lines[number - 1]) if 0 < number <= len(lines) else None


async def _found(visit: Visit) -> dict[str, Any]:
    return await visit.api.get(f"{task_path(visit)}/recipe", **whose(visit))


async def _kinds(visit: Visit) -> Kinds:
    return {one["name"]: one for one in (await visit.api.get("/api/scorers"))["data"]}


async def _sent(visit: Visit) -> list[tuple[str, str]]:
    """As it was typed: in a template a space at the end counts."""
    return parse_qsl((await visit.request.body()).decode("utf-8", "replace"), keep_blank_values=True)


def _shared(visit: Visit, found: Mapping[str, Any]) -> dict[str, Any]:
    may = found["own"] and bool(found["manifest"]) and visit.may("tasks_recipe_change")
    task = {"name": found["task"], "own": found["own"]}
    saved = visit.request.query_params.get("saved")
    shared = {"page": "tasks", "task": task, "recipe": found, "may_change": may, "saved": saved}
    return {**shared, "to": linked(visit)}


async def _facts(
    visit: Visit, found: Mapping[str, Any], draft: Draft, kinds: Kinds, form: Mapping[str, str]
) -> dict[str, Any]:
    example = form.get("example", "")
    preview, examples, models = await asyncio.gather(
        _preview(visit, draft, kinds, example),
        visit.api.get(f"{task_path(visit)}/examples", **whose(visit), limit=50),
        visit.api.get("/api/models", usable="true", limit=200),
    )
    choices = {
        "kinds": kinds,
        "usual": USUAL,
        "numbers": SAMPLING,
        "before": form.get("before") or found["hash"],
    }
    seen = {"preview": preview, "examples": examples["data"], "example": example, "models": models["data"]}
    return {**_shared(visit, found), "draft": draft, **choices, **seen}


async def _preview(visit: Visit, draft: Draft, kinds: Kinds, example: str) -> Any:
    """What the prompts of the form make of an example; None for those who may not ask."""
    if not visit.may("tasks_preview"):
        return None
    split, _, id = example.partition(":")
    wanted = {"example": id, "split": split} if id and split in ("test", "train") else {}
    body = {"prompts": body_of(draft, kinds)["prompts"], **wanted, **whose(visit)}
    try:
        return await visit.api.post(f"{task_path(visit)}/preview", body)
    except Refused as error:
        return {"example": id, "split": split, "data": [], "refused": error}
