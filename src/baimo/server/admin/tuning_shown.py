"""Tuning jobs as the admin API shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baimo.core.moments import shown
from baimo.core.money import MICROS
from baimo.core.rights import OWNER_NAME
from baimo.core.tuning import Adapter, Range, TuneForecast, TuneJob
from baimo.tuning import forecast as forecasting
from baimo.workspace import tune_views as views
from baimo.workspace.releasing import unfit


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeShown:
    """A figure that is not certain."""

    middle: float
    """Most likely value."""
    low: float
    """Nine of ten such jobs need more."""
    high: float
    """Nine of ten such jobs need less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneForecastShown:
    """What a job will take, before it goes on after its first steps."""

    minutes: RangeShown
    """Wall time."""
    memory_mb: RangeShown
    """Peak memory, MiB; on a GPU that of the GPU."""
    tokens: int
    """Tokens seen in all epochs."""
    cost: RangeShown | None
    """In units of `currency`; null = no hourly rate is configured."""
    currency: str | None
    based_on: str
    """calibration (its first steps), jobs (past ones), or both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FactShown:
    """What a job took, and how far that is from its forecast as a share of it: 0.1 = a tenth more."""

    minutes: float | None
    minutes_off: float | None
    memory_mb: float | None
    memory_off: float | None
    cost: float | None
    """In units of the forecast's currency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneProgressShown:
    """The newest figures of a job."""

    step: int
    steps: int
    epoch: float
    loss: float
    accuracy: float | None
    """Share of the learnt tokens that greedy decoding would have got right."""
    valid_loss: float | None
    valid_accuracy: float | None
    reward: float | None
    tokens: int
    elapsed_s: float
    eta_s: float | None
    """Forecast of the time left."""
    memory_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneErrorShown:
    """Why a job failed."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobShown:
    """A tuning job."""

    job: str
    """ftjob-…"""
    tenant: str
    status: str
    """validating_files, queued, running, paused, succeeded, failed or cancelled, as OpenAI's API says it."""
    phase: str
    """The status, or more exactly: forecasting, asking (its forecast waits for a yes), adopting (being judged)."""
    place: int | None
    """In the queue: 1 = the next; null = it does not wait."""
    recipe: str
    effort: str
    base: str
    """Model that is adapted."""
    task: str | None
    """Name of the task; null = it learns from a file."""
    file: str | None
    """Id of the training file."""
    suffix: str
    seed: int
    key: str | None
    """Who ordered it; null = the command line."""
    created: str
    started: str | None
    ended: str | None
    progress: TuneProgressShown | None
    forecast: TuneForecastShown | None
    took: FactShown | None
    """null = it has not ended."""
    model: str | None
    """Tuned model that came of it."""
    error: TuneErrorShown | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PointShown:
    """Figures at a step."""

    step: int
    figures: dict[str, float]
    """loss, accuracy, valid_loss, valid_accuracy, reward, learning_rate: those that are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointShown:
    """A state from which the job goes on after a pause or a kill."""

    step: int
    at: str
    model: str | None
    """Under which it can be called; null = not made, or not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatenShown:
    """A comparison in which the tuned model took part."""

    run: str
    task: str
    rank: int
    """1 = best."""
    score: float | None
    low: float
    high: float
    other: str
    """The best of the other candidates."""
    other_score: float | None
    other_low: float
    other_high: float
    certain: bool
    """The two are told apart."""
    before: float | None
    """Score of its base in the same comparison; null = it took no part."""
    before_low: float | None
    before_high: float | None
    gained: bool | None
    """It and its base are told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedShown:
    """A tuned model."""

    model: str
    """ft:…"""
    adapter: str
    """ad_…"""
    tenant: str
    base: str
    kind: str
    """lora, full or prompt."""
    status: str
    """candidate (not judged), ready, blocked or retired."""
    step: int | None
    """Of the checkpoint that it is; null = the end of its job."""
    job: str | None
    created: str
    parity: dict[str, Any] | None
    """What the gate found: template, logits, text, prompts, identical, max_logit_difference, differs, how …"""
    can_promote: bool
    reason: str | None
    """Why not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryShown:
    """Something that happened to a job."""

    at: str
    kind: str
    message: str
    """For people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDetails(JobShown):
    """A tuning job with everything about it."""

    settings: dict[str, Any]
    """Every value that the recipe uses, once it is planned."""
    overridden: list[str]
    """Names among them that were asked for; the others follow from the dial."""
    facts: dict[str, Any]
    """Sizes of data, base and machine."""
    cleaned: list[dict[str, Any]]
    """What was done to the data before."""
    points: list[PointShown]
    """Curves; thinned out where there are many steps."""
    checkpoints: list[CheckpointShown]
    story: list[StoryShown]
    """What happened, the oldest first, without every step; the newest of it where it is long."""
    log: list[str]
    """The last lines of what it printed."""
    tuned: TunedShown | None
    beaten: list[BeatenShown]
    releases: list[str]
    """Aliases that lead to its model now."""


def shown_range(found: Range, unit: float = 1.0) -> RangeShown:
    """A range in other units."""
    return RangeShown(middle=found.middle / unit, low=found.low / unit, high=found.high / unit)


def shown_forecast(found: TuneForecast) -> TuneForecastShown:
    """A forecast as it is shown."""
    return TuneForecastShown(
        minutes=shown_range(found.minutes),
        memory_mb=shown_range(found.memory_mb),
        tokens=found.tokens,
        cost=None if found.cost_micros is None else shown_range(found.cost_micros, MICROS),
        currency=found.currency or None,
        based_on=found.based_on,
    )


def shown_fact(job: TuneJob) -> FactShown | None:
    """What a job took; None = it has not ended."""
    if not job.status.ended:
        return None
    minutes, forecast = forecasting.fact(job, "minutes"), job.forecast
    cost = None
    if minutes is not None and forecast is not None and forecast.cost_micros is not None:
        cost = forecast.cost_micros.middle / MICROS * minutes / (forecast.minutes.middle or 1.0)
    return FactShown(
        minutes=minutes,
        minutes_off=forecasting.error(job, "minutes"),
        memory_mb=forecasting.fact(job, "memory_mb"),
        memory_off=forecasting.error(job, "memory_mb"),
        cost=cost,
    )


def job_facts(job: TuneJob, *, working: bool, place: int | None) -> dict[str, Any]:
    """The fields of `JobShown`."""
    spec, asked, progress = job.spec, job.asked, job.progress
    task = asked.get("task") or (Path(spec.task).name if spec.task else None)
    figures: Mapping[str, Any] = {
        name: getattr(progress, name) for name in TuneProgressShown.__slots__ if progress is not None
    }
    return {
        "job": spec.id,
        "tenant": spec.tenant or OWNER_NAME,
        "status": job.status.value,
        "phase": views.phase(job, working=working),
        "place": place,
        "recipe": spec.recipe.name,
        "effort": spec.effort,
        "base": Path(spec.base).name if Path(spec.base).is_absolute() else spec.base,
        "task": task,
        "file": asked.get("training_file") or None,
        "suffix": spec.suffix,
        "seed": spec.seed,
        "key": job.key or None,
        "created": shown(job.created_ms),
        "started": None if job.started_ms is None else shown(job.started_ms),
        "ended": None if job.ended_ms is None else shown(job.ended_ms),
        "progress": TuneProgressShown(**figures) if figures else None,
        "forecast": None if job.forecast is None else shown_forecast(job.forecast),
        "took": shown_fact(job),
        "model": job.model or None,
        "error": _error(job.error),
    }


def shown_tuned(adapter: Adapter) -> TunedShown:
    """A tuned model as it is shown."""
    problem = unfit(adapter)
    return TunedShown(
        model=adapter.name,
        adapter=adapter.id,
        tenant=adapter.tenant or OWNER_NAME,
        base=Path(adapter.base).name if Path(adapter.base).is_absolute() else adapter.base,
        kind=adapter.kind,
        status=adapter.status,
        step=adapter.step,
        job=adapter.job or None,
        created=shown(adapter.created_ms),
        parity=None if adapter.parity is None else dict(adapter.parity),
        can_promote=problem is None,
        reason=None if problem is None else str(problem),
    )


def _error(error: Mapping[str, Any] | None) -> TuneErrorShown | None:
    if error is None:
        return None
    return TuneErrorShown(code=str(error.get("code") or ""), message=str(error.get("message") or ""))
