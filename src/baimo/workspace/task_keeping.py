"""Looking after a workspace's tasks: examples are found, added, changed, moved and taken away, each as a version.

Prevents two failures: a comparison whose examples change while it runs (it read them at its start, and its run names
their hash), and an edit that nobody can take back.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from baimo.core.ids import digest, sortable_id
from baimo.core.moments import wall_ms
from baimo.core.task import Example, Task
from baimo.core.tenant import OWNER
from baimo.errors import BaimoError, Conflict, NotFound, TaskError, UsageError
from baimo.evals.tasks.check import Finding, check
from baimo.evals.tasks.editing import texts_after, with_value
from baimo.evals.tasks.folder import Reading, read_task
from baimo.evals.tasks.formats.messages import messages_of, text_of
from baimo.evals.tasks.manifest import FILE_NAME, Manifest
from baimo.evals.tasks.notes import Note
from baimo.evals.tasks.scaffold import texts_of
from baimo.store import audit
from baimo.store.audit import Actor
from baimo.workspace.known_tasks import KnownTask, KnownTasks
from baimo.workspace.task_history import FOLDER, History, Made, Measured, Version

if TYPE_CHECKING:
    from baimo.workspace.workspace import Workspace

Split = Literal["test", "train"]
SPLITS: tuple[Split, ...] = ("test", "train")
RUBRIC = "rubric.md"
_REMEMBERED = 8


class Placed(NamedTuple):
    """An example and its split."""

    split: Split
    example: Example

    @property
    def id(self) -> str:
        """Unique in the task."""
        return f"{self.split}:{self.example.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A task as it was read."""

    known: KnownTask
    reading: Reading

    @property
    def task(self) -> Task:
        return self.reading.task

    @property
    def examples(self) -> list[Placed]:
        """Test first, each split in its order."""
        return [
            *(Placed("test", one) for one in self.task.examples),
            *(Placed("train", one) for one in self.task.train),
        ]


class TaskKeeping:
    """The tasks of a workspace as people look after them. Methods block."""

    def __init__(self, workspace: Workspace, now_ms: Callable[[], int] | None = None) -> None:
        self.workspace = workspace
        self.tasks = KnownTasks(workspace)
        self.now_ms = now_ms or wall_ms
        self._read: dict[Path, tuple[object, Kept]] = {}

    # reading

    def kept(self, name: str, tenant: str = OWNER) -> Kept:
        """A task with its examples; read again only after a file has changed.

        Raises:
            NotFound: there is none of this name.
            TaskError: it cannot be read.
        """
        known = self.tasks.known(name, tenant)
        stamp = _stamp(known.folder)
        before = self._read.get(known.folder)
        if before is not None and before[0] == stamp:
            return before[1]
        found = Kept(known=known, reading=read_task(known.folder))
        while len(self._read) >= _REMEMBERED:
            self._read.pop(next(iter(self._read)), None)
        self._read[known.folder] = (stamp, found)
        return found

    def example(self, kept: Kept, id: str, split: str | None = None) -> Placed:
        """One example.

        Raises:
            NotFound: there is none of this id.
        """
        for one in kept.examples:
            if one.example.id == id and split in (None, "", one.split):
                return one
        raise NotFound("tasks.no_example", id=id, field="/example")

    def findings(self, kept: Kept) -> list[Finding]:
        """What is wrong or remarkable."""
        return check(kept.task, find=self.workspace.catalogue.model)

    def rubric(self, kept: Kept) -> str:
        """How answers are to be judged, for people; empty = nothing is written."""
        path = _folder(kept.known) / RUBRIC
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def notes(self, kept: Kept) -> Sequence[Note]:
        """What was assumed when it was read."""
        return kept.reading.notes

    # changing

    def create(
        self, task: Task, tenant: str, by: Actor, *, act: str = "create", facts: Mapping[str, Any] = {}
    ) -> Version:
        """A new task; its name is `task.name`.

        Raises:
            UsageError: this cannot be a name, or there are no examples.
            Conflict: there is one already.
        """
        place = self.tasks.place(task.name, tenant)
        if not task.examples:
            raise UsageError("tasks.last_example")
        texts = texts_of(task)
        history = History(place, list, lambda: _measured(place))
        version = history.change(by, act, lambda: Made({**texts}, facts), self.now_ms())
        assert version is not None
        self._audited(by, tenant, task.name, version)
        return version

    def copied(self, name: str, new: str, tenant: str, by: Actor) -> Version:
        """A task under another name, in the workspace, where it may be changed."""
        kept = self.kept(name, tenant)
        version = self.create(replace(kept.task, name=new), tenant, by, act="copy", facts={"from": name})
        rubric = self.rubric(kept)
        return self.described(new, tenant, by, rubric=rubric) or version if rubric else version

    def change(
        self,
        name: str,
        tenant: str,
        by: Actor,
        act: str,
        changed: Callable[[Task], tuple[Task, Mapping[str, Any]]],
    ) -> Version | None:
        """A change of examples; None = nothing differs.

        Args:
            name: of the task.
            tenant: whose.
            by: who changes it.
            act: what is done.
            changed: given the task as it is, the task as it is to be and what the history tells of it.

        Raises:
            Conflict: the task lies elsewhere and is only read.
            UsageError: it could not be evaluated afterwards.
        """
        kept = self.own(name, tenant)
        folder = kept.known.folder

        def make() -> Made:
            task = read_task(folder).task
            after, facts = changed(task)
            if (after.examples, after.train) == (task.examples, task.train):
                return Made({})
            texts = texts_after(after, (folder / FILE_NAME).read_text(encoding="utf-8"))
            return Made(texts, facts)

        return self.enter(kept.known, tenant, by, act, make)

    def described(
        self, name: str, tenant: str, by: Actor, *, rubric: str | None = None, description: str | None = None
    ) -> Version | None:
        """Other words about a task; None = nothing differs."""
        kept = self.own(name, tenant)
        texts: dict[str, str | None] = {}
        if rubric is not None:
            texts[RUBRIC] = rubric.replace("\r\n", "\n").strip() + "\n" if rubric.strip() else None
        if description is not None:
            source = (kept.known.folder / FILE_NAME).read_text(encoding="utf-8")
            said = with_value(source, "description", description)
            texts |= {FILE_NAME: said} if said else texts_of(replace(kept.task, description=description))
        made = Made(texts, {"files": sorted(texts)})
        return self.enter(kept.known, tenant, by, "describe", lambda: made)

    def versions(self, name: str, tenant: str) -> list[Version]:
        """Every version of a task, the oldest first; none = it has never been changed here."""
        known = self.tasks.known(name, tenant)
        return self._history(known).versions() if known.own else []

    def history(self, name: str, tenant: str) -> History:
        """The versions of a task that may be changed.

        Raises:
            Conflict: it lies elsewhere.
        """
        return self._history(self.own(name, tenant).known)

    def restored(self, name: str, tenant: str, version: int, by: Actor) -> Version | None:
        """The files as a version left them, as a new version; None = nothing differs."""
        known = self.tasks.known(name, tenant)
        if not known.own:
            raise Conflict("tasks.read_only", name=name)
        history = self._history(known)

        make = lambda: Made(history.at(version), {"version": version})  # noqa: E731
        return self.enter(known, tenant, by, "restore", make)

    def new_id(self) -> str:
        """An id for an example that has none."""
        return sortable_id("ex", self.now_ms(), os.urandom(7))

    def enter(
        self, known: KnownTask, tenant: str, by: Actor, act: str, make: Callable[[], Made]
    ) -> Version | None:
        """A change of files, computed under the task's lock; None = nothing differs."""
        version = self._history(known).change(by, act, make, self.now_ms())
        self._read.pop(known.folder, None)
        if version is not None:
            self._audited(by, tenant, known.name, version)
        return version

    def own(self, name: str, tenant: str) -> Kept:
        """A task that may be changed.

        Raises:
            Conflict: it lies elsewhere.
        """
        kept = self.kept(name, tenant)
        if not kept.known.own:
            raise Conflict("tasks.read_only", name=name)
        return kept

    def _history(self, known: KnownTask) -> History:
        def names() -> list[str]:
            try:
                data = Manifest(known.folder / FILE_NAME).task.data
            except TaskError:  # it is about to be mended
                return [FILE_NAME, RUBRIC]
            return [name for name in (FILE_NAME, data.test, data.train, RUBRIC) if name]

        return History(known.folder, names, lambda: _measured(known.folder))

    def _audited(self, by: Actor, tenant: str, name: str, version: Version) -> None:
        told = {key: value for key, value in version.facts.items() if isinstance(value, (str, int))}
        facts: dict[str, Any] = {"tenant": tenant, "version": version.version, **told}
        with self.workspace.store.database.writing() as connection:
            # a colon: no tenant and no key is called so
            audit.enter(connection, by, f"task.{version.act}", f"task:{name}", facts, self.now_ms())


def with_examples(task: Task, examples: Iterable[Placed]) -> Task:
    """The task with these examples."""
    placed = list(examples)
    test = tuple(one.example for one in placed if one.split == "test")
    return replace(task, examples=test, train=tuple(one.example for one in placed if one.split == "train"))


def placed_of(task: Task) -> list[Placed]:
    """Every example of a task with its split."""
    return [
        *(Placed("test", one) for one in task.examples),
        *(Placed("train", one) for one in task.train),
    ]


def conversation(messages: Sequence[Any]) -> Example:
    """An example that is a conversation; what its last turn asks is its field `input`."""
    turns = messages_of(list(messages), Path("messages"), 1)
    asked = next((one for one in reversed(turns) if one.role == "user"), turns[-1])
    return Example(id="", fields={"input": text_of(asked)}, messages=turns)


def split_by_chance(task: Task, train: float, seed: int) -> Task:
    """The task with about this share of its examples in train, groups kept together, the same for one seed."""

    def place(one: Placed) -> Placed:
        example = one.example
        drawn = int(digest([seed, example.group or f"id:{example.id}"])[:12], 16) / 16**12
        return Placed("train" if drawn < train else "test", example)

    return with_examples(task, map(place, placed_of(task)))


def _measured(folder: Path) -> Measured:
    try:
        task = read_task(folder).task
    except BaimoError:  # somebody is in the middle of changing it by hand
        return Measured()
    return Measured(len(task.examples), len(task.train), task.hash)


def _folder(known: KnownTask) -> Path:
    return known.folder if known.folder.is_dir() else known.folder.parent


def _stamp(path: Path) -> object:
    """Changes whenever a file of the task does."""
    paths = [path]
    if path.is_dir() or path.name == FILE_NAME:
        folder = path if path.is_dir() else path.parent
        with suppress(BaimoError):  # that it cannot be read is told by whoever reads it
            data = Manifest(folder / FILE_NAME).task.data
            paths = [folder / name for name in (data.test, data.train) if name]
        paths += [one for one in folder.iterdir() if one.name != FOLDER]
    stats = [(str(one), one.stat()) for one in paths if one.is_file()]
    return sorted((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)
