from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.task import Example
from baimo.tuning.search.interval import estimate, gain_of, mean_of


@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_the_mean_lies_in_its_interval_and_the_interval_in_the_scale(values: list[float]) -> None:
    found = estimate(values)
    assert found is not None
    assert 0 <= found.low <= found.mean <= found.high <= 1


def test_few_answers_that_are_all_right_are_not_certain() -> None:
    found = estimate([1.0] * 10)
    assert found is not None
    assert (found.mean, found.high) == (1.0, 1.0)
    assert found.low < 0.85


@pytest.mark.parametrize("chance", [0.1, 0.5, 0.9])
def test_the_interval_covers_the_truth_as_often_as_it_says(chance: float) -> None:
    dice = random.Random(3)
    covered = 0
    for _ in range(2000):
        found = estimate([float(dice.random() < chance) for _ in range(40)])
        assert found is not None
        covered += found.low <= chance <= found.high
    assert covered >= 0.93 * 2000


def _one(id: str, group: str | None = None) -> Example:
    return Example(id=id, fields={"input": id}, group=group)


def test_examples_of_one_group_count_once() -> None:
    examples = [_one("a", "g"), _one("b", "g"), _one("c")]
    found = mean_of(examples, [1.0, 0.0, 0.0])
    assert found is not None
    assert (found.mean, found.units) == (0.25, 2)


def test_a_gain_compares_pairs_and_leaves_out_what_has_no_pair() -> None:
    examples = [_one("a"), _one("b"), _one("c")]
    found = gain_of(examples, [1.0, 0.5, None], [0.0, 0.5, 0.0])
    assert found is not None
    assert (found.mean, found.units) == (0.5, 2)
    assert found.low < 0 < found.high  # two pairs prove nothing
    assert gain_of(examples, [None] * 3, [0.0] * 3) is None
