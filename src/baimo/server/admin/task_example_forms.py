"""What operations on examples take and give."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec

from baimo.server.admin.paging import Paged
from baimo.server.admin.task_scope import TaskNamed
from baimo.server.admin.task_versions import VersionShown
from baimo.workspace.task_keeping import Split

Sort = Literal["", "input", "-input", "expected", "-expected", "id", "-id", "language", "-language"]
Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


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
class ExampleMade(VersionShown):
    """A new example, and the version that has it."""

    id: str


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
class TaskExport(TaskNamed):
    """Examples as a file."""

    split: Literal["", "test", "train"] = ""
    format: Literal["jsonl"] = "jsonl"
