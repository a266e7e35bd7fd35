"""Versions of a task: listed, shown line by line, gone back to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from baimo.core.moments import shown
from baimo.core.rights import OWNER_NAME
from baimo.errors import NotFound
from baimo.server.admin.operation import Asking, Operation
from baimo.server.admin.paging import Paged, cut
from baimo.server.admin.task_scope import TASK, TaskNamed, keeping, kept, known, tenant_of
from baimo.workspace.task_history import Version

_MOST = 200
"""Lines of a version that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryAsked(Paged):
    """Which versions."""

    task: str
    tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionShown:
    """A version of a task."""

    version: int
    """0 = nothing was different."""
    at: str | None
    tenant: str
    key: str | None
    """null = by hand, at the machine."""
    act: str
    facts: dict[str, Any]
    test: int
    train: int
    hash: str
    """Of examples and scorers afterwards; runs name it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPage:
    """Some versions, newest first."""

    data: list[VersionShown]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionNamed(TaskNamed):
    """One version."""

    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionWhole(VersionShown):
    """A version with what it changed."""

    changes: list[dict[str, Any]]
    """file, before and after: lines that were replaced; at most 200."""
    more: int
    """Lines beyond those."""


def version_facts(version: Version | None) -> dict[str, Any]:
    """What is shown of a version; of None that nothing was different."""
    if version is None:
        facts: dict[str, Any] = {"tenant": OWNER_NAME, "key": None, "act": "", "facts": {}}
        return {"version": 0, "at": None, "test": 0, "train": 0, "hash": "", **facts}
    return {
        "version": version.version,
        "at": shown(version.at_ms),
        "tenant": version.tenant or OWNER_NAME,
        "key": version.key or None,
        "act": version.act,
        "facts": dict(version.facts),
        "test": version.test,
        "train": version.train,
        "hash": version.hash,
    }


def version_shown(version: Version | None) -> VersionShown:
    """A version as it is shown; of None that nothing was different."""
    return VersionShown(**version_facts(version))


def _history(asking: Asking, asked: HistoryAsked) -> HistoryPage:
    """GET /api/tasks/{task}/history."""
    one = kept(asking, asked)
    versions = keeping(asking).versions(one.known.name, tenant_of(asking, asked.tenant))[::-1]
    page, after = cut(versions, asked, lambda each: str(each.version))
    return HistoryPage(data=[version_shown(each) for each in page], next=after)


def _version(asking: Asking, asked: VersionNamed) -> VersionWhole:
    """GET /api/tasks/{task}/history/{version}."""
    one, tenant = kept(asking, asked), tenant_of(asking, asked.tenant)
    versions = keeping(asking).versions(one.known.name, tenant)
    if not 1 <= asked.version <= len(versions):
        raise NotFound("tasks.no_version", version=asked.version, field="/version")
    deltas = keeping(asking).history(one.known.name, tenant).changed(asked.version)
    changes = [
        {"file": name, "before": _line(cut.old, at), "after": _line(cut.new, at)}
        for name, delta in sorted(deltas.items())
        for cut in delta.cuts
        for at in range(max(len(cut.old), len(cut.new)))
    ]
    facts = version_facts(versions[asked.version - 1])
    return VersionWhole(**facts, changes=changes[:_MOST], more=max(0, len(changes) - _MOST))


def _line(lines: list[str], at: int) -> str | None:
    return lines[at].rstrip("\n") if at < len(lines) else None


def _restore(asking: Asking, asked: VersionNamed) -> VersionShown:
    """POST /api/tasks/{task}/restore."""
    name, tenant = known(asking, asked).name, tenant_of(asking, asked.tenant)
    return version_shown(keeping(asking).restored(name, tenant, asked.version, asking.actor))


TASK_VERSIONS = (
    Operation(
        method="GET", path=f"{TASK}/history", role="viewer", takes=HistoryAsked, gives=HistoryPage,
        does=_history, tag="tasks", summary="task_api.tasks_history", errors=(404,),
    ),
    Operation(
        method="GET", path=f"{TASK}/history/{{version}}", role="viewer", takes=VersionNamed,
        gives=VersionWhole, does=_version, tag="tasks", summary="task_api.tasks_version", errors=(404,),
    ),
    Operation(
        method="POST", path=f"{TASK}/restore", role="engineer", takes=VersionNamed, gives=VersionShown,
        does=_restore, tag="tasks", summary="task_api.tasks_restore", errors=(404, 409),
    ),
)  # fmt: skip
