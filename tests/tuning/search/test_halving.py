from __future__ import annotations

import asyncio
import random

from hypothesis import given
from hypothesis import strategies as st

from baimo.tuning.search.halving import Rungs, best_of, rungs_for


def chosen(arms: list[float], examples: int, first: int, seed: int = 0) -> tuple[float, int]:
    """The arm that is left over, and how many answers were asked; an arm is its chance to be right."""
    dice = random.Random(seed)
    answers = {arm: [float(dice.random() < arm) for _ in range(examples)] for arm in arms}
    most: dict[float, int] = {}

    async def ask(arm: float, count: int) -> list[float | None]:
        most[arm] = max(count, most.get(arm, 0))
        return [*answers[arm][:count]]

    best, _ = asyncio.run(best_of(arms, examples, first, ask))
    return best, sum(most.values())


@given(arms=st.integers(1, 16), first=st.integers(1, 12))
def test_a_layout_says_exactly_what_it_takes(arms: int, first: int) -> None:
    chances = [number / 20 for number in range(arms)]
    _, asked = chosen(chances, 2_000, first)
    assert asked == (Rungs(arms, first).calls if arms > 1 else 0)


@given(calls=st.integers(1, 3000))
def test_a_layout_stays_within_its_calls(calls: int) -> None:
    layout = rungs_for(calls, most_arms=16)
    assert layout.arms == 1 or layout.calls <= calls


def test_the_clearly_best_is_found_for_far_fewer_calls_than_asking_all() -> None:
    arms = [0.2, 0.3, 0.25, 0.9, 0.1, 0.15, 0.35, 0.05]
    found = [chosen(arms, 200, 12, seed) for seed in range(40)]
    assert sum(best == 0.9 for best, _ in found) >= 39
    assert max(asked for _, asked in found) < 8 * 200 / 5


def test_of_equals_the_first_stays() -> None:
    async def ask(arm: str, count: int) -> list[float | None]:
        return [0.5] * count

    best, seen = asyncio.run(best_of(["a", "b", "c"], 4, 4, ask))
    assert best == "a"
    assert [(arm, asked) for arm, asked, _ in seen] == [("a", 4), ("b", 4), ("c", 4)]


def test_an_arm_that_cannot_be_judged_loses() -> None:
    async def ask(arm: str, count: int) -> list[float | None]:
        return [None if arm == "a" else 0.0] * count

    assert asyncio.run(best_of(["a", "b"], 8, 2, ask))[0] == "b"
