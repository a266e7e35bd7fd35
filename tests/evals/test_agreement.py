"""Agreement beyond chance, with intervals that have a width."""

from __future__ import annotations

import random

import pytest

from baimo.evals.agreement import agreement, kappa, wilson


def pairs(no_no: int, no_yes: int, yes_no: int, yes_yes: int) -> list[tuple[bool, bool]]:
    cells = ((False, False), (False, True), (True, False), (True, True))
    return [cell for cell, n in zip(cells, (no_no, no_yes, yes_no, yes_yes), strict=True) for _ in range(n)]


def test_a_worked_example_comes_out_as_in_the_books() -> None:
    # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: raw 0.70, chance 0.50, kappa 0.40
    found = agreement(pairs(15, 10, 5, 20))
    assert (found.pairs, found.raw) == (50, 0.7)
    assert found.kappa == pytest.approx(0.4)
    assert (
        found.kappa_interval is not None and found.kappa_interval.low < 0.2 < 0.55 < found.kappa_interval.high
    )
    assert wilson(35, 50) == pytest.approx((0.5623, 0.8090), abs=1e-3)


def test_ten_agreeing_pairs_are_no_proof_of_perfect_agreement() -> None:
    found = agreement(pairs(5, 0, 0, 5))
    assert found.kappa == 1 and found.kappa_interval is not None
    assert found.kappa_interval.low < 0.8 and found.kappa_interval.high == 1
    assert found.raw_interval is not None and found.raw_interval.low < 0.75


def test_where_chance_explains_everything_there_is_no_kappa() -> None:
    assert agreement([]) == (0, None, None, None, None)
    always = agreement(pairs(0, 0, 0, 9))
    assert (always.raw, always.kappa, always.kappa_interval) == (1.0, None, None)
    assert kappa([0, 5, 5, 0]) == pytest.approx(-1)


def test_the_interval_holds_what_is_true_about_as_often_as_it_says() -> None:
    dice, truth = random.Random(7), (0.3, 0.1, 0.1, 0.5)
    real = kappa(list(truth))
    assert real is not None
    held = 0
    for _ in range(40):
        drawn = dice.choices(range(4), truth, k=40)
        found = agreement(pairs(*(drawn.count(cell) for cell in range(4)))).kappa_interval
        held += found is not None and found.low <= real <= found.high
    assert held >= 34  # 38 of 40 expected; fewer than 34 has a chance of about 1 in 100
