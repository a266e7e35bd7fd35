"""Which of two to four answers people preferred, without knowing whose they were.

Prevents three failures: a browser that could know the names before the vote (which model stands at which place is
drawn on the server and written down here before anything is asked), a vote that is cast twice or after the names were
told, and words that are kept although their tenant does not keep what is said (`asked` and `answer` are then empty;
who won stays, since that says nothing of anybody).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from baimo.core.ids import sortable_id
from baimo.core.moments import DAY_MS
from baimo.errors import Conflict, NotFound
from baimo.store import audit, tables
from baimo.store.audit import Actor
from baimo.store.contents import opened, sealed
from baimo.store.shelf import Shelf

PLACES = "ABCD"
TIE, BAD = "tie", "bad"
"""Equally good; none of any use."""
_AT_A_STRETCH = 200


class Answered(NamedTuple):
    """One of the answers."""

    place: str
    """A, B …"""
    model: str
    """Name that was asked for."""
    record: str
    """Record.id of the call; empty = it was never asked."""
    answer: str | None
    """What it said; None = that is not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """Answers side by side, and what somebody thought of them."""

    id: str
    """vote_…"""
    tenant: str
    """Tenant.id; empty = the workspace's owner."""
    key: str
    """Public part of the key that asked and voted."""
    created_ms: int
    """When it was asked, milliseconds since 1970."""
    at_ms: int | None = None
    """When the vote was cast; None = not yet."""
    choice: str = ""
    """Place of the best answer, tie or bad; empty = not yet."""
    asked: bytes | None = field(default=None, repr=False)
    """JSON list of the messages that all models got; None = not kept."""
    answers: tuple[Answered, ...] = ()
    """By place."""


class Votes(Shelf):
    """Keeps votes. Every method blocks; those that change something are one transaction."""

    def begin(self, tenant: str, key: str, models: Sequence[str], by: Actor = Actor()) -> Vote:
        """Draw which model stands at which place.

        Args:
            tenant: whose.
            key: public part of the key that asks.
            models: two to four names.
            by: who acts.
        """
        drawn, now_ms = list(models), self.now_ms()
        secrets.SystemRandom().shuffle(drawn)
        id = sortable_id("vote", now_ms, secrets.token_bytes(7))
        answers = tuple(Answered(place, model, "", None) for place, model in zip(PLACES, drawn, strict=False))
        row = {"tenant": tenant, "id": id, "key": key, "created_ms": now_ms, "choice": ""}
        rows = [
            {"tenant": tenant, "vote": id, "place": one.place, "model": one.model, "record": ""}
            for one in answers
        ]
        with self._database.writing() as connection:
            connection.execute(insert(tables.votes).values(row))
            connection.execute(insert(tables.vote_answers), rows)
            # not which ones: whoever may read the audit could vote
            audit.enter(connection, by, "vote.begin", id, {"answers": len(rows)}, now_ms)
        return Vote(id=id, tenant=tenant, key=key, created_ms=now_ms, answers=answers)

    def answered(
        self, vote: Vote, place: str, record: str, *, asked: bytes | None = None, answer: str | None = None
    ) -> None:
        """Write down an answer; of one that is asked for again, the last counts. After the vote nothing changes.

        Args:
            vote: as it was begun.
            place: of the model that answered.
            record: Record.id of the call.
            asked: JSON list of the messages that it got; None = not to be kept.
            answer: what it said; None = not to be kept.

        Raises:
            Conflict: the other models were asked something else.
        """
        table, answers = tables.votes, tables.vote_answers
        which = (table.c.tenant == vote.tenant, table.c.id == vote.id, table.c.choice == "")
        with self._database.writing() as connection:
            # the other answers, and the vote itself, wait for this row
            row = connection.execute(select(table).where(*which).with_for_update()).mappings().first()
            if row is None:
                return
            if asked is not None and row["asked"] is None:
                connection.execute(update(table).where(*which).values(asked=sealed(asked).stored))
            elif asked is not None and opened(bytes(row["asked"])) != asked:
                raise Conflict("votes.other_question", field="/messages")
            stored = None if answer is None else sealed(answer.encode()).stored
            place_of = (answers.c.tenant == vote.tenant, answers.c.vote == vote.id, answers.c.place == place)
            connection.execute(update(answers).where(*place_of).values(record=record, answer=stored))

    def cast(self, tenant: str, key: str, id: str, choice: str, by: Actor = Actor()) -> Vote:
        """Say which answer was best.

        Args:
            tenant: whose.
            key: public part of the key that asked: nobody votes for somebody else.
            id: of the vote.
            choice: a place, tie or bad.
            by: who acts.

        Raises:
            NotFound: this key has begun no such vote, or nobody stands at that place.
            Conflict: it is cast already, or some model has not been asked.
        """
        table, now_ms = tables.votes, self.now_ms()
        with self._database.writing() as connection:
            which = (table.c.tenant == tenant, table.c.id == id, table.c.key == key)
            row = connection.execute(select(table).where(*which).with_for_update()).mappings().first()
            if row is None:
                raise NotFound("votes.unknown", field="/vote")
            vote = self._complete(connection, [row])[0]
            if vote.choice:
                raise Conflict("votes.cast_already", field="/vote")
            if choice not in (TIE, BAD, *(one.place for one in vote.answers)):
                raise NotFound("votes.no_place", field="/choice")
            if not all(one.record for one in vote.answers):
                raise Conflict("votes.unanswered", field="/vote")
            connection.execute(update(table).where(*which).values(choice=choice, at_ms=now_ms))
            models = {one.place: one.model for one in vote.answers}
            audit.enter(connection, by, "vote.cast", id, {"choice": choice, "models": models}, now_ms)
            row = connection.execute(select(table).where(*which)).mappings().one()
            return self._complete(connection, [row])[0]

    def get(self, tenant: str | None, id: str) -> Vote:
        """A vote, cast or not.

        Args:
            tenant: whose it must be; None = anybody's.
            id: its own.

        Raises:
            NotFound: there is none.
        """
        table = tables.votes
        query = select(table).where(table.c.id == id, *_of(tenant))
        with self._database.reading() as connection:
            found = self._complete(connection, connection.execute(query).mappings().all())
        if not found:
            raise NotFound("votes.unknown", field="/vote")
        return found[0]

    def page(
        self, tenant: str | None, *, model: str | None = None, limit: int = 100, after: str | None = None
    ) -> list[Vote]:
        """Votes that were cast, newest first.

        Args:
            tenant: whose; None = everybody's.
            model: only those in which this one answered.
            limit: most of them.
            after: id of the last one of the page before.
        """
        table, answers = tables.votes, tables.vote_answers
        query = select(table).where(table.c.choice != "", *_of(tenant))
        if after is not None:
            query = query.where(table.c.id < after)
        if model is not None:
            query = query.where(table.c.id.in_(select(answers.c.vote).where(answers.c.model == model)))
        query = query.order_by(table.c.id.desc()).limit(limit)
        with self._database.reading() as connection:
            return self._complete(connection, connection.execute(query).mappings().all())

    def walk(self, tenant: str | None) -> Iterator[Vote]:
        """Every vote that was cast, oldest first."""
        table, after = tables.votes, ""
        query = select(table).where(table.c.choice != "", *_of(tenant))
        while True:
            page = query.where(table.c.id > after).order_by(table.c.id).limit(_AT_A_STRETCH)
            with self._database.reading() as connection:
                found = self._complete(connection, connection.execute(page).mappings().all())
            yield from found
            if len(found) < _AT_A_STRETCH:
                return
            after = found[-1].id

    def outcomes(self, tenant: str | None, *, since_ms: int = 0) -> Iterator[tuple[str, Mapping[str, str]]]:
        """What was chosen, and which model stood at which place, of every vote; no words are read."""
        table, answers = tables.votes, tables.vote_answers
        query = (
            select(table.c.id, table.c.choice, answers.c.place, answers.c.model)
            .join(answers, (answers.c.tenant == table.c.tenant) & (answers.c.vote == table.c.id))
            .where(table.c.choice != "", table.c.at_ms >= since_ms, *_of(tenant))
        )
        models: dict[str, dict[str, str]] = {}
        choices: dict[str, str] = {}
        with self._database.reading() as connection:
            for id, choice, place, model in connection.execute(query):
                choices[id] = choice
                models.setdefault(id, {})[place] = model
        return ((choices[id], places) for id, places in models.items())

    def delete(self, tenant: str | None, id: str, by: Actor = Actor()) -> None:
        """Forget a vote and its words.

        Raises:
            NotFound: there is none.
        """
        vote = self.get(tenant, id)
        with self._database.writing() as connection:
            _delete(connection, tables.votes.c.id == vote.id, tables.vote_answers.c.vote == vote.id)
            audit.enter(connection, by, "vote.delete", id, {}, self.now_ms())

    def expire(self, days: int, days_of: Mapping[str, int]) -> int:
        """Forget the words of votes that are older than their tenant keeps what is said, and what nobody voted on
        within a day; how many votes that were.

        Args:
            days: for tenants that say nothing.
            days_of: tenant → days.
        """
        table, answers, now_ms, gone = tables.votes, tables.vote_answers, self.now_ms(), 0
        others = table.c.tenant.not_in(list(days_of))
        ages = [(others, days), *((table.c.tenant == tenant, own) for tenant, own in days_of.items())]
        with self._database.writing() as connection:
            dropped = select(table.c.id).where(table.c.choice == "", table.c.created_ms < now_ms - DAY_MS)
            ids = list(connection.execute(dropped).scalars())
            for start in range(0, len(ids), _AT_A_STRETCH):
                some = ids[start : start + _AT_A_STRETCH]
                _delete(connection, table.c.id.in_(some), answers.c.vote.in_(some))
            for whose, kept_days in ages:
                old = (whose, table.c.created_ms < now_ms - kept_days * DAY_MS, table.c.asked.is_not(None))
                words = update(answers).where(answers.c.vote.in_(select(table.c.id).where(*old)))
                connection.execute(words.values(answer=None))
                gone += int(connection.execute(update(table).where(*old).values(asked=None)).rowcount)
        return gone + len(ids)

    def _complete(self, connection: Connection, rows: Sequence[RowMapping]) -> list[Vote]:
        answers = tables.vote_answers
        query = select(answers).where(answers.c.vote.in_([row["id"] for row in rows]))
        found: dict[str, list[Answered]] = {}
        for one in connection.execute(query.order_by(answers.c.place)).mappings() if rows else ():
            said = None if one["answer"] is None else opened(bytes(one["answer"])).decode()
            found.setdefault(one["vote"], []).append(
                Answered(one["place"], one["model"], one["record"], said)
            )
        return [_vote(row, tuple(found.get(row["id"], ()))) for row in rows]


def _vote(row: RowMapping, answers: tuple[Answered, ...]) -> Vote:
    return Vote(
        **{name: row[name] for name in ("id", "tenant", "key", "created_ms", "at_ms", "choice")},
        asked=None if row["asked"] is None else opened(bytes(row["asked"])),
        answers=answers,
    )


def _of(tenant: str | None) -> list[Any]:
    return [] if tenant is None else [tables.votes.c.tenant == tenant]


def _delete(connection: Connection, votes: Any, answers: Any) -> None:
    # in the order in which answers are written down: two who hold half each would wait for each other
    connection.execute(delete(tables.votes).where(votes))
    connection.execute(delete(tables.vote_answers).where(answers))
