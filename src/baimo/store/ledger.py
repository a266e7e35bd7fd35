"""Reading the ledger: its lines page by page, its sums to the last millionth, and the proof that nobody changed it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, FromClause, Select, func, literal_column, select

from baimo.core.money import MICROS
from baimo.core.record import Record
from baimo.errors import StoreError, UsageError
from baimo.store import finding, pruning, rollups, tables, verification
from baimo.store.chain import DAY_MS, Head
from baimo.store.engine import Database
from baimo.store.filters import Filters, conditions, label_of, of_rollups, told_by
from baimo.store.lines import record_of
from baimo.store.tables import SUMMED

GROUPS = ("day", "tenant", "key", "model", "surface", "status", "route", "asked", "run", "model_used")
"""What sums can be grouped by, besides `tag:NAME`; the currency always is."""
PAGE = 1_000


class Line(NamedTuple):
    """A Record and its place in the chain."""

    seq: int
    chain: str
    """64 hexadecimal digits."""
    record: Record


class Spend(NamedTuple):
    """One line of a sum. What is not known is counted, never summed as 0."""

    group: tuple[str, ...]
    """Values of the groups, in the order asked for."""
    currency: str
    calls: int
    failed: int
    """Of them, those whose status is not ok."""
    unpriced: int
    """Of them, those whose cost is not known."""
    uncounted: int
    """Of them, those whose tokens are not known."""
    cost_micros: int
    """Exact, together with `cost_rest`; rounded down where that is not 0."""
    cost_rest: int
    """Millionths of a micro-unit on top, 0 to 999,999."""
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    tokens_cache_write: int


class Ledger:
    """Reads one database's ledger. Every method sees one consistent state."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def head(self) -> Head:
        """The newest line."""
        with self._database.reading() as connection:
            row = connection.execute(select(tables.ledger_head.c.seq, tables.ledger_head.c.chain)).one()
        return Head(int(row[0]), bytes(row[1]))

    def line(self, id: str) -> Line | None:
        """The line of one Record; None = no such Record."""
        with self._database.reading() as connection:
            row = (
                connection.execute(select(tables.records).where(tables.records.c.id == id)).mappings().first()
            )
        return None if row is None else _line(row)

    def records(
        self,
        filters: Filters = Filters(),
        *,
        limit: int = PAGE,
        cursor: int | None = None,
        newest_first: bool = True,
    ) -> list[Line]:
        """One page of lines in the ledger's order.

        Args:
            filters: which.
            limit: most lines.
            cursor: `seq` of the last line of the page before; None = from the beginning.
            newest_first: downwards from the newest line, else upwards from the oldest.
        """
        with self._database.snapshot() as connection:
            within = finding.ends(connection, filters)
            return self._page(connection, filters, within, limit, cursor, newest_first)

    def lines(self, filters: Filters = Filters(), *, newest_first: bool = False) -> Iterator[Line]:
        """All that there are now, page by page, in bounded memory."""
        with self._database.snapshot() as connection:
            within = finding.ends(connection, filters)
        cursor = None
        while True:
            with self._database.snapshot() as connection:
                page = self._page(connection, filters, within, PAGE, cursor, newest_first)
            yield from page
            if len(page) < PAGE:
                return
            cursor = page[-1].seq

    def _page(
        self,
        connection: Connection,
        filters: Filters,
        within: finding.Stretch,
        limit: int,
        cursor: int | None,
        newest_first: bool,
    ) -> list[Line]:
        table, (first, last) = tables.records, within
        if newest_first:
            last = last if cursor is None else min(last, cursor - 1)
            return [_line(row) for row in finding.newest(connection, filters, (first, last), limit)]
        first = first if cursor is None else max(first, cursor + 1)
        query = select(table).where(*conditions(self._database.dialect, filters))
        query = query.where(table.c.seq.between(first, last)).order_by(table.c.seq).limit(limit)
        return [_line(row) for row in connection.execute(query).mappings()]

    def count(self, filters: Filters = Filters()) -> int:
        """How many lines there are."""
        query = (
            select(func.count())
            .select_from(tables.records)
            .where(*conditions(self._database.dialect, filters))
        )
        with self._database.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def sums(self, by: Sequence[str] = (), filters: Filters = Filters()) -> list[Spend]:
        """Sums by group and currency: from roll-ups where they tell the groups apart, else from the lines.

        Roll-ups go back to the first line, also where lines were pruned; sums over lines cannot.

        Args:
            by: of `GROUPS`, or `tag:NAME`.
            filters: which lines.

        Raises:
            UsageError: no such group.
        """
        for group in by:
            if group not in GROUPS and not re.fullmatch(r"tag:.+", group, re.DOTALL):
                raise UsageError("ledger.unknown_group", group=group, known=", ".join((*GROUPS, "tag:NAME")))
        kind = rollups.kind_of(_told(by, filters)) if _whole_days(filters) else None
        if kind is not None:
            return self._rolled_up(kind, by, filters)
        with self._database.reading() as connection:
            return [_spend(row, len(by)) for row in connection.execute(self._from_lines(by, filters))]

    def _rolled_up(self, kind: str, by: Sequence[str], filters: Filters) -> list[Spend]:
        with suppress(StoreError):  # somebody else is writing: the lines are added below instead
            rollups.caught_up(self._database)
        with self._database.snapshot() as connection:
            kept = self._from_rollups(kind, by, filters, of_rollups(connection, kind, filters))
            lines = self._from_lines(by, filters).where(tables.records.c.seq > rollups.rolled(connection))
            both = kept.union_all(lines.order_by(None)).subquery()
            columns = list(both.c)[: len(by) + 1]
            query = select(*columns, *(func.sum(both.c[name]) for name in rollups.SUMS))
            query = query.group_by(*columns).order_by(*columns)
            return [_spend(row, len(by)) for row in connection.execute(query)]

    def verify(self, progress: Callable[[int, int], None] | None = None) -> verification.Findings:
        """Derive every link, cost, total and limit's use anew; says what differs and where it begins.

        Args:
            progress: told lines done and lines in all, now and then.
        """
        return verification.verify(self._database, progress)

    def prune(self, before_ms: int, progress: Callable[[int, int], None] | None = None) -> int:
        """Delete the oldest lines up to the first that was settled at or after `before_ms`; returns how many.

        The chain goes on from a checkpoint, the totals stay, and `verify` holds. What was kept of these calls'
        contents is deleted with them.
        """
        return pruning.prune(self._database, before_ms, progress)

    def _from_rollups(
        self, kind: str, by: Sequence[str], filters: Filters, where: Sequence[ColumnElement[bool]]
    ) -> Select[Any]:
        table = tables.rollups
        told = {"tags" if name.startswith("tag:") else name for name in by} | {"currency"}
        if not _told(by, filters).isdisjoint(("status", "route", "tags")):
            where = [*where, table.c.status != rollups.UNKNOWN]
        groups = [table.c[name] for name in sorted(told)]
        sums = [func.sum(table.c[name]).label(name) for name in rollups.SUMS]
        # labels are taken out of a few texts instead of one for each row
        summed = select(*groups, *sums).where(*where).group_by(*groups).subquery()
        names = [self._group(name, summed).label(f"group_{at}") for at, name in enumerate(by)]
        wanted: list[ColumnElement[Any]] = [*names, *(summed.c[name] for name in ("currency", *rollups.SUMS))]
        return select(*wanted)

    def _from_lines(self, by: Sequence[str], filters: Filters) -> Select[Any]:
        table = tables.records
        groups = [self._group(name).label(f"group_{at}") for at, name in enumerate(by)]
        calls = func.count()

        def total(name: str) -> ColumnElement[Any]:
            return func.coalesce(func.sum(table.c[name]), 0)

        sums = (
            calls,
            func.count().filter(table.c.status != "ok"),
            calls - func.count(table.c.cost_micros),
            func.count().filter(table.c.tokens_in.is_(None) | table.c.tokens_out.is_(None)),
            *(total(name) for name in SUMMED[4:10]),
        )
        labelled = [one.label(name) for name, one in zip(rollups.SUMS, sums, strict=True)]
        query = select(*groups, table.c.currency, *labelled)
        query = query.where(*conditions(self._database.dialect, filters))
        names: list[ColumnElement[Any]] = [literal_column(f"group_{at}") for at in range(len(by))]
        return query.group_by(*names, table.c.currency).order_by(*names, table.c.currency)

    def _group(self, name: str, table: FromClause = tables.records) -> ColumnElement[Any]:
        if name.startswith("tag:"):
            return func.coalesce(label_of(self._database.dialect, name[4:], table), "")
        if name != "day" or table is not tables.records:
            return table.c[name]
        if self._database.dialect == "postgresql":
            return literal_column("to_char(to_timestamp(at_ms / 1000) AT TIME ZONE 'UTC', 'YYYY-MM-DD')")
        return literal_column("strftime('%Y-%m-%d', at_ms / 1000, 'unixepoch')")


def _whole_days(filters: Filters) -> bool:
    return all(moment is None or moment % DAY_MS == 0 for moment in (filters.since_ms, filters.until_ms))


def _told(by: Sequence[str], filters: Filters) -> set[str]:
    """What sums must tell apart for this question."""
    return told_by(filters) | {"tags" if name.startswith("tag:") else name for name in by}


def _spend(row: Any, groups: int) -> Spend:
    calls, failed, unpriced, uncounted, micros, rest, *tokens = (
        int(value or 0) for value in row[groups + 1 :]
    )
    carry, rest = divmod(rest, MICROS)
    group = tuple(str(value) for value in row[:groups])
    return Spend(group, str(row[groups]), calls, failed, unpriced, uncounted, micros + carry, rest, *tokens)


def _line(row: Any) -> Line:
    return Line(int(row["seq"]), bytes(row["chain"]).hex(), record_of(row))
