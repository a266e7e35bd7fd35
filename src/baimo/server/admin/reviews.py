"""Reviews: answers that wait for an expert, judgements, and how far those who judge agree.

Prevents the failure of a second opinion that is none: who gave an answer, and what the scorer and other readers say of
it, is told to a reader only after all have judged.
"""

from __future__ import annotations

from typing import Literal

from baimo.core.ids import plain
from baimo.core.moments import shown
from baimo.errors import NotFound
from baimo.evals.agreement import Agreement
from baimo.evals.tasks.formats.messages import plain_message
from baimo.server.admin.operation import Asking, Nothing, Operation
from baimo.server.admin.review_forms import (
    AgreementShown,
    FiguresAsked,
    NewJudgement,
    NewReviews,
    ReviewFigures,
    ReviewNamed,
    ReviewsQueued,
    ReviewWhole,
    RunToReview,
    TaskReviews,
)
from baimo.server.admin.review_list import REVIEW_LIST, givers, judgement_shown, line, reviewing_of
from baimo.server.admin.task_scope import tenant_of
from baimo.store.judgements import Entry, Judgement
from baimo.workspace.reviewing import Wanted


def _get(asking: Asking, asked: ReviewNamed) -> ReviewWhole:
    entry = _entry(asking, asked)
    return _whole(asking, entry)


def _entry(asking: Asking, asked: ReviewNamed) -> Entry:
    return reviewing_of(asking).entry(tenant_of(asking, asked.tenant), asked.review)


def _whole(asking: Asking, entry: Entry) -> ReviewWhole:
    review, reviewing = entry.review, reviewing_of(asking)
    seen, said = reviewing.shown(review), reviewing.kept.of(review.tenant, review.id)
    mine = next((one for one in said if one.reader == asking.key.meter), None)
    told = entry.read >= review.readers
    return ReviewWhole(
        **line(entry),
        question=None,
        messages=[plain_message(message) for message in seen.messages],
        answer=seen.answer,
        expected=plain(seen.expected),
        rubric=seen.rubric,
        mine=None if mine is None else judgement_shown(mine),
        judgements=[judgement_shown(one) for one in said] if told else [],
        **givers(entry),
    )


def _queue(asking: Asking, asked: NewReviews) -> ReviewsQueued:
    tenant = tenant_of(asking, asked.tenant)
    wanted = Wanted(**{name: getattr(asked, name) for name in Wanted.__slots__})
    return ReviewsQueued(new=reviewing_of(asking).queued(wanted, tenant, asking.actor))


def _judge(asking: Asking, asked: NewJudgement) -> ReviewWhole:
    tenant, reviewing = tenant_of(asking, asked.tenant), reviewing_of(asking)
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
    if not reviewing_of(asking).kept.retract(
        entry.review.tenant, entry.review.id, asking.key.meter, asking.actor
    ):
        raise NotFound("reviews.no_judgement", field="/review")
    return Nothing()


def _figures(asking: Asking, asked: FiguresAsked) -> ReviewFigures:
    tenant, reviewing = tenant_of(asking, asked.tenant), reviewing_of(asking)
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
    *REVIEW_LIST,
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
