"""Jobs and comparisons that something may still happen to, in one look that costs the same however much was kept."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import text

from baimo.store.comparisons import WAITING
from baimo.store.engine import Database
from baimo.store.jobs import UNENDED


class Unended(NamedTuple):
    """A job or comparison that has not ended."""

    tenant: str
    id: str
    status: str
    last: int
    """Place of the last thing that was entered about it; 0 = nothing, or it is a comparison."""


class Look(NamedTuple):
    """What one look found."""

    jobs: list[Unended]
    """In the order of the queue."""
    comparisons: list[Unended]


class Kept(NamedTuple):
    """How much a tenant has of a kind, ended or not: what comes and ends between two looks shows here."""

    tenant: str
    many: int
    newest: str
    """Id."""


def _written(words: tuple[str, ...]) -> str:
    return ", ".join(f"'{one}'" for one in words)


# the statuses are written out: SQLite takes a partial index only for what it can read in the statement
_JOBS = text(
    "SELECT tenant, id, status, COALESCE((SELECT MAX(seq) FROM job_events WHERE job = jobs.id), 0) FROM jobs "
    f"WHERE status IN ({_written(tuple(one.value for one in UNENDED))}) ORDER BY created_ms, id"
)
_COMPARISONS = text(
    f"SELECT tenant, id, status, 0 FROM runs WHERE status IN ({_written(WAITING)}) ORDER BY id"
)
_KEPT = {
    table: text(f"SELECT tenant, COUNT(*), MAX(id) FROM {table} GROUP BY tenant ORDER BY tenant")
    for table in ("jobs", "runs")
}


def look(database: Database) -> Look:
    """Look once; blocks."""
    with database.reading() as connection:
        return Look(
            *([Unended(*row) for row in connection.execute(asked)] for asked in (_JOBS, _COMPARISONS))
        )


def kept(database: Database) -> tuple[list[Kept], list[Kept]]:
    """Jobs and comparisons that are kept; blocks, and reads an index from one end to the other."""
    with database.reading() as connection:
        jobs, runs = ([Kept(*row) for row in connection.execute(asked)] for asked in _KEPT.values())
    return jobs, runs
