"""The train split in three parts: what may be shown, what choices are made on, what the result is measured on.

Prevents two ways of fooling oneself: an example that is shown to the model and asked of it, and the score of the
best of many tries reported as if it had been the only one.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import NamedTuple

from baimo.core.ids import digest
from baimo.core.task import Example

SHARES = (0.5, 0.3)
"""Of the train split: shown, scored; the rest confirms."""


class Parts(NamedTuple):
    """Disjoint in examples and in groups; each in an order in which every beginning is mixed."""

    shown: tuple[Example, ...]
    """Few-shot blocks and feedback draw from it."""
    scored: tuple[Example, ...]
    """Choices are made on it."""
    confirmed: tuple[Example, ...]
    """Finalists are measured on it, nothing else."""


def parts_of(
    train: Sequence[Example], by: str, seed: int, *, confirmed: int, already: Collection[str] = ()
) -> Parts:
    """Split by group, slices spread evenly.

    Args:
        train: examples with a reference.
        by: metadata whose values are the slices; empty = one slice.
        seed: decides which group goes where.
        confirmed: most examples of the last part; what is above is left over.
        already: ids of examples that are shown already; they and their groups are never asked.
    """
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in sorted(train, key=lambda one: one.id):
        groups[f"id {example.id}" if example.group is None else f"group {example.group}"].append(example)
    taken = {name for name, members in groups.items() if any(one.id in already for one in members)}
    order = sorted(groups, key=lambda name: digest([seed, name]))
    made: tuple[list[Example], list[Example], list[Example]] = ([], [], [])
    counts: dict[tuple[str, int], int] = defaultdict(int)
    for name in order:
        # to the part that lags most behind its share, within the slice of the group's first example
        slice_ = slice_name(groups[name][0], by)
        shares = (*SHARES, 1 - sum(SHARES))
        lag = min(range(3), key=lambda number: counts[slice_, number] / shares[number])
        part = 0 if name in taken else lag
        made[part].extend(groups[name])
        counts[slice_, part] += len(groups[name])
    shown, scored, last = (mixed(part, by, seed) for part in made)
    return Parts(tuple(shown), tuple(scored), tuple(last[:confirmed]))


def mixed(examples: Sequence[Example], by: str, seed: int) -> list[Example]:
    """In random order, taking slices in turn."""
    slices = sliced(examples, by)
    for name, members in slices.items():
        random.Random(digest([seed, name])).shuffle(members)
    longest = max((len(members) for members in slices.values()), default=0)
    return [members[turn] for turn in range(longest) for members in slices.values() if turn < len(members)]


def sliced(examples: Sequence[Example], by: str) -> dict[str, list[Example]]:
    """Examples by the value of their slice, in the order of the values' names."""
    slices: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        slices[slice_name(example, by)].append(example)
    return dict(sorted(slices.items()))


def slice_name(example: Example, by: str) -> str:
    """The value of the metadata, or field, that slices; empty without one."""
    if not by:
        return ""
    value = example.metadata[by] if by in example.metadata else example.fields.get(by)
    return "" if value is None else str(value)
