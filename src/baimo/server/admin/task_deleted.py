"""Deleting a task, and deleted tasks: listed, brought back, gone for good."""

from __future__ import annotations

from dataclasses import dataclass

from baimo.core.moments import shown
from baimo.core.rights import OWNER_NAME
from baimo.server.admin.operation import Asking, Nothing, Operation
from baimo.server.admin.paging import Paged, cut
from baimo.server.admin.task_forms import TaskShown
from baimo.server.admin.task_list import listed
from baimo.server.admin.task_scope import TASK, TaskNamed, keeping, known, tenant_of
from baimo.workspace.task_deleted import DeletedTask, DeletedTasks


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedAsked(Paged):
    """Whose deleted tasks."""

    tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedShown:
    """A task that was deleted."""

    deleted: str
    """gone_…"""
    name: str
    """What it was called."""
    at: str
    """ISO 8601."""
    tenant: str
    """Who deleted it."""
    key: str | None
    """null = by hand, at the machine."""
    test: int
    train: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedPage:
    """Some deleted tasks, the newest first."""

    data: list[DeletedShown]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedNamed:
    """One deleted task."""

    deleted: str
    tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BroughtBack(DeletedNamed):
    """A deleted task to bring back."""

    name: str = ""
    """What it is called from now on; empty = as before."""


def _deleted(asking: Asking) -> DeletedTasks:
    return DeletedTasks(keeping(asking))


def _shown(one: DeletedTask) -> DeletedShown:
    return DeletedShown(
        deleted=one.id,
        name=one.name,
        at=shown(one.at_ms),
        tenant=one.tenant or OWNER_NAME,
        key=one.key or None,
        test=one.test,
        train=one.train,
    )


def _delete(asking: Asking, asked: TaskNamed) -> DeletedShown:
    """DELETE /api/tasks/{task}."""
    one, runs = known(asking, asked), asking.service.comparisons.unended()
    tenant = tenant_of(asking, asked.tenant)
    return _shown(_deleted(asking).delete(one.name, tenant, asking.actor, runs=runs))


def _list(asking: Asking, asked: DeletedAsked) -> DeletedPage:
    """GET /api/deleted-tasks."""
    found = _deleted(asking).all(tenant_of(asking, asked.tenant))
    page, after = cut(found, asked, lambda one: one.id)
    return DeletedPage(data=[_shown(one) for one in page], next=after)


def _bring_back(asking: Asking, asked: BroughtBack) -> TaskShown:
    """POST /api/deleted-tasks/{deleted}/restore."""
    tenant = tenant_of(asking, asked.tenant)
    name = _deleted(asking).bring_back(asked.deleted, tenant, asking.actor, name=asked.name)
    return listed(asking, name, tenant)


def _erase(asking: Asking, asked: DeletedNamed) -> Nothing:
    """DELETE /api/deleted-tasks/{deleted}."""
    _deleted(asking).erase(asked.deleted, tenant_of(asking, asked.tenant), asking.actor)
    return Nothing()


_DELETED = "/api/deleted-tasks"
_ONE = f"{_DELETED}/{{deleted}}"

TASK_DELETED = (
    Operation(
        method="DELETE", path=TASK, role="engineer", takes=TaskNamed, gives=DeletedShown, does=_delete,
        tag="tasks", summary="task_api.tasks_delete", errors=(404, 409),
    ),
    Operation(
        method="GET", path=_DELETED, role="engineer", takes=DeletedAsked, gives=DeletedPage, does=_list,
        tag="tasks", summary="task_api.tasks_deleted", errors=(404,),
    ),
    Operation(
        method="POST", path=f"{_ONE}/restore", role="engineer", takes=BroughtBack, gives=TaskShown,
        does=_bring_back, tag="tasks", summary="task_api.tasks_bring_back", status=201, errors=(404, 409),
    ),
    Operation(
        method="DELETE", path=_ONE, role="admin", takes=DeletedNamed, gives=Nothing, does=_erase, tag="tasks",
        summary="task_api.tasks_erase", errors=(404,),
    ),
)  # fmt: skip
