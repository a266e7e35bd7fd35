"""One comparison from the first call to the verdict: propose → ask → score → observe, until certain or out of means.

Prevents a run that cannot be repeated. Batches are waited for as a whole and entered in the order in which they were
proposed, so what is asked next depends on the seed and the answers only, not on which server was faster; a run that
was killed takes the stored answers and walks the same path.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from baimo.core.call import Completion, Request
from baimo.core.run import Run, Sample, Score, Scorer
from baimo.core.task import Candidate, Example, Task
from baimo.core.verdict import Flag, Forecast, Progress, Verdict
from baimo.errors import (
    AuthenticationFailed,
    BaimoError,
    BudgetExceeded,
    ProviderError,
    ScorerError,
    Unreachable,
)
from baimo.evals import flags
from baimo.evals.answers import Answers, Route
from baimo.evals.board import Cell
from baimo.evals.contest import Contest
from baimo.evals.options import CompareOptions
from baimo.evals.sheet import Sheet
from baimo.evals.tasks.prompts import Renderer
from baimo.store.store import Store
from baimo.text import text

PATIENCE = 12
"""Calls of one candidate that may fail in a row before it is left out; also examples without any score at all."""
SILENCE = 24
"""Calls in a row that may find a vendor unreachable before all its candidates are left out."""


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
    """What became of one cell."""

    cell: Cell
    sample: Sample | None
    """None: it was not asked, because it may cost more than is left."""
    reply: flags.Cell | None
    error: ProviderError | BudgetExceeded | None


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
        self._sheet = Sheet(
            run=run,
            options=options,
            task=task,
            names=[contender.candidate.name for contender in contenders],
            contest=contest,
            bill=answers.bill,
            currency=answers.currency,
        )
        self._reason: ProviderError | None = None
        """The last failure of a call."""
        self._waiting: list[Cell] = []
        """Proposed, but what they may cost was more than what was left while others were under way."""
        self._unreached: Counter[str] = Counter()
        """By vendor: calls that did not reach it since the last one that was answered."""
        self._started = time.monotonic()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Finish now: calls under way are given up, nothing that was answered is lost."""
        self._stopping.set()

    async def verdict(self) -> Verdict:
        """Ask until it is certain, everything is asked, or a limit is reached.

        Raises:
            ProviderError: no candidate is left that answers.
            ScorerError: nothing could be scored.
        """
        stopped = None
        while stopped is None:
            stopped = await self._round()
            if stopped in ("certain", "exhausted") and self._withdraws_leader():
                stopped = None
        while self._withdraws_leader():
            pass
        if stopped in ("certain", "exhausted"):
            self._insist_on_scores()
        return self._sheet.verdict(stopped, elapsed_s=self._elapsed(), forecast=self._forecast)

    # one batch

    async def _round(self) -> str | None:
        """Ask one batch and enter what came; why the run stops, or None."""
        batch, cells, self._waiting = self._batch(), self._waiting, []
        if not cells and batch == 0:
            return "max_calls"
        cells = cells or self._contest.propose(batch)
        if not cells:
            return self._contest.reason or "exhausted"
        asked, stopped = await self._answered(cells)
        entered = [one for one in asked if one.sample is not None]
        limits = [one.error.key for one in asked if isinstance(one.error, BudgetExceeded)]
        self._waiting = [one.cell for one in asked if one.sample is None]
        self._enter(entered)
        self._watcher.progress(self._sheet.progress(self._elapsed()))
        if limits and not entered:
            # nothing is under way any more that could give back what it had set aside
            stopped = stopped or limits[0].rpartition(".")[2]
        return self._contest.reason or stopped

    def _batch(self) -> int:
        limit = self._options.batch
        if self._options.max_calls is not None:
            made = self._answers.bill.calls + self._answers.bill.failed
            each = max(1, math.ceil(made / max(1, len(self._sheet.samples))))  # more than one with a judge
            limit = min(limit, (self._options.max_calls - made) // each)
        return max(limit, 0)

    async def _answered(self, cells: list[Cell]) -> tuple[list[_Asked], str | None]:
        """What became of these cells, in their order, and why the run stops before all of them are answered."""
        tasks = [asyncio.create_task(self._ask(cell)) for cell in cells]
        finished = asyncio.create_task(asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait(
                {finished, stopping}, timeout=self._seconds_left(), return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            complete = finished.done()
            for task in (finished, stopping, *tasks):
                task.cancel()
            await asyncio.gather(finished, stopping, *tasks, return_exceptions=True)
        asked = [
            task.result() for task in tasks if not task.cancelled()
        ]  # raises what no cell can be blamed for
        return asked, None if complete else "interrupted" if self._stopping.is_set() else "max_minutes"

    async def _ask(self, cell: Cell) -> _Asked:
        contender, example = self._contenders[cell.candidate], self._task.examples[cell.example]
        name, currency = contender.candidate.name, self._answers.currency
        try:
            answer = await self._answers.get(contender.route, contender.request(example))
            scores = [await _judgement(scorer, example, answer.completion) for scorer in self._scorers]
        except BudgetExceeded as error:
            return _Asked(cell, None, None, error)
        except ProviderError as error:
            failed = Sample(
                candidate=name,
                example=example.id,
                request_hash="",
                score=Score.failed(str(error), error.hint),
                cost_micros=0,
                currency=currency,
                error=error.key,
            )
            return _Asked(cell, failed, None, error)
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
        completion = answer.completion
        cut = completion.finish_reason == "length"
        reply = flags.cell(name, example.id, completion.text, scores[0], example.target, cut=cut)
        return _Asked(cell, sample, reply, None)

    def _enter(self, asked: Sequence[_Asked]) -> None:
        position = len(self._sheet.samples)
        samples = [one.sample for one in asked if one.sample is not None]
        for one, sample in zip(asked, samples, strict=True):
            self._sheet.enter(one.cell, sample, one.reply)
            if one.error is None:
                self._unreached[self._vendor(one.cell.candidate)] = 0
        self._store.add_samples(self._run.id, samples, first_position=position)
        for one in asked:
            if isinstance(one.error, ProviderError):
                self._lose_patience(one.cell.candidate, one.error)
        self._insist_on_scores(after_examples=PATIENCE)

    # who leaves, and when it makes no sense to go on

    def _vendor(self, candidate: int) -> str:
        return self._contenders[candidate].route.model.vendor

    def _lose_patience(self, candidate: int, error: ProviderError) -> None:
        self._reason = error
        vendor, leaving = self._vendor(candidate), list[int]()
        if isinstance(error, Unreachable):
            self._unreached[vendor] += 1
        if self._unreached[vendor] >= SILENCE:
            leaving = [one for one in range(len(self._contenders)) if self._vendor(one) == vendor]
        elif (
            isinstance(error, AuthenticationFailed)
            or self._sheet.tallies[candidate].failures_in_a_row >= PATIENCE
        ):
            leaving = [candidate]
        for one in leaving:
            if one not in self._sheet.out:
                self._withdraw(one, Flag(kind="withdrawn", detail={"reason": str(error)}, disqualifies=True))
        if not self._contest.present:
            raise ProviderError("compare.nobody_answers", problem=str(error), run=self._run.id) from error

    def _withdraws_leader(self) -> bool:
        """Whether the leader had to go because of how it answered."""
        found = self._sheet.disqualified_leader()
        if found is not None:
            self._withdraw(*found)
        return found is not None

    def _withdraw(self, candidate: int, flag: Flag) -> None:
        self._sheet.out[candidate] = flag
        self._contest.withdraw(candidate)
        self._waiting = []  # the contest begins anew without it and proposes the others' cells again
        name = self._contenders[candidate].candidate.name
        reason = flag.detail.get("reason", flag.kind)
        self._watcher.notice(text("compare.withdrawn", candidate=name, reason=reason))

    def _insist_on_scores(self, *, after_examples: int = 0) -> None:
        """Stop paying for answers that nothing can score: a judge without a key, a task without references."""
        if any(tally.judged for tally in self._sheet.tallies):
            return
        answered = [sample for sample in self._sheet.samples if not sample.error]
        if len({sample.example for sample in answered}) < after_examples:
            return
        problem, run = (answered or self._sheet.samples)[-1].score.explanation, self._run.id
        if answered:
            raise ScorerError("compare.nothing_scored", problem=problem, run=run)
        raise ProviderError("compare.nobody_answers", problem=problem, run=run) from self._reason

    # time

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _seconds_left(self) -> float | None:
        minutes = self._options.max_minutes
        return None if minutes is None else max(0.0, 60 * minutes - self._elapsed())


async def _judgement(scorer: Scorer, example: Example, completion: Completion) -> Score:
    """A scorer that fails leaves the sample unscored; it never aborts a run of hours and never counts as 0."""
    try:
        score = await scorer.score(example, completion)
    except (ScorerError, ProviderError) as error:
        return Score.unscored(str(error), error.hint)
    except BaimoError:
        raise
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
        return Score.unscored(text("compare.scorer_broke", scorer=scorer.spec.name, problem=problem))
    given = (score.lenient, score.strict)
    if all(share is None or 0.0 <= share <= 1.0 for share in given):
        return score
    return Score.unscored(text("compare.score_range", scorer=scorer.spec.name, score=given))


def resolved(options: CompareOptions, *, epsilon: float, delta: float, assurance: str) -> CompareOptions:
    """The options with the settings' defaults filled in."""
    return replace(
        options,
        epsilon=epsilon if options.epsilon is None else options.epsilon,
        delta=delta if options.delta is None else options.delta,
        assurance=options.assurance or assurance,
    )
