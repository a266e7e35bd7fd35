"""Sums of the ledger by few things at a time: what people look at all day reads thousands of rows and not a million.

Prevents two failures: a page that is slow because much was called, and a sum that is quick because it is wrong. Lines
are counted in late, many at once and never by the request path; one row says up to which line. A question adds the
lines after it in the same snapshot, so its answer is exact at every moment.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, select, text

from baimo.store import tables
from baimo.store.chain import DAY_MS
from baimo.store.engine import BUSY_TIMEOUT_MS, Database
from baimo.store.tables import ROLLED, SUMMED

SUMS = SUMMED[:10]
"""What they sum."""
_KEPT = (*SUMS, "first_seq", "last_seq")
KINDS: Mapping[str, tuple[str, ...]] = {
    "offer": ("model", "surface", "status", "route"),
    "payers": ("tenant", "key", "tags", "status"),
    "whole": ("tenant", "key", "tags", "model", "surface", "status", "route"),
}
"""Kind of roll-up → what it tells apart, besides day and currency; where several serve, the first is the smallest."""
UNKNOWN = "?"
"""Status of what was pruned before there were roll-ups: neither status nor route nor tags are known."""
TOGETHER = 2_000
"""Lines that are counted in at once: while they are, SQLite lets nobody else write, and sorts them in memory."""
TAIL = 5_000
"""So many lines may be left for questions to add."""
PATIENCE_MS = 100
"""How long a question waits for other writers, and how long it counts in itself; then it adds the lines instead."""

_DAY = {
    "sqlite": "strftime('%Y-%m-%d', at_ms / 1000, 'unixepoch')",
    "postgresql": "to_char(to_timestamp(at_ms / 1000) AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
}
_NAMED = {
    "sqlite": "strftime('%Y-%m-%d', number * 86400, 'unixepoch')",
    "postgresql": "to_char(date '1970-01-01' + CAST(number AS integer), 'YYYY-MM-DD')",
}
"""Day of its number since 1970."""
_SUMS: Mapping[str, str] = {
    "calls": "count(*)",
    "failed": "sum(CASE WHEN status <> 'ok' THEN 1 ELSE 0 END)",
    "unpriced": "sum(CASE WHEN cost_micros IS NULL THEN 1 ELSE 0 END)",
    "uncounted": "sum(CASE WHEN tokens_in IS NULL OR tokens_out IS NULL THEN 1 ELSE 0 END)",
    **{name: f"coalesce(sum({name}), 0)" for name in SUMS[4:]},
}
_ADD = ", ".join(
    # lines are counted in in their order: the first stays the first
    (*(f"{name} = rollups.{name} + excluded.{name}" for name in SUMS), "last_seq = excluded.last_seq")
)


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


def caught_up(database: Database) -> None:
    """Count in what has piled up, for a moment at most: reading a line is quicker than counting it in.

    Raises:
        StoreError: others write all the time, or the database does not take it.
    """
    if behind(database) <= TAIL:
        return
    until = time.monotonic() + PATIENCE_MS / 1000
    while count_some(database, wait_ms=PATIENCE_MS) == TOGETHER and time.monotonic() < until:
        pass


def _counted(connection: Connection) -> int:
    lock = " FOR UPDATE" if connection.dialect.name == "postgresql" else ""
    first = int(connection.execute(text(f"SELECT seq FROM rolled WHERE one = 1{lock}")).scalar_one())
    head = int(connection.execute(select(tables.ledger_head.c.seq)).scalar_one())
    last = min(head, first + TOGETHER)
    if last <= first:
        return 0
    connection.execute(text(_statement(connection.dialect.name)), {"first": first, "last": last})
    connection.execute(text("UPDATE rolled SET seq = :last WHERE one = 1"), {"last": last})
    return last - first


def _statement(dialect: str) -> str:
    return (
        f"WITH fresh AS ({_fresh('seq > :first AND seq <= :last')}) "
        f"INSERT INTO rollups ({', '.join((*ROLLED, *_KEPT))}) "
        f"{' UNION ALL '.join(_of_kind(kind, dialect) for kind in KINDS)} "
        f"ON CONFLICT ({', '.join(ROLLED)}) DO UPDATE SET {_ADD}"
    )


def _fresh(which: str) -> str:
    """Sums of lines by all that is told apart."""
    every = ", ".join((*KINDS["whole"], "currency"))
    summed = ", ".join(f"{expression} AS {name}" for name, expression in _SUMS.items())
    return (
        f"SELECT at_ms / 86400000 AS number, {every}, {summed}, min(seq) AS first_seq, max(seq) AS last_seq "
        f"FROM records WHERE {which} GROUP BY at_ms / 86400000, {every}"
    )


def _of_kind(kind: str, dialect: str) -> str:
    """Sums of `fresh` as rows of a kind. `WHERE true`: SQLite would take the ON of what follows for a join's."""
    every, told = KINDS["whole"], KINDS[kind]
    groups = ", ".join(name if name in told else "''" for name in every)
    sums = ", ".join(f"sum({name})" for name in SUMS)
    return (
        f"SELECT '{kind}', {_NAMED[dialect]}, {groups}, currency, {sums}, min(first_seq), max(last_seq) "
        f"FROM fresh WHERE true GROUP BY number, {', '.join(told)}, currency"
    )


def days(connection: Connection) -> list[str]:
    """Days of which there are sums."""
    query = select(tables.totals.c.day).union(select(tables.rollups.c.day))
    return sorted(map(str, connection.execute(query).scalars()))


def wrong(connection: Connection, day: str) -> Iterator[tuple[Sequence[str], Sequence[int], Sequence[int]]]:
    """Where those of a day are not what its lines make them: (place, the lines say, they say).

    Of a day that is pruned, if only in part, the totals are all that they can be held against.

    Args:
        connection: in a snapshot.
        day: of `days`.
    """
    try:
        begins_ms = (date.fromisoformat(day) - date(1970, 1, 1)).days * DAY_MS
    except ValueError:
        begins_ms = -DAY_MS  # such a day has no lines
    facts = {"day": day, "begins": begins_ms, "ends": begins_ms + DAY_MS, "upto": rolled(connection)}
    pruned = tables.totals_pruned
    if connection.execute(select(pruned.c.day).where(pruned.c.day == day).limit(1)).first() is not None:
        yield from _off_totals(connection, facts)
        return
    width, half = len(ROLLED), len(ROLLED) + len(_KEPT)
    query = text(_comparison(connection.dialect.name)).execution_options(yield_per=200)
    for row in connection.execute(query, facts):
        lines, kept = (
            () if None in some else tuple(map(_whole, some)) for some in (row[width:half], row[half:])
        )
        yield tuple(str(name) for name in row[:width] if name), lines, kept


def _whole(value: Any) -> Any:
    """PostgreSQL adds whole numbers up to decimal ones; SQLite keeps whatever it is given."""
    return int(value) if isinstance(value, Decimal) else value


def _comparison(dialect: str) -> str:
    """Rows of a day that are not there twice with the same sums: as its lines make them, and as they are kept."""
    place = ", ".join(ROLLED)
    values = (f"max(CASE said WHEN {said} THEN {name} END)" for said in (0, 1) for name in _KEPT)
    lines = _fresh("at_ms >= :begins AND at_ms < :ends AND +seq <= :upto")
    made = " UNION ALL ".join(f"SELECT 0, one.* FROM ({_of_kind(kind, dialect)}) AS one" for kind in KINDS)
    return (
        f"WITH fresh AS ({lines}), both_of_them (said, {place}, {', '.join(_KEPT)}) AS "
        f"({made} UNION ALL SELECT 1, {place}, {', '.join(_KEPT)} FROM rollups WHERE day = :day) "
        f"SELECT {place}, {', '.join(values)} FROM both_of_them GROUP BY {place} "
        f"HAVING count(*) < 2 OR {' OR '.join(f'min({name}) <> max({name})' for name in _KEPT)}"
    )


def _off_totals(
    connection: Connection, facts: Mapping[str, Any]
) -> Iterator[tuple[Sequence[str], Sequence[int], Sequence[int]]]:
    for kind, told in KINDS.items():
        groups = ("day", *(name for name in told if name in tables.GROUPED), "currency")
        kept = _summed("totals WHERE day = :day", groups)
        ours = _summed(_with_rest(kind, groups, connection.dialect.name), groups)
        expected = _by_place(connection, f"{kept} EXCEPT {ours}", groups, facts)
        there = _by_place(connection, f"{ours} EXCEPT {kept}", groups, facts)
        for place in sorted(expected.keys() | there.keys()):
            yield (kind, *place), expected.get(place, ()), there.get(place, ())


def _with_rest(kind: str, groups: Sequence[str], dialect: str) -> str:
    """Those of a kind and a day, and the sums of the lines after them."""
    names, day = ", ".join(groups), _DAY[dialect]
    lines = (
        f"SELECT {day} AS {names}, {', '.join(_SUMS.values())} FROM records "
        f"WHERE at_ms >= :begins AND at_ms < :ends AND +seq > :upto GROUP BY {day}, {', '.join(groups[1:])}"
    )
    kept = f"SELECT {names}, {', '.join(SUMS)} FROM rollups WHERE kind = '{kind}' AND day = :day"
    return f"({kept} UNION ALL {lines}) AS both_of_them"


def _summed(source: str, groups: Sequence[str]) -> str:
    names = ", ".join(groups)
    return f"SELECT {names}, {', '.join(f'sum({name})' for name in SUMS)} FROM {source} GROUP BY {names}"


def _by_place(
    connection: Connection, query: str, groups: Sequence[str], facts: Mapping[str, Any]
) -> dict[tuple[str, ...], tuple[int, ...]]:
    rows = connection.execute(text(query), facts)
    width = len(groups)
    return {tuple(map(str, row[:width])): tuple(int(value or 0) for value in row[width:]) for row in rows}
