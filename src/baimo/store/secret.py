"""A random secret of the workspace, the same for all its processes: the key of hashes that nobody shall guess from."""

from __future__ import annotations

import secrets

from sqlalchemy import text

from baimo.store.engine import Database

LENGTH = 32


def workspace_secret(database: Database) -> bytes:
    """32 bytes, made when first asked for."""
    question = text("SELECT value FROM secrets WHERE name = 'hashes'")
    with database.reading() as connection:
        found = connection.execute(question).scalar()
    if found is None:
        with database.writing() as connection:
            # another process may have been faster: the first one stays
            connection.execute(
                text("INSERT INTO secrets VALUES ('hashes', :value) ON CONFLICT DO NOTHING"),
                {"value": secrets.token_bytes(LENGTH)},
            )
            found = connection.execute(question).scalar()
    assert found is not None
    return bytes(found)
