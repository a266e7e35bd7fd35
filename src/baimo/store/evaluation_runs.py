"""Runs of evaluations, and what came of each row of their data.

Prevents two failures: a result that is lost or entered twice when a process dies (every row of data has one place, and
its result is written there once), and rows of one tenant that another can read (every statement names the tenant).
Which process works on a run, `held` says.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, NamedTuple

import msgspec
from sqlalchemy import Row, bindparam, delete, insert, select, update

from baimo.core.ids import base32, sortable_id
from baimo.core.tenant import DataClass
from baimo.store import tables
from baimo.store.engine import Database
from baimo.store.held import HeldOrders

RunStatus = Literal["queued", "in_progress", "completed", "failed", "canceled"]
ItemStatus = Literal["queued", "pass", "fail", "error"]
ACTIVE: tuple[RunStatus, ...] = ("queued", "in_progress")
_AT_A_STRETCH = 500
_DIGITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTokens:
    """What a model was asked in a run."""

    model: str
    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    """As far as the answers say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalRun:
    """One pass of an evaluation over data. Times are milliseconds since 1970; 0 = not yet."""

    id: str
    """evalrun_… sortable by time; `Record.run` of its calls."""
    tenant: str
    """Tenant.id that pays; empty = the workspace's owner."""
    key: str
    """Public part of the key that ordered it, and whose rights and limits hold."""
    evaluation: str
    """Evaluation.id."""
    name: str
    """For people."""
    model: str = ""
    """Name of the model that answers; empty = the data bring their answers."""
    data_class: DataClass = "public"
    """Of the rows; once they are entered, also what stored answers among them say."""
    status: RunStatus = "queued"
    """As OpenAI names it."""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    """The client's labels."""
    created_ms: int
    started_ms: int = 0
    ended_ms: int = 0
    rows: int | None = None
    """Rows of data, once all are entered; None = not yet."""
    passed: int = 0
    """Rows whose answer passed every criterion."""
    failed: int = 0
    """Rows whose answer failed one."""
    errored: int = 0
    """Rows without a judgement."""
    criteria: Mapping[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    """Name of a criterion → rows that passed it, rows that failed it."""
    usage: tuple[ModelTokens, ...] = ()
    """What models were asked, judges included."""
    error_code: str = ""
    """Why it failed, for programs."""
    error: str = ""
    """The same, for people."""

    @property
    def active(self) -> bool:
        """Whether there is something left to do."""
        return self.status in ACTIVE


class Source(NamedTuple):
    """A row of data on its way into a run."""

    position: int
    row: Mapping[str, Any]
    """{"item": …, "sample": …}; without a sample, the model is asked."""
    data_class: DataClass = "public"
    """As far as it is known of this row alone; not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputItem:
    """A row of data and what came of it."""

    run: str
    """EvalRun.id."""
    position: int
    """Place of the row in the data, from 0."""
    status: ItemStatus
    """queued: nothing yet."""
    row: Mapping[str, Any]
    """Source.row."""
    output: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """created_ms; results, one for each criterion; sample, the answer; calls, what models were asked."""

    @property
    def id(self) -> str:
        """outputitem_… sortable within its run."""
        return f"outputitem_{self.run.partition('_')[2]}{base32(self.position, _DIGITS)}"


class EvalRuns(HeldOrders[EvalRun]):
    """Reads and changes runs. Every method is one transaction; all block.

    Args:
        database: where they are kept.
        now_ms: wall clock, milliseconds since 1970.
    """

    def __init__(self, database: Database, now_ms: Callable[[], int] | None = None) -> None:
        beside = ("tenant", "id", "evaluation", "status")
        super().__init__(
            database,
            tables.evaluation_runs,
            EvalRun,
            column="run",
            beside=beside,
            active=ACTIVE,
            now_ms=now_ms,
        )

    def new_id(self) -> str:
        """An id that nobody has."""
        return sortable_id("evalrun", self.now_ms(), os.urandom(7))

    def add(self, run: EvalRun, asked: Mapping[str, Any]) -> None:
        """Enter a new one.

        Args:
            run: waiting.
            asked: its data source as the client sent it.
        """
        row = {**self._row(run), "holder": "", "asked": msgspec.json.encode(asked).decode()}
        with self._database.writing() as connection:
            connection.execute(insert(tables.evaluation_runs).values(row))

    def asked(self, tenant: str, id: str) -> dict[str, Any]:
        """The data source of a run as the client sent it; empty when there is no such run."""
        table = tables.evaluation_runs
        query = select(table.c.asked).where(table.c.tenant == tenant, table.c.id == id)
        with self._database.reading() as connection:
            found = connection.execute(query).scalar()
        return {} if found is None else msgspec.json.decode(found)

    def page(
        self,
        tenant: str,
        evaluation: str,
        *,
        limit: int,
        after: str = "",
        ascending: bool = True,
        status: str = "",
    ) -> list[EvalRun]:
        """The runs of an evaluation in the order of their making.

        Args:
            tenant: whose.
            evaluation: Evaluation.id.
            limit: most that are wanted.
            after: id of the last one that is known already.
            ascending: the oldest first.
            status: only of this one; empty = any.
        """
        table = tables.evaluation_runs
        query = select(table.c.run).where(table.c.tenant == tenant, table.c.evaluation == evaluation)
        if status:
            query = query.where(table.c.status == status)
        query = _ordered(query, table.c.id, after, ascending)
        with self._database.reading() as connection:
            return [self._decoded(row) for row in connection.execute(query.limit(limit))]

    def delete(self, tenant: str, id: str) -> bool:
        """Forget a run with its items, whatever it is at; whether there was one."""
        runs, items = tables.evaluation_runs, tables.evaluation_items
        with self._database.writing() as connection:
            # first: whoever enters rows waits, and then finds none
            gone = connection.execute(delete(runs).where(runs.c.tenant == tenant, runs.c.id == id))
            connection.execute(delete(items).where(items.c.tenant == tenant, items.c.run == id))
        return bool(gone.rowcount)

    # items

    def enter(self, run: EvalRun, sources: Iterable[Source]) -> None:
        """Enter rows of data, in place of whatever was entered of them before, until the run is deleted.

        Not in one transaction: a long file must not keep the ledger waiting. That all are there, `EvalRun.rows` says.
        """
        items = tables.evaluation_items
        with self._database.writing() as connection:
            if self._found(connection, run.tenant, run.id, lock=True) is None:
                return
            connection.execute(delete(items).where(items.c.tenant == run.tenant, items.c.run == run.id))
        rest = iter(sources)
        while stretch := list(islice(rest, _AT_A_STRETCH)):
            rows = [
                {
                    "tenant": run.tenant,
                    "run": run.id,
                    "position": one.position,
                    "status": "queued",
                    "source": msgspec.json.encode(one.row).decode(),
                    "item": "",
                }
                for one in stretch
            ]
            with self._database.writing() as connection:
                if self._found(connection, run.tenant, run.id, lock=True) is None:
                    return
                connection.execute(insert(items), rows)

    def finish(self, run: EvalRun, done: Sequence[OutputItem]) -> None:
        """Keep what came of rows of data."""
        items = tables.evaluation_items
        rows = [
            {"at": item.position, "now": item.status, "result": msgspec.json.encode(item.output).decode()}
            for item in done
        ]
        change = (
            update(items)
            .where(items.c.tenant == run.tenant, items.c.run == run.id, items.c.position == bindparam("at"))
            .values(status=bindparam("now"), item=bindparam("result"))
        )
        if rows:
            with self._database.writing() as connection:
                connection.execute(change, rows)

    def waiting(self, run: EvalRun, *, after: int = -1, limit: int = _AT_A_STRETCH) -> list[Source]:
        """Rows of data that nothing came of yet, in order.

        Args:
            run: whose.
            after: position of the last one that is known already.
            limit: most that are wanted.
        """
        items = tables.evaluation_items
        query = (
            select(items.c.position, items.c.source)
            .where(items.c.tenant == run.tenant, items.c.run == run.id)
            .where(items.c.status == "queued", items.c.position > after)
            .order_by(items.c.position)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [
                Source(row.position, msgspec.json.decode(row.source)) for row in connection.execute(query)
            ]

    def done(self, run: EvalRun) -> Iterator[OutputItem]:
        """Everything that came of a run so far, in order."""
        after = ""
        while page := self.items(run, limit=_AT_A_STRETCH, after=after):
            yield from page
            after = page[-1].id

    def items(
        self, run: EvalRun, *, limit: int, after: str = "", ascending: bool = True, status: str = ""
    ) -> list[OutputItem]:
        """What came of the rows of a run, in their order.

        Args:
            run: whose.
            limit: most that are wanted.
            after: id of the last one that is known already.
            ascending: the first row first.
            status: pass, fail or error; empty = any.
        """
        items = tables.evaluation_items
        query = select(items).where(items.c.tenant == run.tenant, items.c.run == run.id)
        query = query.where(items.c.status == status if status else items.c.status != "queued")
        place = _position(run, after)
        if place is not None:
            query = query.where(items.c.position > place if ascending else items.c.position < place)
        query = query.order_by(items.c.position if ascending else items.c.position.desc()).limit(limit)
        with self._database.reading() as connection:
            return [_item(row) for row in connection.execute(query)]

    def item(self, run: EvalRun, id: str) -> OutputItem | None:
        """What came of one row; None when nothing did yet, or there is none."""
        items, place = tables.evaluation_items, _position(run, id)
        which = (items.c.tenant == run.tenant, items.c.run == run.id, items.c.position == place)
        with self._database.reading() as connection:
            row = connection.execute(select(items).where(*which, items.c.status != "queued")).first()
        found = None if row is None else _item(row)
        return found if found is not None and found.id == id else None


def _ordered(query: Any, column: Any, after: str, ascending: bool) -> Any:
    if after:
        query = query.where(column > after if ascending else column < after)
    return query.order_by(column if ascending else column.desc())


def _position(run: EvalRun, id: str) -> int | None:
    """The place that an item's id names; None = it is no id of this run."""
    head = f"outputitem_{run.id.partition('_')[2]}"
    digits = id.removeprefix(head)
    if not id.startswith(head) or len(digits) != _DIGITS:
        return None
    number = 0
    for digit in digits:
        value = _VALUES.get(digit)
        if value is None:
            return None
        number = number * 32 + value
    return number


_VALUES = {base32(number, 1): number for number in range(32)}


def _item(row: Row[Any]) -> OutputItem:
    return OutputItem(
        run=row.run,
        position=row.position,
        status=row.status,
        row=msgspec.json.decode(row.source),
        output=msgspec.json.decode(row.item) if row.item else {},
    )
