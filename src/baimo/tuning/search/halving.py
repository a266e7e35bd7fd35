"""Which of several is best, for few calls: ask all of them a little, the better half twice as much, and so on.

Successive halving (Jamieson & Talwalkar, AISTATS 2016, arXiv 1502.07943) with every contender on the same examples
in the same order, so that what is compared are differences on equal questions, which vary far less than scores do.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar

Arm = TypeVar("Arm")
Scores = Sequence[float | None]


class Rungs(NamedTuple):
    """How a purse is laid out."""

    arms: int
    """Contenders at the start."""
    first: int
    """Examples that each of them is asked at first."""

    @property
    def calls(self) -> int:
        """What it takes in all."""
        left, asked, calls = self.arms, self.first, self.arms * self.first
        while (left := math.ceil(left / 2)) > 1:
            calls += left * asked
            asked *= 2
        return calls


def rungs_for(calls: int, *, most_arms: int, least_first: int = 4) -> Rungs:
    """As many contenders as the calls allow, each asked at least `least_first` examples before one is dropped."""
    for arms in range(most_arms, 1, -1):
        first = max(calls // Rungs(arms, 1).calls, 1)
        if first >= least_first:
            return Rungs(arms, first)
    return Rungs(1, least_first)


async def best_of(
    arms: Sequence[Arm],
    examples: int,
    first: int,
    ask: Callable[[Arm, int], Awaitable[Scores]],
) -> tuple[Arm, list[tuple[Arm, int, float]]]:
    """The contender that is left over, and for each one how many examples it was asked and its mean there.

    Args:
        arms: contenders; of two that are equal the earlier one stays.
        examples: how many there are.
        first: how many each is asked at first.
        ask: the scores of a contender on the first n examples.
    """
    left, asked = list(range(len(arms))), min(first, examples)
    seen: dict[int, tuple[int, float]] = {}
    while len(left) > 1:
        for number in left:
            seen[number] = (asked, _mean(await ask(arms[number], asked)))
        left.sort(key=lambda number: (-seen[number][1], number))
        left = left[: 1 if asked == examples else math.ceil(len(left) / 2)]
        asked = min(asked * 2, examples)
    return arms[left[0]], [(arms[number], *seen[number]) for number in sorted(seen)]


def _mean(scores: Scores) -> float:
    """What could not be judged is left out; nothing judged is worse than anything."""
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else -1.0
