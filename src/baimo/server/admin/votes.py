"""Votes: the same question to two to four models whose names are told after somebody has chosen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from starlette.responses import Response

from baimo.core.moments import moment_ms, shown
from baimo.core.rights import OWNER_NAME
from baimo.errors import Conflict, NotFound, UsageError
from baimo.server.admin.blind import BlindAnswer, Said
from baimo.server.admin.operation import Asking, Nothing, Operation
from baimo.server.admin.paging import Paged
from baimo.server.admin.streams import Pieces
from baimo.store.votes import PLACES, Vote, Votes
from baimo.workspace.preferences import preferences, standings

Choice = Literal["A", "B", "C", "D", "tie", "bad"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteWanted:
    """Who is to be compared."""

    models: Annotated[tuple[str, ...], msgspec.Meta(min_length=2, max_length=len(PLACES))]
    """Two to four names of models or routes, each once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteBegun:
    """A vote that was begun; which model stands where is told when it is cast."""

    vote: str
    """vote_…"""
    places: list[str]
    """A, B …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerWanted:
    """A question to the model at one place. What is not said is left to the model."""

    vote: str
    """vote_…"""
    place: str
    """A, B …"""
    messages: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1)]
    """As the Chat Completions API takes them; the same for every place."""
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=1 << 31)] | None = None
    seed: Annotated[int, msgspec.Meta(ge=-(1 << 62), le=1 << 62)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPiece:
    """One event of an answer: some of its words, or how it ended."""

    text: str | None = None
    done: bool | None = None
    """It is complete."""
    failed: int | None = None
    """HTTP status of its failure. Why is told by its Record, after the vote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteCast:
    """Somebody's choice."""

    vote: str
    """vote_…"""
    choice: Choice
    """Place of the best answer; tie = equally good; bad = none of any use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteNamed:
    """One vote."""

    vote: str
    """vote_…"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswererShown:
    """Who stood where."""

    place: str
    model: str
    record: str
    """Id of the call's Record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteShown:
    """A vote that was cast."""

    vote: str
    """vote_…"""
    at: str
    """ISO 8601."""
    tenant: str
    key: str
    """Public part of the key that voted."""
    choice: str
    """A place, tie or bad."""
    model: str | None
    """Who was chosen; null = nobody."""
    words: bool
    """Question and answers are kept with it."""
    answers: list[AnswererShown]


@dataclass(frozen=True, slots=True, kw_only=True)
class VotesAsked(Paged):
    """Which votes."""

    tenant: str | None = None
    """Only this tenant's."""
    model: str | None = None
    """Only those in which it answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VotesPage:
    """Some votes, newest first."""

    data: list[VoteShown]
    next: str | None
    """Cursor of the next page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferencesAsked:
    """Whose votes."""

    tenant: str | None = None
    """Only this tenant's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """One line: OpenAI's form of a preference."""

    input: dict[str, Any]
    """{"messages": …}"""
    preferred_output: list[dict[str, Any]]
    non_preferred_output: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RatesAsked:
    """Which votes are counted."""

    tenant: str | None = None
    """Only this tenant's."""
    since: str | None = None
    """Cast at or after: a date, or how long ago: 30d."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateShown:
    """How often a model was preferred."""

    model: str
    votes: int
    """Votes in which it answered."""
    wins: int
    losses: int
    """Another one was chosen."""
    ties: int
    bad: int
    """No answer was of any use."""
    rate: float | None
    """wins / (wins + losses); null = none was decided."""
    low: float | None
    high: float | None
    """Wilson's interval of the rate, 95 %."""
    chance: float | None
    """The rate if all were equally good: one in two where two stood side by side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """All models that answered, the best first."""

    data: list[RateShown]


def _votes(asking: Asking) -> Votes:
    return Votes(asking.service.workspace.store.database)


def _begin(asking: Asking, wanted: VoteWanted) -> VoteBegun:
    if len(set(wanted.models)) < len(wanted.models):
        raise UsageError("votes.same_model", field="/models")
    models, routes = asking.service.offered(asking.key)
    known = {*routes, *(model.name for model in models)}
    for place, name in enumerate(wanted.models):
        if name not in known:
            raise NotFound("admin.no_model", field=f"/models/{place}")
    begun = _votes(asking).begin(asking.tenant.id, asking.key.public, wanted.models, asking.actor)
    return VoteBegun(vote=begun.id, places=[one.place for one in begun.answers])


async def _answer(asking: Asking, wanted: AnswerWanted) -> Response:
    votes = _votes(asking)
    vote = await asyncio.to_thread(votes.get, asking.tenant.id, wanted.vote)
    model = next((one.model for one in vote.answers if one.place == wanted.place), None)
    if vote.key != asking.key.public or model is None:
        raise NotFound("votes.unknown", field="/vote")
    if vote.choice:
        raise Conflict("votes.cast_already", field="/vote")
    asked = msgspec.json.encode(wanted.messages)
    if vote.asked is not None and vote.asked != asked:
        raise Conflict("votes.other_question", field="/messages")
    said = {name: getattr(wanted, name) for name in ("temperature", "top_p", "max_tokens", "seed")}
    body = {"model": model, "messages": wanted.messages, "stream": True}
    body |= {name: value for name, value in said.items() if value is not None}

    async def ended(said: Said) -> None:
        words = (asked, said.answer) if asking.tenant.keep_contents else (None, None)
        with suppress(Conflict):  # another place was asked something else meanwhile: its words are not kept
            await asyncio.to_thread(
                votes.answered, vote, wanted.place, said.record, asked=words[0], answer=words[1]
            )

    return BlindAnswer(asking, body, ended)


def _cast(asking: Asking, cast: VoteCast) -> VoteShown:
    vote = _votes(asking).cast(asking.tenant.id, asking.key.public, cast.vote, cast.choice, asking.actor)
    return _shown(vote)


def _list(asking: Asking, asked: VotesAsked) -> VotesPage:
    tenant = asking.within(asked.tenant)
    found = _votes(asking).page(tenant, model=asked.model, limit=asked.limit, after=asked.cursor)
    after = found[-1].id if len(found) == asked.limit else None
    return VotesPage(data=[_shown(vote) for vote in found], next=after)


def _export(asking: Asking, asked: PreferencesAsked) -> Callable[[Pieces], None]:
    found = _votes(asking).walk(asking.within(asked.tenant))

    def written(pieces: Pieces) -> None:
        for line in _lines(found):
            pieces.write(line)

    return written


def _lines(votes: Iterator[Vote]) -> Iterator[str]:
    for vote in votes:
        for row in preferences(vote):
            yield msgspec.json.encode(row).decode() + "\n"


def _rates(asking: Asking, asked: RatesAsked) -> Rates:
    now_ms = time.time_ns() // 1_000_000
    since_ms = 0 if asked.since is None else moment_ms(asked.since, now_ms, back=True)
    outcomes = _votes(asking).outcomes(asking.within(asked.tenant), since_ms=since_ms)
    return Rates(data=[RateShown(**one._asdict()) for one in standings(outcomes)])


def _delete(asking: Asking, asked: VoteNamed) -> Nothing:
    _votes(asking).delete(asking.within(None), asked.vote, asking.actor)
    return Nothing()


def _shown(vote: Vote) -> VoteShown:
    return VoteShown(
        vote=vote.id,
        at=shown(vote.at_ms or 0),
        tenant=vote.tenant or OWNER_NAME,
        key=vote.key,
        choice=vote.choice,
        model=next((one.model for one in vote.answers if one.place == vote.choice), None),
        words=vote.asked is not None,
        answers=[AnswererShown(place=one.place, model=one.model, record=one.record) for one in vote.answers],
    )


_ONE = "/api/votes/{vote}"

VOTES = (
    Operation(
        method="POST", path="/api/votes", role="app", takes=VoteWanted, gives=VoteBegun, does=_begin,
        tag="votes", summary="admin.votes_begin", status=201, errors=(404,),
    ),
    Operation(
        method="GET", path="/api/votes", role="viewer", takes=VotesAsked, gives=VotesPage, does=_list,
        tag="votes", summary="admin.votes_list", errors=(404,),
    ),
    Operation(
        method="GET", path="/api/votes/export", role="reviewer", takes=PreferencesAsked, gives=Preference,
        does=_export, tag="votes", summary="admin.votes_export", media=("application/jsonl",), errors=(404,),
    ),
    Operation(
        method="GET", path="/api/votes/rates", role="viewer", takes=RatesAsked, gives=Rates, does=_rates,
        tag="votes", summary="admin.votes_rates", errors=(404,),
    ),
    Operation(
        method="PATCH", path=_ONE, role="app", takes=VoteCast, gives=VoteShown, does=_cast, tag="votes",
        summary="admin.votes_cast", errors=(404, 409),
    ),
    Operation(
        method="DELETE", path=_ONE, role="reviewer", takes=VoteNamed, gives=Nothing, does=_delete,
        tag="votes", summary="admin.votes_delete", errors=(404,),
    ),
    Operation(
        method="POST", path=f"{_ONE}/{{place}}", role="app", takes=AnswerWanted, gives=AnswerPiece,
        does=_answer, tag="votes", summary="admin.votes_answer", media=("text/event-stream",),
        errors=(404, 409),
    ),
)  # fmt: skip
