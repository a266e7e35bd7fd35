"""Answers that tenants have paid for, kept to be given again.

Prevents the failure where one tenant gets another's answer: the tenant is part of the primary key and of every
statement.
"""

from __future__ import annotations

import zlib
from typing import Any

from sqlalchemy import delete, select

from baimo.store import tables
from baimo.store.dialects import inserting
from baimo.store.engine import Database


class Cached:
    """Keeps, finds and deletes answers. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        statement = inserting(database.dialect, tables.cache)
        newer = {name: statement.excluded[name] for name in ("at_ms", "data")}
        self._put: Any = statement.on_conflict_do_update(index_elements=["tenant", "hash"], set_=newer)

    def get(self, tenant: str, key: str, since_ms: int) -> bytes | None:
        """What this tenant's answer is; None when there is none, or only one from before `since_ms` (since 1970).

        Raises:
            StoreError: the database cannot be read.
        """
        table = tables.cache
        query = select(table.c.data).where(
            table.c.tenant == tenant, table.c.hash == key, table.c.at_ms >= since_ms
        )
        with self._database.reading() as connection:
            found = connection.execute(query).scalar()
        return None if found is None else zlib.decompress(found)

    def put(self, tenant: str, key: str, at_ms: int, data: bytes) -> None:
        """Keep an answer; it takes the place of an older one.

        Raises:
            StoreError: the database cannot be written.
        """
        row = {"tenant": tenant, "hash": key, "at_ms": at_ms, "data": zlib.compress(data, 1)}
        with self._database.writing() as connection:
            connection.execute(self._put, row)

    def expire(self, before_ms: int) -> int:
        """Delete what is older; how many answers that were."""
        with self._database.writing() as connection:
            done: Any = connection.execute(delete(tables.cache).where(tables.cache.c.at_ms < before_ms))
        return int(done.rowcount)

    def forget(self, tenant: str) -> int:
        """Delete everything of a tenant; how many answers that were."""
        with self._database.writing() as connection:
            done: Any = connection.execute(delete(tables.cache).where(tables.cache.c.tenant == tenant))
        return int(done.rowcount)
