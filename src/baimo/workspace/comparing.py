"""How `compare` is wired: a run, its contenders and its answers out of a workspace and the options.

A run that was begun before goes on as it was begun; only limits may change, else it could never go on. While it runs,
its folder says how far it is and takes the wish to stop, whoever began it: `baimo.workspace.compare_folder`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import baimo
from baimo.core.call import Completion, Request
from baimo.core.ids import canonical, plain, sortable_id
from baimo.core.model import Model
from baimo.core.moments import wall_ms
from baimo.core.money import MICROS
from baimo.core.run import Run, Sample
from baimo.core.task import Candidate, Task
from baimo.core.verdict import Forecast, Progress, Verdict
from baimo.errors import BaimoError, Conflict, NotFound, UsageError
from baimo.evals.answers import JUDGE, Answers, Limits, route_to
from baimo.evals.compare import Comparison, Contender, Watcher, resolved
from baimo.evals.lineup import described, is_unpriced, judgeable, lineup, lineup_of, subset
from baimo.evals.options import LIMITS, CompareOptions
from baimo.evals.report.report import Report
from baimo.evals.setting_up import contest, expected_micros, forecast_of
from baimo.models.pull import located, pull
from baimo.providers.pace import SystemClock
from baimo.providers.pool import Providers
from baimo.text import text
from baimo.typed import converted
from baimo.workspace.compare_folder import Told, obeyed, order, run_folder
from baimo.workspace.known_tasks import KnownTasks
from baimo.workspace.payers import Rights, rights

if TYPE_CHECKING:
    from baimo.workspace.workspace import Workspace

_OF_THE_CALL = frozenset({*LIMITS, "resume", "forecast", "require"})
"""Options that are of a command and not of its run."""


class Silent:
    """A watcher that looks away."""

    def forecast(self, forecast: Forecast) -> None: ...

    def progress(self, progress: Progress) -> None: ...

    def notice(self, message: str) -> None: ...


class Ordered(NamedTuple):
    """A comparison that is asked for and has not begun."""

    run: Run
    forecast: Forecast | None
    """None = weights must be fetched first."""
    fetches: Sequence[str]
    """Models whose weights are not here yet."""


class Comparing:
    """Comparisons of one workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.settings = workspace.settings
        self.catalogue = workspace.catalogue

    async def forecast(self, options: CompareOptions, watcher: Watcher | None = None) -> Forecast:
        """See `Workspace.forecast`."""
        async with self.workspace.providers() as providers:
            run, task, settled = self._begun(options, watcher or Silent())
            allowed = rights(self.workspace, run, task.data_class)
            contenders = self._contenders(run, task, settled, providers, watcher or Silent(), allowed)
            return forecast_of(settled, task, contenders, self._answers(run, settled, allowed))

    async def ordered(
        self, options: CompareOptions, watcher: Watcher, *, tenant: str, key: str, name: str, enter: bool
    ) -> Ordered:
        """Look whether a comparison can be begun and what it would take; without a call.

        Args:
            options: what is asked.
            watcher: told what a person should know.
            tenant: who pays.
            key: public part of the key that asks.
            name: what it calls the task.
            enter: put the run into the queue, as it is then.

        Raises:
            BaimoError: it cannot be begun.
        """
        async with self.workspace.providers() as providers:
            run, task, options = self._begun(options, watcher)
            run = replace(run, status="queued", tenant=tenant, key=key, name=name)
            allowed, forecast = rights(self.workspace, run, task.data_class), None
            chosen = self._lineup(run, task, options, watcher)
            models = [self.catalogue.model(one.model) for one in chosen]
            for model in models:
                allowed.check(model)
            allowed.check_limit(options.max_cost)
            fetches = sorted({one.name for one in models if self._absent(one)})
            candidates = [plain(one) for one in chosen]
            if not fetches:
                contenders = self._contenders(run, task, options, providers, watcher, allowed)
                forecast = forecast_of(options, task, contenders, self._answers(run, options, allowed))
                candidates = [described(contender) for contender in contenders]
            run = replace(run, candidates=tuple(candidates))
        if enter:
            # the order first: whose a run without one is, nobody knows
            order(run_folder(self.workspace.path, run.id), {})
            run = self._enter(run, task)
        return Ordered(run, forecast, fetches)

    async def compare(
        self,
        options: CompareOptions,
        watcher: Watcher | None,
        on_start: Callable[[Callable[[], object]], None] | None,
    ) -> Verdict:
        """See `Workspace.compare`."""
        run, task, options = self._begun(options, watcher or Silent())
        folder = run_folder(self.workspace.path, run.id)
        allowed = rights(self.workspace, run, task.data_class)
        with ExitStack() as held:
            if not held.enter_context(folder.held()):
                raise Conflict("compare.under_way", run=run.id)
            told = Told(watcher or Silent(), folder)
            try:
                allowed.fill(options.max_cost)
                verdict = await self._compared(run, task, options, told, on_start, allowed)
            except BaseException as error:
                told.failed(error)
                raise
            finally:
                allowed.purse.empty()
                folder.wish("")
            told.ended(verdict)
            return verdict

    async def _compared(
        self,
        run: Run,
        task: Task,
        options: CompareOptions,
        watcher: Told,
        on_start: Callable[[Callable[[], object]], None] | None,
        allowed: Rights,
    ) -> Verdict:
        from baimo.evals.scorers.registry import scorer

        async with self.workspace.providers() as providers:
            contenders = self._contenders(run, task, options, providers, watcher, allowed)
            answers = self._answers(run, options, allowed)

            async def ask(request: Request) -> Completion:
                model = self.catalogue.model(request.model)
                self._check_class(task, model)
                allowed.check(model)
                route = route_to(model, providers.provider(model.vendor))
                answer = await answers.get(route, replace(request, model=model.upstream), surface=JUDGE)
                return answer.completion

            scorers = [scorer(spec, folder=Path(task.folder), ask=ask) for spec in task.scorers]
            forecast = forecast_of(options, task, contenders, answers)
            watcher.forecast(forecast)
            run = replace(run, candidates=tuple(described(contender) for contender in contenders))
            if options.resume is None:
                run = self._enter(run, task)
            else:
                # the path is walked again; a call that failed may be answered now
                self.workspace.store.forget_samples(run.id)
                self.workspace.store.finish(run, None)
            comparison = Comparison(
                run=run,
                options=options,
                task=task,
                contenders=contenders,
                scorers=scorers,
                answers=answers,
                store=self.workspace.store,
                contest=contest(options, task, expected_micros(contenders, task, answers)),
                watcher=watcher,
                forecast=forecast,
            )
            if on_start is not None:
                # from a signal handler: the loop must be woken to see it
                on_start(partial(asyncio.get_running_loop().call_soon_threadsafe, comparison.stop))
            obeying = asyncio.create_task(
                obeyed(watcher, comparison.stop, allowed.check_again, allowed.purse.beat)
            )
            try:
                verdict = await comparison.verdict()
            except BaseException as error:
                failed = replace(run, status="failed", ended_ms=wall_ms(), problem=str(error))
                self.workspace.store.finish(failed, None)
                raise
            finally:
                obeying.cancel()
            status = "done" if verdict.stopped in ("certain", "exhausted") else "stopped"
            self.workspace.store.finish(replace(run, status=status, ended_ms=wall_ms()), verdict)
            return verdict

    def _enter(self, run: Run, task: Task) -> Run:
        """Enter a new run with its task as it is now."""
        data = canonical(task)
        run = replace(run, task_blob=hashlib.sha256(data).hexdigest())
        self.workspace.store.begin(run, data)
        return run

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
        options = replace(options, task=self._place(options.task))
        task = judgeable(subset(load_task(options.task), options))
        started_ms = wall_ms()
        run = Run(
            id=sortable_id("run", started_ms, os.urandom(7)),
            task=task.name,
            task_hash=task.hash,
            options=plain(options),
            candidates=(),
            config_hash=self.settings.snapshot().hash,
            seed=options.seed,
            started_ms=started_ms,
            version=baimo.__version__,
        )
        return run, task, options

    def _place(self, task: str) -> str:
        """Where a task lies: a path, or else the name of one that the workspace knows."""
        if not Path(task).exists():
            with suppress(NotFound):
                return str(KnownTasks(self.workspace).folder(task))
        return task

    def _begun_before(self, options: CompareOptions, watcher: Watcher) -> tuple[Run, Task, CompareOptions]:
        """A run to go on with. What is asked stays as it was; limits may be changed, else it could never go on."""
        from baimo.evals.tasks.folder import load_task

        run = self.workspace.run(options.resume or "")
        task = self.workspace.task_of(run)
        before = converted(dict(run.options), CompareOptions)
        if changed := self._changed(options, before):
            raise UsageError("compare.resumes_as_asked", run=run.id, options=", ".join(changed))
        given = {name: getattr(options, name) for name in LIMITS}
        changes = {name: value for name, value in given.items() if value is not None}
        options = replace(before, resume=run.id, **changes)
        try:
            now = subset(load_task(before.task), before).hash
        except BaimoError:  # moved, deleted or broken: the run does not need it
            now = task.hash
        if now != task.hash:
            watcher.notice(text("compare.task_changed", folder=before.task))
        return replace(run, status="running", ended_ms=None, problem=""), task, options

    def _changed(self, given: CompareOptions, before: CompareOptions) -> list[str]:
        """What was given beside --resume and is not what the run was asked, as the command line calls it."""
        names = [
            field.name
            for field in fields(CompareOptions)
            if field.name not in {*_OF_THE_CALL, "task"}
            and getattr(given, field.name) not in (field.default, getattr(before, field.name))
        ]
        flags = [f"--{name.replace('_', '-')}" for name in names]
        same = not given.task or Path(self._place(given.task)).resolve() == Path(before.task).resolve()
        return flags if same else [given.task, *flags]

    def _lineup(
        self, run: Run, task: Task, options: CompareOptions, watcher: Watcher
    ) -> tuple[Candidate, ...]:
        return lineup_of(run) or lineup(task, options, self.catalogue, watcher.notice)

    def _check_class(self, task: Task, model: Model) -> None:
        """
        Raises:
            UsageError: confidential work for a model outside, whether it answers or judges.
        """
        if task.data_class == "confidential" and not self.catalogue.vendor(model.vendor).inside:
            raise UsageError("compare.confidential", task=task.name, model=model.name)

    def _absent(self, model: Model) -> bool:
        return bool(model.weights) and located(model, self.workspace.models) is None

    def _contenders(
        self,
        run: Run,
        task: Task,
        options: CompareOptions,
        providers: Providers,
        watcher: Watcher,
        allowed: Rights,
    ) -> list[Contender]:
        from baimo.evals.tasks.prompts import Renderer

        contenders: list[Contender] = []
        notice = watcher.notice
        for candidate in self._lineup(run, task, options, watcher):
            model = self.catalogue.model(candidate.model)
            self._check_class(task, model)
            allowed.check(model)
            vendor = self.catalogue.vendor(model.vendor)
            if self._absent(model):
                notice(text("compare.pulling", model=model.name, source=model.weights))
                pull(model, self.workspace.models)
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

    def _answers(self, run: Run, options: CompareOptions, allowed: Rights) -> Answers:
        return Answers(
            self.workspace.store,
            SystemClock(),
            run=run.id,
            config_hash=run.config_hash,
            currency=self.settings.money.currency,
            rates=self.settings.money.rates,
            limits=Limits(
                options.max_calls, None if options.max_cost is None else round(options.max_cost * MICROS)
            ),
            payer=allowed.payer,
        )

    def report(self, id: str) -> Report:
        """See `Workspace.report`."""
        run = self.workspace.run(id)
        verdict = self.workspace.store.verdict(run.id)
        if verdict is None:
            raise UsageError("compare.no_verdict", run=run.id, status=run.status)
        samples = self.workspace.store.samples(run.id)
        return Report(
            run=run,
            verdict=verdict,
            task=self.workspace.task_of(run),
            samples=samples,
            replies=self._replies(samples),
        )

    def _replies(self, samples: list[Sample]) -> dict[str, str]:
        """The answers' texts by request hash."""
        stored = self.workspace.store.answers(
            {sample.request_hash for sample in samples if sample.request_hash}
        )
        return {hash: answer.completion.text for hash, answer in stored.items()}
