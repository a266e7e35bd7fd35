"""The tasks that a workspace knows: a folder each, the tenant's own, and what the command line worked on elsewhere.

Prevents two failures: a name that leads out of the folder of its tenant, and another tenant's task that is told from
one that does not exist.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from baimo.core.tenant import OWNER
from baimo.errors import Conflict, NotFound, UsageError
from baimo.store.jobs import Jobs

if TYPE_CHECKING:
    from baimo.workspace.workspace import Workspace

NAME = re.compile(r"[^\W_][\w.-]{0,79}")
"""Letters of any script, digits, `_`, `-` and `.`; never a path, and never a hidden folder."""
_REMEMBERED = 500
"""The newest runs and jobs that are looked through for folders elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownTask:
    """A task by its name."""

    name: str
    """Unique among the tasks of its tenant."""
    folder: Path
    """What `load_task` reads: a folder, or a file of examples where the command line was given one."""
    own: bool
    """Whether it lies in the workspace, where it may be changed; others are only read."""


class KnownTasks:
    """Finds tasks by name. Nothing is kept: what is deleted on the disk is gone here, too."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def home(self, tenant: str = OWNER) -> Path:
        """The folder of a tenant's own tasks; it need not be there yet.

        Args:
            tenant: Tenant.id; empty = the workspace's owner.
        """
        path = self._workspace.path.absolute()
        return path / "tasks" if tenant == OWNER else path / "tenants" / tenant / "tasks"

    def listed(self, tenant: str = OWNER) -> list[KnownTask]:
        """Every task of a tenant: its own by name, then those elsewhere in the order of their first use."""
        return [*self._own(tenant), *self._elsewhere(tenant)]

    def known(self, name: str, tenant: str = OWNER) -> KnownTask:
        """A task by its name.

        Raises:
            NotFound: there is none of this name; names near ones.
        """
        if NAME.fullmatch(name):
            folder = self.home(tenant) / name
            if _is_own(folder):
                return KnownTask(name=name, folder=folder, own=True)
        names: list[str] = []
        for one in self.listed(tenant):
            if one.name == name:
                return one
            names.append(one.name)
        near = ", ".join(difflib.get_close_matches(name, names, n=3, cutoff=0.5))
        raise NotFound("tasks.unknown_near" if near else "tasks.unknown", name=name, near=near, field="/task")

    def folder(self, name: str, tenant: str = OWNER) -> Path:
        """Where a task lies: what `load_task` reads.

        Raises:
            NotFound: there is none of this name; names near ones.
        """
        return self.known(name, tenant).folder

    def place(self, name: str, tenant: str = OWNER) -> Path:
        """The folder for a new task; it is not made.

        Raises:
            UsageError: this cannot be a name.
            Conflict: there is one already.
        """
        if not NAME.fullmatch(name):
            raise UsageError("tasks.bad_name", name=name, field="/name")
        if any(one.name.casefold() == name.casefold() for one in self.listed(tenant)):
            raise Conflict("tasks.name_taken", name=name, field="/name")
        return self.home(tenant) / name

    def _own(self, tenant: str) -> list[KnownTask]:
        home = self.home(tenant)
        found = sorted(home.iterdir()) if home.is_dir() else []
        return [
            KnownTask(name=one.name, folder=one, own=True)
            for one in found
            if NAME.fullmatch(one.name) and _is_own(one)
        ]

    def _elsewhere(self, tenant: str) -> Iterator[KnownTask]:
        if tenant != OWNER:
            return
        taken = {one.name for one in self._own(tenant)}
        for path in self._remembered():
            stem = _stem(path)
            name, number = stem, 2
            while name in taken:
                name, number = f"{stem}-{number}", number + 1
            taken.add(name)
            yield KnownTask(name=name, folder=path, own=False)

    def _remembered(self) -> list[Path]:
        """What the owner's runs and jobs read, as far as it is still there and not in the workspace; oldest first."""
        database, base = self._workspace.store.database, self._workspace.folder.absolute()
        runs = [
            (run.started_ms, run.options.get("task")) for run in self._workspace.store.runs(limit=_REMEMBERED)
        ]
        jobs = Jobs(database).page(OWNER, limit=_REMEMBERED)
        used = [*runs, *((job.created_ms, job.spec.task) for job in jobs)]
        inside = self._workspace.path.absolute()
        paths = [(base / str(one)).resolve() for _, one in sorted(used, key=lambda pair: pair[0]) if one]
        return [
            path
            for path in dict.fromkeys(paths)
            if not path.is_relative_to(inside.resolve()) and path.exists()
        ]


def _is_own(folder: Path) -> bool:
    """Whether a folder of the workspace is a task's; a link could lead anywhere."""
    return not folder.is_symlink() and (folder / "task.toml").is_file()


def _stem(path: Path) -> str:
    """What a task elsewhere is called: like its folder, or like its file of examples."""
    if path.name == "task.toml":
        path = path.parent
    name = path.name if path.is_dir() else path.name.partition(".")[0]
    return re.sub(r"[^\w.-]+", "-", name).strip("-._")[:60] or "task"
