"""How far two who judge the same answers agree, beyond what chance would give.

Prevents two failures: a raw agreement that looks good because almost every answer is right (kappa takes the agreement
of chance away), and an interval of no width after ten agreeing pairs, which is what the usual normal approximation
gives.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from typing import NamedTuple

from baimo.core.verdict import Interval

_DRAWS = 2000
_TAIL = 0.025


class Agreement(NamedTuple):
    """Of pairs of judgements of the same answer."""

    pairs: int
    """How many."""
    raw: float | None
    """Share of pairs that say the same; None = there are none."""
    raw_interval: Interval | None
    """95 %, Wilson (1927), "Probable inference, the law of succession, and statistical inference", JASA 22:209."""
    kappa: float | None
    """Cohen (1960), "A coefficient of agreement for nominal scales", Educ. Psychol. Meas. 20:37; None = not defined,
    because there are no pairs or both always say the same one thing."""
    kappa_interval: Interval | None
    """Central 95 % of the posterior under Jeffreys' prior on the four cells, widened to hold the estimate; Basu,
    Banerjee & Sen (2000), "Bayesian inference for kappa from single and multiple studies", Biometrics 56:577."""


def agreement(pairs: Iterable[tuple[bool, bool]]) -> Agreement:
    """Agreement of two judges; a pair is whether the one and the other find an answer right."""
    cells = [0, 0, 0, 0]
    for one, other in pairs:
        cells[2 * one + other] += 1
    count, same = sum(cells), cells[0] + cells[3]
    if not count:
        return Agreement(0, None, None, None, None)
    found = kappa([float(cell) for cell in cells])
    return Agreement(count, same / count, wilson(same, count), found, _posterior(cells, found))


def kappa(cells: list[float]) -> float | None:
    """Of the cells no-no, no-yes, yes-no, yes-yes; None where chance alone makes both agree always."""
    total = sum(cells)
    no_no, no_yes, yes_no, yes_yes = (cell / total for cell in cells)
    yes_one, yes_other = yes_no + yes_yes, no_yes + yes_yes
    chance = yes_one * yes_other + (1 - yes_one) * (1 - yes_other)
    return None if chance >= 1 else (no_no + yes_yes - chance) / (1 - chance)


def wilson(hits: int, count: int, z: float = 1.959964) -> Interval:
    """Interval of a share of `count` > 0; z = 1.96 gives 95 %."""
    share, weight = hits / count, z * z / count
    middle = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / count + weight / (4 * count)) / (1 + weight)
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def _posterior(cells: list[int], estimate: float | None) -> Interval | None:
    if estimate is None:
        return None
    dice = random.Random(1960)  # fixed: the same judgements give the same figures
    drawn = [kappa([dice.gammavariate(cell + 0.5, 1.0) for cell in cells]) for _ in range(_DRAWS)]
    known = sorted(value for value in drawn if value is not None)
    low, high = known[int(_TAIL * len(known))], known[int((1 - _TAIL) * len(known)) - 1]
    return Interval(min(low, estimate), max(high, estimate))
