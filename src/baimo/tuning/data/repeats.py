"""Rows that are there more than once: to the letter, nearly, with another answer, or in a task's held-out split.

Prevents the failure that makes every later figure worthless: a model that is judged on what it was shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from baimo.core.tuning import Row
from baimo.tuning.data.asked import Asked, Clusters, alike, asked_all, folded, identity, near_pairs
from baimo.tuning.data.finding import Near
from baimo.tuning.data.turns import text_of

SHINGLE = 24
"""Folded characters with which a held-out question is sought inside longer texts."""
TELLING = 48
"""Bytes of a held-out question from which on it is sought there: shorter ones stand in many texts by chance."""


class Leak(NamedTuple):
    """A row that gives a held-out question away."""

    place: int
    """Its place among the rows."""
    kind: str
    """same: it asks it; near: nearly so; inside: the question stands in a longer text."""
    held_out: int
    """Place of the question."""


def duplicates(rows: Sequence[Row]) -> list[list[int]]:
    """Groups of places whose rows teach the same to the letter."""
    found: dict[bytes, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        found[identity(row)].append(place)
    return [group for group in found.values() if len(group) > 1]


def near_duplicates(rows: Sequence[Row], near: Near, asked: Sequence[Asked] | None = None) -> list[list[int]]:
    """Clusters of places whose rows nearly ask the same and answer the same, without repeats to the letter.

    Rows that differ only in case, spacing or edge punctuation are near.
    """
    once = list({identity(row): place for place, row in reversed(list(enumerate(rows)))}.values())
    once.sort()
    known = asked or asked_all(rows)
    some = [known[place] for place in once]
    clusters = Clusters(len(once))
    for group in _same(some, answers=True):
        for other in group[1:]:
            clusters.join(group[0], other)
    first_of = list({some[place]: place for place in reversed(range(len(some)))}.values())
    first_of.sort()
    for first, second in near_pairs([some[place] for place in first_of], near):
        clusters.join(first_of[first], first_of[second])
    return [[once[place] for place in group] for group in clusters.groups() if len(group) > 1]


def contradictions(rows: Sequence[Row], asked: Sequence[Asked] | None = None) -> list[list[int]]:
    """Groups of places whose rows ask the same and answer differently. Raw texts never contradict."""
    known = asked or asked_all(rows)
    groups = _same(known, answers=False)
    return [
        group
        for group in groups
        if len({known[place].answer for place in group} - {""}) > 1 and rows[group[0]].messages
    ]


def leaks(rows: Sequence[Row], held_out: Sequence[str], near: Near | None = None) -> list[Leak]:
    """Rows that ask, nearly ask or contain a held-out question; one leak a row."""
    wanted = [folded(question) for question in held_out]
    exact = {question: place for place, question in reversed(list(enumerate(wanted))) if question}
    inside: dict[str, list[int]] = defaultdict(list)
    for question, place in exact.items():
        if len(question) >= SHINGLE and len(question.encode()) >= TELLING:
            inside[question[:SHINGLE]].append(place)
    found: dict[int, Leak] = {}
    spoken: list[str] = []
    owners: list[int] = []
    for place, row in enumerate(rows):
        for said in _said(row):
            if (same := exact.get(said)) is not None:
                found.setdefault(place, Leak(place, "same", same))
            elif (within := _within(said, inside, wanted)) is not None:
                found.setdefault(place, Leak(place, "inside", within))
            else:
                spoken.append(said)
                owners.append(place)
    if near is not None and wanted:
        split = len(wanted)
        for first, second in near([*wanted, *spoken]):
            if not first < split <= second:
                continue
            place, said = owners[second - split], spoken[second - split]
            if place not in found and alike(wanted[first], said):
                found[place] = Leak(place, "near", first)
    return [found[place] for place in sorted(found)]


def split_clusters(rows: Sequence[Row], near: Near | None) -> list[list[int]]:
    """What must stay together when rows are split: declared groups, equal questions, near duplicates."""
    known = asked_all(rows)
    clusters = Clusters(len(rows))
    first_of: dict[str | tuple[str, str], int] = {}
    for place, row in enumerate(rows):
        clusters.join(first_of.setdefault(known[place].key, place), place)
        if row.group is not None:
            clusters.join(first_of.setdefault(row.group, place), place)
    if near is not None:
        for group in near_duplicates(rows, near, known):
            for other in group[1:]:
                clusters.join(group[0], other)
    return clusters.groups()


def _same(asked: Sequence[Asked], *, answers: bool) -> list[list[int]]:
    groups: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for place, one in enumerate(asked):
        groups[one.question, one.frame, one.answer if answers else ""].append(place)
    return [group for group in groups.values() if len(group) > 1]


def _said(row: Row) -> Iterator[str]:
    """What could be a held-out question: each user turn, or the text."""
    if not row.messages:
        yield folded(row.text)
    for message in row.messages:
        if message.role == "user":
            yield folded(text_of(message))


def _within(said: str, inside: dict[str, list[int]], wanted: Sequence[str]) -> int | None:
    if not inside or len(said) < SHINGLE:
        return None
    for start in range(len(said) - SHINGLE + 1):
        for place in inside.get(said[start : start + SHINGLE], ()):
            if said.startswith(wanted[place], start):
                return place
    return None
