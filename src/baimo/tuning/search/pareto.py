"""Which prompts are worth going on from: those that are the best on something.

Prevents the failure of always improving the prompt with the best mean: it is soon a local optimum, while another
that solves what no other solves holds the idea that is missing. Agrawal et al. 2025 (GEPA), arXiv 2507.19457,
algorithm 2.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

Scores = Mapping[str, float]
"""Example id → score."""


def front(scores: Mapping[str, Scores]) -> dict[str, int]:
    """On how many examples each prompt is the best, without those whose wins others have too.

    Args:
        scores: prompt id → its scores; prompts may have been asked different examples.

    Returns:
        Prompt id → wins, for those that are kept; every example's best score is reached by one of them.
    """
    best: dict[str, float] = {}
    for one in scores.values():
        for example, score in one.items():
            best[example] = max(score, best.get(example, score))
    wins = {
        id: {example for example, score in one.items() if score == best[example]}
        for id, one in scores.items()
    }
    kept = dict(wins)
    # the weakest first: of two that win the same the one with the lower mean goes
    for id in sorted(wins, key=lambda id: (len(wins[id]), _mean(scores[id]))):
        others = set[str]().union(*(kept[other] for other in kept if other != id))
        if len(kept) > 1 and kept[id] <= others:
            del kept[id]
    return {id: len(won) for id, won in kept.items()}


def drawn(scores: Mapping[str, Scores], chance: random.Random) -> str:
    """A prompt of the front, more often the more it wins."""
    wins = front(scores)
    return chance.choices(list(wins), weights=[max(count, 1) for count in wins.values()])[0]


def _mean(scores: Scores) -> float:
    return sum(scores.values()) / len(scores) if scores else 0.0
