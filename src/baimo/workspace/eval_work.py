"""One run of an evaluation from its data to its last judgement, as far as this process gets.

Prevents three failures: a run that begins anew because its server was restarted (what has a result is kept row by row,
the rest is asked), one that goes on after another process has taken it over, and one that keeps asking when the client
has cancelled or deleted it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from baimo.core.tenant import DataClass
from baimo.core.waiting import happened
from baimo.errors import BaimoError, CallRefused, ScorerError, StoreError
from baimo.evals.graders.grade import Grade
from baimo.evals.graders.grading import grade, with_json
from baimo.evals.graders.kinds import Grader, grader_of
from baimo.gateway.policy import strictest
from baimo.providers.openai_reply import fields
from baimo.store.evaluation_runs import EvalRun, EvalRuns, ItemStatus, ModelTokens, OutputItem, Source
from baimo.store.evaluations import Evaluation, Evaluations
from baimo.text import text
from baimo.workspace.eval_asking import CHAT, Asker, Halted, Line, Said
from baimo.workspace.eval_sampling import question, sample_of_chat, sample_of_response, sample_row
from baimo.workspace.eval_sources import Kept, sources

BEAT_S = 1.0
"""How often progress is kept, and looked whether the run is still ours and wanted."""
SILENCE_S = 20.0
"""Longest time for which nothing new is begun without having heard that it is still ours."""
AT_ONCE = 8
"""Rows of one run that are worked on at the same time."""
_UNKEPT = 64
"""Results that wait for the disk before no more rows are begun."""
log = logging.getLogger("baimo.serve")


class Tools(NamedTuple):
    """What working on runs needs."""

    evaluations: Evaluations
    runs: EvalRuns
    kept: Kept
    holder: str
    """`Books.holder` of this process."""
    line: Callable[[EvalRun, Callable[[], bool]], Awaitable[Line]]
    """The way to all models in the name of the run's key; raises BaimoError when it may not ask any more."""


class Tally:
    """What came of the rows so far."""

    def __init__(self) -> None:
        self.statuses: dict[ItemStatus, int] = {}
        self.criteria: dict[str, tuple[int, int]] = {}
        self.usage: dict[str, ModelTokens] = {}

    def add(self, item: OutputItem) -> None:
        """Count a row."""
        self.statuses[item.status] = self.statuses.get(item.status, 0) + 1
        for result in item.output.get("results", ()):
            if not result.get("error"):
                passed, failed = self.criteria.get(result["name"], (0, 0))
                good = bool(result["passed"])
                self.criteria[result["name"]] = (passed + good, failed + (not good))
        for row in item.output.get("calls", ()):
            before = self.usage.get(row["model"], ModelTokens(model=row["model"]))
            names = ("calls", "tokens_in", "tokens_out", "tokens_cached")
            sums = {name: getattr(before, name) + row.get(name, 0) for name in names}
            self.usage[row["model"]] = ModelTokens(model=row["model"], **sums)

    def figures(self) -> dict[str, Any]:
        """The fields of a run that hold it."""
        return {
            "passed": self.statuses.get("pass", 0),
            "failed": self.statuses.get("fail", 0),
            "errored": self.statuses.get("error", 0),
            "criteria": dict(self.criteria),
            "usage": tuple(self.usage[name] for name in sorted(self.usage)),
        }


class EvalWork:
    """One run while this process works on it."""

    def __init__(self, tools: Tools, run: EvalRun) -> None:
        self.run = run
        self._tools = tools
        self._halt = asyncio.Event()
        self._lost = False
        self._error: StoreError | None = None
        self._failure: BaimoError | None = None
        self._rows: set[asyncio.Task[None]] = set()
        self._tally = Tally()
        self._unkept: list[OutputItem] = []
        self._news = asyncio.Event()
        self._keeping = asyncio.Lock()
        self._asked: Mapping[str, Any] = {}
        self._graders: list[tuple[str, Grader]] = []
        self._line = Line(_nobody)

    def halted(self) -> bool:
        """Whether nothing is begun any more."""
        return self._halt.is_set()

    def leave(self) -> None:
        """Begin nothing any more; another process goes on, or this one after its restart."""
        self._halt.set()
        self._news.set()

    def interrupt(self) -> None:
        """Give up what is in flight; it is asked again later, and its Records say that it was broken off."""
        for row in self._rows:
            row.cancel()

    async def done(self) -> None:
        """Work until it has ended, or `leave` was called, or another process has it.

        Raises:
            StoreError: the database refuses; nothing is lost, and it can be tried again.
        """
        try:
            evaluation = await self._begun()
            if evaluation is not None:
                await self._work()
        except StoreError:
            raise
        except BaimoError as error:
            await self._end("failed", error)
        else:
            if self._error is not None:
                raise self._error
            if self._failure is not None:
                await self._end("failed", self._failure)
            elif evaluation is not None and (not self.halted() or self.run.status == "canceled"):
                await self._end("completed")
        finally:
            self.interrupt()
            await asyncio.gather(*self._rows, return_exceptions=True)

    async def _begun(self) -> Evaluation | None:
        """The evaluation, after all rows were entered; None = there is nothing to do."""
        run, tools = self.run, self._tools
        evaluation = await asyncio.to_thread(tools.evaluations.get, run.tenant, run.evaluation)
        self._asked = await asyncio.to_thread(tools.runs.asked, run.tenant, run.id)
        if evaluation is None or not self._asked:
            return None
        self._graders = [(str(row["name"]), grader_of(row)) for row in evaluation.criteria]
        if run.rows is None:
            await asyncio.to_thread(self._enter, evaluation)
        line = await tools.line(self.run, self.halted)
        self._line = line._replace(pause=self._pause, send=partial(self._sent, line))
        await asyncio.to_thread(self._recount)
        return None if self._lost or not self.run.active else evaluation

    def _recount(self) -> None:
        """What was done before, by this process or another."""
        for item in self._tools.runs.done(self.run):
            self._tally.add(item)

    def _enter(self, evaluation: Evaluation) -> None:
        """Enter all rows of data; half of them do not count."""
        run, tools = self.run, self._tools
        count = 0
        data: DataClass = run.data_class

        def counted() -> Any:
            nonlocal count, data
            for source in sources(run, evaluation, self._asked, tools.kept):
                count, data = count + 1, strictest(data, source.data_class)
                yield source

        tools.runs.enter(run, counted())
        now_ms = tools.runs.now_ms()
        self._changed(
            lambda one: replace(
                one,
                rows=count,
                data_class=data,
                started_ms=now_ms,
                status="in_progress" if one.status == "queued" else one.status,
            )
        )

    async def _work(self) -> None:
        helpers = [asyncio.create_task(self._keep()), asyncio.create_task(self._beat())]
        try:
            await self._walk()
            while self._rows:
                await asyncio.wait(self._rows)
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            with suppress(StoreError):
                await self._flush()
            if self._unkept and self._error is None:
                self._error = StoreError("evaluations.unkept", run=self.run.id)

    async def _walk(self) -> None:
        """Begin every row that nothing came of yet."""
        runs, after = self._tools.runs, -1
        room = asyncio.Semaphore(AT_ONCE)
        while not self.halted():
            some = await asyncio.to_thread(runs.waiting, self.run, after=after)
            if not some:
                return
            for source in some:
                await room.acquire()
                if self.halted():
                    return
                task = asyncio.create_task(self._row(source))
                self._rows.add(task)
                task.add_done_callback(self._rows.discard)
                task.add_done_callback(lambda _: room.release())
                after = source.position

    # one row

    async def _row(self, source: Source) -> None:
        asker = Asker(self._line)
        output: dict[str, Any]
        status: ItemStatus
        try:
            output, status = await self._judged(source, asker)
        except Halted:
            return
        except Exception as error:  # one row that surprises us is no reason to lose the others
            log.exception(text("evaluations.faulty_row", id=self.run.id, row=source.position))
            output, status = (
                {"results": [], "sample": self._broken("internal_error", type(error).__name__)},
                "error",
            )
        output |= {
            "created_ms": self._tools.runs.now_ms(),
            "calls": [_tokens_row(one) for one in asker.taken.values()],
        }
        item = OutputItem(
            run=self.run.id, position=source.position, status=status, row=source.row, output=output
        )
        self._tally.add(item)
        self._unkept.append(item)
        self._news.set()
        if len(self._unkept) > _UNKEPT:
            with suppress(StoreError):  # `_keep` meets it, too
                await self._flush()

    async def _judged(self, source: Source, asker: Asker) -> tuple[dict[str, Any], ItemStatus]:
        item = fields(source.row.get("item"))
        sample, shown, data = with_json(fields(source.row.get("sample"))), (), None
        if self.run.model:
            try:
                asked = question(self._asked, self.run.model, item)
                shown = asked.shown
                data = await asker.answer(asked.path, asked.body)
            except (CallRefused, ScorerError) as error:
                code = str(error.facts.get("code") or error.key.rpartition(".")[2])
                return {"results": [], "sample": self._broken(code, str(error), shown)}, "error"
            sample = sample_of_chat(data) if asked.path == CHAT else sample_of_response(data)
        grades = await asyncio.gather(*(grade(one, item, sample, asker.helpers) for _, one in self._graders))
        results = [_result(name, made) for (name, _), made in zip(self._graders, grades, strict=True)]
        status: ItemStatus = "pass" if all(made.passed for made in grades) else "fail"
        if any(made.failed for made in grades):
            status = "error"
        return {"results": results, "sample": sample_row(self._asked, shown, sample, data)}, status

    def _broken(self, code: str, message: str, shown: Sequence[Mapping[str, str]] = ()) -> dict[str, Any]:
        return sample_row(self._asked, shown, {}, None, {"code": code, "message": message})

    # keeping

    async def _keep(self) -> None:
        """Write results as soon as the disk is free for them."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self._flush()
            except StoreError as error:
                self._error = error
                self._halt.set()
                return

    async def _flush(self) -> None:
        async with self._keeping:
            done = self._unkept[:]
            if done:
                await asyncio.to_thread(self._tools.runs.finish, self.run, done)
                del self._unkept[: len(done)]

    async def _beat(self) -> None:
        """Keep progress; notice that it is cancelled, deleted, or another's."""
        clock = asyncio.get_running_loop()
        heard_at = clock.time()
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                figures = self._tally.figures()
                await asyncio.to_thread(self._changed, partial(_with, figures))
                heard_at = clock.time()
            except StoreError as error:
                if clock.time() - heard_at > SILENCE_S:
                    self._error = error
                    self._halt.set()
            if self._lost or not self.run.active:
                self._halt.set()
                self.interrupt()

    async def _end(self, status: str, error: BaimoError | None = None) -> None:
        figures = self._tally.figures()
        facts: dict[str, Any] = {"status": status, "ended_ms": self._tools.runs.now_ms()}
        if error is not None:
            code = str(error.facts.get("code") or error.key.rpartition(".")[2])
            facts |= {"error_code": code, "error": str(error)}

        def ended(one: EvalRun) -> EvalRun:
            # who has cancelled it meanwhile had the last word; what was done until then is shown
            return replace(one, **figures, **(facts if one.active else {}))

        await asyncio.to_thread(self._changed, ended)

    def _changed(self, changed: Callable[[EvalRun], EvalRun]) -> None:
        run, tools = self.run, self._tools
        after = tools.runs.change(run.tenant, run.id, changed, holder=tools.holder)
        if after is None:
            self._lost = True
        else:
            self.run = after

    async def _sent(self, line: Line, path: str, body: bytes) -> Said:
        try:
            return await line.send(path, body)
        except BaimoError as error:  # who ordered it may not ask any more: no row can be answered
            self._failure = error
            self._halt.set()
            raise Halted from error

    async def _pause(self, seconds: float) -> None:
        await happened(self._halt, seconds)
        if self.halted():
            raise Halted


def _with(figures: Mapping[str, Any], run: EvalRun) -> EvalRun:
    return replace(run, **figures)


async def _nobody(path: str, body: bytes) -> Any:
    raise AssertionError("a run asks through the line that it is given")


def _result(name: str, made: Grade) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": name,
        "type": f"{made.type.replace('_', '-')}-grader",
        "score": made.score,
        "passed": made.passed,
        "sample": dict(made.details) or None,
    }
    if made.parts:
        row["sub_rewards"] = {part: one.score for part, one in made.parts.items()}
    if made.failed:
        row["error"] = {"code": made.error.rpartition(".")[2], "message": made.problem}
    return row


def _tokens_row(tokens: ModelTokens) -> dict[str, Any]:
    names = ("model", "calls", "tokens_in", "tokens_out", "tokens_cached")
    return {name: getattr(tokens, name) for name in names}
