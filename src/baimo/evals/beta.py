"""Beta distributions for whole arrays at once, without SciPy: distribution function, quadrature nodes, a fitted prior.

Prevents an engine that spends more time on incomplete beta functions than its caller spends on calls: everything here
is a closed form, accurate to about a part in a hundred of the smaller tail where a + b >= 1.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_HALF = (-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806)
REACH = 12.0
"""Standard deviations above its mean at which a quadrature node of a Beta distribution makes no more sense."""
_TAIL = np.polynomial.Polynomial((*_HALF, 0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277))


class Shape(NamedTuple):
    """Parameters of Beta distributions, arrays of one shape."""

    a: Floats
    b: Floats

    @property
    def mean(self) -> Floats:
        return self.a / (self.a + self.b)

    @property
    def variance(self) -> Floats:
        return self.mean * (1.0 - self.mean) / (self.a + self.b + 1.0)


def normal_cdf(z: Floats) -> Floats:
    """Standard normal distribution function, relative error below 2e-7 in both tails (Press et al., `erfcc`)."""
    x = np.abs(z) / math.sqrt(2.0)
    t = 1.0 / (1.0 + 0.5 * x)
    tail = 0.5 * t * np.exp(-x * x + _TAIL(t))
    return np.where(z < 0, tail, 1.0 - tail)


def beta_cdf(x: Floats, shape: Shape) -> Floats:
    """P(Beta(a, b) < x), the normal approximation of Peizer & Pratt (JASA 63, 1968, 1416-1456); x may leave [0, 1]."""
    inside = (x > 0.0) & (x < 1.0)
    chance = (x >= 1.0).astype(float)
    a, b = np.broadcast_to(shape.a, x.shape)[inside], np.broadcast_to(shape.b, x.shape)[inside]
    chance[inside] = _beta_cdf(x[inside], Shape(a, b))
    return chance


def _beta_cdf(x: Floats, shape: Shape) -> Floats:
    p = np.clip(x, 1e-12, 1.0 - 1e-12)
    q = 1.0 - p
    trials = shape.a + shape.b - 1.0
    first, second = np.maximum(shape.a - 0.5, 1e-9), np.maximum(shape.b - 0.5, 1e-9)
    gap = first + 1 / 6 - (trials + 1 / 3) * p
    gap = gap + 0.02 * (q / (first + 0.5) - p / (second + 0.5) + (q - 0.5) / (trials + 1.0))
    trials = np.maximum(trials, 1e-9)
    spread = 1.0 + q * _skew(first / (trials * p)) + p * _skew(second / (trials * q))
    z = gap * np.sqrt(np.maximum(spread, 1e-12) / ((trials + 1 / 6) * p * q))
    return normal_cdf(-z)


def _skew(x: Floats) -> Floats:
    """(1 - x^2 + 2 x log x) / (1 - x)^2, continued through x = 1."""
    x = np.clip(x, 1e-300, 1e100)
    near = np.abs(x - 1.0) < 1e-4
    safe = np.where(near, 0.5, x)
    return np.where(
        near, (1.0 - x) / 3.0, (1.0 - safe * safe + 2.0 * safe * np.log(safe)) / (1.0 - safe) ** 2
    )


def logit_moments(shape: Shape) -> tuple[Floats, Floats]:
    """Mean and standard deviation of log(x / (1 - x)) for x ~ Beta(a, b), by digamma and trigamma."""
    center = _digamma(shape.a) - _digamma(shape.b)
    return center, np.sqrt(_trigamma(shape.a) + _trigamma(shape.b))


def beta_nodes(shape: Shape, order: int) -> tuple[Floats, Floats]:
    """Nodes [..., order] and weights [order] for a mean over Beta(a, b): Gauss-Hermite on the logit scale.

    Far below a = 1 the logit has a long lower tail that a symmetric rule mirrors upwards, to where no mass is: nodes
    end `REACH` standard deviations above the mean.
    """
    place, weight = _hermite(order)
    center, spread = logit_moments(shape)
    logit = np.asarray(center)[..., None] + np.asarray(spread)[..., None] * place
    nodes = 1.0 / (1.0 + np.exp(-np.clip(logit, -700, 700)))
    end = shape.mean + REACH * np.sqrt(shape.variance)
    return np.minimum(nodes, np.asarray(end)[..., None]), weight


@cache
def _hermite(order: int) -> tuple[Floats, Floats]:
    place, weight = np.polynomial.hermite_e.hermegauss(order)
    return place, weight / weight.sum()


def fitted_prior(hits: Floats, trials: Floats, *, least: float, most: float) -> tuple[float, float]:
    """A Beta prior for rates that vary between candidates, by moments of the smoothed rates hits / trials.

    Its weight a + b, in observations, is kept between `least` and `most`: however alike the candidates look, none is
    held back by more than `most` pseudo-observations. Casella, "An Introduction to Empirical Bayes", 1985.
    """
    known = trials > 0
    if known.sum() < 2:
        return least / 2.0, least / 2.0
    rate = (hits[known] + 0.5) / (trials[known] + 1.0)
    mean = float(rate.mean())
    between = max(float(rate.var() - np.mean(rate * (1.0 - rate) / (trials[known] + 1.0))), 1e-4)
    weight = min(max(mean * (1.0 - mean) / between - 1.0, least), most)
    return weight * mean, weight * (1.0 - mean)


def _digamma(x: Floats) -> Floats:
    shift = sum(1.0 / (x + k) for k in range(6))
    x = x + 6.0
    y = 1.0 / (x * x)
    return np.log(x) - 0.5 / x - y * (1 / 12 - y * (1 / 120 - y / 252)) - shift


def _trigamma(x: Floats) -> Floats:
    shift = sum(1.0 / (x + k) ** 2 for k in range(6))
    x = x + 6.0
    y = 1.0 / (x * x)
    return 1.0 / x + 0.5 * y + y / x * (1 / 6 - y * (1 / 30 - y / 42)) + shift
