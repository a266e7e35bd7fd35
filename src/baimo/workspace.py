"""The workspace: wires settings, store, catalogue, providers and rooms together; one thin method per verb.

The only bridge between synchronous callers and the asynchronous inside.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import msgspec

import baimo
from baimo.config import settings
from baimo.core.call import Completion, Request
from baimo.core.ids import canonical, plain, sortable_id
from baimo.core.model import Model
from baimo.core.money import MICROS
from baimo.core.run import Run, Sample
from baimo.core.task import Task
from baimo.core.verdict import Forecast, Progress, Verdict
from baimo.errors import BaimoError, TaskError, UsageError
from baimo.evals.answers import JUDGE, Answers, Limits, route_to
from baimo.evals.compare import Comparison, Contender, Watcher, resolved
from baimo.evals.lineup import described, is_unpriced, judgeable, lineup, lineup_of, subset
from baimo.evals.options import CompareOptions
from baimo.evals.report.report import Report
from baimo.evals.setting_up import contest, expected_micros, forecast_of
from baimo.models.catalogue import Catalogue
from baimo.models.probe import Findings, probe
from baimo.models.pull import Pulled, located, models_folder, pull
from baimo.providers.pace import SystemClock
from baimo.providers.pool import Providers
from baimo.settings import Settings
from baimo.store.engine import Database
from baimo.store.store import Store
from baimo.text import text

_Result = TypeVar("_Result")


class Silent:
    """A watcher that looks away."""

    def forecast(self, forecast: Forecast) -> None: ...

    def progress(self, progress: Progress) -> None: ...

    def notice(self, message: str) -> None: ...


class Workspace:
    """Everything that belongs to one company's work: settings, memory, models. Use it as a context manager."""

    def __init__(
        self,
        folder: str | Path = ".",
        *,
        flags: Mapping[str, Any] | None = None,
        given: Settings | None = None,
    ) -> None:
        """Open the workspace of `folder`.

        Args:
            folder: where baimo.toml is looked for and relative paths start.
            flags: dotted setting → value, stronger than file and environment.
            given: settings to use instead of reading any.

        Raises:
            ConfigError: the settings cannot be used.
        """
        self.folder = Path(folder)
        self.settings = given or settings(self.folder, flags=flags)
        self.path = self.folder / self.settings.workspace.path

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if "store" in self.__dict__:
            self.store.close()

    @cached_property
    def store(self) -> Store:
        """The workspace's memory; opened when first needed.

        Raises:
            StoreError: it cannot be opened.
        """
        return Store(Database(self.settings.workspace.database or str(self.path / "baimo.db")))

    @cached_property
    def catalogue(self) -> Catalogue:
        """Vendors and models under these settings."""
        return Catalogue.load(self.settings)

    # compare

    def compare(
        self,
        options: CompareOptions,
        watcher: Watcher | None = None,
        on_start: Callable[[Callable[[], object]], None] | None = None,
    ) -> Verdict:
        """Find out which candidate does a task best; blocks until there is a verdict.

        Args:
            options: what to compare and how surely.
            watcher: told about forecast and progress.
            on_start: given a function that stops the comparison early; it may be called from a signal handler.

        Raises:
            TaskError, TemplateError: the task cannot be used.
            UnknownModel, ConfigError: a candidate's model or provider cannot be used.
            ProviderError: no candidate could answer.
            StoreError: the workspace cannot be written.
        """
        return _bridged(self._compare(options, watcher or Silent(), on_start))

    def forecast(self, options: CompareOptions, watcher: Watcher | None = None) -> Forecast:
        """What `compare` would take, without a call."""

        async def planned() -> Forecast:
            async with self._providers() as providers:
                run, task, settled = self._begun(options, watcher or Silent())
                contenders = self._contenders(run, task, settled, providers, watcher or Silent())
                return forecast_of(settled, task, contenders, self._answers(run, settled))

        return _bridged(planned())

    async def _compare(
        self,
        options: CompareOptions,
        watcher: Watcher,
        on_start: Callable[[Callable[[], object]], None] | None,
    ) -> Verdict:
        from baimo.evals.scorers.registry import scorer

        async with self._providers() as providers:
            run, task, options = self._begun(options, watcher)
            contenders = self._contenders(run, task, options, providers, watcher)
            answers = self._answers(run, options)

            async def ask(request: Request) -> Completion:
                model = self.catalogue.model(request.model)
                route = route_to(model, providers.provider(model.vendor))
                answer = await answers.get(route, replace(request, model=model.upstream), surface=JUDGE)
                return answer.completion

            scorers = [scorer(spec, folder=Path(task.folder), ask=ask) for spec in task.scorers]
            forecast = forecast_of(options, task, contenders, answers)
            watcher.forecast(forecast)
            run = replace(run, candidates=tuple(described(contender) for contender in contenders))
            if options.resume is None:
                self.store.begin(run)
            else:
                self.store.forget_samples(
                    run.id
                )  # the path is walked again; a call that failed may be answered now
            comparison = Comparison(
                run=run,
                options=options,
                task=task,
                contenders=contenders,
                scorers=scorers,
                answers=answers,
                store=self.store,
                contest=contest(options, task, expected_micros(contenders, task, answers)),
                watcher=watcher,
                forecast=forecast,
            )
            if on_start is not None:
                # from a signal handler: the loop must be woken to see it
                on_start(partial(asyncio.get_running_loop().call_soon_threadsafe, comparison.stop))
            try:
                verdict = await comparison.verdict()
            except BaseException:
                self.store.finish(replace(run, status="failed", ended_ms=_now_ms()), None)
                raise
            status = "done" if verdict.stopped in ("certain", "exhausted") else "stopped"
            self.store.finish(replace(run, status=status, ended_ms=_now_ms()), verdict)
            return verdict

    def _begun(self, options: CompareOptions, watcher: Watcher) -> tuple[Run, Task, CompareOptions]:
        """The run to make or to go on with, its task and its options."""
        if options.resume is not None:
            return self._begun_before(options, watcher)
        from baimo.evals.tasks.folder import load_task

        options = resolved(
            options,
            epsilon=self.settings.compare.epsilon,
            delta=self.settings.compare.delta,
            assurance=self.settings.compare.assurance,
        )
        if options.max_cost is None:
            options = replace(options, max_cost=self.settings.compare.max_cost)
        task = judgeable(subset(load_task(options.task), options))
        started_ms = _now_ms()
        run = Run(
            id=sortable_id("run", started_ms, os.urandom(7)),
            task=task.name,
            task_hash=task.hash,
            task_blob=self.store.put_blob(canonical(task), "task"),
            options=plain(options),
            candidates=(),
            config_hash=self.settings.snapshot().hash,
            seed=options.seed,
            started_ms=started_ms,
            version=baimo.__version__,
        )
        return run, task, options

    def _begun_before(self, options: CompareOptions, watcher: Watcher) -> tuple[Run, Task, CompareOptions]:
        """A run to go on with. What is asked stays as it was; limits may be changed, else it could never go on."""
        from baimo.evals.tasks.folder import load_task

        run = self.run(options.resume or "")
        task = self.task_of(run)
        before = msgspec.convert(dict(run.options), CompareOptions)
        given = {name: getattr(options, name) for name in ("max_cost", "max_calls", "max_minutes")}
        changes = {name: value for name, value in given.items() if value is not None}
        options = replace(before, resume=run.id, **changes)
        try:
            now = subset(load_task(before.task), before).hash
        except BaimoError:  # moved, deleted or broken: the run does not need it
            now = task.hash
        if now != task.hash:
            watcher.notice(text("compare.task_changed", folder=before.task))
        return replace(run, status="running", ended_ms=None), task, options

    def _contenders(
        self, run: Run, task: Task, options: CompareOptions, providers: Providers, watcher: Watcher
    ) -> list[Contender]:
        from baimo.evals.tasks.prompts import Renderer

        contenders: list[Contender] = []
        notice = watcher.notice
        for candidate in lineup_of(run) or lineup(task, options, self.catalogue, notice):
            model = self.catalogue.model(candidate.model)
            vendor = self.catalogue.vendor(model.vendor)
            if task.data_class == "confidential" and not vendor.inside:
                raise UsageError("compare.confidential", task=task.name, model=model.name)
            if model.weights and located(model, self._models) is None:
                notice(text("compare.pulling", model=model.name, source=model.weights))
                pull(model, self._models)
            contender = Contender(
                candidate=candidate,
                route=route_to(model, providers.provider(model.vendor)),
                renderer=Renderer(candidate.prompt, task.train, seed=options.seed),
                tags_example=vendor.protocol == "replay",
            )
            contender.request(task.examples[0])  # a template that does not render is told before any call
            contenders.append(contender)
        unpriced = sorted({each.route.model.name for each in contenders if is_unpriced(each.route.model)})
        if options.max_cost is not None and unpriced:
            raise UsageError("compare.unpriced_budget", models=", ".join(unpriced))
        return contenders

    def _answers(self, run: Run, options: CompareOptions) -> Answers:
        return Answers(
            self.store,
            SystemClock(),
            run=run.id,
            config_hash=run.config_hash,
            currency=self.settings.money.currency,
            rates=self.settings.money.rates,
            limits=Limits(
                options.max_calls, None if options.max_cost is None else round(options.max_cost * MICROS)
            ),
        )

    # what was decided before

    def run(self, id: str) -> Run:
        """A run by its id, or the newest one for `last`.

        Raises:
            UsageError: there is none.
        """
        found = next(iter(self.store.runs(limit=1)), None) if id == "last" else self.store.run(id)
        if found is None:
            raise UsageError("compare.no_run", id=id, where=self.store.database.where)
        return found

    def task_of(self, run: Run) -> Task:
        """The task as it was when the run was made.

        Raises:
            TaskError: the workspace does not hold it.
        """
        data = self.store.blob(run.task_blob)
        if data is None:
            raise TaskError("compare.no_task", run=run.id)
        return msgspec.json.decode(data, type=Task)

    def report(self, id: str) -> Report:
        """Everything that a report of this run shows.

        Raises:
            UsageError: there is no such run, or it has no verdict yet.
        """
        run = self.run(id)
        verdict = self.store.verdict(run.id)
        if verdict is None:
            raise UsageError("compare.no_verdict", run=run.id, status=run.status)
        samples = self.store.samples(run.id)
        return Report(
            run=run, verdict=verdict, task=self.task_of(run), samples=samples, replies=self._replies(samples)
        )

    def _replies(self, samples: list[Sample]) -> dict[str, str]:
        """The answers' texts by request hash."""
        stored = self.store.answers({sample.request_hash for sample in samples if sample.request_hash})
        return {hash: answer.completion.text for hash, answer in stored.items()}

    # models

    def pull(self, name: str, progress: Callable[[int, int | None], None] | None = None) -> Pulled:
        """Fetch a model's weights: a model of the catalogue, or a source such as `hf:org/repo`.

        Raises:
            PullError, UnknownModel.
        """
        source = name if ":" in name else self.catalogue.model(name)
        return pull(source, self._models, progress=progress)

    def probe(self, name: str, checks: tuple[str, ...] = ()) -> Findings:
        """One tiny real call, and one per ability to check."""

        async def probed() -> Findings:
            model = self.catalogue.model(name)
            async with self._providers() as providers:
                return await probe(providers.provider(model.vendor), model, checks=checks)

        return _bridged(probed())

    def _providers(self) -> Providers:
        return Providers(self.catalogue.vendor, self.settings.providers, self._weights)

    @cached_property
    def _models(self) -> Path:
        return models_folder(self.settings)

    def _weights(self, upstream: str) -> Path:
        """The weights of a model that runs in this process, fetched if they are not here yet."""
        model: Model = self.catalogue.model(f"local/{upstream}")
        return located(model, self._models) or pull(model, self._models).path


def _bridged(work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of `work`, whether or not an event loop runs in this thread (as in a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    outcome: list[_Result | BaseException] = []

    def apart() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=apart, name="baimo-bridge")
    thread.start()
    thread.join()
    result = outcome[0]
    if isinstance(result, BaseException):
        raise result
    return result


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
