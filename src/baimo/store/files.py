"""Files that clients upload and that are written for them: rows in the database, contents in a folder.

Prevents three failures: a file that another tenant reads or deletes (every statement names the tenant, and every
tenant has a folder of its own), an upload that fills memory or another tenant's disk, and half a file that looks whole
(contents get their name only when they are complete and on disk).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import Connection, delete, func, insert, or_, select, tuple_, update

from baimo.core.ids import sortable_id
from baimo.core.moments import DAY_MS
from baimo.core.tenant import DataClass
from baimo.errors import StoreError, TooLarge
from baimo.store import tables
from baimo.store.accounts import raise_revision
from baimo.store.engine import Database
from baimo.store.shelf import Shelf

UNFINISHED = ".part"
"""Suffix of contents that are being written."""
_FORGOTTEN_MS = 3 * DAY_MS
"""Unfinished contents that nobody has touched for so long belong to a process that is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """What is known of a file."""

    id: str
    """file-… sortable by time."""
    tenant: str
    """Tenant.id; empty = the workspace's owner."""
    key: str = ""
    """Public part of the key that it came with."""
    name: str
    """As the client calls it; never part of a path."""
    purpose: str
    """What it may be used for: batch, batch_output, fine-tune, fine-tune-results, evals."""
    bytes: int
    """Length."""
    sha256: str
    """Of the contents, 64 hexadecimal digits."""
    created_ms: int
    """Wall clock, milliseconds since 1970."""
    expires_ms: int | None = None
    """Deleted from then on; None = never."""
    data_class: DataClass = "public"
    """Of what it holds, as far as whoever brought it has said."""


class Incoming:
    """Contents on their way in. Blocks on the disk: call it from a thread."""

    def __init__(self, path: Path, room: int) -> None:
        """
        Args:
            path: where they will lie.
            room: most bytes that are taken.

        Raises:
            StoreError: the folder cannot be written.
        """
        self.path = path
        self.size = 0
        self.sha256 = hashlib.sha256()
        self._room = room
        self._file: BinaryIO | None = None
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            unfinished = path.with_name(path.name + UNFINISHED)
            self._file = os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        except OSError as error:
            raise unwritable(path, error) from error

    def write(self, piece: bytes) -> None:
        """More of it.

        Raises:
            TooLarge: there is no room for it.
            StoreError: the disk is full or gone.
        """
        assert self._file is not None
        self.size += len(piece)
        if self.size > self._room:
            raise TooLarge("files.no_room", limit=self._room)
        self.sha256.update(piece)
        try:
            self._file.write(piece)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def finish(self) -> None:
        """It is complete: from here on it survives a power failure.

        Raises:
            StoreError: the disk is full or gone.
        """
        assert self._file is not None
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self.path.with_name(self.path.name + UNFINISHED).rename(self.path)
        except OSError as error:
            raise unwritable(self.path, error) from error
        self._file = None

    def abandon(self) -> None:
        """Forget it, unless it is finished."""
        if self._file is not None:
            file, self._file = self._file, None
            with suppress(OSError):  # what was buffered does not fit on the disk, and nobody wants it
                file.close()
            self.path.with_name(self.path.name + UNFINISHED).unlink(missing_ok=True)


class Files(Shelf):
    """Keeps, reads and deletes files. Every method is one transaction; all block."""

    def __init__(
        self,
        database: Database,
        folder: Path,
        now_ms: Callable[[], int] | None = None,
        *,
        most_bytes: int | None = None,
    ) -> None:
        """
        Args:
            database: where the rows are kept.
            folder: of the contents: `<workspace>/files`.
            now_ms: wall clock, milliseconds since 1970.
            most_bytes: what all files of one tenant may take; None = anything.
        """
        self.folder = folder
        self.most_bytes = most_bytes
        super().__init__(database, now_ms)

    def new_id(self) -> str:
        """An id that nobody has."""
        return sortable_id("file", self.now_ms(), os.urandom(7)).replace("_", "-", 1)

    def path(self, tenant: str, id: str) -> Path:
        """Where contents lie."""
        return self.folder / (tenant or "_") / id

    def incoming(self, tenant: str, most: int) -> Incoming:
        """Begin to take a file.

        Args:
            tenant: whose.
            most: most bytes of it.

        Raises:
            TooLarge: the tenant has no room left.
            StoreError: the folder cannot be written.
        """
        if self.most_bytes is not None:
            left = self.most_bytes - self.used(tenant)
            if left <= 0:
                raise TooLarge("files.quota", limit=self.most_bytes)
            most = min(most, left)
        return Incoming(self.path(tenant, self.new_id()), most)

    def keep(
        self,
        incoming: Incoming,
        *,
        tenant: str,
        key: str,
        name: str,
        purpose: str,
        lives_s: int | None,
        data_class: DataClass = "public",
    ) -> StoredFile:
        """Finish a file and enter it.

        Args:
            incoming: all its contents are written.
            tenant: whose.
            key: public part of the key that it came with.
            name: as the client calls it.
            purpose: what it may be used for.
            lives_s: seconds until it is deleted; None = it stays.
            data_class: of what it holds.

        Raises:
            TooLarge: several uploads at once have taken all the room.
            StoreError: it cannot be kept.
        """
        incoming.finish()
        try:
            return self.enter(
                incoming.path.name,
                tenant=tenant,
                key=key,
                name=name,
                purpose=purpose,
                size=incoming.size,
                sha256=incoming.sha256.hexdigest(),
                lives_s=lives_s,
                data_class=data_class,
                most=self.most_bytes,
            )
        except BaseException:
            incoming.path.unlink(missing_ok=True)
            raise

    def enter(
        self,
        id: str,
        *,
        tenant: str,
        key: str,
        name: str,
        purpose: str,
        size: int,
        sha256: str,
        lives_s: int | None,
        data_class: DataClass = "public",
        most: int | None = None,
    ) -> StoredFile:
        """Enter a file whose contents are in place; again, it changes nothing.

        Args:
            id: of `new_id`; the others as in `keep`.
            size: bytes.
            sha256: of the contents.
            most: what all files of the tenant may take.

        Raises:
            TooLarge: they would take more.
        """
        now_ms, table = self.now_ms(), tables.files
        made = StoredFile(
            id=id,
            tenant=tenant,
            key=key,
            name=name,
            purpose=purpose,
            bytes=size,
            sha256=sha256,
            created_ms=now_ms,
            expires_ms=None if lives_s is None else now_ms + lives_s * 1000,
            data_class=data_class,
        )
        with self._database.writing() as connection:
            one_by_one(connection, tenant)
            which = (table.c.tenant == tenant, table.c.id == id)
            known = connection.execute(select(table).where(*which)).mappings().first()
            if known is not None:
                return StoredFile(**known)
            taken = select(func.coalesce(func.sum(table.c.bytes), 0)).where(table.c.tenant == tenant)
            if most is not None and int(connection.execute(taken).scalar_one()) + size > most:
                raise TooLarge("files.quota", limit=most)
            connection.execute(insert(table).values(asdict(made)))
        return made

    def get(self, tenant: str, id: str) -> StoredFile | None:
        """A tenant's file; None when there is none, or it is another's."""
        table = tables.files
        query = select(table).where(table.c.tenant == tenant, table.c.id == id, self._alive())
        with self._database.reading() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else StoredFile(**row)

    def page(
        self, tenant: str, *, limit: int, after: str = "", purpose: str = "", ascending: bool = False
    ) -> list[StoredFile]:
        """A tenant's files in the order of their making, the newest first unless `ascending`.

        Args:
            tenant: whose.
            limit: most that are wanted.
            after: id of the last one that is known already, and may be deleted by now; empty = begin.
            purpose: only of this one; empty = any.
            ascending: the oldest first.
        """
        table = tables.files
        query = select(table).where(table.c.tenant == tenant, self._alive())
        if purpose:
            query = query.where(table.c.purpose == purpose)
        # an id is given when the first byte comes, and some are given to files that are written for a day
        order = (table.c.created_ms, table.c.id)
        query = query.order_by(*(order if ascending else [column.desc() for column in order])).limit(limit)
        with self._database.reading() as connection:
            if after:
                known = select(table.c.created_ms).where(table.c.tenant == tenant, table.c.id == after)
                moment = connection.execute(known).scalar()
                place, last = (
                    (table.c.id, after) if moment is None else (tuple_(*order), tuple_(moment, after))
                )
                query = query.where(place > last if ascending else place < last)
            return [StoredFile(**row) for row in connection.execute(query).mappings()]

    def used(self, tenant: str) -> int:
        """Bytes of all files of a tenant."""
        table = tables.files
        query = select(func.coalesce(func.sum(table.c.bytes), 0)).where(table.c.tenant == tenant)
        with self._database.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def extend(self, tenant: str, id: str, until_ms: int) -> None:
        """Keep a file at least until then."""
        table = tables.files
        sooner = (table.c.tenant == tenant, table.c.id == id, table.c.expires_ms < until_ms)
        with self._database.writing() as connection:
            connection.execute(update(table).where(*sooner).values(expires_ms=until_ms))

    def delete(self, tenant: str, id: str) -> bool:
        """Delete a file; whether there was one."""
        table = tables.files
        which = (table.c.tenant == tenant, table.c.id == id)
        with self._database.writing() as connection:
            gone = bool(connection.execute(delete(table).where(*which, self._alive())).rowcount)
        if gone:
            self.path(tenant, id).unlink(missing_ok=True)
        return gone

    def forget(self, tenant: str) -> int:
        """Delete everything of a tenant, also what was never finished; how many files that were."""
        with self._database.writing() as connection:
            gone = int(
                connection.execute(delete(tables.files).where(tables.files.c.tenant == tenant)).rowcount
            )
        shutil.rmtree(self.folder / (tenant or "_"), ignore_errors=True)
        return gone

    def expire(self) -> int:
        """Delete what has expired and what was never finished; how many files that were."""
        table, now_ms = tables.files, self.now_ms()
        with self._database.writing() as connection:
            # not looked for first: one that is extended meanwhile stays
            gone = delete(table).where(table.c.expires_ms <= now_ms).returning(table.c.tenant, table.c.id)
            old = [(str(tenant), str(id)) for tenant, id in connection.execute(gone)]
        for tenant, id in old:
            self.path(tenant, id).unlink(missing_ok=True)
        for path in self.folder.glob(f"*/*{UNFINISHED}"):
            try:
                if path.stat().st_mtime * 1000 < now_ms - _FORGOTTEN_MS:
                    path.unlink(missing_ok=True)
            except FileNotFoundError:
                continue
        return len(old)

    def _alive(self) -> Any:
        expires = tables.files.c.expires_ms
        return or_(expires.is_(None), expires > self.now_ms())


def one_by_one(connection: Connection, tenant: str) -> None:
    """Whoever else wants room for a file of this tenant waits until the transaction ends."""
    raise_revision(connection, f"files:{tenant}")


def unwritable(path: Path, error: OSError) -> StoreError:
    """What a person needs to know about a disk that refuses."""
    return StoreError("files.unwritable", where=path.parent, problem=error.strerror or error)
