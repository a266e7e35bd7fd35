"""The audit: who did what to tenants, keys and contents, written in the transaction in which it is done."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, insert, select

from baimo.core.ids import sortable_id
from baimo.core.tenant import OWNER
from baimo.store import tables
from baimo.store.engine import Database


class Actor(NamedTuple):
    """Who acts: the key behind a call of the API, or nobody in particular at the command line."""

    tenant: str = OWNER
    key: str = ""
    """Public part; empty = the command line of the machine that holds the workspace."""


class Act(NamedTuple):
    """A line of the audit."""

    id: str
    at_ms: int
    tenant: str
    """Who acted."""
    key: str
    act: str
    """What was done: key.create, key.rotate, tenant.change …"""
    subject: str
    """On what: a tenant's id or a key's public part."""
    facts: dict[str, Any]
    """Details; never a secret."""


def enter(
    connection: Connection, by: Actor, act: str, subject: str, facts: Mapping[str, Any], now_ms: int
) -> None:
    """Enter an act, in the caller's transaction.

    Args:
        connection: the transaction in which it is done.
        by: who acts.
        act: what is done: `contents.forget` …
        subject: on what.
        facts: details as JSON-ready data; never a secret.
        now_ms: wall clock.
    """
    row = {"id": sortable_id("act", now_ms, secrets.token_bytes(7)), "at_ms": now_ms, **by._asdict()}
    row |= {"act": act, "subject": subject, "facts": msgspec.json.encode(facts).decode()}
    connection.execute(insert(tables.audit).values(row))


def acts(
    database: Database,
    *,
    subject: str | None = None,
    concerning: str | None = None,
    before: str | None = None,
    limit: int = 100,
) -> list[Act]:
    """What was done, newest first.

    Args:
        database: where it is kept.
        subject: only acts on this.
        concerning: only acts by this tenant, on it, or on one of its keys.
        before: id of the last act seen.
        limit: most of them.
    """
    table = tables.audit
    query = select(table).order_by(table.c.id.desc()).limit(limit)
    if subject is not None:
        query = query.where(table.c.subject == subject)
    if concerning is not None:
        theirs = select(tables.keys.c.public).where(tables.keys.c.tenant == concerning)
        on_it = (table.c.subject == concerning) | table.c.subject.in_(theirs)
        query = query.where((table.c.tenant == concerning) | on_it)
    if before is not None:
        query = query.where(table.c.id < before)
    with database.reading() as connection:
        rows = connection.execute(query).mappings().all()
    return [Act(**{**row, "facts": msgspec.json.decode(row["facts"])}) for row in rows]
