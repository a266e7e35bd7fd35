"""Prompts and answers of tenants that opted in: kept sealed beside the ledger, deleted without breaking it.

Prevents two failures: a ledger that cannot be verified any more because somebody asked for their data to be deleted
(the chain holds a hash of what was kept, never the thing), and a deleted answer that can still be guessed from that
hash (a random salt is sealed in, and deleted with it).
"""

from __future__ import annotations

import hashlib
import secrets
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, insert, select
from sqlalchemy.sql import ColumnElement

from baimo.core.moments import DAY_MS
from baimo.store import audit, tables
from baimo.store.accounts import raise_forgotten
from baimo.store.audit import Actor
from baimo.store.shelf import Shelf

SALT_BYTES = 16
KEPT = frozenset({"records", "totals", "totals_pruned", "rollups", "tenants", "keys", "audit"})
"""Tables that name a tenant and stay when it is forgotten: they hold what was paid, and who may, but nothing that was
said. Every other table with a column `tenant` is emptied, so that a new one cannot be overlooked."""


class Sealed(NamedTuple):
    """A content as it is kept, and the hash that the Record carries."""

    hash: str
    """SHA-256 of `stored`: `Record.content_hash`."""
    stored: bytes
    """Salt, then the content, compressed."""


class Kept(NamedTuple):
    """One content on its way into the table."""

    record: str
    """Record.id."""
    tenant: str
    at_ms: int
    """Record.at_ms."""
    hash: str
    content: bytes
    """Sealed.stored."""


def sealed(content: bytes) -> Sealed:
    """Salt, compress and hash a prompt and its answer."""
    stored = secrets.token_bytes(SALT_BYTES) + zlib.compress(content, 1)
    return Sealed(hashlib.sha256(stored).hexdigest(), stored)


def opened(stored: bytes) -> bytes:
    """What was sealed."""
    return zlib.decompress(memoryview(stored)[SALT_BYTES:])


def put(connection: Connection, contents: Iterable[Kept]) -> None:
    """Keep contents, in the transaction that appends their Records."""
    rows = [content._asdict() for content in contents]
    if rows:
        connection.execute(insert(tables.contents), rows)


class Contents(Shelf):
    """Reads and deletes what is kept."""

    def content(self, record: str, *, tenant: str | None = None) -> bytes | None:
        """The prompt and answer of a Record; None when none was kept or it has been deleted.

        Args:
            record: Record.id.
            tenant: whose it must be, so that nobody reads another's; None = anybody's.
        """
        table = tables.contents
        query = select(table.c.content).where(table.c.record == record)
        if tenant is not None:
            query = query.where(table.c.tenant == tenant)
        with self._database.reading() as connection:
            found = connection.execute(query).scalar()
        return None if found is None else opened(bytes(found))

    def count(self, *, tenant: str | None = None, before_ms: int | None = None) -> int:
        """How many are kept."""
        query = select(func.count()).select_from(tables.contents).where(*_which(tenant, before_ms))
        with self._database.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def forget(
        self,
        *,
        tenant: str | None = None,
        before_ms: int | None = None,
        record: str | None = None,
        by: Actor = Actor(),
    ) -> int:
        """Delete contents, overwriting them in the file; the Records and the chain stay.

        Args:
            tenant: whose; None = everybody's.
            before_ms: only of Records settled before that.
            record: only of this Record.
            by: who acts.

        Returns:
            How many were deleted.
        """
        table = tables.contents
        which = _which(tenant, before_ms, record)
        with self._database.writing() as connection:
            self._overwriting(connection)
            gone = int(connection.execute(delete(table).where(*which)).rowcount)
            facts = {"deleted": gone, "before_ms": before_ms, "record": record}
            said = {name: value for name, value in facts.items() if value is not None}
            audit.enter(connection, by, "contents.forget", tenant or "", said, self.now_ms())
        self._emptied_log()
        return gone

    def forget_tenant(
        self, tenant: str, by: Actor = Actor(), before: Mapping[str, int] | None = None
    ) -> dict[str, int]:
        """Delete everything that a tenant's calls said and were answered: contents, kept responses, cached answers.
        Running servers drop what they hold in memory of the last a moment later.

        Args:
            tenant: its id.
            by: who acts.
            before: what was deleted just before, to be counted with it: table → rows.

        Returns:
            What was deleted: table → rows.
        """
        with self._database.writing() as connection:
            self._overwriting(connection)
            raise_forgotten(connection, tenant)  # first: who keeps an answer at this moment waits
            jobs, events = tables.jobs, tables.job_events
            its = select(jobs.c.id).where(jobs.c.tenant == tenant)
            runs, samples = tables.runs, tables.samples
            compared = select(runs.c.id).where(runs.c.tenant == tenant)
            evaluated, votes = tables.evaluation_runs, tables.votes
            statements = {
                "job_events": delete(events).where(events.c.job.in_(its)),
                "samples": delete(samples).where(samples.c.run.in_(compared)),
                # before what belongs to them: whoever adds to one waits, and then finds none
                "evaluation_runs": delete(evaluated).where(evaluated.c.tenant == tenant),
                "votes": delete(votes).where(votes.c.tenant == tenant),
            }
            for table in tables.metadata.sorted_tables:
                if "tenant" in table.c and table.name not in KEPT:
                    statements[table.name] = delete(table).where(table.c.tenant == tenant)
            gone = {
                name: int(connection.execute(statement).rowcount) + (before or {}).get(name, 0)
                for name, statement in statements.items()
            }
            facts = {"deleted": gone}
            audit.enter(connection, by, "tenant.forget", tenant, facts, self.now_ms())
        self._emptied_log()
        return gone

    def expire(self, days: int, days_of: Mapping[str, int]) -> int:
        """Delete what is older than its tenant wants it kept.

        Args:
            days: for tenants that say nothing.
            days_of: tenant → days.

        Returns:
            How many were deleted.
        """
        table, now_ms, gone = tables.contents, self.now_ms(), 0
        others = table.c.tenant.not_in(list(days_of))
        ages = [(others, days), *((table.c.tenant == tenant, own) for tenant, own in days_of.items())]
        with self._database.writing() as connection:
            self._overwriting(connection)
            for whose, kept_days in ages:
                old = table.c.at_ms < now_ms - kept_days * DAY_MS
                gone += int(connection.execute(delete(table).where(whose, old)).rowcount)
        return gone

    def _overwriting(self, connection: Connection) -> None:
        """Deleted pages are filled with zeros. PostgreSQL does as much when it vacuums."""
        if self._database.dialect == "sqlite":
            connection.exec_driver_sql("PRAGMA secure_delete=ON")

    def _emptied_log(self) -> None:
        """The write-ahead log holds older pages until it is emptied; while others read, it waits for the next time."""
        if self._database.dialect == "sqlite":
            with self._database.reading() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def _which(tenant: str | None, before_ms: int | None, record: str | None = None) -> list[ColumnElement[bool]]:
    table = tables.contents
    conditions: list[Any] = []
    if tenant is not None:
        conditions.append(table.c.tenant == tenant)
    if before_ms is not None:
        conditions.append(table.c.at_ms < before_ms)
    if record is not None:
        conditions.append(table.c.record == record)
    return conditions
