"""Coroutines that the bytes themselves resume."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from baimo.providers.wire.parked import Driver, Parked, start


class Ending:
    """Remembers how a driven coroutine ended."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, BaseException | None]] = []

    def __call__(self, value: Any, error: BaseException | None) -> None:
        self.calls.append((value, error))


async def settled(condition: Callable[[], object]) -> None:
    """Let the loop run until `condition` holds."""
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it never came about")


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    def runner(coroutine: Any) -> Any:
        with asyncio.Runner(loop_factory=request.param) as under:
            return under.run(coroutine)

    return runner


def test_runs_without_a_task_until_it_parks_and_goes_on_inside_the_call_that_sets_it(run: Any) -> None:
    async def main() -> None:
        parked, ending, seen = Parked[str](), Ending(), []

        async def call() -> str:
            seen.append("before")
            seen.append(await parked)
            return "answer"

        driver = start(call(), ending)
        assert seen == ["before"] and not ending.calls
        parked.set("bytes")
        assert seen == ["before", "bytes"]
        assert ending.calls == [("answer", None)] and driver.done()
        assert len(asyncio.all_tasks()) == 1

    run(main())


def test_an_exception_reaches_on_done_and_a_failed_parked_raises_where_it_is_awaited(run: Any) -> None:
    async def main() -> None:
        parked, ending = Parked[None](), Ending()

        async def call() -> None:
            try:
                await parked
            except OSError as error:
                raise ValueError("wrapped") from error

        start(call(), ending)
        parked.fail(OSError("reset"))
        [(_, error)] = ending.calls
        assert isinstance(error, ValueError) and isinstance(error.__cause__, OSError)

    run(main())


def test_an_ordinary_await_continues_as_a_task_and_may_park_again_afterwards(run: Any) -> None:
    async def main() -> None:
        first, second, ending = Parked[int](), Parked[int](), Ending()
        lock = asyncio.Lock()
        await lock.acquire()

        async def call() -> int:
            one = await first
            async with lock:
                await asyncio.sleep(0)
                two = await second
                await asyncio.sleep(0.001)
            return one + two

        start(call(), ending)
        first.set(1)
        await asyncio.sleep(0.001)
        lock.release()
        await asyncio.sleep(0.001)
        second.set(2)
        await settled(lambda: ending.calls)
        assert ending.calls == [(3, None)]

    run(main())


def test_an_ordinary_task_may_await_a_parked_and_be_cancelled_there(run: Any) -> None:
    async def main() -> None:
        parked = Parked[str]()

        async def call() -> str:
            return await parked

        task = asyncio.create_task(call())
        await asyncio.sleep(0)
        parked.set("value")
        assert await task == "value"
        assert await parked == "value"

        never = Parked[str]()

        async def wait() -> str:
            return await never

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        never.set("too late")

    run(main())


@pytest.mark.parametrize("awaits", ["parked", "sleep", "task"])
def test_cancel_throws_into_the_wait_of_either_kind_and_cleaning_up_may_wait_again(
    run: Any, awaits: str
) -> None:
    async def main() -> None:
        parked, ending, cleaned = Parked[None](), Ending(), []

        async def call() -> None:
            try:
                if awaits == "task":
                    await asyncio.sleep(0)
                    await parked
                await (parked if awaits == "parked" else asyncio.sleep(60))
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                cleaned.append(True)
                raise

        driver = start(call(), ending)
        for _ in range(3 if awaits == "task" else 0):
            await asyncio.sleep(0)
        assert driver.cancel()
        for _ in range(6):
            await asyncio.sleep(0)
        assert cleaned == [True]
        [(_, error)] = ending.calls
        assert isinstance(error, asyncio.CancelledError)
        assert not driver.cancel()

    run(main())


def test_cancelled_before_the_task_takes_over_the_coroutine_still_hears_of_it(run: Any) -> None:
    async def main() -> None:
        ending, heard = Ending(), []
        other = asyncio.get_running_loop().create_future()

        async def call() -> None:
            try:
                await other
            finally:
                heard.append(True)

        driver = start(call(), ending)
        driver.cancel()  # in the same pass of the loop: the Task has not had its first step
        await settled(lambda: ending.calls)
        assert heard == [True] and other.cancelled()
        assert isinstance(ending.calls[0][1], asyncio.CancelledError)

    run(main())


def test_a_value_and_a_cancellation_at_once_resume_once(run: Any) -> None:
    async def main() -> None:
        parked, later, ending, steps = Parked[int](), Parked[int](), Ending(), []

        async def call() -> None:
            try:
                await parked
            except asyncio.CancelledError:
                steps.append("cancelled")
                steps.append(await later)

        driver = start(call(), ending)

        async def both() -> None:
            parked.set(1)  # queued: this driver runs
            driver.cancel()

        start(both())
        await asyncio.sleep(0)
        assert steps == ["cancelled"] and not ending.calls
        later.set(7)
        assert steps == ["cancelled", 7] and ending.calls == [(None, None)]

    run(main())


def test_asyncio_timeout_works_before_and_after_the_first_ordinary_await(run: Any) -> None:
    async def main() -> None:
        never, ending = Parked[None](), Ending()

        async def call() -> str:
            try:
                async with asyncio.timeout(0.005):
                    await never
            except TimeoutError:
                pass
            else:
                return "no timeout in the driver"
            await asyncio.sleep(0)
            try:
                async with asyncio.timeout(0.005):
                    await asyncio.sleep(60)
            except TimeoutError:
                return "both"
            return "no timeout in the task"

        driver = start(call(), ending)
        await settled(lambda: ending.calls)
        assert ending.calls == [("both", None)]
        assert driver.cancelling() == 0

    run(main())


def test_a_timeout_begun_as_a_driver_ends_as_a_task(run: Any) -> None:
    async def main() -> None:
        ending = Ending()

        async def call() -> str:
            try:
                async with asyncio.timeout(0.005), asyncio.timeout(60):
                    await asyncio.sleep(60)
            except TimeoutError:
                return "in time"
            return "never"

        start(call(), ending)
        await settled(lambda: ending.calls)
        assert ending.calls == [("in time", None)]

    run(main())


def test_ten_thousand_resumes_that_trigger_each_other_do_not_nest(run: Any) -> None:
    async def main() -> None:
        chain = [Parked[int]() for _ in range(10_000)]
        arrived = []

        async def link(at: int) -> None:
            value = await chain[at]
            if at + 1 < len(chain):
                chain[at + 1].set(value + 1)
            else:
                arrived.append(value)

        for at in range(len(chain)):
            start(link(at))
        chain[0].set(0)
        assert arrived == [9_999]

    run(main())


def test_context_variables_stay_with_their_call(run: Any) -> None:
    variable = contextvars.ContextVar("variable", default="outside")

    async def main() -> None:
        parked, seen = [Parked[None](), Parked[None]()], []

        async def call(at: int) -> None:
            variable.set(f"call {at}")
            await parked[at]
            seen.append(variable.get())
            await asyncio.sleep(0)
            seen.append(variable.get())

        start(call(0))
        start(call(1))
        parked[0].set(None)
        parked[1].set(None)
        assert variable.get() == "outside"
        await settled(lambda: len(seen) == 4)
        assert sorted(seen) == ["call 0", "call 0", "call 1", "call 1"]

    run(main())


def test_the_current_task_is_the_driver_inside_and_the_outer_task_again_outside(run: Any) -> None:
    async def main() -> None:
        outer, seen = asyncio.current_task(), []

        async def call() -> None:
            seen.append(asyncio.current_task())

        driver = start(call())
        assert seen == [driver] and isinstance(seen[0], Driver)
        assert asyncio.current_task() is outer

    run(main())


def test_a_failure_that_nobody_asked_about_goes_to_the_loop(run: Any) -> None:
    async def main() -> None:
        told: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, facts: told.append(facts["exception"]))

        async def call() -> None:
            raise ValueError("nobody listens")

        def broken(value: Any, error: BaseException | None) -> None:
            raise RuntimeError("on_done")

        start(call())
        start(asyncio.sleep(0, "x"), broken)
        await settled(lambda: len(told) == 2)
        assert [type(error) for error in told] == [ValueError, RuntimeError]

    run(main())


@given(st.lists(st.sampled_from(["parked", "set", "sleep", "lock", "raise"]), max_size=12))
def test_any_mix_of_waits_gives_what_a_task_gives(script: list[str]) -> None:
    async def call(lock: asyncio.Lock, log: list[str]) -> str:
        for at, step in enumerate(script):
            log.append(step)
            if step == "parked":
                parked = Parked[int]()
                asyncio.get_running_loop().call_soon(parked.set, at)
                assert await parked == at
            elif step == "set":
                parked = Parked[int]()
                parked.set(at)
                assert await parked == at
            elif step == "sleep":
                await asyncio.sleep(0)
            elif step == "lock":
                async with lock:
                    await asyncio.sleep(0)
            else:
                raise ValueError(at)
        return "end"

    async def main(driven: bool) -> tuple[Any, list[str]]:
        log: list[str] = []
        if not driven:
            return repr((await asyncio.gather(call(asyncio.Lock(), log), return_exceptions=True))[0]), log
        ending = Ending()
        start(call(asyncio.Lock(), log), ending)
        while not ending.calls:  # noqa: ASYNC110
            await asyncio.sleep(0)
        [(value, error)] = ending.calls
        return repr(error or value), log

    assert asyncio.run(main(True)) == asyncio.run(main(False))
