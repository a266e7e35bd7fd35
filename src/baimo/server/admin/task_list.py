"""Tasks as a table: found, put in order, page by page, and taken along."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from baimo.core.moments import shown
from baimo.errors import BaimoError
from baimo.server.admin.columns import MEDIA, Format, arranged, written
from baimo.server.admin.operation import Asking, Operation
from baimo.server.admin.paging import Limit, Paged, cut
from baimo.server.admin.streams import Work
from baimo.server.admin.task_forms import TaskShown
from baimo.server.admin.task_scope import keeping, tenant_of
from baimo.workspace.known_tasks import KnownTask
from baimo.workspace.task_keeping import Kept

Sort = Literal[
    "", "name", "-name", "test", "-test", "train", "-train", "scorer", "-scorer", "changed", "-changed"
]
CSV = (
    *("name", "own", "description", "data_class", "license", "test", "train", "scorers", "prompts"),
    *("hash", "version", "changed", "problem"),
)
"""Columns of an export."""
COLUMNS: Mapping[str, Callable[[TaskShown], Any]] = {
    "name": lambda one: one.name.casefold(),
    "test": lambda one: one.test,
    "train": lambda one: one.train,
    "scorer": lambda one: one.scorers[0] if one.scorers else None,
    "changed": lambda one: one.changed,
}
"""What can be sorted by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksWanted:
    """Which tasks, in which order."""

    tenant: str | None = None
    text: str = ""
    """Occurs in the name or the description."""
    standing: Literal["", "own", "read_only", "broken"] = ""
    """Those that may be changed here, those that lie elsewhere, or those that cannot be read."""
    scorer: str = ""
    """Named by one of its scorers."""
    sort: Sort = ""
    """Column; with - in front, the largest come first. Empty = one's own by name, then those elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksAsked(TasksWanted):
    """Which tasks."""

    limit: Limit = 100
    cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksExport(TasksWanted):
    """Which tasks, in which form."""

    format: Format = "csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksPage:
    """Some tasks."""

    data: list[TaskShown]
    next: str | None


def _list(asking: Asking, asked: TasksAsked) -> TasksPage:
    """GET /api/tasks."""
    tenant, paged = tenant_of(asking, asked.tenant), cast("Paged", asked)
    if asked.text or asked.standing or asked.scorer or asked.sort:
        lines, after = cut(_found(asking, asked, tenant), paged, lambda one: one.name)
        return TasksPage(data=list(lines), next=after)
    # nothing has to be read but what is shown
    page, after = cut(keeping(asking).tasks.listed(tenant), paged, lambda one: one.name)
    return TasksPage(data=[_line(asking, one, tenant) for one in page], next=after)


def _export(asking: Asking, asked: TasksExport) -> Work:
    """GET /api/task-export."""
    return written(_found(asking, asked, tenant_of(asking, asked.tenant)), CSV, asked.format)


def _found(asking: Asking, asked: TasksWanted, tenant: str) -> list[TaskShown]:
    words = asked.text.casefold()

    def fits(one: TaskShown) -> bool:
        standing = "broken" if one.problem is not None else "own" if one.own else "read_only"
        return (
            words in f"{one.name} {one.description}".casefold()
            and asked.standing in ("", standing)
            and (not asked.scorer or asked.scorer in one.scorers)
        )

    lines = (_line(asking, one, tenant) for one in keeping(asking).tasks.listed(tenant))
    found = [one for one in lines if fits(one)]
    return arranged(found, asked.sort, COLUMNS) if asked.sort else found


def listed(asking: Asking, name: str, tenant: str) -> TaskShown:
    """A task as a list shows it."""
    return _line(asking, keeping(asking).tasks.known(name, tenant), tenant)


def _line(asking: Asking, known: KnownTask, tenant: str) -> TaskShown:
    try:
        return TaskShown(**facts_of(asking, keeping(asking).kept(known.name, tenant), tenant))
    except BaimoError as error:
        texts = dict.fromkeys(("description", "data_class", "license", "hash"), "")
        counts = dict.fromkeys(("test", "train", "version"), 0)
        empty: dict[str, Any] = {"scorers": [], "prompts": [], "changed": None, **texts, **counts}
        problem = str(error).replace(f"{known.folder}/", "")
        return TaskShown(name=known.name, own=known.own, problem=problem, **empty)


def facts_of(asking: Asking, one: Kept, tenant: str) -> dict[str, Any]:
    """What a list shows of a task."""
    versions, task = keeping(asking).versions(one.known.name, tenant), one.task
    last = versions[-1] if versions else None
    return {
        "name": one.known.name,
        "own": one.known.own,
        "description": task.description,
        "data_class": task.data_class,
        "license": task.license,
        "test": len(task.examples),
        "train": len(task.train),
        "scorers": [spec.name for spec in task.scorers],
        "prompts": [prompt.name for prompt in task.prompts],
        "hash": task.hash,
        "version": last.version if last else 0,
        "changed": shown(last.at_ms) if last else None,
        "problem": None,
    }


TASK_LIST = (
    Operation(
        method="GET", path="/api/tasks", role="viewer", takes=TasksAsked, gives=TasksPage, does=_list,
        tag="tasks", summary="task_api.tasks_list", errors=(404,),
    ),
    Operation(
        method="GET", path="/api/task-export", role="viewer", takes=TasksExport, gives=TaskShown,
        does=_export, tag="tasks", summary="task_api.tasks_list_export", media=MEDIA, errors=(404,),
    ),
)  # fmt: skip
