"""What operations on reviews take and give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from baimo.store.judgements import Said

Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Count = Annotated[int, msgspec.Meta(ge=0, le=500)]
Words = Annotated[str, msgspec.Meta(max_length=20_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewLine:
    """A review in a list."""

    review: str
    task: str
    question: str | None
    """What is asked, cut short; null = look at the review itself."""
    reason: str
    """leaders_differ, unscored, unsure, no_reference, call or sample."""
    example: str | None
    run: str | None
    record: str | None
    readers: int
    """How many are to judge it."""
    read: int
    """How many have."""
    created: str
    """ISO 8601."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewsPage:
    """Some reviews."""

    data: list[ReviewLine]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgementShown:
    """What a reader said."""

    reader: str
    """Public part of the key."""
    said: str
    correction: str
    note: str
    at: str
    """ISO 8601."""
    stored: str | None
    """split:id of the example that has the right answer now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewWhole(ReviewLine):
    """A review with question and answer."""

    messages: list[dict[str, Any]]
    """What was asked; empty = it is not kept any more."""
    answer: str | None
    """null = it is not kept any more."""
    expected: Any
    """Reference; null = there is none."""
    rubric: str
    mine: JudgementShown | None
    """What whoever asks said of it."""
    judgements: list[JudgementShown]
    """Of all readers; empty until all have judged."""
    candidates: list[str]
    """Who gave the answer; empty until all have judged."""
    outcome: str | None
    """What the scorer says of it; null until all have judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewNamed:
    """One review."""

    review: str
    """review_…"""
    tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewReviews:
    """Answers for the queue: of a comparison (`run`), or of calls whose contents are kept (`records`)."""

    run: str = ""
    records: bool = False
    task: str = ""
    since: str | None = None
    model: str | None = None
    sample: Count = 20
    second: Share = 0.2
    tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewsQueued:
    """What was put on the queue."""

    new: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJudgement(ReviewNamed):
    """What a reader says of an answer."""

    said: Said
    correction: Words = ""
    note: Words = ""
    store: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FiguresAsked:
    """Whose figures."""

    tenant: str | None = None
    task: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementShown:
    """How far two who judge the same answers agree."""

    between: Literal["readers", "scorer"]
    """Two readers; or the first reader and the scorer."""
    of: Literal["all", "chance"]
    """All answers, among which those in doubt are too many; or those that were drawn by chance."""
    pairs: int
    raw: float | None
    """Share that says the same."""
    raw_interval: list[float] | None
    """95 %."""
    kappa: float | None
    """Cohen's: 1 = always, 0 = as often as by chance; null = not defined."""
    kappa_interval: list[float] | None
    """95 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReviews:
    """How many reviews there are of a task."""

    task: str
    open: int
    """For whoever asks."""
    done: int
    all: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunToReview:
    """A comparison with answers to judge."""

    run: str
    task: str
    started: str
    """ISO 8601."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewFigures:
    """How the judging goes."""

    tasks: list[TaskReviews]
    agreement: list[AgreementShown]
    runs: list[RunToReview]
    """The newest first."""
