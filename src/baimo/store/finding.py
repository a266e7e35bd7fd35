"""The newest lines of a question, found without reading all that lie between them.

Prevents the failure where ten calls of a rare key, or none at all, are looked for in a million lines: roll-ups say
between which lines those of a day, key, model or status are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, RowMapping, func, select

from baimo.store import rollups, tables
from baimo.store.chain import DAY_MS
from baimo.store.filters import Filters, conditions, of_rollups, told_by

NEAR = 5_000
"""Lines that are read as they come, before roll-ups are asked: whoever is not rare is among them."""
CELLS = 5_000
"""Roll-ups in one question."""
GAP = 500
"""Lines between two stretches that are read with them."""

Stretch = tuple[int, int]
"""First and last line."""


def newest(
    connection: Connection,
    filters: Filters,
    stretch: Stretch,
    limit: int,
    *,
    near: int = NEAR,
    cells: int = CELLS,
) -> list[RowMapping]:
    """The newest lines of a stretch, newest first.

    Args:
        connection: in a snapshot.
        filters: which lines.
        stretch: the others are not looked at.
        limit: most lines.
        near: as `NEAR`.
        cells: as `CELLS`.
    """
    kind = rollups.kind_of(told_by(filters))
    lower, upper = stretch
    floor = lower if kind is None else max(lower, upper - near + 1)
    found = _between(connection, filters, (floor, upper), limit)
    upper = floor - 1
    while kind is not None and lower <= upper and len(found) < limit:
        if upper > (after := rollups.rolled(connection)):
            after = max(after, lower - 1)
            stretches, upper = [(after + 1, upper)], after
        else:
            stretches, upper = _stretches(connection, kind, filters, (lower, upper), cells)
        for some in stretches:
            if len(found) < limit:
                found += _between(connection, filters, some, limit - len(found))
    return found


def whole_ledger(connection: Connection) -> Stretch:
    """From the oldest line that is kept to the newest."""
    # one by one: SQLite finds the smallest at once, and the smallest and the largest by reading all
    first = connection.execute(select(func.min(tables.records.c.seq))).scalar()
    return int(first or 1), int(connection.execute(select(tables.ledger_head.c.seq)).scalar_one())


def ends(connection: Connection, filters: Filters) -> Stretch:
    """Between which lines those of a question's moments lie, and few others, where most are in the order of time."""
    first, last = whole_ledger(connection)
    if filters.since_ms is None and filters.until_ms is None:
        return first, last
    after, table = rollups.rolled(connection), tables.rollups
    moments = Filters(since_ms=filters.since_ms, until_ms=filters.until_ms)
    query = select(func.min(table.c.first_seq), func.max(table.c.last_seq)).where(table.c.last_seq >= first)
    low, high = connection.execute(query.where(*of_rollups(connection, "offer", _days_of(moments)))).one()
    # of lines that are not counted in the moments are not known
    return max(first, int(low or after + 1)), last if last > after else int(high or 0)


def _days_of(filters: Filters) -> Filters:
    """The same, until the end of its last day: roll-ups know days only."""
    if filters.until_ms is None:
        return filters
    return replace(filters, until_ms=-(-filters.until_ms // DAY_MS) * DAY_MS)


def _between(connection: Connection, filters: Filters, stretch: Stretch, limit: int) -> list[RowMapping]:
    table = tables.records
    query = select(table).where(table.c.seq.between(*stretch), *conditions(connection.dialect.name, filters))
    return list(connection.execute(query.order_by(table.c.seq.desc()).limit(limit)).mappings())


def _stretches(
    connection: Connection, kind: str, filters: Filters, within: Stretch, cells: int
) -> tuple[list[Stretch], int]:
    """Where the newest ones are, newest first; and the line up to which nothing is said yet."""
    table, (lower, upper) = tables.rollups, within
    filters = _days_of(filters)
    where = (table.c.last_seq >= lower, table.c.first_seq <= upper)
    query = select(table.c.first_seq, table.c.last_seq).where(*of_rollups(connection, kind, filters), *where)
    rows = connection.execute(query.order_by(table.c.last_seq.desc()).limit(cells)).all()
    rest = int(rows[-1].last_seq) if len(rows) == cells else lower - 1
    if rest >= upper:  # more of them reach beyond than are asked for at once
        return [within], lower - 1
    return _joined([(max(rest + 1, int(row[0])), min(upper, int(row[1]))) for row in rows]), rest


def _joined(stretches: Sequence[Stretch]) -> list[Stretch]:
    """The same lines in stretches that are apart, newest first."""
    found: list[Stretch] = []
    ordered: Iterable[Stretch] = sorted(
        (one for one in stretches if one[0] <= one[1]), reverse=True, key=_end
    )
    for first, last in ordered:
        if found and last + GAP >= found[-1][0]:
            found[-1] = (min(first, found[-1][0]), found[-1][1])
        else:
            found.append((first, last))
    return found


def _end(stretch: Any) -> int:
    return int(stretch[1])
