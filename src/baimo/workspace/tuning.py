"""How `tune` is wired: rows, plan and forecast, a place in the queue, a model in the end.

Prevents two failures: a job that is found not to fit after an hour (its own first steps are run before anybody says
yes), and a folder that nobody knows of (what was only forecast is removed again).
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from baimo import errors
from baimo.core.ids import digest, plain
from baimo.core.record import Record
from baimo.core.registry import Spec
from baimo.core.tenant import DataClass
from baimo.core.tuning import JobStatus, TuneForecast, TuneJob, TuneSpec
from baimo.errors import BaimoError, ConfigError, NotFound, StoreError, UsageError
from baimo.gateway.keyring import Keyring
from baimo.models.catalogue import TUNED
from baimo.store.jobs import JobEvent, Jobs
from baimo.text import text
from baimo.tuning import forecast as forecasting
from baimo.tuning.bench import RECIPES
from baimo.tuning.folder import JobFolder
from baimo.tuning.launch import Child, Launch, last_lines
from baimo.tuning.options import TuneOptions
from baimo.typed import converted
from baimo.workspace.care import ASK_FIRST, Adopt
from baimo.workspace.permit import Permit, permit
from baimo.workspace.queue import Queue, settled, unadopted
from baimo.workspace.training import Training, data_errors, training
from baimo.workspace.tuned import ASKING

if TYPE_CHECKING:
    from baimo.workspace.workspace import Workspace

VALID = "valid.jsonl"
LOOK_S = 0.1
_VERSION = re.compile(r'^VERSION = "(.+)"', re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What a job will do and take, before it starts."""

    job: str
    """TuneSpec.id."""
    recipe: str
    """Its name."""
    base: str
    """Model to start from."""
    rows: int
    """Rows to learn from."""
    valid: int
    """Rows that are only measured."""
    settings: Mapping[str, Any]
    """Every value that the recipe uses."""
    overridden: tuple[str, ...]
    """Names among them that were asked for; the others follow from the dial."""
    facts: Mapping[str, Any]
    """Sizes of data, base and machine."""
    forecast: TuneForecast | None
    """None = the recipe has no steps to go by."""


class Watcher(Protocol):
    """Is told how a job goes on."""

    def notice(self, message: str) -> None:
        """Something that a person should know."""
        ...

    def planned(self, planned: Planned) -> bool:
        """What it will take; whether to go on."""
        ...

    def happened(self, job: TuneJob, events: list[JobEvent]) -> None:
        """What has happened to the job since."""
        ...


class Tuning:
    """Tuning jobs of one workspace.

    Args:
        workspace: whose.
        adopt: makes models of results; None = as the workspace does.
    """

    def __init__(self, workspace: Workspace, *, adopt: Adopt | None = None) -> None:
        self.workspace = workspace
        self.settings = workspace.settings
        self._adopt = adopt

    @cached_property
    def queue(self) -> Queue:
        """The queue, as this process takes part in it."""
        workspace = self.workspace
        return Queue(
            jobs=Jobs(workspace.store.database),
            folder=(workspace.path / "tuning").absolute(),
            at_once=self.settings.tune.jobs,
            launch=self.launch,
            adopt=self._adopt or adopting(workspace),
            record=self._record,
            forecast=self._foretold,
            check=self._check,
        )

    def tune(self, options: TuneOptions, watcher: Watcher, halted: Callable[[], bool]) -> TuneJob | None:
        """Order a job and look after it until it has ended or is paused.

        Args:
            options: what is asked.
            watcher: told of the plan, and of what happens.
            halted: whether it is to pause now.

        Returns:
            The job; None when the watcher said no to its plan.
        """
        job, found = self._ordered(options, watcher)
        try:
            planned = self._planned(job, found, watcher)
            if not watcher.planned(planned) or options.forecast:
                shutil.rmtree(self.queue.at(job.spec.id).path)
                return None
        except BaseException:
            shutil.rmtree(self.queue.at(job.spec.id).path, ignore_errors=True)
            raise
        asked = {**job.asked, "settings": dict(planned.settings)}
        self.queue.submit(job.spec, (), asked=asked, forecast=planned.forecast, written=True)
        return self.settled(job.spec.id, watcher, halted)

    def settled(self, id: str, watcher: Watcher, halted: Callable[[], bool]) -> TuneJob:
        """Look after a job, or watch who does, until it has ended or is paused."""
        job = self.job(id)
        self.queue.only = {id}
        try:
            return settled(self.queue, job.spec.tenant, id, watcher.happened, halted)
        finally:
            self.queue.close()
            self.queue.only = None

    def resumed(self, id: str, watcher: Watcher, halted: Callable[[], bool]) -> TuneJob:
        """Go on with a paused job, or look after one that nobody looks after.

        Raises:
            NotFound: there is none such.
            Conflict: it has ended.
        """
        job = self.job(id)
        if job.status not in (JobStatus.QUEUED, JobStatus.RUNNING):
            self.queue.resume(job.spec.tenant, id)
        return self.settled(id, watcher, halted)

    def job(self, id: str) -> TuneJob:
        """A job by its id, or the newest one for `last`, whoever's it is.

        Raises:
            NotFound: there is none such.
        """
        jobs = self.queue.jobs
        found = next(iter(jobs.page(None, limit=1)), None) if id == "last" else jobs.find(id)
        if found is None:
            raise NotFound("tune.no_jobs" if id == "last" else "tune.no_job", job=id)
        return found

    # what is asked

    def _ordered(self, options: TuneOptions, watcher: Watcher) -> tuple[TuneJob, Training]:
        """The job with its folder, not yet in the queue."""
        if options.recipe not in RECIPES:
            raise UsageError("tune.unknown_recipe", name=options.recipe, known=", ".join(RECIPES))
        found = training(
            Path(options.source),
            options.recipe,
            valid=options.valid,
            task=options.task,
            prompt=options.prompt,
        )
        base = self.base(options.model)
        if base is None and options.recipe != "prompt":
            raise UsageError("tune.not_loaded", model=options.model, recipe=options.recipe)
        spec = TuneSpec(
            id=self.queue.jobs.new_id(),
            recipe=Spec(name=options.recipe, args=options.settings(), version=recipe_version(options.recipe)),
            base=str(base) if base and Path(options.model).is_dir() else options.model,
            base_hash=base_hash(base) if base else "",
            valid=VALID if found.valid else "",
            data_hash=digest([row.hash for row in found.train]),
            cleaned=found.cleaned,
            task=str(Path(found.task.folder).absolute()) if found.task and found.task.folder else "",
            prompt=options.prompt or "",
            effort=options.effort,
            seed=options.seed,
            suffix=options.suffix or "",
        )
        self.queue.at(spec.id).write(spec, found.train, found.valid)
        watcher.notice(text("tune.reading", rows=len(found.train), source=options.source))
        for problem in data_errors(found.train, options.recipe):
            watcher.notice(problem)
        job = TuneJob(
            spec=spec,
            status=JobStatus.QUEUED,
            created_ms=self.queue.jobs.now_ms(),
            asked={"options": plain(options)},
        )
        return job, found

    def base(self, name: str) -> Path | None:
        """Where a base's weights lie, fetched if they are not here yet; None = it is asked, not loaded.

        Raises:
            UnknownModel: there is none of this name.
            UsageError: it runs elsewhere or cannot be tuned.
        """
        if Path(name).is_dir():
            return Path(name).resolve()
        if name.startswith(TUNED):
            return self.workspace.adapting.whole(name)
        model = self.workspace.catalogue.model(name)
        if self.workspace.catalogue.vendor(model.vendor).protocol != "local":
            return None
        return self.workspace.pulled(model)

    # the first steps

    def _planned(self, job: TuneJob, found: Training, watcher: Watcher) -> Planned:
        """What the job's own first steps say; it goes on from there.

        Raises:
            BaimoError: it cannot be run, or does not fit.
        """
        folder = self.queue.at(job.spec.id)
        child = self._calibrated(job, folder, watcher)
        events = [event for _, event in folder.events()]
        plan: Mapping[str, Any] = next((event for event in events if event["kind"] == "plan"), events[0])
        ending = events[-1]
        if ending["kind"] == "failed":
            kind = getattr(errors, str(ending.get("type")), ConfigError)
            raise kind("tune.child_said", problem=ending.get("message"))
        if ending["kind"] not in ("paused", "done"):
            if child.code == -signal.SIGKILL:
                raise ConfigError("tune.killed", log=folder.path / "log")
            raise BaimoError("tune.calibration_died", lines=last_lines(folder))
        seen = forecasting.calibration(events)
        said = None
        if seen is not None:
            said = self._forecast(job, seen, len(found.valid) / len(found.train))
            self._must_fit(said, plan)
        return Planned(
            job=job.spec.id,
            recipe=job.spec.recipe.name,
            base=job.spec.base,
            rows=len(found.train),
            valid=len(found.valid),
            settings=plan.get("settings", {}),
            overridden=tuple(job.spec.recipe.args),
            facts=plan.get("facts", {}),
            forecast=said,
        )

    def _calibrated(self, job: TuneJob, folder: JobFolder, watcher: Watcher) -> Child:
        """A child that has taken the first steps, and stopped."""
        launch = self.launch(job)
        place = self._placed(watcher)
        try:
            folder.tell("started", attempt=1, calibrating=True)
            calibrating = replace(launch, bench={**launch.bench, "calibrating": True})
            child = calibrating.started(folder, slot=place.fileno())
            watcher.notice(text("tune.calibrating"))
            try:
                while child.alive:
                    time.sleep(LOOK_S)
            except BaseException:
                child.signalled(signal.SIGKILL)
                while child.alive:
                    time.sleep(LOOK_S)
                raise
        finally:
            place.close()
        return child

    def _placed(self, watcher: Watcher) -> IO[str]:
        place = self.queue.place()
        if place is None:
            watcher.notice(text("tune.waiting"))
        while place is None:
            time.sleep(LOOK_S)
            place = self.queue.place()
        return place

    def _forecast(self, job: TuneJob, seen: forecasting.Calibration, valid_share: float) -> TuneForecast:
        settings = self.settings
        alike = [
            one
            for one in self.queue.jobs.page(None, limit=200)
            if (one.spec.base, one.spec.recipe.name) == (job.spec.base, job.spec.recipe.name)
        ]
        return forecasting.forecast(
            seen, alike, settings.tune, currency=settings.money.currency, valid_share=valid_share
        )

    def _foretold(self, job: TuneJob, events: Iterable[Mapping[str, Any]]) -> TuneForecast | None:
        """What the first steps say of a job that goes on meanwhile: one of a client of the endpoint.

        Raises:
            ConfigError: it does not fit.
        """
        told = list(events)
        seen = forecasting.calibration(told)
        if seen is None:
            return None
        plan: Mapping[str, Any] = next((event for event in told if event["kind"] == "plan"), told[0])
        folder, rows = self.queue.at(job.spec.id), int(plan.get("facts", {}).get("rows") or 0)
        share = len(folder.valid()) / rows if rows else 0.0
        if not job.asked.get(ASK_FIRST):
            seen = seen._replace(startup_s=0.0)  # it is not started a second time
        said = self._forecast(job, seen, share)
        self._must_fit(said, plan)
        return said

    def _must_fit(self, said: TuneForecast, plan: Mapping[str, Any]) -> None:
        most = self._memory_mb() or float(plan.get("facts", {}).get("memory_mb") or 0.0)
        if most and said.memory_mb.middle > most:
            key = "tune.memory_limit" if self._memory_mb() else "tune.memory_free"
            raise ConfigError(key, needs=round(said.memory_mb.middle), most=round(most))

    # how children are started

    def launch(self, job: TuneJob) -> Launch:
        """How the child of a job is started.

        Raises:
            BaimoError: its base is not to be had.
        """
        workspace, tune = self.workspace, self.settings.tune
        base = self.base(job.spec.base)
        method: Mapping[str, Any] = job.asked.get("method") or {}
        # a client of the endpoint says nothing about where its job runs
        options: Mapping[str, Any] = {} if job.key else job.asked.get("options") or {}
        reinforcement: Mapping[str, Any] = method.get("reinforcement") or {}
        flags = {"workspace.path": str(workspace.path.absolute()), "workspace.models": str(workspace.models)}
        asks = job.spec.recipe.name in ASKING
        return Launch(
            directory=workspace.folder.absolute(),
            threads=tune.threads,
            secrets=self._secrets() if asks else (),
            bench={
                "base": str(base) if base else "",
                "device": tune.device,
                "threads": tune.threads,
                "memory_mb": self._memory_mb(),
                "checkpoint_minutes": tune.checkpoint_minutes,
                "grader": reinforcement.get("grader"),
                "workspace": str(workspace.folder.absolute()),
                "flags": flags,
                **({"permit": plain(self._permit(job))} if asks else {}),
                "processes": options.get("gpus") or 1,
                "on": options.get("on") or "",
                "calibrating": bool(job.asked.get(ASK_FIRST)) and job.forecast is None,
            },
        )

    def _permit(self, job: TuneJob) -> Permit:
        """
        Raises:
            Unauthenticated: the key that ordered the job is gone, revoked, or has expired.
            Forbidden: its tenant is disabled.
            TaskError: its task is gone.
        """
        from baimo.evals.tasks.folder import load_task

        policy = self.settings.policy
        brought: list[DataClass] = [load_task(job.spec.task).data_class] if job.spec.task else []
        if not job.key:
            return permit(policy, None, None, *brought)
        self._keyring.refresh()
        return permit(policy, *self._keyring.standing(job.key), *brought, job.data_class)

    @cached_property
    def _keyring(self) -> Keyring:
        return Keyring(self.workspace.accounts, wall=time.time)

    def _check(self, job: TuneJob) -> None:
        """
        Raises:
            Unauthenticated, Forbidden: it asks models in the name of a key that may not ask any more.
        """
        if job.key and job.spec.recipe.name in ASKING:
            with suppress(StoreError):  # what cannot be read stays as it was, as in the gateway
                self._keyring.refresh()
            self._keyring.standing(job.key)

    def _secrets(self) -> list[str]:
        """Variables with the keys of providers, for recipes that ask models."""
        settings, catalogue = self.settings, self.workspace.catalogue
        given = [one for each in settings.providers.values() for one in (each.key, *each.headers.values())]
        named = [one.removeprefix("env:") for one in given if one.startswith("env:")]
        return [*named, *(one.key_variable for one in catalogue.vendors() if one.key_variable)]

    def _memory_mb(self) -> float:
        return self.settings.tune.memory_gib * 1024

    def _record(self, job: TuneJob, facts: Mapping[str, Any]) -> None:
        """Enter a call of a child into the ledger; one that is there already was entered before a kill."""
        record = converted(facts["record"], Record)
        store = self.workspace.store
        if all(known.id != record.id for known in store.records(run=job.spec.id, since_ms=record.at_ms)):
            self._keyring.refresh()
            key = self._keyring.known(job.key)
            store.settle(replace(record, key=job.key, tags={} if key is None else dict(key.tags)))


def adopting(workspace: Workspace) -> Adopt:
    """What makes a model of a result here."""
    if importlib.util.find_spec("baimo.workspace.adapting") is None:
        return unadopted
    from baimo.workspace import adapting  # pyright: ignore

    return adapting.adopting(workspace)  # pyright: ignore


def recipe_version(name: str) -> str:
    """Version of a recipe's code, read without importing the libraries that it stands on."""
    found = importlib.util.find_spec(RECIPES[name])
    if found is None or found.origin is None:
        return ""
    said = _VERSION.search(Path(found.origin).read_text(encoding="utf-8"))
    return said[1] if said else ""


def base_hash(base: Path) -> str:
    """SHA-256 of a base's weights: of the GGUF file, or of its safetensors files one after the other."""
    made = hashlib.sha256()
    for path in [base] if base.is_file() else sorted(base.glob("*.safetensors")):
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                made.update(piece)
    return made.hexdigest()
