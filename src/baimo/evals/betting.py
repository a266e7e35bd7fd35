"""Betting against a hypothesis: wealth that a true hypothesis lets grow only by luck, and the intervals that follow.

Prevents the commonest false certainty: looking at a fixed-sample interval after every answer and stopping when it looks
good. Wealth that starts at 1 and is multiplied by factors whose expectation is at most 1 reaches 1/delta, ever, with
probability at most delta (Ville 1939), however often one looks and whyever one stops.

Sources: Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting" (JRSS-B 2024) for the bets;
the same, "Confidence sequences for sampling without replacement" (NeurIPS 2020) for conditional means in a finite set.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Bettor(NamedTuple):
    """One of several who bet side by side; their wealth is added, so the best of them costs only its first capital."""

    capital: float
    """Part of the first wealth of 1."""
    start: int
    """Blocks that it lets pass: it is still rich when the first leaders, often wrong ones, have gone."""
    share: float | None
    """Part of the largest safe stake that it risks; None = adapts its stake, strong for small differences."""


BETTORS = (
    Bettor(0.30, 0, 0.8),
    Bettor(0.20, 0, None),
    Bettor(0.10, 8, 0.8),
    Bettor(0.15, 10, 0.5),
    Bettor(0.15, 20, None),
    Bettor(0.10, 40, 0.3),
)
CAPITAL = np.array([bettor.capital for bettor in BETTORS])
"""Shape [G]."""
STARTS = np.array([bettor.start for bettor in BETTORS])
SHARES = np.array([bettor.share or 0.0 for bettor in BETTORS])
ADAPTS = np.array([bettor.share is None for bettor in BETTORS])
LIMIT = 0.97
"""The most of the largest safe stake that the adapting bettors risk: no single answer can ruin it."""
BARELY = 1e-9
RICH = 1e200
"""Wealth beyond this is given away: far above every threshold, and products stay finite."""


class Interval(NamedTuple):
    """Two ends, each of shape [N]."""

    low: Floats
    high: Floats


def stakes(null: Floats, mean: Floats, square: Floats, reach: float, block: int) -> Floats:
    """How much to stake on each row's next gain being above its mean under the hypothesis.

    `null` [R] is the greatest mean of the next gain that the hypothesis allows, `mean` and `square` [R] what was
    seen of the gains in the `block` blocks so far, `reach` the greatest possible loss. Shape [R, G]; a stake stays
    below 1 / (reach + null), so wealth stays positive. Adapting bettors stake mean / square, both taken about
    `null`: Kelly's stake for gains in {-1, 0, 1}.
    """
    safe = 1.0 / np.maximum(reach + null, BARELY)
    spread = np.maximum(square, mean * mean) - 2 * null * mean + null * null
    kelly = np.minimum(np.maximum(mean - null, 0.0) / np.maximum(spread, BARELY), LIMIT * safe)
    stake = safe[:, None] * SHARES + kelly[:, None] * ADAPTS
    return stake * (block >= STARTS)


def grown(wealth: Floats, gain: Floats, null: Floats, stake: Floats, reach: float) -> Floats:
    """Wealth [R, G] after one bet: a factor of 1 + stake (gain - null), whose mean is at most 1 under the hypothesis.

    Where the hypothesis would need a mean below the least possible gain it is refuted and wealth is infinite.
    """
    after = np.minimum(wealth * (1.0 + stake * (gain - null)[:, None]), RICH)
    refuted = reach + null < -BARELY
    if refuted.any():
        after[refuted] = np.inf
    return after


def mean_interval(
    total: Floats,
    scored: Floats,
    seen: Floats,
    units: float,
    width: int,
    alpha: float,
    steps: int = 16,
) -> Interval:
    """Confidence sequence at level 1 - alpha for each row's mean score, valid at every prefix at once.

    Rows have walked `seen` [N] of `units` equally likely blocks (math.inf: a population) of at most `width` examples,
    `scored` [N] of whose examples have a score, with sum `total` [N]. The mean is over the examples that have a score.

    Method: for a hypothetical mean m a block is padded with m up to `width`, also for its unscored examples, which
    leaves its mean m; let x in [0, 1] be that block's mean. The product over blocks of (prediction of x by a
    Beta-binomial with uniform prior) / (hypergeometric chance), continued to fractions by the gamma function, is a
    supermartingale: each factor is convex in x because log-gamma is, so its mean is at most that on {0, 1} with the
    same conditional mean, which is 1. The interval keeps every m where the product is below 1 / alpha (Ville).
    For scores of 0 or 1 this is the prior-posterior ratio of Waudby-Smith & Ramdas (2020).
    """
    finite = math.isfinite(units)
    padding = seen * width - scored
    whole = np.maximum(units * width - padding, BARELY) if finite else np.full_like(total, np.inf)
    least, most = total / whole, 1.0 - (scored - total) / whole
    centre = np.clip(np.divide(total, scored, out=np.full_like(total, 0.5), where=scored > 0), least, most)
    fixed = math.log(alpha) - log_gamma(2 + seen)
    if finite:
        fixed += log_gamma(np.array(1.0 + units)) - log_gamma(1 + units - seen)
    # both ends by one bisection: row 0 searches below the centre, row 1 above it
    outside, inside = np.stack([least, most]), np.stack([centre, centre])
    whole_side = fixed + _evidence(outside, total, padding, seen, units, width) < 0
    for _ in range(steps):
        middle = (inside + outside) / 2
        kept = fixed + _evidence(middle, total, padding, seen, units, width) < 0
        inside, outside = np.where(kept, middle, inside), np.where(kept, outside, middle)
    ends = np.where(whole_side, np.stack([least, most]), outside)
    return Interval(ends[0], ends[1])


def _evidence(mean: Floats, total: Floats, padding: Floats, seen: Floats, units: float, width: int) -> Floats:
    """The part of the log product that depends on the hypothetical mean [2, N]; infinite where that is impossible."""
    good = (total + padding * mean) / width
    bad = seen - good
    if math.isfinite(units):
        here, there = units * mean, units * (1 - mean)
        rest, remainder = np.maximum(here - good, -0.5), np.maximum(there - bad, -0.5)
        part = log_gamma(1 + np.stack([good, bad, here, rest, there, remainder]))
        return part[0] + part[1] - part[2] + part[3] - part[4] + part[5]
    part = log_gamma(1 + np.stack([good, bad]))
    with np.errstate(divide="ignore", invalid="ignore"):
        chance = np.where(good > 0, good * np.log(mean), 0.0) + np.where(bad > 0, bad * np.log1p(-mean), 0.0)
    return part[0] + part[1] - chance


def log_gamma(value: Floats) -> Floats:
    """Logarithm of the gamma function for values above 0, elementwise, to about 1e-12 relative.

    Stirling's series (Abramowitz & Stegun 6.1.41) after a shift by 7; NumPy has no such function.
    """
    rise = value.copy()
    for step in range(1, 7):
        rise = rise * (value + step)
    far = value + 7.0
    square = 1.0 / (far * far)
    series = (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188)))) / far
    return (far - 0.5) * np.log(far) - far + 0.5 * math.log(2 * math.pi) + series - np.log(rise)
