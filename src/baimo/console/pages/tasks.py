"""Tasks: whoever looks after examples finds, imports, edits, splits and labels them, and takes it back."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast
from urllib.parse import parse_qsl, quote, urlencode

from starlette.responses import Response

from baimo.console.api import Refused, named
from baimo.console.page import Page
from baimo.console.pages.task_forms import change_of, example_form
from baimo.console.upload import sent
from baimo.console.visit import Visit
from baimo.text import text

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
KINDS = {"classify": "classify", "extract-json": "extract_json", "qa": "qa", "chat-judge": "chat_judge"}
"""As the API names it → the end of its message's key."""
SCORERS = ("", "exact", "choice", "numeric", "contains", "icontains", "json", "text_overlap", "tool_calls")
CHARSETS = ("utf-8", "gb18030", "big5", "shift_jis", "utf-16", "windows-1252")
READING = ("format", "delimiter", "input", "id_column", "group_column")
FORMATS = ("", "rows", "openai-chat", "openai-evals", "sharegpt", "alpaca")


def whose(visit: Visit) -> dict[str, str]:
    """The tenant that the page's address names."""
    tenant = visit.request.query_params.get("tenant", "")
    return {"tenant": tenant} if tenant else {}


def linked(visit: Visit) -> Callable[..., str]:
    """Makes addresses of this tenant's tasks: `to('tasks', name, 'new', split='test')`."""

    def to(*steps: object, **query: Any) -> str:
        path = "/".join(quote(str(step), safe="+/") for step in steps)
        said = {name: value for name, value in {**whose(visit), **query}.items() if value not in (None, "")}
        return f"/console/{path}" + (f"?{urlencode(said)}" if said else "")

    return to


def task_path(visit: Visit) -> str:
    """The task of the page's address, as the API names it."""
    return named("/api/tasks/{task}", task=str(visit.request.path_params["task"]))


async def facts_of(visit: Visit) -> dict[str, Any]:
    """What every page of a task shows."""
    task = await visit.api.get(task_path(visit), **whose(visit))
    may = visit.may("tasks_describe")
    return {"page": "tasks", "task": task, "to": linked(visit), "may_change": task["own"] and may}


async def tasks(visit: Visit) -> Response:
    """The list."""
    asked = visit.request.query_params
    query = {name: asked.get(name) for name in ("text", "cursor")}
    found = await visit.api.get("/api/tasks", **query, **whose(visit), limit=50)
    return visit.shown("tasks.html", page="tasks", found=found, asked=asked, to=linked(visit))


async def new(visit: Visit) -> Response:
    """The form for a file, and what comes of it: a look at it before anything is stored."""
    visit.must("tasks_import" if visit.request.query_params.get("task") else "tasks_create")
    refused, form = None, dict[str, str]()
    into = visit.request.query_params.get("task", "")
    if visit.request.method == "POST":
        got = await sent(visit.request)
        form = dict(got.fields) if got else await visit.form()
        try:
            if got is not None and "file" in got.files:
                return visit.gone_to(await _uploaded(visit, got.files["file"], form, into))
            if form.get("kind"):
                wanted = {"name": form.get("name", ""), "kind": form["kind"], **whose(visit)}
                made = await visit.api.post("/api/tasks", wanted)
                return visit.gone_to(linked(visit)("tasks", made["name"]).removeprefix("/console"))
            refused = Refused(
                400, {"message": text("console_tasks.no_file"), "hint": text("console_tasks.no_file_hint")}
            )
        except Refused as error:
            refused = error
    waiting = await visit.api.get("/api/task-uploads", **whose(visit), limit=20)
    facts: dict[str, Any] = {"form": form, "refused": refused, "into": into, "kinds": KINDS}
    facts["waiting"] = waiting["data"]
    status = refused.status if refused else 200
    return visit.shown("task_new.html", status, page="tasks", to=linked(visit), charsets=CHARSETS, **facts)


async def _uploaded(visit: Visit, file: Any, form: Mapping[str, str], into: str) -> str:
    """Where the file can be looked at."""
    body: dict[str, Any] = {"name": file.name, **whose(visit), "charset": form.get("charset") or "utf-8"}
    body["base64"] = base64.b64encode(file.data).decode()
    if into:
        body |= {"task": into, "split": form.get("split") or "test"}
    seen = await visit.api.post("/api/task-uploads", body)
    going = {"task": into or None, "split": form.get("split")}
    return linked(visit)("tasks", "+files", seen["upload"], **going).removeprefix("/console")


async def file(visit: Visit) -> Response:
    """A file before it is stored: how it is read, what is left out and why, the first rows."""
    id, asked = str(visit.request.path_params["upload"]), visit.request.query_params
    path = named("/api/task-uploads/{upload}", upload=id)
    going = {name: asked[name] for name in ("task", "split", "doubles") if asked.get(name)} | whose(visit)
    form, refused = dict[str, str](), None
    if visit.request.method == "POST":
        form = await visit.form()
        try:
            if form.get("act") == "store":
                return await _stored(visit, id, form, going)
            if form.get("act") == "forget":
                await visit.api.send("DELETE", path, query=whose(visit))
                return visit.gone_to("/tasks")
            await visit.api.patch(path, {**_reading(form), **going})
            return visit.gone_to(linked(visit)("tasks", "+files", id, **going).removeprefix("/console"))
        except Refused as error:
            refused = error
    seen = await visit.api.get(path, **going)
    shown = {**dict.fromkeys(("task", "split", "doubles", "tenant"), ""), **going}
    facts: dict[str, Any] = {"seen": seen, "going": shown, "refused": refused, "form": form}
    choices = {"scorers": SCORERS, "formats": FORMATS, "to": linked(visit)}
    return visit.shown("task_file.html", refused.status if refused else 200, page="tasks", **facts, **choices)


def _reading(form: Mapping[str, str]) -> dict[str, Any]:
    several = {
        name: [one for one in form.get(name, "").split("\n") if one.strip()] for name in ("target", "label")
    }
    lists = {name: [one.strip() for one in lines] for name, lines in several.items()}
    return {name: form.get(name, "") for name in READING} | lists


async def _stored(visit: Visit, id: str, form: Mapping[str, str], going: Mapping[str, str]) -> Response:
    if going.get("task"):
        path = named("/api/tasks/{task}/imports", task=going["task"])
        wanted = {name: value for name, value in going.items() if name != "task"}
        stored = await visit.api.post(path, {"upload": id, **wanted})
        name, bad = going["task"], stored["bad"]
    else:
        fields = ("name", "description", "license", "data_class", "system", "user", "scorer")
        said = {name: form[name] for name in fields if form.get(name)}
        made = await visit.api.post("/api/tasks", {"upload": id, **said, **whose(visit)})
        name, bad = made["name"], len(made["left_out"])
    there = linked(visit)("tasks", name, "history" if bad else "")
    return visit.gone_to(there.replace("/?", "?").rstrip("/").removeprefix("/console"))


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
    return visit.gone_to(linked(visit)("tasks", name, **back).removeprefix("/console"))


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
    to, name = linked(visit), str(visit.request.path_params["task"])
    if not shown:
        await visit.api.post(path, {**change_of({}, form, whole=True), **whose(visit)})
        return visit.gone_to(to("tasks", name).removeprefix("/console"))
    one = named(f"{path}/{{example}}", example=shown["id"])
    if form.get("act") == "delete":
        await visit.api.send("DELETE", one, query={"split": shown["split"], **whose(visit)})
        return visit.gone_to(to("tasks", name).removeprefix("/console"))
    wanted = change_of(shown, form, whole=visit.may("tasks_describe"))
    if wanted:
        await visit.api.patch(one, {**wanted, "split": shown["split"], **whose(visit)})
    split = wanted.get("to") or shown["split"]
    where = to("tasks", name, "examples", shown["id"], split=split, saved="1")
    return visit.gone_to(where.removeprefix("/console"))


async def about(visit: Visit) -> Response:
    """Prompts, scorers, counts, rubric; and what can be done with the task as a whole."""
    refused = None
    if visit.request.method == "POST":
        form = await visit.form()
        try:
            return visit.gone_to(await _acted(visit, form))
        except Refused as error:
            refused = error
    facts = await facts_of(visit)
    return visit.shown("task_about.html", refused.status if refused else 200, **facts, refused=refused)


async def _acted(visit: Visit, form: Mapping[str, str]) -> str:
    """Where to look at what was done."""
    path, name, to = task_path(visit), str(visit.request.path_params["task"]), linked(visit)
    match form.get("act"):
        case "copy":
            made = await visit.api.post(f"{path}/copy", {"name": form.get("name", ""), **whose(visit)})
            return to("tasks", made["name"]).removeprefix("/console")
        case "split":
            share = form.get("share", "").replace("%", "").strip()
            wanted = {"share": int(share) / 100 if share.isdigit() else 2, **whose(visit)}
            await visit.api.post(f"{path}/split", wanted)
            return to("tasks", name).removeprefix("/console")
        case _:
            words = {key: form.get(key, "") for key in ("description", "rubric")}
            await visit.api.patch(path, {**words, **whose(visit)})
            return to("tasks", name, "about").removeprefix("/console")


async def check(visit: Visit) -> Response:
    """What is wrong or remarkable."""
    facts, found = await asyncio.gather(
        facts_of(visit), visit.api.get(f"{task_path(visit)}/findings", **whose(visit))
    )
    return visit.shown("task_check.html", **facts, findings=found["data"])


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
        return visit.gone_to(linked(visit)("tasks", name, "history").removeprefix("/console"))
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


async def export(visit: Visit) -> Response:
    """The examples as a file."""
    visit.must("tasks_export")
    query = {**whose(visit), "split": visit.request.query_params.get("split", "")}
    return visit.api.forwarded(f"{task_path(visit)}/export", query=query)


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
        ("GET", "/tasks/{task}", task),
        ("POST", "/tasks/{task}/changes", change),
        ("GET", "/tasks/{task}/new", example),
        ("POST", "/tasks/{task}/new", example),
        ("GET", "/tasks/{task}/examples/{example:path}", example),
        ("POST", "/tasks/{task}/examples/{example:path}", example),
        ("GET", "/tasks/{task}/about", about),
        ("POST", "/tasks/{task}/about", about),
        ("GET", "/tasks/{task}/check", check),
        ("GET", "/tasks/{task}/history", history),
        ("GET", "/tasks/{task}/history/{version}", version),
        ("POST", "/tasks/{task}/history/{version}", version),
        ("GET", "/tasks/{task}/export", export),
    ),
)
