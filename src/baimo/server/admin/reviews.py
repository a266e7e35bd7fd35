"""Reviews: answers that wait for an expert, judgements, and how far those who judge agree.

Prevents the failure of a second opinion that is none: who gave an answer, and what the scorer and other readers say of
it, is told to a reader only after all have judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from baimo.core.ids import plain
from baimo.core.moments import shown
from baimo.errors import NotFound
from baimo.evals.agreement import Agreement
from baimo.evals.tasks.formats.messages import plain_message
from baimo.server.admin.operation import Asking, Nothing, Operation
from baimo.server.admin.paging import Paged
from baimo.server.admin.tasks import tenant_of
from baimo.store.judgements import Entry, Judgement, Said, State
from baimo.workspace.reviewing import Reviewing, Wanted

Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Count = Annotated[int, msgspec.Meta(ge=0, le=500)]
SHORT = 200
"""Characters of a question in a list."""
Words = Annotated[str, msgspec.Meta(max_length=20_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewsAsked(Paged):
    """Which reviews."""

    tenant: str | None = None
    state: State = "open"
    task: str = ""
    run: str = ""


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
    """Some reviews: what a judgement would decide, the most first."""

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


def _reviewing(asking: Asking) -> Reviewing:
    return asking.service.workspace.reviewing


def _list(asking: Asking, asked: ReviewsAsked) -> ReviewsPage:
    tenant = tenant_of(asking, asked.tenant)
    found = _reviewing(asking).kept.page(
        tenant,
        asking.key.meter,
        state=asked.state,
        task=asked.task,
        run=asked.run,
        limit=asked.limit,
        after=asked.cursor or "",
    )
    more = found[-1].review.id if len(found) == asked.limit else None
    asks = _reviewing(asking).questions(one.review for one in found)
    data = [ReviewLine(**_line(one), question=asks.get(one.review.id, "")[:SHORT] or None) for one in found]
    return ReviewsPage(data=data, next=more)


def _line(entry: Entry) -> dict[str, Any]:
    review = entry.review
    return {
        "review": review.id,
        "task": review.task,
        "reason": review.reason,
        "example": review.example or None,
        "run": review.run or None,
        "record": review.record or None,
        "readers": review.readers,
        "read": entry.read,
        "created": shown(review.created_ms),
    }


def _get(asking: Asking, asked: ReviewNamed) -> ReviewWhole:
    entry = _entry(asking, asked)
    return _whole(asking, entry)


def _entry(asking: Asking, asked: ReviewNamed) -> Entry:
    return _reviewing(asking).entry(tenant_of(asking, asked.tenant), asked.review)


def _whole(asking: Asking, entry: Entry) -> ReviewWhole:
    review, reviewing = entry.review, _reviewing(asking)
    seen, said = reviewing.shown(review), reviewing.kept.of(review.tenant, review.id)
    mine = next((one for one in said if one.reader == asking.key.meter), None)
    told = entry.read >= review.readers
    return ReviewWhole(
        **_line(entry),
        question=None,
        messages=[plain_message(message) for message in seen.messages],
        answer=seen.answer,
        expected=plain(seen.expected),
        rubric=seen.rubric,
        mine=None if mine is None else _judgement(mine),
        judgements=[_judgement(one) for one in said] if told else [],
        candidates=[*review.candidates, *([review.model] if review.model else [])] if told else [],
        outcome=review.outcome or None if told else None,
    )


def _judgement(one: Judgement) -> JudgementShown:
    return JudgementShown(
        reader=one.key,
        said=one.said,
        correction=one.correction,
        note=one.note,
        at=shown(one.at_ms),
        stored=one.stored or None,
    )


def _queue(asking: Asking, asked: NewReviews) -> ReviewsQueued:
    tenant = tenant_of(asking, asked.tenant)
    wanted = Wanted(**{name: getattr(asked, name) for name in Wanted.__slots__})
    return ReviewsQueued(new=_reviewing(asking).queued(wanted, tenant, asking.actor))


def _judge(asking: Asking, asked: NewJudgement) -> ReviewWhole:
    tenant, reviewing = tenant_of(asking, asked.tenant), _reviewing(asking)
    judgement = Judgement(
        review=asked.review,
        reader=asking.key.meter,
        key=asking.key.public,
        said=asked.said,
        correction=asked.correction if asked.said == "fix" else "",
        note=asked.note,
        at_ms=reviewing.kept.now_ms(),
    )
    return _whole(asking, reviewing.judged(tenant, judgement, asking.actor, store=asked.store))


def _retract(asking: Asking, asked: ReviewNamed) -> Nothing:
    entry = _entry(asking, asked)
    if not _reviewing(asking).kept.retract(
        entry.review.tenant, entry.review.id, asking.key.meter, asking.actor
    ):
        raise NotFound("reviews.no_judgement", field="/review")
    return Nothing()


def _figures(asking: Asking, asked: FiguresAsked) -> ReviewFigures:
    tenant, reviewing = tenant_of(asking, asked.tenant), _reviewing(asking)
    found = reviewing.agreements(tenant, task=asked.task)
    tallies = reviewing.kept.tallies(tenant, asking.key.meter)
    return ReviewFigures(
        tasks=[TaskReviews(**one._asdict()) for one in tallies],
        agreement=[
            _agreement("readers", "all", found.readers),
            _agreement("scorer", "all", found.scorer),
            _agreement("readers", "chance", found.readers_by_chance),
            _agreement("scorer", "chance", found.scorer_by_chance),
        ],
        runs=[
            RunToReview(run=run.id, task=run.name or run.task, started=shown(run.started_ms))
            for run in reviewing.runs(tenant)
        ],
    )


def _agreement(
    between: Literal["readers", "scorer"], of: Literal["all", "chance"], found: Agreement
) -> AgreementShown:
    return AgreementShown(
        between=between,
        of=of,
        pairs=found.pairs,
        raw=found.raw,
        raw_interval=None if found.raw_interval is None else list(found.raw_interval),
        kappa=found.kappa,
        kappa_interval=None if found.kappa_interval is None else list(found.kappa_interval),
    )


_ONE = "/api/reviews/{review}"

REVIEWS = (
    Operation(
        method="GET", path="/api/reviews", role="reviewer", takes=ReviewsAsked, gives=ReviewsPage, does=_list,
        tag="reviews", summary="review_api.reviews_list", errors=(404,),
    ),
    Operation(
        method="POST", path="/api/reviews", role="reviewer", takes=NewReviews, gives=ReviewsQueued,
        does=_queue, tag="reviews", summary="review_api.reviews_queue", status=201, errors=(404,),
    ),
    Operation(
        method="GET", path=_ONE, role="reviewer", takes=ReviewNamed, gives=ReviewWhole, does=_get,
        tag="reviews", summary="review_api.reviews_get", errors=(404,),
    ),
    Operation(
        method="POST", path=f"{_ONE}/judgement", role="reviewer", takes=NewJudgement, gives=ReviewWhole,
        does=_judge, tag="reviews", summary="review_api.reviews_judge", errors=(404, 409),
    ),
    Operation(
        method="DELETE", path=f"{_ONE}/judgement", role="reviewer", takes=ReviewNamed, gives=Nothing,
        does=_retract, tag="reviews", summary="review_api.reviews_retract", errors=(404,),
    ),
    Operation(
        method="GET", path="/api/review-figures", role="viewer", takes=FiguresAsked, gives=ReviewFigures,
        does=_figures, tag="reviews", summary="review_api.reviews_figures", errors=(404,),
    ),
)  # fmt: skip
