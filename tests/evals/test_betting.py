"""The mathematics of betting: stakes are safe, wealth is honest, intervals hold while someone keeps looking."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baimo.evals.betting import CAPITAL, grown, log_gamma, mean_interval, stakes


@given(
    null=st.floats(-0.9, 1.0),
    mean=st.floats(-1.0, 1.0),
    square=st.floats(0.0, 1.0),
    gain=st.floats(-1.0, 1.0),
)
def test_no_stake_can_lose_everything(null: float, mean: float, square: float, gain: float) -> None:
    args = np.array([null]), np.array([mean]), np.array([square])
    wealth = grown(CAPITAL[None], np.array([gain]), args[0], stakes(*args, 1.0, 50), 1.0)
    assert (wealth > 0).all()


@given(p=st.floats(0.0, 1.0), worse=st.floats(0.0, 0.9), mean=st.floats(-1, 1), square=st.floats(0, 1))
def test_wealth_does_not_grow_on_average_where_the_hypothesis_is_true(
    p: float, worse: float, mean: float, square: float
) -> None:
    values, chances = np.array([1.0, -1.0]), np.array([p, 1 - p])
    null = np.array(
        [min(float(values @ chances) + worse, 1.0)]
    )  # the true mean is at or below the hypothetical one
    stake = stakes(null, np.array([mean]), np.array([square]), 1.0, 50)
    after = [grown(CAPITAL[None], np.array([v]), null, stake, 1.0).sum() for v in values]
    assert float(np.array(after) @ chances) <= 1.0 + 1e-9


def test_a_mean_beyond_the_possible_refutes_the_hypothesis() -> None:
    null = np.array([-1.5, 0.0])
    stake = stakes(null, np.zeros(2), np.ones(2), 1.0, 50)
    wealth = grown(np.tile(CAPITAL, (2, 1)), np.zeros(2), null, stake, 1.0).sum(axis=1)
    assert wealth[0] == np.inf and wealth[1] == pytest.approx(1.0)


def test_log_gamma_agrees_with_the_standard_library() -> None:
    values = np.concatenate([np.geomspace(1e-4, 1e6, 200), np.arange(1.0, 20.0)])
    expected = np.array([math.lgamma(value) for value in values])
    np.testing.assert_allclose(log_gamma(values), expected, rtol=1e-11, atol=1e-11)


def peeked(scores: np.ndarray, units: float, width: int, alpha: float, truth: float) -> float:
    """Share of rows whose interval misses the truth at any prefix; `scores` [N, blocks, width], NaN = unscored."""
    missed = np.zeros(len(scores), bool)
    total, scored = np.zeros(len(scores)), np.zeros(len(scores))
    for block in range(scores.shape[1]):
        total += np.nansum(scores[:, block], axis=1)
        scored += (~np.isnan(scores[:, block])).sum(axis=1)
        low, high = mean_interval(total, scored, np.full(len(scores), block + 1.0), units, width, alpha)
        missed |= (truth < low - 1e-9) | (truth > high + 1e-9)
    return float(missed.mean())


@pytest.mark.parametrize("kind", ["binary", "graded", "unscored"])
def test_an_interval_that_is_watched_all_the_way_misses_no_more_often_than_it_says(kind: str) -> None:
    random = np.random.default_rng(7)
    items = (np.arange(40) < 13).astype(float) if kind != "graded" else random.beta(0.5, 1.0, 40)
    if kind == "unscored":
        items[[0, 1, 2, 20, 30]] = np.nan
    rows = np.stack([random.permutation(items) for _ in range(1000)])[..., None]
    assert peeked(rows, 40, 1, 0.2, float(np.nanmean(items))) <= 0.2 + 3 * math.sqrt(0.16 / 1000)


def test_an_interval_for_a_population_holds_while_someone_keeps_looking() -> None:
    rows = (np.random.default_rng(8).random((1000, 60, 1)) < 0.8).astype(float)
    missed = peeked(rows, math.inf, 1, 0.2, 0.8)
    assert 0.01 <= missed <= 0.2 + 3 * math.sqrt(0.16 / 1000)


def test_an_interval_over_blocks_of_unequal_size_holds_while_someone_keeps_looking() -> None:
    random = np.random.default_rng(9)
    blocks = np.where(random.random((25, 3)) < 0.6, (random.random((25, 1)) < 0.4).astype(float), np.nan)
    rows = np.stack([random.permutation(blocks) for _ in range(600)])
    assert peeked(rows, 25, 3, 0.2, float(np.nanmean(blocks))) <= 0.2 + 3 * math.sqrt(0.16 / 600)


@settings(max_examples=60)
@given(st.lists(st.sampled_from([0.0, 0.25, 1.0, None]), min_size=1, max_size=30))
def test_once_everything_was_seen_the_interval_is_the_mean(scores: list[float | None]) -> None:
    known = [score for score in scores if score is not None]
    total, scored, seen = (
        np.array([float(sum(known))]),
        np.array([float(len(known))]),
        np.array([float(len(scores))]),
    )
    low, high = mean_interval(total, scored, seen, len(scores), 1, 0.05)
    if known:
        mean = sum(known) / len(known)
        assert low[0] == pytest.approx(mean) and high[0] == pytest.approx(mean)
    else:
        assert (low[0], high[0]) == (0.0, 1.0)


@settings(max_examples=60)
@given(good=st.integers(0, 30), bad=st.integers(0, 30), void=st.integers(0, 8), left=st.integers(1, 60))
def test_the_interval_leaves_out_no_mean_that_the_evidence_allows(
    good: int, bad: int, void: int, left: int
) -> None:
    from baimo.evals.betting import _evidence

    seen, units = good + bad + void, good + bad + void + left
    total, padding, steps = np.array([float(good)]), np.array([float(void)]), np.array([float(seen)])
    low, high = mean_interval(total, total + bad, steps, units, 1, 0.05)
    grid = np.linspace(good / (units - void), 1 - bad / (units - void), 101)
    fixed = math.log(0.05) - math.lgamma(2 + seen) + math.lgamma(1 + units) - math.lgamma(1 + units - seen)
    log_wealth = np.array(
        [_evidence(np.full((2, 1), m), total, padding, steps, units, 1)[0, 0] for m in grid]
    )
    allowed = grid[log_wealth + fixed < 0]
    assert allowed.size and low[0] <= allowed.min() + 1e-9 and allowed.max() - 1e-9 <= high[0]
