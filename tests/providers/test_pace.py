"""Limits, fairness and slowing down."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from provider_doubles import asked

from baimo.core.call import Sampling, Usage
from baimo.providers.pace import WINDOW_S, Pace, Window, estimated_tokens
from baimo.testing.clock import FakeClock


def starts(
    clock: FakeClock, pace: Pace, sizes: list[float], *, takes: float = 0.0
) -> list[tuple[float, int]]:
    """(when, which) of calls that were all asked for at once, in the order in which they were let go."""
    found: list[tuple[float, int]] = []

    async def call(number: int, size: float) -> None:
        async with pace.slot(size) as slot:
            found.append((clock.now(), number))
            await clock.sleep(takes)
            slot.answered(Usage())

    async def scenario() -> None:
        await asyncio.gather(*(call(number, size) for number, size in enumerate(sizes)))

    asyncio.run(scenario())
    return found


@given(st.integers(1, 7), st.integers(1, 30))
def test_no_minute_ever_holds_more_requests_than_allowed(limit: int, calls: int) -> None:
    clock = FakeClock()
    found = starts(clock, Pace(concurrency=100, requests_per_minute=limit, clock=clock), [0.0] * calls)
    times = [at for at, _ in found]
    assert len(times) == calls
    for start in times:
        assert sum(start <= at < start + WINDOW_S - 1e-6 for at in times) <= limit
    assert times[-1] <= (calls - 1) // limit * WINDOW_S + 0.01, "and none waits longer than needed"


@given(st.lists(st.integers(1, 150), min_size=1, max_size=15))
def test_no_minute_ever_holds_more_tokens_than_allowed(sizes: list[int]) -> None:
    clock = FakeClock()
    found = starts(
        clock, Pace(concurrency=100, tokens_per_minute=100, clock=clock), [float(n) for n in sizes]
    )
    for start, _ in found:
        inside = [sizes[which] for at, which in found if start <= at < start + WINDOW_S - 1e-6]
        assert sum(inside) <= 100 or len(inside) == 1, (
            "only a call larger than a whole minute may exceed it, alone"
        )


def test_calls_are_let_go_in_the_order_in_which_they_came() -> None:
    clock = FakeClock()
    pace = Pace(concurrency=2, requests_per_minute=5, clock=clock)
    assert [which for _, which in starts(clock, pace, [0.0] * 20, takes=3.0)] == list(range(20))


def test_a_small_call_does_not_overtake_a_large_one() -> None:
    clock = FakeClock()
    found = starts(clock, Pace(concurrency=9, tokens_per_minute=100, clock=clock), [90.0, 90.0, 1.0])
    assert [which for _, which in found] == [0, 1, 2]


def test_no_more_calls_run_at_once_than_allowed() -> None:
    clock = FakeClock()
    found = starts(clock, Pace(concurrency=3, clock=clock), [0.0] * 9, takes=1.0)
    assert [round(at) for at, _ in found] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_estimates_are_replaced_by_what_was_used() -> None:
    clock = FakeClock()
    pace = Pace(concurrency=9, tokens_per_minute=100, clock=clock)

    async def scenario() -> float:
        async with pace.slot(100) as slot:
            slot.answered(Usage(tokens_in=10, tokens_out=10))
        async with pace.slot(80):
            return clock.now()

    assert asyncio.run(scenario()) == 0


def test_a_refusal_pauses_everybody_and_a_burst_of_them_halves_the_calls_at_once_only_once() -> None:
    clock = FakeClock()
    pace = Pace(concurrency=8, clock=clock)

    async def refused(number: int) -> None:
        async with pace.slot() as slot:
            await clock.sleep(1)
            slot.limited(10)

    async def scenario() -> float:
        await asyncio.gather(*(refused(number) for number in range(8)))
        assert pace.allowed == 4
        async with pace.slot() as slot:
            started = clock.now()
            slot.limited(0)
        assert pace.allowed == 2, "a call that started after the cut cuts again"
        return started

    assert asyncio.run(scenario()) == pytest.approx(11)


def test_answers_give_back_what_refusals_took() -> None:
    clock = FakeClock()
    pace = Pace(concurrency=8, clock=clock)

    async def scenario() -> list[float]:
        found: list[float] = []
        async with pace.slot() as slot:
            slot.limited(0)
        for _ in range(60):
            async with pace.slot() as slot:
                slot.answered(Usage())
            found.append(pace.allowed)
        return found

    found = asyncio.run(scenario())
    assert found == sorted(found) and found[0] == 4.25 and found[-1] == 8


def test_waiting_calls_that_are_cancelled_leave_no_trace() -> None:
    clock = FakeClock()
    pace = Pace(concurrency=1, clock=clock)

    async def scenario() -> None:
        async with pace.slot():
            waiting = [asyncio.ensure_future(anext_slot(pace)) for _ in range(3)]
            await asyncio.sleep(0)
            for task in waiting[:2]:
                task.cancel()
            await asyncio.gather(*waiting[:2], return_exceptions=True)
        await waiting[2]
        assert pace.in_flight == 0

    asyncio.run(scenario())


async def anext_slot(pace: Pace) -> None:
    async with pace.slot():
        await asyncio.sleep(0)


def test_what_left_the_window_is_forgotten() -> None:
    window = Window(10)
    for second in range(10):
        window.enter(1, second)
    assert window.delay(1, 10) == pytest.approx(50)
    assert window.delay(3, 10) == pytest.approx(52)
    assert window.delay(10, 60 + 9) == 0


def test_chinese_and_english_are_estimated_by_their_bytes() -> None:
    sampling = Sampling(max_tokens=100)
    assert estimated_tokens(asked("word " * 400, sampling=sampling)) == pytest.approx(600, rel=0.05)
    assert estimated_tokens(asked("百模大战" * 100, sampling=sampling)) == pytest.approx(400, rel=0.05)
