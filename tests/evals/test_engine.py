"""The engine as its caller sees it: batches, resumption, exactness at the end, and errors no more than promised."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baimo.evals.board import Cell
from baimo.evals.engine import Engine


def answers(
    seed: int, candidates: int, examples: int, *, unscored: float = 0.0, fine: bool = False
) -> np.ndarray:
    """Scores from a seeded item-response model; NaN = cannot be scored."""
    random = np.random.default_rng(seed)
    ability, difficulty = random.normal(1.0, 1.2, (candidates, 1)), random.normal(0.0, 1.5, (1, examples))
    chance = 1.0 / (1.0 + np.exp(difficulty - ability))
    scores = chance if fine else (random.random((candidates, examples)) < chance).astype(float)
    scores = np.where(random.random(scores.shape) < unscored, np.nan, scores)
    return scores.astype(np.float32).astype(float)


def played(engine: Engine, scores: np.ndarray, *, limit: int = 64, calls: int = 10**9) -> list[Cell]:
    """Buy what the engine proposes until it stops, or until so many calls; the cells in their order."""
    bought: list[Cell] = []
    while len(bought) < calls and (cells := engine.propose(limit)):
        assert len(cells) <= limit
        for cell in cells:
            engine.observe(cell, None if np.isnan(scores[cell]) else float(scores[cell]))
        bought += cells
    return bought


boards = given(
    seed=st.integers(0, 10_000),
    candidates=st.integers(1, 8),
    examples=st.integers(1, 40),
    limit=st.integers(1, 40),
    clustered=st.booleans(),
    target=st.sampled_from(["set", "population"]),
    decision=st.sampled_from(["best", "cheapest"]),
)


@settings(max_examples=30, deadline=None)
@boards
def test_no_cell_is_proposed_twice_and_every_run_ends(
    seed: int, candidates: int, examples: int, limit: int, clustered: bool, target: str, decision: str
) -> None:
    scores = answers(seed, candidates, examples, unscored=0.1)
    engine = Engine(
        candidates=candidates,
        examples=examples,
        groups=[example // 3 for example in range(examples)] if clustered else None,
        cost=np.geomspace(1.0, 100.0, candidates),
        target=target,  # pyright: ignore[reportArgumentType]
        decision=decision,  # pyright: ignore[reportArgumentType]
        seed=seed,
    )
    bought = played(engine, scores, limit=limit)
    assert len(set(bought)) == len(bought)
    assert engine.reason in ("certain", "exhausted")
    assert engine.propose(limit) == []
    standing = engine.standing()
    judged = set(np.flatnonzero(engine.board.count)) | {standing.leader}
    assert sorted(row for tier in standing.tiers for row in tier) == sorted(judged)
    assert standing.leader in standing.tiers[0]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.integers(0, 400))
def test_a_run_resumed_from_its_answers_goes_on_as_if_never_cut(seed: int, cut: int) -> None:
    scores = answers(seed, 6, 200)
    whole = played(Engine(candidates=6, examples=200, seed=seed), scores)
    resumed, bought = Engine(candidates=6, examples=200, seed=seed), list[Cell]()
    while not resumed.done and len(bought) < cut:
        cells = resumed.propose()
        bought += cells
        for cell in cells:
            resumed.observe(cell, float(scores[cell]))
    again = Engine(candidates=6, examples=200, seed=seed)
    for cell in bought:
        again.observe(cell, float(scores[cell]))
    assert bought + played(again, scores) == whole


def test_proposing_again_while_answers_are_in_flight_repeats_nothing() -> None:
    engine = Engine(candidates=4, examples=50)
    cells = [cell for _ in range(40) for cell in engine.propose(16)]
    assert len(set(cells)) == len(cells)
    assert engine.reason is None


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), fine=st.booleans())
def test_exhausting_a_set_gives_its_exact_means_at_zero_width(seed: int, fine: bool) -> None:
    scores = answers(seed, 5, 40, unscored=0.05, fine=fine)
    engine = Engine(candidates=5, examples=40, seed=seed)
    for cell in np.ndindex(5, 40):
        engine.observe(Cell(*cell), None if np.isnan(scores[cell]) else float(scores[cell]))
    standing, mean = engine.standing(), np.nanmean(scores, axis=1)
    assert engine.reason == "exhausted"
    assert standing.certain
    assert standing.mean == pytest.approx(mean)
    assert standing.low == pytest.approx(mean)
    assert standing.high == pytest.approx(mean)
    assert mean[standing.leader] == pytest.approx(mean.max())
    assert standing.calls_left == 0.0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), calls=st.integers(30, 300))
def test_naming_the_candidates_in_another_order_permutes_the_answer(seed: int, calls: int) -> None:
    random, scores = np.random.default_rng(seed), answers(seed, 7, 100, fine=True)
    seen = [Cell(int(place // 100), int(place % 100)) for place in random.permutation(700)[:calls]]
    shuffle = random.permutation(7)
    straight, permuted = Engine(candidates=7, examples=100), Engine(candidates=7, examples=100)
    for cell in seen:
        straight.observe(cell, float(scores[cell]))
        permuted.observe(Cell(int(shuffle[cell.candidate]), cell.example), float(scores[cell]))
    one, other = straight.standing(), permuted.standing()
    assert other.leader == shuffle[one.leader]
    assert other.mean[shuffle] == pytest.approx(one.mean, nan_ok=True)
    assert other.error_bound == pytest.approx(one.error_bound)
    assert {int(shuffle[row]) for row in one.tiers[0]} == set(other.tiers[0])


@pytest.mark.parametrize("target", ["set", "population"])
def test_identical_models_end_in_one_tier(target: str) -> None:
    scores = answers(5, 4, 300)
    scores[2] = scores[int(np.argmax(scores.mean(axis=1)))]
    engine = Engine(candidates=4, examples=300, target=target)  # pyright: ignore[reportArgumentType]
    played(engine, scores)
    twins = [row for row in range(4) if (scores[row] == scores[2]).all()]
    assert set(twins) <= set(engine.standing().tiers[0])


def test_the_bound_that_is_reported_falls_and_the_forecast_shrinks() -> None:
    scores = answers(8, 12, 1000)
    engine = Engine(candidates=12, examples=1000)
    played(engine, scores, calls=60)
    early = engine.standing()
    played(engine, scores)
    late = engine.standing()
    assert early.error_bound > 0.05 >= late.error_bound
    assert early.calls_left > late.calls_left == 0.0


@pytest.mark.parametrize("groups", [None, [example // 4 for example in range(400)]])
def test_intervals_stand_around_what_was_measured(groups: list[int] | None) -> None:
    scores = answers(4, 6, 400)
    engine = Engine(candidates=6, examples=400, groups=groups)
    played(engine, scores, calls=300)
    standing, leader = engine.standing(), engine.standing().leader
    board = engine.board
    assert standing.mean[leader] == pytest.approx(board.total[leader] / board.count[leader], abs=0.03)
    assert (standing.low < standing.mean).all()
    assert (standing.mean < standing.high).all()
    assert (standing.low <= scores.mean(axis=1)).all()
    assert (scores.mean(axis=1) <= standing.high).all()


def errors(make: Callable[[int], np.ndarray], replays: int, **options: object) -> tuple[int, float]:
    """Wrong choices in so many replays, and the mean share of calls."""
    wrong, share = 0, 0.0
    for seed in range(replays):
        scores = make(seed)
        engine = Engine(candidates=len(scores), examples=scores.shape[1], seed=seed, **options)  # pyright: ignore
        share += len(played(engine, scores)) / scores.size / replays
        mean = scores.mean(axis=1)
        wrong += bool(mean[engine.standing().leader] < mean.max() - 0.01 - 1e-9)
    return wrong, share


def test_replays_of_a_small_board_are_rarely_wrong_and_cheap() -> None:
    scores = answers(21, 20, 1000)
    wrong, share = errors(lambda _: scores, 25)
    assert wrong <= 3  # at a true rate of 5 % more than 3 has probability 0.03
    assert share < 0.25


def test_clustered_examples_do_not_make_it_overconfident() -> None:
    def copies(seed: int) -> np.ndarray:
        return np.repeat(answers(seed, 5, 60), 10, axis=1)

    groups = [example // 10 for example in range(600)]
    wrong, _ = errors(copies, 25, groups=groups, target="set")
    assert wrong <= 3


def test_a_dear_candidate_that_is_out_of_the_race_is_asked_less_when_prices_are_known() -> None:
    scores = answers(3, 8, 800)
    order = np.argsort(-scores.mean(axis=1))
    price = np.ones(8)
    price[order[3:]] = 100.0
    asked = []
    for cost in (None, price):
        total = 0.0
        for seed in range(10):
            engine = Engine(candidates=8, examples=800, seed=seed, cost=cost)
            total += sum(price[cell.candidate] for cell in played(engine, scores))
        asked.append(total)
    assert asked[1] < asked[0]
