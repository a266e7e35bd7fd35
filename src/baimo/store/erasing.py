"""Deleting what people said so that it cannot be read out of the file any more."""

from __future__ import annotations

from sqlalchemy import Connection


def overwriting(connection: Connection) -> None:
    """Pages that this connection frees are filled with zeros. PostgreSQL does as much when it vacuums."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete=ON")
