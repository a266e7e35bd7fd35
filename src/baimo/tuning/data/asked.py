"""What a row asks and what it answers, in the form in which rows are compared.

Two questions are the same when they are equal after folding case, spacing, full-width forms and edge punctuation.
Two rows are near when their questions are at least 90 % alike, no number differs, and they teach the same answer:
"turn on" and "turn off" are not near, nor are 30 and 40 %.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rapidfuzz import fuzz

from baimo.core.ids import digest
from baimo.core.tuning import Row
from baimo.tuning.data.finding import Near
from baimo.tuning.data.turns import said, text_of

ALIKE = 90.0
"""Per cent of edit similarity (rapidfuzz.fuzz.ratio) from which on two texts are near."""
LONGEST = 20_000
"""Characters of a text that are compared."""
_EDGES = " \t\r\n\"'*_.,;:!?…。，；：！？、“”‘’"
_NUMBERS = re.compile(r"\d+")


class Asked(NamedTuple):
    """A row in the form in which it is compared."""

    question: str
    """Folded conversation before the answer, without system prompts; of a raw text, the text."""
    frame: str
    """Digest of system prompts and functions on offer; empty = there are none."""
    answer: str
    """Folded answer, or what graders compare with; empty = there is none."""

    @property
    def key(self) -> tuple[str, str]:
        """Rows with equal keys ask the same."""
        return self.question, self.frame


def folded(words: str) -> str:
    """`words` without differences of case, spacing, full-width forms and edge punctuation."""
    if not words.isascii():
        words = unicodedata.normalize("NFKC", words)
    words = " ".join(words.casefold().split())
    return words.strip(_EDGES) or words


def asked_all(rows: Sequence[Row]) -> list[Asked]:
    """Every row as it is compared."""
    frames: dict[tuple[object, ...], str] = {}
    alive: list[object] = []  # what `id` names below must not be freed meanwhile

    def frame(row: Row) -> str:
        systems = tuple(text_of(one) for one in row.messages if one.role == "system")
        if not systems and not row.tools:
            return ""
        known = (systems, *map(id, row.tools))
        if known not in frames:
            alive.append(row.tools)
            frames[known] = digest([[folded(one) for one in systems], row.tools])
        return frames[known]

    return [_asked(row, frame(row)) for row in rows]


def identity(row: Row) -> bytes:
    """Digest of what a row teaches, to the letter; cheaper than `Row.hash`, and for use within one process only."""
    parts = (row.messages, row.trained, row.rejected, row.tools, row.text, _compared(row))
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _asked(row: Row, frame: str) -> Asked:
    if not row.messages:
        return Asked(folded(row.text), frame, "")
    ends = row.messages[-1].role == "assistant"
    before = (one for one in (row.messages[:-1] if ends else row.messages) if one.role != "system")
    answer = folded(said(row.messages[-1])) if ends else ""
    if row.rejected:
        answer += "\0" + "\n".join(folded(said(one)) for one in row.rejected)
    if compared := _compared(row):
        answer += digest(compared)
    return Asked("\n".join(folded(said(one)) for one in before), frame, answer)


def _compared(row: Row) -> Mapping[str, Any]:
    """What graders compare an answer with: part of what a row teaches only where it has no answer of its own."""
    if not row.messages or row.messages[-1].role == "assistant":
        return {}
    return {name: one for name, one in row.item.items() if name != "id"}


def near_pairs(asked: Sequence[Asked], near: Near) -> Iterator[tuple[int, int]]:
    """Pairs of places whose rows nearly ask the same and answer the same."""
    texts = [one.question for one in asked]
    for first, second in near(texts):
        if is_near(asked[first], asked[second]):
            yield first, second


def is_near(one: Asked, other: Asked) -> bool:
    """Whether two rows nearly ask the same, and answer the same."""
    if one.answer != other.answer or one.frame != other.frame:
        return False
    return alike(one.question, other.question)


def alike(one: str, other: str) -> bool:
    """Whether two folded texts are nearly the same."""
    if one == other:
        return True
    if fuzz.ratio(one[:LONGEST], other[:LONGEST], score_cutoff=ALIKE) == 0:
        return False
    return _NUMBERS.findall(one) == _NUMBERS.findall(other)


class Clusters:
    """Which of `size` things belong together (disjoint sets)."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def root(self, place: int) -> int:
        """The first of those that `place` belongs to."""
        while self._parent[place] != place:
            self._parent[place] = self._parent[self._parent[place]]
            place = self._parent[place]
        return place

    def join(self, one: int, other: int) -> None:
        """From here on both belong together."""
        first, second = self.root(one), self.root(other)
        self._parent[max(first, second)] = min(first, second)

    def groups(self) -> list[list[int]]:
        """All of them, each in order, by their first."""
        found: dict[int, list[int]] = {}
        for place in range(len(self._parent)):
            found.setdefault(self.root(place), []).append(place)
        return list(found.values())
