"""The review queue as a table: found, put in order, page by page, and taken along.

Prevents the failure of an export that tells a reader what the page keeps back: who gave an answer, and what others said
of it, stands in it only once all have judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec

from baimo.core.ids import plain
from baimo.core.moments import shown
from baimo.server.admin.columns import MEDIA, Format, written
from baimo.server.admin.operation import Asking, Operation
from baimo.server.admin.paging import Limit
from baimo.server.admin.review_forms import JudgementShown, ReviewLine, ReviewsPage
from baimo.server.admin.streams import Work
from baimo.server.admin.task_scope import tenant_of
from baimo.store.judgements import Entry, Judgement, Reason, Sort, State
from baimo.workspace.reviewing import Reviewing

SHORT = 200
"""Characters of a question in a list."""
_PAGE = 200
CSV = (
    *("review", "task", "reason", "example", "run", "record", "readers", "read", "created"),
    *("question", "answer", "expected", "mine.said", "mine.correction", "mine.note", "mine.at"),
    *("said", "corrections", "candidates", "outcome"),
)
"""Columns of an export."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewsWanted:
    """Which reviews, in which order."""

    tenant: str | None = None
    state: State = "open"
    task: str = ""
    run: str = ""
    reason: Reason | None = None
    """Only those."""
    text: str = ""
    """Occurs in the question, the task, or the name of example, comparison or Record."""
    sort: Sort = "-rank"
    """Column; with - in front, the largest come first. rank = how much a judgement would decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewsAsked(ReviewsWanted):
    """Which reviews."""

    limit: Limit = 100
    cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewsExport(ReviewsWanted):
    """Which reviews, in which form."""

    format: Format = "csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewTaken(ReviewLine):
    """A review in an export."""

    answer: str | None
    """null = it is not kept any more."""
    expected: Any
    """Reference; null = there is none."""
    mine: JudgementShown | None
    """What whoever asks said of it."""
    said: list[str]
    """By all readers, the first first; empty until all have judged."""
    corrections: list[str]
    """Of those who said fix; empty until all have judged."""
    candidates: list[str]
    """Who gave the answer; empty until all have judged."""
    outcome: str | None
    """What the scorer says of it; null until all have judged."""


def reviewing_of(asking: Asking) -> Reviewing:
    """Where reviews are kept."""
    return asking.service.workspace.reviewing


def _list(asking: Asking, asked: ReviewsAsked) -> ReviewsPage:
    found = list(islice(_fitting(asking, asked, asked.cursor or "", asked.limit + 1), asked.limit + 1))
    page = found[: asked.limit]
    data = [ReviewLine(**line(entry), question=question[:SHORT] or None) for entry, question in page]
    return ReviewsPage(data=data, next=data[-1].review if len(found) > asked.limit else None)


def _export(asking: Asking, asked: ReviewsExport) -> Work:
    return written(_taken(asking, _fitting(asking, asked)), CSV, asked.format)


def _fitting(
    asking: Asking, asked: ReviewsWanted, after: str = "", some_of: int = _PAGE
) -> Iterator[tuple[Entry, str]]:
    """With what is asked in them, as far as it is known without opening a call.

    Raises:
        NotFound: there is no such tenant.
    """
    tenant, kept, words = tenant_of(asking, asked.tenant), reviewing_of(asking).kept, asked.text.casefold()
    which: dict[str, Any] = {
        name: getattr(asked, name) for name in ("state", "task", "run", "reason", "sort")
    }

    def found(after: str) -> Iterator[tuple[Entry, str]]:
        while some := kept.page(tenant, asking.key.meter, **which, limit=some_of, after=after):
            asks = reviewing_of(asking).questions(one.review for one in some)
            for one in some:
                review = one.review
                question = asks.get(review.id, "")
                said = (question, review.task, review.example, review.run, review.record, review.id)
                if words in " ".join(said).casefold():
                    yield one, question
            after = some[-1].review.id

    return found(after)


def _taken(asking: Asking, found: Iterator[tuple[Entry, str]]) -> Iterator[ReviewTaken]:
    reviewing = reviewing_of(asking)
    while some := list(islice(found, _PAGE)):
        seen = reviewing.all_shown(one.review for one, _ in some)
        for (entry, question), (messages, answer, expected, _) in zip(some, seen, strict=True):
            review = entry.review
            said = reviewing.kept.of(review.tenant, review.id)
            mine = next((one for one in said if one.reader == asking.key.meter), None)
            told = entry.read >= review.readers
            last = messages[-1].content if messages else ""
            yield ReviewTaken(
                **line(entry),
                question=question or (last if isinstance(last, str) else msgspec.json.encode(plain(last)).decode()),
                answer=answer,
                expected=plain(expected),
                mine=None if mine is None else judgement_shown(mine),
                said=[one.said for one in said] if told else [],
                corrections=[one.correction for one in said if one.correction] if told else [],
                **givers(entry),
            )  # fmt: skip


def line(entry: Entry) -> dict[str, Any]:
    """The fields of `ReviewLine`, but for the question."""
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


def givers(entry: Entry) -> dict[str, Any]:
    """Who gave an answer, and what the scorer says: told when all have judged."""
    review = entry.review
    if entry.read < review.readers:
        return {"candidates": [], "outcome": None}
    by = [*review.candidates, *([review.model] if review.model else [])]
    return {"candidates": by, "outcome": review.outcome or None}


def judgement_shown(one: Judgement) -> JudgementShown:
    """What a reader said, as it is shown."""
    return JudgementShown(
        reader=one.key,
        said=one.said,
        correction=one.correction,
        note=one.note,
        at=shown(one.at_ms),
        stored=one.stored or None,
    )


REVIEW_LIST = (
    Operation(
        method="GET", path="/api/reviews", role="reviewer", takes=ReviewsAsked, gives=ReviewsPage, does=_list,
        tag="reviews", summary="review_api.reviews_list", errors=(404,),
    ),
    Operation(
        method="GET", path="/api/review-export", role="reviewer", takes=ReviewsExport, gives=ReviewTaken,
        does=_export, tag="reviews", summary="review_api.reviews_export", media=MEDIA, errors=(404,),
    ),
)  # fmt: skip
