"""A mean and how sure it is, for scores between two bounds.

Prevents the failure of the textbook interval on few answers that are all right: a width of zero. Two
pseudo-observations at each bound make it the interval of Agresti & Coull (The American Statistician 52, 1998) for
scores of 0 and 1, and a cautious one for everything between.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from baimo.core.task import Example

Z = 1.96


class Estimate(NamedTuple):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float
    units: int
    """Independent observations: groups, or examples that belong to none."""


def estimate(values: Sequence[float], *, low: float = 0.0, high: float = 1.0) -> Estimate | None:
    """The mean of independent values between two bounds; None without any."""
    if not values:
        return None
    mean = sum(values) / len(values)
    padded = [*values, low, low, high, high]
    centre = sum(padded) / len(padded)
    spread = sum((value - centre) ** 2 for value in padded) / len(padded)
    half = Z * math.sqrt(spread / len(padded))
    # the middle of the interval is drawn towards the centre of the scale; the mean stays what was seen
    return Estimate(
        mean, max(low, min(mean, centre - half)), min(high, max(mean, centre + half)), len(values)
    )


def by_group(examples: Sequence[Example], values: Sequence[float | None]) -> list[float]:
    """Means within groups, since examples of one group are not independent; what has no value is left out."""
    groups: dict[str, list[float]] = defaultdict(list)
    for example, value in zip(examples, values, strict=True):
        if value is not None:
            groups[f"id {example.id}" if example.group is None else f"group {example.group}"].append(value)
    return [sum(group) / len(group) for group in groups.values()]


def mean_of(examples: Sequence[Example], values: Sequence[float | None]) -> Estimate | None:
    """Mean score in [0, 1] over groups."""
    return estimate(by_group(examples, values))


def gain_of(
    examples: Sequence[Example], after: Sequence[float | None], before: Sequence[float | None]
) -> Estimate | None:
    """Mean paired difference in [-1, 1] over groups; pairs with a missing side are left out."""
    pairs = [
        None if new is None or old is None else new - old for new, old in zip(after, before, strict=True)
    ]
    return estimate(by_group(examples, pairs), low=-1.0, high=1.0)
