"""What operations on tasks take and give."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec

from baimo.server.admin.paging import Paged
from baimo.workspace.task_imports import Doubles
from baimo.workspace.task_keeping import Split

Sort = Literal["", "input", "-input", "expected", "-expected", "id", "-id", "language", "-language"]
Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Charset = Literal["utf-8", "gb18030", "big5", "shift_jis", "utf-16", "windows-1252"]
RowFormat = Literal["", "rows", "openai-chat", "openai-evals", "sharegpt", "alpaca"]
ScorerName = Literal[
    "", "exact", "choice", "numeric", "contains", "icontains", "json", "text_overlap", "tool_calls"
]
"""Those that run nothing and ask nobody; others are written into task.toml by hand."""
Kind = Literal["classify", "extract-json", "qa", "chat-judge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskNamed:
    """One task."""

    task: str
    """Its name."""
    tenant: str | None = None
    """Whose; None = of whoever asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksAsked(Paged):
    """Which tasks."""

    tenant: str | None = None
    text: str = ""
    """Occurs in the name or the description."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskShown:
    """A task in a list."""

    name: str
    own: bool
    """Whether it lies in the workspace, where it may be changed."""
    description: str
    data_class: str
    license: str
    test: int
    train: int
    scorers: list[str]
    """The first decides."""
    prompts: list[str]
    hash: str
    """Of examples and scorers; runs name it."""
    version: int
    """Number of the newest version; 0 = it was never changed here."""
    changed: str | None
    """When that was made; ISO 8601."""
    problem: str | None
    """Why it cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksPage:
    """Some tasks: one's own by name, then those elsewhere."""

    data: list[TaskShown]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelCount:
    """A value, and how many examples have it."""

    value: str
    test: int
    train: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskWhole(TaskShown):
    """Everything about a task but its examples."""

    folder: str | None
    """Where it lies; only for the workspace's own engineers."""
    asked: list[dict[str, Any]]
    """Prompts with their templates."""
    judged: list[dict[str, Any]]
    """Scorers with their arguments."""
    candidates: list[dict[str, Any]]
    sampling: dict[str, Any]
    expected: list[LabelCount]
    """References, the most frequent first; where there are many, those that several examples have; at most 200."""
    languages: list[LabelCount]
    labels: dict[str, list[LabelCount]]
    """Name of a label → its values."""
    rubric: str
    """How answers are to be judged, for people."""
    notes: list[str]
    """What was assumed when it was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFinding:
    """Something that the check says."""

    kind: str
    severity: str
    """error, warning or note."""
    detail: str
    places: list[dict[str, Any]]
    """split, id, file and line of the examples concerned; at most 50."""
    count: int
    """How many they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFindings:
    """What the check says, errors first."""

    data: list[TaskFinding]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamplesAsked(Paged):
    """Which examples."""

    task: str
    tenant: str | None = None
    text: str = ""
    split: Literal["", "test", "train"] = ""
    expected: str = ""
    label: str = ""
    language: str = ""
    sort: Sort = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleShown:
    """An example."""

    id: str
    split: str
    input: str
    """What is asked, for people; short in lists."""
    expected: Any
    """Reference: text, number, accepted texts or JSON; null = none."""
    labels: dict[str, Any]
    group: str | None
    language: str
    turns: int
    """Messages of the conversation; 0 = the prompt asks."""
    line: int | None
    """In its file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleWhole(ExampleShown):
    """All of an example."""

    fields: dict[str, Any]
    """Variables of the prompt."""
    messages: list[dict[str, Any]]
    before: str | None
    """The example before it in the task, split:id."""
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamplesPage:
    """Some examples."""

    data: list[ExampleShown]
    next: str | None
    count: int
    """How many the question finds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleNamed(TaskNamed):
    """One example."""

    example: str
    """Its id."""
    split: Literal["", "test", "train"] = ""
    """Where it is; empty = wherever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewExample(TaskNamed):
    """An example to add: `input`, `messages` or `fields`."""

    input: str | None = None
    messages: list[dict[str, Any]] | None = None
    fields: dict[str, Any] | None = None
    expected: Any = None
    labels: dict[str, Any] = field(default_factory=dict[str, Any])
    group: str | None = None
    source: str | None = None
    """Where it comes from; kept as the label `source`."""
    split: Split = "test"
    id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleChange(ExampleNamed):
    """What is to be different."""

    input: str | None = None
    messages: list[dict[str, Any]] | None = None
    fields: dict[str, Any] | None = None
    expected: Any = None
    labels: dict[str, Any] = field(default_factory=dict[str, Any])
    group: str | None = None
    clear: tuple[Literal["expected", "group", "messages"], ...] = ()
    to: Split | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamplesChange(TaskNamed):
    """What is to be different about several examples."""

    examples: tuple[str, ...]
    """Each as split:id."""
    expected: Any = None
    labels: dict[str, Any] = field(default_factory=dict[str, Any])
    to: Split | None = None
    delete: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitWanted(TaskNamed):
    """A split by chance."""

    share: Share
    """Of the examples that go to train, 0 to 1."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskChange(TaskNamed):
    """Other words about a task."""

    description: str | None = None
    rubric: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCopy(TaskNamed):
    """A copy of a task in the workspace."""

    name: str


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
class ExampleMade(VersionShown):
    """A new example, and the version that has it."""

    id: str


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


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskExport(TaskNamed):
    """Examples as a file."""

    split: Literal["", "test", "train"] = ""
    format: Literal["jsonl"] = "jsonl"


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
