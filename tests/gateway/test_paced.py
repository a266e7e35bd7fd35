"""What `[providers.NAME]` says of calls at once and per minute holds for every call that a client makes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from baimo.errors import Unreachable
from baimo.gateway.assembly import assembled
from baimo.providers.wire.parked import start
from baimo.server.surfaces.embeddings import Embeddings
from baimo.server.surfaces.messages import Messages
from baimo.settings import Settings
from tests.gateway.doubles import (
    House,
    RecordingReply,
    Script,
    ScriptedExchange,
    ScriptedPool,
    ScriptedProvider,
    answer,
    asking,
    completion,
    stream,
)


class SlowPool(ScriptedPool):
    """Counts how many are asked at once, until their answers have ended; each head comes when it is let go."""

    def __init__(self, *scripts: Script) -> None:
        super().__init__(*scripts)
        self.under_way = self.most = 0
        self.go, self.crowded = asyncio.Event(), asyncio.Event()

    async def send(self, *given: Any, **more: Any) -> ScriptedExchange:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        if self.most > 1:
            self.crowded.set()
        try:
            await self.go.wait()
            exchange = await super().send(*given, **more)
        except BaseException:
            self.under_way -= 1
            raise
        close, closed = exchange.close, False

        def ended() -> None:
            nonlocal closed
            self.under_way -= not closed
            closed = True
            close()

        whole, pieces = exchange.whole, exchange.pieces

        async def read(limit_bytes: int) -> bytes:
            try:
                return await whole(limit_bytes)
            finally:
                ended()

        async def poured() -> AsyncIterator[bytes]:
            async for piece in pieces():
                yield piece

        exchange.whole, exchange.pieces, exchange.close = read, poured, ended  # type: ignore[method-assign]
        return exchange


def paced(pool: Any = None, wait_s: float = 30.0, **more: Any) -> House:
    limits = {"base_url": "http://127.0.0.1:9/v1", **more.pop("limits", {"concurrency": 2})}
    config = {"providers": {"acme": limits}, "serve": {"limit_wait_s": wait_s}, **more.pop("config", {})}
    given = {} if pool is None else {"pool": pool}
    return House(Script(body=answer()), config=config, **given, **more)


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("streamed", [False, True])
def test_calls_that_are_passed_through_wait_for_a_place(streamed: bool) -> None:
    async def scene() -> None:
        pool = SlowPool(stream("a", "b") if streamed else Script(body=answer()))
        house = paced(pool)
        calls = [house.call(asking(stream=streamed)) for _ in range(9)]
        asked = [asyncio.create_task(house.gateway.serve(call)) for call in calls]
        await settled()
        assert (pool.under_way, house.gateway.in_flight) == (2, 9)
        pool.go.set()
        await asyncio.gather(*asked)
        assert (pool.most, pool.under_way) == (2, 0)
        assert [call.reply.status for call in calls] == [200] * 9  # type: ignore[attr-defined]
        house.books.settled()
        waits = sorted(one.queue_ms for one in house.books.records)
        assert waits[:2] == [0, 0] and all(wait > 0 for wait in waits[2:])
        for record in house.books.records:
            assert record.attempts == 1
            assert record.queue_ms < record.latency_ms

    asyncio.run(scene())


def test_a_wait_that_was_in_vain_is_a_rate_limit_and_costs_nothing() -> None:
    async def scene() -> None:
        pool = SlowPool(Script(body=answer()))
        house = paced(pool, wait_s=0.05, limits={"concurrency": 1})
        first = asyncio.create_task(house.gateway.serve(house.call()))
        await settled()
        reply = RecordingReply()
        await house.gateway.serve(house.call(reply=reply))
        assert (reply.status, reply.headers["retry-after"]) == (429, "1")
        assert reply.json["error"]["type"] == "rate_limit_error"
        assert "acme" in reply.json["error"]["message"]
        reply = RecordingReply()
        words = {"model": "acme/one", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
        await house.gateway.serve(house.call(words, surface=Messages(), reply=reply))
        assert (reply.status, reply.json["error"]["type"]) == (429, "rate_limit_error")
        assert float(reply.headers["x-baimo-overhead-ms"]) < 50, "the wait is not the gateway's own time"
        pool.go.set()
        await first
        house.books.settled()
        refused = house.books.records[:2]
        assert {one.status for one in refused} == {"gateway.held_concurrency"}
        assert {(one.attempts, one.unsure, one.cost_micros) for one in refused} == {(0, 0, 0)}
        assert all(one.queue_ms >= 45 for one in refused)

    asyncio.run(scene())


def test_a_rate_of_requests_or_tokens_refuses_with_the_time_when_the_next_one_may_go() -> None:
    seconds = [1000.0]
    for limits, key in (
        ({"requests_per_minute": 2}, "gateway.held_requests"),
        ({"tokens_per_minute": 40}, "gateway.held_tokens"),  # each takes 15, as its answer says
    ):
        house = paced(limits=limits, now=lambda: seconds[0])
        for _ in range(2):
            assert house.ask(asking(max_tokens=4)).status == 200
        seconds[0] += 20
        reply = house.ask(asking(max_tokens=4))
        assert (reply.status, reply.headers["retry-after"]) == (429, "40")
        assert house.books.records[-1].status == key
        seconds[0] += 40
        assert house.ask(asking(max_tokens=4)).status == 200


def test_where_a_fallback_can_take_the_call_it_does_not_wait() -> None:
    async def scene() -> None:
        pool = SlowPool(Script(body=answer()))
        pool.by_model = {"three": Script(body=answer("fell back")), "one": Script(body=answer())}
        route = {"routes": {"best": {"models": ["acme/one", "bolt/three"]}}}
        house = paced(pool, limits={"concurrency": 1}, config=route)
        held = asyncio.create_task(house.gateway.serve(house.call(asking("best"))))
        await settled()
        reply = RecordingReply()
        other = asyncio.create_task(house.gateway.serve(house.call(asking("best"), reply=reply)))
        await settled()
        assert pool.under_way == 2
        pool.go.set()
        await asyncio.gather(held, other)
        assert reply.json["choices"][0]["message"]["content"] == "fell back"
        found = {one.model: one for one in house.books.records}
        assert found["bolt/three"].route == "fallback:rate_limit"
        house.books.settled()

    asyncio.run(scene())


def test_a_call_waits_where_its_fallbacks_are_not_for_rate_limits() -> None:
    async def scene() -> None:
        pool = SlowPool(Script(body=answer()))
        route = {"routes": {"best": {"models": ["acme/one", "bolt/three"], "fallback_on": ["error"]}}}
        house = paced(pool, limits={"concurrency": 1}, config=route)
        asked = [asyncio.create_task(house.gateway.serve(house.call(asking("best")))) for _ in range(3)]
        await settled()
        assert pool.under_way == 1
        pool.go.set()
        await asyncio.gather(*asked)
        assert {one.model for one in house.books.records} == {"acme/one"}

    asyncio.run(scene())


@pytest.mark.parametrize("driven", ["task", "driver"])
def test_clients_that_leave_while_they_wait_leave_nothing_behind(driven: str) -> None:
    async def scene() -> None:
        pool = SlowPool(Script(body=answer()))
        house = paced(pool, limits={"concurrency": 1})
        ended: list[BaseException | None] = []

        replies = [RecordingReply() for _ in range(6)]

        def begun(reply: RecordingReply) -> Any:
            serving = house.gateway.serve(house.call(reply=reply))
            if driven == "task":
                return asyncio.create_task(serving)
            return start(serving, lambda _, error: ended.append(error))

        first, *line = [begun(reply) for reply in replies]
        await settled()
        for reply in replies[:5]:
            reply.gone = True
        for one in line[:4]:
            one.cancel()
        await settled()
        first.cancel()
        await settled()
        assert pool.under_way == 1, "the last in line has the place"
        pool.go.set()
        await settled()
        assert not house.gateway.in_flight
        assert [one.status for one in house.books.records] == ["gateway.client_gone"] * 5 + ["ok"]
        assert [one.unsure for one in house.books.records] == [0] * 4 + [1, 0]
        assert [one.charged_micros for one in house.books.records[:4]] == [0] * 4
        assert [one.cost_micros for one in house.books.records] == [0] * 4 + [None, 20]
        house.books.settled()
        assert not any(house.gateway.waited_for.values())

    asyncio.run(scene())


def test_a_stream_that_is_left_or_breaks_gives_its_place_back() -> None:
    broken = stream("a")
    broken.pieces = [
        *broken.pieces[:1],
        Unreachable("wire.closed", stage="body", sent=True, host="h", problem="x"),
    ]

    async def scene() -> None:
        pool = ScriptedPool(broken)
        house = paced(pool, wait_s=0.0, limits={"concurrency": 1})
        for _ in range(3):
            reply = RecordingReply()
            await house.gateway.serve(house.call(asking(stream=True), reply=reply))
            assert (reply.status, reply.aborted) == (200, True)
        pool.scripts = [stream(*"abcdefgh")]
        for _ in range(3):
            leaving = asyncio.create_task(
                house.gateway.serve(house.call(asking(stream=True), reply=RecordingReply(slow=True)))
            )
            for _ in range(6):
                await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
        pool.scripts = [Script(body=answer())]
        await house.gateway.serve(house.call())
        assert house.books.records[-1].status == "ok"

    asyncio.run(scene())


class SlowProvider(ScriptedProvider):
    """Answers when it is let go."""

    def __init__(self, *outcomes: Any) -> None:
        super().__init__(*outcomes)
        self.go = asyncio.Event()

    async def complete(self, request: Any) -> Any:
        answered = await super().complete(request)
        await self.go.wait()
        return answered


def test_translated_and_passed_calls_share_the_places() -> None:
    async def scene() -> None:
        pool, provider = SlowPool(Script(body=answer())), SlowProvider(completion())
        house = paced(pool, providers={"acme": provider})
        words = {"model": "acme/one", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
        calls = [house.call(words, surface=Messages()), house.call(), house.call(words, surface=Messages())]
        asked = [asyncio.create_task(house.gateway.serve(call)) for call in calls]
        await settled()
        assert (len(provider.asked), pool.under_way) == (1, 1)
        pool.go.set()
        await settled()
        assert (len(provider.asked), pool.under_way) == (2, 0)
        provider.go.set()
        await asyncio.gather(*asked)
        assert [call.reply.status for call in calls] == [200] * 3  # type: ignore[attr-defined]

    asyncio.run(scene())


def test_several_answers_that_are_asked_for_one_by_one_take_a_place_each() -> None:
    async def scene() -> None:
        provider = SlowProvider(completion())
        config = {"providers": {"home": {"protocol": "fake", "concurrency": 3}}, "serve": {"limit_wait_s": 0}}
        house = paced(providers={"home": provider}, config=config)
        calls = [house.call(asking("home/small", n=2)) for _ in range(2)]
        asked = [asyncio.create_task(house.gateway.serve(call)) for call in calls]
        await settled()
        assert len(provider.asked) == 2
        provider.go.set()
        await asyncio.gather(*asked)
        assert [call.reply.status for call in calls] == [200, 429]  # type: ignore[attr-defined]

    asyncio.run(scene())


def test_a_hedge_asks_the_other_while_the_first_waits_for_its_place() -> None:
    async def scene() -> None:
        pool = SlowPool(Script(body=answer()))
        pool.by_model = {"three": Script(body=answer("hedged")), "one": Script(body=answer())}
        route = {
            "models": ["acme/one", "bolt/three"],
            "hedge_after_ms": 5,
            "fallback_on": ["error"],
        }
        house = paced(pool, limits={"concurrency": 1}, config={"routes": {"best": route}})
        held = asyncio.create_task(house.gateway.serve(house.call()))
        await settled()
        reply = RecordingReply()
        other = asyncio.create_task(house.gateway.serve(house.call(asking("best"), reply=reply)))
        await pool.crowded.wait()
        pool.go.set()
        await asyncio.gather(held, other)
        house.books.settled()
        record = next(one for one in house.books.records if one.asked == "best")
        if record.route == "hedge":  # else the first one got its place before the other answered
            assert reply.json["choices"][0]["message"]["content"] == "hedged"
        assert record.attempts <= 2
        assert 0 <= float(reply.headers["x-baimo-overhead-ms"]) <= record.latency_ms

    asyncio.run(scene())


def test_a_server_that_is_left_alone_uses_up_no_places_and_nobody_waits_for_it() -> None:
    seconds = [1000.0]
    refusing = Script(error=Unreachable("wire.refused", stage="connect", sent=False, host="h", problem="x"))
    house = paced(
        ScriptedPool(refusing),
        limits={"requests_per_minute": 6},
        config={"serve": {"breaker_failures": 2, "retries": 0}},
        now=lambda: seconds[0],
    )
    assert [house.ask().status for _ in range(20)] == [502] * 2 + [503] * 18
    seconds[0] += 31
    house.outside.pool.scripts = [Script(body=answer())]  # type: ignore[attr-defined]
    assert [house.ask().status for _ in range(4)] == [200] * 4


def test_what_is_under_way_counts_when_the_settings_change() -> None:
    async def scene() -> None:
        pool = SlowPool(Script(body=answer()))
        house = paced(pool)
        asked = [asyncio.create_task(house.gateway.serve(house.call())) for _ in range(5)]
        await settled()
        config = {"providers": {"acme": {"base_url": "http://127.0.0.1:9/v1", "concurrency": 3}}}
        house.gateway.adopt(assembled(msgspec.convert(config, Settings), house.outside))
        asked.append(asyncio.create_task(house.gateway.serve(house.call())))
        await settled()
        assert pool.under_way == 3
        house.gateway.adopt(assembled(Settings(), house.outside))
        asked.append(asyncio.create_task(house.gateway.serve(house.call())))
        await settled()
        assert pool.under_way == 4, "who comes now is not limited; who waits still is"
        pool.go.set()
        await asyncio.gather(*asked)
        assert {one.status for one in house.books.records} == {"ok"}

    asyncio.run(scene())


def test_without_a_number_of_the_users_own_nothing_waits() -> None:
    async def scene() -> None:
        pool = SlowPool(Script(body=answer()))
        house = paced(pool, limits={})
        asked = [asyncio.create_task(house.gateway.serve(house.call())) for _ in range(40)]
        await settled()
        assert pool.under_way == 40
        pool.go.set()
        await asyncio.gather(*asked)

    asyncio.run(scene())


def test_embeddings_are_estimated_without_an_answer() -> None:
    vectors = {"data": [], "usage": {"prompt_tokens": 4, "total_tokens": 4}, "model": "v"}
    house = paced(ScriptedPool(Script(body=msgspec.json.encode(vectors))), limits={"tokens_per_minute": 100})
    body = {"model": "acme/vectors", "input": "hello"}
    for _ in range(10):
        assert house.ask(body, surface=Embeddings()).status == 200
