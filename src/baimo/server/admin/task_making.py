"""A new task: of an uploaded file, of one example, or of a finished one to learn from."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from baimo.core.task import Task
from baimo.errors import UsageError
from baimo.evals.tasks.folder import load_task
from baimo.evals.tasks.scaffold import new_task
from baimo.server.admin.operation import Asking, Operation
from baimo.server.admin.task_forms import TaskShown
from baimo.server.admin.task_list import listed
from baimo.server.admin.task_scope import keeping, tenant_of
from baimo.server.admin.task_upload_forms import LeftOutShown
from baimo.server.admin.task_uploads import import_facts, imports_of, told
from baimo.workspace.task_edits import Draft, added
from baimo.workspace.task_imports import LeftOut, prompted

ScorerName = Literal[
    "", "exact", "choice", "numeric", "contains", "icontains", "json", "text_overlap", "tool_calls"
]
"""Those that run nothing and ask nobody; others are written into task.toml by hand."""

Kind = Literal["classify", "extract-json", "qa", "chat-judge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """A task to make: of an uploaded file, of one example, or of an example to learn from (`kind`)."""

    name: str
    tenant: str | None = None
    upload: str | None = None
    """Id of an uploaded file."""
    kind: Kind | None = None
    """A finished task with comments, to be changed."""
    example: dict[str, Any] | None = None
    """`input` or `messages`, and `expected`."""
    description: str = ""
    license: str = ""
    data_class: Literal["public", "internal", "confidential"] = "internal"
    system: str = ""
    user: str = ""
    scorer: ScorerName = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskMade(TaskShown):
    """A new task."""

    left_out: list[LeftOutShown]
    """Rows of the file that are not in it."""


def _create(asking: Asking, asked: NewTask) -> TaskMade:
    tenant, left_out, facts = tenant_of(asking, asked.tenant), list[LeftOut](), dict[str, Any]()
    if [asked.upload, asked.kind, asked.example].count(None) != 2:
        raise UsageError("admin.missing", field="/upload")
    keeping(asking).tasks.place(asked.name, tenant)
    if asked.upload is not None:
        imports = imports_of(asking)
        looked = imports.looked(asked.upload, tenant)
        fresh = imports.fresh(looked, name=asked.name, description=asked.description, license=asked.license)
        arranged = imports.arranged(looked, fresh, "test", "leave_out")
        task, left_out, facts = arranged.task, arranged.left_out, import_facts(looked, arranged)
    elif asked.kind is not None:
        task, facts = _scaffold(asking, asked, tenant), {"kind": asked.kind}
    else:
        task = _of_example(asking, asked)
    task = replace(task, description=asked.description or task.description, data_class=asked.data_class)
    task = prompted(task, system=asked.system, user=asked.user, scorer=asked.scorer)
    keeping(asking).create(task, tenant, asking.actor, facts=facts)
    if asked.upload is not None:
        imports_of(asking).remove(asked.upload, tenant)
    made = listed(asking, asked.name, tenant)
    facts = {name: getattr(made, name) for name in TaskShown.__slots__}
    return TaskMade(**facts, left_out=told(left_out))


def _scaffold(asking: Asking, asked: NewTask, tenant: str) -> Task:
    """A finished task to learn from, read from a folder that goes away again."""
    draft = keeping(asking).tasks.home(tenant).parent / f".draft-{keeping(asking).new_id()}"
    try:
        new_task(draft / asked.name, asked.kind or "")
        return replace(load_task(draft / asked.name), name=asked.name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _of_example(asking: Asking, asked: NewTask) -> Task:
    said = asked.example or {}
    draft = Draft(
        input=said.get("input"),
        messages=said.get("messages"),
        expected=said.get("expected"),
        labels=said.get("labels") or {},
    )
    empty = Task(name=asked.name, examples=(), scorers=(), folder=str(Path()))
    return added(draft, "test", keeping(asking).new_id())(empty)[0]


TASK_MAKING = (
    Operation(
        method="POST", path="/api/tasks", role="engineer", takes=NewTask, gives=TaskMade, does=_create,
        tag="tasks", summary="task_api.tasks_create", status=201, errors=(404, 409),
    ),
)  # fmt: skip
