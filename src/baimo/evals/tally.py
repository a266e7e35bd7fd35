"""What a run has seen of one candidate: columns that are counted apart, money, time.

Prevents wrong, malformed and failed from ending up in one figure.
"""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass, field

from baimo.core.run import Outcome, Sample
from baimo.core.verdict import Flag, Interval, Standing


@dataclass(kw_only=True)
class Tally:
    """Running sums over the samples of one candidate."""

    candidate: str
    """Candidate.name."""
    outcomes: Counter[Outcome] = field(default_factory=Counter[Outcome])
    """How the answers came out."""
    strict: list[float] = field(default_factory=list[float])
    """Strict scores of what was judged."""
    lenient: list[float] = field(default_factory=list[float])
    """Lenient scores of what was judged."""
    latencies: list[float] = field(default_factory=list[float])
    """Milliseconds of the answers."""
    prices: list[int | None] = field(default_factory=list[int | None])
    """Price of each answer, whoever paid."""
    paid_micros: int = 0
    """What this run paid."""
    failures_in_a_row: int = 0
    """Calls that failed since the last one that was answered."""

    def add(self, sample: Sample) -> None:
        """Count one sample."""
        self.outcomes[sample.score.outcome] += 1
        if sample.score.outcome is Outcome.FAILED:
            self.failures_in_a_row += 1
            return
        self.failures_in_a_row = 0
        self.prices.append(sample.price_micros)
        self.paid_micros += sample.cost_micros or 0
        if sample.latency_ms is not None:
            self.latencies.append(sample.latency_ms)
        if sample.score.lenient is not None and sample.score.strict is not None:
            self.lenient.append(sample.score.lenient)
            self.strict.append(sample.score.strict)

    @property
    def answered(self) -> int:
        """Answers that came, judged or not."""
        return len(self.prices)

    @property
    def price_micros(self) -> float | None:
        """Mean price of an answer; None = not known."""
        known = [price for price in self.prices if price is not None]
        return sum(known) / len(known) if known and len(known) == len(self.prices) else None

    def standing(
        self, *, tier: int, score: float | None, interval: Interval, flags: tuple[Flag, ...] = ()
    ) -> Standing:
        """This candidate's line in the verdict."""
        price = self.price_micros
        return Standing(
            candidate=self.candidate,
            tier=tier,
            score=score,
            interval=interval,
            strict=_mean(self.strict),
            lenient=_mean(self.lenient),
            judged=len(self.lenient),
            right=self.outcomes[Outcome.RIGHT],
            partial=self.outcomes[Outcome.PARTIAL],
            wrong=self.outcomes[Outcome.WRONG],
            malformed=self.outcomes[Outcome.MALFORMED],
            failed=self.outcomes[Outcome.FAILED],
            unscored=self.outcomes[Outcome.UNSCORED],
            calls=sum(self.outcomes.values()),
            cost_micros=None if self.prices and price is None else self.paid_micros,
            cost_per_1000_micros=None if price is None else round(price * 1000),
            latency_ms_median=statistics.median(self.latencies) if self.latencies else None,
            flags=flags,
        )


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
