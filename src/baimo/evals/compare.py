"""One comparison from the first call to the verdict: propose → ask → score → observe, until certain or out of means.

Prevents a run that cannot be repeated. Batches are waited for as a whole and entered in the order in which they were
proposed, so what is asked next depends on the seed and the answers only, not on which server was faster; a run that
was killed takes the stored answers and walks the same path.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from baimo.core.call import Completion, Request
from baimo.core.run import Run, Sample, Score, Scorer
from baimo.core.task import Candidate, Example, Task
from baimo.core.verdict import Flag, Forecast, Interval, Progress, Standing, Verdict
from baimo.errors import AuthenticationFailed, ProviderError, ScorerError
from baimo.evals import flags
from baimo.evals.answers import Answers, Route
from baimo.evals.board import Cell
from baimo.evals.contest import Contest
from baimo.evals.options import CompareOptions
from baimo.evals.slices import slices
from baimo.evals.tally import Tally
from baimo.evals.tasks.prompts import Renderer
from baimo.store.store import Store
from baimo.text import text

PATIENCE = 12
"""Calls of one candidate that may fail in a row before it is left out of the comparison."""


JUDGES = ("judge", "pairwise")
"""Scorers whose figure is a model's opinion: there a constant reply can win."""


class Watcher(Protocol):
    """Whoever looks on: a terminal, a web page, a log."""

    def forecast(self, forecast: Forecast) -> None:
        """What it will take, before the first call."""
        ...

    def progress(self, progress: Progress) -> None:
        """Where it stands, after each batch."""
        ...

    def notice(self, message: str) -> None:
        """Something a person should know: a model is fetched, a candidate leaves."""
        ...


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A candidate and the way to ask it."""

    candidate: Candidate
    route: Route
    renderer: Renderer
    tags_example: bool = False
    """Recorded replies are found by the example's id, so the request carries it."""

    def request(self, example: Example) -> Request:
        """What is sent for this example."""
        return Request(
            model=self.route.model.upstream,
            messages=self.renderer.messages(example),
            sampling=self.candidate.sampling,
            tools=example.tools,
            response_format=self.candidate.response_format,
            extra={"example": example.id} if self.tags_example else None,
        )


class _Asked(NamedTuple):
    sample: Sample
    cell: flags.Cell | None
    error: ProviderError | None


class Comparison:
    """Runs once. `stop()` ends it early, with a verdict on what is known."""

    def __init__(
        self,
        *,
        run: Run,
        options: CompareOptions,
        task: Task,
        contenders: Sequence[Contender],
        scorers: Sequence[Scorer],
        answers: Answers,
        store: Store,
        contest: Contest,
        watcher: Watcher,
        forecast: Forecast | None,
    ) -> None:
        self._run = run
        self._options = options
        self._task = task
        self._contenders = contenders
        self._scorers = scorers
        self._answers = answers
        self._store = store
        self._contest = contest
        self._watcher = watcher
        self._forecast = forecast
        self._tallies = [Tally(candidate=contender.candidate.name) for contender in contenders]
        self._samples: list[Sample] = []
        self._flag_cells: list[flags.Cell] = []
        self._out: dict[int, Flag] = {}
        self._started = time.monotonic()
        self._stopping = asyncio.Event()
        self._judged = task.scorers[0].name in JUDGES

    def stop(self) -> None:
        """Finish now: calls under way are given up, nothing that was answered is lost."""
        self._stopping.set()

    async def verdict(self) -> Verdict:
        """Ask until it is certain, everything is asked, or a limit is reached.

        Raises:
            ProviderError: every candidate failed, the last one for this reason.
        """
        stopped = None
        while stopped is None:
            cells = self._affordable(self._contest.propose(self._batch()))
            stopped = cells if isinstance(cells, str) else await self._round(cells)
            if stopped == "certain" and self._leader_is_disqualified():
                stopped = None
        return self._verdict(stopped)

    # what to ask

    def _batch(self) -> int:
        limit = self._options.batch
        if self._options.max_calls is not None:
            limit = min(limit, self._options.max_calls - self._answers.bill.calls - self._answers.bill.failed)
        return max(limit, 0)

    def _affordable(self, cells: list[Cell]) -> list[Cell] | str:
        """The cells that may be bought, or why the run stops here."""
        if not cells:
            if self._batch() == 0:
                return "max_calls"
            return self._contest.reason or "exhausted"
        if self._options.max_minutes is not None and self._elapsed() >= 60 * self._options.max_minutes:
            return "max_minutes"
        if self._options.max_cost is None:
            return cells
        left = self._options.max_cost * 1e6 - self._answers.bill.cost_micros
        kept: list[Cell] = []
        for cell in cells:
            contender = self._contenders[cell.candidate]
            request = contender.request(self._task.examples[cell.example])
            if not self._answers.stored(contender.route, request):
                # reserve before calling: the batch as a whole must not overspend, whatever the answers' length
                left -= self._answers.most_micros(contender.route.model, request) or 0
            if left < 0:
                break
            kept.append(cell)
        return kept or "max_cost"

    # one batch

    async def _round(self, cells: list[Cell]) -> str | None:
        asked = asyncio.gather(*(self._ask(cell) for cell in cells))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({asked, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            if not asked.done():
                asked.cancel()
        if self._stopping.is_set():
            await asyncio.gather(asked, return_exceptions=True)
            return "interrupted"
        self._enter(cells, asked.result())
        self._watcher.progress(self._progress())
        return self._contest.reason

    async def _ask(self, cell: Cell) -> _Asked:
        contender, example = self._contenders[cell.candidate], self._task.examples[cell.example]
        request = contender.request(example)
        name, currency = contender.candidate.name, self._answers.currency
        try:
            answer = await self._answers.get(contender.route, request)
        except ProviderError as error:
            score = Score.failed(str(error))
            failed = Sample(
                candidate=name,
                example=example.id,
                request_hash="",
                score=score,
                cost_micros=0,
                currency=currency,
                error=error.key,
            )
            return _Asked(failed, None, error)
        scores = [await _judgement(scorer, example, answer.completion) for scorer in self._scorers]
        sample = Sample(
            candidate=name,
            example=example.id,
            request_hash=answer.hash,
            score=scores[0],
            other_scores={
                scorer.spec.name: score for scorer, score in zip(self._scorers[1:], scores[1:], strict=True)
            },
            cost_micros=answer.cost_micros,
            price_micros=answer.price_micros,
            currency=currency,
            latency_ms=answer.completion.latency_ms,
            reused=answer.reused,
        )
        reply = flags.cell(name, example.id, answer.completion.text, scores[0], example.target)
        return _Asked(sample, reply, None)

    def _enter(self, cells: list[Cell], asked: Sequence[_Asked]) -> None:
        position = len(self._samples)
        for cell, (sample, reply, _) in zip(cells, asked, strict=True):
            deciding = sample.score.strict if self._options.score == "strict" else sample.score.lenient
            price = sample.price_micros
            self._contest.observe(cell, deciding, None if price is None else float(price))
            self._tallies[cell.candidate].add(sample)
            self._samples.append(sample)
            if reply is not None:
                self._flag_cells.append(reply)
        self._store.add_samples(self._run.id, [one.sample for one in asked], first_position=position)
        for cell, (_, _, error) in zip(cells, asked, strict=True):
            if error is not None:
                self._lose_patience(cell.candidate, error)

    def _lose_patience(self, candidate: int, error: ProviderError) -> None:
        hopeless = isinstance(error, AuthenticationFailed)
        if candidate in self._out or not (hopeless or self._tallies[candidate].failures_in_a_row >= PATIENCE):
            return
        self._withdraw(candidate, Flag(kind="withdrawn", detail={"reason": str(error)}, disqualifies=True))
        if not self._contest.present and not any(tally.answered for tally in self._tallies):
            raise error

    def _leader_is_disqualified(self) -> bool:
        standing = self._contest.standing()
        if standing is None:
            return False
        name = self._contenders[standing.leader].candidate.name
        for flag in flags.flags(self._flag_cells, judged=self._judged).get(name, ()):
            if flag.disqualifies:
                self._withdraw(standing.leader, flag)
                return True
        return False

    def _withdraw(self, candidate: int, flag: Flag) -> None:
        self._out[candidate] = flag
        self._contest.withdraw(candidate)
        name = self._contenders[candidate].candidate.name
        reason = flag.detail.get("reason", flag.kind)
        self._watcher.notice(text("compare.withdrawn", candidate=name, reason=reason))

    # what is known

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _standings(self, flagged: dict[str, tuple[Flag, ...]]) -> tuple[Standing, ...]:
        standing = self._contest.standing()
        lines: list[Standing] = []
        ranked = [] if standing is None else [one for tier in standing.tiers for one in tier]
        tier_of = {} if standing is None else {c: n for n, tier in enumerate(standing.tiers, 1) for c in tier}
        last = len(standing.tiers) + 1 if standing is not None else 1
        everybody = [*ranked, *(one for one in range(len(self._tallies)) if one not in tier_of)]
        for candidate in everybody:
            tally = self._tallies[candidate]
            score: float | None = None
            interval = Interval(0.0, 1.0)
            if standing is not None and candidate in tier_of:
                mean = float(standing.mean[candidate])
                score = mean if mean == mean and tally.lenient else None
                interval = Interval(float(standing.low[candidate]), float(standing.high[candidate]))
            raised = flagged.get(tally.candidate, ())
            if candidate in self._out and self._out[candidate] not in raised:
                raised = (*raised, self._out[candidate])
            lines.append(
                tally.standing(
                    tier=tier_of.get(candidate, last), score=score, interval=interval, flags=raised
                )
            )
        return tuple(lines)

    def _exhaustive_micros(self) -> int | None:
        prices = [tally.price_micros for tally in self._tallies]
        known = [price for price in prices if price is not None]
        return round(sum(known) * len(self._task.examples)) if len(known) == len(prices) else None

    def _left_micros(self, calls_left: float) -> int | None:
        standing = self._contest.standing()
        alive = () if standing is None else standing.alive
        prices = [self._tallies[candidate].price_micros for candidate in alive]
        known = [price for price in prices if price is not None]
        return round(calls_left * sum(known) / len(known)) if known and len(known) == len(prices) else None

    def _progress(self) -> Progress:
        standing = self._contest.standing()
        left = None if standing is None else standing.calls_left
        if self._options.exhaustive:
            left = float(len(self._tallies) * len(self._task.examples) - len(self._samples))
        bill, elapsed = self._answers.bill, self._elapsed()
        paid = bill.calls + bill.failed
        return Progress(
            standings=self._standings({}),
            calls=len(self._samples),
            calls_paid=paid,
            calls_left=left,
            calls_exhaustive=len(self._tallies) * len(self._task.examples),
            cost_micros=bill.total_micros,
            cost_left_micros=None if left is None else self._left_micros(left),
            cost_exhaustive_micros=self._exhaustive_micros(),
            currency=self._answers.currency,
            elapsed_s=elapsed,
            eta_s=None if left is None or not self._samples else left * elapsed / len(self._samples),
            error_bound=1.0 if standing is None else standing.error_bound,
            delta=float(self._options.delta or 0),
        )

    def _verdict(self, stopped: str) -> Verdict:
        standing = self._contest.standing()
        options, bill = self._options, self._answers.bill
        judged = standing is not None and bool(self._tallies[standing.leader].lenient)
        winner = self._contenders[standing.leader].candidate.name if standing and judged else None
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
            error_bound=1.0 if standing is None else standing.error_bound,
            target=options.target,
            examples=len(self._task.examples),
            standings=self._standings(flags.flags(self._flag_cells, judged=self._judged)),
            calls=len(self._samples),
            calls_paid=bill.calls + bill.failed,
            calls_exhaustive=len(self._tallies) * len(self._task.examples),
            cost_micros=bill.total_micros,
            cost_exhaustive_micros=self._exhaustive_micros(),
            currency=self._answers.currency,
            minutes=self._elapsed() / 60,
            forecast=self._forecast,
            calls_left=left,
            cost_left_micros=None if left is None else self._left_micros(left),
            slices=slices(self._samples, metadata, strict=options.score == "strict"),
        )


async def _judgement(scorer: Scorer, example: Example, completion: Completion) -> Score:
    """A scorer that fails leaves the sample unscored; it never aborts a run of hours and never counts as 0."""
    try:
        return await scorer.score(example, completion)
    except (ScorerError, ProviderError) as error:
        return Score.unscored(str(error))


def resolved(options: CompareOptions, *, epsilon: float, delta: float, assurance: str) -> CompareOptions:
    """The options with the settings' defaults filled in."""
    return replace(
        options,
        epsilon=epsilon if options.epsilon is None else options.epsilon,
        delta=delta if options.delta is None else options.delta,
        assurance=options.assurance or assurance,
    )
