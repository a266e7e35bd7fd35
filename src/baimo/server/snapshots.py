"""Counts of all workers of a workspace: each writes its own to a file, whoever is asked adds them up.

Prevents three failures: a figure that depends on which worker was asked, a counter that goes back because a worker
died, and counts of a dead worker that are taken twice. Whether a worker lives is told by a file lock, which ends with
its process however that ended; dead workers' counts move into one file, which remembers whom it has taken.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from baimo.server.metrics import BY_NAME, Histogram, Labels, add
from baimo.typed import from_msgpack

REMEMBERED = 256
"""Workers whose counts were taken and whose file may still be there."""
MOST_KEPT = 20_000
"""Combinations of labels that are kept of dead workers."""

Value = int | float


class Snapshot(msgspec.Struct, array_like=True):
    """What one worker has counted."""

    id: str
    """Of the worker; process ids come again."""
    pid: int
    counters: list[tuple[Labels, Value]] = []
    histograms: list[tuple[Labels, list[int], float]] = []
    gauges: list[tuple[Labels, Value]] = []
    taken: list[str] = []
    """Of the dead: whose counts are in here."""


class Sum:
    """Counts of several workers."""

    def __init__(self) -> None:
        self.counters: dict[Labels, Value] = {}
        self.histograms: dict[Labels, Histogram] = {}
        self.gauges: dict[Labels, Value] = {}

    def add(self, snapshot: Snapshot, *, gauges: bool) -> None:
        """Add one; names of another version are left out."""
        for labels, value in snapshot.counters:
            if labels[0] in BY_NAME and (labels in self.counters or len(self.counters) < MOST_KEPT):
                self.counters[labels] = self.counters.get(labels, 0) + value
        for labels, counts, total_s in snapshot.histograms:
            if labels[0] in BY_NAME and (labels in self.histograms or len(self.histograms) < MOST_KEPT):
                add(self.histograms, labels, counts, total_s)
        for labels, value in snapshot.gauges if gauges else ():
            metric = BY_NAME.get(labels[0])
            if metric is not None:
                before = self.gauges.get(labels)
                both = (
                    value
                    if before is None
                    else max(before, value)
                    if metric.workers == "max"
                    else before + value
                )
                self.gauges[labels] = both

    def snapshot(self, taken: Iterable[str]) -> Snapshot:
        """As it is written for the dead."""
        return Snapshot(
            "",
            0,
            list(self.counters.items()),
            [(labels, one.counts, one.total_s) for labels, one in self.histograms.items()],
            taken=list(taken)[-REMEMBERED:],
        )


class Snapshots:
    """The files of this process and of those beside it. Its methods block for as long as small files take."""

    def __init__(self, folder: Path, *, pid: int | None = None) -> None:
        """Enter this process among the workers.

        Args:
            folder: `<workspace>/run`, shared by all workers of this machine.
            pid: of this process.

        Raises:
            OSError: the folder cannot be written.
        """
        self.id = secrets.token_hex(8)
        self.pid = os.getpid() if pid is None else pid
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._past = folder / "metrics-past.bin"
        with self._alone():
            self._take_dead()  # one of them may have had our process id
            self._hold = _locked(self._lock(self.pid))

    def write(self, snapshot: Snapshot) -> None:
        """Replace what this worker has said so far.

        Raises:
            OSError: the disk is full, or the folder is gone.
        """
        _replaced(self._file(self.pid), msgspec.msgpack.encode(snapshot))

    def sum(self, own: Snapshot) -> Sum:
        """The counts of everybody.

        Args:
            own: of this worker, as it is now; written, so that nobody will show less than this.

        Raises:
            OSError: the folder cannot be read or written.
        """
        found = Sum()
        with self._alone():
            self.write(own)
            past = self._take_dead()
            found.add(past, gauges=False)
            found.add(own, gauges=True)
            for path in self._folder.glob("metrics-[0-9]*.bin"):
                other = _read(path)
                if other is not None and other.id != self.id and other.id not in past.taken:
                    found.add(other, gauges=True)
        return found

    def close(self) -> None:
        """This worker ends: others take over what it has counted."""
        if self._hold is not None:
            with suppress(OSError), self._alone():
                os.close(self._hold)
                self._hold = None
                self._take_dead()

    def _take_dead(self) -> Snapshot:
        """Move the counts of workers that are gone into one file; returns it. The caller is `_alone`."""
        past = _read(self._past) or Snapshot("", 0)
        found = Sum()
        found.add(past, gauges=False)
        taken, gone = list(past.taken), list[Path]()
        for path in self._folder.glob("metrics-[0-9]*.lock"):
            hold = _locked(path)
            if hold is None:
                continue
            os.close(hold)
            file = path.with_suffix(".bin")
            dead = _read(file)
            if dead is not None and dead.id not in taken:
                found.add(dead, gauges=False)
                taken.append(dead.id)
            gone += (file, path)
        if taken != past.taken:
            past = found.snapshot(taken)
            _replaced(self._past, msgspec.msgpack.encode(past))
        for path in gone:
            path.unlink(missing_ok=True)
        return past

    def _file(self, pid: int) -> Path:
        return self._folder / f"metrics-{pid}.bin"

    def _lock(self, pid: int) -> Path:
        return self._folder / f"metrics-{pid}.lock"

    @contextmanager
    def _alone(self) -> Generator[None]:
        """No other process reads or moves files meanwhile."""
        descriptor = os.open(self._folder / "metrics.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _locked(path: Path) -> int | None:
    """A lock that ends with the process; None = somebody has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _read(path: Path) -> Snapshot | None:
    """What a file holds; None = nothing that can be used."""
    try:
        return from_msgpack(path.read_bytes(), Snapshot)
    except (OSError, msgspec.MsgspecError):
        return None


def _replaced(path: Path, data: bytes) -> None:
    beside = path.with_suffix(".new")
    beside.write_bytes(data)
    beside.replace(path)
