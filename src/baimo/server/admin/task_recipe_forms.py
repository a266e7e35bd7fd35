"""What operations on recipes take and give."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from baimo.evals.tasks.manifest import CandidateTable, PromptTable
from baimo.server.admin.task_scope import TaskNamed
from baimo.workspace.task_scorers import ScorerKind


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingShown:
    """Decoding parameters; null = nothing is said, so that the usual one counts."""

    temperature: float | None = None
    """Usually 0."""
    top_p: float | None = None
    max_tokens: int | None = None
    """Usually 256."""
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerShown:
    """A scorer of a task."""

    name: str
    args: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeShown:
    """How a task is asked and judged."""

    task: str
    own: bool
    """Whether it lies in the workspace, where it may be changed."""
    manifest: str
    """task.toml; empty = the task is a bare file of examples."""
    hash: str
    """Send it as `before`, so that nobody's change is undone unseen."""
    problem: str | None
    """Why it cannot be used; its parts are empty then."""
    prompts: list[PromptTable]
    sampling: SamplingShown
    scorers: list[ScorerShown]
    """The first decides."""
    candidates: list[CandidateTable]
    variables: list[str]
    """Names that templates may use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeChange(TaskNamed):
    """Parts that are to be different, or the whole text."""

    prompts: tuple[PromptTable, ...] | None = None
    sampling: SamplingShown | None = None
    scorers: tuple[ScorerShown, ...] | None = None
    candidates: tuple[CandidateTable, ...] | None = None
    manifest: str | None = None
    before: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewAsked(TaskNamed):
    """Prompts to fill in."""

    prompts: tuple[PromptTable, ...] = ()
    """None = those that are stored."""
    example: str = ""
    """Its id; empty = the first."""
    split: Literal["", "test", "train"] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedShown:
    """What a prompt makes of an example."""

    name: str
    messages: list[dict[str, Any]]
    problem: str | None
    """Why it makes nothing."""
    hint: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What prompts make of one example."""

    example: str
    split: str
    data: list[RenderedShown]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerKinds:
    """The scorers of the house."""

    data: list[ScorerKind]
