"""What a run has seen of one candidate: columns that are counted apart, money, time.

Prevents wrong, malformed and failed from ending up in one figure.
"""

from __future__ import annotations

import bisect
from collections import Counter
from dataclasses import dataclass, field

from baimo.core.run import Outcome, Sample
from baimo.core.verdict import Flag, Interval, Lost, Standing


@dataclass(kw_only=True)
class Tally:
    """Running sums over the samples of one candidate."""

    candidate: str
    """Candidate.name."""
    outcomes: Counter[Outcome] = field(default_factory=Counter[Outcome])
    """How the answers came out."""
    judged: int = 0
    """Answers with a score."""
    strict_total: float = 0.0
    """Sum of their strict scores."""
    lenient_total: float = 0.0
    """Sum of their lenient scores."""
    latencies: list[float] = field(default_factory=list[float])
    """Milliseconds of the answers, ascending."""
    answered: int = 0
    """Answers that came, judged or not."""
    priced: int = 0
    """Answers whose price is known, whoever paid."""
    price_total: int = 0
    """Sum of those prices."""
    paid_micros: int = 0
    """What this run paid."""
    failures_in_a_row: int = 0
    """Calls that failed since the last one that was answered."""

    lost: dict[Outcome, Counter[tuple[str, str]]] = field(
        default_factory=dict[Outcome, Counter[tuple[str, str]]]
    )
    """Reasons, with what to do about them, of the samples that left the denominator."""

    def add(self, sample: Sample) -> None:
        """Count one sample."""
        self.outcomes[sample.score.outcome] += 1
        if sample.score.outcome in (Outcome.FAILED, Outcome.UNSCORED):
            reason = sample.score.explanation, str(sample.score.details.get("hint", ""))
            self.lost.setdefault(sample.score.outcome, Counter())[reason] += 1
        if sample.score.outcome is Outcome.FAILED:
            self.failures_in_a_row += 1
            return
        self.failures_in_a_row = 0
        self.answered += 1
        if sample.price_micros is not None:
            self.priced += 1
            self.price_total += sample.price_micros
        self.paid_micros += sample.cost_micros or 0
        if sample.latency_ms is not None:
            bisect.insort(self.latencies, sample.latency_ms)
        if sample.score.lenient is not None and sample.score.strict is not None:
            self.judged += 1
            self.lenient_total += sample.score.lenient
            self.strict_total += sample.score.strict

    @property
    def price_micros(self) -> float | None:
        """Mean price of an answer; None = not known."""
        return self.price_total / self.priced if 0 < self.priced == self.answered else None

    def standing(
        self, *, tier: int | None, score: float | None, interval: Interval, flags: tuple[Flag, ...] = ()
    ) -> Standing:
        """This candidate's line in the verdict."""
        price = self.price_micros
        return Standing(
            candidate=self.candidate,
            tier=tier,
            score=score,
            interval=interval,
            strict=self.strict_total / self.judged if self.judged else None,
            lenient=self.lenient_total / self.judged if self.judged else None,
            judged=self.judged,
            right=self.outcomes[Outcome.RIGHT],
            partial=self.outcomes[Outcome.PARTIAL],
            wrong=self.outcomes[Outcome.WRONG],
            malformed=self.outcomes[Outcome.MALFORMED],
            failed=self.outcomes[Outcome.FAILED],
            unscored=self.outcomes[Outcome.UNSCORED],
            calls=sum(self.outcomes.values()),
            cost_micros=None if self.answered and price is None else self.paid_micros,
            cost_per_1000_micros=None if price is None else round(price * 1000),
            latency_ms_median=_median(self.latencies),
            flags=flags,
            lost=tuple(_most_frequent(outcome, reasons) for outcome, reasons in self.lost.items()),
        )


def _most_frequent(outcome: Outcome, reasons: Counter[tuple[str, str]]) -> Lost:
    ((reason, hint), samples) = reasons.most_common(1)[0]
    return Lost(outcome=outcome.value, reason=reason, hint=hint, samples=samples)


def _median(ascending: list[float]) -> float | None:
    if not ascending:
        return None
    return (ascending[(len(ascending) - 1) // 2] + ascending[len(ascending) // 2]) / 2
