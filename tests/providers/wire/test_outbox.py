"""Writes of one pass of the event loop."""

from __future__ import annotations

import asyncio
from typing import Any

from baimo.providers.wire.outbox import outbox


class Wire(asyncio.WriteTransport):
    """Keeps what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closed


def test_the_first_write_goes_at_once_and_the_others_in_order_at_the_end_of_the_pass() -> None:
    async def main() -> None:
        box, one, two = outbox(asyncio.get_running_loop()), Wire(), Wire()
        assert outbox(asyncio.get_running_loop()) is box
        box.write(one, b"1")
        box.write(two, b"2")
        box.later(lambda: one.write(b"later"))
        box.write(one, b"3")
        assert (one.written, two.written) == ([b"1"], [])
        await asyncio.sleep(0)
        assert (one.written, two.written) == ([b"1", b"later", b"3"], [b"2"])
        box.write(two, b"4")
        assert two.written == [b"2", b"4"]

    asyncio.run(main())


def test_flush_sends_everything_and_nothing_goes_to_a_connection_that_closes() -> None:
    async def main() -> None:
        box, one, two = outbox(asyncio.get_running_loop()), Wire(), Wire()
        box.write(one, b"1")
        box.write(one, b"2")
        box.write(two, b"lost")
        box.later(lambda: box.write(one, b"begins the next pass"))
        two.closed = True
        box.flush()
        assert one.written == [b"1", b"2", b"begins the next pass"] and not two.written
        await asyncio.sleep(0)
        assert len(one.written) == 3

    asyncio.run(main())


def test_a_write_that_fails_keeps_nothing_else_back() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        told: list[Any] = []
        loop.set_exception_handler(lambda _, facts: told.append(facts["exception"]))
        box, one = outbox(loop), Wire()
        box.write(one, b"1")
        box.later(lambda: [].pop())
        box.write(one, b"2")
        await asyncio.sleep(0)
        assert one.written == [b"1", b"2"] and isinstance(told[0], IndexError)

    asyncio.run(main())
