from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from baimo.errors import Overloaded, UsageError
from baimo.server.admin.routes import STREAMS, Desk
from baimo.server.admin.streams import PIECE_BYTES, WAITING, Pieces
from tests.waiting import PATIENCE_S


class Client:
    """The ASGI side of an answer: keeps what is sent, and leaves when it is told to."""

    def __init__(self, leaves_after: int = 1 << 30) -> None:
        self.messages: list[dict[str, Any]] = []
        self._leaves_after = leaves_after

    async def send(self, message: dict[str, Any]) -> None:
        if len(self.messages) >= self._leaves_after:
            raise OSError("the client has left")
        self.messages.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)

    @property
    def complete(self) -> bool:
        last = self.messages[-1]
        return last["type"] == "http.response.body" and not last.get("more_body", False)


async def answered(work: Callable[[Pieces], None], client: Client, desk: Desk | None = None) -> None:
    response = await (desk or Desk()).stream(work, "application/jsonl", "a.jsonl")

    async def receive() -> Any:
        await asyncio.sleep(60)

    await response({"type": "http"}, receive, client.send)  # type: ignore[arg-type]


def test_everything_that_is_written_is_sent_in_order() -> None:
    client = Client()
    lines = [f"{at:09d}\n" for at in range(40_000)]

    def work(pieces: Pieces) -> None:
        for line in lines:
            pieces.write(line)

    asyncio.run(answered(work, client))
    assert client.body == "".join(lines).encode()
    assert client.complete


def test_nothing_written_is_an_empty_answer() -> None:
    client = Client()
    asyncio.run(answered(lambda pieces: None, client))
    assert (client.body, client.complete) == (b"", True)


def test_a_failure_before_the_first_piece_is_a_refusal() -> None:
    def work(pieces: Pieces) -> None:
        raise UsageError("admin.no_json")

    async def refused() -> None:
        desk = Desk()
        for _ in range(STREAMS + 1):  # none of them is counted as under way afterwards
            with pytest.raises(UsageError):
                await desk.stream(work, "text/csv", "a.csv")

    asyncio.run(refused())


def test_a_failure_half_way_never_looks_complete() -> None:
    client = Client()

    def work(pieces: Pieces) -> None:
        pieces.write("a line\n")
        pieces.flush()
        raise UsageError("admin.no_json")

    with pytest.raises(UsageError):
        asyncio.run(answered(work, client))
    assert client.body == b"a line\n"
    assert not client.complete


def test_a_thread_does_not_go_on_for_a_client_that_has_left() -> None:
    written = 0
    ended = threading.Event()

    def work(pieces: Pieces) -> None:
        nonlocal written
        try:
            while True:
                pieces.write("x" * PIECE_BYTES)
                written += 1
        finally:
            ended.set()

    asyncio.run(answered(work, Client(leaves_after=3)))
    assert ended.wait(PATIENCE_S)
    assert written <= 3 + WAITING + 2


def test_a_thread_waits_for_a_client_that_reads_slowly() -> None:
    written = 0

    def work(pieces: Pieces) -> None:
        nonlocal written
        for _ in range(50):
            pieces.write("x" * PIECE_BYTES)
            written += 1

    async def slowly() -> int:
        desk = Desk()
        await desk.stream(work, "text/csv", "a.csv")
        before = -1
        while before != written:  # until it does not come any further
            before = written
            await asyncio.sleep(0.1)
        return written

    assert asyncio.run(slowly()) <= WAITING + 2


def test_only_so_many_streams_run_at_once() -> None:
    async def many() -> None:
        desk, go_on = Desk(), threading.Event()

        def work(pieces: Pieces) -> None:
            pieces.write("first\n")
            pieces.flush()
            go_on.wait(PATIENCE_S)

        open_ones = [await desk.stream(work, "text/csv", "a.csv") for _ in range(STREAMS)]
        with pytest.raises(Overloaded) as caught:
            await desk.stream(work, "text/csv", "a.csv")
        assert caught.value.retry_after_s
        go_on.set()
        for one in open_ones:
            await one({"type": "http"}, None, Client().send)  # type: ignore[arg-type]
        await answered(work, Client(), desk)

    asyncio.run(many())
