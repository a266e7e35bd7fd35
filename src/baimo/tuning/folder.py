"""The folder of a tuning job: the only thing that the child process and its parent share.

Prevents the failure where a job dies with the server that started it, or a server with its job: either side may be
killed at any moment, and the other one finds out from files. The child appends events and makes checkpoints; the
parent writes what it wants and reads. Layout:

    spec.json           TuneSpec                        train.jsonl, valid.jsonl   rows
    events.jsonl        appended by the child           control                    what the parent wants: pause, cancel
    lock                held by the child while it lives
    checkpoints/000100/ appear in one piece             adapter/                   the result, appears in one piece
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec

from baimo.core.ids import canonical, plain
from baimo.core.tuning import Row, TuneSpec

Wish = Literal["", "pause", "cancel"]


class JobFolder:
    """One job's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.adapter = path / "adapter"

    # what is asked

    def write(self, spec: TuneSpec, train: Iterable[Row], valid: Iterable[Row] = ()) -> None:
        """Everything that the child needs; the spec comes last, so a folder with a spec is whole."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_rows(self.path / spec.train, train)
        if spec.valid:
            write_rows(self.path / spec.valid, valid)
        _appear(self.path / "spec.json", lambda at: at.write_bytes(canonical(spec)))

    def spec(self) -> TuneSpec:
        """What is asked."""
        return msgspec.json.decode((self.path / "spec.json").read_bytes(), type=TuneSpec)

    def train(self) -> list[Row]:
        """The rows to learn from."""
        return list(rows(self.path / self.spec().train))

    def valid(self) -> list[Row]:
        """The rows to measure; empty = none."""
        spec = self.spec()
        return list(rows(self.path / spec.valid)) if spec.valid else []

    # what happens

    def tell(self, kind: str, **facts: Any) -> None:
        """Append an event: plan, progress (TuneProgress), notice, checkpoint, paused, cancelled, done, failed."""
        event = {"at_ms": time.time_ns() // 1_000_000, "kind": kind, **plain(facts)}
        line = json.dumps(event, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        descriptor = os.open(self.path / "events.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)

    def events(self, start: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """Events from byte `start` on, each with the byte behind it; half a line (a kill) is not shown."""
        try:
            with (self.path / "events.jsonl").open("rb") as file:
                file.seek(start)
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    start += len(line)
                    try:
                        yield start, json.loads(line)
                    except ValueError:  # two halves, of a child that was killed and of its successor
                        continue
        except FileNotFoundError:
            return

    # what the parent wants

    def wish(self, wish: Wish) -> None:
        """Ask the child to pause or to cancel; it looks after every step. Empty = go on."""
        _appear(self.path / "control", lambda at: at.write_text(wish))

    def wished(self) -> Wish:
        """What the parent wants."""
        try:
            found = (self.path / "control").read_text()
        except FileNotFoundError:
            return ""
        return found if found in ("pause", "cancel") else ""

    # who is alive

    @contextmanager
    def held(self) -> Generator[bool]:
        """Whether this process now is the one that works on the job; the kernel lets go when it dies."""
        with (self.path / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    @property
    def alive(self) -> bool:
        """Whether a child works on it."""
        with self.held() as mine:
            return not mine

    # what is kept

    def checkpoint(self, step: int, fill: Callable[[Path], None]) -> Path:
        """Keep the state after `step`; `fill` writes it into the folder that it is given."""
        path = self.path / "checkpoints" / f"{step:06d}"
        path.parent.mkdir(exist_ok=True)
        _appear(path, _filled(fill))
        return path

    def checkpoints(self) -> list[tuple[int, Path]]:
        """Every checkpoint that is whole, by step."""
        found = (self.path / "checkpoints").glob("[0-9]" * 6)
        return sorted((int(path.name), path) for path in found)

    def result(self, fill: Callable[[Path], None]) -> Path:
        """Keep what was learnt; `fill` writes it into the folder that it is given."""
        _appear(self.adapter, _filled(fill))
        return self.adapter


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Rows as JSON lines, in one piece."""

    def fill(at: Path) -> None:
        with at.open("wb") as file:
            file.writelines(canonical(row) + b"\n" for row in rows)

    _appear(path, fill)


def rows(path: Path) -> Iterator[Row]:
    """The rows of a file that `write_rows` wrote."""
    decoder = msgspec.json.Decoder(Row)
    with path.open("rb") as file:
        for line in file:
            yield decoder.decode(line)


def read_json(path: Path) -> Mapping[str, Any]:
    """A JSON object of a job's folder."""
    return json.loads(path.read_bytes())


def _filled(fill: Callable[[Path], None]) -> Callable[[Path], None]:
    def made(at: Path) -> None:
        at.mkdir(parents=True)
        fill(at)

    return made


def _appear(path: Path, fill: Callable[[Path], object]) -> None:
    """Make a file or folder that is either whole or not there, also after a power failure."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    if part.is_dir():
        shutil.rmtree(part)
    fill(part)
    for file in [part, *part.rglob("*")] if part.is_dir() else [part]:
        _sync(file)
    if path.is_dir():
        old = path.with_name(f".{path.name}.{os.getpid()}.old")
        path.rename(old)
        part.rename(path)
        shutil.rmtree(old)
    else:
        part.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
