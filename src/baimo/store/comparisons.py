"""Runs as a list that people page through, and as a queue that somebody looks after.

Prevents two failures: another tenant's run that is told from one that does not exist, and a run that goes from one
status to another while somebody else decides about it (every change names the statuses that it is meant for).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import msgspec
from sqlalchemy import Select, select, update

from baimo.core.ids import plain
from baimo.core.run import Run
from baimo.core.verdict import Verdict
from baimo.store import tables
from baimo.store.engine import Database
from baimo.typed import from_json

Order = Literal["newest", "oldest", "task"]
WAITING = ("queued", "running")
"""Statuses of runs that something may still happen to."""


class Entered(NamedTuple):
    """A run with what came of it."""

    run: Run
    verdict: Verdict | None


class Comparisons:
    """Reads and changes runs. Every method is one transaction; all block."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(
        self,
        tenant: str | None,
        *,
        limit: int,
        task: str | None = None,
        status: Collection[str] = (),
        order: Order = "newest",
        after: str | None = None,
    ) -> list[Entered] | None:
        """Some runs.

        Args:
            tenant: whose; None = everybody's, for who runs the machine.
            limit: most that are wanted.
            task: only of this task.
            status: only of these statuses; empty = all.
            order: newest or oldest first, or by task with the newest of each first.
            after: id of the last one that is known already; None = begin.

        Returns:
            None when there is no run `after`.
        """
        table = tables.runs
        query: Any = select(table.c.run, table.c.verdict).limit(limit)
        query = query if tenant is None else query.where(table.c.tenant == tenant)
        query = query if task is None else query.where(table.c.task == task)
        query = query.where(table.c.status.in_(status)) if status else query
        with self._database.reading() as connection:
            if after is not None:
                last = connection.execute(select(table.c.id, table.c.task).where(table.c.id == after)).first()
                if last is None:
                    return None
                query = _behind(query, order, last.id, last.task)
            return [_entered(row) for row in connection.execute(_ordered(query, order))]

    def get(self, tenant: str | None, id: str) -> Entered | None:
        """A tenant's run, of None anybody's; None when there is none, or it is another's."""
        table = tables.runs
        query: Any = select(table.c.run, table.c.verdict).where(table.c.id == id)
        query = query if tenant is None else query.where(table.c.tenant == tenant)
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else _entered(row)

    def waiting(self) -> list[Run]:
        """Runs of everybody that are queued, or are said to run; the oldest first."""
        table = tables.runs
        query = select(table.c.run).where(table.c.status.in_(WAITING)).order_by(table.c.id)
        with self._database.reading() as connection:
            return [from_json(found, Run) for found in connection.execute(query).scalars()]

    def change(self, id: str, when: Collection[str], **facts: Any) -> Run | None:
        """Change a run while its status is one of `when`; it as it is then, or None."""
        table = tables.runs
        lock = self._database.dialect == "postgresql"
        query = select(table.c.run).where(table.c.id == id, table.c.status.in_(when))
        with self._database.writing() as connection:
            found = connection.execute(query.with_for_update() if lock else query).scalar()
            if found is None:
                return None
            run = replace(from_json(found, Run), **facts)
            values = {
                "status": run.status,
                "ended_ms": run.ended_ms,
                "run": msgspec.json.encode(plain(run)).decode(),
            }
            connection.execute(update(table).where(table.c.id == id).values(values))
        return run


def _ordered(query: Select[Any], order: Order) -> Select[Any]:
    table = tables.runs
    if order == "task":
        return query.order_by(table.c.task, table.c.id.desc())
    return query.order_by(table.c.id if order == "oldest" else table.c.id.desc())


def _behind(query: Select[Any], order: Order, id: str, task: str) -> Select[Any]:
    table = tables.runs
    if order == "oldest":
        return query.where(table.c.id > id)
    if order == "task":
        same = (table.c.task == task) & (table.c.id < id)
        return query.where((table.c.task > task) | same)
    return query.where(table.c.id < id)


def _entered(row: Any) -> Entered:
    verdict = None if row.verdict is None else from_json(row.verdict, Verdict)
    return Entered(from_json(row.run, Run), verdict)
