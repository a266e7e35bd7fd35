"""Every version of a task's files: who changed what, when, and the way back.

Prevents three failures: two people whose edits undo each other unseen (a change is computed and written under one
lock), a file that is half written when the process dies (each takes its place in one step, what is being replaced
stays until then), and a change by hand that the history denies (what is found differently is entered as a version).

Everything lies in `.history` beside the files: `log.jsonl` has a line per version, `changes/N.json.gz` its lines
before and after, `state` the files as the newest version left them.
"""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from baimo.core.ids import plain
from baimo.errors import Conflict, NotFound, TaskError
from baimo.store.audit import Actor
from baimo.tuning.folder import lock
from baimo.typed import from_json

FOLDER = ".history"
_PATIENCE = 500
"""Looks at a lock that another process has, 20 ms apart."""
Texts = Mapping[str, str | None]
"""File name → its text; None = there is no such file."""


class Cut(NamedTuple):
    """Lines of a file that were replaced."""

    start: int
    """Place of the first, from 0."""
    old: list[str]
    new: list[str]


class Delta(NamedTuple):
    """How a file changed."""

    was: bool
    """Whether there was a file before."""
    stays: bool
    """Whether there is one afterwards."""
    cuts: list[Cut]


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One change."""

    version: int
    """From 1."""
    at_ms: int
    """Wall clock, milliseconds since 1970."""
    tenant: str = ""
    """Who changed it."""
    key: str = ""
    """Public part of their key; empty = somebody at the machine."""
    act: str
    """found, outside, create, import, add, edit, delete, split, label, restore, describe, review, copy."""
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What in particular: ids, counts, lines left out."""
    test: int = 0
    """Examples of the test split afterwards."""
    train: int = 0
    hash: str = ""
    """Task.hash afterwards: a comparison with the same one was made on these very examples."""


class Made(NamedTuple):
    """A change that is to be entered."""

    texts: Texts
    facts: Mapping[str, Any] = {}


class Measured(NamedTuple):
    """The task as its files give it."""

    test: int = 0
    train: int = 0
    hash: str = ""


class History:
    """The versions of one task. Methods block."""

    def __init__(
        self, folder: Path, names: Callable[[], Iterable[str]], measured: Callable[[], Measured]
    ) -> None:
        """
        Args:
            folder: of the task.
            names: the files of it that are looked after, as they are called now; none = it is a new one.
            measured: reads it.
        """
        self.folder = folder
        self._names = names
        self._measured = measured
        self._at = folder / FOLDER

    def versions(self) -> list[Version]:
        """All of them, the oldest first."""
        try:
            lines = (self._at / "log.jsonl").read_bytes().splitlines()
        except FileNotFoundError:
            return []
        return [from_json(line, Version) for line in lines if line.strip()]

    def changed(self, version: int) -> dict[str, Delta]:
        """What a version changed, by file.

        Raises:
            NotFound: there is no such version.
        """
        try:
            packed = (self._at / "changes" / f"{version}.json.gz").read_bytes()
        except FileNotFoundError:
            raise NotFound("tasks.no_version", version=version, field="/version") from None
        return from_json(gzip.decompress(packed), dict[str, Delta])

    def at(self, version: int) -> Texts:
        """The files as a version left them.

        Raises:
            NotFound: there is no such version.
        """
        versions = self.versions()
        if not 1 <= version <= len(versions):
            raise NotFound("tasks.no_version", version=version, field="/version")
        texts = dict(self._kept())
        for later in range(len(versions), version, -1):
            for name, delta in self.changed(later).items():
                texts[name] = _undone(texts.get(name), delta)
        return texts

    def change(self, by: Actor, act: str, make: Callable[[], Made], now_ms: int) -> Version | None:
        """Enter a change.

        Args:
            by: who makes it.
            act: what is done.
            make: the change, computed from the files as they are under the lock.
            now_ms: wall clock.

        Returns:
            The version; None when nothing differs.

        Raises:
            Conflict: another process has been changing it for ten seconds.
            TaskError: it cannot be written.
        """
        with locked(self.folder):
            self._noticed(now_ms)
            made = make()
            deltas = _deltas({name: self._text(name) for name in made.texts}, made.texts)
            if not deltas:
                return None
            try:
                for name in deltas:
                    _put(self.folder / name, made.texts[name])
                return self._entered(by, act, made, deltas, now_ms)
            except OSError as error:
                raise TaskError("tasks.unwritable", path=self.folder.name, problem=error.strerror) from error

    def _noticed(self, now_ms: int) -> None:
        """Enter what was there before the first version, or was changed by hand since the last."""
        kept = self._kept()
        there = {name: self._text(name) for name in {*self._names(), *kept}}
        deltas = _deltas({name: kept.get(name) for name in there}, there)
        if deltas:
            self._entered(Actor(), "outside" if kept else "found", Made(there), deltas, now_ms)

    def _entered(self, by: Actor, act: str, made: Made, deltas: Mapping[str, Delta], now_ms: int) -> Version:
        version = Version(
            version=len(self.versions()) + 1,
            at_ms=now_ms,
            **by._asdict(),
            act=act,
            facts=made.facts,
            **self._measured()._asdict(),
        )
        packed = gzip.compress(msgspec.json.encode(deltas), mtime=0)
        _put_bytes(self._at / "changes" / f"{version.version}.json.gz", packed)
        for name in deltas:
            _put(self._at / "state" / name, made.texts[name])
        # last: a version that is not in the log was never made, and what it changed is found as a change by hand
        with (self._at / "log.jsonl").open("ab") as log:
            log.write(msgspec.json.encode(plain(version)) + b"\n")
        return version

    def _kept(self) -> dict[str, str | None]:
        state = self._at / "state"
        paths = sorted(path for path in state.rglob("*") if path.is_file()) if state.is_dir() else []
        return {path.relative_to(state).as_posix(): path.read_text(encoding="utf-8") for path in paths}

    def _text(self, name: str) -> str | None:
        try:
            return (self.folder / name).read_bytes().decode("utf-8")
        except (FileNotFoundError, UnicodeDecodeError, IsADirectoryError):  # packed data stays as it is
            return None


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Nobody else changes the task in this folder meanwhile.

    Raises:
        Conflict: another process has been changing it for ten seconds.
        TaskError: it cannot be written.
    """
    at = folder / FOLDER
    try:
        at.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TaskError("tasks.unwritable", path=folder.name, problem=error.strerror) from error
    with lock(at / "lock", tries=_PATIENCE) as ours:
        if not ours:
            raise Conflict("tasks.busy")
        yield


def _deltas(before: Texts, after: Texts) -> dict[str, Delta]:
    return {name: _delta(before.get(name), after[name]) for name in after if before.get(name) != after[name]}


def _delta(before: str | None, after: str | None) -> Delta:
    old, new = _lines(before), _lines(after)
    cuts: list[Cut] = []
    if len(old) == len(new):
        cuts = [
            Cut(at, [one], [two]) for at, (one, two) in enumerate(zip(old, new, strict=True)) if one != two
        ]
    else:
        start = _alike(old, new)
        end = _alike(old[start:][::-1], new[start:][::-1])
        cuts = [Cut(start, old[start : len(old) - end], new[start : len(new) - end])]
    return Delta(before is not None, after is not None, cuts)


def _undone(after: str | None, delta: Delta) -> str | None:
    lines = _lines(after)
    for cut in reversed(delta.cuts):
        lines[cut.start : cut.start + len(cut.new)] = cut.old
    return "".join(lines) if delta.was else None


def _lines(text: str | None) -> list[str]:
    return [] if text is None else list(io.StringIO(text, newline="\n"))


def _alike(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the common beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))


def _put(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink(missing_ok=True)
    else:
        _put_bytes(path, text.encode())


def _put_bytes(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(data)
    part.replace(path)
