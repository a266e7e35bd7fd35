"""Orders that one process at a time works on: each row holds the whole order, and who works on it.

Prevents two failures: two processes that do, and bill, the same work (a process takes an order by writing its name
beside it, and the others leave it alone as long as that process is among the living), and progress that overwrites a
wish (every change reads the row that it changes, in one transaction).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from sqlalchemy import Connection, Row, Table, select, update

from baimo.core.ids import plain
from baimo.core.moments import wall_ms
from baimo.store import tables
from baimo.store.engine import Database
from baimo.typed import from_json


class Order(Protocol):
    """What can be held."""

    @property
    def tenant(self) -> str:
        """Whose it is."""
        ...

    @property
    def id(self) -> str:
        """Sortable by time."""
        ...

    @property
    def status(self) -> str:
        """How far it is."""
        ...


Held = TypeVar("Held", bound=Order)


class HeldOrders(Generic[Held]):
    """Reads and changes orders of one kind. Every method is one transaction; all block.

    Args:
        database: where they are kept.
        table: has tenant, id, status, holder, the order itself, and what is looked for in other ways.
        kind: of the orders.
        column: where an order stands, as JSON.
        beside: fields of the order that have a column of their own.
        active: statuses in which there is something left to do.
        now_ms: wall clock, milliseconds since 1970.
    """

    def __init__(
        self,
        database: Database,
        table: Table,
        kind: type[Held],
        *,
        column: str,
        beside: tuple[str, ...],
        active: tuple[str, ...],
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        self._database, self._table, self._kind = database, table, kind
        self._column, self._beside, self._active = table.c[column], beside, active
        self.now_ms = now_ms or wall_ms

    def get(self, tenant: str, id: str) -> Held | None:
        """A tenant's order; None when there is none, or it is another's."""
        with self._database.reading() as connection:
            row = self._found(connection, tenant, id)
        return None if row is None else self._decoded(row)

    def claim(self, holder: str, wanted: Callable[[Held], bool]) -> Held | None:
        """Take the oldest order that no living process works on.

        Args:
            holder: `Books.holder` of this process: its heartbeat is kept there.
            wanted: whether this process can work on it now.
        """
        table = self._table
        free = table.c.holder.not_in(select(tables.holders.c.id))
        query = select(self._column).where(table.c.status.in_(self._active), free).order_by(table.c.id)
        with self._database.reading() as connection:  # most looks find nothing, and take no lock
            if connection.execute(query.limit(1)).first() is None:
                return None
        with self._database.writing() as connection:
            if self._database.dialect == "postgresql":
                query = query.with_for_update(skip_locked=True)
            for row in connection.execute(query).all():
                found = self._decoded(row)
                if wanted(found):
                    connection.execute(update(table).where(*self._which(found)).values(holder=holder))
                    return found
        return None

    def release(self, holder: str, order: Held) -> None:
        """Let another process go on with it."""
        mine = (*self._which(order), self._table.c.holder == holder)
        with self._database.writing() as connection:
            connection.execute(update(self._table).where(*mine).values(holder=""))

    def change(
        self, tenant: str, id: str, changed: Callable[[Held], Held], *, holder: str | None = None
    ) -> Held | None:
        """Change an order.

        Args:
            tenant: whose.
            id: its id.
            changed: given it as it is now; what it returns is kept.
            holder: only while this process works on it.

        Returns:
            It as it is afterwards; None when there is none, or another process works on it.
        """
        with self._database.writing() as connection:
            row = self._found(connection, tenant, id, lock=True)
            if row is None or (holder is not None and row.holder != holder):
                return None
            before = self._decoded(row)
            after = changed(before)
            if after != before:
                connection.execute(update(self._table).where(*self._which(after)).values(self._row(after)))
        return after

    def _found(
        self, connection: Connection, tenant: str, id: str, *, lock: bool = False
    ) -> Row[Any, Any] | None:
        table = self._table
        query = select(table.c.holder, self._column).where(table.c.tenant == tenant, table.c.id == id)
        lock = lock and self._database.dialect == "postgresql"
        return connection.execute(query.with_for_update() if lock else query).first()

    def _which(self, order: Held) -> tuple[Any, Any]:
        return self._table.c.tenant == order.tenant, self._table.c.id == order.id

    def _decoded(self, row: Sequence[Any]) -> Held:
        """Of a row that ends with it."""
        return from_json(row[-1], self._kind)

    def _row(self, order: Held) -> dict[str, str]:
        facts = {name: getattr(order, name) for name in self._beside}
        return {**facts, self._column.name: msgspec.json.encode(plain(order)).decode()}
