"""Waiting for events: a cancellation is never lost, whenever it comes."""

from __future__ import annotations

import asyncio

import pytest

from baimo.core.waiting import happened


def test_what_happens_in_time_is_said_and_what_does_not_as_well() -> None:
    async def run() -> tuple[bool, bool]:
        event = asyncio.Event()
        missed = await happened(event, 0.01)
        asyncio.get_running_loop().call_soon(event.set)
        return missed, await happened(event, 60.0)

    assert asyncio.run(run()) == (False, True)


@pytest.mark.parametrize("passes", range(5))
def test_a_cancellation_together_with_the_event_is_not_lost(passes: int) -> None:
    async def run() -> bool:
        event = asyncio.Event()
        waiting = asyncio.create_task(happened(event, 60.0))
        await asyncio.sleep(0)
        event.set()
        for _ in range(passes):
            await asyncio.sleep(0)
        cancelled = waiting.cancel()
        await asyncio.wait([waiting])
        return waiting.cancelled() == cancelled

    assert asyncio.run(run())
