"""Tuning jobs as a table: found, put in order, page by page, and taken along."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from baimo.core.tuning import JobStatus, TuneJob
from baimo.server.admin.columns import Format, arranged, written
from baimo.server.admin.operation import Asking
from baimo.server.admin.paging import Limit, Paged, cut
from baimo.server.admin.streams import Work
from baimo.server.admin.tuning_shown import JobShown, job_facts
from baimo.tuning import forecast as forecasting
from baimo.workspace import tune_views as views
from baimo.workspace.fine_tuning import FineTuning

_PAGE = 200
NEWEST = "-created"
Sort = Literal[
    "created", "-created", "name", "-name", "status", "-status", "task", "-task", "base", "-base",
    "recipe", "-recipe", "done", "-done", "minutes", "-minutes",
]  # fmt: skip
CSV = (
    *("job", "tenant", "status", "phase", "suffix", "task", "file", "base", "recipe", "effort", "seed"),
    *("key", "created", "started", "ended", "model"),
    *(f"progress.{name}" for name in ("step", "steps", "loss", "accuracy", "valid_loss", "reward", "tokens")),
    *(f"forecast.{name}" for name in ("minutes.middle", "memory_mb.middle", "cost.middle", "currency")),
    *(f"took.{name}" for name in ("minutes", "minutes_off", "memory_mb", "memory_off", "cost")),
    "error.message",
)
"""Columns of an export."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsWanted:
    """Which jobs, in which order."""

    status: (
        Literal[
            "validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled", "unended"
        ]
        | None
    ) = None
    """Only those; unended = all that something may still happen to."""
    recipe: str | None = None
    """Only of this recipe."""
    task: str | None = None
    """Only of this task."""
    base: str | None = None
    """Only of this base."""
    text: str = ""
    """Occurs in the id, base, task, suffix or tuned model."""
    tenant: str | None = None
    """Only this tenant's."""
    sort: Sort = NEWEST
    """Column; with - in front, the largest come first. What is not known comes last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsAsked(JobsWanted):
    """Which jobs."""

    limit: Limit = 100
    cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsExport(JobsWanted):
    """Which jobs, in which form."""

    format: Format = "csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsPage:
    """Some tuning jobs."""

    data: list[JobShown]
    next: str | None
    """Cursor of the next page."""


def tuning_of(asking: Asking) -> FineTuning:
    """Whose jobs they are."""
    return asking.service.tuning


def row(asking: Asking, job: TuneJob) -> dict[str, Any]:
    """The fields of `JobShown`."""
    tuning = tuning_of(asking)
    running = job.status in (JobStatus.RUNNING, JobStatus.PAUSED)
    working = running and tuning.queue.at(job.spec.id).alive
    return job_facts(job, working=working, place=views.place(tuning.jobs, job))


def listed(asking: Asking, asked: JobsAsked) -> JobsPage:
    """One page."""
    if asked.sort == NEWEST:
        jobs = _fitting(asking, asked, asked.cursor or "", asked.limit + 1)
        page = [job for job, _ in zip(jobs, range(asked.limit + 1), strict=False)]
        more = page[asked.limit - 1].spec.id if len(page) > asked.limit else None
        page = page[: asked.limit]
    else:
        page, more = cut(_sorted(asking, asked), cast("Paged", asked), lambda job: job.spec.id)
    return JobsPage(data=[JobShown(**row(asking, job)) for job in page], next=more)


def export(asking: Asking, asked: JobsExport) -> Work:
    """All of them."""
    jobs = _fitting(asking, asked) if asked.sort == NEWEST else _sorted(asking, asked)
    return written((JobShown(**row(asking, job)) for job in jobs), CSV, asked.format)


def _sorted(asking: Asking, asked: JobsWanted) -> list[TuneJob]:
    return arranged(_fitting(asking, asked), asked.sort, COLUMNS)


def _fitting(asking: Asking, asked: JobsWanted, after: str = "", some_of: int = _PAGE) -> Iterator[TuneJob]:
    """The newest first.

    Raises:
        NotFound: there is no such tenant.
    """
    tenant, jobs, words = asking.within(asked.tenant), tuning_of(asking).jobs, asked.text.casefold()

    def found(after: str) -> Iterator[TuneJob]:
        while some := jobs.page(tenant, limit=some_of, after=after):
            yield from (job for job in some if _fits(job, asked, words))
            after = some[-1].spec.id

    return found(after)


def _fits(job: TuneJob, asked: JobsWanted, words: str) -> bool:
    wanted = asked.status in (None, job.status.value) or (asked.status == "unended" and not job.status.ended)
    spec = job.spec
    wanted = (
        wanted
        and asked.task in (None, task_of(job))
        and asked.base in (None, spec.base, Path(spec.base).name)
    )
    said = f"{spec.id} {spec.base} {job.asked.get('task') or spec.task} {spec.suffix} {job.model}".casefold()
    return wanted and asked.recipe in (None, spec.recipe.name) and words in said


def task_of(job: TuneJob) -> str | None:
    """Name of the task that it learns; None = it learns from a file."""
    return job.asked.get("task") or (Path(job.spec.task).name if job.spec.task else None)


def _done(job: TuneJob) -> float | None:
    return job.progress.step / job.progress.steps if job.progress and job.progress.steps else None


COLUMNS: Mapping[str, Callable[[TuneJob], Any]] = {
    "created": lambda job: job.created_ms,
    "name": lambda job: job.spec.suffix.casefold() or None,
    "status": lambda job: list(JobStatus).index(job.status),
    "task": lambda job: (task_of(job) or "").casefold() or None,
    "base": lambda job: job.spec.base.casefold(),
    "recipe": lambda job: job.spec.recipe.name,
    "done": _done,
    "minutes": lambda job: forecasting.fact(job, "minutes"),
}
"""What can be sorted by."""
