"""What clients must not get away with: smuggling, endless heads and bodies, silence, too many connections."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from baimo.errors import ConfigError
from baimo.server.exchange import Exchange, Hot
from baimo.server.lanes import Lanes
from baimo.settings import ServeSettings
from tests.server.lane_house import H2C, house, post
from tests.waiting import PATIENCE_S, settled

Run = Callable[[Coroutine[Any, Any, Any]], Any]
HOT = (b"POST", b"/hot")
START = b"POST /hot HTTP/1.1\r\nHost: test\r\n"


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def runner(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=request.param) as under:
            return under.run(asyncio.wait_for(coroutine, PATIENCE_S))

    return runner


class Counting:
    """A handler that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, call: Exchange) -> None:
        self.calls += 1
        call.whole(200, b"", call.body)


def status_of(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\nconnection: close" in head and b"\r\nserver: baimo" in head
    error = json.loads(body)["error"]
    assert error["message"] and error["type"]
    return int(head.split(b" ")[1]), error["code"]


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (START + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400, "not_http")),
        (START + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", (400, "not_http")),
        (START + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nbody", (400, "not_http")),
        (START + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nbody!", (400, "not_http")),
        (START + b"Content-Length: 4, 4\r\n\r\nbody", (400, "not_http")),
        (START + b"Content-Length: +4\r\n\r\nbody", (400, "not_http")),
        (START + b"Content-Length: -1\r\n\r\n", (400, "not_http")),
        (START + b"Content-Length: 0x4\r\n\r\nbody", (400, "not_http")),
        (START + b"Content-Length: 99999999999999999999999\r\n\r\n", (400, "not_http")),
        (START + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n", (400, "not_http")),
        (START + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n", (400, "not_http")),
        (START + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", (400, "not_http")),
        (START + b"Transfer-Encoding: chunked\r\n\r\n4\r\nbodyX\r\n0\r\n\r\n", (400, "not_http")),
        (START + b"Transfer-Encoding: chunked\r\n\r\n4\nbody\n0\n\n", (400, "not_http")),
        (START + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", (501, "coding")),
        (START + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n", (501, "coding")),
        (
            START + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
            (400, "not_http"),
        ),
        (b"POST /hot HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (501, "coding")),
        (START + b"X: a\r\n folded\r\n\r\n", (400, "not_http")),
        (START + b"X : a\r\n\r\n", (400, "not_http")),
        (START + b"X: a\x00b\r\n\r\n", (400, "not_http")),
        (START + b"X: a\rb: c\r\n\r\n", (400, "not_http")),
        (b"POST /hot HTTP/1.1\nHost: test\n\n", (400, "not_http")),
        (b"POST /hot HTTP/1.1\r\nContent-Length: 0\r\n\r\n", (400, "host")),
        (START + b"Host: other\r\nContent-Length: 0\r\n\r\n", (400, "host")),
        (b"POST hot HTTP/1.1\r\nHost: test\r\n\r\n", (400, "not_http")),
        (b"POST http://evil/hot HTTP/1.1\r\nHost: test\r\n\r\n", (400, "target")),
        (b"BREW /hot HTTP/1.1\r\nHost: test\r\n\r\n", (400, "not_http")),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", (400, "not_http")),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, "not_http")),
        (b"GET / HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", (501, "upgrade")),
        (b"GET / HTTP/1.1\r\nHost: t\r\n" + H2C + b"Upgrade: websocket\r\n\r\n", (501, "upgrade")),
        (b"CONNECT evil:443 HTTP/1.1\r\nHost: evil\r\n\r\n", (501, "upgrade")),
        (b"CONNECT evil:443 HTTP/1.1\r\nHost: evil\r\n" + H2C + b"\r\n", (501, "upgrade")),
        (START + b"Expect: 200-maybe\r\nContent-Length: 0\r\n\r\n", (417, "expectation")),
        (START + b"Content-Length: 1048577\r\n\r\n", (413, "long_body")),
        (START + b"x: y\r\n" * 201 + b"\r\n", (431, "many_headers")),
    ],
)
def test_what_two_parsers_could_read_differently_is_refused_and_no_handler_hears_of_it(
    run: Run, wire: bytes, expected: tuple[int, str]
) -> None:
    handler = Counting()

    async def main() -> None:
        async with house({HOT: handler}, max_body_mib=1) as at:
            assert status_of(await at.exchange(wire + post(b"smuggled"))) == expected
            assert status_of(await at.exchange(wire)) == expected
        assert handler.calls == 0

    run(main())


@pytest.mark.parametrize("path", [b"/hot", b"/cold"])
@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_that_is_too_long_gets_its_answer_and_is_not_read_to_its_end(
    run: Run, path: bytes, chunked: bool
) -> None:
    read = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal read
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            read += len(message["body"])

    async def main() -> None:
        handler = Counting()
        async with house({HOT: handler, (b"POST", b"/fine"): handler}, app, max_body_mib=1) as at:
            client = await at.client()
            framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 104857600"
            client.send(b"POST %s HTTP/1.1\r\nHost: t\r\n%s\r\n\r\n" % (path, framing))
            piece = b"10000\r\n" + b"x" * 65_536 + b"\r\n" if chunked else b"x" * 65_536
            for _ in range(64):
                client.send(piece)
                await asyncio.sleep(0)
            answer = await client.answer()
            assert answer.status == 413 and answer.headers["connection"] == "close"
            client.close()
            assert handler.calls == 0 and read <= 2 * 1024 * 1024
            assert b"200 OK" in await at.exchange(post(path=b"/fine", head=b"Connection: close\r\n"))

    run(main())


def test_a_body_in_tiny_chunks_takes_the_memory_of_its_bytes() -> None:
    lane: Any = SimpleNamespace(body_limit=10**6)
    call = Exchange(lane, Hot(Counting(), b"POST", b"/hot", b"", {}, True, True), "", "", 0.0)
    tiny, large = b"ab", b"x" * 5_000
    wire = [*[tiny] * 20_000, large, large, tiny, *[tiny] * 20_000]
    tracemalloc.start()
    try:
        assert all(call.take(bytes(bytearray(piece))) for piece in wire)
        assert tracemalloc.get_traced_memory()[0] < 200_000
    finally:
        tracemalloc.stop()
    call.body_ended()
    assert call.body == b"".join(wire) and isinstance(call.body, bytes)
    assert not Exchange(lane, call.hot, "", "", 0.0).take(b"x" * 1_000_001)


def test_an_endless_head_is_cut_off(run: Run) -> None:
    async def main() -> None:
        async with house({}) as at:
            assert status_of(await at.exchange(b"GET /" + b"a" * 100_000)) == (431, "long_head")
            client = await at.client()
            client.send(START)
            for _ in range(40):
                client.send(b"x: " + b"y" * 4_000 + b"\r\n")
                await asyncio.sleep(0)
            assert (await client.answer()).status == 431
            client.close()

    run(main())


@pytest.mark.parametrize("path", [b"/hot", b"/cold"])
@pytest.mark.parametrize("line", [b"x: " + b"y" * 4_000 + b"\r\n", b"x" * 4_000])
def test_endless_trailers_are_cut_off(run: Run, path: bytes, line: bytes) -> None:
    handler = Counting()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            pass

    async def main() -> None:
        async with house({HOT: handler}, app) as at:
            client = await at.client()
            client.send(b"POST %s HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n" % path)
            client.send(b"4\r\nbody\r\n0\r\n")
            for _ in range(40):
                client.send(line)
                await asyncio.sleep(0.001)
            answer = await client.answer()
            assert (answer.status, json.loads(answer.body)["error"]["code"]) == (431, "long_head")
            client.close()
        assert handler.calls == 0

    run(main())


def test_a_long_body_whose_framing_comes_apart_from_it_is_no_long_head(run: Run) -> None:
    async def main() -> None:
        async with house({HOT: Counting()}) as at:
            client = await at.client()
            client.send(START + b"Transfer-Encoding: chunked\r\n\r\n")
            for _ in range(60):
                client.send(b"1;" + b"x" * 2_000 + b"\r\n")
                await asyncio.sleep(0.001)
                client.send(b"a\r\n")
                await asyncio.sleep(0.001)
            client.send(b"0\r\nx: y\r\n\r\n")
            assert (await client.answer()).body == b"a" * 60
            client.close()

    run(main())


def test_slow_heads_and_bodies_time_out_and_one_who_never_speaks_is_dropped(run: Run) -> None:
    handler = Counting()

    async def main() -> None:
        async with house({HOT: handler}, header_timeout_s=0.4, body_timeout_s=0.4) as at:
            silent, dripping, half = await at.client(), await at.client(), await at.client()
            half.send(START + b"Content-Length: 10\r\n\r\nhalf")

            async def drip() -> None:
                for byte in START:
                    dripping.send(bytes([byte]))
                    await asyncio.sleep(0.03)

            dripper = asyncio.create_task(drip())
            slow_head, slow_body = await dripping.answer(), await half.answer()
            assert (slow_head.status, json.loads(slow_head.body)["error"]["code"]) == (408, "slow_head")
            assert (slow_body.status, json.loads(slow_body.body)["error"]["code"]) == (408, "slow_body")
            assert await silent.reader.read() == b""
            dripper.cancel()
            await asyncio.gather(dripper, return_exceptions=True)
            for client in (silent, dripping, half):
                client.close()
            await settled(lambda: not at.server.server_state.connections)
        assert handler.calls == 0

    run(main())


def test_a_resting_connection_is_closed_after_its_time_and_a_call_in_flight_is_not(run: Run) -> None:
    async def slow(call: Exchange) -> None:
        await asyncio.sleep(0.8)
        call.whole(200, b"", b"late")

    async def main() -> None:
        async with house({HOT: slow}, idle_timeout_s=0.2, header_timeout_s=0.2, body_timeout_s=0.2) as at:
            client = await at.client()
            client.send(post())
            assert (await client.answer()).body == b"late"
            assert await asyncio.wait_for(client.reader.read(), 5) == b""
            client.close()

    run(main())


def test_connections_beyond_the_limit_are_told_so_and_the_others_go_on(run: Run) -> None:
    async def main() -> None:
        async with house({HOT: Counting()}, max_connections=2) as at:
            first, second = await at.client(), await at.client()
            await settled(lambda: len(at.server.server_state.connections) == 2)
            third = await at.client()
            refused = await third.answer()
            assert refused.status == 503 and refused.headers["retry-after"] == "1"
            first.send(post(b"still here"))
            assert (await first.answer()).body == b"still here"
            for client in (first, second, third):
                client.close()

    run(main())


def test_a_refused_client_that_goes_on_sending_for_ever_is_reset(run: Run) -> None:
    async def main() -> None:
        async with house({HOT: Counting()}, max_body_mib=0.001) as at:
            client = await at.client()
            client.send(START + b"Transfer-Encoding: chunked\r\n\r\n")
            with pytest.raises(ConnectionError):
                for _ in range(2_000):
                    client.send(b"1000\r\n" + b"x" * 4_096 + b"\r\n")
                    await client.writer.drain()
                    await asyncio.sleep(0.005)
            client.close()

    run(main())


def test_a_client_that_waits_for_100_continue_gets_it_once_and_only_if_its_body_is_wanted(run: Run) -> None:
    async def main() -> None:
        async with house({HOT: Counting()}, max_body_mib=1) as at:
            client = await at.client()
            client.send(START + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n")
            assert (await client.answer()).status == 100
            client.send(b"body")
            assert (await client.answer()).body == b"body"
            client.send(START + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n")
            assert (await client.answer()).status == 413
            client.close()

    run(main())


def test_100_continue_comes_when_it_is_the_requests_turn_and_not_to_http_1_0(run: Run) -> None:
    async def slow(call: Exchange) -> None:
        await asyncio.sleep(0.8)
        call.whole(200, b"", b"slow")

    async def main() -> None:
        waiting = START + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n"
        routes = {HOT: Counting(), (b"POST", b"/slow"): slow}
        async with house(routes, body_timeout_s=0.2) as at:
            for pieces in ([post(path=b"/slow") + waiting], [post(path=b"/slow"), waiting]):
                client = await at.client()
                for piece in pieces:
                    client.send(piece)
                    await asyncio.sleep(0.05)
                assert (await client.answer()).body == b"slow"
                assert (await client.answer()).status == 100
                client.send(b"body")
                assert (await client.answer()).body == b"body"
                client.send(post(b"more"))
                assert (await client.answer()).body == b"more"
                client.close()
            old = waiting.replace(b"HTTP/1.1", b"HTTP/1.0")
            assert (await at.exchange(old + b"body")).startswith(b"HTTP/1.1 200 ")
            assert b" 404 " in (await at.exchange(old.replace(b"/hot", b"/cold") + b"body")).splitlines()[0]
            client = await at.client()
            client.send(waiting + b"body" + START + b"Content-Length: 4\r\n\r\nbo")
            assert (await client.answer()).body == b"body"
            client.send(b"dy")
            assert (await client.answer()).body == b"body"
            client.close()

    run(main())


def test_a_long_pipeline_is_no_long_head(run: Run) -> None:
    async def main() -> None:
        one = b"GET /" + b"a" * 500 + b" HTTP/1.1\r\nHost: t\r\n\r\n"
        wire = one * 600
        async with house({HOT: Counting()}) as at:
            for size in (len(wire), 100_000, 5_000):  # most reads end within a head
                client = await at.client()
                for begin in range(0, len(wire), size):
                    client.send(wire[begin : begin + size])
                    await asyncio.sleep(0.002)
                assert {(await client.answer()).status for _ in range(600)} == {404}
                client.close()

    run(main())


def test_hundreds_of_silent_connections_cost_little_and_disturb_nobody(run: Run) -> None:
    async def main() -> None:
        async with house({HOT: Counting()}) as at:
            loop = asyncio.get_running_loop()
            silent = []
            for _ in range(400):
                transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", at.port)
                silent.append(transport)
            await settled(lambda: len(at.server.server_state.connections) == 400)
            client = await at.client()
            client.send(post(b"quick"))
            assert (await client.answer()).body == b"quick"
            client.close()
            for transport in silent:
                transport.abort()
            await settled(lambda: not at.server.server_state.connections)

    run(main())


@pytest.mark.parametrize("written", ["127.0.0.1/32", "::ffff:127.0.0.1"])
def test_a_proxy_is_trusted_also_where_the_socket_names_it_by_a_mapped_address(written: str) -> None:
    lanes = Lanes({}, ServeSettings(trusted_proxies=[written]))
    assert lanes.trusted("::ffff:127.0.0.1") and lanes.trusted("127.0.0.1")
    assert not lanes.trusted("::ffff:127.0.0.2") and not lanes.trusted("")
    for chain in (b"6.6.6.6, 9.9.9.9, ::ffff:127.0.0.1", b"::ffff:9.9.9.9", b"[::ffff:9.9.9.9]:80"):
        assert lanes.forwarded("::ffff:127.0.0.1", chain) == "9.9.9.9"


def test_a_trusted_proxy_that_is_no_network_is_a_mistake_in_the_settings() -> None:
    with pytest.raises(ConfigError, match="nonsense"):
        Lanes({}, ServeSettings(trusted_proxies=["nonsense"]))
