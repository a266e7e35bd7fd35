"""Files of examples on their way into a task: first looked at, row by row, then stored.

Prevents the failure where three bad rows among thousands either stop an import or are swallowed by it: every row that
cannot be used is told with its line before anything is stored, and told again with what was stored.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from baimo.core.ids import plain, sortable_id
from baimo.core.task import Example, Prompt, Task
from baimo.errors import NotFound, TaskError, UsageError
from baimo.evals.tasks.check import Finding, check
from baimo.evals.tasks.folder import assumed_scorer
from baimo.evals.tasks.formats.columns import Columns
from baimo.evals.tasks.formats.recognise import Contents, columns_of, read_file
from baimo.evals.tasks.notes import Note, Notebook
from baimo.typed import from_json
from baimo.workspace.housekeeping import left_behind
from baimo.workspace.task_keeping import Placed, Split, TaskKeeping, placed_of, with_examples

LARGEST = 24 * 2**20
"""Bytes of a file; larger ones go by `baimo tasks import`."""
CHARSETS = ("utf-8", "gb18030", "big5", "shift_jis", "utf-16", "windows-1252")
Doubles = Literal["leave_out", "replace"]
_ID = re.compile(r"up_[0-9a-z]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file, and how it is to be read."""

    id: str
    """up_…"""
    name: str
    """Of the file, for messages; its ending says how it is packed."""
    bytes: int
    created_ms: int
    format: str = ""
    """How rows are to be read; empty = by content."""
    delimiter: str = ""
    columns: Columns = field(default_factory=Columns)
    """Which column holds what."""


class LeftOut(NamedTuple):
    """A row that is not stored."""

    line: int | None
    error: TaskError


class Looked(NamedTuple):
    """What a file holds."""

    upload: Upload
    contents: Contents
    columns: tuple[str, ...]
    left_out: list[LeftOut]
    notes: tuple[Note, ...]


class Arranged(NamedTuple):
    """A task with what was imported."""

    task: Task
    added: int
    replaced: int
    left_out: list[LeftOut]


class TaskImports:
    """Files of one workspace that wait to be stored. Methods block."""

    def __init__(self, keeping: TaskKeeping) -> None:
        self._keeping = keeping

    def add(self, data: bytes, wanted: Upload, tenant: str, *, charset: str = "utf-8") -> Upload:
        """Keep a file.

        Args:
            data: its bytes.
            wanted: name, and how it is to be read; the rest is filled in.
            tenant: whose.
            charset: what its text is written in; anything but UTF-8 is converted.

        Raises:
            UsageError: it is not written in this charset.
        """
        name = re.sub(r"[\x00-\x1f/\\]", "_", wanted.name).strip(". ")[-120:] or "examples.jsonl"
        if charset != "utf-8":
            try:
                data = data.decode(charset).encode()
            except (UnicodeDecodeError, LookupError):
                raise UsageError("tasks.bad_charset", charset=charset, field="/charset") from None
        now = self._keeping.now_ms()
        left_behind(self._keeping.workspace.path, now)
        upload = replace(
            wanted, id=sortable_id("up", now, os.urandom(7)), name=name, bytes=len(data), created_ms=now
        )
        folder = self._home(tenant) / upload.id
        folder.mkdir(parents=True)
        (folder / name).write_bytes(data)
        self._write(folder, upload)
        return upload

    def get(self, id: str, tenant: str) -> Upload:
        """A file that waits.

        Raises:
            NotFound: there is none, or it waited too long.
        """
        path = self._home(tenant) / id / "upload.json"
        if not _ID.fullmatch(id) or not path.is_file():
            raise NotFound("tasks.no_upload", field="/upload")
        return from_json(path.read_bytes(), Upload)

    def waiting(self, tenant: str) -> list[Upload]:
        """Files that are not stored yet, the newest first."""
        home = self._home(tenant)
        paths = sorted(home.iterdir(), reverse=True) if home.is_dir() else []
        return [self.get(path.name, tenant) for path in paths if (path / "upload.json").is_file()]

    def change(self, upload: Upload, tenant: str) -> Upload:
        """Read it another way from now on."""
        self._write(self._home(tenant) / upload.id, upload)
        return upload

    def remove(self, id: str, tenant: str) -> None:
        """Forget it."""
        shutil.rmtree(self._home(tenant) / self.get(id, tenant).id)

    def columns(self, id: str, tenant: str) -> tuple[Upload, tuple[str, ...]]:
        """A file and the names of its columns, whether or not they can be used as they are."""
        upload = self.get(id, tenant)
        head = columns_of(self._home(tenant) / id / upload.name, delimiter=upload.delimiter)
        return upload, head.columns

    def looked(self, id: str, tenant: str) -> Looked:
        """What it holds, row by row.

        Raises:
            NotFound: there is none.
            TaskError: it cannot be read as a whole.
        """
        upload = self.get(id, tenant)
        path, notebook, refused = (
            self._home(tenant) / id / upload.name,
            Notebook(file=upload.name),
            list[TaskError](),
        )
        try:
            # a suite of promptfoo may name any file of this machine, so it comes by the command line or not at all
            columns, format = columns_of(path, delimiter=upload.delimiter)
            if format == "promptfoo" and not columns:
                raise TaskError("tasks.upload_suite", path=upload.name)
            contents = read_file(
                path,
                notebook,
                mapping=upload.columns,
                format=upload.format or ("rows" if upload.columns.named or format == "promptfoo" else format),
                delimiter=upload.delimiter,
                refused=refused.append,
            )
        except TaskError as error:
            raise _named(error, upload.name) from None
        lines = {example.line for example in contents.examples}
        for one in refused:  # a column that no row has is told of the first row, which was read
            if not lines or (one.key.startswith("tasks.no_column") and one.facts.get("line") in lines):
                raise _named(one, upload.name)
        examples = tuple(replace(one, file=upload.name) for one in contents.examples)
        left_out = sorted((_left_out(one, upload.name) for one in refused), key=lambda one: one.line or 0)
        return Looked(upload, contents._replace(examples=examples), columns, left_out, notebook.notes())

    def findings(self, looked: Looked, arranged: Task, *, fresh: bool) -> list[Finding]:
        """What the check says of the rows, beside what the task holds already.

        Args:
            looked: the file.
            arranged: the task with them.
            fresh: it is a new task, so that what is said of the task as a whole counts, too.
        """
        ours = looked.upload.name
        return [
            one
            for one in check(arranged)
            if any(place.file == ours for place in one.places) or (fresh and not one.places)
        ]

    def arranged(self, looked: Looked, task: Task, split: Split, doubles: Doubles) -> Arranged:
        """A task with the rows of a file.

        Args:
            looked: the file.
            task: as it is; without examples for a new one.
            split: where they go.
            doubles: what becomes of a row whose id is in the split already; ids that are line numbers get another.
        """
        there = {one.example.id: at for at, one in enumerate(placed_of(task)) if one.split == split}
        placed, left_out = placed_of(task), list(looked.left_out)
        taken, added, replaced = set(there), 0, 0
        for example in looked.contents.examples:
            if example.id not in there:
                placed.append(Placed(split, example))
                added += 1
            elif _numbered(example):
                example = replace(example, id=freed(f"{Path(looked.upload.name).stem}-{example.id}", taken))
                placed.append(Placed(split, example))
                added += 1
            elif doubles == "replace":
                placed[there[example.id]] = Placed(split, example)
                replaced += 1
            else:
                facts = {"path": looked.upload.name, "line": example.line, "id": example.id}
                left_out.append(LeftOut(example.line, TaskError("tasks.id_taken", **facts)))
            taken.add(example.id)
        left_out.sort(key=lambda one: one.line or 0)
        return Arranged(with_examples(task, placed), added, replaced, left_out)

    def fresh(self, looked: Looked, *, name: str, description: str = "", license: str = "") -> Task:
        """A task without examples yet, with what the file says of prompts and scorers."""
        contents = looked.contents
        scorer = assumed_scorer(contents.examples)
        return Task(
            name=name,
            description=description or contents.description,
            license=license,
            examples=(),
            prompts=contents.prompts or (Prompt(),),
            scorers=contents.scorers or ((scorer,) if scorer else ()),
        )

    def _home(self, tenant: str) -> Path:
        return self._keeping.tasks.home(tenant).parent / "task-uploads"

    def _write(self, folder: Path, upload: Upload) -> None:
        (folder / "upload.json").write_bytes(msgspec.json.encode(plain(upload)))


def freed(id: str, taken: set[str]) -> str:
    """An id that is not taken: this one, or with a number behind it."""
    found, number = id, 2
    while found in taken:
        found, number = f"{id}-{number}", number + 1
    return found


def prompted(task: Task, *, system: str = "", user: str = "", scorer: str = "") -> Task:
    """The task with another prompt or scorer, where one is named.

    Raises:
        UsageError: there is no such scorer.
    """
    from baimo.core.registry import Spec
    from baimo.evals.scorers.registry import scorer as built

    if system or user:
        task = replace(task, prompts=(Prompt(system=system, user=user or Prompt().user),))
    if scorer:
        labels = sorted({one.target for one in task.examples if isinstance(one.target, str)})
        spec = Spec(name=scorer, args={"labels": labels} if scorer == "choice" else {})
        built(spec, folder=Path())
        task = replace(task, scorers=(spec,))
    return task


def _numbered(example: Example) -> bool:
    """Whether its id is only where it stood."""
    return example.id.partition(".")[0] == str(example.line)


def _named(error: TaskError, name: str) -> TaskError:
    """The same, of the file as its owner calls it."""
    return type(error)(error.key, **{**error.facts, "path": name})


def _left_out(error: TaskError, name: str) -> LeftOut:
    line: Any = error.facts.get("line")
    return LeftOut(line if isinstance(line, int) else None, _named(error, name))
