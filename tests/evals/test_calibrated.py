"""The calibrated rule's maths against independent sums, and the rule's judgement on boards made for it."""

from __future__ import annotations

from math import comb
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baimo.evals import guaranteed
from baimo.evals.beta import Shape, beta_cdf, beta_nodes, fitted_prior, logit_moments, normal_cdf
from baimo.evals.board import Board, Cell, Question
from baimo.evals.calibrated import Rule, dispersion, evidence, exceeding, inseparable


def shape(a: float, b: float) -> Shape:
    return Shape(np.array([a]), np.array([b]))


def complete(scores: np.ndarray, **options: object) -> Board:
    """A board on which all these answers are known; NaN = not asked."""
    board = Board(*scores.shape, **options)  # pyright: ignore[reportArgumentType]
    for candidate, example in zip(*np.nonzero(~np.isnan(scores)), strict=True):
        board.observe(Cell(int(candidate), int(example)), float(scores[candidate, example]))
    return board


@given(a=st.integers(1, 60), b=st.integers(1, 60), x=st.floats(0.02, 0.98))
def test_the_beta_distribution_agrees_with_the_binomial_sum(a: int, b: int, x: float) -> None:
    trials = a + b - 1
    exact = sum(comb(trials, k) * x**k * (1 - x) ** (trials - k) for k in range(a, trials + 1))
    found = beta_cdf(np.array([x]), shape(a, b))[0]
    assert found == pytest.approx(exact, abs=0.006)
    if 1e-6 < exact < 0.5:
        assert found == pytest.approx(exact, rel=0.25)


def test_the_normal_tail_keeps_its_relative_accuracy() -> None:
    z = np.array([-8.0, -3.0, 0.0, 3.0])
    assert normal_cdf(z) == pytest.approx([6.22096057e-16, 1.34989803e-3, 0.5, 0.99865010], rel=1e-6)


def test_the_beta_distribution_is_total_outside_the_unit_interval() -> None:
    assert beta_cdf(np.array([-1.0, 0.0, 1.0, 7.0]), Shape(np.full(4, 2.0), np.full(4, 3.0))).tolist() == [
        0,
        0,
        1,
        1,
    ]


def test_logit_moments_are_those_of_a_large_sample() -> None:
    draws = np.random.default_rng(0).beta(2.5, 7.0, 400_000)
    logit = np.log(draws / (1 - draws))
    center, spread = logit_moments(shape(2.5, 7.0))
    assert (center[0], spread[0]) == (
        pytest.approx(logit.mean(), abs=0.01),
        pytest.approx(logit.std(), abs=0.01),
    )


@given(a=st.floats(0.5, 50), b=st.floats(0.5, 50))
def test_quadrature_nodes_reproduce_the_mean(a: float, b: float) -> None:
    nodes, weight = beta_nodes(shape(a, b), 5)
    assert float((nodes[0] * weight).sum()) == pytest.approx(a / (a + b), abs=0.03)


@pytest.mark.parametrize(("a", "b"), [(0.05, 20.0), (0.06, 660.0), (0.5, 200.0)])
def test_quadrature_nodes_of_a_rate_that_was_never_seen_stay_where_its_mass_is(a: float, b: float) -> None:
    draws = np.random.default_rng(0).beta(a, b, 200_000)
    nodes, _ = beta_nodes(shape(a, b), 5)
    assert nodes.max() <= draws.max()


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=0, max_size=20))
def test_the_fitted_prior_weighs_no_more_than_it_may(counts: list[tuple[int, int]]) -> None:
    hits = np.array([min(pair) for pair in counts], float)
    a, b = fitted_prior(hits, np.array([max(pair) for pair in counts], float), least=1.5, most=12.0)
    assert min(a, b) > 0
    assert 1.5 - 1e-9 <= a + b <= 12.0 + 1e-9


def test_the_chance_to_be_better_is_that_of_the_posterior_or_at_most_twice_as_large() -> None:
    random = np.random.default_rng(3)
    scores = (random.random((4, 60)) < np.array([[0.9], [0.8], [0.6], [0.85]])).astype(float)
    scores[2, 20:] = np.nan
    found = evidence(complete(scores), 0, Question(target="population"))
    chance = exceeding(found, 0.01)
    for prior in (0, 1):
        error = random.beta(found.error.a, found.error.b, (200_000, 4))
        gain = random.beta(found.gain[prior].a, found.gain[prior].b, (200_000, 4))
        loss = random.beta(found.loss[prior].a, found.loss[prior].b, (200_000, 4))
        simulated = ((error * gain - (1 - error) * loss) > 0.01).mean(axis=0)
        assert (chance[prior][1:] >= 0.9 * simulated[1:] - 0.002).all()
        assert (chance[prior][1:] <= 2.0 * simulated[1:] + 0.002).all()
    assert chance[:, 0].tolist() == [0.0, 0.0]


def test_fine_grained_scores_count_for_more_and_clusters_for_less() -> None:
    random = np.random.default_rng(0)
    fine = 0.5 + 0.05 * random.choice([-1.0, 1.0], (4, 200))
    assert dispersion(complete(fine), complete(fine).pairs(0)).max() < 0.2
    whole = np.repeat((random.random((4, 40)) < 0.6).astype(float), 5, axis=1)
    board = complete(whole, groups=[example // 5 for example in range(200)])
    assert dispersion(board, board.pairs(0)).mean() == pytest.approx(5.0, rel=0.25)
    assert dispersion(complete(whole), complete(whole).pairs(0)).mean() == pytest.approx(1.0, abs=0.01)


@settings(max_examples=40)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.01, 0.3))
def test_those_called_separable_have_little_chance_together(chances: list[float], delta: float) -> None:
    chance = np.array(chances)
    apart = ~inseparable(chance, delta)
    assert chance[apart].sum() <= delta
    if not apart.all():
        least = chance[~apart].min()
        assert chance[apart].sum() + chance[np.isclose(chance, least, rtol=1e-8, atol=0.0)].sum() > delta


def test_a_hopeless_candidate_is_out_after_a_handful_of_losses() -> None:
    scores = np.full((6, 400), np.nan)
    board = Board(6, 400)
    first = board.order[:40]
    scores[0, first] = 1.0
    scores[1:, first[:5]] = np.array([[0, 1, 0, 0, 1]])
    found = evidence(complete(scores), 0, Question())
    assert exceeding(found, 0.01)[0][1:].max() < 0.01


def test_a_candidate_that_only_fails_is_set_aside_and_does_not_block_the_verdict() -> None:
    scores = np.full((3, 300), np.nan)
    scores[0], scores[1] = 1.0, 0.0
    board = complete(scores)
    for example in range(12):
        board.observe(Cell(2, example), None)
    standing = Rule(Question()).standing(board)
    assert (standing.leader, standing.certain) == (0, True)
    assert np.isnan(standing.mean[2])
    assert 2 not in standing.tiers[0]


def test_the_cheapest_candidate_that_is_good_enough_wins() -> None:
    random = np.random.default_rng(1)
    best = (random.random(3000) < 0.9).astype(float)
    near, bad = best.copy(), (random.random(3000) < 0.5).astype(float)
    near[np.flatnonzero(best)[:6]] = 0.0  # 0.2 points behind
    scores = np.stack([best, near, bad])
    board = complete(scores, cost=[100.0, 1.0, 0.1])
    assert Rule(Question(decision="best")).standing(board).leader == 0
    thrifty = Rule(Question(decision="cheapest")).standing(board)
    assert (thrifty.leader, thrifty.certain) == (1, True)


@pytest.mark.parametrize("decision", ["best", "cheapest"])
@pytest.mark.parametrize("seen", [12, 38, 40])
def test_equals_are_never_apart(decision: Literal["best", "cheapest"], seen: int) -> None:
    scores = np.ones((3, 40))
    scores[2] = np.arange(40) % 10 < 3
    scores[:, seen:] = np.nan
    rule = Rule(Question(decision=decision))
    assert set(rule.standing(complete(scores, cost=[2.0, 1.0, 0.1])).tiers[0]) == {0, 1}


@pytest.mark.parametrize("seed", range(8))
def test_nobody_is_apart_from_all_others_before_it_is_certain(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = (random.random((3, 60)) < np.array([[0.9], [0.75], [0.6]])).astype(float)
    for seen in range(4, 60, 4):
        known = np.where(np.arange(60) < seen, scores, np.nan)
        standing = Rule(Question()).standing(complete(known))
        assert standing.certain or len(standing.tiers[0]) > 1


def test_who_was_never_scored_is_in_no_tier_and_holds_the_others_together_in_none() -> None:
    board = Board(4, 400)
    for example in range(400):
        for candidate, score in enumerate((1.0, 0.5, 0.0, None)):
            board.observe(Cell(candidate, example), score)
    assert Rule(Question()).standing(board).tiers == ((0,), (1,), (2,))
    assert guaranteed.Rule(Question()).standing(board).tiers == ((0,), (1, 2))
