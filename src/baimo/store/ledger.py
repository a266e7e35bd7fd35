"""Reading the ledger: its lines page by page, its sums to the last millionth, and the proof that nobody changed it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, Table, cast, func, literal_column, select
from sqlalchemy.dialects.postgresql import JSONB

from baimo.core.money import MICROS
from baimo.core.record import Record
from baimo.errors import StoreError, UsageError
from baimo.store import pruning, rollups, tables, verification
from baimo.store.chain import DAY_MS, Head, day_name
from baimo.store.engine import Database
from baimo.store.lines import record_of
from baimo.store.tables import GROUPED, SUMMED

GROUPS = ("day", "tenant", "key", "model", "surface", "status", "route", "asked", "run", "model_used")
"""What sums can be grouped by, besides `tag:NAME`; the currency always is."""
FILTERED = ("tenant", "key", "model", "surface", "status", "route", "run")
PAGE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which lines are meant; None = all."""

    since_ms: int | None = None
    """Settled at or after this, milliseconds since 1970."""
    until_ms: int | None = None
    """Settled before this."""
    tenant: str | None = None
    key: str | None = None
    """Public part."""
    model: str | None = None
    surface: str | None = None
    status: str | None = None
    """ok, or a message key; `failed` = everything but ok."""
    route: str | None = None
    run: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    """All of these."""


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
        return self._page(filters, self._ends(filters), limit, cursor, newest_first)

    def lines(self, filters: Filters = Filters(), *, newest_first: bool = False) -> Iterator[Line]:
        """All of them, page by page, in bounded memory; lines that are written meanwhile may be among them."""
        cursor, ends = None, self._ends(filters)
        while True:
            page = self._page(filters, ends, PAGE, cursor, newest_first)
            yield from page
            if len(page) < PAGE:
                return
            cursor = page[-1].seq

    def _ends(self, filters: Filters) -> tuple[int, int] | None:
        """First and last line of the moments that are asked for; None = all moments.

        Moments are nearly in the ledger's order: without this, a month is sorted for the sake of one page.
        """
        if filters.since_ms is None and filters.until_ms is None:
            return None
        column = tables.records.c.seq
        moments = Filters(since_ms=filters.since_ms, until_ms=filters.until_ms)
        query = select(func.min(column), func.max(column)).where(*conditions(self._database.dialect, moments))
        with self._database.reading() as connection:
            first, last = connection.execute(query).one()
        return (int(first), int(last)) if first is not None else (0, 0)

    def _page(
        self,
        filters: Filters,
        ends: tuple[int, int] | None,
        limit: int,
        cursor: int | None,
        newest_first: bool,
    ) -> list[Line]:
        table = tables.records
        query = select(table).where(*conditions(self._database.dialect, filters)).limit(limit)
        if ends is not None:
            query = query.where(table.c.seq.between(*ends))
        if cursor is not None:
            query = query.where(table.c.seq < cursor if newest_first else table.c.seq > cursor)
        query = query.order_by(table.c.seq.desc() if newest_first else table.c.seq)
        with self._database.reading() as connection:
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
        """Sums by group and currency: from roll-ups or kept totals where they tell the groups apart, else from the
        lines.

        Roll-ups and totals go back to the first line, also where lines were pruned; sums over lines cannot.

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
        query = self._from_totals(by, filters) if _in_totals(by, filters) else self._from_lines(by, filters)
        with self._database.reading() as connection:
            return [_spend(row, len(by)) for row in connection.execute(query)]

    def _rolled_up(self, kind: str, by: Sequence[str], filters: Filters) -> list[Spend]:
        if rollups.behind(self._database) > rollups.TAIL:
            with suppress(StoreError):  # somebody else is writing: the lines are added below instead
                while rollups.count_some(self._database, wait_ms=rollups.PATIENCE_MS) == rollups.TOGETHER:
                    pass
        with self._database.snapshot() as connection:
            query = self._from_rollups(kind, by, filters, rollups.rolled(connection))
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

    def _from_rollups(self, kind: str, by: Sequence[str], filters: Filters, after: int) -> Select[Any]:
        """Sums of the roll-ups and of the lines after them."""
        table, names = tables.rollups, [f"group_{at}" for at in range(len(by))]
        groups = [self._group(name, table).label(label) for name, label in zip(by, names, strict=True)]
        sums = [func.sum(table.c[name]).label(name) for name in rollups.SUMS]
        where = [table.c.kind == kind, *conditions(self._database.dialect, filters, table)]
        if not _told(by, filters).isdisjoint(("status", "route", "tags")):
            where.append(table.c.status != rollups.UNKNOWN)
        kept = select(*groups, table.c.currency, *sums).where(*where)
        kept = kept.group_by(*map(literal_column, names), table.c.currency)
        lines = self._from_lines(by, filters).where(tables.records.c.seq > after).order_by(None)
        both = kept.union_all(lines).subquery()
        columns = [both.c[name] for name in (*names, "currency")]
        wanted: list[ColumnElement[Any]] = [*columns, *(func.sum(both.c[name]) for name in rollups.SUMS)]
        return select(*wanted).group_by(*columns).order_by(*columns)

    def _from_totals(self, by: Sequence[str], filters: Filters) -> Select[Any]:
        table = tables.totals
        groups = [table.c[name] for name in by]
        sums = [func.sum(table.c[name]) for name in SUMMED if not name.startswith("charged")]
        query = select(*groups, table.c.currency, *sums).group_by(*groups, table.c.currency)
        if filters.since_ms is not None:
            query = query.where(table.c.day >= day_name(filters.since_ms // DAY_MS))
        if filters.until_ms is not None:
            query = query.where(table.c.day < day_name(filters.until_ms // DAY_MS))
        for name in ("tenant", "key", "model", "surface"):
            value = getattr(filters, name)
            if value is not None:
                query = query.where(table.c[name] == value)
        return query.order_by(*groups, table.c.currency)

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

    def _group(self, name: str, table: Table = tables.records) -> ColumnElement[Any]:
        if name.startswith("tag:"):
            return func.coalesce(_tag(self._database.dialect, name[4:], table), "")
        if name != "day" or table is not tables.records:
            return table.c[name]
        if self._database.dialect == "postgresql":
            return literal_column("to_char(to_timestamp(at_ms / 1000) AT TIME ZONE 'UTC', 'YYYY-MM-DD')")
        return literal_column("strftime('%Y-%m-%d', at_ms / 1000, 'unixepoch')")


def conditions(dialect: str, filters: Filters, table: Table = tables.records) -> list[ColumnElement[bool]]:
    """What a statement over `tables.records`, or over sums of whole days, asks for.

    Args:
        dialect: Database.dialect.
        filters: which lines.
        table: records, or the roll-ups.
    """
    found: list[Any] = []
    if table is tables.records:
        moment, since, until = table.c.at_ms, filters.since_ms, filters.until_ms
    else:
        moment, since, until = table.c.day, _day(filters.since_ms), _day(filters.until_ms)
    if since is not None:
        found.append(moment >= since)
    if until is not None:
        found.append(moment < until)
    for name in ("tenant", "key", "model", "surface", "route", "run"):
        value = getattr(filters, name)
        if value is not None:
            found.append(table.c[name] == value)
    if filters.status is not None:
        failed = filters.status == "failed"
        found.append(table.c.status != "ok" if failed else table.c.status == filters.status)
    return found + [_tag(dialect, name, table) == value for name, value in filters.tags.items()]


def _tag(dialect: str, name: str, table: Table) -> ColumnElement[Any]:
    if dialect == "postgresql":
        return func.jsonb_extract_path_text(cast(table.c.tags, JSONB), name)
    # a quoted label: dots and brackets in a tag's name mean themselves
    return func.json_extract(table.c.tags, '$."' + name.replace('"', '\\"') + '"')


def _day(moment_ms: int | None) -> str | None:
    return None if moment_ms is None else day_name(moment_ms // DAY_MS)


def _whole_days(filters: Filters) -> bool:
    return all(moment is None or moment % DAY_MS == 0 for moment in (filters.since_ms, filters.until_ms))


def _told(by: Sequence[str], filters: Filters) -> set[str]:
    """What sums must tell apart for this question."""
    found = {name for name in FILTERED if getattr(filters, name) is not None}
    found |= {"tags" if name.startswith("tag:") else name for name in by}
    return found | {"tags"} if filters.tags else found


def _in_totals(by: Sequence[str], filters: Filters) -> bool:
    return _whole_days(filters) and _told(by, filters) <= set(GROUPED)


def _spend(row: Any, groups: int) -> Spend:
    calls, failed, unpriced, uncounted, micros, rest, *tokens = (
        int(value or 0) for value in row[groups + 1 :]
    )
    carry, rest = divmod(rest, MICROS)
    group = tuple(str(value) for value in row[:groups])
    return Spend(group, str(row[groups]), calls, failed, unpriced, uncounted, micros + carry, rest, *tokens)


def _line(row: Any) -> Line:
    return Line(int(row["seq"]), bytes(row["chain"]).hex(), record_of(row))
