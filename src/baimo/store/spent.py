"""How much of a limit is used in the window that runs now, as the database knows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import func, select

from baimo.core.tenant import Limit
from baimo.store import tables
from baimo.store.buckets import bucket_of, window_end_ms
from baimo.store.engine import Database

_TOGETHER = 500
"""Buckets in one question."""


class Spent(NamedTuple):
    """One limit in its present window. Amounts as in `Limit.amount`."""

    limit: Limit
    used: int
    """By calls that have ended."""
    held: int
    """Set aside by running gateways for calls under way and next."""
    ends_ms: int
    """First millisecond after the window; far away for total."""


def spent(database: Database, scope: str, name: str, limits: Sequence[Limit], now_ms: int) -> list[Spent]:
    """The use of some limits; 0 where no call has come near one in this window.

    Args:
        database: where the meters are.
        scope: key, tenant, model or route.
        name: Key.meter, Tenant.id, the model's or the route's name.
        limits: its limits.
        now_ms: wall clock.
    """
    return spent_by_all(database, [(scope, name, limits)], now_ms)[0]


def spent_by_all(
    database: Database, whose: Sequence[tuple[str, str, Sequence[Limit]]], now_ms: int
) -> list[list[Spent]]:
    """The same of many: scope, name and limits of each; all as they are at one moment."""
    buckets = [[bucket_of(scope, name, limit, now_ms) for limit in limits] for scope, name, limits in whose]
    every = [bucket for some in buckets for bucket in some]
    meters, leases = tables.meters, tables.leases
    used: dict[str, int] = {}
    held: dict[str, int] = {}
    with database.snapshot() as connection:
        for start in range(0, len(every), _TOGETHER):
            some = every[start : start + _TOGETHER]
            found = connection.execute(
                select(meters.c.bucket, meters.c.used).where(meters.c.bucket.in_(some))
            )
            used.update((str(row[0]), int(row[1])) for row in found)
            query = select(leases.c.bucket, func.sum(leases.c.amount)).where(leases.c.bucket.in_(some))
            found = connection.execute(query.group_by(leases.c.bucket))
            held.update((str(row[0]), int(row[1])) for row in found)
    return [
        [
            Spent(limit, used.get(bucket, 0), held.get(bucket, 0), window_end_ms(limit.window, now_ms))
            for limit, bucket in zip(limits, some, strict=True)
        ]
        for (_, _, limits), some in zip(whose, buckets, strict=True)
    ]


def used_of(database: Database, buckets: Sequence[str]) -> dict[str, int]:
    """What ended calls have used of some buckets; those that no call has come near are left out."""
    found: dict[str, int] = {}
    meters = tables.meters
    with database.reading() as connection:
        for start in range(0, len(buckets), _TOGETHER):
            some = buckets[start : start + _TOGETHER]
            rows = connection.execute(select(meters.c.bucket, meters.c.used).where(meters.c.bucket.in_(some)))
            found.update((str(row[0]), int(row[1])) for row in rows)
    return found
