"""What is asked of comparisons, and what is shown of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from baimo.core.verdict import Forecast, Progress, Verdict
from baimo.server.admin.paging import Paged

Status = Literal["queued", "running", "interrupted", "done", "stopped", "failed"]
"""interrupted = it was running, and its process is gone; done = as sure as was asked; stopped = before that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonShown:
    """A comparison in a list. Amounts are decimal text in units of `currency`; null = not known."""

    id: str
    task: str
    tenant: str
    key: str | None
    """null = the command line began it."""
    status: Status
    started: str
    """When it was ordered."""
    ended: str | None
    problem: str | None
    """Why it failed."""
    decision: str
    """best, or cheapest within epsilon of the best."""
    candidates: list[str]
    winner: str | None
    certain: bool | None
    """null = there is no verdict."""
    calls: int | None
    calls_exhaustive: int | None
    cost: str | None
    cost_exhaustive: str | None
    currency: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonDetail:
    """Everything about a comparison but its answers."""

    comparison: ComparisonShown
    options: dict[str, Any]
    """As it was asked for; what is not said was left to the settings."""
    forecast: Forecast | None
    progress: Progress | None
    """Where it stands; null = nothing was answered yet."""
    notices: list[str]
    """What a person should know; newest last."""
    place: int
    """Where its events go on from here: `after` of the events."""
    verdict: Verdict | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastShown:
    """What a comparison would take; nothing is begun and nothing spent."""

    task: str
    """Its title."""
    candidates: list[str]
    forecast: Forecast | None
    """null = weights must be fetched first."""
    fetches: list[str]
    """Models whose weights the comparison fetches first."""
    notices: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNamed:
    """One comparison."""

    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeAsked:
    """Which one goes on, and under which limits; null = as before."""

    run: str
    max_cost: float | None = None
    max_calls: int | None = None
    max_minutes: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonEventsAsked:
    """Which events."""

    run: str
    after: int = 0
    """Id of the last one that is known; `Last-Event-ID` says the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonEvent:
    """The data of an event; its name is the kind, its id the place."""

    at: str
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    """forecast: {forecast}; progress: {progress}; notice: {message}; failed: {message, hint} …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportAsked:
    """Which report, in which form."""

    run: str
    format: Literal["html", "json", "markdown"] = "html"


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferencesAsked(Paged):
    """Which examples."""

    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerShown:
    """What one of the leaders said."""

    candidate: str
    score: float
    outcome: str
    """right, partial, wrong or malformed."""
    reply: str | None
    """null = not kept."""
    explanation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceShown:
    """An example on which the leaders earned different scores."""

    example: str
    asked: str
    expected: str
    """Empty = there is no reference."""
    spread: float
    """Best score less worst."""
    answers: list[AnswerShown]


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferencesPage:
    """Some examples where the leaders differ, widest apart first."""

    data: list[DifferenceShown]
    total: int
    compared: int
    """Examples on which at least two leaders were judged."""
    next: str | None
    """Cursor of the next page."""
