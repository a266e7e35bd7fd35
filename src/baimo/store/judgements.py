"""Answers that wait for an expert, and what experts said of them.

Prevents three failures: an answer that is put on the queue twice (what it is about is its key), a second reader who
could have seen what the first one said (a judgement is only shown to its reader until all have read), and texts that
outlive what their tenant decided (an entry names where question and answer are kept, and holds neither).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Literal, NamedTuple

import msgspec
from sqlalchemy import Connection, delete, func, insert, select, update

from baimo.core.ids import plain
from baimo.store import audit, tables
from baimo.store.audit import Actor
from baimo.store.dialects import inserting, member
from baimo.store.shelf import Shelf
from baimo.typed import from_json

Said = Literal["agree", "fix", "reject"]
"""It is right; it is wrong, and this would be right; it is wrong."""
State = Literal["open", "mine", "done", "all"]
"""Waits for this reader; judged by this reader; read by as many as are to; every one."""
Reason = Literal["leaders_differ", "unscored", "unsure", "no_reference", "call", "sample"]
"""Why an expert is asked."""
Sort = Literal["rank", "-rank", "task", "-task", "read", "-read", "created", "-created"]
"""By how much a judgement would decide, by task, by how many have judged, by age; with - the largest first."""
COLUMNS = {"rank": "rank", "task": "task", "read": "read", "created": "created_ms"}
"""Of `Sort`, in the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """An answer that an expert is to judge."""

    id: str
    """review_… sortable by time."""
    tenant: str
    """Tenant.id; empty = the workspace's owner."""
    subject: str
    """What it is about, so that it is entered once: digest of run, example and answer, or the Record."""
    task: str
    """Name of the task that it belongs to; empty = none."""
    run: str = ""
    """Comparison it comes from; empty = a call of the endpoint."""
    example: str = ""
    """Example.id of that comparison's task."""
    answer: str = ""
    """Where the store keeps the answer: StoredAnswer.hash."""
    candidates: tuple[str, ...] = ()
    """Who gave it."""
    record: str = ""
    """Record.id of a call whose content is kept."""
    model: str = ""
    """Who gave it, of a call."""
    outcome: str = ""
    """What the scorer says of it: an Outcome; empty = nothing."""
    reason: str
    """leaders_differ, unscored, unsure, no_reference, call or sample: why an expert is asked."""
    rank: int
    """The highest comes first: how much a judgement would decide."""
    readers: int = 1
    """How many are to judge it."""
    created_ms: int
    """Wall clock, milliseconds since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What one reader said of an answer."""

    review: str
    """Review.id."""
    reader: str
    """`Key.meter` of the reader: a key that was replaced goes on with it."""
    key: str
    """Public part of the key that was used."""
    said: Said
    correction: str = ""
    """The right answer, of a fix."""
    note: str = ""
    at_ms: int
    """Wall clock, milliseconds since 1970."""
    stored: str = ""
    """split:id of the example that was made or changed by it; empty = none."""


class Entry(NamedTuple):
    """A review, and how many have judged it."""

    review: Review
    read: int


class Tally(NamedTuple):
    """How many reviews there are of a task."""

    task: str
    open: int
    """For this reader."""
    done: int
    all: int


class Judgements(Shelf):
    """Reads and changes reviews and judgements. Every method is one transaction; all block."""

    prefix = "review"

    def add(self, reviews: Iterable[Review], by: Actor, facts: dict[str, Any]) -> int:
        """Put answers on the queue, but for those that are on it; how many were new.

        Args:
            reviews: of one tenant.
            by: who does it.
            facts: for the audit: where they come from.
        """
        # in one order: two who put the same answers on the queue would wait for each other
        rows = sorted((_row(one) for one in reviews), key=itemgetter("subject"))
        enter = inserting(self._database.dialect, tables.reviews).on_conflict_do_nothing()
        enter = enter.returning(tables.reviews.c.id)
        with self._database.writing() as connection:
            new = sum(connection.execute(enter.values(row)).first() is not None for row in rows)
            audit.enter(connection, by, "review.queue", "reviews", {**facts, "new": new}, self.now_ms())
        return new

    def get(self, tenant: str, id: str) -> Entry | None:
        """A tenant's review; None when there is none, or it is another's."""
        table = tables.reviews
        query = select(table.c.review, table.c.read).where(table.c.tenant == tenant, table.c.id == id)
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else Entry(_review(row.review), row.read)

    def page(
        self,
        tenant: str,
        reader: str,
        *,
        state: State = "open",
        task: str = "",
        run: str = "",
        reason: Reason | None = None,
        sort: Sort = "-rank",
        limit: int,
        after: str = "",
    ) -> list[Entry]:
        """Reviews; of those that are alike, the oldest first.

        Args:
            tenant: whose.
            reader: who asks.
            state: which.
            task: only of this one; empty = any.
            run: only of this comparison.
            reason: only those.
            sort: in which order.
            limit: most that are wanted.
            after: id of the last one that is known already.
        """
        table = tables.reviews
        query = select(table.c.review, table.c.read).where(table.c.tenant == tenant, *_state(reader, state))
        for column, value in ((table.c.task, task), (table.c.run, run)):
            query = query.where(column == value) if value else query
        query = query.where(self._told("reason") == reason) if reason else query
        column, falling = table.c[COLUMNS[sort.removeprefix("-")]], sort.startswith("-")
        if after:
            last = select(column).where(table.c.tenant == tenant, table.c.id == after).scalar_subquery()
            beyond = column < last if falling else column > last
            query = query.where(beyond | ((column == last) & (table.c.id > after)))
        query = query.order_by(column.desc() if falling else column, table.c.id).limit(limit)
        with self._database.reading() as connection:
            return [Entry(_review(row.review), row.read) for row in connection.execute(query)]

    def tallies(self, tenant: str, reader: str) -> list[Tally]:
        """How many there are, by task."""
        table, counts = tables.reviews, dict[str, dict[str, int]]()
        states: tuple[State, ...] = ("open", "done", "all")
        with self._database.reading() as connection:
            for state in states:
                query = select(table.c.task, func.count()).where(
                    table.c.tenant == tenant, *_state(reader, state)
                )
                for task, count in connection.execute(query.group_by(table.c.task)):
                    counts.setdefault(task, dict.fromkeys(states, 0))[state] = int(count)
        return [Tally(task, **found) for task, found in sorted(counts.items())]

    def judge(self, tenant: str, judgement: Judgement, by: Actor) -> Entry | None:
        """Enter a judgement, in place of an earlier one of the same reader.

        Returns:
            The review afterwards; None when there is none of this tenant.
        """
        with self._database.writing() as connection:
            if not self._there(connection, tenant, judgement.review):
                return None
            self._taken(connection, tenant, judgement.review, judgement.reader)
            row = {"tenant": tenant, "review": judgement.review, "reader": judgement.reader}
            row |= {"at_ms": judgement.at_ms, "said": judgement.said}
            text = msgspec.json.encode(plain(judgement)).decode()
            connection.execute(insert(tables.judgements).values({**row, "judgement": text}))
            self._counted(connection, tenant, judgement.review)
            facts = {"said": judgement.said, "stored": judgement.stored}
            audit.enter(connection, by, "review.judge", judgement.review, facts, self.now_ms())
        return self.get(tenant, judgement.review)

    def retract(self, tenant: str, id: str, reader: str, by: Actor) -> bool:
        """Take a reader's judgement away; whether there was one."""
        with self._database.writing() as connection:
            self._there(connection, tenant, id)  # who judges it waits
            gone = self._taken(connection, tenant, id, reader)
            if gone:
                self._counted(connection, tenant, id)
                audit.enter(connection, by, "review.retract", id, {}, self.now_ms())
        return gone

    def of(self, tenant: str, id: str) -> list[Judgement]:
        """What was said of one, the earliest first."""
        table = tables.judgements
        query = select(table.c.judgement).where(table.c.tenant == tenant, table.c.review == id)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(table.c.at_ms, table.c.reader)).scalars()
            return [from_json(row, Judgement) for row in rows]

    def said(self, tenant: str, *, task: str = "") -> list[tuple[Review, list[Judgement]]]:
        """Every review that somebody has judged, with what was said, the earliest first."""
        reviews, judgements = tables.reviews, tables.judgements
        same = (reviews.c.tenant == judgements.c.tenant) & (reviews.c.id == judgements.c.review)
        query = select(reviews.c.review, judgements.c.judgement).join_from(judgements, reviews, same)
        query = query.where(judgements.c.tenant == tenant)
        query = query.where(reviews.c.task == task) if task else query
        found: dict[str, tuple[Review, list[Judgement]]] = {}
        with self._database.reading() as connection:
            for row in connection.execute(query.order_by(judgements.c.at_ms, judgements.c.reader)):
                review = _review(row.review)
                told = found.setdefault(review.id, (review, []))
                told[1].append(from_json(row.judgement, Judgement))
        return list(found.values())

    def _told(self, name: str) -> Any:
        """A field of a review that has no column of its own."""
        return member(self._database.dialect, tables.reviews.c.review, name)

    def _there(self, connection: Connection, tenant: str, id: str) -> bool:
        table = tables.reviews
        query = select(table.c.id).where(table.c.tenant == tenant, table.c.id == id)
        return connection.execute(query.with_for_update()).first() is not None

    def _taken(self, connection: Connection, tenant: str, id: str, reader: str) -> bool:
        table = tables.judgements
        which = (table.c.tenant == tenant, table.c.review == id, table.c.reader == reader)
        return bool(connection.execute(delete(table).where(*which)).rowcount)

    def _counted(self, connection: Connection, tenant: str, id: str) -> None:
        table, said = tables.reviews, tables.judgements
        count = select(func.count()).where(said.c.tenant == tenant, said.c.review == id).scalar_subquery()
        which = (table.c.tenant == tenant, table.c.id == id)
        connection.execute(update(table).where(*which).values(read=count))


def _state(reader: str, state: State) -> list[Any]:
    table, said = tables.reviews, tables.judgements
    mine = select(said.c.review).where(said.c.tenant == table.c.tenant, said.c.reader == reader)
    conditions: dict[State, list[Any]] = {
        "open": [table.c.read < table.c.readers, table.c.id.not_in(mine)],
        "mine": [table.c.id.in_(mine)],
        "done": [table.c.read >= table.c.readers],
        "all": [],
    }
    return conditions[state]


def _review(text: str) -> Review:
    return from_json(text, Review)


def _row(review: Review) -> dict[str, Any]:
    names = ("tenant", "id", "subject", "task", "run", "rank", "readers", "created_ms")
    facts = {name: getattr(review, name) for name in names}
    return {**facts, "read": 0, "review": msgspec.json.encode(plain(review)).decode()}
