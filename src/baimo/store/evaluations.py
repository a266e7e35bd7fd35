"""Evaluations of OpenAI's evals API: what is asked of answers. Their runs are in `evaluation_runs`.

Prevents the failure where one tenant reads what another asks of its models: every statement names the tenant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from sqlalchemy import delete, insert, select, update

from baimo.core.ids import plain
from baimo.core.tenant import DataClass
from baimo.store import tables
from baimo.store.shelf import Shelf
from baimo.typed import from_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What is asked of answers."""

    id: str
    """eval_… sortable by time."""
    tenant: str
    """Tenant.id; empty = the workspace's owner."""
    key: str = ""
    """Public part of the key that made it."""
    name: str
    """For people."""
    source: Mapping[str, Any]
    """data_source_config as the client sent it."""
    criteria: tuple[Mapping[str, Any], ...]
    """testing_criteria as the client sent them, each with a name of its own."""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    """The client's labels."""
    data_class: DataClass = "public"
    """Of its criteria."""
    created_ms: int
    """Wall clock, milliseconds since 1970."""
    updated_ms: int
    """When name or labels changed."""


class Evaluations(Shelf):
    """Reads and changes evaluations. Every method is one transaction; all block."""

    prefix = "eval"

    def add(self, evaluation: Evaluation) -> None:
        """Enter a new one."""
        with self._database.writing() as connection:
            connection.execute(insert(tables.evaluations).values(_evaluation_row(evaluation)))

    def get(self, tenant: str, id: str) -> Evaluation | None:
        """A tenant's evaluation; None when there is none, or it is another's."""
        table = tables.evaluations
        query = select(table.c.evaluation).where(table.c.tenant == tenant, table.c.id == id)
        with self._database.reading() as connection:
            found = connection.execute(query).scalar()
        return None if found is None else from_json(found, Evaluation)

    def page(
        self,
        tenant: str,
        *,
        limit: int,
        after: str = "",
        ascending: bool = True,
        by: Literal["created_at", "updated_at"] = "created_at",
    ) -> list[Evaluation]:
        """A tenant's evaluations in the order of their making or of their last change.

        Args:
            tenant: whose.
            limit: most that are wanted.
            after: id of the last one that is known already; empty = begin.
            ascending: the oldest first.
            by: which time decides.
        """
        table = tables.evaluations
        query = select(table.c.evaluation).where(table.c.tenant == tenant)
        order = [table.c.id] if by == "created_at" else [table.c.updated_ms, table.c.id]
        if after and by == "created_at":
            query = query.where(table.c.id > after if ascending else table.c.id < after)
        elif after:
            known = select(table.c.updated_ms).where(table.c.tenant == tenant, table.c.id == after)
            last = known.scalar_subquery()
            same = table.c.updated_ms == last
            if ascending:
                query = query.where((table.c.updated_ms > last) | (same & (table.c.id > after)))
            else:
                query = query.where((table.c.updated_ms < last) | (same & (table.c.id < after)))
        query = query.order_by(*(order if ascending else [column.desc() for column in order]))
        with self._database.reading() as connection:
            rows = connection.execute(query.limit(limit)).scalars()
            return [from_json(row, Evaluation) for row in rows]

    def change(self, tenant: str, id: str, changed: Callable[[Evaluation], Evaluation]) -> Evaluation | None:
        """Change one; returns it as it is afterwards, None when there is none."""
        table = tables.evaluations
        which = (table.c.tenant == tenant, table.c.id == id)
        with self._database.writing() as connection:
            query = select(table.c.evaluation).where(*which).with_for_update()
            found = connection.execute(query).scalar()
            if found is None:
                return None
            after = changed(from_json(found, Evaluation))
            connection.execute(update(table).where(*which).values(_evaluation_row(after)))
        return after

    def delete(self, tenant: str, id: str) -> bool:
        """Forget one with its runs, whatever they are at; whether there was one."""
        runs, items = tables.evaluation_runs, tables.evaluation_items
        of_it = delete(runs).where(runs.c.tenant == tenant, runs.c.evaluation == id).returning(runs.c.id)
        table = tables.evaluations
        with self._database.writing() as connection:
            for run in connection.execute(of_it).scalars().all():  # first: whoever enters rows waits
                connection.execute(delete(items).where(items.c.tenant == tenant, items.c.run == run))
            gone = connection.execute(delete(table).where(table.c.tenant == tenant, table.c.id == id))
        return bool(gone.rowcount)


def _evaluation_row(evaluation: Evaluation) -> dict[str, Any]:
    facts = {name: getattr(evaluation, name) for name in ("tenant", "id", "created_ms", "updated_ms")}
    return {**facts, "evaluation": msgspec.json.encode(plain(evaluation)).decode()}
