from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from baimo.evals.board import Cell
from baimo.evals.contest import Contest

ASSURANCES = ("guaranteed", "calibrated")


def board(candidates: int, examples: int, seed: int = 0) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(seed)
    skill = np.linspace(0.95, 0.1, candidates)[:, None]
    return (random.random((candidates, examples)) < skill).astype(float)


def contest(scores: np.ndarray[Any, Any], **more: Any) -> Contest:
    question = {"epsilon": 0.01, "delta": 0.05, "assurance": "guaranteed", "seed": 3, **more}
    return Contest(candidates=len(scores), examples=scores.shape[1], cost=None, **question)


def played(one: Contest, scores: np.ndarray[Any, Any], limit: int = 16) -> list[Cell]:
    """Buy everything it proposes."""
    asked: list[Cell] = []
    while cells := one.propose(limit):
        for cell in cells:
            one.observe(cell, float(scores[cell]), None)
        asked += cells
    return asked


@pytest.mark.parametrize("assurance", ASSURANCES)
def test_no_cell_is_asked_twice_and_the_best_wins(assurance: str) -> None:
    scores = board(5, 120)
    one = contest(scores, assurance=assurance)
    asked = played(one, scores)
    assert len(set(asked)) == len(asked) < scores.size
    standing = one.standing()
    assert standing is not None
    assert standing.leader == 0
    assert one.reason == "certain"


def test_who_has_left_is_not_asked_and_not_heard_any_more() -> None:
    scores = board(4, 80)
    one = contest(scores)
    for cell in one.propose(8):
        one.observe(cell, float(scores[cell]), None)
    one.withdraw(0)
    one.observe(Cell(0, 5), 1.0, None)
    asked = played(one, scores)
    standing = one.standing()
    assert standing is not None
    assert all(cell.candidate != 0 for cell in asked)
    assert standing.leader == 1
    assert np.isnan(standing.mean[0])
    assert (standing.low[0], standing.high[0]) == (0.0, 1.0)
    assert all(0 not in tier for tier in standing.tiers)


def test_what_was_seen_of_the_others_is_kept_when_one_leaves() -> None:
    scores = board(4, 80)
    one = contest(scores)
    seen: set[Cell] = set()
    for _ in range(4):
        for cell in one.propose(8):
            one.observe(cell, float(scores[cell]), None)
            seen.add(cell)
    one.withdraw(2)
    assert not seen & set(played(one, scores))


def test_when_all_have_left_there_is_nothing_to_say_or_to_ask() -> None:
    one = contest(board(2, 10))
    one.withdraw(1)
    one.withdraw(0)
    assert one.standing() is None
    assert one.reason == "exhausted"


def test_a_single_candidate_is_measured_on_everything() -> None:
    scores = board(1, 20)
    one = contest(scores)
    assert len(played(one, scores)) == 20
    standing = one.standing()
    assert standing is not None
    assert standing.leader == 0


def test_exhaustive_asks_everybody_the_same_example_before_the_next_one() -> None:
    scores = board(3, 10)
    one = contest(scores, exhaustive=True)
    asked = played(one, scores, limit=4)
    assert len(asked) == 30 == len(set(asked))
    assert all(len({cell.example for cell in asked[start : start + 3]}) == 1 for start in range(0, 30, 3))
    assert one.reason == "exhausted"


def test_exhaustive_ends_without_the_one_who_left() -> None:
    scores = board(3, 10)
    one = contest(scores, exhaustive=True)
    for cell in one.propose(5):
        one.observe(cell, float(scores[cell]), None)
    one.withdraw(1)
    played(one, scores)
    assert one.reason == "exhausted"


@pytest.mark.parametrize("assurance", ASSURANCES)
def test_the_same_answers_in_the_same_order_ask_the_same_next(assurance: str) -> None:
    scores = board(4, 60)
    assert played(contest(scores, assurance=assurance), scores) == played(
        contest(scores, assurance=assurance), scores
    )
