"""Conversations of the console's chat that a person wanted kept, and those that are shared inside a tenant.

Prevents three failures: what was said to a model is read by another key or tenant (every statement names the tenant,
and all but those about what is shared the key), a link that still opens after it was taken back (it is the name of a
share, not of the conversation), and a conversation that outlives the time for which its tenant keeps what is said.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import RowMapping, Select, delete, insert, select, update

from baimo.core.ids import base32, sortable_id
from baimo.core.moments import DAY_MS
from baimo.errors import NotFound
from baimo.store import audit, tables
from baimo.store.audit import Actor
from baimo.store.contents import opened, sealed
from baimo.store.shelf import Shelf

SHARE_BYTES = 20
"""What the name of a share is made of: nobody guesses it."""
_PAGE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What somebody and up to four models said to each other."""

    id: str
    """conv_…"""
    tenant: str
    """Tenant.id; empty = the workspace's owner."""
    key: str
    """Key.meter of the key that keeps it: one that replaces another keeps its conversations."""
    title: str
    """What its list calls it."""
    content: bytes = field(repr=False)
    """JSON, as the page wrote it."""
    created_ms: int = 0
    """Wall clock, milliseconds since 1970."""
    updated_ms: int = 0
    """Likewise, of the last change."""
    share: str | None = None
    """Name under which others of the tenant may read it; None = nobody else may."""


class Conversations(Shelf):
    """Keeps, finds and forgets conversations. Every method blocks; those that change something are one transaction."""

    def keep(self, tenant: str, key: str, title: str, content: bytes, by: Actor = Actor()) -> Conversation:
        """Keep a new conversation.

        Args:
            tenant: whose.
            key: Key.meter of whoever keeps it.
            title: for lists.
            content: JSON.
            by: who acts.
        """
        now_ms = self.now_ms()
        made = Conversation(
            id=sortable_id("conv", now_ms, secrets.token_bytes(7)),
            tenant=tenant,
            key=key,
            title=title,
            content=content,
            created_ms=now_ms,
            updated_ms=now_ms,
        )
        row = {name: getattr(made, name) for name in Conversation.__slots__}
        row["content"] = sealed(content).stored
        with self._database.writing() as connection:
            connection.execute(insert(tables.conversations).values(row))
            audit.enter(connection, by, "conversation.keep", made.id, {}, now_ms)
        return made

    def change(
        self, tenant: str, key: str, id: str, *, title: str | None = None, content: bytes | None = None
    ) -> Conversation:
        """Write down what was said since, or call it something else.

        Raises:
            NotFound: this key keeps no such conversation.
        """
        table = tables.conversations
        values: dict[str, Any] = {"updated_ms": self.now_ms()}
        if title is not None:
            values["title"] = title
        if content is not None:
            values["content"] = sealed(content).stored
        with self._database.writing() as connection:
            connection.execute(update(table).where(*_own(tenant, key, id)).values(values))
        return self.get(tenant, key, id)

    def share(self, tenant: str, key: str, id: str, shared: bool, by: Actor = Actor()) -> Conversation:
        """Let others of the tenant read it, under a new name; or nobody any more.

        Raises:
            NotFound: this key keeps no such conversation.
        """
        known = self.get(tenant, key, id)
        if shared == (known.share is not None):
            return known
        name = base32(int.from_bytes(secrets.token_bytes(SHARE_BYTES), "big"), 32) if shared else None
        with self._database.writing() as connection:
            statement = update(tables.conversations).where(*_own(tenant, key, id)).values(share=name)
            connection.execute(statement)
            act = "conversation.share" if shared else "conversation.unshare"
            audit.enter(connection, by, act, id, {}, self.now_ms())
        return replace(known, share=name)

    def get(self, tenant: str, key: str, id: str) -> Conversation:
        """A conversation of this key.

        Raises:
            NotFound: this key keeps no such conversation.
        """
        return self._one(select(tables.conversations).where(*_own(tenant, key, id)))

    def shared(self, tenant: str, share: str) -> Conversation:
        """What somebody of the tenant shares under this name.

        Raises:
            NotFound: nobody of the tenant does, or not any more.
        """
        table = tables.conversations
        return self._one(select(table).where(table.c.tenant == tenant, table.c.share == share))

    def page(
        self, tenant: str, key: str, *, words: str = "", limit: int = 50, after: str | None = None
    ) -> list[Conversation]:
        """A key's conversations, what was changed last first.

        Args:
            tenant: whose.
            key: Key.meter.
            words: occur in the title or in what was said; case does not matter.
            limit: most of them.
            after: id of the last one of the page before.

        Raises:
            NotFound: `after` is not there any more.
        """
        wanted = words.casefold()
        found: list[Conversation] = []
        for one in self._walk(tenant, key, after):
            said = one.content.decode("utf-8", "replace") if wanted else ""
            if wanted in one.title.casefold() or wanted in said.casefold():
                found.append(one)
                if len(found) == limit:
                    break
        return found

    def delete(self, tenant: str, key: str, id: str, by: Actor = Actor()) -> None:
        """Forget a conversation, and its share with it.

        Raises:
            NotFound: this key keeps no such conversation.
        """
        with self._database.writing() as connection:
            if not connection.execute(delete(tables.conversations).where(*_own(tenant, key, id))).rowcount:
                raise NotFound("conversations.unknown", field="/conversation")
            audit.enter(connection, by, "conversation.delete", id, {}, self.now_ms())

    def expire(self, days: int, days_of: Mapping[str, int]) -> int:
        """Delete what nobody has added to for longer than its tenant keeps what is said; how many there were.

        Args:
            days: for tenants that say nothing.
            days_of: tenant → days.
        """
        table, now_ms, gone = tables.conversations, self.now_ms(), 0
        others = table.c.tenant.not_in(list(days_of))
        ages = [(others, days), *((table.c.tenant == tenant, own) for tenant, own in days_of.items())]
        with self._database.writing() as connection:
            for whose, kept_days in ages:
                old = table.c.updated_ms < now_ms - kept_days * DAY_MS
                gone += int(connection.execute(delete(table).where(whose, old)).rowcount)
        return gone

    def _walk(self, tenant: str, key: str, after: str | None) -> Iterator[Conversation]:
        table = tables.conversations
        last = None if after is None else self.get(tenant, key, after)
        query = select(table).where(table.c.tenant == tenant, table.c.key == key)
        query = query.order_by(table.c.updated_ms.desc(), table.c.id.desc()).limit(_PAGE)
        while True:
            page = query
            if last is not None:
                earlier = table.c.updated_ms < last.updated_ms
                same = (table.c.updated_ms == last.updated_ms) & (table.c.id < last.id)
                page = query.where(earlier | same)
            with self._database.reading() as connection:
                rows = connection.execute(page).mappings().all()
            yield from map(_conversation, rows)
            if len(rows) < _PAGE:
                return
            last = _conversation(rows[-1])

    def _one(self, query: Select[Any]) -> Conversation:
        with self._database.reading() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            raise NotFound("conversations.unknown", field="/conversation")
        return _conversation(row)


def _own(tenant: str, key: str, id: str) -> tuple[Any, ...]:
    table = tables.conversations
    return table.c.tenant == tenant, table.c.key == key, table.c.id == id


def _conversation(row: RowMapping) -> Conversation:
    known: dict[str, Any] = {name: row[name] for name in Conversation.__slots__ if name != "content"}
    return Conversation(**known, content=opened(bytes(row["content"])))
