"""What there is to see of a tuning job: its plan, its curves, its log, its checkpoints, and what its model has beaten.

Prevents the failure of a page that grows with the job: a curve has at most so many points, however many steps there
were, and a log is read from where the reader stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from baimo.core.run import Run
from baimo.core.tuning import JobStatus, TuneJob
from baimo.core.verdict import Standing, Verdict
from baimo.store.jobs import Jobs
from baimo.store.store import Store
from baimo.tuning.folder import JobFolder
from baimo.workspace.care import ASK_FIRST

POINTS = 240
"""Most points of a curve."""
FIGURES = ("loss", "accuracy", "valid_loss", "valid_accuracy", "reward", "learning_rate")
_FIRST_EVENTS = 50
_LOG_BYTES = 64 * 1024
_RUNS = 300
"""The newest comparisons that are looked through for a model."""


class Point(NamedTuple):
    """Figures at a step."""

    step: int
    figures: Mapping[str, float]


class Kept(NamedTuple):
    """A checkpoint."""

    step: int
    at_ms: int


class Beaten(NamedTuple):
    """A comparison in which a model took part."""

    run: str
    task: str
    rank: int
    """1 = best."""
    tier: int | None
    """None = never judged, or left out."""
    score: float | None
    interval: tuple[float, float]
    other: str
    """Best of the other candidates."""
    other_score: float | None
    other_interval: tuple[float, float]
    certain: bool
    """The two are in different tiers."""
    before: float | None
    """Score of the base that it was made from, in the same comparison; None = it took no part."""
    before_interval: tuple[float, float] | None
    gained: bool | None
    """It and its base are in different tiers."""


def phase(job: TuneJob, *, working: bool) -> str:
    """Where a job stands, for people: its status, or `forecasting`, `asking`, `adopting` beside it.

    Args:
        job: as it is now.
        working: whether its child lives.
    """
    asks = bool(job.asked.get(ASK_FIRST))
    if asks and job.status is JobStatus.RUNNING:
        return "forecasting"
    if asks and job.status is JobStatus.PAUSED and (job.progress is not None or job.forecast is not None):
        return "asking"
    done = job.progress is not None and job.progress.step >= job.progress.steps
    if job.status is JobStatus.RUNNING and done and not working:
        return "adopting"
    return job.status.value


def place(jobs: Jobs, job: TuneJob) -> int | None:
    """How many jobs go before a job that waits, and its own turn: 1 = it is the next; None = it does not wait."""
    if job.status is not JobStatus.QUEUED:
        return None
    waiting = [one.spec.id for one in jobs.unended(status=(JobStatus.QUEUED,))]
    return waiting.index(job.spec.id) + 1 if job.spec.id in waiting else None


def plan(folder: JobFolder) -> Mapping[str, Any]:
    """{settings, facts} as its child has planned it; empty = not yet, or not on this machine."""
    for _, line in islice(folder.events(), _FIRST_EVENTS):
        if line.get("kind") == "plan":
            return {"settings": line.get("settings") or {}, "facts": line.get("facts") or {}}
    return {}


def history(jobs: Jobs, id: str) -> tuple[list[Point], list[Kept]]:
    """Every step once with its figures, the last time that it was told, and every checkpoint."""
    steps: dict[int, dict[str, float]] = {}
    kept: dict[int, Kept] = {}
    at = 0
    while events := jobs.since(id, at):
        at = events[-1].place
        for event in events:
            if event.kind == "progress":
                told: Mapping[str, Any] = event.facts.get("progress") or {}
                step = int(told.get("step") or 0)
                found = {name: float(told[name]) for name in FIGURES if told.get(name) is not None}
                steps[step] = {**steps.get(step, {}), **found}
            elif event.kind == "checkpoint":
                step = int(event.facts.get("step") or 0)
                kept[step] = Kept(step, event.at_ms)
    return [Point(step, steps[step]) for step in sorted(steps)], [kept[step] for step in sorted(kept)]


def thinned(points: Sequence[Point], most: int = POINTS) -> list[Point]:
    """At most so many points: means over neighbours, so that a curve keeps its course."""
    if len(points) <= most:
        return list(points)
    found: list[Point] = []
    for number in range(most):
        some = points[len(points) * number // most : len(points) * (number + 1) // most]
        found.append(Point(some[-1].step, {name: _mean(some, name) for name in FIGURES if _has(some, name)}))
    return found


def log(folder: JobFolder, start: int = 0) -> tuple[list[str], int]:
    """Whole lines of what the child printed, from a byte on, and the byte behind them."""
    try:
        with (folder.path / "log").open("rb") as file:
            file.seek(start)
            data = file.read(_LOG_BYTES)
    except FileNotFoundError:
        return [], start
    end = data.rfind(b"\n") + 1
    if not end and len(data) == _LOG_BYTES:  # a line without an end
        end = len(data)
    return data[:end].decode(errors="replace").splitlines(), start + end


def log_end(folder: JobFolder, lines: int = 40) -> tuple[list[str], int]:
    """The last lines of what the child printed, and the byte behind them."""
    try:
        size = (folder.path / "log").stat().st_size
    except FileNotFoundError:
        return [], 0
    found, behind = log(folder, max(0, size - _LOG_BYTES))
    return found[-lines:], behind


def beaten(store: Store, tenant: str, model: str, base: str = "") -> list[Beaten]:
    """Comparisons of a tenant with a verdict in which a model took part, the newest first.

    Args:
        store: where they are kept.
        tenant: whose.
        model: the tuned model.
        base: what it was made from.
    """
    found: list[Beaten] = []
    if not model:
        return found
    for run in store.runs(limit=_RUNS):
        names = {str(one.get("name")) for one in run.candidates if one.get("model") == model}
        verdict = store.verdict(run.id) if names and run.tenant == tenant else None
        if verdict is None:
            continue
        mine = next((one for one in verdict.standings if one.candidate in names), None)
        other = next((one for one in verdict.standings if one.candidate not in names), None)
        if mine is None or other is None:
            continue
        before = _before(run, verdict, mine.candidate, base)
        found.append(
            Beaten(
                run.id,
                run.name or run.task,
                verdict.standings.index(mine) + 1,
                mine.tier,
                mine.score,
                (mine.interval[0], mine.interval[1]),
                other.candidate,
                other.score,
                (other.interval[0], other.interval[1]),
                _apart(mine, other),
                None if before is None else before.score,
                None if before is None else (before.interval[0], before.interval[1]),
                None if before is None else _apart(before, mine),
            )
        )
    return found


def _apart(one: Standing, other: Standing) -> bool:
    """Whether the two are in different tiers; one without a tier is apart from nobody."""
    return None not in (one.tier, other.tier) and one.tier != other.tier


def _before(run: Run, verdict: Verdict, candidate: str, base: str) -> Standing | None:
    """Where the base stands, asked as the tuned model was if it was asked in several ways."""
    asked = {str(one.get("name")): one for one in run.candidates}
    like = asked[candidate].get("prompt")
    bases = [one for one in verdict.standings if base and asked.get(one.candidate, {}).get("model") == base]
    return next(
        (one for one in bases if asked[one.candidate].get("prompt") == like), bases[0] if bases else None
    )


def _has(points: Iterable[Point], name: str) -> bool:
    return any(name in point.figures for point in points)


def _mean(points: Iterable[Point], name: str) -> float:
    known = [point.figures[name] for point in points if name in point.figures]
    return sum(known) / len(known)
