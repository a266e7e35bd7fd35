"""How long answers took: percentiles of the newest calls, so that a question over a million lines stays quick."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

from sqlalchemy import select

from baimo.store import tables
from baimo.store.engine import Database
from baimo.store.filters import Filters, conditions

NEWEST = 10_000
"""Calls that percentiles are taken of, from the newest backwards."""
WITHIN = 50_000
"""Lines among which they are looked for, so that a rare key does not cost a walk through the whole ledger."""
TOGETHER = 10_000
"""Lines that are read at once: forwards, for files are read ahead that way only."""
GROUPS = ("model", "key", "tenant", "surface", "route", "model_used")


class Latency(NamedTuple):
    """Of one group. Milliseconds; None = no call says."""

    group: str
    calls: int
    """That were looked at and say how long they took."""
    p50: float | None
    p90: float | None
    p99: float | None
    first_p50: float | None
    """Until the first byte of the answer."""
    first_p90: float | None


class Latencies(NamedTuple):
    """All groups, and what they stand on."""

    groups: list[Latency]
    """The one with most calls first."""
    looked_at: int
    """Calls."""
    all: bool
    """These are all that were asked for, and not the newest of them."""


def latencies(
    database: Database,
    by: str,
    filters: Filters,
    *,
    newest: int = NEWEST,
    within: int = WITHIN,
    together: int = TOGETHER,
) -> Latencies:
    """Percentiles of the newest calls.

    Args:
        database: whose ledger.
        by: one of `GROUPS`.
        filters: which calls.
        newest: most calls that are looked at.
        within: lines, from the newest backwards, among which they are looked for.
        together: lines that are read at once.
    """
    table, head = tables.records, tables.ledger_head
    columns = (table.c[by], table.c.latency_ms, table.c.first_byte_ms)
    with database.reading() as connection:
        last = int(connection.execute(select(head.c.seq)).scalar_one())
        floor = max(0, last - within)
        before = connection.execute(select(table.c.at_ms).where(table.c.seq == floor)).scalar()
        query = select(*columns).where(*conditions(database.dialect, filters)).order_by(table.c.seq)
        rows: list[Any] = []
        while last > floor and len(rows) < newest:
            begin = max(floor, last - together)
            rows[:0] = connection.execute(query.where(table.c.seq > begin, table.c.seq <= last)).all()
            last = begin
        rows = rows[-newest:]
    every = before is None or (filters.since_ms is not None and before < filters.since_ms)
    whole: dict[str, list[float]] = defaultdict(list)
    first: dict[str, list[float]] = defaultdict(list)
    for group, latency_ms, first_ms in rows:
        if latency_ms is not None:
            whole[group].append(latency_ms)
        if first_ms is not None:
            first[group].append(first_ms)
    found = [_latency(group, sorted(whole[group]), sorted(first[group])) for group in {*whole, *first}]
    found.sort(key=lambda one: (-one.calls, one.group))
    return Latencies(found, len(rows), every and len(rows) < newest)


def _latency(group: str, whole: list[float], first: list[float]) -> Latency:
    shares = (_at(whole, 0.5), _at(whole, 0.9), _at(whole, 0.99))
    return Latency(group, len(whole), *shares, _at(first, 0.5), _at(first, 0.9))


def _at(ordered: list[float], share: float) -> float | None:
    """Nearest rank: the smallest value that at least this share of all do not exceed."""
    if not ordered:
        return None
    return ordered[max(0, -(-len(ordered) * round(share * 100) // 100) - 1)]
