"""Processes that are gone: their calls become Records, and what they held of limits is free again.

Prevents two failures: a reservation that nobody gives back because its process was killed, and a process that is
declared dead although it lives. A journal in our folder tells by its file lock; a process on this machine by its
number and the moment at which it started; one elsewhere by its silence, by the clock of the database.
"""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace
from sqlalchemy import Connection, bindparam, case, delete, select, text, update

from baimo.store import tables
from baimo.store.accounts import forgotten_until
from baimo.store.chain import Appending, Head, locked_head
from baimo.store.contents import Kept, put, sealed
from baimo.store.draws import use
from baimo.store.engine import Database
from baimo.store.entries import Ended, read_ending, read_opening
from baimo.store.lines import PLACE, Row, clean, line_of
from baimo.store.remains import Remains, remains

SILENT_MS = 60_000
"""A process elsewhere that has not been heard of for so long is taken to be gone."""
_BATCH = 500
_AT_A_STRETCH = 256
"""Lines that are worked on before other threads get the interpreter: a third of a millisecond."""


class Recovered(NamedTuple):
    """What was found of processes that are gone."""

    ended: int
    """Calls that had ended and were not in the ledger yet."""
    interrupted: int
    """Calls that were under way."""


def enrol(connection: Connection, holder: str, now_ms: int) -> None:
    """Enter this process among those that hold leases, or renew its entry."""
    row = {"id": holder, "host": place(), "pid": os.getpid(), "started": started(os.getpid())}
    connection.execute(_ENROL, {**row, "beat": moment_ms(connection, now_ms)})


def moment_ms(connection: Connection, now_ms: int) -> int:
    """Now, by a clock that all have who share the database: machines' own may be apart by more than a silence."""
    return now_ms if connection.dialect.name == "sqlite" else int(connection.execute(_CLOCK).scalar_one())


def recover(database: Database, folder: Path, own: str, now_ms: int) -> Recovered:
    """Enter the calls of all processes that are gone, and free what they held.

    Args:
        database: the ledger.
        folder: of journals, one folder for each process.
        own: holder id of this process.
        now_ms: wall clock, milliseconds since 1970.

    Raises:
        StoreError: the database does not take it; nothing is lost, the next attempt goes on.
    """
    total = Recovered(0, 0)
    here: set[str] = set()
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith(".") or path.name == own or not path.is_dir():
            continue
        here.add(path.name)
        found = remains(path)
        if found is None:
            continue
        try:
            replayed = _replay(database, found, path.name, now_ms)
            found.remove()
        finally:
            found.close()
        total = Recovered(total.ended + replayed.ended, total.interrupted + replayed.interrupted)
    with database.reading() as connection:
        holders = connection.execute(select(tables.holders)).mappings().all()
        now_ms = moment_ms(connection, now_ms)
    for row in holders:
        if row["id"] != own and row["id"] not in here and _gone(row, now_ms):
            with database.writing() as connection:
                locked_head(connection)
                if _beat(connection, row["id"]) == row["beat_ms"]:  # not heard of while we waited
                    dismiss(connection, row["id"])
    return total


def dismiss(connection: Connection, holder: str) -> None:
    """Free everything that a holder held, inside the caller's transaction."""
    connection.execute(delete(tables.leases).where(tables.leases.c.holder == holder))
    connection.execute(delete(tables.holders).where(tables.holders.c.id == holder))


def known(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Those of these Records that the ledger has."""
    table, found = tables.records, set[str]()
    for start in range(0, len(ids), _BATCH):
        query = select(table.c.id).where(table.c.id.in_(ids[start : start + _BATCH]))
        found |= set(connection.execute(query).scalars())
    return found


def entered(connection: Connection, calls: Iterable[Ended], head: Head) -> dict[str, int]:
    """Append the lines of ended calls with their contents, except those of calls that began before what their tenant
    said was forgotten; returns what they charge, by bucket.

    Calls that are read while they are asked for are never all in memory.
    """
    appending = Appending(connection, head)
    charged: dict[str, int] = {}
    until: Callable[[str], int] | None = None
    waiting = iter(calls)
    while stretch := list(itertools.islice(waiting, _AT_A_STRETCH)):
        rows: list[Row] = []
        lines: list[bytes] = []
        contents: list[Kept] = []
        for call in stretch:
            row = call.row
            if call.content and until is None:
                until = forgotten_until(connection)
            if call.content and until is not None and row[_BEGAN] > until(row[_TENANT]):
                hash, stored = sealed(call.content)
                kept: Row = (*row[: PLACE["content_hash"]], hash)  # the last column
                rows.append(kept)
                lines.append(line_of(kept))
                contents.append(Kept(kept[_ID], kept[_TENANT], kept[_AT], hash, stored))
            else:
                rows.append(row)
                lines.append(call.line)
            for charge in call.charged:
                if charge.amount:
                    charged[charge.bucket] = charged.get(charge.bucket, 0) + charge.amount
        appending.add(rows, lines)
        if contents:
            put(connection, contents)
        time.sleep(0)  # let the event loop have its turn
    appending.end()
    return charged


def tidied(call: Ended) -> Ended:
    """The call with everything replaced that the database may have refused."""
    row = clean(call.row)
    return replace(call, row=row, line=line_of(row))


def place() -> str:
    """Where process numbers mean what they mean here: machine, its start, and its space of process numbers."""
    parts = [socket.gethostname()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            parts.append(str(Path(path).readlink()) if "/ns/" in path else Path(path).read_text().strip())
        except OSError:
            continue
    return " ".join(parts)


def started(pid: int) -> str:
    """When a process began, in the kernel's own count; empty = there is none, or nobody can tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]  # the name before may hold spaces and parentheses


def _gone(row: Any, now_ms: int) -> bool:
    if row["host"] == place() and row["started"]:
        return started(row["pid"]) != row["started"]
    return now_ms - row["beat_ms"] > SILENT_MS


def _beat(connection: Connection, holder: str) -> int | None:
    return connection.execute(select(tables.holders.c.beat_ms).where(tables.holders.c.id == holder)).scalar()


def _replay(database: Database, found: Remains, holder: str, now_ms: int) -> Recovered:
    ended = 0
    interrupted = set(found.interrupted)
    ids = [*found.closed, *found.interrupted]
    for start in range(0, len(ids), _BATCH):
        with database.writing() as connection:
            head = locked_head(connection)
            some = ids[start : start + _BATCH]
            there = known(connection, some)
            calls = [
                tidied(
                    read_opening(found.read(id), now_ms) if id in interrupted else read_ending(found.read(id))
                )
                for id in some
                if id not in there
            ]
            charged = entered(connection, calls, head)
            use(connection, charged)
            if charged:
                less = [{"name": bucket, "whose": holder, "less": much} for bucket, much in charged.items()]
                connection.execute(_LESS, less)
            ended += sum(id not in there and id not in interrupted for id in some)
            interrupted -= there
    with database.writing() as connection:
        locked_head(connection)
        dismiss(connection, holder)
    return Recovered(ended, len(interrupted))


_ID, _AT, _TENANT, _BEGAN = (PLACE[name] for name in ("id", "at_ms", "tenant", "began_ms"))
_CLOCK = text("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)")
_ENROL = text(
    "INSERT INTO holders (id, host, pid, started, beat_ms) VALUES (:id, :host, :pid, :started, :beat)"
    " ON CONFLICT (id) DO UPDATE SET beat_ms = excluded.beat_ms"
)
_LESS: Any = (
    update(tables.leases)
    .where(tables.leases.c.bucket == bindparam("name"), tables.leases.c.holder == bindparam("whose"))
    .values(
        amount=case(
            (tables.leases.c.amount > bindparam("less"), tables.leases.c.amount - bindparam("less")), else_=0
        )
    )
)
