"""What a job will take, said before it starts.

Prevents the surprise after a night: a job that takes three days, or one that the kernel ends because memory ran out.

The job's own first steps are the calibration: at most 20 seconds or a twentieth of it, at the planned sizes, on this
data; the job then goes on from there, so nothing is lost but a second start. Minutes = starts + steps × mean step +
measurements and checkpoints. Memory = the peak so far, and what the rest of the first epoch adds if it rises with the
logarithm of the steps: it rises as long as longer batches are met for the first time, ever more seldom.

Past jobs with the same base and recipe on this machine correct the middle by the median of their ratios fact / raw
forecast, and their ratios set the width: the bound that nine of ten stay below is the ⌈0.9 (n + 1)⌉-th smallest of n
ratios, as in split conformal prediction (Vovk, Gammerman & Shafer 2005; Lei et al. 2018), whose coverage holds for any
distribution as long as jobs are exchangeable. Until there are enough, ratios assumed beforehand stand beside them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from baimo.core.money import MICROS
from baimo.core.tuning import JobStatus, Range, TuneForecast, TuneJob
from baimo.settings import TuneSettings

ENOUGH = 19
"""Past jobs with which the assumed ratios are forgotten: from here on the bounds are within what was seen."""
MINUTES_BEFORE = (0.75, 0.85, 0.92, 0.97, 1.0, 1.04, 1.1, 1.2, 1.4)
"""Ratios fact / forecast of minutes that are assumed."""
MEMORY_BEFORE = (0.85, 0.92, 0.96, 0.98, 1.0, 1.03, 1.08, 1.15, 1.3)
"""Likewise of memory: what the first steps needed more may not rise on, and the longest rows may still be to come."""
LONG_S = 20.0
"""Work that is long enough for a calibration."""
LEAST_SHARE = 0.05
"""Part of the job that is enough for one."""
LEAST_STEPS = 4
"""Steps of one, if it does not take too long."""
OF_FORWARD = 1 / 3
"""Time of measuring a row, as part of learning it: forward without backward."""


class Calibration(NamedTuple):
    """What the first steps showed."""

    startup_s: float
    """From the start of the process to the beginning of the first step."""
    step_s: float
    """Mean time of a step."""
    checkpoint_s: float
    """Time of a checkpoint."""
    done: int
    """Steps done."""
    steps: int
    """Steps in all."""
    epochs: float
    """Passes over the data in all."""
    tokens: int
    """Tokens of all epochs."""
    memory_mb: float
    """Peak."""
    rise_mb: float
    """By how much the peak rose, for each one that the logarithm of the steps did."""
    worked_s: float
    """Wall time of the calibration itself."""


def enough(step: int, elapsed_s: float, left_s: float) -> bool:
    """Whether the first steps show how long the others take: 20 s of work, or a few steps and a twentieth of all."""
    short = elapsed_s >= LEAST_SHARE * (elapsed_s + left_s) and step >= LEAST_STEPS
    return short or (elapsed_s >= LONG_S and step > 0)


def calibration(events: Iterable[Mapping[str, Any]]) -> Calibration | None:
    """What the events of a calibrating child say; None = it did not come to a step."""
    started = plan = last = kept = None
    steps: list[Mapping[str, Any]] = []
    at: list[int] = []
    for event in events:
        last = event["at_ms"]
        match event["kind"]:
            case "started":
                started, steps, at = last, [], []
            case "plan":
                plan = event
            case "progress":
                steps.append(event["progress"])
                at.append(last)
            case "checkpoint":
                kept = (last - at[-1]) / 1000 if at else None
            case _:
                pass
    if not steps or not steps[-1]["step"] or started is None or last is None:
        return None
    first, now = steps[0], steps[-1]
    done, total = int(now["step"]), int(now["steps"])
    between = done - int(first["step"])
    elapsed_s = float(now.get("elapsed_s", 0.0))
    # the first step warms caches up: it is no measure, unless it is all there is
    step_s = (elapsed_s - float(first.get("elapsed_s", 0.0))) / between if between else elapsed_s
    epochs = float(now["epoch"]) / done * total
    memory = [float(step.get("memory_mb", 0.0)) for step in steps]
    rows = (plan or {}).get("facts", {}).get("tokens") or 0
    seen = int(now.get("tokens", 0)) / done * total
    return Calibration(
        startup_s=max(0.0, (at[0] - started) / 1000 - float(first.get("elapsed_s", 0.0))),
        step_s=step_s,
        checkpoint_s=kept or 0.0,
        done=done,
        steps=total,
        epochs=epochs,
        tokens=round(rows * epochs or seen),
        memory_mb=max(memory),
        rise_mb=(memory[-1] - memory[0]) / math.log(done / (done - between)) if 0 < between < done else 0.0,
        worked_s=(last - started) / 1000,
    )


def forecast(
    seen: Calibration,
    past: Sequence[TuneJob],
    settings: TuneSettings,
    *,
    currency: str,
    valid_share: float = 0.0,
) -> TuneForecast:
    """What a job will take.

    Args:
        seen: its first steps.
        past: jobs that ended here with the same base and recipe.
        settings: [tune]: what an hour costs.
        currency: money.currency.
        valid_share: rows that are measured once an epoch, as part of the rows that are learnt.
    """
    left = max(0, seen.steps - seen.done)
    measuring_s = valid_share * seen.steps * seen.step_s * OF_FORWARD
    again_s = seen.startup_s if left else 0.0
    working_s = seen.worked_s + again_s + left * seen.step_s + measuring_s + seen.epochs * seen.checkpoint_s
    told = [job for job in past if job.forecast is not None and job.forecast.raw_minutes > 0]
    minutes = corrected(working_s / 60, ratios(told, "minutes"), MINUTES_BEFORE)
    unseen = max(0.0, math.log(seen.steps / max(seen.epochs, 1.0)) - math.log(seen.done))
    most_mb = seen.memory_mb + unseen * seen.rise_mb
    memory = corrected(most_mb, ratios(told, "memory_mb"), MEMORY_BEFORE)
    hourly = settings.hourly_rate + settings.watts / 1000 * settings.kwh_price
    cost = None
    if hourly:
        cost = Range(
            **{name: getattr(minutes, name) / 60 * hourly * MICROS for name in ("middle", "low", "high")}
        )
    return TuneForecast(
        minutes=minutes,
        memory_mb=memory,
        tokens=seen.tokens,
        cost_micros=cost,
        currency=currency if hourly else "",
        based_on="both" if told else "calibration",
        raw_minutes=working_s / 60,
        raw_memory_mb=most_mb,
    )


def corrected(raw: float, past: Sequence[float], before: Sequence[float]) -> Range:
    """A figure with its interval.

    Args:
        raw: as reckoned.
        past: ratios fact / raw of past jobs.
        before: ratios assumed as long as there are few.
    """
    known = sorted(past if len(past) >= ENOUGH else [*past, *before])
    count = len(known)
    low = known[max(0, math.floor(0.1 * (count + 1)) - 1)]
    high = known[min(count, math.ceil(0.9 * (count + 1))) - 1]
    middle = statistics.median(past if len(past) >= 3 else known)
    return Range(middle=raw * middle, low=raw * min(low, middle), high=raw * max(high, middle))


def ratios(jobs: Iterable[TuneJob], what: str) -> list[float]:
    """Fact / raw forecast of jobs that succeeded.

    Args:
        jobs: with a forecast.
        what: minutes or memory_mb.
    """
    found: list[float] = []
    for job in jobs:
        raw = getattr(job.forecast, f"raw_{what}") if job.forecast else 0.0
        actual = fact(job, what)
        if job.status is JobStatus.SUCCEEDED and raw and actual:
            found.append(actual / raw)
    return found


def fact(job: TuneJob, what: str) -> float | None:
    """What a job took: minutes or memory_mb; None = not known."""
    if what == "minutes":
        return job.minutes
    return job.progress.memory_mb if job.progress else None


def error(job: TuneJob, what: str) -> float | None:
    """How far fact was from forecast, as a share of the forecast: 0.1 = it took a tenth more. None = not known."""
    actual = fact(job, what)
    if job.forecast is None or not actual:
        return None
    middle: float = getattr(job.forecast, what).middle
    return actual / middle - 1 if middle else None


def worked_minutes(events: Iterable[Mapping[str, Any]]) -> float:
    """Wall time of all children of a job together, pauses left out."""
    total_ms = 0
    started = last = None
    for event in events:
        if event["kind"] == "started":
            if started is not None and last is not None:
                total_ms += last - started
            started = event["at_ms"]
        last = event["at_ms"]
        if event["kind"] in ("done", "failed", "paused", "cancelled") and started is not None:
            total_ms += last - started
            started = None
    if started is not None and last is not None:
        total_ms += last - started
    return total_ms / 60_000
