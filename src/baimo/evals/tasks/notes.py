"""What a reader of foreign formats has to tell besides the examples: what stayed behind, what was assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from baimo.text import text

SHOWN_LINES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One thing that a person should know about how a source was read."""

    kind: str
    """Message key in the catalogue of tasks, without the room: `left_assert_type`, `assumed_scorer` …"""
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the message names."""
    file: str = ""
    """Source file."""
    lines: tuple[int, ...] = ()
    """First lines that it concerns, at most 20; empty = the file as a whole."""
    count: int = 1
    """How often it occurs."""

    @property
    def assumption(self) -> bool:
        """Whether the reader chose something, rather than left something behind."""
        return self.kind.startswith("assumed_")

    @property
    def detail(self) -> str:
        """The note in the reader's language."""
        return text(f"tasks.{self.kind}", **self.facts)

    def __str__(self) -> str:
        """One line for a terminal: place, what became of it, detail."""
        some = ",".join(str(line) for line in self.lines[:5]) + ("…" if self.count > 5 else "")
        place = f"{self.file}:{some}" if self.lines else self.file
        key = "tasks.note_assumed" if self.assumption else "tasks.note_left"
        return text(key, place=place, detail=self.detail)


@dataclass(slots=True)
class _Entry:
    """The same note from many lines."""

    kind: str
    facts: dict[str, Any]
    file: str
    lines: list[int]
    count: int = 0


@dataclass(slots=True)
class Notebook:
    """Collects notes while files stream by; the same note from many lines of a file becomes one."""

    file: str
    """Source file that the notes are about."""
    _found: dict[tuple[str, str, str], _Entry] = field(default_factory=dict[tuple[str, str, str], _Entry])

    def add(self, kind: str, line: int | None = None, **facts: Any) -> None:
        """Note `kind` once more."""
        key = (self.file, kind, repr(sorted(facts.items())))
        entry = self._found.setdefault(key, _Entry(kind, facts, self.file, []))
        entry.count += 1
        if line is not None and line not in entry.lines[-1:] and len(entry.lines) < SHOWN_LINES:
            entry.lines.append(line)

    def at(self, file: str) -> Notebook:
        """The same notebook, open at another file."""
        return Notebook(file=file, _found=self._found)

    def notes(self) -> tuple[Note, ...]:
        """Everything noted so far, in order of first appearance."""
        return tuple(
            Note(
                kind=entry.kind,
                facts=entry.facts,
                file=entry.file,
                lines=tuple(entry.lines),
                count=entry.count,
            )
            for entry in self._found.values()
        )
