"""The score sheet of one comparison: what was seen of each candidate, and what that says now and in the end.

Prevents a winner that was never judged, and one whose figures are not what they seem.
"""

from __future__ import annotations

from collections.abc import Sequence

from baimo.core.run import Run, Sample
from baimo.core.task import Task
from baimo.core.verdict import Flag, Forecast, Interval, Progress, Standing, Verdict
from baimo.evals import flags
from baimo.evals.answers import Bill
from baimo.evals.board import Cell
from baimo.evals.board import Standing as BoardStanding
from baimo.evals.contest import Contest
from baimo.evals.options import CompareOptions
from baimo.evals.slices import slices
from baimo.evals.tally import Tally
from baimo.text import text

JUDGES = ("judge", "pairwise")
"""Scorers whose figure is a model's opinion: there a constant reply can win."""


class Sheet:
    """Samples in the order in which they were entered, with everything that is derived from them."""

    def __init__(
        self,
        *,
        run: Run,
        options: CompareOptions,
        task: Task,
        names: Sequence[str],
        contest: Contest,
        bill: Bill,
        currency: str,
    ) -> None:
        self.contest = contest
        self.tallies = [Tally(candidate=name) for name in names]
        self.samples: list[Sample] = []
        self.out: dict[int, Flag] = {}
        """Who has left, and why."""
        self._run = run
        self._options = options
        self._task = task
        self._bill = bill
        self._currency = currency
        self._cells: list[flags.Cell] = []
        self._judged = task.scorers[0].name in JUDGES
        self._model_of = {str(one["name"]): str(one["model"]) for one in run.candidates}

    def enter(self, cell: Cell, sample: Sample, reply: flags.Cell | None) -> None:
        """Count one sample, and tell the contest; the order of entries decides what is asked next."""
        deciding = sample.score.strict if self._options.score == "strict" else sample.score.lenient
        price = sample.price_micros
        self.contest.observe(cell, deciding, None if price is None else float(price))
        self.tallies[cell.candidate].add(sample)
        self.samples.append(sample)
        if reply is not None:
            self._cells.append(reply)

    @property
    def exhaustive_calls(self) -> int:
        """Every candidate on every example."""
        return len(self.tallies) * len(self._task.examples)

    def disqualified_leader(self) -> tuple[int, Flag] | None:
        """The leader, if it must not be crowned, and why: how it answered, or that no answer could be scored."""
        standing = self.contest.standing()
        if standing is None:
            return None
        tally = self.tallies[standing.leader]
        if tally.outcomes and not tally.judged and any(other.judged for other in self.tallies):
            reason = text("compare.never_scored", calls=tally.outcomes.total())
            return standing.leader, Flag(kind="withdrawn", detail={"reason": reason}, disqualifies=True)
        raised = self._flags().get(tally.candidate, ())
        flag = next((flag for flag in raised if flag.disqualifies), None)
        return None if flag is None else (standing.leader, flag)

    def progress(self, elapsed_s: float) -> Progress:
        """Where it stands after `elapsed_s` seconds."""
        standing = self.contest.standing()
        left = None if standing is None else standing.calls_left
        if self._options.exhaustive:
            left = float(self.exhaustive_calls - len(self.samples))
        return Progress(
            standings=self._standings({}),
            calls=len(self.samples),
            calls_paid=self._bill.calls + self._bill.failed,
            calls_left=left,
            calls_exhaustive=self.exhaustive_calls,
            cost_micros=self._bill.total_micros,
            cost_left_micros=None if left is None else self._left_micros(left),
            cost_exhaustive_micros=self._exhaustive_micros(),
            currency=self._currency,
            elapsed_s=elapsed_s,
            eta_s=None if left is None or not self.samples else left * elapsed_s / len(self.samples),
            error_bound=self._error_bound(standing),
            delta=float(self._options.delta or 0),
        )

    def verdict(self, stopped: str, *, elapsed_s: float, forecast: Forecast | None) -> Verdict:
        """What follows from everything that was entered."""
        standing, options = self.contest.standing(), self._options
        judged = standing is not None and self.tallies[standing.leader].judged > 0
        winner = self.tallies[standing.leader].candidate if standing and judged else None
        # asking everything decides, whatever the rule would still have wanted to see
        certain = judged and (stopped == "certain" or (standing is not None and standing.certain))
        left = 0.0 if certain else (standing.calls_left if standing else None)
        metadata = {example.id: example.metadata for example in self._task.examples}
        return Verdict(
            run=self._run.id,
            task=self._task.name,
            winner=winner,
            decision=options.decision,
            certain=certain,
            stopped=stopped,
            assurance=options.assurance or "",
            epsilon=float(options.epsilon or 0),
            delta=float(options.delta or 0),
            error_bound=self._error_bound(standing),
            target=options.target,
            examples=len(self._task.examples),
            standings=self._standings(self._flags()),
            calls=len(self.samples),
            calls_paid=self._bill.calls + self._bill.failed,
            calls_exhaustive=self.exhaustive_calls,
            cost_micros=self._bill.total_micros,
            cost_exhaustive_micros=self._exhaustive_micros(),
            currency=self._currency,
            minutes=elapsed_s / 60,
            forecast=forecast,
            calls_left=left,
            cost_left_micros=None if left is None else self._left_micros(left),
            slices=slices(self.samples, metadata, strict=options.score == "strict"),
        )

    def _error_bound(self, standing: BoardStanding | None) -> float:
        """The level reached; 1 while the leader was never judged, whatever the rule makes of no evidence."""
        if standing is None or not self.tallies[standing.leader].judged:
            return 1.0
        return standing.error_bound

    def _flags(self) -> dict[str, tuple[Flag, ...]]:
        return flags.flags(self._cells, judged=self._judged, model_of=self._model_of)

    def _standings(self, flagged: dict[str, tuple[Flag, ...]]) -> tuple[Standing, ...]:
        standing = self.contest.standing()
        tiers = () if standing is None else standing.tiers
        tier_of = {candidate: number for number, tier in enumerate(tiers, 1) for candidate in tier}
        absent = [candidate for candidate in range(len(self.tallies)) if candidate not in tier_of]
        lines: list[Standing] = []
        for candidate in [*tier_of, *absent]:
            tally = self.tallies[candidate]
            score: float | None = None
            interval = Interval(0.0, 1.0)
            if standing is not None and candidate in tier_of:
                mean = float(standing.mean[candidate])
                score = mean if mean == mean and tally.judged else None
                interval = Interval(float(standing.low[candidate]), float(standing.high[candidate]))
            raised = flagged.get(tally.candidate, ())
            if candidate in self.out and self.out[candidate] not in raised:
                raised = (*raised, self.out[candidate])
            tier = None if score is None else tier_of[candidate]
            lines.append(tally.standing(tier=tier, score=score, interval=interval, flags=raised))
        return tuple(lines)

    def _exhaustive_micros(self) -> int | None:
        """Every candidate on every example, judges included at what they took per answer so far."""
        prices = [tally.price_micros for tally in self.tallies]
        known = [price for price in prices if price is not None]
        judging = self._judging_micros()
        if len(known) < len(prices) or judging is None:
            return None
        return round(sum(known) * len(self._task.examples) + judging * self.exhaustive_calls)

    def _left_micros(self, calls_left: float) -> int | None:
        standing = self.contest.standing()
        alive = () if standing is None else standing.alive
        prices = [self.tallies[candidate].price_micros for candidate in alive]
        known = [price for price in prices if price is not None]
        judging = self._judging_micros()
        if not known or len(known) < len(prices) or judging is None:
            return None
        return round(calls_left * (sum(known) / len(known) + judging))

    def _judging_micros(self) -> float | None:
        """What judges took per answer of a candidate; None = not known."""
        if self._bill.judging_micros is None:
            return None
        return self._bill.judging_micros / max(1, sum(tally.answered for tally in self.tallies))
