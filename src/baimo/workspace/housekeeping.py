"""What is too old is deleted while the server runs: by one process, once an hour.

Prevents two failures: a promise to delete that only holds when somebody remembers a command, and several workers that
all sweep the same rows.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import update

from baimo.core.moments import DAY_MS
from baimo.core.tenant import Tenant
from baimo.settings import Settings
from baimo.store import audit, tables
from baimo.store.audit import Actor
from baimo.store.cached import Cached
from baimo.store.contents import Contents
from baimo.store.conversations import Conversations
from baimo.store.dialects import inserting
from baimo.store.engine import Database
from baimo.store.files import Files
from baimo.store.ledger import Ledger
from baimo.store.responses import Responses
from baimo.store.uploads import Uploads
from baimo.store.votes import Votes

HOUR_MS = 3_600_000
HOUR = "housekeeping"
"""Row of the table revisions that holds the last hour that was seen to."""


class House(NamedTuple):
    """What is kept."""

    database: Database
    files: Files
    uploads: Uploads
    responses: Responses
    tenants: Callable[[], list[Tenant]]
    now_ms: Callable[[], int]
    folder: Path
    """Workspace.path."""


def due(house: House) -> bool:
    """Whether this hour is to be seen to, and by us: true once per hour among all processes."""
    table, hour = tables.revisions, house.now_ms() // HOUR_MS
    with house.database.writing() as connection:
        first = inserting(house.database.dialect, table).values(name=HOUR, revision=0)
        connection.execute(first.on_conflict_do_nothing())
        ours = update(table).where(table.c.name == HOUR, table.c.revision < hour).values(revision=hour)
        return bool(connection.execute(ours).rowcount)


def swept(house: House, settings: Settings) -> dict[str, int]:
    """Delete what is too old; returns how much of each kind was, without those of which nothing was.

    Raises:
        StoreError: the database does not take it; what was deleted so far stays deleted.
    """
    days = settings.ledger.records_days
    gone = {
        "files": house.files.expire(),
        "uploads": house.uploads.expire(),
        "task_uploads": left_behind(house.folder, house.now_ms()),
        **outlived(house.database, settings, house.tenants(), house.responses, house.now_ms),
    }
    if days is not None:
        gone["records"] = Ledger(house.database).prune(house.now_ms() - days * DAY_MS)
    deleted = {kind: count for kind, count in gone.items() if count}
    if deleted:
        with house.database.writing() as connection:
            audit.enter(connection, Actor(), "house.sweep", "", deleted, house.now_ms())
    return deleted


def left_behind(workspace: Path, now_ms: int) -> int:
    """Delete files of examples that nobody has stored in a task within a day; how many there were.

    Args:
        workspace: `Workspace.path`.
        now_ms: wall clock, milliseconds since 1970.
    """
    gone = 0
    for pattern in ("task-uploads/up_*", "tenants/*/task-uploads/up_*"):
        for path in workspace.glob(pattern):
            with suppress(FileNotFoundError):  # somebody has stored it just now
                if path.stat().st_mtime * 1000 < now_ms - DAY_MS:
                    shutil.rmtree(path, ignore_errors=True)
                    gone += 1
    return gone


def outlived(
    database: Database,
    settings: Settings,
    tenants: list[Tenant],
    responses: Responses,
    now_ms: Callable[[], int],
) -> dict[str, int]:
    """Delete prompts and answers that have outlived their time; how many of each kind there were."""
    days_of = {one.id: one.contents_days for one in tenants if one.contents_days is not None}
    return {
        "responses": responses.expire(),
        "cached": Cached(database).expire(now_ms() - round(settings.policy.cache_ttl_s * 1000)),
        "contents": Contents(database, now_ms).expire(settings.ledger.contents_days, days_of),
        "conversations": Conversations(database, now_ms).expire(settings.ledger.contents_days, days_of),
        "votes": Votes(database, now_ms).expire(settings.ledger.contents_days, days_of),
    }
