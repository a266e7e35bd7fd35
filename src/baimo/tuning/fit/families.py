# pyright: basic
"""Micro-batches of rows that belong together: both answers of a pair, all answers to a prompt.

What a family begins with alike is computed once, with gradient (`batches.computed`), so families are put into one
micro-batch only where that does not lose more of their own common beginnings than a pass through the layers costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from baimo.tuning.fit.batches import computed
from baimo.tuning.fit.encode import Encoded

Member = TypeVar("Member")

_PASS = 64  # tokens; what one more pass through the layers costs beside its own tokens


def together(
    families: Sequence[Sequence[Member]], rows: Callable[[Member], Sequence[Encoded]], budget: int
) -> list[list[Member]]:
    """Families in groups of at most `budget` computed tokens; one that is above it alone is cut between members.

    Args:
        families: members that begin alike.
        rows: what of a member is computed.
        budget: most tokens at once.
    """
    groups: list[list[Member]] = []
    cost = 0  # of the newest group
    for family in sorted(families, key=lambda family: rows(family[0])[0].ids.tolist()):
        for part in _within(family, rows, budget):
            alone = _cost(part, rows)
            joined = _cost([*groups[-1], *part], rows) if groups else 0
            if groups and joined <= min(budget, cost + alone + _PASS):
                groups[-1] += part
                cost = joined
            else:
                groups.append(list(part))
                cost = alone
    return groups


def _cost(members: Sequence[Member], rows: Callable[[Member], Sequence[Encoded]]) -> int:
    return computed([row for member in members for row in rows(member)])


def _within(
    family: Sequence[Member], rows: Callable[[Member], Sequence[Encoded]], budget: int
) -> list[Sequence[Member]]:
    if len(family) == 1 or _cost(family, rows) <= budget:
        return [family]
    half = len(family) // 2
    return [*_within(family[:half], rows, budget), *_within(family[half:], rows, budget)]
