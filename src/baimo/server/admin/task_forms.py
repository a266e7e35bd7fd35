"""What operations on tasks take and give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from baimo.server.admin.task_scope import TaskNamed


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
class TaskChange(TaskNamed):
    """Other words about a task."""

    description: str | None = None
    rubric: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCopy(TaskNamed):
    """A copy of a task in the workspace."""

    name: str
