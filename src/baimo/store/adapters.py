"""Adapters: every tuned model of the workspace, whose it is, and whether it may answer.

Prevents two failures: a tenant who finds out that another one's model exists (every read names the tenant, but for
those that serve), and a process that goes on offering what was retired (every change raises a revision that all
processes look at).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import delete, select, update

from baimo.core.ids import plain
from baimo.core.tuning import Adapter
from baimo.errors import Conflict
from baimo.store import tables
from baimo.store.accounts import raise_revision
from baimo.store.dialects import inserting
from baimo.store.shelf import Shelf
from baimo.typed import from_json

REVISION = "adapters"
"""Row of the table revisions that every change raises: of adapters, and of the aliases that lead to them."""


class Adapters(Shelf):
    """Reads and changes adapters. Every method is one transaction; all block."""

    prefix = "ad"

    def revision(self) -> int:
        """Rises with every change; cheap to ask for."""
        table = tables.revisions
        with self._database.reading() as connection:
            found = connection.execute(select(table.c.revision).where(table.c.name == REVISION)).scalar()
        return int(found or 0)

    def put(self, adapter: Adapter) -> None:
        """Enter a new one.

        Raises:
            Conflict: its name is taken.
        """
        table = tables.adapters
        with self._database.writing() as connection:
            new = inserting(self._database.dialect, table).values(_row(adapter))
            new = new.on_conflict_do_nothing(index_elements=["name"]).returning(table.c.id)
            if connection.execute(new).first() is None:
                raise Conflict("adapters.name_taken", name=adapter.name)
            raise_revision(connection, REVISION)

    def get(self, tenant: str, id: str) -> Adapter | None:
        """A tenant's adapter; None when there is none, or it is another's."""
        table = tables.adapters
        return self._one(table.c.tenant == tenant, table.c.id == id)

    def named(self, name: str, tenant: str | None = None) -> Adapter | None:
        """The adapter that is served under a name.

        Args:
            name: `ft:…`, unique in the workspace.
            tenant: only if it is this tenant's; None = whoever's, for what serves it.
        """
        table = tables.adapters
        whose = [] if tenant is None else [table.c.tenant == tenant]
        return self._one(table.c.name == name, *whose)

    def of_job(self, tenant: str, job: str) -> list[Adapter]:
        """What a job has left: its checkpoints and its end, in the order in which they were entered."""
        table = tables.adapters
        return self._all(
            select(table).where(table.c.tenant == tenant, table.c.job == job).order_by(table.c.id)
        )

    def page(self, tenant: str | None, *, limit: int, after: str = "") -> list[Adapter]:
        """A tenant's adapters, the newest first.

        Args:
            tenant: whose; None = everybody's, for who runs the machine.
            limit: most that are wanted.
            after: id of the last one that is known already; empty = begin with the newest.
        """
        table = tables.adapters
        query = select(table).order_by(table.c.id.desc()).limit(limit)
        query = query if tenant is None else query.where(table.c.tenant == tenant)
        return self._all(query.where(table.c.id < after) if after else query)

    def ready(self) -> list[Adapter]:
        """Everything that may answer, of every tenant, the oldest first: for what serves it."""
        table = tables.adapters
        return self._all(select(table).where(table.c.status == "ready").order_by(table.c.id))

    def change(self, tenant: str, id: str, changed: Callable[[Adapter], Adapter]) -> Adapter | None:
        """Change an adapter.

        Args:
            tenant: whose.
            id: its id.
            changed: given it as it is now; what it returns is kept.

        Returns:
            It as it is afterwards; None when there is none.
        """
        table = tables.adapters
        which = (table.c.tenant == tenant, table.c.id == id)
        with self._database.writing() as connection:
            row = connection.execute(select(table).where(*which).with_for_update()).first()
            if row is None:
                return None
            after = changed(_adapter(row))
            connection.execute(update(table).where(*which).values(_row(after)))
            raise_revision(connection, REVISION)
        return after

    def delete(self, tenant: str, id: str) -> bool:
        """Forget one; whether there was one."""
        table = tables.adapters
        with self._database.writing() as connection:
            gone = connection.execute(
                delete(table).where(table.c.tenant == tenant, table.c.id == id)
            ).rowcount
            if gone:
                raise_revision(connection, REVISION)
        return bool(gone)

    def _one(self, *conditions: Any) -> Adapter | None:
        return next(iter(self._all(select(tables.adapters).where(*conditions))), None)

    def _all(self, query: Any) -> list[Adapter]:
        with self._database.reading() as connection:
            return [_adapter(row) for row in connection.execute(query)]


def _adapter(row: Any) -> Adapter:
    return from_json(row.adapter, Adapter)


def _row(adapter: Adapter) -> dict[str, Any]:
    facts = {name: getattr(adapter, name) for name in ("tenant", "id", "name", "job", "status", "created_ms")}
    return {**facts, "adapter": msgspec.json.encode(plain(adapter)).decode()}
