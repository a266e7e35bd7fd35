"""The gateway on the real books, the real connections, and a model's server on a socket."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from baimo.core.money import Price
from baimo.core.tenant import Key, Limit
from baimo.providers.pace import SystemClock
from baimo.providers.wire.parked import start
from baimo.providers.wire.pool import Pools
from baimo.settings import LedgerSettings, ServeSettings
from baimo.store.books import Books
from baimo.store.engine import Database
from baimo.store.entry import Entry
from baimo.store.ledger import Ledger
from tests.gateway.doubles import DONE, USAGE, House, RecordingReply, answer, asking, chunk, key, model

BODY = answer()
STREAM = chunk("a") + chunk("b") + chunk(finish="stop") + chunk(usage=USAGE) + DONE
PER_CALL = model(
    "acme/counted",
    price=Price(input_per_million=Decimal(0), output_per_million=Decimal(0), per_call=Decimal("0.01")),
)


class Server:
    """A model's server that answers well, or breaks off after so many bytes of a body."""

    def __init__(self) -> None:
        self.asked = 0
        self.breaks_after: int | None = None
        self.waits = 0.0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length:")[2].split()[0])
                streamed = b'"stream":true' in await reader.readexactly(length)
                self.asked += 1
                await asyncio.sleep(self.waits)
                body, kind = (STREAM, b"text/event-stream") if streamed else (BODY, b"application/json")
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n" % (kind, len(body))
                )
                writer.write(body[: self.breaks_after])
                if self.breaks_after is not None:
                    return
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()


class Place:
    """A gateway with everything real around it."""

    def __init__(self, server: Server, books: Books, house: House) -> None:
        self.server, self.books, self.house = server, books, house

    async def ask(
        self, body: Any = None, *, by: Key | None = None, reply: RecordingReply | None = None
    ) -> RecordingReply:
        """One call, driven as the server drives it: without a task of its own."""
        reply = reply or RecordingReply()
        done = asyncio.get_running_loop().create_future()
        call = self.house.call(body, reply=reply, key=by)
        start(
            self.house.gateway.serve(call), lambda result, error: done.cancelled() or done.set_result(error)
        )
        error = await done
        if error is not None:
            raise error
        return reply


@asynccontextmanager
async def place(tmp_path: Path, scheme: str = "http", **config: Any) -> AsyncIterator[Place]:
    server = Server()
    listening = await asyncio.start_server(server.connected, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    database = Database(str(tmp_path / "x.db"))
    books = Books(database, tmp_path / "journal", LedgerSettings(), SystemClock())
    await books.start()
    pool = Pools(ServeSettings())
    config["providers"] = {"acme": {"base_url": f"{scheme}://127.0.0.1:{port}/v1"}}
    try:
        yield Place(server, books, House(books=books, pool=pool, more_models=[PER_CALL], config=config))
    finally:
        await pool.aclose()
        await books.stop()
        listening.close()
        await listening.wait_closed()
        database.close()


def records(tmp_path: Path) -> list[Any]:
    database = Database(str(tmp_path / "x.db"))
    try:
        with database.reading() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM leases").scalar() == 0
            return list(connection.exec_driver_sql("SELECT * FROM records ORDER BY seq").mappings())
    finally:
        database.close()


@pytest.mark.parametrize("streamed", [False, True])
def test_of_two_hundred_clients_with_money_for_a_hundred_calls_a_hundred_are_served(
    tmp_path: Path, streamed: bool
) -> None:
    payer = key(Limit(counts="cost", amount=1_000_000), Limit(counts="concurrency", amount=20))

    async def race() -> tuple[Counter[int | None], int]:
        async with place(tmp_path) as here:
            body = asking("acme/counted", stream=streamed)
            replies = await asyncio.gather(*(here.ask(body, by=payer) for _ in range(200)))
            return Counter(reply.status for reply in replies), here.server.asked

    statuses, asked = asyncio.run(race())
    assert (statuses, asked) == (Counter({200: 100, 429: 100}), 100)
    kept = records(tmp_path)
    assert len(kept) == 100
    assert sum(row["cost_micros"] for row in kept) == 1_000_000
    assert {row["status"] for row in kept} == {"ok"}


def test_wherever_a_model_breaks_off_there_is_one_record(tmp_path: Path) -> None:
    positions = range(0, len(STREAM), 37)

    async def broken() -> list[RecordingReply]:
        async with place(tmp_path, serve={"breaker_failures": 10_000}) as here:
            replies = []
            for position in positions:
                here.server.breaks_after = position
                replies.append(
                    await here.ask(asking(stream=True), by=key(Limit(counts="cost", amount=10**9)))
                )
            return replies

    replies = asyncio.run(broken())
    kept = records(tmp_path)
    assert len(kept) == len(replies)
    for reply, row in zip(replies, kept, strict=True):
        assert row["http_status"] == reply.status
        if reply.status == 200 and reply.aborted:
            assert row["status"] != "ok"
            assert row["charged_micros"] >= 20
        assert row["cost_micros"] is not None or row["unsure"] == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_clients_that_leave_while_a_model_thinks_have_one_record_each(tmp_path: Path, scheme: str) -> None:
    connects = scheme == "http"  # this server never answers a TLS handshake

    async def leaving() -> None:
        async with place(tmp_path, scheme=scheme) as here:
            here.server.waits = 5
            ended: list[BaseException | None] = []
            replies = [RecordingReply() for _ in range(20)]
            calls = [here.house.call(reply=reply) for reply in replies]
            drivers = [
                start(here.house.gateway.serve(call), lambda result, error: ended.append(error))
                for call in calls
            ]
            await asyncio.sleep(0.05)
            for reply in replies:
                reply.gone = True
            for driver in drivers:
                driver.cancel()
            await asyncio.sleep(0.05)
            assert [type(error) for error in ended] == [asyncio.CancelledError] * 20
            assert here.house.gateway.in_flight == 0

    asyncio.run(leaving())
    kept = records(tmp_path)
    assert [(row["status"], row["http_status"]) for row in kept] == [("gateway.client_gone", 499)] * 20
    assert {(row["unsure"], row["cost_micros"]) for row in kept} == {(1, None) if connects else (0, 0)}
    assert {row["charged_micros"] > 0 for row in kept} == {connects}


def test_a_record_of_the_books_is_the_entry_of_the_gateway(tmp_path: Path) -> None:
    seen: list[Entry] = []

    async def one() -> RecordingReply:
        async with place(tmp_path) as here:
            original = here.books.close
            here.books.close = lambda entry, charged=(): (seen.append(entry), original(entry, charged))[1]  # type: ignore[method-assign]
            return await here.ask(by=key(Limit(counts="requests", amount=5, window="day")))

    reply = asyncio.run(one())
    (row,) = records(tmp_path)
    (entry,) = seen
    for name in (
        "id",
        "model",
        "tokens_in",
        "cost_micros",
        "cost_rest",
        "price_in",
        "conversation",
        "began_ms",
        "limits",
    ):
        assert row[name] == getattr(entry, name)
    assert row["limits"] and not row["charges"]
    assert reply.headers["x-ratelimit-remaining-requests"] == "4"


def test_the_ledger_proves_the_limits_of_routes_within_routes(tmp_path: Path) -> None:
    limits = [{"counts": counts, "amount": 100_000, "window": "total"} for counts in ("requests", "tokens")]
    routes = {
        "inner": {"models": ["acme/one"], "limits": limits},
        "outer": {"models": ["inner"], "limits": limits},
    }

    async def asked() -> list[int | None]:
        async with place(tmp_path, routes=routes) as here:
            return [(await here.ask(asking(name))).status for name in ("outer", "inner", "outer")]

    assert asyncio.run(asked()) == [200, 200, 200]
    database = Database(str(tmp_path / "x.db"))
    try:
        assert not Ledger(database).verify().findings
        with database.reading() as connection:
            used = dict(connection.exec_driver_sql("SELECT bucket, used FROM meters").fetchall())
        assert (used["route:inner:requests:total:"], used["route:outer:requests:total:"]) == (3, 2)
        assert used["route:inner:tokens:total:"] * 2 == used["route:outer:tokens:total:"] * 3
    finally:
        database.close()
