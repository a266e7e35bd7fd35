"""Deleted tasks: out of the way with their whole history, until somebody brings one back or has it gone for good.

Prevents two failures: a task that is taken from under a comparison or a tuning job that still reads it, and one wrong
click that costs the work of weeks.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from baimo.core.ids import plain, sortable_id
from baimo.core.run import Run
from baimo.errors import BaimoError, Conflict, NotFound, TaskError
from baimo.store import audit
from baimo.store.audit import Actor
from baimo.store.jobs import Jobs
from baimo.typed import from_json
from baimo.workspace.known_tasks import KnownTask
from baimo.workspace.task_history import locked
from baimo.workspace.task_keeping import TaskKeeping

_ID = re.compile(r"gone_[0-9a-z]{20}")
_FACTS = "deleted.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedTask:
    """A task that was deleted."""

    id: str
    """gone_…"""
    name: str
    """What it was called."""
    at_ms: int
    """Wall clock, milliseconds since 1970."""
    tenant: str = ""
    """Who deleted it."""
    key: str = ""
    """Public part of their key; empty = somebody at the machine."""
    test: int = 0
    """Examples of the test split; 0 also where it could not be read."""
    train: int = 0


class DeletedTasks:
    """Of one workspace. Methods block."""

    def __init__(self, keeping: TaskKeeping) -> None:
        self._keeping = keeping

    def delete(self, name: str, tenant: str, by: Actor, *, runs: Iterable[Run]) -> DeletedTask:
        """Put a task away with everything in its folder.

        Args:
            name: of the task.
            tenant: whose.
            by: who deletes it.
            runs: comparisons that have not ended.

        Raises:
            NotFound: there is none of this name.
            Conflict: it lies elsewhere, or a comparison or a tuning job still uses it.
        """
        known = self._keeping.tasks.known(name, tenant)
        if not known.own:
            raise Conflict("tasks.read_only", name=name)
        if users := list(self._users(known, runs)):
            raise Conflict("tasks.in_use", name=name, users=", ".join(users))
        try:
            task = self._keeping.kept(name, tenant).task
            test, train = len(task.examples), len(task.train)
        except BaimoError:  # a broken one may go, too
            test, train = 0, 0
        now = self._keeping.now_ms()
        id = sortable_id("gone", now, os.urandom(7))
        gone = DeletedTask(id=id, name=name, at_ms=now, tenant=by.tenant, key=by.key, test=test, train=train)
        place = self._home(tenant) / gone.id
        try:
            with locked(known.folder):  # whoever is changing it finishes first
                place.mkdir(parents=True)
                (place / _FACTS).write_bytes(msgspec.json.encode(plain(gone)))
                known.folder.rename(place / "task")
        except OSError as error:
            if not (place / "task").exists():
                shutil.rmtree(place, ignore_errors=True)
            raise TaskError("tasks.unwritable", path=name, problem=error.strerror) from error
        self._audited(by, "task.discard", gone, tenant)
        return gone

    def all(self, tenant: str) -> list[DeletedTask]:
        """Deleted tasks of a tenant, the newest first."""
        home = self._home(tenant)
        names = sorted((one.name for one in home.iterdir()), reverse=True) if home.is_dir() else []
        return [self.get(name, tenant) for name in names if (home / name / _FACTS).is_file()]

    def get(self, id: str, tenant: str) -> DeletedTask:
        """
        Raises:
            NotFound: there is none.
        """
        path = self._home(tenant) / id / _FACTS
        if not _ID.fullmatch(id) or not path.is_file():
            raise NotFound("tasks.no_deleted", field="/deleted")
        return from_json(path.read_bytes(), DeletedTask)

    def bring_back(self, id: str, tenant: str, by: Actor, *, name: str = "") -> str:
        """Put one back where it was, or under another name; its name now.

        Raises:
            NotFound: there is none.
            Conflict: there is a task of this name.
        """
        gone = self.get(id, tenant)
        folder = self._keeping.tasks.place(name or gone.name, tenant)
        place = self._home(tenant) / id
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            (place / "task").rename(folder)
        except OSError as error:
            raise TaskError("tasks.unwritable", path=folder.name, problem=error.strerror) from error
        shutil.rmtree(place, ignore_errors=True)
        self._audited(by, "task.bring_back", gone, tenant, {"as": folder.name})
        return folder.name

    def erase(self, id: str, tenant: str, by: Actor) -> None:
        """Have one gone for good.

        Raises:
            NotFound: there is none.
        """
        gone = self.get(id, tenant)
        shutil.rmtree(self._home(tenant) / id)
        self._audited(by, "task.erase", gone, tenant)

    def _home(self, tenant: str) -> Path:
        return self._keeping.tasks.home(tenant).parent / "deleted-tasks"

    def _users(self, known: KnownTask, runs: Iterable[Run]) -> Iterator[str]:
        """Ids of what still reads it."""
        workspace = self._keeping.workspace
        folder = known.folder.resolve()
        jobs = Jobs(workspace.store.database).unended()
        named = [
            *((run.id, str(run.options.get("task") or "")) for run in runs),
            *((job.spec.id, job.spec.task) for job in jobs),
        ]
        for id, task in named:
            path = (workspace.folder / task).resolve()
            if task and (path.parent if path.name == "task.toml" else path) == folder:
                yield id

    def _audited(
        self, by: Actor, act: str, gone: DeletedTask, tenant: str, facts: Mapping[str, str] = {}
    ) -> None:
        with self._keeping.workspace.store.database.writing() as connection:
            said = {"tenant": tenant, "deleted": gone.id, **facts}
            audit.enter(connection, by, act, f"task:{gone.name}", said, self._keeping.now_ms())
