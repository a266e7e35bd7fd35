"""Clears away the buckets of windows that are long over; the Records that were charged to them stay."""

from __future__ import annotations

from sqlalchemy import delete, select

from baimo.store import tables
from baimo.store.buckets import parsed
from baimo.store.chain import locked_head
from baimo.store.engine import Database

KEPT_MS = {"minute": 2 * 3_600_000, "hour": 2 * 86_400_000, "day": 62 * 86_400_000}
"""How long after its end; months and totals are kept for good."""


def clear(database: Database, now_ms: int) -> int:
    """Delete old buckets that nobody holds; returns how many."""
    table = tables.meters
    old: list[str] = []
    with database.reading() as connection:
        for window, kept_ms in KEPT_MS.items():
            names = connection.execute(select(table.c.bucket).where(table.c.bucket.like(f"%:{window}:%")))
            old += [name for name in names.scalars() if _ends(name, window) + kept_ms < now_ms]
    held = select(tables.leases.c.bucket)
    gone = 0
    for start in range(0, len(old), 500):
        with database.writing() as connection:
            locked_head(connection)
            some = table.c.bucket.in_(old[start : start + 500])
            gone += int(connection.execute(delete(table).where(some, table.c.bucket.not_in(held))).rowcount)
    return gone


def _ends(name: str, window: str) -> int:
    bucket = parsed(name)
    return bucket.ends_ms if bucket.window == window else 1 << 62
