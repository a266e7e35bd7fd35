"""Two replies side by side: which pieces of one the other does not have.

Bounded: replies are cut before they are compared, so fifty pairs of hostile length cost the same as fifty
normal ones."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import NamedTuple

from baimo.evals.report.figures import clean

LONGEST = 900
"""Characters of a text that are shown."""
_ALIKE = 0.5  # below this most of it differs and marking it would say nothing
_TOKEN = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|\w+|\s+|[^\w\s]"
)  # Chinese and kana by character


class Piece(NamedTuple):
    """A run of text."""

    text: str
    marked: bool
    """Whether the other text does not have it."""


class Shown(NamedTuple):
    """A text as it is shown."""

    pieces: tuple[Piece, ...]
    hidden: int
    """Characters that were cut."""


def shown(foreign: str, other: str | None = None, longest: int = LONGEST) -> Shown:
    """The beginning of a text with the pieces marked that `other` has not; unmarked without `other`."""
    kept = clean(foreign)
    hidden = max(0, len(kept) - longest)
    kept = kept[:longest]
    if other is None or not kept:
        return Shown((Piece(kept, False),) if kept else (), hidden)
    ours = _TOKEN.findall(kept)
    # the other text is allowed some more, so that a cut is not taken for a difference
    theirs = _TOKEN.findall(clean(other)[: longest + 200])
    matcher = SequenceMatcher(None, ours, theirs, autojunk=False)
    blocks = matcher.get_opcodes()
    words = sum(not token.isspace() for token in ours)
    alike = sum(
        not token.isspace()
        for kind, start, end, _, _ in blocks
        if kind == "equal"
        for token in ours[start:end]
    )
    if alike < _ALIKE * words:
        return Shown((Piece(kept, False),), hidden)
    pieces = [
        Piece("".join(ours[start:end]), kind != "equal") for kind, start, end, _, _ in blocks if end > start
    ]
    return Shown(tuple(_joined(pieces)), hidden)


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Marked pieces with nothing but spaces between them made one: a phrase, not confetti."""
    found: list[Piece] = []
    for place, piece in enumerate(pieces):
        gap = (
            not piece.marked
            and piece.text.isspace()
            and 0 < place < len(pieces) - 1
            and "\n" not in piece.text
        )
        marked = piece.marked or gap
        if found and found[-1].marked == marked:
            found[-1] = Piece(found[-1].text + piece.text, marked)
        else:
            found.append(Piece(piece.text, marked))
    return found
