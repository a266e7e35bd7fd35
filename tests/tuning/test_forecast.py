"""The forecast: steps seen → minutes and memory, corrected by what past jobs took."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.registry import Spec
from baimo.core.tuning import JobStatus, Range, TuneForecast, TuneJob, TuneProgress, TuneSpec
from baimo.settings import TuneSettings
from baimo.tuning.forecast import (
    ENOUGH,
    MINUTES_BEFORE,
    calibration,
    corrected,
    error,
    forecast,
    ratios,
    worked_minutes,
)


def told(seconds: float, kind: str, **facts: object) -> dict[str, object]:
    return {"at_ms": round(seconds * 1000), "kind": kind, **facts}


def steps(*seconds: float, steps: int = 100) -> list[dict[str, object]]:
    """A child that started at 0, planned, began its first step at 10 s, and was done with each at these times."""
    events = [told(0, "started"), told(9, "plan", facts={"tokens": 1000})]
    for number, at in enumerate(seconds, 1):
        progress = {"step": number, "steps": steps, "epoch": number / 50, "loss": 1.0}
        progress |= {"elapsed_s": at, "memory_mb": 100.0 + number, "tokens": 20 * number}
        events.append(told(10 + at, "progress", progress=progress))
    return events


def job(minutes: float, memory_mb: float, raw_minutes: float, raw_memory_mb: float) -> TuneJob:
    some = Range(middle=raw_minutes, low=0, high=0)
    memory = Range(middle=raw_memory_mb, low=0, high=0)
    said = TuneForecast(
        minutes=some, memory_mb=memory, tokens=1, raw_minutes=raw_minutes, raw_memory_mb=raw_memory_mb
    )
    return TuneJob(
        spec=TuneSpec(id="ftjob-1", recipe=Spec(name="sft"), base="b"),
        status=JobStatus.SUCCEEDED,
        created_ms=0,
        minutes=minutes,
        progress=TuneProgress(step=1, steps=1, epoch=1, loss=0, memory_mb=memory_mb),
        forecast=said,
    )


def test_steps_that_end_together_are_counted_from_the_beginning() -> None:
    counts = [(0, 0), (0, 0), (12, 24)]
    said = [
        {"step": done, "steps": 600, "epoch": done / 600, "loss": 1.0, "elapsed_s": at} for done, at in counts
    ]
    events = [told(0, "started"), *(told(3 + one["elapsed_s"], "progress", progress=one) for one in said)]
    seen = calibration(events)
    assert seen is not None and (seen.step_s, seen.done, seen.startup_s, seen.rise_mb) == (2.0, 12, 3.0, 0.0)
    assert calibration(events[:-1]) is None, "nothing was done yet"


def test_the_first_steps_say_how_long_a_start_and_a_step_take() -> None:
    events = [*steps(5, 7, 9, 11), told(22, "checkpoint"), told(22, "paused")]
    seen = calibration(events)
    assert seen is not None
    assert (seen.startup_s, seen.step_s, seen.checkpoint_s) == (10, 2, 1)
    assert (seen.done, seen.steps, seen.epochs, seen.memory_mb, seen.worked_s) == (4, 100, 2, 104, 22)
    assert seen.tokens == 2000


def test_a_child_that_did_not_come_to_a_step_says_nothing() -> None:
    assert calibration([]) is None and calibration([told(0, "started"), told(1, "plan")]) is None


def test_the_whole_job_is_both_starts_all_steps_and_its_checkpoints() -> None:
    seen = calibration([*steps(5, 7, 9, 11), told(22, "checkpoint"), told(22, "paused")])
    assert seen is not None
    made = forecast(seen, [], TuneSettings(), currency="USD", valid_share=0.3)
    seconds = 22 + 10 + 96 * 2 + 0.3 * 100 * 2 / 3 + 2 * 1
    assert made.raw_minutes == pytest.approx(seconds / 60)
    assert made.minutes.low < made.raw_minutes < made.minutes.high
    assert made.cost_micros is None and made.based_on == "calibration"


def test_an_hour_costs_the_machine_and_its_electricity() -> None:
    seen = calibration(steps(60, 120, steps=60))
    assert seen is not None
    settings = TuneSettings(hourly_rate=2.0, watts=500, kwh_price=0.4)
    made = forecast(seen, [], settings, currency="EUR")
    assert made.cost_micros is not None and made.currency == "EUR"
    assert made.cost_micros.middle == pytest.approx(made.minutes.middle / 60 * 2.2 * 1_000_000)


def test_past_jobs_correct_the_middle_and_set_the_width() -> None:
    past = [job(minutes=2.0, memory_mb=330, raw_minutes=1.0, raw_memory_mb=300)] * ENOUGH
    seen = calibration(steps(60, 120, steps=60))
    assert seen is not None
    made = forecast(seen, past, TuneSettings(), currency="USD")
    assert made.minutes == Range(
        middle=made.raw_minutes * 2, low=made.raw_minutes * 2, high=made.raw_minutes * 2
    )
    # a rise of 1 MiB was seen from the first step to the second, of the 50 of the first epoch
    more = (math.log(50) - math.log(2)) / math.log(2)
    assert made.memory_mb.middle == pytest.approx((102 + more) * 1.1) and made.based_on == "both"


def test_jobs_that_failed_or_were_never_forecast_say_nothing() -> None:
    good = job(minutes=3, memory_mb=1, raw_minutes=2, raw_memory_mb=1)
    assert ratios(
        [good, replace(good, status=JobStatus.FAILED), replace(good, forecast=None)], "minutes"
    ) == [1.5]
    assert (
        error(good, "minutes") == pytest.approx(0.5)
        and error(replace(good, forecast=None), "minutes") is None
    )


@given(st.lists(st.floats(0.1, 10), max_size=60), st.floats(0.01, 1e4))
def test_an_interval_holds_its_middle_and_nothing_beyond_what_was_seen(past: list[float], raw: float) -> None:
    made = corrected(raw, past, MINUTES_BEFORE)
    assert made.low <= made.middle <= made.high
    known = past if len(past) >= ENOUGH else [*past, *MINUTES_BEFORE]
    assert min(known) * raw <= made.low and made.high <= max(known) * raw


@given(st.lists(st.floats(0.1, 10), min_size=ENOUGH + 1, max_size=60))
def test_nine_of_ten_past_jobs_stay_below_the_bound(past: list[float]) -> None:
    made = corrected(1.0, past[:-1], MINUTES_BEFORE)
    below = sum(one <= made.high for one in past[:-1])
    assert below >= 0.9 * (len(past) - 1)


def test_pauses_and_the_time_between_two_lives_are_no_work() -> None:
    events = [told(0, "started"), told(60, "paused"), told(300, "started"), told(330, "progress")]
    events += [told(600, "started"), told(630, "done"), told(700, "notice")]
    assert worked_minutes(events) == pytest.approx((60 + 30 + 30) / 60)
