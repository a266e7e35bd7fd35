"""Which lines of the ledger a question means, and which roll-ups of them.

Prevents the failure where a question about one tenant or a few days reads the sums of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, func, select

from baimo.store import tables
from baimo.store.chain import DAY_MS, day_name
from baimo.store.dialects import member

FILTERED = ("tenant", "key", "model", "surface", "status", "route", "run")
_MOST_DAYS = 400
"""So many days are named one by one."""


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


def told_by(filters: Filters) -> set[str]:
    """What must be told apart to see which lines are meant, besides their day."""
    found = {name for name in FILTERED if getattr(filters, name) is not None}
    return found | {"tags"} if filters.tags else found


def conditions(dialect: str, filters: Filters) -> list[ColumnElement[bool]]:
    """What a statement over `tables.records` asks for.

    Args:
        dialect: Database.dialect.
        filters: which lines.
    """
    table = tables.records
    found = _named(table, filters)
    if filters.since_ms is not None:
        found.append(table.c.at_ms >= filters.since_ms)
    if filters.until_ms is not None:
        found.append(table.c.at_ms < filters.until_ms)
    if filters.run is not None:
        found.append(table.c.run == filters.run)
    return found + _labelled(dialect, filters, table)


def of_rollups(connection: Connection, kind: str, filters: Filters) -> list[ColumnElement[bool]]:
    """The same of `tables.rollups`, for the days that the moments lie in.

    Tenants and days are named where they can be, for the rows lie in the order of day and tenant.

    Args:
        connection: in a snapshot.
        kind: of `rollups.KINDS`; tells the filters apart.
        filters: which lines; without `run`.
    """
    table = tables.rollups
    payers = table.c.kind == "payers"
    found: list[ColumnElement[bool]] = [table.c.kind == kind, *_named(table, filters)]
    if filters.tags:
        wanted = select(table.c.tags).where(payers).distinct().subquery()
        query = select(wanted.c.tags).where(*_labelled(connection.dialect.name, filters, wanted))
        found.append(table.c.tags.in_(connection.execute(query).scalars().all()))
    if filters.key is not None and filters.tenant is None:
        query = select(table.c.tenant).where(payers, table.c.key == filters.key).distinct()
        found.append(table.c.tenant.in_(connection.execute(query).scalars().all()))
    query = select(func.min(table.c.day), func.max(table.c.day)).where(table.c.kind == kind)
    first, last = connection.execute(query).one()
    first = max(_day(filters.since_ms) or "", first or "")
    until = _day(filters.until_ms)
    if filters.tenant is not None or filters.key is not None:
        days = _days(first, last or "", until)
        if len(days) <= _MOST_DAYS:
            return [*found, table.c.day.in_(days)]
    found.append(table.c.day >= first)
    return found if until is None else [*found, table.c.day < until]


def label_of(dialect: str, name: str, table: FromClause) -> ColumnElement[Any]:
    """The label of that name in a table's column `tags`; NULL where there is none."""
    return member(dialect, table.c.tags, name)


def _named(table: FromClause, filters: Filters) -> list[ColumnElement[bool]]:
    found: list[Any] = []
    for name in ("tenant", "key", "model", "surface", "route"):
        value = getattr(filters, name)
        if value is not None:
            found.append(table.c[name] == value)
    if filters.status is not None:
        failed = filters.status == "failed"
        found.append(table.c.status != "ok" if failed else table.c.status == filters.status)
    return found


def _labelled(dialect: str, filters: Filters, table: FromClause) -> list[ColumnElement[bool]]:
    return [label_of(dialect, name, table) == value for name, value in filters.tags.items()]


def _days(first: str, last: str, until: str | None) -> list[str]:
    """Those from `first` to `last` that are before `until`."""
    if not first or last < first:
        return []
    begin, end = (date.fromisoformat(day).toordinal() for day in (first, last))
    days = (date.fromordinal(number).isoformat() for number in range(begin, end + 1))
    return [day for day in days if until is None or day < until]


def _day(moment_ms: int | None) -> str | None:
    return None if moment_ms is None else day_name(moment_ms // DAY_MS)
