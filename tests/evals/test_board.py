"""The board keeps exact running sums, one shared order, and unscored answers out of every denominator."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baimo.evals.board import Board, Cell


def filled(seed: int, *, groups: list[int] | None = None, unscored: float = 0.1) -> tuple[Board, np.ndarray]:
    """A board of 5 x 24 after 70 answers in random order, and the scores entered (NaN elsewhere), by example."""
    random = np.random.default_rng(seed)
    board, entered = Board(5, 24, groups=groups, seed=seed), np.full((5, 24), np.nan)
    for place in random.permutation(5 * 24)[:70]:
        cell = Cell(int(place // 24), int(place % 24))
        score = None if random.random() < unscored else float(np.float32(random.random()))
        board.observe(cell, score)
        if score is not None:
            entered[cell] = score
    return board, entered


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), clustered=st.booleans())
def test_running_pair_sums_equal_the_sums_over_examples_in_common(seed: int, clustered: bool) -> None:
    groups = [example % 7 for example in range(24)] if clustered else None
    board, entered = filled(seed, groups=groups)
    for reference in range(5):
        pairs = board.pairs(reference)
        others = [row for row in range(5) if row != reference]
        gain = (entered - entered[reference])[others]
        base = np.where(np.isnan(gain), 0.0, entered[reference])
        assert pairs.count[others] == pytest.approx((~np.isnan(gain)).sum(axis=1))
        assert pairs.total[others] == pytest.approx(np.nansum(gain, axis=1))
        assert pairs.square[others] == pytest.approx(np.nansum(gain**2, axis=1))
        assert pairs.absolute[others] == pytest.approx(np.nansum(np.abs(gain), axis=1))
        assert pairs.base[others] == pytest.approx(np.nansum(base, axis=1))
        label = np.array(groups if clustered else range(24))
        parts = [gain[:, label == name] for name in np.unique(label)]
        sums = np.array([np.nansum(part, axis=1) for part in parts])
        sizes = np.array([(~np.isnan(part)).sum(axis=1) for part in parts])
        assert pairs.cluster_square[others] == pytest.approx((sums**2).sum(axis=0))
        assert pairs.cluster_cross[others] == pytest.approx((sums * sizes).sum(axis=0))
        assert pairs.cluster_size[others] == pytest.approx((sizes**2).sum(axis=0))


@given(seed=st.integers(0, 1000))
def test_an_unscored_answer_is_seen_but_leaves_the_denominator(seed: int) -> None:
    board, entered = filled(seed, unscored=0.5)
    assert board.count.tolist() == (~np.isnan(entered)).sum(axis=1).tolist()
    assert board.total == pytest.approx(np.nansum(entered, axis=1))
    assert board.calls.sum() == 70 == board.seen.sum()


def test_clusters_stay_together_in_the_shared_order() -> None:
    groups = [3, 1, 3, 2, 1, 2, 3, 9]
    board = Board(2, 8, groups=groups, seed=4)
    names = [groups[example] for example in board.order]
    assert sorted(board.order.tolist()) == list(range(8))
    assert sum(a != b for a, b in pairwise(names)) == 3
    assert np.diff(board.starts).tolist() == [names.count(name) for name in dict.fromkeys(names)]


def test_the_order_is_the_seed() -> None:
    assert Board(2, 50, seed=1).order.tolist() == Board(3, 50, seed=1).order.tolist()
    assert Board(2, 50, seed=1).order.tolist() != Board(2, 50, seed=2).order.tolist()


def test_a_second_answer_for_one_cell_changes_nothing() -> None:
    board = Board(2, 4)
    board.observe(Cell(0, 1), 1.0)
    board.observe(Cell(0, 1), 0.0)
    board.observe(Cell(0, 1), None)
    assert (board.count[0], board.total[0], board.calls[0], board.version) == (1, 1.0, 1, 1)


def test_a_score_outside_the_unit_interval_is_refused() -> None:
    for score in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="outside"):
            Board(1, 1).observe(Cell(0, 0), score)


def test_positions_answered_out_of_turn_are_not_offered_again() -> None:
    board = Board(1, 6)
    board.observe(Cell(0, int(board.order[2])), 1.0)
    assert board.untaken(0, 4).tolist() == [0, 1, 3, 4]
    board.take(0, board.untaken(0, 3))
    assert board.frontier[0] == 4
    assert board.in_flight == 3


def test_announced_prices_are_corrected_by_what_was_paid() -> None:
    board = Board(2, 10, cost=[1.0, 0.0])
    assert board.cost.tolist() == [1.0, 0.001]
    for example in range(5):
        board.observe(Cell(0, example), 1.0, 3.0)
    assert board.cost[0] == pytest.approx(2.0)
