"""Hot requests over real sockets: answers, streams, pipelines, disconnects, drain."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from baimo.gateway.answers import lines
from baimo.providers.wire.parked import Parked
from baimo.server.exchange import Exchange
from baimo.settings import ServeSettings
from tests.server.lane_house import H2C, Client, house, post
from tests.waiting import PATIENCE_S, settled

Run = Callable[[Coroutine[Any, Any, Any]], Any]
HOT = (b"POST", b"/hot")


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def runner(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=request.param) as under:
            return under.run(asyncio.wait_for(coroutine, PATIENCE_S))

    return runner


async def echo(call: Exchange) -> None:
    call.reply.whole(200, b"content-type: text/plain\r\n", call.body)


def test_a_whole_answer_has_its_length_and_the_standing_headers_and_the_connection_stays(run: Run) -> None:
    async def main() -> None:
        async with house({HOT: echo}) as at:
            client = await at.client()
            for body in (b"first", b"", b"x" * 200_000):
                client.send(post(body))
                answer = await client.answer()
                assert (answer.status, answer.body) == (200, body)
                assert answer.headers["server"] == "baimo" and answer.headers["date"].endswith("GMT")
                assert re.fullmatch(r"req_[0-9a-f]{20}", answer.headers["x-request-id"])
                assert "connection" not in answer.headers
            client.close()

    run(main())


def test_the_handler_sees_the_request(run: Run) -> None:
    seen: list[Exchange] = []

    async def handler(call: Exchange) -> None:
        seen.append(call)
        call.whole(204, b"", b"")

    async def main() -> None:
        async with house({HOT: handler}) as at:
            client = await at.client()
            head = b"X-Request-ID: mine-1\r\nX-Tag: a\r\nx-tag: b\r\n"
            client.send(post(b"body", path=b"/hot?beta=true", head=head))
            answer = await client.answer()
            assert answer.status == 204 and answer.headers["x-request-id"] == "mine-1"
            assert "content-length" not in answer.headers
            client.send(post(head=b"X-Request-Id: not safe\x80\r\n"))
            assert (await client.answer()).headers["x-request-id"].startswith("req_")
            client.close()
        call = seen[0]
        assert (call.method, call.path, call.query, call.body) == (b"POST", b"/hot", b"beta=true", b"body")
        assert call.headers[b"x-tag"] == b"a, b" and call.peer == "127.0.0.1" and call.request_id == "mine-1"

    run(main())


def test_blanks_around_a_value_are_not_part_of_it(run: Run) -> None:
    async def handler(call: Exchange) -> None:
        call.whole(200, b"", b"|".join([call.headers[b"x-tag"], call.headers[b"x-none"], call.body]))

    async def main() -> None:
        async with house({HOT: handler}) as at:
            client = await at.client()
            head = b"Transfer-Encoding: chunked \r\nX-Tag: \t a b \t\r\nX-None: \t\r\n"
            client.send(b"POST /hot HTTP/1.1\r\nHost: t\r\n%s\r\n4\r\nbody\r\n0\r\n\r\n" % head)
            assert (await client.answer()).body == b"a b||body"
            client.close()

    run(main())


async def told(scope: Any, receive: Any, send: Any) -> None:
    body = (await receive())["body"]
    names = [name for name, _ in scope["headers"]]
    assert b"upgrade" not in names and b"http2-settings" not in names and b"connection" not in names
    said = scope["method"].encode() + b" " + scope["raw_path"] + b" " + body
    head = [(b"content-length", b"%d" % len(said))]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": said})


def test_who_would_rather_speak_http_2_is_answered_in_http_1_1_and_each_byte_is_read_once(run: Run) -> None:
    chunks = b"Transfer-Encoding: chunked\r\n\r\n3\r\nGET\r\n2\r\n /\r\n0\r\nx-trailer: 1\r\n\r\n"
    requests = {
        post(b"GET / HTTP/1.1\r\n\r\n", head=H2C): b"GET / HTTP/1.1\r\n\r\n",
        b"GET /cold?a=1 HTTP/1.1\r\nHost: t\r\n" + H2C + b"\r\n": b"GET /cold ",
        b"POST /hot HTTP/1.1\r\nHost: t\r\n" + H2C + chunks: b"GET /",
        post(b"cold", path=b"/cold", head=H2C.lower()): b"POST /cold cold",
        post(b"", head=H2C): b"",
        post(b"plain"): b"plain",
    }
    wire = b"".join(requests)

    async def main() -> None:
        async with house({HOT: echo}, told) as at:
            for cut in range(len(wire)):
                client = await at.client()
                client.send(wire[:cut])
                await asyncio.sleep(0)
                client.send(wire[cut:])
                for said in requests.values():
                    answer = await client.answer()
                    assert (answer.status, answer.body) == (200, said) and "connection" not in answer.headers
                client.close()
            client = await at.client()
            for _ in range(3):  # known from the second on
                for data, said in requests.items():
                    client.send(data)
                    assert (await client.answer()).body == said
            client.send(post(b"last", head=H2C.replace(b"Upgrade,", b"close, Upgrade,")))
            assert (await client.answer()).headers["connection"] == "close"
            assert await client.reader.read() == b""
            client.close()
            many = await at.exchange(
                post(b"a", head=H2C) * 20 + post(b"b", head=H2C + b"Connection: close\r\n")
            )
            assert many.count(b" 200 OK\r\n") == 21

    run(main())


def test_a_stream_is_chunked_and_leaves_as_it_is_written(run: Run) -> None:
    go_on: list[Parked[None]] = []

    async def handler(call: Exchange) -> None:
        call.start(200, b"content-type: text/event-stream\r\n")
        call.write(b"data: 1\n\n")
        call.write(b"")
        call.write(b"data: 2\n\n")
        go_on.append(Parked())
        await go_on[-1]
        call.write(b"data: 3\n\n")
        await asyncio.sleep(0)
        call.write(b"data: 4\n\n")
        call.end()

    async def main() -> None:
        async with house({HOT: handler}) as at:
            client = await at.client()
            for turn in range(2):
                client.send(post())
                head = await client.reader.readuntil(b"\r\n\r\n")
                assert b"transfer-encoding: chunked\r\n" in head and b"content-length" not in head
                early = await client.reader.readexactly(28)
                assert early == b"9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n\r\n"
                go_on[turn].set(None)
                rest = await client.reader.readuntil(b"0\r\n\r\n")
                assert rest == b"9\r\ndata: 3\n\n\r\n9\r\ndata: 4\n\n\r\n0\r\n\r\n"
            client.close()

    run(main())


def test_http_1_0_gets_a_stream_that_ends_with_the_connection(run: Run) -> None:
    async def handler(call: Exchange) -> None:
        call.start(200, b"")
        call.write(b"old ")
        call.write(b"client")
        call.end()

    async def main() -> None:
        async with house({HOT: handler}) as at:
            head = b"POST /hot HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n"
            answer = await at.exchange(head)
            assert answer.endswith(b"\r\n\r\nold client") and b"chunked" not in answer
            assert b"connection: close\r\n" in answer

    run(main())


@pytest.mark.parametrize("path", [b"/hot", b"/cold"])
def test_http_1_0_is_told_that_its_connection_ends_and_it_does(run: Run, path: bytes) -> None:
    async def main() -> None:
        async with house({HOT: echo}) as at:
            head = b"POST %s HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n" % path
            assert b"\r\nconnection: close\r\n" in await at.exchange(head)

    run(main())


def test_a_handler_that_fails_answers_500_and_says_where_but_not_what(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(call: Exchange) -> None:
        raise ValueError("canary-secret")

    async def forgets(call: Exchange) -> None:
        await asyncio.sleep(0)

    async def halfway(call: Exchange) -> None:
        call.start(200, b"")
        call.write(b"half")
        raise ValueError("canary-secret")

    async def main() -> None:
        routes = {HOT: fails, (b"POST", b"/forgets"): forgets, (b"POST", b"/halfway"): halfway}
        async with house(routes) as at:
            for path in (b"/hot", b"/forgets"):
                answer = await at.exchange(post(path=path))
                assert answer.startswith(b"HTTP/1.1 500 ") and b'"internal"' in answer
                assert b"connection: close" in answer
            broken = await at.exchange(post(path=b"/halfway"))
            assert b"half" in broken and not broken.endswith(b"0\r\n\r\n")

    with caplog.at_level(logging.ERROR, logger="baimo.server"):
        run(main())
    assert "ValueError at" in caplog.text and "canary-secret" not in caplog.text


def test_a_stream_that_is_aborted_does_not_look_complete_and_its_handler_goes_on(run: Run) -> None:
    settled_after: list[bool] = []

    async def handler(call: Exchange) -> None:
        call.start(200, b"")
        call.write(b"half")
        await asyncio.sleep(0.01)
        call.abort()
        await asyncio.sleep(0.02)
        settled_after.append(True)

    async def main() -> None:
        async with house({HOT: handler}) as at:
            client = await at.client()
            client.send(post())
            data = b""
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                while True:
                    piece = await client.reader.read(1000)
                    data += piece
                    if not piece:
                        raise ConnectionError
            assert b"half" in data and b"0\r\n\r\n" not in data.partition(b"\r\n\r\n")[2]
            client.close()
        assert settled_after == [True]  # uvicorn waits for it even though the connection is gone

    run(main())


def test_pipelined_requests_are_answered_in_order_whatever_takes_longer(run: Run) -> None:
    running, most = 0, 0

    async def handler(call: Exchange) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02 if call.body in (b"0", b"3") else 0)
        running -= 1
        call.whole(200, b"", call.body)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"cold " + scope["path"].encode()})

    async def main() -> None:
        async with house({HOT: handler}, app) as at:
            client = await at.client()
            cold = b"GET /cold HTTP/1.1\r\nHost: test\r\n\r\n"
            client.send(b"".join([post(b"0"), post(b"1"), cold, post(b"2"), post(b"3"), cold]))
            bodies = [(await client.answer()).body for _ in range(6)]
            assert bodies == [b"0", b"1", b"cold /cold", b"2", b"3", b"cold /cold"] and most == 1
            client.close()

    run(main())


def test_a_thousand_pipelined_requests_neither_nest_nor_pile_up(run: Run) -> None:
    async def main() -> None:
        async with house({HOT: echo}) as at:
            client = await at.client()
            client.send(*[post(b"%d" % number) for number in range(1000)])
            assert [(await client.answer()).body for _ in range(1000)] == [
                b"%d" % number for number in range(1000)
            ]
            client.close()

    run(main())


@pytest.mark.parametrize("half", [post(b"last")[:-2], post(b"last")[:-4], post(b"last")[:-9]])
@pytest.mark.parametrize("path", [b"/hot", b"/cold"])
def test_a_client_that_was_paused_in_the_middle_of_a_request_is_read_again(
    run: Run, path: bytes, half: bytes
) -> None:
    async def slow(call: Exchange) -> None:
        await asyncio.sleep(0.2)
        call.whole(200, b"", b"slow")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    whole, half = (wire.replace(b"/hot", path) for wire in (post(b"last"), half))

    async def main() -> None:
        routes = {HOT: echo, (b"POST", b"/slow"): slow}
        async with house(routes, app) as at:
            for stays in (True, False):
                client = await at.client()
                client.send(post(path=b"/slow"))
                await asyncio.sleep(0.02)
                client.send(b"GET /cold HTTP/1.1\r\nHost: t\r\n\r\n" * 40 + half)
                assert (await client.answer()).body == b"slow"
                for _ in range(40):
                    assert (await client.answer()).status == 200
                if stays:
                    client.send(whole[len(half) :])
                    assert (await client.answer()).body == b"last"
                client.close()
                await settled(lambda: not at.server.server_state.connections)

    run(main())


def test_the_time_in_which_a_client_is_not_read_is_not_the_clients(run: Run) -> None:
    async def slow(call: Exchange) -> None:
        await asyncio.sleep(1.6)
        call.whole(200, b"", call.body)

    async def main() -> None:
        async with house({HOT: echo, (b"POST", b"/slow"): slow}, header_timeout_s=1) as at:
            client = await at.client()
            last = post(b"last")
            client.send(post(b"slow", path=b"/slow"))
            await asyncio.sleep(0.05)
            client.send(post() * 40 + last[:20])
            bodies = [(await client.answer()).body for _ in range(41)]
            client.send(last[20:])
            bodies.append((await client.answer()).body)
            assert bodies == [b"slow", *[b"{}"] * 40, b"last"]
            client.close()

    run(main())


def test_a_bad_request_behind_good_ones_waits_for_its_turn(run: Run) -> None:
    async def slow(call: Exchange) -> None:
        await asyncio.sleep(0.02)
        call.whole(200, b"", call.body)

    async def main() -> None:
        async with house({HOT: slow}) as at:
            answer = await at.exchange(post(b"one") + b"NONSENSE\r\n\r\n")
            good, _, bad = answer.partition(b"HTTP/1.1 400 ")
            assert good.startswith(b"HTTP/1.1 200 ") and good.endswith(b"one") and b'"not_http"' in bad

    run(main())


def test_a_client_that_leaves_cancels_its_handler_at_every_point_of_a_stream(run: Run) -> None:
    ended: list[BaseException | None] = []

    async def handler(call: Exchange) -> None:
        try:
            call.start(200, b"")
            for number in range(100):
                call.write(b"piece %d\n" % number)
                await asyncio.sleep(0.002)
            call.end()
        except asyncio.CancelledError as error:
            assert call.gone
            call.write(b"nobody hears this")
            call.end()
            ended.append(error)
            raise
        ended.append(None)

    async def main() -> None:
        async with house({HOT: handler}) as at:
            for pieces in range(6):
                client = await at.client()
                client.send(post())
                if pieces:
                    await client.reader.readuntil(b"piece %d\n" % (pieces - 1))
                client.writer.transport.abort()
                await settled(lambda pieces=pieces: len(ended) == pieces + 1)
        assert len(ended) == 6 and all(isinstance(error, asyncio.CancelledError) for error in ended)

    run(main())


def test_a_client_that_closes_its_half_has_left(run: Run) -> None:
    ended: list[bool] = []

    async def handler(call: Exchange) -> None:
        try:
            await asyncio.sleep(10)
        finally:
            ended.append(call.gone)

    async def main() -> None:
        async with house({HOT: handler}) as at:
            client = await at.client()
            client.send(post())
            client.writer.write_eof()
            await settled(lambda: ended == [True])
            client.close()

    run(main())


def test_a_slow_reader_is_waited_for_and_one_that_never_reads_is_cut_off(run: Run) -> None:
    waits, ended = 0, []

    async def handler(call: Exchange) -> None:
        nonlocal waits
        try:
            call.start(200, b"")
            for _ in range(400):
                call.write(b"x" * 65_536)
                wait = call.drained()
                if wait is not None:
                    waits += 1
                    await wait
            call.end()
        finally:
            ended.append(call.gone)

    async def main() -> None:
        async with house({HOT: handler}, write_timeout_s=0.8) as at:
            client = await at.client()
            client.send(post())
            assert len((await client.answer()).body) == 400 * 65_536
            client.close()
            assert waits and ended == [False]
            client = await at.client()
            client.send(post())
            await client.reader.readexactly(10)
            client.writer.transport.pause_reading()
            await settled(lambda: len(ended) == 2)
            assert ended == [False, True]
            client.writer.transport.abort()

    run(main())


def test_draining_finishes_calls_in_flight_and_closes_what_rests(run: Run) -> None:
    async def handler(call: Exchange) -> None:
        await asyncio.sleep(0.3)
        call.whole(200, b"", b"finished")

    async def main() -> None:
        busy: list[Client] = []
        async with house({HOT: handler}) as at:
            idle, client = await at.client(), await at.client()
            busy.append(client)
            client.send(post())
            await settled(lambda: len(at.server.server_state.connections) == 2)
            await asyncio.sleep(0.05)
            at.server.should_exit = True
            assert await idle.reader.read() == b""
            answer = await client.answer()
            assert answer.body == b"finished" and answer.headers["connection"] == "close"
            assert await client.reader.read() == b""
            idle.close()
        busy[0].close()

    run(main())


def test_a_call_that_outlives_the_drain_is_broken_off(run: Run) -> None:
    ended: list[BaseException] = []

    async def handler(call: Exchange) -> None:
        if call.query:
            call.start(200, b"")
            call.write(b"half")
        try:
            await Parked()
        except asyncio.CancelledError as error:
            ended.append(error)
            raise

    async def waiting(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        async with house({HOT: handler}, waiting, drain_s=1) as at:
            clients = [await at.client() for _ in range(3)]
            for client, path in zip(clients, (b"/hot", b"/cold", b"/hot?stream"), strict=True):
                client.send(post(path=path))
            await asyncio.sleep(0.05)
        await settled(lambda: len(ended) == 2)
        for client in clients[:2]:
            answer = await client.answer()
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert b"stopping" in answer.body
        broken = await clients[2].reader.read()
        assert b"half" in broken and not broken.endswith(b"0\r\n\r\n")
        for client in clients:
            client.writer.transport.abort()

    run(main())


def test_a_drain_lasts_as_long_as_the_settings_say_by_then(run: Run) -> None:
    async def handler(call: Exchange) -> None:
        await Parked()

    async def main() -> None:
        async with house({HOT: handler}, drain_s=int(PATIENCE_S)) as at:
            client = await at.client()
            client.send(post())
            await asyncio.sleep(0.05)
            at.lanes.adopt(ServeSettings(drain_s=0))
        client.writer.transport.abort()

    run(main())


def test_headers_of_an_answer_cannot_be_split(run: Run) -> None:
    async def handler(call: Exchange) -> None:
        call.whole(200, lines([(b"x-model", b"a\r\nset-cookie: evil=1")]), b"")

    async def main() -> None:
        async with house({HOT: handler}) as at:
            answer = await at.exchange(post())
            assert answer.startswith(b"HTTP/1.1 500 ") and b"evil" not in answer

    run(main())


def test_only_trusted_proxies_may_say_whom_they_speak_for(run: Run) -> None:
    async def peer(call: Exchange) -> None:
        call.whole(200, b"", call.peer.encode())

    async def main() -> None:
        cases = [
            ([], b"9.9.9.9", b"127.0.0.1"),
            (["127.0.0.0/8"], b"9.9.9.9", b"9.9.9.9"),
            (["127.0.0.0/8", "10.0.0.1"], b"6.6.6.6, 9.9.9.9, 10.0.0.1", b"9.9.9.9"),
            (["127.0.0.0/8"], b"9.9.9.9:1234", b"9.9.9.9"),
            (["127.0.0.0/8"], b"[2001:db8::1]:80", b"2001:db8::1"),
            (["127.0.0.0/8"], b"6.6.6.6, nonsense", b"127.0.0.1"),
            (["10.0.0.0/8"], b"9.9.9.9", b"127.0.0.1"),
        ]
        for trusted, said, expected in cases:
            async with house({HOT: peer}, trusted_proxies=trusted) as at:
                client = await at.client()
                client.send(post(head=b"X-Forwarded-For: %s\r\n" % said))
                assert (await client.answer()).body == expected
                client.close()

    run(main())


@pytest.mark.parametrize(
    "wire",
    [
        post(b'{"model": "m"}'),
        b"POST /hot HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n3;x=y\r\n wo\r\n0\r\nt: 1\r\n\r\n",
    ],
)
def test_every_split_of_a_request_is_the_same_request(run: Run, wire: bytes) -> None:
    async def main() -> None:
        async with house({HOT: echo}) as at:
            client = await at.client()
            client.send(wire)
            whole = (await client.answer()).body
            for cut in range(1, len(wire)):
                client.send(wire[:cut])
                await asyncio.sleep(0.0003)
                client.send(wire[cut:])
                assert (await client.answer()).body == whole
            client.close()

    run(main())


@settings(max_examples=25)
@given(
    st.lists(st.binary(max_size=60), min_size=1, max_size=6),
    st.lists(st.integers(min_value=1, max_value=900), max_size=8),
    st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_any_requests_in_any_pieces_are_answered_in_order(
    bodies: list[bytes], cuts: list[int], chunk: list[bool]
) -> None:
    def framed(body: bytes, chunked: bool) -> bytes:
        if not chunked:
            return post(body)
        pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
        sent = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
        return b"POST /hot HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n" + sent + b"0\r\n\r\n"

    wire = b"".join(framed(body, chunked) for body, chunked in zip(bodies, chunk, strict=False))
    edges = sorted({0, len(wire), *(cut for cut in cuts if cut < len(wire))})

    async def main() -> list[bytes]:
        async with house({HOT: echo}) as at:
            client = await at.client()
            for begin, end in itertools.pairwise(edges):
                client.send(wire[begin:end])
                await asyncio.sleep(0)
            answers = [(await client.answer()).body for _ in bodies]
            client.close()
            return answers

    assert asyncio.run(main()) == bodies
