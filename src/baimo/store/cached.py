"""Answers that tenants have paid for, kept to be given again.

Prevents two failures: a tenant gets another's answer (the tenant is part of the primary key and of every statement),
and an answer that was on its way here when its tenant was forgotten is there afterwards (whoever brings it says how
often that had happened when it was asked for).
"""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, select

from baimo.store import tables
from baimo.store.accounts import EVERYBODY, FORGOTTEN, holding_revision, raise_forgotten
from baimo.store.dialects import inserting
from baimo.store.engine import Database


class Found(NamedTuple):
    """What there is under a key."""

    data: bytes | None
    """The answer; None = there is none, or only one that is too old."""
    times: int
    """How often the tenant's answers have been deleted: a new one is kept as long as that is so."""


class Cached:
    """Keeps, finds and deletes answers. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        statement = inserting(database.dialect, tables.cache)
        newer = {name: statement.excluded[name] for name in ("at_ms", "data")}
        self._put: Any = statement.on_conflict_do_update(index_elements=["tenant", "hash"], set_=newer)

    def get(self, tenant: str, key: str, since_ms: int) -> Found:
        """This tenant's answer that is not from before `since_ms` (since 1970).

        Raises:
            StoreError: the database cannot be read.
        """
        table = tables.cache
        query = select(table.c.data).where(
            table.c.tenant == tenant, table.c.hash == key, table.c.at_ms >= since_ms
        )
        with self._database.reading() as connection:
            times = _times(connection, tenant)
            found = connection.execute(query).scalar()
        return Found(None if found is None else zlib.decompress(found), times)

    def put(self, tenant: str, key: str, at_ms: int, data: bytes, times: int) -> None:
        """Keep an answer, which takes the place of an older one, unless answers were deleted since `Found.times`.

        Raises:
            StoreError: the database cannot be written.
        """
        row = {"tenant": tenant, "hash": key, "at_ms": at_ms, "data": zlib.compress(data, 1)}
        with self._database.writing() as connection:
            holding_revision(connection)
            if _times(connection, tenant) == times:
                connection.execute(self._put, row)

    def expire(self, before_ms: int) -> int:
        """Delete what is older; how many answers that were."""
        with self._database.writing() as connection:
            done: Any = connection.execute(delete(tables.cache).where(tables.cache.c.at_ms < before_ms))
        return int(done.rowcount)

    def forget(self, tenant: str | None) -> int:
        """Delete everything of a tenant, or of all; how many answers that were. Running servers drop what they hold in
        memory a moment later."""
        table = tables.cache
        with self._database.writing() as connection:
            raise_forgotten(connection, EVERYBODY if tenant is None else tenant)
            which = () if tenant is None else (table.c.tenant == tenant,)
            done: Any = connection.execute(delete(table).where(*which))
        return int(done.rowcount)


def _times(connection: Connection, tenant: str) -> int:
    table = tables.revisions
    names = [f"{FORGOTTEN}{whose}" for whose in (tenant, EVERYBODY)]
    raised = select(func.coalesce(func.sum(table.c.revision), 0)).where(table.c.name.in_(names))
    return int(connection.execute(raised).scalar_one())
