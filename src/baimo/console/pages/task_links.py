"""Where a task's pages are, whose tasks they show, and what each of them shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

from starlette.responses import Response

from baimo.console.api import named
from baimo.console.visit import Visit


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


def gone(visit: Visit, *steps: object, **query: Any) -> Response:
    """Look there now: one of this tenant's addresses, as `linked` makes them."""
    return visit.gone_to(linked(visit)(*steps, **query).removeprefix("/console"))


def task_path(visit: Visit) -> str:
    """The task of the page's address, as the API names it."""
    return named("/api/tasks/{task}", task=str(visit.request.path_params["task"]))


async def facts_of(visit: Visit) -> dict[str, Any]:
    """What every page of a task shows."""
    task = await visit.api.get(task_path(visit), **whose(visit))
    may = visit.may("tasks_describe")
    return {"page": "tasks", "task": task, "to": linked(visit), "may_change": task["own"] and may}
