"""What a recipe borrows from the workspace: calls to other models, and judgements of answers.

Prevents two failures: a call that nobody pays for (each leaves its Record in the job's folder, from where whoever looks
after the job enters it into the ledger), and work of a confidential task that is sent outside.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import time
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from baimo.core.call import Completion, Request, Usage
from baimo.core.ids import digest, plain, sortable_id
from baimo.core.message import Message
from baimo.core.record import Record
from baimo.core.run import Score, Scorer
from baimo.core.task import Example, Prompt, Task
from baimo.core.tuning import Row, TuneSpec
from baimo.errors import BaimoError, ScorerError, UsageError
from baimo.models.terms import terms_of
from baimo.providers.pool import Providers
from baimo.tuning.bench import Reward
from baimo.tuning.folder import JobFolder
from baimo.tuning.search.work import Work
from baimo.tuning.teaching import Teacher
from baimo.workspace.permit import Permit
from baimo.workspace.training import named_prompt
from baimo.workspace.workspace import Workspace

_Result = TypeVar("_Result")


class Lent:
    """Calls and judgements for one job; everything asynchronous happens in a thread of its own."""

    def __init__(
        self,
        workspace: Workspace,
        folder: JobFolder,
        spec: TuneSpec,
        permit: Permit,
        task: Task | None = None,
    ) -> None:
        self._workspace, self._folder, self._spec, self._task = workspace, folder, spec, task
        self._permit = permit
        self._loop = asyncio.new_event_loop()
        self._providers: Providers | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="baimo-lent", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Give back connections and models, for good."""
        self.rest()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def rest(self) -> None:
        """Give back connections and models until the next call: what learns then wants the memory."""
        if self._providers is not None:
            self._waited(self._providers.__aexit__(None, None, None))
            self._providers = None

    async def ask(self, request: Request) -> Completion:
        """One call; `Request.model` is the full `vendor/model`.

        Raises:
            ProviderError: the model could not answer; the attempt is recorded all the same.
            UsageError: the task is confidential and the model outside.
            UnknownModel: the tenant knows no such model.
            Forbidden: the key that ordered the job may not ask this model, or not with this data, or not for money.
        """
        return await self._elsewhere(self._asked(request))

    def rewards(self, grader: Mapping[str, Any] | None) -> dict[str, Reward]:
        """Scorers of the task by name, the deciding one also as `task`; a grader of OpenAI's kinds as `grader`.

        Raises:
            TaskError: a scorer cannot be built.
            CallRefused: the grader cannot be used.
        """
        found: dict[str, Reward] = {}
        if self._task is not None:
            from baimo.evals.scorers.registry import scorer

            for spec in self._task.scorers:
                made = scorer(spec, folder=Path(self._task.folder), ask=self._asked)
                found.setdefault("task", self._scored(made))
                found[spec.name] = self._scored(made)
        if grader:
            found["grader"] = self._graded(grader)
        return found

    def work(self) -> Work | None:
        """The task as a search for better prompts sees it; None = there is no task.

        Raises:
            UsageError: the task has no prompt of the name that was asked for.
        """
        task = self._task
        if task is None:
            return None
        named = self._spec.prompt
        from baimo.evals.scorers.registry import scorer
        from baimo.evals.tasks.prompts import Renderer

        judge = scorer(task.scorers[0], folder=Path(task.folder), ask=self._asked)

        async def judged(example: Example, completion: Completion) -> Score:
            return await self._elsewhere(judge.score(example, completion))

        @functools.lru_cache(maxsize=64)  # a search asks the same few prompts of many examples
        def renderer(prompt: Prompt) -> Renderer:
            return Renderer(prompt, task.train, seed=self._spec.seed)

        def render(prompt: Prompt, example: Example) -> tuple[Message, ...]:
            return renderer(prompt).messages(example)

        catalogue = self._workspace.catalogue

        def price(model: str, usage: Usage) -> int | None:
            known = catalogue.model(model).price
            return None if known is None else known.cost_micros(usage)

        known = catalogue.model(self._spec.base).price
        return Work(
            model=self._spec.base,
            prompt=named_prompt(task, named) if named else task.prompts[0],
            train=task.train,
            ask=self.ask,
            judge=judged,
            render=render,
            sampling=task.sampling,
            response_format=task.response_format,
            price=price,
            currency=known.currency if known else self._workspace.settings.money.currency,
        )

    def teacher(self, name: str) -> Teacher:
        """What is known of a model whose answers are to be learnt from.

        Raises:
            UnknownModel: there is none of that name.
        """
        catalogue, policy = self._workspace.catalogue, self._workspace.settings.policy
        model = catalogue.model(name)
        inside = catalogue.vendor(model.vendor).inside
        return Teacher(
            model=model,
            inside=inside,
            terms=terms_of(model, inside=inside),
            data_class=self._permit.data_class,
            outside=policy.outside,
        )

    def _scored(self, scorer: Scorer) -> Reward:
        def reward(row: Row, said: str) -> float:
            example = example_of(row)
            completion = Completion(text=said, model=self._spec.base)
            score = self._waited(scorer.score(example, completion))
            if score.lenient is None:
                raise ScorerError("tune.no_reward", scorer=scorer.spec.name, reason=score.explanation)
            return score.lenient

        return reward

    def _graded(self, grader: Mapping[str, Any]) -> Reward:
        from baimo.evals.graders.grading import Helpers, grade, sample_of
        from baimo.evals.graders.kinds import grader_of

        kind = grader_of(dict(grader))

        def reward(row: Row, said: str) -> float:
            sample = sample_of(said, model=self._spec.base)
            made = self._waited(grade(kind, row.item, sample, Helpers(ask=self._asked)))
            if (
                made.failed
            ):  # an answer that is no JSON where it must be is worth 0: that is what is to be learnt
                raise ScorerError("tune.no_reward", scorer=made.name, reason=made.problem)
            return made.score

        return reward

    async def _elsewhere(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def _waited(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _asked(self, request: Request) -> Completion:
        catalogue = self._workspace.catalogue
        model = catalogue.model(request.model)
        inside = catalogue.vendor(model.vendor).inside
        if self._task is not None and self._task.data_class == "confidential" and not inside:
            raise UsageError("compare.confidential", task=self._task.name, model=model.name)
        self._permit.check(model, inside=inside)
        self._permit.check_money(model)
        if self._providers is None:
            self._providers = self._workspace.providers()
        asked = replace(request, model=model.upstream)
        began = time.time_ns() // 1_000_000
        facts: dict[str, Any] = {"surface": "tune", "model": model.name, "run": self._spec.id}
        facts |= {"tenant": self._spec.tenant, "request_hash": digest(asked), "began_ms": began}
        try:
            answer = await self._providers.provider(model.vendor).complete(asked)
        except BaseException as error:  # cancellation counts: the call was made
            status = error.key if isinstance(error, BaimoError) else "cancelled"
            self._record(status=status, usage=Usage(), attempts=int(vars(error).get("attempts", 1)), **facts)
            raise
        cost = None if model.price is None else model.price.cost_micros(answer.usage)
        self._record(
            model_used=answer.model,
            usage=answer.usage,
            cost_micros=cost,
            currency=model.price.currency if model.price else self._workspace.settings.money.currency,
            latency_ms=answer.latency_ms,
            attempts=answer.attempts,
            **facts,
        )
        return answer

    def _record(self, **facts: Any) -> None:
        now_ms = time.time_ns() // 1_000_000
        record = Record(id=sortable_id("rec", now_ms, os.urandom(7)), at_ms=now_ms, **facts)
        self._folder.tell("record", id=record.id, record=plain(record))


def example_of(row: Row) -> Example:
    """The example that a row of a task was: what its scorers compare with."""
    item = dict(row.item)
    return Example(
        id=str(item.pop("id", row.line or "")),
        target=item.pop("target", None),
        fields=item,
        messages=row.messages,
        tools=row.tools,
        group=row.group,
    )
