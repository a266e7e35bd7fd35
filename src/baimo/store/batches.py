"""Batches: what was ordered, and how far it is; which process works on it, `held` says."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy import insert, select

from baimo.core.ids import sortable_id
from baimo.core.tenant import DataClass
from baimo.store import tables
from baimo.store.engine import Database
from baimo.store.held import HeldOrders

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
    data_class: DataClass = "public"
    """Of its lines, where key and tenant do not want a stricter one."""
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


class Batches(HeldOrders[Batch]):
    """Reads and changes batches. Every method is one transaction; all block.

    Args:
        database: where they are kept.
        now_ms: wall clock, milliseconds since 1970.
    """

    def __init__(self, database: Database, now_ms: Callable[[], int] | None = None) -> None:
        beside = ("tenant", "id", "surface", "status")
        super().__init__(
            database, tables.batches, Batch, column="batch", beside=beside, active=ACTIVE, now_ms=now_ms
        )

    def new_id(self, prefix: str = "batch") -> str:
        """An id that nobody has."""
        return sortable_id(prefix, self.now_ms(), os.urandom(7))

    def add(self, batch: Batch) -> None:
        """Enter a new one."""
        with self._database.writing() as connection:
            connection.execute(insert(tables.batches).values({**self._row(batch), "holder": ""}))

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
            found = [self._decoded(row) for row in connection.execute(query.limit(limit))]
        return found[::-1] if before else found

    def using(self, tenant: str, file: str) -> Batch | None:
        """A batch that still needs this file."""
        table = tables.batches
        query = select(table.c.batch).where(table.c.tenant == tenant, table.c.status.in_(ACTIVE))
        with self._database.reading() as connection:
            active = [self._decoded(row) for row in connection.execute(query)]
        return next(
            (one for one in active if file in (one.input_file, one.output_file, one.error_file)), None
        )

    def delete(self, tenant: str, id: str) -> None:
        """Forget one that has ended."""
        table = tables.batches
        ended = table.c.status.not_in(ACTIVE)
        with self._database.writing() as connection:
            connection.execute(table.delete().where(table.c.tenant == tenant, table.c.id == id, ended))
