"""A new task, and files of examples: how they are read, what is left out and why, before anything is stored."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from baimo.console.api import Refused, named
from baimo.console.pages.task_links import gone, linked, whose
from baimo.console.upload import sent
from baimo.console.visit import Visit
from baimo.text import text

KINDS = {"classify": "classify", "extract-json": "extract_json", "qa": "qa", "chat-judge": "chat_judge"}
"""As the API names it → the end of its message's key."""

SCORERS = ("", "exact", "choice", "numeric", "contains", "icontains", "json", "text_overlap", "tool_calls")
CHARSETS = ("utf-8", "gb18030", "big5", "shift_jis", "utf-16", "windows-1252")
READING = ("format", "delimiter", "input", "id_column", "group_column")
FORMATS = ("", "rows", "openai-chat", "openai-evals", "sharegpt", "alpaca")


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
                return await _uploaded(visit, got.files["file"], form, into)
            if form.get("kind"):
                wanted = {"name": form.get("name", ""), "kind": form["kind"], **whose(visit)}
                made = await visit.api.post("/api/tasks", wanted)
                return gone(visit, "tasks", made["name"])
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


async def _uploaded(visit: Visit, file: Any, form: Mapping[str, str], into: str) -> Response:
    body: dict[str, Any] = {"name": file.name, **whose(visit), "charset": form.get("charset") or "utf-8"}
    body["base64"] = base64.b64encode(file.data).decode()
    if into:
        body |= {"task": into, "split": form.get("split") or "test"}
    seen = await visit.api.post("/api/task-uploads", body)
    going = {"task": into or None, "split": form.get("split")}
    return gone(visit, "tasks", "+files", seen["upload"], **going)


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
            return gone(visit, "tasks", "+files", id, **going)
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
    return gone(visit, "tasks", name, *(["history"] if bad else []))
