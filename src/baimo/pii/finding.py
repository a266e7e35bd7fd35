"""What a rule reports and what the room hands out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple


class Hit(NamedTuple):
    """A rule's report, in positions of the folded text."""

    kind: str
    """One of `baimo.pii.find.KINDS`."""
    start: int
    """First character."""
    end: int
    """One past the last."""
    confidence: float
    """0 to 1: how sure the rule is, by its nature (checksum, known shape, context); not a measured probability."""


Rule = Callable[[str], Iterator[Hit]]
"""From folded text to hits, in any order, overlaps allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One piece of personal data or one secret in a text."""

    kind: str
    """One of `baimo.pii.find.KINDS`."""
    start: int
    """First character in the original text."""
    end: int
    """One past the last."""
    text: str = field(repr=False)  # findings end up in logs and tracebacks
    """The value as it stands in the text."""
    confidence: float
    """0 to 1: how sure the rule is."""
