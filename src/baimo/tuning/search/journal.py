"""Answers that were paid for, one a line, so that no life of a job pays for one twice."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from baimo.core.ids import plain
from baimo.typed import json_decoder


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One answer."""

    key: str
    """Digest of what was asked, and of what for."""
    text: str = ""
    """What the model said."""
    score: float | None = None
    """0..1; None = no judgement."""
    strict: float | None = None
    """Likewise, the form counted."""
    why: str = ""
    """The scorer's words."""
    tokens_in: int | None = None
    """As the provider counts."""
    tokens_out: int | None = None
    """Likewise."""
    cost_micros: int | None = None
    """None = not known."""
    cut: bool = False
    """The answer was ended by its length."""
    failed: bool = False
    """The call failed."""


@dataclass(slots=True)
class Bill:
    """What answers have cost, in all lives of the job."""

    calls: int = 0
    """Distinct calls, those under way among them."""
    ended: int = 0
    """Of them that are not under way any more."""
    failed: int = 0
    """Of them without an answer."""
    tokens_in: int = 0
    """Where providers count them."""
    tokens_out: int = 0
    """Likewise."""
    cost_micros: int = 0
    """Sum of the known costs."""
    unpriced: int = 0
    """Calls whose cost is not known."""

    @property
    def total_micros(self) -> int | None:
        """What was paid; None when the cost of a call is not known."""
        return None if self.unpriced else self.cost_micros

    def charge(self, cell: Cell) -> None:
        """Put an answer on the bill; `calls` is counted by whoever asks."""
        self.ended += 1
        self.failed += cell.failed
        self.tokens_in += cell.tokens_in or 0
        self.tokens_out += cell.tokens_out or 0
        self.cost_micros += cell.cost_micros or 0
        self.unpriced += cell.cost_micros is None and not cell.failed


class Journal:
    """A file of answers. Failures are not kept: they may pass, and the next life tries again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, Cell] = {}
        decode = json_decoder(Cell)
        if path.exists():
            for line in path.read_bytes().splitlines():
                try:
                    cell = decode(line)
                except msgspec.DecodeError:  # half a line, of a life that was killed
                    continue
                self.known[cell.key] = cell

    def keep(self, cell: Cell) -> None:
        """Know an answer, and write it down."""
        self.known[cell.key] = cell
        if cell.failed:
            return
        # begins with a line's end: what a kill left of the line before must not swallow this one
        line = b"\n" + msgspec.json.encode(plain(msgspec.structs.asdict(cell))) + b"\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
