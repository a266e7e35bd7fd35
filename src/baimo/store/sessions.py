"""Sessions: credentials that stand for a key for a while, so that a browser never holds the key itself.

Prevents two failures: a key that lives on in a browser's storage, and a sign-in that outlives the key behind it (a
session has no rights of its own; it ends with its key).
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, replace
from typing import NamedTuple

from sqlalchemy import delete, insert, select, update

from baimo.core.credential import ENTROPY_BYTES, Credential, digest_of, minted
from baimo.core.session import Session
from baimo.errors import NotFound
from baimo.store import audit, tables
from baimo.store.accounts import raise_revision
from baimo.store.audit import Actor
from baimo.store.shelf import Shelf

DAY_MS = 86_400_000
LONGEST_MS = DAY_MS // 2
"""A session ends so long after its beginning, however busy it is."""


class Begun(NamedTuple):
    """A session that was begun, and the only copy of its credential."""

    session: Session
    credential: Credential


class Sessions(Shelf):
    """Begins and ends sessions. Every method is one transaction."""

    def begin(self, key: str, lives_ms: int, by: Actor = Actor()) -> Begun:
        """A session of a key.

        Args:
            key: its public part.
            lives_ms: until it ends, unless it is renewed.
            by: who acts.
        """
        credential, now_ms = minted(secrets.token_bytes(ENTROPY_BYTES)), self.now_ms()
        session = Session(
            public=credential.public,
            digest=digest_of(credential.secret),
            key=key,
            created_ms=now_ms,
            expires_ms=now_ms + min(lives_ms, LONGEST_MS),
        )
        table = tables.sessions
        with self._database.writing() as connection:
            connection.execute(delete(table).where(table.c.expires_ms <= now_ms))
            connection.execute(insert(table).values(asdict(session)))
            audit.enter(connection, by, "session.begin", key, {"session": session.public}, now_ms)
            raise_revision(connection)
        return Begun(session, credential)

    def renew(self, key: str, public: str, lives_ms: int) -> Session:
        """Let a session live longer.

        Raises:
            NotFound: the key has no such session, or not any more.
        """
        table, now_ms = tables.sessions, self.now_ms()
        with self._database.writing() as connection:
            row = connection.execute(select(table).where(table.c.public == public)).mappings().first()
            if row is None or row["key"] != key or row["expires_ms"] <= now_ms:
                raise NotFound("admin.no_session", field="/session")
            expires_ms = min(now_ms + lives_ms, row["created_ms"] + LONGEST_MS)
            connection.execute(update(table).where(table.c.public == public).values(expires_ms=expires_ms))
            raise_revision(connection)
        return replace(Session(**row), expires_ms=expires_ms)

    def end(self, key: str, public: str, by: Actor = Actor()) -> None:
        """End a session of this key.

        Raises:
            NotFound: the key has no such session, or not any more: of two who end it at once, one is told so.
        """
        table, now_ms = tables.sessions, self.now_ms()
        ours = (table.c.public == public) & (table.c.key == key) & (table.c.expires_ms > now_ms)
        with self._database.writing() as connection:
            if not connection.execute(delete(table).where(ours)).rowcount:
                raise NotFound("admin.no_session", field="/session")
            audit.enter(connection, by, "session.end", key, {"session": public}, now_ms)
            raise_revision(connection)

    def all(self) -> list[Session]:
        """Every session that has not ended."""
        table = tables.sessions
        with self._database.reading() as connection:
            rows = connection.execute(select(table).where(table.c.expires_ms > self.now_ms())).mappings()
            return [Session(**row) for row in rows]
