"""Batches: what was ordered, how far it is, and which process works on it.

Prevents two failures: two processes that answer, and bill, the same batch (a process takes a batch by writing its
name beside it, and the others leave it alone as long as that process is among the living), and progress that
overwrites a wish to cancel (every change reads the row that it changes, in one transaction).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Row, insert, select, update

from baimo.core.ids import plain, sortable_id
from baimo.store import tables
from baimo.store.engine import Database

Status = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
ACTIVE: tuple[Status, ...] = ("validating", "in_progress", "finalizing", "cancelling")


@dataclass(frozen=True, slots=True, kw_only=True)
class LineError:
    """Why an input file cannot be used."""

    code: str
    """For programs: invalid_json_line, duplicate_custom_id …"""
    message: str
    """For people."""
    line: int | None = None
    """Counted from 1; None = it is not about one line."""
    param: str | None = None
    """Field of the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """An order to answer every line of a file. Times are milliseconds since 1970; 0 = not yet."""

    id: str
    """batch_… sortable by time; `Record.run` of its calls."""
    tenant: str
    """Tenant.id that pays; empty = the workspace's owner."""
    key: str
    """Public part of the key that ordered it, and whose rights and limits hold."""
    surface: Literal["batches", "message_batches"] = "batches"
    """The API that it was ordered through: OpenAI's or Anthropic's."""
    endpoint: str
    """Path of the operation: /v1/chat/completions …"""
    input_file: str
    """StoredFile.id."""
    status: Status = "validating"
    """As OpenAI names it."""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    """The client's labels."""
    created_ms: int
    expires_ms: int
    """What has not begun by then is not begun any more."""
    in_progress_ms: int = 0
    finalizing_ms: int = 0
    cancelling_ms: int = 0
    ended_ms: int = 0
    """When it was completed, failed, expired or cancelled."""
    output_file: str = ""
    """Id of the file with the answers, from the moment at which it is begun."""
    error_file: str = ""
    """Id of the file with the lines that failed, likewise."""
    output_lives_s: int | None = None
    """How long both are kept; None = 30 days."""
    errors: tuple[LineError, ...] = ()
    """Why it failed."""
    model: str = ""
    """Name that all lines ask for; empty = they ask for several."""
    total: int = 0
    """Lines."""
    completed: int = 0
    """Lines that were answered."""
    failed: int = 0
    """Lines that were not."""
    unexecuted: int = 0
    """Of these, lines that were never begun because it was cancelled or its time was over."""
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    tokens_reasoning: int = 0
    """Of the answered lines, as far as they say."""

    @property
    def active(self) -> bool:
        """Whether there is something left to do."""
        return self.status in ACTIVE


class Batches:
    """Reads and changes batches. Every method is one transaction; all block."""

    def __init__(self, database: Database, now_ms: Callable[[], int] | None = None) -> None:
        """
        Args:
            database: where they are kept.
            now_ms: wall clock, milliseconds since 1970.
        """
        self._database = database
        self.now_ms = now_ms or (lambda: time.time_ns() // 1_000_000)

    def new_id(self, prefix: str = "batch") -> str:
        """An id that nobody has."""
        return sortable_id(prefix, self.now_ms(), os.urandom(7))

    def add(self, batch: Batch) -> None:
        """Enter a new one."""
        with self._database.writing() as connection:
            connection.execute(insert(tables.batches).values({**_row(batch), "holder": ""}))

    def get(self, tenant: str, id: str) -> Batch | None:
        """A tenant's batch; None when there is none, or it is another's."""
        with self._database.reading() as connection:
            return _batch(_found(connection, tenant, id))

    def page(
        self, tenant: str, *, surface: str, limit: int, after: str = "", before: str = ""
    ) -> list[Batch]:
        """A tenant's batches of one API, the newest first.

        Args:
            tenant: whose.
            surface: batches or message_batches.
            limit: most that are wanted.
            after: id of the last one that is known already; empty = begin with the newest.
            before: id of the first one that is known; the page is the one before it.
        """
        table = tables.batches
        query = select(table.c.batch).where(table.c.tenant == tenant, table.c.surface == surface)
        if before:
            query = query.where(table.c.id > before).order_by(table.c.id)
        else:
            query = query.where(table.c.id < after) if after else query
            query = query.order_by(table.c.id.desc())
        with self._database.reading() as connection:
            found = [_decoded(row[0]) for row in connection.execute(query.limit(limit))]
        return found[::-1] if before else found

    def using(self, tenant: str, file: str) -> Batch | None:
        """A batch that still needs this file."""
        table = tables.batches
        query = select(table.c.batch).where(table.c.tenant == tenant, table.c.status.in_(ACTIVE))
        with self._database.reading() as connection:
            active = [_decoded(row[0]) for row in connection.execute(query)]
        return next(
            (one for one in active if file in (one.input_file, one.output_file, one.error_file)), None
        )

    def delete(self, tenant: str, id: str) -> None:
        """Forget one that has ended."""
        table = tables.batches
        ended = table.c.status.not_in(ACTIVE)
        with self._database.writing() as connection:
            connection.execute(table.delete().where(table.c.tenant == tenant, table.c.id == id, ended))

    # whose turn it is

    def claim(self, holder: str, wanted: Callable[[Batch], bool]) -> Batch | None:
        """Take the oldest batch that no living process works on.

        Args:
            holder: `Books.holder` of this process: its heartbeat is kept there.
            wanted: whether this process can work on it now.
        """
        table, holders = tables.batches, tables.holders
        free = table.c.holder.not_in(select(holders.c.id))
        query = select(table.c.batch).where(table.c.status.in_(ACTIVE), free).order_by(table.c.id)
        with self._database.reading() as connection:  # most looks find nothing, and take no lock
            if connection.execute(query.limit(1)).first() is None:
                return None
        with self._database.writing() as connection:
            if self._database.dialect == "postgresql":
                query = query.with_for_update(skip_locked=True)
            for found in (_decoded(row[0]) for row in connection.execute(query).all()):
                if wanted(found):
                    which = (table.c.tenant == found.tenant, table.c.id == found.id)
                    connection.execute(update(table).where(*which).values(holder=holder))
                    return found
        return None

    def release(self, holder: str, batch: Batch) -> None:
        """Let another process go on with it."""
        table = tables.batches
        which = (table.c.tenant == batch.tenant, table.c.id == batch.id, table.c.holder == holder)
        with self._database.writing() as connection:
            connection.execute(update(table).where(*which).values(holder=""))

    def change(
        self, tenant: str, id: str, changed: Callable[[Batch], Batch], *, holder: str | None = None
    ) -> Batch | None:
        """Change a batch.

        Args:
            tenant: whose.
            id: its id.
            changed: given it as it is now; what it returns is kept.
            holder: only while this process works on it.

        Returns:
            It as it is afterwards; None when there is none, or another process works on it.
        """
        table = tables.batches
        with self._database.writing() as connection:
            row = _found(connection, tenant, id, lock=self._database.dialect == "postgresql")
            before = _batch(row)
            if row is None or before is None or (holder is not None and row.holder != holder):
                return None
            after = changed(before)
            if after != before:
                which = (table.c.tenant == tenant, table.c.id == id)
                connection.execute(update(table).where(*which).values(_row(after)))
        return after


def _found(connection: Connection, tenant: str, id: str, *, lock: bool = False) -> Row[Any] | None:
    table = tables.batches
    query = select(table).where(table.c.tenant == tenant, table.c.id == id)
    return connection.execute(query.with_for_update() if lock else query).first()


def _batch(row: Row[Any] | None) -> Batch | None:
    return None if row is None else _decoded(row.batch)


def _decoded(text: str) -> Batch:
    return msgspec.json.decode(text, type=Batch)


def _row(batch: Batch) -> dict[str, str]:
    facts = {name: getattr(batch, name) for name in ("tenant", "id", "surface", "status")}
    return {**facts, "batch": msgspec.json.encode(plain(batch)).decode()}
