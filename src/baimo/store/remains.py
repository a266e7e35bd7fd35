"""What a process that is gone left in its journal: calls that had ended, and calls that were under way.

Prevents two failures: two processes that replay the same journal (the replayer holds its file lock), and a torn last
entry that makes everything before it unreadable.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from baimo.store.journal import ENTRY, FILE, MAGIC, OPEN, crc32, held, removed


class Remains:
    """The journal of a process that is gone. Holds its lock, so that only one other process replays it."""

    def __init__(self, folder: Path, hold: int) -> None:
        self.folder = folder
        self._hold = hold
        self._open: dict[str, tuple[Path, int, int]] = {}
        self._closed: dict[str, tuple[Path, int, int]] = {}
        for path in sorted(folder.glob("*.journal")):
            for kind, id, offset, length in _entries(path):
                (self._open if kind == OPEN else self._closed)[id] = (path, offset, length)

    @property
    def closed(self) -> list[str]:
        """Ids of calls that had ended."""
        return list(self._closed)

    @property
    def interrupted(self) -> list[str]:
        """Ids of calls that had begun and not ended."""
        return [id for id in self._open if id not in self._closed]

    def read(self, id: str) -> bytes:
        """The payload of an ending, else of a beginning."""
        path, offset, length = self._closed.get(id) or self._open[id]
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def remove(self) -> None:
        """Everything in it is in the database: forget it."""
        for path in self.folder.glob("*.journal"):
            path.unlink(missing_ok=True)
        removed(self.folder)
        self.close()

    def close(self) -> None:
        """Leave it to another process."""
        if self._hold >= 0:
            os.close(self._hold)
            self._hold = -1


def remains(folder: Path) -> Remains | None:
    """The journal in this folder if its process is gone; None while it lives, or where there is none."""
    if not folder.is_dir():
        return None
    hold = held(folder)
    return None if hold is None else Remains(folder, hold)


def _entries(path: Path) -> Iterator[tuple[bytes, str, int, int]]:
    """Kind, id, and place of the payload of each entry up to the first that is torn."""
    data = path.read_bytes()
    if len(data) < FILE.size:
        return
    magic, generation = FILE.unpack_from(data)
    offset = FILE.size
    while magic == MAGIC and offset + ENTRY.size <= len(data):
        length, crc = ENTRY.unpack_from(data, offset)
        start, offset = offset + ENTRY.size, offset + ENTRY.size + length
        if not 2 <= length <= len(data) - start or crc32(data[start:offset], generation & 0xFFFFFFFF) != crc:
            return
        inner = start + 2 + data[start + 1]
        yield data[start : start + 1], data[start + 2 : inner].decode(), inner, offset - inner
