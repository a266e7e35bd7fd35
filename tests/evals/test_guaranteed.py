"""The guaranteed rule keeps its word: proved on tiny boards by enumeration, attacked on nasty ones."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from baimo.evals.board import Board, Cell, Question
from baimo.evals.guaranteed import Rule, Walk, tiers

Scores = np.ndarray


def arranged(scores: Scores, order: list[int], **options: object) -> Board:
    """A board whose shared order is this one instead of a random one; nothing seen yet."""
    board = Board(scores.shape[0], scores.shape[1], **options)  # type: ignore[arg-type]
    board.order = np.array(order)
    board.position[board.order] = np.arange(len(order))
    return board


def reveal(board: Board, scores: Scores, place: int) -> None:
    """Enter every candidate's answer at this place of the order."""
    example = int(board.order[place])
    for candidate in range(board.candidates):
        score = float(scores[candidate, example])
        board.observe(Cell(candidate, example), None if math.isnan(score) else score)


def true_wealth(walk: Walk, best: int, wrong: list[int]) -> float:
    """The process of the proof: the best candidate's wealth, and its wealth against each wrong answer."""
    return float(walk.strict[best].sum() + sum(walk.slack[j][best].sum() for j in wrong if j in walk.slack))


def wealth_paths(
    scores: Scores, orders: list[list[int]], question: Question, best: int, wrong: list[int]
) -> Scores:
    """The process of the proof after every example, for every order: [orders, examples + 1]."""
    paths = np.ones((len(orders), scores.shape[1] + 1))
    for path, order in zip(paths, orders, strict=True):
        board = arranged(scores, order)
        walk = Walk(board, question, settle=1)
        for place in range(scores.shape[1]):
            reveal(board, scores, place)
            walk.advance()
            path[place + 1] = true_wealth(walk, best, wrong)
    return paths


BOARDS = {
    "right or wrong": [[1, 1, 1, 0, 0], [1, 0, 0, 1, 0], [0, 1, 0, 0, 1]],
    "graded": [[0.9, 0.2, 0.8, 0.5, 0.6], [0.8, 0.4, 0.3, 0.5, 0.5], [0, 1, 0, 1, 0.1]],
    "a tie at the top": [[1, 0, 1, 0, 1], [0, 1, 0, 1, 1], [1, 0, 0, 0, 0]],
    "unscored": [[1, math.nan, 1, 0, 1], [1, 0, math.nan, 1, 0], [0, 1, 0, 1, math.nan]],
}


@pytest.mark.parametrize("name", BOARDS)
def test_over_all_orders_the_best_candidate_is_not_bet_against_with_profit(name: str) -> None:
    scores = np.array(BOARDS[name], float)
    question = Question(epsilon=0.1, delta=0.01)
    orders = [list(order) for order in itertools.permutations(range(5))]
    paths = wealth_paths(scores, orders, question, best=0, wrong=[2] if "tie" in name else [1, 2])
    assert (paths.mean(axis=0) <= 1 + 1e-9).all()
    assert paths.std() > 0.05  # bets were made
    for bar in (1.1, 1.3, 1.6, 2.0):  # someone who stops at the most embarrassing moment gains nothing
        first = np.argmax(paths >= bar, axis=1)
        first[~(paths >= bar).any(axis=1)] = paths.shape[1] - 1
        assert paths[np.arange(len(paths)), first].mean() <= 1 + 1e-9


def test_over_all_samples_from_a_population_the_best_is_not_bet_against_with_profit() -> None:
    kinds, chance = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [1.0, 1.0, 0.0]]), np.array([0.4, 0.3, 0.3])
    question = Question(epsilon=0.1, delta=0.01, target="population")
    gain = 0.0
    for draws in itertools.product(range(3), repeat=5):
        scores = kinds[list(draws)].T
        gain += (
            float(chance[list(draws)].prod()) * wealth_paths(scores, [list(range(5))], question, 0, [1, 2])[0]
        )
    assert (gain <= 1 + 1e-9).all()


def test_over_all_orders_of_groups_the_best_candidate_is_not_bet_against_with_profit() -> None:
    scores = np.array([[1, 1, 0, 1, 1, 0, 1, 0], [1, 0, 0, 1, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0, 0, 0.5]], float)
    groups, final = [0, 0, 1, 2, 2, 2, 3, 4], []
    for order in itertools.permutations(range(5)):
        places = [example for group in order for example in range(8) if groups[example] == group]
        board = arranged(scores, places, groups=groups)
        board.starts = np.cumsum([0, *(groups.count(group) for group in order)])
        board.cluster = np.repeat(np.arange(5), np.diff(board.starts))
        walk = Walk(board, Question(epsilon=0.1, delta=0.01), settle=1)
        for place in range(7):  # the last example closes the set
            reveal(board, scores, place)
        walk.advance()
        final.append(true_wealth(walk, 0, [1, 2]))
    assert np.mean(final) <= 1 + 1e-9 and np.std(final) > 0.01


def test_over_all_orders_the_cheapest_good_candidate_is_not_bet_against_with_profit() -> None:
    scores = np.array([[1, 1, 1, 0, 0], [1, 0, 1, 0, 0], [0, 1, 0, 0, 1]], float)
    question, ends = Question(epsilon=0.2, delta=0.01, decision="cheapest"), []
    for order in itertools.permutations(range(5)):
        board = arranged(scores, list(order), cost=[9.0, 1.0, 5.0])
        walk = Walk(board, question, settle=1)
        for place in range(4):
            reveal(board, scores, place)
        walk.advance()
        ends.append(walk.within[1].sum())
    assert np.mean(ends) <= 1 + 1e-9 and np.std(ends) > 0.01


def decided(
    scores: Scores, question: Question, seed: int, limit: int = 40, **options: object
) -> tuple[Board, Rule]:
    """Buy what the rule proposes until it proposes nothing."""
    board, rule = Board(*scores.shape, seed=seed, **options), Rule(question)  # type: ignore[arg-type]
    while cells := rule.propose(board, limit):
        assert len(cells) <= limit and len(set(cells)) == len(cells)
        for cell in cells:
            score = float(scores[cell.candidate, cell.example])
            board.observe(cell, None if math.isnan(score) else score)
    return board, rule


def equals_but_one(random: np.random.Generator, examples: int) -> Scores:
    """Six candidates that are right on half of the examples, but for the last, which is right on a ninth more."""
    scores = np.zeros((6, examples))
    scores[:, : examples // 2] = 1
    scores[5, : examples // 2 + math.ceil(examples / 9)] = 1
    return random.permuted(scores, axis=1)


@pytest.mark.parametrize("target", ["set", "population"])
def test_the_one_worth_finding_among_equals_is_not_missed_more_often_than_promised(target: str) -> None:
    random, missed = np.random.default_rng(3), 0
    whole = equals_but_one(random, 5000)
    for seed in range(40):
        sample = random.choice(5000, 80)
        scores = equals_but_one(random, 80) if target == "set" else whole[:, sample]
        question = Question(epsilon=0.11, delta=0.2, target=target)  # type: ignore[arg-type]
        board, rule = decided(scores, question, seed)
        standing = rule.standing(board)
        missed += 5 not in standing.tiers[0] or (standing.certain and standing.leader != 5)
    assert missed <= 0.2 * 40


def test_exhausting_a_set_gives_the_exact_answer() -> None:
    random = np.random.default_rng(5)
    for seed in range(20):
        scores = (random.random((4, 12)) < 0.5).astype(float)
        board, rule = decided(scores, Question(epsilon=0.0, delta=0.05), seed)
        standing, mean = rule.standing(board), scores.mean(axis=1)
        assert standing.certain and mean[standing.leader] == mean.max()
        assert set(standing.tiers[0]) == set(np.flatnonzero(mean == mean.max()).tolist())
        assert standing.error_bound <= 0.05 and standing.calls_left == 0


def test_a_population_is_never_certain_only_because_the_examples_ran_out() -> None:
    scores = np.tile((np.arange(12) % 2).astype(float), (3, 1))
    board, rule = decided(scores, Question(epsilon=0.0, target="population"), seed=0)
    standing = rule.standing(board)
    assert board.exhausted and not standing.certain and set(standing.tiers[0]) == {0, 1, 2}


def clear_board(seed: int) -> Scores:
    random = np.random.default_rng(seed)
    return (random.random((12, 600)) < np.linspace(0.2, 0.85, 12)[:, None]).astype(float)


def test_a_clear_winner_is_found_at_a_fraction_of_the_calls_and_weak_candidates_cost_least() -> None:
    scores = clear_board(1)
    board, rule = decided(scores, Question(epsilon=0.02), seed=1)
    standing = rule.standing(board)
    assert standing.certain and standing.leader == int(scores.mean(axis=1).argmax())
    assert board.calls.sum() < 0.35 * scores.size and board.calls[0] < 60
    assert (standing.low <= scores.mean(axis=1)).all() and (scores.mean(axis=1) <= standing.high).all()


def test_the_verdict_is_the_same_however_the_answers_were_bought_and_arrived() -> None:
    scores = clear_board(2)
    board, rule = decided(scores, Question(epsilon=0.02), seed=2)
    first = rule.standing(board)
    again, fresh = Board(*scores.shape, seed=2), Rule(Question(epsilon=0.02))
    cells = [Cell(int(i), int(board.order[p])) for i, p in zip(*np.nonzero(board.seen), strict=True)]
    for cell in np.random.default_rng(0).permutation(len(cells)):
        again.observe(cells[cell], float(scores[cells[cell].candidate, cells[cell].example]))
    second = fresh.standing(again)
    assert (second.leader, second.certain, second.tiers) == (first.leader, first.certain, first.tiers)
    assert second.error_bound == first.error_bound and fresh.propose(again, 10) == []


def test_answers_further_along_change_nothing_before_they_are_due() -> None:
    scores = clear_board(3)
    short, rich = Board(*scores.shape, seed=3), Board(*scores.shape, seed=3)
    for place in range(30):
        reveal(short, scores, place)
        reveal(rich, scores, place)
    for place in range(30, 600):
        example = int(rich.order[place])
        for candidate in (0, 11):
            rich.observe(Cell(candidate, example), float(scores[candidate, example]))
    question = Question(epsilon=0.02)
    one, two = Rule(question).walk(short), Rule(question).walk(rich)
    assert one.front == two.front == 30
    np.testing.assert_array_equal(one.strict, two.strict)


def test_a_candidate_that_rested_catches_up_to_the_same_wealth() -> None:
    random = np.random.default_rng(11)
    scores = (random.random((5, 400)) < np.array([0.7, 0.69, 0.66, 0.6, 0.55])[:, None]).astype(float)
    scores[:, ::17] = np.nan
    board, question = Board(*scores.shape, seed=4), Question(epsilon=0.08)
    for place in range(200):
        reveal(board, scores, place)
    walk = Walk(board, question, settle=20)
    walk.advance()
    assert walk.front > 30
    other = Walk(board, question, settle=20)
    other.pages, other.front = walk.pages, walk.front
    for row in range(5):
        if walk.place[row] == walk.front:
            other.anchor = row  # so that it walks to the front whatever its wealth
            assert other._catch_up(row)
            np.testing.assert_allclose(other.strict[row], walk.strict[row], rtol=1e-9)


def test_unscored_answers_leave_the_comparison_instead_of_counting_as_wrong() -> None:
    scores = clear_board(6)
    scores[11, np.random.default_rng(6).random(600) < 0.3] = np.nan
    board, rule = decided(scores, Question(epsilon=0.02), seed=6)
    standing = rule.standing(board)
    assert standing.certain and standing.leader == 11
    assert standing.low[11] <= float(np.nanmean(scores[11])) <= standing.high[11]


def test_candidates_that_beat_each_other_in_a_circle_still_come_to_an_end() -> None:
    void = math.nan
    scores = np.array([[1, 0, void, 1, 0, void], [0, void, 1, 0, void, 1], [void, 1, 0, void, 1, 0]], float)
    board, rule = decided(scores, Question(epsilon=0.0), seed=0)
    assert board.exhausted and rule.standing(board).certain


def test_the_cheapest_good_enough_candidate_wins_where_that_was_asked() -> None:
    random = np.random.default_rng(12)
    hard = random.random(500)
    scores = (hard[None] < np.array([0.2, 0.85, 0.86, 0.5])[:, None]).astype(float)
    question = Question(epsilon=0.1, decision="cheapest")
    board, rule = decided(scores, question, seed=7, cost=[1.0, 2.0, 50.0, 3.0])
    standing = rule.standing(board)
    assert standing.certain and standing.leader == 1 and board.calls[0] < 250
    alike, rule = decided(scores, question, seed=8, cost=[1.0, 2.0, 2.0, 0.5])
    assert rule.standing(alike).leader in (1, 2)


def test_groups_are_judged_as_wholes_and_still_decide() -> None:
    random = np.random.default_rng(13)
    groups = np.repeat(np.arange(150), 3)
    easy = np.repeat(random.random(150), 3)
    scores = (easy[None] < np.array([0.3, 0.5, 0.9])[:, None]).astype(float)
    board, rule = decided(scores, Question(epsilon=0.02), seed=9, groups=groups)
    assert rule.standing(board).leader == 2 and rule.standing(board).certain


def test_a_proposal_never_looks_far_ahead_and_waits_for_answers_in_flight() -> None:
    board, rule = Board(3, 1000, seed=0), Rule(Question())
    first = rule.propose(board, 1000)
    assert len(first) == 15 and rule.propose(board, 1000) == []
    assert [cell.example for cell in first[:3]] == [int(board.order[0])] * 3


def test_of_equal_places_the_cheaper_candidate_is_asked_first() -> None:
    board, rule = Board(3, 100, cost=[5.0, 1.0, 3.0], seed=0), Rule(Question())
    assert [cell.candidate for cell in rule.propose(board, 2)] == [1, 2]


def test_lower_tiers_are_cut_only_where_all_intervals_are_apart() -> None:
    mean = np.array([0.9, 0.6, 0.55, 0.2, 0.1])
    low, high = np.array([0.8, 0.5, 0.5, 0.15, 0.0]), np.array([1.0, 0.7, 0.6, 0.3, 0.2])
    possible = np.array([True, False, False, False, False])
    assert tiers(possible, 0, mean, low, high) == ((0,), (1, 2), (3, 4))
    assert tiers(np.ones(5, bool), 0, mean, low, high) == ((0, 1, 2, 3, 4),)


def test_a_single_candidate_needs_no_comparison() -> None:
    board, rule = Board(1, 10), Rule(Question())
    assert rule.standing(board).certain and rule.propose(board, 5) == []


@pytest.mark.parametrize(("file", "share"), [("zeroeval_crux_matrix", 0.10), ("mmlu_pro_matrix", 0.02)])
def test_real_boards_are_decided_rightly_at_a_small_share_of_the_calls(
    shared_data: Path, file: str, share: float
) -> None:
    scores = np.load(shared_data / f"{file}.npz")["scores"].astype(float)
    mean = np.nanmean(scores, axis=1)
    spent = []
    for seed in range(3):
        board, rule = decided(scores, Question(), seed, limit=64)
        standing = rule.standing(board)
        assert standing.certain and mean[standing.leader] >= mean.max() - 0.01
        spent.append(board.calls.sum() / scores.size)
    assert float(np.median(spent)) <= share


def test_until_it_is_certain_the_cheapest_of_those_that_look_good_leads() -> None:
    scores = np.array([[1.0] * 10 + [0.0] * 30, [1.0] * 40, [1.0] * 40])
    board = arranged(scores, list(range(40)), cost=[1.0, 2.0, 3.0])
    for place in range(14):
        reveal(board, scores, place)
    standing = Rule(Question(decision="cheapest")).standing(board)
    assert (standing.leader, standing.certain) == (1, False)
    assert standing.error_bound > 0.05
