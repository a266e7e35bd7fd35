"""Prompts and answers of tenants that opted in: kept sealed beside the ledger, deleted without breaking it.

Prevents three failures: a ledger that cannot be verified any more because somebody asked for their data to be deleted
(the chain holds a hash of what was kept, never the thing), a deleted answer that can still be guessed from that hash (a
random salt is sealed in, and deleted with it), and one that a journal brings back (of calls that began before their
tenant was forgotten nothing is kept).
"""

from __future__ import annotations

import hashlib
import secrets
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Table, delete, func, insert, select
from sqlalchemy.sql import ColumnElement

from baimo.core.moments import DAY_MS
from baimo.store import audit, tables
from baimo.store.accounts import EVERYBODY, forget_until, raise_forgotten
from baimo.store.audit import Actor
from baimo.store.chain import locked_head
from baimo.store.shelf import Shelf
from baimo.typed import from_json

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
        table = tables.contents
        query = select(func.count()).select_from(table).where(*_which(tenant, before_ms, None, table))
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
        with self._database.writing() as connection:
            if record is None:
                now_ms = self.now_ms()
                until_ms = now_ms if before_ms is None else min(now_ms, before_ms - 1)
                forget_until(connection, EVERYBODY if tenant is None else tenant, until_ms)
                locked_head(connection)
            gone = dropped(connection, partial(_which, tenant, before_ms, record))
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
            raise_forgotten(connection, tenant)  # first: who keeps an answer at this moment waits
            forget_until(connection, tenant, self.now_ms())
            # what is on its way out of a journal is here by now, or never will be
            locked_head(connection)
            jobs, events = tables.jobs, tables.job_events
            its = select(jobs.c.id).where(jobs.c.tenant == tenant)
            runs, samples = tables.runs, tables.samples
            compared = select(runs.c.id).where(runs.c.tenant == tenant)
            connection.execute(compared.with_for_update())  # who adds to one of them waits, or we do
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
            gone["blobs"] = _unnamed(connection)
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
        now_ms = self.now_ms()

        def others(table: Table) -> list[ColumnElement[bool]]:
            old = _which(None, now_ms - days * DAY_MS, None, table)
            return [*old, table.c.tenant.not_in(list(days_of))]

        with self._database.writing() as connection:
            gone = dropped(connection, others)
            for tenant, own in days_of.items():
                gone += dropped(connection, partial(_which, tenant, now_ms - own * DAY_MS, None))
        return gone

    def _emptied_log(self) -> None:
        """The write-ahead log holds older pages until it is emptied; while others read, it waits for the next time."""
        if self._database.dialect == "sqlite":
            with self._database.reading() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def _unnamed(connection: Connection) -> int:
    """Delete tasks of comparisons that are gone; how many there were."""
    runs, blobs = tables.runs, tables.blobs
    named: set[str] = set()
    for run in connection.execute(select(runs.c.run)).scalars():
        with suppress(msgspec.DecodeError):  # a broken row must not keep the others
            named.add(from_json(run, _Named).task_blob)
    left = [hash for hash in connection.execute(select(blobs.c.hash)).scalars() if hash not in named]
    for hash in left:
        connection.execute(delete(blobs).where(blobs.c.hash == hash))
    return len(left)


class _Named(msgspec.Struct):
    """The part of a run that names its task."""

    task_blob: str = ""


def dropped(connection: Connection, which: Callable[[Table], Iterable[ColumnElement[bool]]]) -> int:
    """Delete contents, and how they were labelled by who stored them; returns how many contents there were."""
    contents, labels = tables.contents, tables.stored_completions
    # contents first: who enters labels waits, or we do
    gone = connection.execute(delete(contents).where(*which(contents)))
    connection.execute(delete(labels).where(*which(labels)))
    return int(gone.rowcount)


def _which(
    tenant: str | None, before_ms: int | None, record: str | None, table: Table
) -> list[ColumnElement[bool]]:
    conditions: list[Any] = []
    if tenant is not None:
        conditions.append(table.c.tenant == tenant)
    if before_ms is not None:
        at_ms = table.c.at_ms if table is tables.contents else table.c.created_ms
        conditions.append(at_ms < before_ms)
    if record is not None:
        conditions.append(table.c.record == record)
    return conditions
