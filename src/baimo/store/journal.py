"""What a process has begun and ended and the database does not know yet: memory-mapped files that survive `kill -9`.

Prevents four failures: a call that was made and left no line because the process died; a crash by SIGBUS because the
disk was full when a mapped page was touched (space is allocated before it is mapped); an ending that finds no room
(every beginning reserves the room for its ending); and two processes in one journal (a file lock).

A file is a header with a generation number and then entries: length, CRC-32 that starts from the generation, payload.
An entry that a crash tore, and whatever a reused file held before, does not fit its CRC: there the file ends.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import mmap
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from baimo.errors import StoreError

SEGMENT_BYTES = 4 << 20
OPEN, CLOSED = b"o", b"c"

MAGIC = b"baimojl1"
FILE = struct.Struct("<8sQ")
ENTRY = struct.Struct("<II")
_FRAME = ENTRY.size
_pack = ENTRY.pack
_BYTE = [bytes((value,)) for value in range(256)]
_SPARES = 2
"""Empty files that are kept for reuse."""
_PINNED = 4
"""With more files than this, calls that are open for long move on to the newest."""
_CLOSING_BYTES = 1024
"""What an ending may say more than twice its beginning."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

crc32 = zlib.crc32
_data_sync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


class Segment:
    """One mapped file."""

    __slots__ = ("descriptor", "end", "generation", "map", "path", "pending", "size", "synced")

    def __init__(self, path: Path, size: int, generation: int) -> None:
        """
        Raises:
            StoreError: the disk is full, or the file cannot be made.
        """
        self.path, self.size = path, size
        try:
            self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise trouble(path, error) from error
        try:
            _allocate(self.descriptor, size)
            self.map = mmap.mmap(self.descriptor, size)
        except OSError as error:
            os.close(self.descriptor)
            path.unlink()
            raise trouble(path, error) from error
        self.begin(generation)

    def begin(self, generation: int) -> None:
        """Empty it: what is in it now no longer fits its CRCs."""
        self.generation = generation
        self.map[: FILE.size] = FILE.pack(MAGIC, generation)
        self.end = FILE.size
        self.pending = 0
        """Entries that are still needed: open ones, and ended ones that the database does not have yet."""
        self.synced = 0
        """How far it is on disk."""

    def put(self, data: bytes, length: int) -> Position:
        """Write an entry that is needed from now on. The caller holds the journal's lock and has seen that it fits."""
        start = self.end
        end = self.end = start + _FRAME + length
        self.map[start:end] = _pack(length, crc32(data, self.generation & 0xFFFFFFFF)) + data
        self.pending += 1
        return self, start + _FRAME, length

    def close(self, *, remove: bool) -> None:
        """Unmap it."""
        self.map.close()
        os.close(self.descriptor)
        if remove:
            self.path.unlink(missing_ok=True)


Position = tuple[Segment, int, int]
"""Where an entry lies: file, offset, length. A plain tuple, because two are made for every call."""
_NOTHING: tuple[Position | None, int] = (None, 0)


class Journal:
    """The journal of this process. Safe for threads; `opened` and `closed` take a microsecond or two."""

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        """
        Args:
            folder: made here; holds nothing else.
            segment_bytes: size of its files.

        Raises:
            StoreError: it belongs to another process, or cannot be made.
        """
        self.folder = folder
        self._bytes = segment_bytes
        self._longest = segment_bytes // 16
        self._lock = threading.Lock()
        self._syncing = threading.Lock()
        self._numbers = itertools.count(1)
        self._hold: int | None = _own(folder)
        self._open: dict[str, tuple[Position, int]] = {}
        """Where each open entry is, and the room that is promised to its ending."""
        self._spares: list[Segment] = []
        self._current = self._made(segment_bytes)
        self._segments = [self._current]
        # at the end of each file, room for one entry may be lost
        self._room = segment_bytes - FILE.size - self._longest
        """Bytes that are neither written nor promised."""

    def opened(self, id: str, payload: bytes) -> None:
        """Enter a beginning; entered again, it replaces what was said before.

        Raises:
            StoreError: no room for it and its ending, because the disk is full.
        """
        name = id.encode()
        data = OPEN + _BYTE[len(name)] + name + payload
        length = len(data)
        promise = 2 * length + _CLOSING_BYTES
        if promise > self._longest:
            raise StoreError("ledger.entry_too_long", id=id, length=length)
        need = length + _FRAME + promise
        lock = self._lock
        lock.acquire()  # `with` takes three times as long, and this is done twice for every call
        try:
            if self._room < need:
                self._grow()
            segment = self._current
            if segment.size - segment.end < length + _FRAME:
                segment = self._next()
            self._room -= need
            if id in self._open:
                before, promised = self._open[id]
                before[0].pending -= 1
                self._room += promised
            self._open[id] = (segment.put(data, length), promise)
        finally:
            lock.release()

    def closed(self, id: str, payload: bytes, content: bytes = b"") -> tuple[Position, bool]:
        """Enter an ending. Its room was reserved when it was opened.

        Args:
            id: as it was opened with.
            payload: what is to become a line.
            content: what is kept with it if there is room.

        Returns:
            Where it lies, and whether `content` is kept.

        Raises:
            StoreError: it is longer than twice its beginning, or was never opened, and the disk is full; or the
                journal is closed.
        """
        if self._hold is None:
            raise StoreError("ledger.stopped")
        name = id.encode()
        data = CLOSED + _BYTE[len(name)] + name + payload
        length = len(data)
        lock = self._lock
        lock.acquire()
        try:
            before, promise = self._open.pop(id, _NOTHING)
            if before is not None:
                before[0].pending -= 1
                self._room += promise
            if content:
                with suppress(StoreError):
                    return self._placed(data + content), True
            if length > promise:
                try:
                    return self._placed(data), not content
                except StoreError:
                    if before is not None:  # it stays open: better interrupted than lost
                        self._open[id] = before, promise
                        before[0].pending += 1
                        self._room -= promise
                    raise
            segment = self._current
            if segment.size - segment.end < length + _FRAME:
                segment = self._next()
            self._room -= length + _FRAME
            return segment.put(data, length), not content
        finally:
            lock.release()

    def read(self, position: Position) -> bytes:
        """The payload of an ending, with its content."""
        segment, offset, length = position
        data = segment.map[offset : offset + length]
        return data[2 + data[1] :]

    def applied(self, positions: Iterable[Position]) -> None:
        """The database has these endings now."""
        with self._lock:
            for segment, _, _ in positions:
                segment.pending -= 1

    def reclaim(self, database_sync: Callable[[], None]) -> None:
        """Reuse the files in which nothing is needed any more, and have an empty one ready.

        Args:
            database_sync: waits until the database has what it has for good: only then may it be forgotten here.
        """
        with self._syncing:
            with self._lock:
                if len(self._segments) > _PINNED:
                    self._carry()
                idle = [one for one in self._segments if one is not self._current and not one.pending]
            if idle:
                database_sync()
                self._sync()  # what moved on must be there before what it was copied from goes
            reused: list[Segment] = []
            for segment in idle:  # calls go on meanwhile: files are slow
                if segment.size == self._bytes and len(self._spares) + len(reused) < _SPARES:
                    segment.begin(next(self._numbers))
                    reused.append(segment)
            with self._lock:
                for segment in idle:
                    self._segments.remove(segment)
                for segment in reused:
                    self._add(segment)
            for segment in idle:
                if segment not in reused:
                    segment.close(remove=True)
            if not self._spares:
                with suppress(StoreError):  # there is room in this one yet
                    spare = self._made(self._bytes)
                    with self._lock:
                        self._add(spare)

    def sync(self) -> None:
        """Wait until everything entered so far is on disk.

        Raises:
            StoreError: the disk does not take it.
        """
        with self._syncing:
            self._sync()

    @property
    def open(self) -> int:
        """How many entries are open."""
        return len(self._open)

    @property
    def bytes(self) -> int:
        """Disk space that it takes."""
        with self._lock:
            return sum(segment.size for segment in (*self._segments, *self._spares))

    def close(self) -> None:
        """Give the files back; they are removed if nothing in them is needed any more."""
        with self._syncing, self._lock:
            needed = any(segment.pending for segment in self._segments)
            for segment in (*self._segments, *self._spares):
                segment.close(remove=not needed)
            self._segments, self._spares = [], []
            if self._hold is not None:
                if not needed:
                    removed(self.folder)
                os.close(self._hold)
                self._hold = None

    def _placed(self, data: bytes) -> Position:
        """Write what no room was promised to."""
        length = len(data)
        if length > self._longest:
            segment = self._made(FILE.size + _FRAME + length)  # alone, so that it takes nobody's room
            self._segments.append(segment)
            return segment.put(data, length)
        if self._room < length + _FRAME:
            self._grow()
        segment = self._current
        if segment.size - segment.end < length + _FRAME:
            segment = self._next()
        self._room -= length + _FRAME
        return segment.put(data, length)

    def _next(self) -> Segment:
        """Go on in an empty file."""
        if not self._spares:
            self._grow()
        # what is lost here was set aside when the file was added
        self._room += self._longest - (self._current.size - self._current.end)
        # the file keeps it; this process need not hold it as well
        self._current.map.madvise(mmap.MADV_DONTNEED)
        self._current = self._spares.pop(0)
        self._segments.append(self._current)
        return self._current

    def _grow(self) -> None:
        self._add(self._made(self._bytes))

    def _add(self, segment: Segment) -> None:
        self._spares.append(segment)
        self._room += segment.size - segment.end - self._longest

    def _made(self, size: int) -> Segment:
        number = next(self._numbers)
        return Segment(self.folder / f"{number:08d}.journal", size, number)

    def _carry(self) -> None:
        """Copy what is open in the oldest file to the newest, if that is all that holds the old one."""
        oldest = next(one for one in self._segments if one is not self._current)
        for id, (position, promise) in list(self._open.items()):
            segment, offset, length = position
            if segment is oldest:
                try:
                    self._open[id] = (self._placed(oldest.map[offset : offset + length]), promise)
                except StoreError:
                    return
                oldest.pending -= 1

    def _sync(self) -> None:
        with self._lock:
            dirty = [(segment, segment.end) for segment in self._segments if segment.synced < segment.end]
        for segment, end in dirty:
            try:
                _data_sync(segment.descriptor)
            except OSError as error:
                raise trouble(segment.path, error) from error
            segment.synced = end


def _own(folder: Path) -> int:
    """Make the folder, locked from the moment at which others can see it."""
    hidden = folder.with_name(f".{folder.name}-{os.getpid()}")
    try:
        hidden.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        hidden.mkdir(mode=0o700)
    except OSError as error:
        raise StoreError("store.cannot_create", where=folder, problem=error.strerror) from error
    hold = held(hidden)
    try:
        hidden.rename(folder)
    except OSError as error:
        removed(hidden)
        raise StoreError("ledger.journal_taken", where=folder) from error
    if hold is None:  # pragma: no cover - the name is ours alone
        raise StoreError("ledger.journal_taken", where=folder)
    return hold


def removed(folder: Path) -> None:
    """Remove an emptied journal's folder."""
    (folder / "lock").unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def held(folder: Path) -> int | None:
    """A file lock that ends with the process that holds it; None = somebody else has it."""
    path = folder / "lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None  # another process has just removed the folder
    except OSError as error:
        raise trouble(path, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # whoever had it may have removed it meanwhile: then this lock is on a file that nobody else sees
        if os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _allocate(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:  # pragma: no cover - macOS
        os.write(descriptor, bytes(size))


def trouble(path: Path, error: OSError) -> StoreError:
    """What a failed operation on a file means."""
    kind = "store.full" if error.errno in _FULL else "store.failed"
    return StoreError(kind, where=path, problem=error.strerror)
