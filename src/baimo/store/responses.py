"""What OpenAI's Responses API keeps between calls, so that a client need not send its conversation again.

Prevents three failures: a conversation that another tenant continues or reads (every statement names the tenant), one
that breaks off in the middle because its first turn grew old while it went on (all turns of a conversation are kept
until 30 days after its latest), and an answer that ends after its tenant was forgotten and is kept all the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import RowMapping, delete, select, update

from baimo.core.moments import DAY_MS
from baimo.core.tenant import DataClass
from baimo.store import tables
from baimo.store.accounts import forgotten_until, holding_revision
from baimo.store.dialects import inserting
from baimo.store.engine import Database
from baimo.store.shelf import Shelf

DAYS = 30
"""As long as OpenAI keeps responses (`store` of developers.openai.com/api/reference/resources/responses)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptResponse:
    """One turn: what was asked and what was answered."""

    id: str
    """resp_… as the client knows it."""
    tenant: str
    """Tenant.id; empty = the workspace's owner."""
    key: str = ""
    """Public part of the key that asked."""
    conversation: str = ""
    """Id of the first turn; its own where it is the first."""
    previous: str = ""
    """Id of the turn before; empty = it is the first."""
    given: bytes = field(repr=False)
    """JSON list of the items that this turn's request brought."""
    response: bytes = field(repr=False)
    """The answer's body."""
    items: tuple[str, ...] = ()
    """Ids of the items in it; not read back."""
    data_class: DataClass = "public"
    """The strictest class of anything in it; whoever goes on from it is bound by it."""
    created_ms: int = 0
    """Wall clock, milliseconds since 1970; set when it is kept."""
    began_ms: int | None = None
    """Likewise, when the call began, if it is not over only now; not read back."""


class Responses(Shelf):
    """Keeps, reads and deletes responses. Every method is one transaction."""

    def __init__(
        self, database: Database, now_ms: Callable[[], int] | None = None, *, days: int = DAYS
    ) -> None:
        """
        Args:
            database: where they are kept.
            now_ms: wall clock, milliseconds since 1970.
            days: how long a conversation is kept after its latest turn.
        """
        super().__init__(database, now_ms)
        self._age_ms = days * DAY_MS
        self._put = _replacing(database.dialect, tables.responses)
        self._put_item = _replacing(database.dialect, tables.response_items)

    def put(self, kept: KeptResponse) -> bool:
        """Keep a turn, and the turns before it for as long; False = its tenant was forgotten since it began."""
        table, now_ms = tables.responses, self.now_ms()
        conversation = kept.conversation or kept.id
        row = {
            "id": kept.id,
            "tenant": kept.tenant,
            "key": kept.key,
            "conversation": conversation,
            "previous": kept.previous,
            "data_class": kept.data_class,
            "given": zlib.compress(kept.given, 1),
            "response": zlib.compress(kept.response, 1),
            "created_ms": now_ms,
            "expires_ms": now_ms + self._age_ms,
        }
        older = (table.c.tenant == kept.tenant, table.c.conversation == conversation)
        with self._database.writing() as connection:
            holding_revision(connection)
            if kept.began_ms is not None and kept.began_ms <= forgotten_until(connection)(kept.tenant):
                return False
            connection.execute(update(table).where(*older).values(expires_ms=row["expires_ms"]))
            # an id is given once; a vendor's that comes twice is the same response
            connection.execute(self._put, row)
            items = tables.response_items
            of_it = (items.c.tenant == kept.tenant, items.c.response == kept.id)
            connection.execute(delete(items).where(*of_it, items.c.item.not_in(kept.items)))
            # in one order: two turns whose vendor gives all items the same ids would wait for each other
            names = sorted(set(kept.items))
            rows = [{"tenant": kept.tenant, "item": name, "response": kept.id} for name in names]
            if rows:
                connection.execute(self._put_item, rows)
        return True

    def get(self, tenant: str, id: str) -> KeptResponse | None:
        """A tenant's turn; None when it is not kept, or another tenant's."""
        table = tables.responses
        query = select(table).where(table.c.tenant == tenant, table.c.id == id, self._alive())
        with self._database.reading() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else _kept(row)

    def turns(self, tenant: str, id: str) -> list[KeptResponse]:
        """A turn and all before it, the first one first; empty when one of them is not kept any more."""
        table = tables.responses
        latest = (
            select(table.c.conversation).where(table.c.tenant == tenant, table.c.id == id).scalar_subquery()
        )
        query = select(table).where(table.c.tenant == tenant, table.c.conversation == latest, self._alive())
        with self._database.reading() as connection:
            rows = {row["id"]: row for row in connection.execute(query).mappings()}
        found: list[KeptResponse] = []
        while id:
            row = rows.pop(id, None)
            if row is None:
                return []
            found.append(_kept(row))
            id = found[-1].previous
        return found[::-1]

    def walk(
        self, tenant: str, *, after_s: int | None = None, before_s: int | None = None
    ) -> Iterator[KeptResponse]:
        """A tenant's turns, the oldest first.

        Args:
            tenant: whose.
            after_s: not made before this second.
            before_s: not made after this second.
        """
        table = tables.responses
        which: list[Any] = [table.c.tenant == tenant, self._alive()]
        if after_s is not None:
            which.append(table.c.created_ms >= after_s * 1000)
        if before_s is not None:
            which.append(table.c.created_ms < (before_s + 1) * 1000)
        query = select(table).where(*which).order_by(table.c.created_ms, table.c.id).limit(100)
        page = query
        while True:
            with self._database.reading() as connection:
                rows = connection.execute(page).mappings().all()
            yield from map(_kept, rows)
            if not rows:
                return
            at_ms, id = rows[-1]["created_ms"], rows[-1]["id"]
            later = (table.c.created_ms > at_ms) | ((table.c.created_ms == at_ms) & (table.c.id > id))
            page = query.where(later)

    def holding(self, tenant: str, items: Sequence[str]) -> list[KeptResponse]:
        """A tenant's turns whose answers hold any of these items."""
        table, named = tables.responses, tables.response_items
        which = select(named.c.response).where(named.c.tenant == tenant, named.c.item.in_(items))
        query = select(table).where(table.c.tenant == tenant, table.c.id.in_(which), self._alive())
        with self._database.reading() as connection:
            return [_kept(row) for row in connection.execute(query).mappings()]

    def delete(self, tenant: str, id: str) -> bool:
        """Forget a turn; whether there was one."""
        return bool(
            self._delete(tables.responses.c.tenant == tenant, tables.responses.c.id == id, self._alive())
        )

    def forget(self, tenant: str) -> int:
        """Forget everything of a tenant; how many turns that were."""
        return self._delete(tables.responses.c.tenant == tenant)

    def expire(self) -> int:
        """Delete what is too old; how many turns that were."""
        return self._delete(tables.responses.c.expires_ms <= self.now_ms())

    def _alive(self) -> Any:
        return tables.responses.c.expires_ms > self.now_ms()

    def _delete(self, *which: Any) -> int:
        with self._database.writing() as connection:
            return int(connection.execute(delete(tables.responses).where(*which)).rowcount)


def _replacing(dialect: str, table: Any) -> Any:
    """An INSERT that changes the row that there may be."""
    new = inserting(dialect, table)
    rest = {column.name: new.excluded[column.name] for column in table.c if not column.primary_key}
    return new.on_conflict_do_update(index_elements=list(table.primary_key), set_=rest)


_FACTS = ("id", "tenant", "key", "conversation", "previous", "data_class", "created_ms")


def _kept(row: RowMapping) -> KeptResponse:
    return KeptResponse(
        **{name: row[name] for name in _FACTS},
        given=zlib.decompress(row["given"]),
        response=zlib.decompress(row["response"]),
    )
