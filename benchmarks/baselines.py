"""What else could decide: uniform sampling, SySRs and UCB-E, each told the right budget by an oracle.

None of them knows when it is done. Here each is given the smallest budget at which its own replays on this very board
err at most delta of the time, which nobody could know beforehand; so these figures are lower bounds for them.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def wrong_choices(scores: Floats, epsilon: float) -> NDArray[np.bool_]:
    """Which candidates are worse than the best by more than epsilon, shape [N]; scores [N, M], NaN = missing."""
    mean = np.nanmean(scores, axis=1)
    return mean < mean.max() - epsilon - 1e-9


def prefix_means(scores: Floats, order: NDArray[np.int64]) -> Floats:
    """Means of each candidate over the first n examples of an order, shape [N, M] for n = 1..M; 0 before any score."""
    shuffled = scores[:, order]
    count = np.cumsum(~np.isnan(shuffled), axis=1)
    return np.cumsum(np.nan_to_num(shuffled), axis=1) / np.maximum(count, 1)


def budgets(cells: int, least: int) -> NDArray[np.int64]:
    """Budgets to try, in calls: 3 % apart."""
    steps = np.geomspace(least, cells, max(2, int(math.log(cells / least) / math.log(1.03))))
    return np.unique(steps.astype(np.int64))


def uniform_choices(means: Floats, tried: NDArray[np.int64]) -> NDArray[np.int64]:
    """The choice at each budget when all candidates answer the same first examples."""
    examples = np.clip(tried // len(means), 1, means.shape[1])
    return np.argmax(means[:, examples - 1], axis=0)


def successive_rejects(means: Floats, budget: int) -> int:
    """SySRs (arXiv 2606.07726): successive rejects, Audibert & Bubeck 2010, all survivors on the same examples."""
    candidates, examples = means.shape
    log_bar = 0.5 + sum(1.0 / k for k in range(2, candidates + 1))
    alive = list(range(candidates))
    for phase in range(1, candidates):
        share = math.ceil((budget - candidates) / (log_bar * (candidates + 1 - phase)))
        place = min(max(share, 1), examples) - 1
        alive.remove(min(alive, key=lambda row: means[row, place]))
    return alive[0]


def ucb_e_choices(
    scores: Floats, tried: NDArray[np.int64], *, replays: int, exploration: float, seed: int
) -> NDArray[np.int64]:
    """UCB-E (arXiv 2407.06172): mean + sqrt(a / n), own random examples; choices [replays, budgets], in step."""
    candidates, examples = scores.shape
    random = np.random.default_rng(seed)
    orders = np.argsort(random.random((replays, candidates, examples), dtype=np.float32), axis=2).astype(
        np.int32
    )
    lanes = np.arange(replays)
    asked = np.zeros((replays, candidates), np.int64)
    count, total = np.zeros((replays, candidates)), np.zeros((replays, candidates))
    choices = np.zeros((replays, len(tried)), np.int64)
    place = 0
    for step in range(1, int(tried[-1]) + 1):
        bound = total / np.maximum(count, 1.0) + np.sqrt(exploration / np.maximum(asked, 1e-9))
        bound[asked >= examples] = -1.0
        arm = np.argmax(bound, axis=1)
        score = scores[arm, orders[lanes, arm, np.minimum(asked[lanes, arm], examples - 1)]]
        asked[lanes, arm] += 1
        count[lanes, arm] += ~np.isnan(score)
        total[lanes, arm] += np.nan_to_num(score)
        if step == tried[place]:
            choices[:, place] = np.argmax(total / np.maximum(count, 1.0), axis=1)
            place += 1
    return choices


def oracle_share(error: Floats, tried: NDArray[np.int64], delta: float, cells: int) -> float | None:
    """Share of the board at the smallest budget whose error is at most delta; None where no budget tried is enough."""
    good = np.flatnonzero(error <= delta)
    return float(min(tried[good[0]] / cells, 1.0)) if good.size else None


def oracle_budgets(
    scores: Floats, *, epsilon: float, delta: float, replays: int = 200, seed: int = 0
) -> dict[str, float | None]:
    """Shares of calls of the three, at their oracle budgets on this board; UCB-E with the best of four constants."""
    wrong, cells = wrong_choices(scores, epsilon), scores.size
    tried = budgets(cells, 2 * len(scores))
    uniform, rejects = np.zeros(len(tried)), np.zeros(len(tried))
    random = np.random.default_rng(seed)
    for _ in range(replays):
        means = prefix_means(scores, random.permutation(scores.shape[1]))
        uniform += wrong[uniform_choices(means, tried)] / replays
        rejects += wrong[[successive_rejects(means, int(budget)) for budget in tried]] / replays
    small = tried[tried <= max(0.15 * cells, 4 * len(scores))]
    lanes = max(1, min(replays, int(2e8 // cells)))
    found = [
        oracle_share(wrong[choices].mean(axis=0), small, delta, cells)
        for choices in (
            ucb_e_choices(scores, small, replays=lanes, exploration=a, seed=seed)
            for a in (0.1, 0.3, 1.0, 3.0)
        )
    ]
    known = [share for share in found if share is not None]
    return {
        "uniform": oracle_share(uniform, tried, delta, cells),
        "ucb_e": min(known) if known else None,
        "sysrs": oracle_share(rejects, tried, delta, cells),
    }
