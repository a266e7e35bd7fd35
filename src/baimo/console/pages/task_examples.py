"""Examples of a task: found, written, changed one by one or several at once, exported."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from starlette.responses import Response

from baimo.console.api import Refused, named
from baimo.console.pages.task_forms import change_of, example_form
from baimo.console.pages.task_links import facts_of, gone, task_path, whose
from baimo.console.visit import Visit

FILTERS = ("text", "split", "expected", "label", "language", "sort")
SORTS = {
    "": "file",
    "input": "input",
    "-input": "down_input",
    "expected": "expected",
    "-expected": "down_expected",
    "id": "id",
    "-id": "down_id",
    "language": "language",
    "-language": "down_language",
}
"""As the API names it → the end of its message's key."""


async def task(visit: Visit) -> Response:
    """The examples."""
    asked = {name: visit.request.query_params.get(name, "") for name in (*FILTERS, "cursor")}
    facts, found = await asyncio.gather(
        facts_of(visit),
        visit.api.get(f"{task_path(visit)}/examples", **asked, **whose(visit), limit=50),
    )
    kept = {**asked, "tenant": whose(visit).get("tenant", ""), "cursor": ""}
    return visit.shown("task.html", **facts, found=found, asked=kept, sorts=SORTS)


async def change(visit: Visit) -> Response:
    """Several examples at once: labels, another split, deletion."""
    pairs = parse_qsl((await visit.request.body()).decode("utf-8", "replace"), keep_blank_values=True)
    form = dict(pairs)
    wanted: dict[str, Any] = {"examples": [value for name, value in pairs if name == "pick"], **whose(visit)}
    act = form.get("act", "")
    if act in ("test", "train"):
        wanted["to"] = act
    elif act == "delete":
        wanted["delete"] = True
    else:
        name, _, value = form.get("set", "").partition("=")
        wanted["labels"] = {name.strip(): value.strip() or None}
    if wanted["examples"] and (act != "label" or form.get("set", "").strip()):
        await visit.api.post(f"{task_path(visit)}/changes", wanted)
    name = str(visit.request.path_params["task"])
    back = {key: value for key, value in parse_qsl(form.get("back", "")) if key in FILTERS}
    return gone(visit, "tasks", name, **back)


async def example(visit: Visit) -> Response:
    """One example, and the form that changes it; or the form for a new one."""
    id = visit.request.path_params.get("example")
    facts, refused, shown = await facts_of(visit), None, dict[str, Any]()
    path = f"{task_path(visit)}/examples"
    split = visit.request.query_params.get("split", "")
    if id is None:
        visit.must("tasks_example_add")
    else:
        shown = await visit.api.get(
            named(f"{path}/{{example}}", example=str(id)), **whose(visit), split=split
        )
    if visit.request.method == "POST":
        form = await visit.form()
        try:
            return await _saved(visit, path, shown, form)
        except Refused as error:
            refused = error
    form = example_form(shown)
    return visit.shown(
        "task_example.html",
        refused.status if refused else 200,
        **facts,
        refused=refused,
        one=shown,
        form=form,
    )


async def _saved(visit: Visit, path: str, shown: Mapping[str, Any], form: Mapping[str, str]) -> Response:
    name = str(visit.request.path_params["task"])
    if not shown:
        await visit.api.post(path, {**change_of({}, form, whole=True), **whose(visit)})
        return gone(visit, "tasks", name)
    one = named(f"{path}/{{example}}", example=shown["id"])
    if form.get("act") == "delete":
        await visit.api.send("DELETE", one, query={"split": shown["split"], **whose(visit)})
        return gone(visit, "tasks", name)
    wanted = change_of(shown, form, whole=visit.may("tasks_describe"))
    if wanted:
        await visit.api.patch(one, {**wanted, "split": shown["split"], **whose(visit)})
    split = wanted.get("to") or shown["split"]
    return gone(visit, "tasks", name, "examples", shown["id"], split=split, saved="1")


async def export(visit: Visit) -> Response:
    """The examples as a file."""
    visit.must("tasks_export")
    query = {**whose(visit), "split": visit.request.query_params.get("split", "")}
    return visit.api.forwarded(f"{task_path(visit)}/export", query=query)
