"""Uploads: a long file that comes in parts, possibly over days of bad connections, and becomes one file at the end.

Prevents three failures: parts that fill another tenant's disk (what is announced is reserved, and no more is taken),
a file whose parts were put together in the wrong order or twice, and parts that nobody ever asks for again (an upload
expires).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, delete, func, insert, select, update

from baimo.core.ids import plain, sortable_id
from baimo.core.tenant import DataClass
from baimo.errors import CallRefused, Conflict, NotFound, TooLarge
from baimo.store import tables
from baimo.store.engine import Database
from baimo.store.files import Files, Incoming, StoredFile, one_by_one, unwritable
from baimo.store.shelf import Shelf
from baimo.typed import from_json

LIVES_MS = 3_600_000
"""An upload that is not completed within an hour of its beginning expires."""
MOST_PARTS = 2000
MOST_PENDING = 100
"""Uploads of one tenant at once."""
LONGEST_PART = 64 * 1024 * 1024
_REMEMBERED_MS = 7 * 86_400_000
"""How long it is known what became of an upload."""
_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadPart:
    """A piece of a file."""

    id: str
    """part_… sortable by time."""
    bytes: int
    """Length."""
    created_ms: int
    """Wall clock, milliseconds since 1970."""
    data_class: DataClass = "public"
    """Of what it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file on its way in."""

    id: str
    """upload_… sortable by time."""
    tenant: str
    """Tenant.id; empty = the workspace's owner."""
    key: str
    """Public part of the key that began it."""
    name: str
    """As the client calls the file."""
    purpose: str
    """What the file may be used for."""
    bytes: int
    """Length that was announced."""
    created_ms: int
    """Wall clock, milliseconds since 1970."""
    expires_ms: int
    """Nothing is taken from then on."""
    lives_s: int | None = None
    """Seconds that the file is kept; None = it stays."""
    data_class: DataClass = "public"
    """Of the file."""
    status: Literal["pending", "completed", "cancelled", "expired"] = "pending"
    """As OpenAI names it."""
    parts: tuple[UploadPart, ...] = ()
    """What has come."""
    file: str = ""
    """StoredFile.id, once it is complete."""


class Uploads(Shelf):
    """Keeps uploads. Every method is one transaction around what happens on the disk; all block."""

    def __init__(self, database: Database, files: Files, now_ms: Callable[[], int] | None = None) -> None:
        """
        Args:
            database: where the rows are kept.
            files: what uploads become; parts lie in its folder.
            now_ms: wall clock, milliseconds since 1970.
        """
        super().__init__(database, now_ms)
        self._files = files

    def begin(
        self,
        *,
        tenant: str,
        key: str,
        name: str,
        purpose: str,
        size: int,
        lives_s: int | None,
        data_class: DataClass = "public",
    ) -> Upload:
        """Announce a file.

        Args:
            tenant: whose.
            key: public part of the key that asks.
            name: as the client calls it.
            purpose: what it may be used for.
            size: bytes.
            lives_s: seconds until the file is deleted, once it is one; None = it stays.
            data_class: of the file.

        Raises:
            TooLarge: the tenant has no room for it beside its files and what it has announced before.
        """
        now_ms = self.now_ms()
        made = Upload(
            id=sortable_id("upload", now_ms, os.urandom(7)),
            tenant=tenant,
            key=key,
            name=name,
            purpose=purpose,
            bytes=size,
            created_ms=now_ms,
            expires_ms=now_ms + LIVES_MS,
            lives_s=lives_s,
            data_class=data_class,
        )
        most = self._files.most_bytes
        with self._database.writing() as connection:
            one_by_one(connection, tenant)
            pending = list(self._pending(connection, tenant))
            if len(pending) >= MOST_PENDING:
                raise TooLarge("uploads.too_many", limit=MOST_PENDING)
            table = tables.files
            kept = select(func.coalesce(func.sum(table.c.bytes), 0)).where(table.c.tenant == tenant)
            taken = int(connection.execute(kept).scalar_one()) + sum(one.bytes for one in pending)
            if most is not None and taken + size > most:
                raise TooLarge("files.quota", limit=most)
            connection.execute(insert(tables.uploads).values(_row(made)))
        return made

    def get(self, tenant: str, id: str) -> Upload | None:
        """A tenant's upload; None when there is none, or it is another's."""
        with self._database.reading() as connection:
            return self._found(connection, tenant, id)

    def incoming(self, upload: Upload) -> Incoming:
        """Begin to take a part.

        Raises:
            Conflict: nothing is taken any more.
            TooLarge: there are too many parts.
            StoreError: the folder cannot be written.
        """
        _open(upload)
        if len(upload.parts) >= MOST_PARTS:
            raise TooLarge("uploads.too_many_parts", limit=MOST_PARTS)
        left = upload.bytes - sum(part.bytes for part in upload.parts)
        part = sortable_id("part", self.now_ms(), os.urandom(7))
        return Incoming(self._folder(upload) / part, min(left, LONGEST_PART))

    def add(self, upload: Upload, incoming: Incoming, data_class: DataClass = "public") -> UploadPart:
        """Finish a part and enter it.

        Args:
            upload: that it is a part of.
            incoming: its bytes.
            data_class: of what it holds.

        Raises:
            Conflict: nothing is taken any more.
            TooLarge: together with parts that came meanwhile it is more than was announced.
            StoreError: it cannot be kept.
        """
        incoming.finish()
        part = UploadPart(
            id=incoming.path.name, bytes=incoming.size, created_ms=self.now_ms(), data_class=data_class
        )

        def longer(one: Upload) -> Upload:
            if sum(known.bytes for known in one.parts) + part.bytes > one.bytes:
                raise TooLarge("uploads.more_than_announced", bytes=one.bytes)
            return replace(one, parts=(*one.parts, part))

        try:
            self._change(upload.tenant, upload.id, longer)
        except BaseException:
            incoming.path.unlink(missing_ok=True)
            raise
        return part

    def complete(self, upload: Upload, parts: Sequence[str], md5: str | None) -> tuple[Upload, StoredFile]:
        """Put the file together.

        Args:
            upload: what has come.
            parts: ids of its parts, in their order.
            md5: of the whole file, hexadecimal; None = not checked.

        Raises:
            CallRefused: a part is unknown or named twice, or the whole is not what was announced.
            Conflict: it has ended already.
            TooLarge: the tenant has no room.
            StoreError: the disk is full or gone.
        """
        _open(upload)
        known = {part.id: part for part in upload.parts}
        for id in parts:
            if id not in known:
                raise CallRefused("uploads.unknown_part", field="part_ids", part=id[:100], id=upload.id)
        if len(set(parts)) < len(parts):
            raise CallRefused("uploads.part_twice", field="part_ids")
        size = sum(known[id].bytes for id in parts)
        if size != upload.bytes:
            raise CallRefused("uploads.wrong_size", field="part_ids", bytes=size, announced=upload.bytes)
        file = self._put_together(upload, parts, md5)
        try:
            ended = self._change(
                upload.tenant, upload.id, lambda one: replace(one, status="completed", file=file.id)
            )
        except BaseException:
            self._files.delete(upload.tenant, file.id)
            raise
        self._clear(upload)
        return ended, file

    def cancel(self, upload: Upload) -> Upload:
        """Forget its parts.

        Raises:
            Conflict: it has ended already.
        """
        ended = self._change(upload.tenant, upload.id, lambda one: replace(one, status="cancelled"))
        self._clear(upload)
        return ended

    def expire(self) -> int:
        """Forget the parts of what was never completed; how many uploads that were."""
        table, now_ms = tables.uploads, self.now_ms()
        late = (table.c.status == "pending", table.c.expires_ms <= now_ms)
        with self._database.writing() as connection:
            rows = connection.execute(select(table.c.upload).where(*late).with_for_update()).all()
            old = [replace(_decoded(row[0]), status="expired") for row in rows]
            for one in old:
                connection.execute(update(table).where(*_which(one.tenant, one.id)).values(_row(one)))
            ended = table.c.status != "pending"
            connection.execute(delete(table).where(ended, table.c.created_ms < now_ms - _REMEMBERED_MS))
        for one in old:
            self._clear(one)
        return len(old)

    def forget(self, tenant: str) -> None:
        """Delete every upload of a tenant; `Files.forget` takes the parts along."""
        with self._database.writing() as connection:
            connection.execute(delete(tables.uploads).where(tables.uploads.c.tenant == tenant))

    def _put_together(self, upload: Upload, parts: Sequence[str], md5: str | None) -> StoredFile:
        whole = self._files.incoming(upload.tenant, upload.bytes)
        seen = hashlib.md5(usedforsecurity=False)  # what the client checks with, not what we rely on
        try:
            for piece in _pieces([self._folder(upload) / id for id in parts]):
                seen.update(piece)
                whole.write(piece)
            if md5 is not None and seen.hexdigest() != md5.lower():
                raise CallRefused("uploads.wrong_md5", field="md5", got=seen.hexdigest(), expected=md5[:40])
            return self._files.keep(
                whole,
                tenant=upload.tenant,
                key=upload.key,
                name=upload.name,
                purpose=upload.purpose,
                lives_s=upload.lives_s,
                data_class=upload.data_class,
            )
        finally:
            whole.abandon()

    def _change(self, tenant: str, id: str, changed: Callable[[Upload], Upload]) -> Upload:
        with self._database.writing() as connection:
            before = self._found(connection, tenant, id, lock=self._database.dialect == "postgresql")
            if before is None:
                raise NotFound("uploads.unknown", id=id[:100])
            _open(before)
            after = changed(before)
            connection.execute(update(tables.uploads).where(*_which(tenant, id)).values(_row(after)))
        return after

    def _found(self, connection: Connection, tenant: str, id: str, *, lock: bool = False) -> Upload | None:
        query = select(tables.uploads.c.upload).where(*_which(tenant, id))
        row = connection.execute(query.with_for_update() if lock else query).first()
        return None if row is None else self._aged(_decoded(row[0]))

    def _pending(self, connection: Connection, tenant: str) -> Iterator[Upload]:
        table = tables.uploads
        open_ = (table.c.status == "pending", table.c.expires_ms > self.now_ms())
        for row in connection.execute(select(table.c.upload).where(table.c.tenant == tenant, *open_)):
            yield _decoded(row[0])

    def _aged(self, upload: Upload) -> Upload:
        late = upload.status == "pending" and upload.expires_ms <= self.now_ms()
        return replace(upload, status="expired") if late else upload

    def _folder(self, upload: Upload) -> Path:
        return self._files.path(upload.tenant, upload.id)

    def _clear(self, upload: Upload) -> None:
        shutil.rmtree(self._folder(upload), ignore_errors=True)


def _open(upload: Upload) -> None:
    if upload.status != "pending":
        raise Conflict("uploads.ended", id=upload.id, status=upload.status)


def _pieces(paths: Sequence[Path]) -> Iterator[bytes]:
    for path in paths:
        try:
            with path.open("rb") as file:
                while piece := file.read(_PIECE):
                    yield piece
        except OSError as error:
            raise unwritable(path, error) from error


def _which(tenant: str, id: str) -> tuple[Any, ...]:
    return tables.uploads.c.tenant == tenant, tables.uploads.c.id == id


def _decoded(text: str) -> Upload:
    return from_json(text, Upload)


def _row(upload: Upload) -> dict[str, Any]:
    facts = {name: getattr(upload, name) for name in ("tenant", "id", "status", "created_ms", "expires_ms")}
    return {**facts, "upload": msgspec.json.encode(plain(upload)).decode()}
