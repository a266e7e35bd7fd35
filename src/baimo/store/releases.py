"""Releases: which model answers to an alias, and the way back.

Prevents three failures: a roll back of what somebody else has just promoted (it names the release that it takes back),
two promotions of which neither knows of the other (each reads and writes in one transaction, one after the other), and
a process that goes on answering with the old model (every change raises the revision that all processes look at).
"""

from __future__ import annotations

import os
from typing import Any

import msgspec
from sqlalchemy import Connection, func, insert, select

from baimo.core.ids import plain, sortable_id
from baimo.core.release import Release
from baimo.errors import Conflict, NotFound
from baimo.store import audit, tables
from baimo.store.accounts import raise_revision
from baimo.store.adapters import REVISION
from baimo.store.audit import Actor
from baimo.store.shelf import Shelf
from baimo.typed import from_json


class Releases(Shelf):
    """Reads and makes releases. Every method is one transaction; all block."""

    def promote(
        self, alias: str, model: str, by: Actor, *, why: str = "", job: str = "", run: str = ""
    ) -> Release:
        """Let a model answer to an alias of the actor's tenant from now on.

        Args:
            alias: name that clients ask for; checked already.
            model: may answer; checked already.
            by: who wants it.
            why: reason, in words.
            job: that made the model.
            run: comparison that speaks for it.

        Raises:
            Conflict: it answers already.
        """
        with self._database.writing() as connection:
            raise_revision(connection, REVISION)  # first: on PostgreSQL others wait for this row
            now = _newest(connection, by.tenant, alias)
            before = "" if now is None else now.model
            if model == before:
                raise Conflict("releases.same", alias=alias, model=model)
            at_ms = self._behind(now)
            release = Release(
                id=_id(at_ms),
                tenant=by.tenant,
                alias=alias,
                act="promote",
                model=model,
                before=before,
                at_ms=at_ms,
                key=by.key,
                why=why,
                job=job,
                run=run,
                below="" if now is None else now.id,
            )
            return self._enter(connection, release, by)

    def roll_back(self, id: str, by: Actor, *, why: str = "") -> Release:
        """Let the model before this release answer again.

        Args:
            id: of the release that holds now.
            by: who wants it; a release of another tenant is not there.
            why: reason, in words.

        Raises:
            NotFound: there is no such release.
            Conflict: another one holds by now, or there is nothing before it.
        """
        with self._database.writing() as connection:
            raise_revision(connection, REVISION)
            now = _found(connection, id)
            if now is None or now.tenant != by.tenant:
                raise NotFound("releases.none", field="/release")
            newest = _newest(connection, now.tenant, now.alias)
            if newest is None or newest.id != now.id:
                raise Conflict("releases.not_newest", alias=now.alias)
            if not now.model and not now.below:
                raise Conflict("releases.nothing_before", alias=now.alias)
            below = _found(connection, now.below) if now.below else None
            at_ms = self._behind(now)
            release = Release(
                id=_id(at_ms),
                tenant=now.tenant,
                alias=now.alias,
                act="roll_back",
                model="" if below is None else below.model,
                before=now.model,
                at_ms=at_ms,
                key=by.key,
                why=why,
                job="" if below is None else below.job,
                run="" if below is None else below.run,
                below="" if below is None else below.below,
            )
            return self._enter(connection, release, by)

    def get(self, id: str, tenant: str | None = None) -> Release | None:
        """A release; None when there is none, or it is another tenant's.

        Args:
            id: its id.
            tenant: whose it must be; None = anybody's.
        """
        with self._database.reading() as connection:
            found = _found(connection, id)
        return found if found is not None and tenant in (None, found.tenant) else None

    def page(
        self, tenant: str | None, *, alias: str | None = None, model: str | None = None, limit: int,
        after: str = "",
    ) -> list[Release]:  # fmt: skip
        """Releases, the newest first.

        Args:
            tenant: whose; None = everybody's, for the owner.
            alias: only of this one.
            model: only promotions of this one.
            limit: most that are wanted.
            after: id of the last one that is known already; empty = begin with the newest.
        """
        table = tables.releases
        query = select(table.c.release).order_by(table.c.id.desc())
        query = query if tenant is None else query.where(table.c.tenant == tenant)
        query = query if alias is None else query.where(table.c.alias == alias)
        query = query.where(table.c.id < after) if after else query
        found: list[Release] = []
        with self._database.reading() as connection:
            for row in connection.execute(query):
                release = _decoded(row.release)
                if model is None or release.model == model:
                    found.append(release)
                if len(found) == limit:
                    break
        return found

    def holding(self, tenant: str | None = None) -> list[Release]:
        """The newest release of every alias, by alias.

        Args:
            tenant: whose; None = everybody's.
        """
        table = tables.releases
        newest = select(func.max(table.c.id)).group_by(table.c.tenant, table.c.alias)
        query = select(table.c.release).where(table.c.id.in_(newest)).order_by(table.c.alias, table.c.tenant)
        query = query if tenant is None else query.where(table.c.tenant == tenant)
        with self._database.reading() as connection:
            return [_decoded(row.release) for row in connection.execute(query)]

    def _behind(self, last: Release | None) -> int:
        """Now, or just behind the last one where a clock stands or goes back: ids have to sort as things happened."""
        return max(self.now_ms(), 0 if last is None else last.at_ms + 1)

    def _enter(self, connection: Connection, release: Release, by: Actor) -> Release:
        values: dict[str, Any] = {name: getattr(release, name) for name in ("id", "tenant", "alias", "at_ms")}
        row = {**values, "release": msgspec.json.encode(plain(release)).decode()}
        connection.execute(insert(tables.releases).values(row))
        facts = {name: getattr(release, name) for name in ("model", "before", "why", "job", "run")}
        audit.enter(connection, by, f"release.{release.act}", f"alias:{release.alias}", facts, release.at_ms)
        return release


def _id(at_ms: int) -> str:
    return sortable_id("rel", at_ms, os.urandom(7))


def _newest(connection: Connection, tenant: str, alias: str) -> Release | None:
    table = tables.releases
    query = select(table.c.release).where(table.c.tenant == tenant, table.c.alias == alias)
    row = connection.execute(query.order_by(table.c.id.desc()).limit(1)).first()
    return None if row is None else _decoded(row.release)


def _found(connection: Connection, id: str) -> Release | None:
    row = connection.execute(select(tables.releases.c.release).where(tables.releases.c.id == id)).first()
    return None if row is None else _decoded(row.release)


def _decoded(text: str) -> Release:
    return from_json(text, Release)
