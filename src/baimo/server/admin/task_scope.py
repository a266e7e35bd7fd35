"""Whose task is meant, and what everybody who changes one does alike.

Prevents the failure of another tenant's task that is told from one that does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from baimo.core.task import Task
from baimo.core.tenant import OWNER, ROLES
from baimo.errors import Forbidden, NotFound
from baimo.server.admin.operation import Asking
from baimo.workspace.known_tasks import KnownTask
from baimo.workspace.task_history import Version
from baimo.workspace.task_keeping import Kept, TaskKeeping

TASK = "/api/tasks/{task}"
_Found = TypeVar("_Found")


class Naming(Protocol):
    """Whatever names a task."""

    @property
    def task(self) -> str: ...
    @property
    def tenant(self) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskNamed:
    """One task."""

    task: str
    """Its name."""
    tenant: str | None = None
    """Whose; None = of whoever asks."""


def keeping(asking: Asking) -> TaskKeeping:
    """Tasks of the workspace that is served."""
    return asking.service.workspace.tasks


def tenant_of(asking: Asking, name: str | None) -> str:
    """The tenant that is meant.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    return asking.within(name) or OWNER


def kept(asking: Asking, asked: Naming) -> Kept:
    """The task that is meant, as it was read.

    Raises:
        NotFound: there is none, or it is another tenant's.
        TaskError: it cannot be read.
    """
    return _found(keeping(asking).kept, asking, asked)


def known(asking: Asking, asked: Naming) -> KnownTask:
    """The task that is meant, whether or not it can be read.

    Raises:
        NotFound: there is none, or it is another tenant's.
    """
    return _found(keeping(asking).tasks.known, asking, asked)


def _found(find: Callable[[str, str], _Found], asking: Asking, asked: Naming) -> _Found:
    tenant = tenant_of(asking, asked.tenant)
    try:
        return find(asked.task, tenant)
    except NotFound as error:
        # without the name that was asked for: it is told of none whether it is somebody's
        near = error.facts.get("near")
        raise NotFound("admin.no_task_near" if near else "admin.no_task", near=near, field="/task") from None


def changed(
    asking: Asking, asked: Naming, act: str, does: Callable[[Task], tuple[Task, Mapping[str, Any]]]
) -> Version | None:
    """A change of the examples of the task that is meant; None = nothing differs."""
    one = kept(asking, asked)
    return keeping(asking).change(one.known.name, tenant_of(asking, asked.tenant), asking.actor, act, does)


def engineers(asking: Asking) -> None:
    """
    Raises:
        Forbidden: the key's role is less than engineer.
    """
    if ROLES.index(asking.key.role) < ROLES.index("engineer"):
        raise Forbidden("serve.role", key=asking.key.public, role=asking.key.role, wanted="engineer")
