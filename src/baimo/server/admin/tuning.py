"""Tuning jobs: what one will take, how it goes on, what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from baimo.core.moments import shown
from baimo.core.tuning import TuneJob
from baimo.errors import NotFound
from baimo.server.admin.columns import MEDIA
from baimo.server.admin.operation import Asking, Nothing, Operation
from baimo.server.admin.tuning_events import TuneEventTold, follow, told
from baimo.server.admin.tuning_list import JobsAsked, JobsExport, JobsPage, export, listed, row, tuning_of
from baimo.server.admin.tuning_models import MODELS
from baimo.server.admin.tuning_shown import (
    BeatenShown,
    CheckpointShown,
    JobDetails,
    JobShown,
    PointShown,
    StoryShown,
    shown_tuned,
)
from baimo.store import audit
from baimo.tuning.bench import RECIPES
from baimo.workspace import tune_views as views
from baimo.workspace.fine_tuning import HIDDEN
from baimo.workspace.tune_orders import OF_ROWS, TuneOrder, TuneOrders

_STORY = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class JobNamed:
    """One tuning job."""

    job: str
    """ftjob-…"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneEventsAsked(JobNamed):
    """What happens to a job, from where on."""

    after: str | None = None
    """Id of the last event that is known, as the header Last-Event-ID says it; null = from the beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TunePlanShown:
    """What follows from the dial, as far as it is known before the first steps."""

    settings: dict[str, Any]
    """Every value that the recipe would use."""
    rows: int
    """Of the task's train split; 0 = not known yet."""
    weights: int
    """Of the base; 0 = not known yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOffered:
    """An uploaded training file."""

    file: str
    name: str
    bytes: int
    created: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningOffer:
    """What can be tuned, from what."""

    tasks: list[str]
    """Names of tasks."""
    files: list[FileOffered]
    """Uploaded training files."""
    models: list[str]
    """Bases that are on this machine or can be fetched, then tuned ones."""
    recipes: list[str]
    """That this key may order."""
    most: int
    """Jobs at once on this machine."""


def _found(asking: Asking, id: str) -> TuneJob:
    """A job that this key may see.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    job = tuning_of(asking).jobs.find(id)
    if job is None or not (asking.owner or job.spec.tenant == asking.tenant.id):
        raise NotFound("tuning.no_job", field="/job")
    return job


def _offer(asking: Asking, _: Nothing) -> TuningOffer:
    service, tenant = asking.service, asking.tenant.id
    orders = TuneOrders(service.workspace, service.tuning)
    bases = [model.name for model in service.tunable(None, asking.key)]
    files = service.files.page(tenant, limit=100, purpose="fine-tune")
    return TuningOffer(
        tasks=[one.name for one in orders.tasks.listed(tenant)],
        files=[
            FileOffered(file=one.id, name=one.name, bytes=one.bytes, created=shown(one.created_ms))
            for one in files
        ],
        models=list(dict.fromkeys(bases)),
        recipes=[name for name in RECIPES if asking.owner or name in OF_ROWS],
        most=service.tuning.queue.at_once,
    )


def _plan(asking: Asking, asked: TuneOrder) -> TunePlanShown:
    service = asking.service
    orders = TuneOrders(service.workspace, service.tuning)
    settings, rows, weights = orders.derived(asked, asking.key, asking.tenant.id)
    return TunePlanShown(settings=dict(settings), rows=rows, weights=weights)


def _order(asking: Asking, asked: TuneOrder) -> JobShown:
    service = asking.service
    job = TuneOrders(service.workspace, service.tuning).order(asked, asking.key, asking.tenant.id)
    _told(asking, "job.order", job, recipe=asked.recipe, base=job.spec.base, start=asked.start)
    service.on_order()
    service.on_wish()
    return JobShown(**row(asking, job))


def _shown(asking: Asking, asked: JobNamed) -> JobDetails:
    job, service = _found(asking, asked.job), asking.service
    folder, store = service.tuning.queue.at(job.spec.id), service.workspace.store
    made = service.tuning.adapters.of_job(job.spec.tenant, job.spec.id)
    planned = views.plan(folder)
    points, kept = views.history(service.tuning.jobs, job.spec.id)
    by_step = {one.step: one.name for one in made if one.status == "ready"}
    last = next((one for one in made if one.step is None), None)
    beaten = views.beaten(store, job.spec.tenant, job.model, job.spec.base) if job.model else []
    holding = service.workspace.releasing.releases.holding(job.spec.tenant)
    return JobDetails(
        **row(asking, job),
        settings=dict(planned.get("settings") or {}),
        overridden=sorted(job.spec.recipe.args),
        facts=dict(planned.get("facts") or {}),
        cleaned=[dict(line) for line in job.spec.cleaned],
        points=[PointShown(step=one.step, figures=dict(one.figures)) for one in views.thinned(points)],
        checkpoints=[
            CheckpointShown(step=one.step, at=shown(one.at_ms), model=by_step.get(one.step)) for one in kept
        ],
        story=_story(asking, job),
        log=views.log_end(folder)[0],
        tuned=None if last is None else shown_tuned(last),
        beaten=[_beaten(one) for one in beaten],
        releases=[one.alias for one in holding if job.model and one.model == job.model],
    )


def _story(asking: Asking, job: TuneJob) -> list[StoryShown]:
    """What happened besides steps, as far as there is something to say about it."""
    events = tuning_of(asking).jobs.events(job.spec.id, limit=_STORY, besides=("progress", *HIDDEN))
    lines = [(event, told(event)) for event in reversed(events)]
    return [
        StoryShown(at=str(line.at), kind=event.kind, message=line.message)
        for event, line in lines
        if line.message
    ]


def _beaten(one: views.Beaten) -> BeatenShown:
    return BeatenShown(
        run=one.run,
        task=one.task,
        rank=one.rank,
        score=one.score,
        low=one.interval[0],
        high=one.interval[1],
        other=one.other,
        other_score=one.other_score,
        other_low=one.other_interval[0],
        other_high=one.other_interval[1],
        certain=one.certain,
        before=one.before,
        before_low=one.before_interval[0] if one.before_interval else None,
        before_high=one.before_interval[1] if one.before_interval else None,
        gained=one.gained,
    )


def _pause(asking: Asking, asked: JobNamed) -> JobShown:
    return _wished(asking, asked, "pause")


def _resume(asking: Asking, asked: JobNamed) -> JobShown:
    return _wished(asking, asked, "resume")


def _cancel(asking: Asking, asked: JobNamed) -> JobShown:
    return _wished(asking, asked, "cancel")


def _wished(asking: Asking, asked: JobNamed, wish: Literal["pause", "resume", "cancel"]) -> JobShown:
    job, queue = _found(asking, asked.job), tuning_of(asking).queue
    after = getattr(queue, wish)(job.spec.tenant, job.spec.id)
    _told(asking, f"job.{wish}", job)
    asking.service.on_wish()
    return JobShown(**row(asking, after))


def _delete(asking: Asking, asked: JobNamed) -> Nothing:
    job = _found(asking, asked.job)
    tuning_of(asking).queue.remove(job.spec.tenant, job.spec.id)
    _told(asking, "job.delete", job)
    return Nothing()


def _told(asking: Asking, act: str, job: TuneJob, **facts: Any) -> None:
    with asking.service.workspace.store.database.writing() as connection:
        audit.enter(connection, asking.actor, act, job.spec.id, facts, tuning_of(asking).jobs.now_ms())


async def _events(asking: Asking, asked: TuneEventsAsked) -> Any:
    return await follow(asking, lambda: _found(asking, asked.job), asked.after or asking.last_event or "")


_JOBS, _JOB = "/api/tuning/jobs", "/api/tuning/jobs/{job}"

TUNING = (
    Operation(
        method="GET", path="/api/tuning/offer", role="viewer", gives=TuningOffer, does=_offer, tag="tuning",
        summary="admin.tuning_offer",
    ),
    Operation(
        method="POST", path="/api/tuning/plan", role="engineer", takes=TuneOrder, gives=TunePlanShown, does=_plan,
        tag="tuning", summary="admin.tuning_plan", errors=(404, 409, 422, 429, 501),
    ),
    Operation(
        method="GET", path=_JOBS, role="viewer", takes=JobsAsked, gives=JobsPage, does=listed, tag="tuning",
        summary="admin.tuning_list", errors=(404,),
    ),
    Operation(
        method="GET", path=f"{_JOBS}/export", role="viewer", takes=JobsExport, gives=JobShown, does=export,
        tag="tuning", summary="admin.tuning_export", media=MEDIA, errors=(404,),
    ),
    Operation(
        method="POST", path=_JOBS, role="engineer", takes=TuneOrder, gives=JobShown, does=_order,
        tag="tuning", summary="admin.tuning_order", status=201, errors=(404, 409, 422, 429, 501),
    ),
    Operation(
        method="GET", path=_JOB, role="viewer", takes=JobNamed, gives=JobDetails, does=_shown, tag="tuning",
        summary="admin.tuning_get", errors=(404,),
    ),
    Operation(
        method="GET", path=f"{_JOB}/events", role="viewer", takes=TuneEventsAsked, gives=TuneEventTold,
        does=_events, tag="tuning", summary="admin.tuning_events", media=("text/event-stream",), errors=(404,),
    ),
    Operation(
        method="POST", path=f"{_JOB}/pause", role="engineer", takes=JobNamed, gives=JobShown, does=_pause,
        tag="tuning", summary="admin.tuning_pause", errors=(404, 409),
    ),
    Operation(
        method="POST", path=f"{_JOB}/resume", role="engineer", takes=JobNamed, gives=JobShown, does=_resume,
        tag="tuning", summary="admin.tuning_resume", errors=(404, 409),
    ),
    Operation(
        method="POST", path=f"{_JOB}/cancel", role="engineer", takes=JobNamed, gives=JobShown, does=_cancel,
        tag="tuning", summary="admin.tuning_cancel", errors=(404, 409),
    ),
    Operation(
        method="DELETE", path=_JOB, role="engineer", takes=JobNamed, gives=Nothing, does=_delete,
        tag="tuning", summary="admin.tuning_delete", errors=(404, 409),
    ),
    *MODELS,
)  # fmt: skip
