"""The folder of a tuning job: the only thing that the child process and its parent share.

Prevents the failure where a job dies with the server that started it, or a server with its job: either side may be
killed at any moment, and the other one finds out from files. The child appends events and makes checkpoints; the
parent writes what it wants and reads. Layout:

    spec.json           TuneSpec                        train.jsonl, valid.jsonl   rows
    events.jsonl        appended by both                control                    what the parent wants: pause, cancel
    lock                held by the child while it lives, with its process id
    keeper              held by the process that looks after the job
    log                 what the child and its libraries print
    overrides.json      settings that the parent makes smaller after a death
    checkpoints/000100/ appear in one piece             adapter/                   the result, appears in one piece
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal, cast

from baimo.core.ids import canonical, plain
from baimo.core.tuning import Row, TuneSpec
from baimo.typed import from_json, json_decoder

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
        return from_json((self.path / "spec.json").read_bytes(), TuneSpec)

    def train(self) -> list[Row]:
        """The rows to learn from."""
        return list(rows(self.path / self.spec().train))

    def valid(self) -> list[Row]:
        """The rows to measure; empty = none."""
        spec = self.spec()
        return list(rows(self.path / spec.valid)) if spec.valid else []

    # what happens

    def tell(self, kind: str, **facts: Any) -> None:
        """Append an event: plan, progress (TuneProgress), notice, checkpoint, paused, cancelled, done, failed.

        A figure that is no number (a loss that has left the range of floats) is told as null.
        """
        event = {"at_ms": time.time_ns() // 1_000_000, "kind": kind, **_finite(plain(facts))}
        line = json.dumps(event, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        descriptor = os.open(self.path / "events.jsonl", os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            end = os.fstat(descriptor).st_size
            if end and os.pread(descriptor, 1, end - 1) != b"\n":
                line = b"\n" + line  # a power failure tore the last line: lose no more than that one
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
                    except ValueError:  # torn
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
        # whoever looks whether somebody has the lock has it for that moment
        with lock(self.path / "lock", tries=20) as mine:
            if mine:
                (self.path / "lock").write_text(str(os.getpid()))
            yield mine

    @property
    def alive(self) -> bool:
        """Whether a child works on it."""
        with lock(self.path / "lock") as mine:
            return not mine

    @property
    def pid(self) -> int | None:
        """Process id of the child, which leads a process group; None = there is none."""
        if not self.alive:
            return None
        said = (self.path / "lock").read_text()
        return int(said) if said.isdigit() else None

    def keeper(self) -> AbstractContextManager[bool]:
        """Whether this process now is the one that looks after the job; the kernel lets go when it dies."""
        return lock(self.path / "keeper")

    @property
    def kept(self) -> bool:
        """Whether a process looks after the job."""
        with self.keeper() as mine:
            return not mine

    # what is made smaller

    def overrides(self) -> dict[str, Any]:
        """Settings that are stronger than the spec's: what had to be made smaller after a death."""
        try:
            return dict(read_json(self.path / "overrides.json"))
        except FileNotFoundError:
            return {}

    def override(self, **settings: Any) -> None:
        """Make settings stronger than the spec's, besides those that are already."""
        made = canonical({**self.overrides(), **settings})
        _appear(self.path / "overrides.json", lambda at: at.write_bytes(made))

    # what is kept

    def checkpoint(self, step: int, fill: Callable[[Path], None]) -> Path:
        """Keep the state after `step`; `fill` writes it into the folder that it is given."""
        path = self.path / "checkpoints" / f"{step:06d}"
        path.parent.mkdir(exist_ok=True)
        _appear(path, _filled(fill))
        return path

    def checkpoints(self) -> list[tuple[int, Path]]:
        """Every checkpoint that is whole, by step."""
        found = (self.path / "checkpoints").glob("[0-9]*")
        return sorted((int(path.name), path) for path in found)

    def sweep(self) -> None:
        """Remove what a child that was killed left half done; only for who holds the job."""
        for folder in (self.path, self.path / "checkpoints"):
            for path in folder.glob(".*.part"):
                if not path.name.startswith(".control."):  # the parent's, who may be writing it just now
                    _remove(path)
            for path in folder.glob(".*.old"):  # killed while the new one took its place
                place = path.with_name(path.name[1:].rsplit(".", 2)[0])
                _remove(path) if place.exists() else path.rename(place)

    def result(self, fill: Callable[[Path], None]) -> Path:
        """Keep what was learnt; `fill` writes it into the folder that it is given."""
        _appear(self.adapter, _filled(fill))
        return self.adapter


@contextmanager
def lock(path: Path, *, tries: int = 1) -> Generator[bool]:
    """Whether this process now has the lock that this file is; the kernel lets go when it dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        for left in reversed(range(tries)):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not left:
                    yield False
                    return
                time.sleep(0.02)
        yield True


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Rows as JSON lines, in one piece."""

    def fill(at: Path) -> None:
        with at.open("wb") as file:
            file.writelines(canonical(row) + b"\n" for row in rows)

    _appear(path, fill)


def rows(path: Path) -> Iterator[Row]:
    """The rows of a file that `write_rows` wrote."""
    decode = json_decoder(Row)
    with path.open("rb") as file:
        for line in file:
            yield decode(line)


def read_json(path: Path) -> Mapping[str, Any]:
    """A JSON object of a job's folder."""
    return json.loads(path.read_bytes())


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_finite(one) for one in cast("list[Any]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _filled(fill: Callable[[Path], None]) -> Callable[[Path], None]:
    def made(at: Path) -> None:
        at.mkdir(parents=True)
        fill(at)

    return made


def _appear(path: Path, fill: Callable[[Path], object]) -> None:
    """Make a file or folder that is either whole or not there, also after a power failure."""
    part = path.with_name(f".{path.name}.{threading.get_native_id()}.part")
    if part.exists():
        _remove(part)
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
