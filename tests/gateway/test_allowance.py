"""What a provider may be asked, on a clock that tests wind."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.errors import LimitReached
from baimo.gateway.allowance import Allowance, Most, Place, allowances, carried
from baimo.settings import ProviderSettings, ServeSettings, Settings


class Alarm:
    """Fits `allowance.Alarm`."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self.ring = ring

    def cancel(self) -> None:
        self.ring = lambda: None


class Clock:
    """Goes on when it is told to, and rings on its way."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self._alarms: list[tuple[float, int, Alarm]] = []
        self._numbers = itertools.count()

    def now(self) -> float:
        return self.seconds

    def later(self, seconds: float, ring: Callable[[], None]) -> Alarm:
        alarm = Alarm(ring)
        heapq.heappush(self._alarms, (self.seconds + seconds, next(self._numbers), alarm))
        return alarm

    async def on(self, seconds: float) -> None:
        await settled()
        until = self.seconds + seconds
        while self._alarms and self._alarms[0][0] <= until:
            self.seconds, _, alarm = heapq.heappop(self._alarms)
            alarm.ring()
            await settled()
        self.seconds = until
        await settled()


async def settled() -> None:
    """Everybody who can go on has."""
    for _ in range(5):
        await asyncio.sleep(0)


def run(scene: Callable[[Clock, Allowance], Coroutine[Any, Any, None]], **most: int | None) -> None:
    async def played() -> None:
        clock = Clock()
        limits = Most(**{"concurrency": None, "requests": None, "tokens": None, **most})
        await scene(clock, Allowance("acme", limits, now=clock.now, later=clock.later))

    asyncio.run(played())


def waiting(of: Allowance, wait_s: float = 10.0, size: int = 1, tokens: int = 1) -> asyncio.Task[Place]:
    return asyncio.create_task(of.wait(size, tokens, wait_s))


def test_a_place_goes_to_whoever_came_first() -> None:
    async def scene(clock: Clock, of: Allowance) -> None:
        held = of.take(1, 1)
        assert held is not None and of.take(1, 1) is None
        line = [waiting(of) for _ in range(3)]
        await settled()
        held.leave(1)
        await settled()
        assert [one.done() for one in line] == [True, False, False]
        assert of.take(1, 1) is None, "whoever comes now comes after those who wait"
        line[0].result().leave(1)
        line[0].result().leave(1)
        await settled()
        assert [one.done() for one in line] == [True, True, False], "a place given back twice is one place"
        line[1].result().leave(1)
        (await line[2]).leave(1)
        assert of.take(1, 1) is not None

    run(scene, concurrency=1)


def test_a_wait_ends_with_a_refusal_that_says_when_to_come_again() -> None:
    async def scene(clock: Clock, of: Allowance) -> None:
        held = of.take(1, 1)
        assert held is not None
        short, long = waiting(of, 2.0), waiting(of, 5.0)
        await clock.on(3)
        with pytest.raises(LimitReached) as caught:
            await short
        assert (caught.value.key, caught.value.retry_after_s) == ("gateway.held_concurrency", 1.0)
        held.leave(1)
        await settled()
        assert long.done()

    run(scene, concurrency=1)


def test_a_call_that_cannot_go_in_time_is_refused_at_once() -> None:
    async def scene(clock: Clock, of: Allowance) -> None:
        for _ in range(2):
            assert of.take(1, 1) is not None
        await clock.on(45)
        with pytest.raises(LimitReached) as caught:
            await of.wait(1, 1, 10.0)
        assert (caught.value.key, caught.value.retry_after_s) == ("gateway.held_requests", 15.0)
        late = [waiting(of, 20.0) for _ in range(3)]
        await settled()
        assert [one.done() for one in late] == [False] * 3
        await clock.on(15)
        assert [one.done() for one in late] == [True, True, False]
        await clock.on(5)
        assert isinstance(late[2].exception(), LimitReached)

    run(scene, requests=2)


def test_tokens_are_corrected_when_they_are_known() -> None:
    async def scene(clock: Clock, of: Allowance) -> None:
        first = of.take(1, 90)
        assert first is not None
        second = waiting(of, 61.0, tokens=60)
        await settled()
        assert not second.done()
        first.leave(40)
        (await second).leave(None)
        with pytest.raises(LimitReached) as caught:
            await of.wait(1, 1, 10.0)
        assert caught.value.key == "gateway.held_tokens"

    run(scene, tokens=100)


def test_what_was_never_sent_counts_as_nothing() -> None:
    async def scene(clock: Clock, of: Allowance) -> None:
        for _ in range(5):
            place = of.take(1, 50)
            assert place is not None
            place.leave(0, asked=False)

    run(scene, requests=1, tokens=50, concurrency=1)


@pytest.mark.parametrize("when", ["in line", "given"])
def test_whoever_leaves_the_line_leaves_nothing_behind(when: str) -> None:
    async def scene(clock: Clock, of: Allowance) -> None:
        held = of.take(1, 1)
        assert held is not None
        leaves, stays = waiting(of, 5.0), waiting(of, 5.0)
        await settled()
        if when == "given":
            held.leave(1)  # the place is on its way to the first
        leaves.cancel()
        if when == "in line":
            held.leave(1)
        await settled()
        assert leaves.cancelled()
        (await stays).leave(1)
        assert of.take(1, 1) is not None
        await clock.on(100)

    run(scene, concurrency=1)


def test_a_call_that_is_sent_as_more_requests_than_there_are_places_takes_them_all() -> None:
    async def scene(clock: Clock, of: Allowance) -> None:
        large = of.take(5, 1)
        assert large is not None and of.take(1, 1) is None
        large.leave(1)
        assert of.take(1, 1) is not None
        assert of.take(5, 1) is None

    run(scene, concurrency=2)


def test_other_limits_hold_for_those_who_wait_and_count_what_is_under_way() -> None:
    async def scene(clock: Clock, of: Allowance) -> None:
        places = [of.take(1, 10), of.take(1, 10)]
        third = waiting(of)
        await settled()
        of.adopt(Most(3, None, 100))
        await settled()
        assert third.done()
        of.adopt(Most(1, None, None))
        for place in (*places, third.result()):
            assert place is not None and of.take(1, 1) is None
            place.leave(1)
        assert of.take(1, 1) is not None

    run(scene, concurrency=2)


@given(
    most=st.tuples(*(st.none() | st.integers(1, limit) for limit in (4, 6, 50))),
    calls=st.lists(
        st.tuples(st.integers(1, 3), st.integers(0, 40), st.floats(0, 30), st.floats(0, 90)), max_size=12
    ),
    gone=st.sets(st.integers(0, 11)),
)
def test_whatever_happens_limits_hold_and_everything_comes_back(
    most: tuple[int | None, ...], calls: list[tuple[int, int, float, float]], gone: set[int]
) -> None:
    limits = Most(*most)
    asked: list[tuple[float, int, int]] = []
    at_once = 0

    async def scene() -> None:
        clock = Clock()
        of = Allowance("acme", limits, now=clock.now, later=clock.later)

        async def one(size: int, tokens: int, takes_s: float) -> None:
            nonlocal at_once
            place = of.take(size, tokens) or await of.wait(size, tokens, 45.0)
            asked.append((clock.now(), size, tokens))
            places = min(size, limits.concurrency or size)
            at_once += places
            assert limits.concurrency is None or at_once <= limits.concurrency
            done = asyncio.get_running_loop().create_future()
            clock.later(takes_s, lambda: done.done() or done.set_result(None))
            try:
                await done
            finally:
                at_once -= places
                place.leave(tokens)

        tasks = []
        for number, (size, tokens, pause_s, takes_s) in enumerate(calls):
            tasks.append(asyncio.create_task(one(size, tokens, takes_s)))
            await clock.on(pause_s)
            if number in gone:
                tasks[-1].cancel()
        await clock.on(1000)
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(end is None or isinstance(end, (LimitReached, asyncio.CancelledError)) for end in ended), (
            ended
        )
        for _ in range(limits.concurrency or 1):
            assert of.take(1, 0) is not None or (limits.requests or 9) < (limits.concurrency or 1)

    asyncio.run(scene())
    for at, _, _ in asked:
        window = [one for one in asked if at <= one[0] < at + 60]
        for limit, place in ((limits.requests, 1), (limits.tokens, 2)):
            sizes = [one[place] for one in window]
            assert limit is None or sum(sizes) <= max(limit, max(sizes))  # what never fits goes alone


def test_only_what_the_settings_say_holds_and_workers_share_it() -> None:
    settings = Settings(
        providers={
            "plain": ProviderSettings(base_url="http://127.0.0.1:9"),
            "slow": ProviderSettings(concurrency=10, tokens_per_minute=3),
        },
        serve=ServeSettings(workers=4),
    )
    found = allowances(settings, lambda: 0.0)
    assert {name: one.most for name, one in found.items()} == {"slow": Most(2, None, 1)}
    after = allowances(Settings(providers={"slow": ProviderSettings(concurrency=9)}), lambda: 0.0)
    carried(found, after)
    assert after["slow"] is found["slow"]
    assert after["slow"].most == Most(9, None, None)
