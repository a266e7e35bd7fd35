"""What operations on files of examples take and give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from baimo.server.admin.paging import Paged
from baimo.server.admin.task_example_forms import ExampleShown
from baimo.server.admin.task_forms import TaskFinding
from baimo.server.admin.task_scope import TaskNamed
from baimo.server.admin.task_versions import VersionShown
from baimo.workspace.task_imports import Doubles
from baimo.workspace.task_keeping import Split

Charset = Literal["utf-8", "gb18030", "big5", "shift_jis", "utf-16", "windows-1252"]
RowFormat = Literal["", "rows", "openai-chat", "openai-evals", "sharegpt", "alpaca"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReading:
    """How a file is to be read; empty = found by content."""

    format: RowFormat = ""
    delimiter: Annotated[str, msgspec.Meta(max_length=1)] = ""
    input: str = ""
    target: tuple[str, ...] = ()
    """Column of the reference, or several that make an object."""
    id_column: str = ""
    group_column: str = ""
    label: tuple[str, ...] = ()
    """Columns that are labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUpload(FileReading):
    """A file with examples."""

    name: str
    """Its ending says how it is packed: .csv, .tsv, .jsonl, .json, .parquet, also with .gz."""
    content: str | None = None
    base64: str | None = None
    """Its bytes, where they are no UTF-8 text."""
    charset: Charset = "utf-8"
    tenant: str | None = None
    task: str | None = None
    """Look at it beside the examples of this task."""
    split: Split = "test"
    doubles: Doubles = "leave_out"


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadChange(FileReading):
    """Another way to read a file."""

    upload: str
    tenant: str | None = None
    task: str | None = None
    split: Split = "test"
    doubles: Doubles = "leave_out"


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadAsked:
    """A file, and where it is to go."""

    upload: str
    tenant: str | None = None
    task: str | None = None
    split: Split = "test"
    doubles: Doubles = "leave_out"


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadsAsked(Paged):
    """Whose files."""

    tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadShown:
    """A file that waits."""

    upload: str
    name: str
    bytes: int
    created: str
    """ISO 8601; a day later it is forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadsPage:
    """Files that are not stored yet, the newest first."""

    data: list[UploadShown]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOutShown:
    """A row that is not stored."""

    line: int | None
    code: str
    """The same in every language."""
    message: str
    hint: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadPreview:
    """What a file holds, before anything of it is stored."""

    upload: str
    name: str
    bytes: int
    format: str
    columns: list[str]
    reading: FileReading
    """How it is read now."""
    problem: LeftOutShown | None
    """Why nothing can be read this way: a column that is not there."""
    good: int
    """Rows that would be added."""
    replaced: int
    """Rows that would replace one of the same id."""
    left_out: list[LeftOutShown]
    """Rows that would not be stored, by line; at most 200."""
    bad: int
    """How many those are."""
    findings: list[TaskFinding]
    """What the check says of the rows."""
    notes: list[str]
    """What was assumed."""
    data: list[ExampleShown]
    """The first twenty."""
    scorer: str
    """For a new task: what its examples would be judged by; empty = nothing fits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskImport(TaskNamed):
    """A file whose rows go into a task."""

    upload: str
    split: Split = "test"
    doubles: Doubles = "leave_out"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportStored(VersionShown):
    """What was stored, and the version that has it."""

    added: int
    replaced: int
    left_out: list[LeftOutShown]
    """Rows that are not, by line; at most 200."""
    bad: int
    """How many those are."""
