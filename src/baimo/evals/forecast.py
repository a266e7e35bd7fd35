"""What a comparison will take, said before it starts: the engine itself is run on boards that nobody has seen yet.

Prevents the surprise on the invoice. The boards are drawn from a simple item-response model (abilities and
difficulties normal on the logit scale; Lord & Novick 1968), because how far apart the candidates are is exactly what
is not known yet: the interval says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from baimo.core.verdict import Forecast, Interval
from baimo.evals.contest import Contest

BOARDS = 8
"""Simulated boards; the second lowest and second highest bound the 80 % interval."""
MOST_CANDIDATES = 40
MOST_EXAMPLES = 1500
"""Sizes above which a smaller board stands for a larger one: calls hardly depend on M, and grow with N."""
DEFAULT_LATENCY_S = 2.0
"""Wall time of an answer when none of this model was ever seen."""


def calls_until_certain(candidates: int, examples: int, **question: Any) -> Interval:
    """80 % interval of the calls until the engine would stop.

    Args:
        candidates: N ≥ 1.
        examples: M ≥ 1.
        question: epsilon, delta, assurance, decision, target, seed as `Engine` takes them.
    """
    if candidates == 1 or question.pop("exhaustive", False):
        return Interval(candidates * examples, candidates * examples)
    small_n, small_m = min(candidates, MOST_CANDIDATES), min(examples, MOST_EXAMPLES)
    seed = int(question.pop("seed", 0))
    random = np.random.default_rng([seed, candidates, examples])
    calls = sorted(
        _played(_board(random, small_n, small_m), seed=seed + board, **question) for board in range(BOARDS)
    )
    scale = candidates / small_n
    most = candidates * examples
    return Interval(min(calls[1] * scale, most), min(calls[-2] * scale, most))


def forecast(
    *,
    calls: Interval,
    calls_exhaustive: int,
    stored: int,
    prices_micros: Sequence[float | None],
    latencies_s: Sequence[float | None],
    at_once: int,
    currency: str,
    unpriced: tuple[str, ...],
) -> Forecast:
    """Money and time for an interval of calls.

    Args:
        calls: calls until certain.
        calls_exhaustive: N × M.
        stored: answers that are there already.
        prices_micros: expected price of one answer of each candidate.
        latencies_s: expected wall time of one answer of each candidate.
        at_once: calls under way at once.
        currency: of the prices.
        unpriced: models whose price is not known.
    """
    to_pay = 1.0 - stored / calls_exhaustive if calls_exhaustive else 0.0
    fresh = Interval(calls.low * to_pay, calls.high * to_pay)
    known = [price for price in prices_micros if price is not None]
    money = exhaustive = None
    if known and len(known) == len(prices_micros):
        mean = sum(known) / len(known)
        # the engine spends least on the dear ones that lose early: between half and the full mean price
        money = Interval(fresh.low * mean * 0.5, fresh.high * mean)
        exhaustive = round(mean * calls_exhaustive)
    seconds = [DEFAULT_LATENCY_S if latency is None else latency for latency in latencies_s]
    pace_s = sum(seconds) / len(seconds) / max(at_once, 1)
    sure = all(latency is not None for latency in latencies_s)
    minutes = Interval(
        fresh.low * pace_s / 60 * (0.7 if sure else 0.2), fresh.high * pace_s / 60 * (1.5 if sure else 4)
    )
    return Forecast(
        calls=calls,
        calls_exhaustive=calls_exhaustive,
        cost_micros=money,
        cost_exhaustive_micros=exhaustive,
        minutes=minutes,
        currency=currency,
        stored=stored,
        unpriced=unpriced,
    )


def _board(random: np.random.Generator, candidates: int, examples: int) -> np.ndarray[Any, Any]:
    ability = random.normal(random.uniform(-1.5, 1.5), random.uniform(0.5, 2.5), candidates)
    difficulty = random.normal(0.0, 1.5, examples)
    right = random.random((candidates, examples)) < 1 / (1 + np.exp(difficulty - ability[:, None]))
    return right.astype(np.float64)


def _played(board: np.ndarray[Any, Any], **question: Any) -> int:
    candidates, examples = board.shape
    contest = Contest(candidates=candidates, examples=examples, cost=None, **question)
    calls = 0
    while cells := contest.propose(64):
        for cell in cells:
            contest.observe(cell, float(board[cell]), None)
        calls += len(cells)
    return calls
