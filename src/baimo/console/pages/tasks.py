"""Tasks: whoever looks after examples finds, imports, edits, splits and labels them, and takes it back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.responses import Response

from baimo.console.api import Refused, named
from baimo.console.page import Page
from baimo.console.pages.task_examples import change, example, export, task
from baimo.console.pages.task_files import file, new
from baimo.console.pages.task_history import history, version
from baimo.console.pages.task_links import facts_of, gone, linked, task_path, whose
from baimo.console.pages.task_recipe import recipe
from baimo.console.pages.task_recipe import text as recipe_text
from baimo.console.visit import Visit
from baimo.text import text

FILTERS = ("text", "standing", "scorer", "tenant")
SORTS = ("name", "test", "train", "scorer", "changed")
STANDINGS = ("own", "read_only", "broken")


async def tasks(visit: Visit) -> Response:
    """The list."""
    asked, cursor = visit.asked(FILTERS, SORTS), visit.request.query_params.get("cursor")
    found, kinds = await asyncio.gather(
        visit.api.get("/api/tasks", **asked, cursor=cursor, limit=50), visit.api.get("/api/scorers")
    )
    choices = {
        "standings": [(one, text(f"console_tasks.standing_{one}")) for one in STANDINGS],
        "scorers": [(one["name"], one["name"]) for one in kinds["data"]],
    }
    return visit.shown("tasks.html", page="tasks", found=found, asked=asked, to=linked(visit), **choices)


async def export_list(visit: Visit) -> Response:
    """The tasks of a question as a file."""
    visit.must("tasks_list_export")
    form = visit.request.query_params.get("format", "csv")
    return visit.api.forwarded("/api/task-export", query={**visit.asked(FILTERS, SORTS), "format": form})


async def about(visit: Visit) -> Response:
    """Prompts, scorers, counts, rubric; and what can be done with the task as a whole."""
    refused = None
    if visit.request.method == "POST":
        form = await visit.form()
        try:
            return await _acted(visit, form)
        except Refused as error:
            refused = error
    facts = await facts_of(visit)
    return visit.shown("task_about.html", refused.status if refused else 200, **facts, refused=refused)


async def _acted(visit: Visit, form: Mapping[str, str]) -> Response:
    path, name = task_path(visit), str(visit.request.path_params["task"])
    match form.get("act"):
        case "copy":
            made = await visit.api.post(f"{path}/copy", {"name": form.get("name", ""), **whose(visit)})
            return gone(visit, "tasks", made["name"])
        case "delete":
            if form.get("name") != name:
                raise Refused(
                    400, {"message": text("console_tasks.not_its_name"), "hint": name, "field": "/delete"}
                )
            await visit.api.delete(path, **whose(visit))
            return gone(visit, "tasks", "+deleted")
        case "split":
            share = form.get("share", "").replace("%", "").strip()
            wanted = {"share": int(share) / 100 if share.isdigit() else 2, **whose(visit)}
            await visit.api.post(f"{path}/split", wanted)
            return gone(visit, "tasks", name)
        case _:
            words = {key: form.get(key, "") for key in ("description", "rubric")}
            await visit.api.patch(path, {**words, **whose(visit)})
            return gone(visit, "tasks", name, "about")


async def deleted(visit: Visit) -> Response:
    """Tasks that were deleted, and the way back."""
    visit.must("tasks_deleted")
    refused = None
    if visit.request.method == "POST":
        form = await visit.form()
        path = named("/api/deleted-tasks/{deleted}", deleted=form.get("deleted", ""))
        try:
            if form.get("act") == "erase":
                await visit.api.delete(path, **whose(visit))
                return gone(visit, "tasks", "+deleted")
            wanted = {"name": form.get("name", ""), **whose(visit)}
            made = await visit.api.post(f"{path}/restore", wanted)
            return gone(visit, "tasks", made["name"])
        except Refused as error:
            refused = error
    asked = {"cursor": visit.request.query_params.get("cursor"), **whose(visit)}
    found = await visit.api.get("/api/deleted-tasks", **asked, limit=50)
    facts = {"found": found, "asked": asked, "refused": refused, "to": linked(visit)}
    return visit.shown("tasks_deleted.html", refused.status if refused else 200, page="tasks", **facts)


async def check(visit: Visit) -> Response:
    """What is wrong or remarkable."""
    facts, found = await asyncio.gather(
        facts_of(visit), visit.api.get(f"{task_path(visit)}/findings", **whose(visit))
    )
    return visit.shown("task_check.html", **facts, findings=found["data"])


TASKS = Page(
    name="tasks",
    path="/tasks",
    needs=("tasks_list",),
    views=(
        ("GET", "/tasks", tasks),
        ("GET", "/tasks/+new", new),
        ("POST", "/tasks/+new", new),
        ("GET", "/tasks/+files/{upload}", file),
        ("POST", "/tasks/+files/{upload}", file),
        ("GET", "/tasks/+export", export_list),
        ("GET", "/tasks/+deleted", deleted),
        ("POST", "/tasks/+deleted", deleted),
        ("GET", "/tasks/{task}", task),
        ("POST", "/tasks/{task}/changes", change),
        ("GET", "/tasks/{task}/new", example),
        ("POST", "/tasks/{task}/new", example),
        ("GET", "/tasks/{task}/examples/{example:path}", example),
        ("POST", "/tasks/{task}/examples/{example:path}", example),
        ("GET", "/tasks/{task}/about", about),
        ("POST", "/tasks/{task}/about", about),
        ("GET", "/tasks/{task}/recipe", recipe),
        ("POST", "/tasks/{task}/recipe", recipe),
        ("GET", "/tasks/{task}/recipe/text", recipe_text),
        ("POST", "/tasks/{task}/recipe/text", recipe_text),
        ("GET", "/tasks/{task}/check", check),
        ("GET", "/tasks/{task}/history", history),
        ("GET", "/tasks/{task}/history/{version}", version),
        ("POST", "/tasks/{task}/history/{version}", version),
        ("GET", "/tasks/{task}/export", export),
    ),
)
