"""The answer to "which one, for how much, how sure?": forecast before, standing during, verdict after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Interval(NamedTuple):
    """Both ends belong to it."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a comparison will take, before it starts. Money is None when a price is unknown."""

    calls: Interval
    """Calls until certain, 80 % interval."""
    calls_exhaustive: int
    """Every candidate on every example."""
    cost_micros: Interval | None
    """Micro-units of `currency`, 80 % interval."""
    cost_exhaustive_micros: int | None
    """Micro-units for every candidate on every example."""
    minutes: Interval
    """Wall time, 80 % interval."""
    currency: str = "USD"
    """Currency of both costs."""
    stored: int = 0
    """Answers that are already in the store and cost nothing."""
    unpriced: tuple[str, ...] = ()
    """Models whose price is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One candidate's line in the verdict."""

    candidate: str
    """Candidate.name."""
    tier: int | None
    """1 = not separated from the best; None = nothing judged, or left out."""
    score: float | None
    """Mean of the deciding score over what was judged; None = nothing judged."""
    interval: Interval
    """Simultaneous over candidates at 1 − delta."""
    strict: float | None
    """Mean strict score."""
    lenient: float | None
    """Mean lenient score."""
    judged: int
    """Samples in the denominator."""
    right: int
    """Full marks."""
    partial: int
    """Some marks."""
    wrong: int
    """Well-formed, no marks."""
    malformed: int
    """Not in the form that the task asks for."""
    failed: int
    """The provider gave no answer."""
    unscored: int
    """The scorer failed."""
    calls: int
    """Answers used, stored ones included."""
    cost_micros: int | None
    """What this run paid; None = not known."""
    cost_per_1000_micros: int | None
    """Expected price of a thousand answers; None = not known."""
    latency_ms_median: float | None
    """Median wall time of an answer."""
    flags: tuple[Flag, ...] = ()
    """Why it should not be trusted blindly."""
    lost: tuple[Lost, ...] = ()
    """Why calls failed and why answers were not scored, the most frequent reason of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """The most frequent reason why samples of one candidate left the denominator."""

    outcome: str
    """failed or unscored."""
    reason: str
    """For a person."""
    hint: str = ""
    """What to do about it."""
    samples: int
    """How many it was the reason of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """Something suspicious about a candidate's answers; a flagged candidate is not crowned without saying so."""

    kind: str
    """constant, near_constant, copy, length, position …"""
    detail: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What was seen: the reply, the other candidate, the share."""
    disqualifies: bool = False
    """Whether it must not be named the winner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Which candidate, for how much, how sure, in figures that can be rebuilt."""

    run: str
    """Run.id."""
    task: str
    """Task.name."""
    winner: str | None
    """Chosen candidate; None when nothing could be judged."""
    decision: str
    """best, or cheapest (within epsilon of the best)."""
    certain: bool
    """Whether the stop was for certainty."""
    stopped: str
    """certain, exhausted, max_cost, over_limit, max_calls, max_minutes, interrupted."""
    assurance: str
    """calibrated or guaranteed."""
    epsilon: float
    """A candidate this much below the best is as good as the best."""
    delta: float
    """Highest acceptable probability that the winner is worse than that."""
    error_bound: float
    """Probability of error reached."""
    target: str
    """set: these examples; population: what they were drawn from."""
    examples: int
    """Examples of the task."""
    standings: tuple[Standing, ...]
    """Best first."""
    calls: int
    """Cells decided on, stored answers included."""
    calls_paid: int
    """Calls that were really made by this run."""
    calls_exhaustive: int
    """Every candidate on every example."""
    cost_micros: int | None
    """Paid by this run; None = not known."""
    cost_exhaustive_micros: int | None
    """Every candidate on every example at the mean price seen; None = not known."""
    currency: str
    """Currency of the costs."""
    minutes: float
    """Wall time."""
    forecast: Forecast | None = None
    """What was forecast before the start."""
    calls_left: float | None = None
    """About how many more calls certainty would take; 0 when certain."""
    cost_left_micros: int | None = None
    """What those would cost."""
    slices: Mapping[str, Mapping[str, Mapping[str, float]]] = field(
        default_factory=dict[str, Mapping[str, Mapping[str, float]]]
    )
    """metadata name → value → candidate → mean score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a comparison stands after a batch, for whoever watches it."""

    standings: tuple[Standing, ...]
    """Best first; tiers as they form."""
    calls: int
    """Cells decided on so far, stored answers included."""
    calls_paid: int
    """Calls really made so far."""
    calls_left: float | None
    """Forecast of what certainty still takes; None = no idea yet."""
    calls_exhaustive: int
    """Every candidate on every example."""
    cost_micros: int | None
    """Paid so far; None = a price is not known."""
    cost_left_micros: int | None
    """Forecast of what certainty still costs; None = not known."""
    cost_exhaustive_micros: int | None
    """Every candidate on every example; None = not known."""
    currency: str
    """Currency of the costs."""
    elapsed_s: float
    """Wall time so far."""
    eta_s: float | None
    """Forecast of the wall time still needed; None = no idea yet."""
    error_bound: float
    """Probability that the leader is the wrong choice, or the level reached."""
    delta: float
    """Where it stops."""
    waiting: str = ""
    """Message for a person while nothing moves: rate limited, loading a model …"""
