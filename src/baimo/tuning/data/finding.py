"""What a check reports, and what checks and steps are given from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from baimo.core.tuning import Row
from baimo.text import text

Severity = Literal["error", "warning", "note"]
Use = Literal["sft", "dpo", "grpo", "cpt"]
"""What rows are good for: imitation, preference, reward, plain text."""
Near = Callable[[Sequence[str]], Iterator[tuple[int, int]]]
"""Pairs of texts that are probably similar, by their places, first < second: `evals.tasks.near.proposed`."""
Count = Callable[[Row], int]
"""Tokens of a row by the tokenizer of the model that is to learn it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aids:
    """What checks and steps need that is not in the rows."""

    near: Near | None = None
    """Proposes similar texts; None = near duplicates are not looked for."""
    count: Count | None = None
    """Counts tokens; None = lengths are not looked at."""
    longest: int = 0
    """Most tokens of a row; 0 = no limit."""
    held_out: Sequence[str] = ()
    """Questions that a task keeps for judging; none of them may be learnt."""
    pii: Sequence[str] | None = None
    """Kinds of personal data; None = all."""
    words: Sequence[str] = ()
    """Words and phrases that must not be learnt."""
    languages: Sequence[str] = ()
    """Languages that are wanted; none = all."""
    use: Use | None = None
    """What the rows are for; None = checks go by what most of them are good for, steps by what each one is."""


class Spot(NamedTuple):
    """Where something is."""

    file: str
    line: int | None
    turn: int | None = None
    """Message of the row, from 1."""

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return where if self.turn is None else text("data.spot_turn", where=where, turn=self.turn)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a person should look at."""

    kind: str
    """Part of the message key: `data.check_<kind>`."""
    severity: Severity
    """error: the row teaches something wrong or cannot be learnt; warning: likely not meant; note: good to know."""
    spots: tuple[Spot, ...] = ()
    """The rows concerned, in their order; none = the data as a whole."""
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the detail names."""

    @property
    def detail(self) -> str:
        """The finding in the reader's language."""
        return text(f"data.check_{self.kind}", **self.facts, count=len(self.spots))

    @property
    def advice(self) -> str:
        """What to do about it."""
        return text(f"data.check_{self.kind}_hint", **self.facts, count=len(self.spots))

    def plain(self) -> dict[str, Any]:
        """As JSON-ready data."""
        spots = [spot._asdict() for spot in self.spots]
        shown = {"kind": self.kind, "severity": self.severity, "detail": self.detail, "advice": self.advice}
        return {**shown, "facts": dict(self.facts), "places": spots}


def spot_of(row: Row, turn: int | None = None) -> Spot:
    """Where a row, or one of its turns (from 0), stands."""
    return Spot(row.file, row.line, None if turn is None else turn + 1)


def short(words: str, most: int = 60) -> str:
    """The beginning of a text on one line."""
    line = " ".join(words[: most * 4].split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
