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


@dataclass(slots=True)
class Notebook:
    """Collects notes while a file streams by; the same note from many lines becomes one."""

    file: str
    """Source file that the notes are about."""
    _found: dict[tuple[str, str], tuple[str, dict[str, Any], list[int]]] = field(
        default_factory=dict[tuple[str, str], tuple[str, dict[str, Any], list[int]]]
    )

    def add(self, kind: str, line: int | None = None, **facts: Any) -> None:
        """Note `kind` once more."""
        entry = self._found.setdefault((kind, repr(sorted(facts.items()))), (kind, facts, []))
        entry[2].append(line or 0)

    def notes(self) -> tuple[Note, ...]:
        """Everything noted so far, in order of first appearance."""
        return tuple(
            Note(
                kind=kind,
                facts=facts,
                file=self.file,
                lines=tuple(line for line in lines if line)[:SHOWN_LINES],
                count=len(lines),
            )
            for kind, facts, lines in self._found.values()
        )
