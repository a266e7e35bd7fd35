"""The steps that a database has not taken yet, taken in one transaction.

Prevents the failure where two installations with the same version number hold different tables: each step's
checksum is stored, and a store written by a newer baimo is refused, not guessed at.
"""

from __future__ import annotations

import hashlib
import time

from sqlalchemy import Connection, inspect, text

from baimo.errors import StoreError
from baimo.store.steps import STEPS

_SQLITE = {"blob": "BLOB", "order": "INTEGER", "packed": "WITHOUT ROWID", "apart": "WITHOUT ROWID"}
_POSTGRES = {
    "blob": "BYTEA",
    "order": "BIGINT",
    "packed": "",
    "apart": "PARTITION BY LIST (kind); CREATE TABLE rollups_whole PARTITION OF rollups FOR VALUES IN ('whole'); "
    "CREATE TABLE rollups_small PARTITION OF rollups DEFAULT",
}
_LOCK = 0x6261696D6F  # "baimo": PostgreSQL advisory lock that lets one process migrate at a time


def migrate(connection: Connection) -> list[str]:
    """Bring the schema up to date inside the caller's transaction; returns the names of the steps applied.

    Raises:
        StoreError: the store was written by a newer baimo, or a released step was edited.
    """
    postgres = connection.dialect.name == "postgresql"
    if postgres:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    connection.execute(
        text(
            "CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, checksum TEXT, applied_ms BIGINT)"
        )
    )
    rows = connection.execute(text("SELECT name, checksum FROM migrations")).all()
    applied = {str(row[0]): str(row[1]) for row in rows}
    _refuse_strangers(applied)
    fresh: list[str] = []
    for name, statements in STEPS:
        if name in applied:
            continue
        for statement in statements:
            connection.execute(text(statement.format(**(_POSTGRES if postgres else _SQLITE))))
        connection.execute(
            text("INSERT INTO migrations VALUES (:name, :checksum, :at)"),
            {"name": name, "checksum": checksum(statements), "at": time.time_ns() // 1_000_000},
        )
        fresh.append(name)
        if name == "0002_ledger_tenants_meters":
            from baimo.store.chain import adopt

            adopt(connection)
    return fresh


def is_current(connection: Connection) -> bool:
    """Whether every step is applied already; reads only, so that opening a store takes no write lock."""
    if not inspect(connection).has_table("migrations"):
        return False
    rows = connection.execute(text("SELECT name, checksum FROM migrations")).all()
    applied = {str(row[0]): str(row[1]) for row in rows}
    _refuse_strangers(applied)
    return all(name in applied for name, _ in STEPS)


def checksum(statements: tuple[str, ...]) -> str:
    """SHA-256 of a step's statements."""
    return hashlib.sha256("\n".join(statements).encode()).hexdigest()


def _refuse_strangers(applied: dict[str, str]) -> None:
    known = {name: checksum(statements) for name, statements in STEPS}
    for name, seen in applied.items():
        if name not in known:
            raise StoreError("store.newer", step=name)
        if known[name] != seen:
            raise StoreError("store.edited_step", step=name)
