"""Sums of the ledger by few things at a time: what people look at all day reads thousands of rows and not a million.

Prevents two failures: a page that is slow because much was called, and a sum that is quick because it is wrong. Lines
are counted in late, many at once and never by the request path; one row says up to which line. A question adds the
lines after it in the same snapshot, so its answer is exact at every moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select, text

from baimo.store import tables
from baimo.store.engine import BUSY_TIMEOUT_MS, Database
from baimo.store.tables import ROLLED, SUMMED

SUMS = SUMMED[:10]
"""What they sum."""
KINDS: Mapping[str, tuple[str, ...]] = {
    "offer": ("model", "surface", "status", "route"),
    "payers": ("tenant", "key", "status"),
    "tags": ("tenant", "tags"),
    "whole": ("tenant", "model", "surface", "status", "route"),
}
"""Kind of roll-up → what it tells apart, besides day and currency; where several serve, the first is the smallest."""
UNKNOWN = "?"
"""Status of what was pruned before there were roll-ups: neither status nor route nor tags are known."""
TOGETHER = 50_000
"""Lines that are counted in at once."""
TAIL = 5_000
"""So many lines may be left for questions to add."""
PATIENCE_MS = 500
"""How long a question waits for other writers before it adds the lines itself."""

_DAY = {
    "sqlite": "strftime('%Y-%m-%d', at_ms / 1000, 'unixepoch')",
    "postgresql": "to_char(to_timestamp(at_ms / 1000) AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
}
_SUM = (
    "count(*), sum(CASE WHEN status <> 'ok' THEN 1 ELSE 0 END), sum(CASE WHEN cost_micros IS NULL THEN 1 ELSE 0 END), "
    "sum(CASE WHEN tokens_in IS NULL OR tokens_out IS NULL THEN 1 ELSE 0 END), "
) + ", ".join(f"coalesce(sum({name}), 0)" for name in SUMS[4:])
_ADD = ", ".join(f"{name} = rollups.{name} + excluded.{name}" for name in SUMS)


def kind_of(names: Iterable[str]) -> str | None:
    """The smallest roll-up that tells these apart; None = none does."""
    wanted = set(names) - {"day", "currency"}
    return next((kind for kind, told in KINDS.items() if wanted <= set(told)), None)


def rolled(connection: Connection) -> int:
    """Up to which line they go."""
    return int(connection.execute(select(tables.rolled.c.seq)).scalar_one())


def behind(database: Database) -> int:
    """How many lines are not counted in yet."""
    with database.reading() as connection:
        head = connection.execute(select(tables.ledger_head.c.seq)).scalar_one()
        return int(head) - rolled(connection)


def count_in(database: Database) -> int:
    """Count in every line there is; returns how many.

    Raises:
        StoreError: the database does not take it; what was counted in so far stays so.
    """
    done = 0
    while some := count_some(database):
        done += some
    return done


def count_some(database: Database, *, wait_ms: int = BUSY_TIMEOUT_MS) -> int:
    """Count in the next lines, `TOGETHER` at most; returns how many.

    Args:
        database: the ledger's.
        wait_ms: longest wait for other writers, milliseconds.

    Raises:
        StoreError: the database does not take it.
    """
    if not behind(database):
        return 0
    with database.writing(wait_ms=wait_ms) as connection:
        return _counted(connection)


def _counted(connection: Connection) -> int:
    lock = " FOR UPDATE" if connection.dialect.name == "postgresql" else ""
    first = int(connection.execute(text(f"SELECT seq FROM rolled WHERE one = 1{lock}")).scalar_one())
    head = int(connection.execute(select(tables.ledger_head.c.seq)).scalar_one())
    last = min(head, first + TOGETHER)
    if last <= first:
        return 0
    for kind in KINDS:
        connection.execute(text(_statement(kind, connection.dialect.name)), {"first": first, "last": last})
    connection.execute(text("UPDATE rolled SET seq = :last WHERE one = 1"), {"last": last})
    return last - first


def _statement(kind: str, dialect: str) -> str:
    told = (*KINDS[kind], "currency")
    names = ", ".join(("kind", "day", *told, *SUMS))
    groups = ", ".join((_DAY[dialect], *told))
    return (
        f"INSERT INTO rollups ({names}) SELECT '{kind}', {groups}, {_SUM} FROM records "
        f"WHERE seq > :first AND seq <= :last GROUP BY {groups} "
        f"ON CONFLICT ({', '.join(ROLLED)}) DO UPDATE SET {_ADD}"
    )


def wrong(connection: Connection) -> list[tuple[tuple[str, ...], Sequence[int], Sequence[int]]]:
    """Where they and the lines after them do not add up to the kept totals: (place, totals say, they say).

    Args:
        connection: in a snapshot.
    """
    after = rolled(connection)
    found: list[tuple[tuple[str, ...], Sequence[int], Sequence[int]]] = []
    for kind, told in KINDS.items():
        groups = ("day", *(name for name in told if name in tables.GROUPED), "currency")
        kept = _by_place(connection, f"SELECT {_grouped('totals', groups)}", groups, {})
        day = _DAY[connection.dialect.name]
        names = ", ".join(groups)
        lines = f"SELECT {day} AS {names}, {_SUM} FROM records WHERE seq > :after GROUP BY {day}, {names[5:]}"
        ours = _by_place(
            connection, f"SELECT {_grouped('rollups', groups, 'WHERE kind = :kind')}", groups, {"kind": kind}
        )
        for place, sums in _by_place(connection, lines, groups, {"after": after}).items():
            before = ours.get(place, (0,) * len(SUMS))
            ours[place] = tuple(a + b for a, b in zip(before, sums, strict=True))
        for place in kept.keys() | ours.keys():
            if kept.get(place) != ours.get(place):
                found.append(((kind, *place), kept.get(place, ()), ours.get(place, ())))
    return sorted(found)


def _grouped(table: str, groups: Sequence[str], where: str = "") -> str:
    names = ", ".join(groups)
    return f"{names}, {', '.join(f'sum({name})' for name in SUMS)} FROM {table} {where} GROUP BY {names}"


def _by_place(
    connection: Connection, query: str, groups: Sequence[str], facts: Mapping[str, Any]
) -> dict[tuple[str, ...], tuple[int, ...]]:
    rows = connection.execute(text(query), facts)
    width = len(groups)
    return {tuple(map(str, row[:width])): tuple(int(value or 0) for value in row[width:]) for row in rows}
