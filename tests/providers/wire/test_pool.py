"""Requests to scripted servers on loopback that behave, and that do not."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.providers.wire.scripted import Script, Talk, answer, chunked, upstream
from tests.waiting import PATIENCE_S, settled

from baimo.errors import BadReply, ProviderError, RequestRefused, Unreachable
from baimo.providers.wire.origin import Stages, origin
from baimo.providers.wire.parked import start
from baimo.providers.wire.pool import Pools
from baimo.settings import ServeSettings

HURRY = Stages(connect_s=1.0, write_s=0.3, first_byte_s=0.3, silence_s=0.3)
Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def runner(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=request.param) as under:
            return under.run(asyncio.wait_for(coroutine, PATIENCE_S))

    return runner


@contextlib.asynccontextmanager
async def client(settings: ServeSettings | None = None) -> AsyncGenerator[Pools]:
    pools = Pools(settings)
    try:
        yield pools
    finally:
        await pools.aclose()


async def asked(
    pools: Pools, at: Any, body: bytes = b"{}", *, method: bytes = b"POST", target: bytes = b"/v1/x"
) -> bytes:
    reply = await pools.send(at, method, target, [(b"x-test", b"1")], body)
    return await reply.whole(1_000_000)


def serving(*answers: bytes) -> Script:
    """The next answer to each request, on whatever connection; then silence."""
    left = list(answers)

    async def script(talk: Talk) -> None:
        while True:
            await talk.request()
            await talk.say(left.pop(0))

    return script


def test_a_request_goes_out_as_it_should_and_the_connection_is_used_again(run: Run) -> None:
    async def main() -> None:
        async with (
            upstream(serving(answer(b"one"), chunked(b"t", b"wo"), answer(b""))) as server,
            client() as pools,
        ):
            at = origin(server.url)
            assert [await asked(pools, at, b"{}"), await asked(pools, at), await asked(pools, at)] == [
                b"one",
                b"two",
                b"",
            ]
            assert server.connections == 1 and pools.connections == 1
            assert server.requests[0] == (
                b"POST /v1/x HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nx-test: 1\r\ncontent-length: 2\r\n\r\n{}"
                % server.port
            )

    run(main())


def test_a_driven_call_and_a_task_share_the_client(run: Run) -> None:
    async def main() -> None:
        async with upstream(serving(answer(b"driven"), answer(b"task"))) as server, client() as pools:
            at, ended = origin(server.url), []
            start(asked(pools, at), lambda value, error: ended.append((value, error)))
            await settled(lambda: bool(ended))
            assert ended == [(b"driven", None)]
            assert await asyncio.create_task(asked(pools, at)) == b"task"
            assert server.connections == 1

    run(main())


def test_head_204_304_and_interim_answers_end_where_they_end(run: Run) -> None:
    async def main() -> None:
        answers = [
            b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 304 Not Modified\r\ncontent-length: 12\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n",
        ]
        async with upstream(serving(*answers)) as server, client() as pools:
            at = origin(server.url)
            assert await asked(pools, at, b"", method=b"HEAD") == b""
            assert await asked(pools, at) == b""
            assert await asked(pools, at) == b""
            assert server.connections == 1
        async with (
            upstream(serving(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + answer(b"final"))) as server,
            client() as pools,
        ):
            reply = await pools.send(origin(server.url), b"GET", b"/")
            assert reply.headers == {b"content-length": b"5"} and await reply.whole(10) == b"final"

    run(main())


def test_trailers_are_headers_of_no_answer(run: Run) -> None:
    trailers = b"retry-after: 77\r\ncontent-type: text/evil\r\n\r\n"

    async def main() -> None:
        answers = serving(chunked(b"one")[:-2] + trailers, answer(b"two"))
        async with upstream(answers) as server, client() as pools:
            at = origin(server.url)
            first = await pools.send(at, b"GET", b"/")
            assert await first.whole(10) == b"one" and first.headers == {b"transfer-encoding": b"chunked"}
            second = await pools.send(at, b"GET", b"/")
            assert await second.whole(10) == b"two" and second.headers == {b"content-length": b"3"}
            assert server.connections == 1

    run(main())


@pytest.mark.parametrize("line", [b"x: " + b"y" * 1_000 + b"\r\n", b"x" * 1_000])
def test_endless_trailers_are_too_much_of_an_answer(run: Run, line: bytes) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(chunked(b"one")[:-2])
        while True:
            await talk.say(line, pause_s=0.001)

    async def main() -> None:
        async with upstream(script) as server, client(ServeSettings(max_answer_mib=0.05)) as pools:
            with pytest.raises(BadReply, match="52428"):
                await asked(pools, origin(server.url))
            assert pools.connections == 0

    run(main())


def test_a_limit_of_answers_that_changes_holds_on_open_connections_too(run: Run) -> None:
    async def script(talk: Talk) -> None:
        for _ in range(2):
            await talk.request()
            await talk.say(chunked(b"x" * 60_000))

    async def main() -> None:
        async with upstream(script) as server, client() as pools:
            at = origin(server.url)
            assert await asked(pools, at) == b"x" * 60_000
            pools.adopt(ServeSettings(max_answer_mib=0.05))
            with pytest.raises(BadReply, match="52428"):
                await asked(pools, at)
            assert server.connections == 1

    run(main())


def test_a_body_without_length_ends_with_the_connection(run: Run) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(b"HTTP/1.1 200 OK\r\n\r\n", b"until ", b"the end", pause_s=0.01)

    async def main() -> None:
        async with upstream(script) as server, client() as pools:
            at = origin(server.url)
            assert await asked(pools, at) == b"until the end"
            assert await asked(pools, at) == b"until the end"
            assert server.connections == 2

    run(main())


@pytest.mark.parametrize(
    "bad",
    [
        answer(b"short") + b"surplus",
        answer(b"short") + b"short",
        answer(b"short") + b"\r\n",
        answer(b"one") + answer(b"another customer's"),
        chunked(b"c") + b"\r\n",
        chunked(b"c") + b"HTTP/1.1 200 OK\r\nx",
        chunked(b"c") + answer(b"another customer's"),
        b"HTTP/1.1 204 No Content\r\n\r\nbody",
        answer(b"last", head=b"connection: close\r\n"),
        b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nold",
    ],
)
def test_a_connection_with_a_byte_too_many_or_an_end_announced_is_not_used_again(
    run: Run, bad: bytes
) -> None:
    async def main() -> None:
        async with upstream(serving(bad, answer(b"clean"))) as server, client() as pools:
            at = origin(server.url)
            await asked(pools, at)
            assert pools.connections == 0
            assert await asked(pools, at) == b"clean"
            assert server.connections == 2

    run(main())


def test_bytes_that_come_while_the_connection_rests_close_it(run: Run) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(answer(b"good"))
        if talk.number == 0:
            await talk.say(answer(b"poison"), pause_s=0.02)
        await asyncio.sleep(10)

    async def main() -> None:
        async with upstream(script) as server, client() as pools:
            at = origin(server.url)
            assert await asked(pools, at) == b"good"
            await settled(lambda: pools.connections == 0)
            assert await asked(pools, at) == b"good"
            assert server.connections == 2

    run(main())


def test_a_server_that_closes_a_resting_connection_is_noticed_before_the_next_request(run: Run) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(answer(b"bye"))

    async def main() -> None:
        async with upstream(script) as server, client() as pools:
            at = origin(server.url)
            for _ in range(5):
                assert await asked(pools, at) == b"bye"
                await settled(lambda: pools.connections == 0)
            assert server.connections == 5 and len(server.requests) == 5

    run(main())


def test_the_end_that_the_loop_has_not_told_of_is_seen_by_looking(run: Run) -> None:
    from baimo.providers.wire.connection import Connection
    from baimo.providers.wire.dial import dial

    class Home:
        now = 0.0

        def made(self, connection: Connection) -> None: ...
        def back(self, connection: Connection) -> None: ...
        def gone(self, connection: Connection) -> None: ...

    async def main() -> None:
        closed = asyncio.Event()

        async def script(talk: Talk) -> None:
            await closed.wait()

        async with upstream(script) as server:
            at = origin(server.url)
            connection = await dial(at, lambda: Connection(at, Home(), 100))
            assert connection.usable and not connection.stale()
            closed.set()
            await settled(lambda: not connection.usable or connection.stale())
            connection.drop()

    run(main())


@pytest.mark.parametrize(
    ("said", "error", "stage"),
    [
        (b"", Unreachable, "first_byte"),
        (b"HTTP/1.1 200 O", BadReply, None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", BadReply, None),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhal", BadReply, None),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", BadReply, None),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked \t\r\n\r\n5\r\nhello\r\n", BadReply, None),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", BadReply, None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc", BadReply, None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd", BadReply, None),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            BadReply,
            None,
        ),
        (b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", BadReply, None),
        (b"HTTP/1.1 999 What\r\ncontent-length: 0\r\n\r\n", BadReply, None),
        (b"SSH-2.0-OpenSSH_9.2\r\n", BadReply, None),
        (b"HTTP/1.1 200 OK\r\nx: a\r\n folded\r\n\r\n", BadReply, None),
        (b"HTTP/1.1 200 OK\r\n" + b"x: %s\r\n" % (b"y" * 200) * 2_000, BadReply, None),
    ],
)
def test_an_answer_that_breaks_off_or_lies_is_an_error_with_the_request_sent_once(
    run: Run, said: bytes, error: type[ProviderError], stage: str | None
) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(said)

    async def main() -> None:
        async with upstream(script) as server, client() as pools:
            with pytest.raises(error) as caught:
                await asked(pools, origin(server.url))
            assert len(server.requests) == 1 and pools.connections == 0
            if isinstance(caught.value, Unreachable):
                assert caught.value.sent and caught.value.stage == stage
            assert str(caught.value) and caught.value.hint

    run(main())


def test_a_reset_in_the_body_gives_the_pieces_before_it_and_then_the_error(run: Run) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n", pause_s=0.05)
        talk.reset()

    async def main() -> None:
        async with upstream(script) as server, client() as pools:
            reply = await pools.send(origin(server.url), b"POST", b"/", (), b"{}")
            pieces = []
            with pytest.raises((Unreachable, BadReply)):
                async for piece in reply.pieces():
                    pieces.append(piece)
            reply.close()
            assert pieces == [b"first"] and pools.connections == 0

    run(main())


@pytest.mark.parametrize(
    ("said", "stage"),
    [
        (b"", "first_byte"),
        (b"HTTP/1.1 200 OK\r\nx: slow", "first_byte"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", "body"),
    ],
)
def test_a_stalled_server_costs_as_long_as_its_stage_may_take(run: Run, said: bytes, stage: str) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(said)
        await asyncio.sleep(10)

    async def main() -> None:
        async with upstream(script) as server, client() as pools:
            with pytest.raises(Unreachable) as caught:
                await asked(pools, origin(server.url, stages=HURRY))
            assert caught.value.stage == stage and caught.value.sent and pools.connections == 0

    run(main())


def test_a_server_that_takes_no_bytes_ends_in_the_write_stage(run: Run) -> None:
    async def script(talk: Talk) -> None:
        talk.writer.transport.pause_reading()
        await asyncio.sleep(10)

    async def main() -> None:
        async with upstream(script) as server, client() as pools:
            with pytest.raises(Unreachable) as caught:
                await asked(pools, origin(server.url, stages=HURRY), b"x" * 30_000_000)
            assert caught.value.stage == "write" and caught.value.sent

    run(main())


def test_the_deadline_holds_even_while_bytes_keep_coming(run: Run) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            await talk.say(b"1\r\nx\r\n", pause_s=0.02)

    async def main() -> None:
        async with upstream(script) as server, client() as pools:
            deadline = asyncio.get_running_loop().time() + 0.3
            reply = await pools.send(origin(server.url), b"POST", b"/", (), b"{}", deadline=deadline)
            with pytest.raises(Unreachable) as caught:
                await reply.whole(1_000_000)
            assert caught.value.stage == "body"

    run(main())


def test_an_answer_before_the_request_is_through_is_delivered_and_ends_the_connection(run: Run) -> None:
    async def script(talk: Talk) -> None:
        await talk.reader.read(10)
        talk.writer.transport.pause_reading()
        await talk.say(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig")
        await asyncio.sleep(10)

    async def main() -> None:
        async with upstream(script) as server, client() as pools:
            reply = await pools.send(origin(server.url), b"POST", b"/", (), b"x" * 30_000_000)
            assert reply.status == 413 and await reply.whole(10) == b"big"
            assert pools.connections == 0

    run(main())


def test_an_answer_longer_than_allowed_is_refused_by_caller_and_by_setting(run: Run) -> None:
    async def script(talk: Talk) -> None:
        while True:
            await talk.request()
            await talk.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            for _ in range(64):
                await talk.say(b"100000\r\n" + b"x" * 0x100000 + b"\r\n")

    async def main() -> None:
        async with upstream(script) as server, client(ServeSettings(max_answer_mib=2)) as pools:
            at = origin(server.url)
            with pytest.raises(BadReply, match="larger than 1000000"):
                await asked(pools, at)
            reply = await pools.send(at, b"POST", b"/", (), b"{}")
            with pytest.raises(BadReply, match="larger than 2097152"):
                async for _ in reply.pieces():
                    pass
            assert pools.connections == 0

    run(main())


def test_a_slow_reader_stops_the_server(run: Run) -> None:
    sent = 0

    async def script(talk: Talk) -> None:
        nonlocal sent
        await talk.request()
        talk.writer.transport.set_write_buffer_limits(high=65_536)
        await talk.say(b"HTTP/1.1 200 OK\r\ncontent-length: 33554432\r\n\r\n")
        for _ in range(512):
            await talk.say(b"x" * 65_536)
            sent += 65_536

    async def main() -> None:
        async with upstream(script) as server, client() as pools:
            reply = await pools.send(origin(server.url, stages=HURRY), b"GET", b"/")
            await asyncio.sleep(
                0.6
            )  # longer than silence_s: waiting for our own caller is not the server's silence
            assert sent < 24 * 1024 * 1024
            assert sum([len(piece) async for piece in reply.pieces()]) == 33_554_432
            assert pools.connections == 1

    run(main())


def test_a_caller_that_goes_away_breaks_its_connection_and_no_other(run: Run) -> None:
    async def script(talk: Talk) -> None:
        while True:
            request = await talk.request()
            if b"/hang" in request:
                await asyncio.sleep(10)
            await talk.say(answer(b"fine"))

    async def main() -> None:
        async with upstream(script) as server, client() as pools:
            at = origin(server.url)
            assert await asked(pools, at) == b"fine"
            task = asyncio.create_task(asked(pools, at, target=b"/hang"))
            await settled(lambda: len(server.requests) == 2)
            ended: list[Any] = []
            driver = start(asked(pools, at, target=b"/hang"), lambda value, error: ended.append(error))
            await settled(lambda: len(server.requests) == 3)
            task.cancel()
            driver.cancel()
            with pytest.raises(asyncio.CancelledError) as left:
                await task
            await settled(lambda: bool(ended))
            assert isinstance(ended[0], asyncio.CancelledError) and pools.connections == 0
            assert "unsent" not in {**vars(left.value), **vars(ended[0])}
            assert await asked(pools, at) == b"fine"

    run(main())


def test_beyond_the_limit_calls_wait_in_order_and_late_ones_are_told(run: Run) -> None:
    async def script(talk: Talk) -> None:
        while True:
            request = await talk.request()
            await asyncio.sleep(0.05)
            await talk.say(answer(request.split(b" ")[1]))

    async def main() -> None:
        async with upstream(script) as server, client() as pools:
            at = origin(server.url, most_connections=1)
            ended: list[bytes] = []

            async def one(number: int) -> None:
                ended.append(await asked(pools, at, target=b"/%d" % number))

            calls = [asyncio.create_task(one(number)) for number in range(4)]
            await asyncio.sleep(0)
            calls[2].cancel()
            with pytest.raises(asyncio.CancelledError) as left:
                await calls[2]
            assert "unsent" in vars(left.value)
            now = asyncio.get_running_loop().time()
            with pytest.raises(Unreachable) as caught:
                await pools.send(at, b"GET", b"/late", deadline=now - 1)
            assert not caught.value.sent and "busy" in str(caught.value)
            await asyncio.gather(*calls, return_exceptions=True)
            assert ended == [b"/0", b"/1", b"/3"] and server.connections == 1

    run(main())


def test_many_callers_at_once_over_connections_that_are_never_kept(run: Run) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(answer(b"once", head=b"connection: close\r\n"))

    async def main() -> None:
        async with upstream(script) as server, client() as pools:
            at, left = origin(server.url, most_connections=5), 100
            ended = asyncio.get_running_loop().create_future()

            def next_one(value: Any, error: BaseException | None) -> None:
                nonlocal left
                assert value == b"once", error
                left -= 1
                if left >= 20:
                    start(asked(pools, at), next_one)
                elif not left:
                    ended.set_result(None)

            for _ in range(20):
                start(asked(pools, at), next_one)
            await ended
            assert server.connections == 100

    run(main())


def test_nobody_listening_and_no_such_name_are_errors_with_nothing_sent(run: Run) -> None:
    async def main() -> None:
        async with upstream(serving()) as server:
            free = server.url
        async with client() as pools:
            for url, stage in ((free, "connect"), ("http://no-such-host.invalid", "dns")):
                with pytest.raises(Unreachable) as caught:
                    await asked(pools, origin(url))
                assert not caught.value.sent and caught.value.stage == stage and caught.value.hint

    run(main())


def test_a_unix_socket_answers_like_any_other(run: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "model.sock")

    async def main() -> None:
        async with upstream(serving(answer(b"near")), path=path) as server, client() as pools:
            at = origin("http+unix://" + path.replace("/", "%2F"))
            assert await asked(pools, at) == b"near"
            assert b"\r\nhost: localhost\r\n" in server.requests[0]

    run(main())


def test_an_idle_connection_is_closed_before_the_server_would(run: Run) -> None:
    async def main() -> None:
        hinted = answer(b"x", head=b"keep-alive: timeout=1, max=100\r\n")
        for said, idle_s in ((answer(b"x"), 0.15), (hinted, 60.0)):
            async with upstream(serving(said)) as server, client() as pools:
                await asked(pools, origin(server.url, idle_s=idle_s))
                assert pools.connections == 1
                await settled(lambda pools=pools: pools.connections == 0)

    run(main())


def test_closing_ends_what_is_under_way_and_refuses_what_comes_after(run: Run) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await asyncio.sleep(10)

    async def main() -> None:
        async with upstream(script) as server:
            pools = Pools()
            at = origin(server.url, most_connections=1)
            calls = [asyncio.create_task(asked(pools, at)) for _ in range(2)]
            await settled(lambda: bool(server.requests))
            await pools.aclose()
            for call, sent in zip(calls, (True, False), strict=True):
                with pytest.raises(Unreachable) as caught:
                    await call
                assert caught.value.sent is sent
            with pytest.raises(Unreachable):
                await asked(pools, origin(server.url))

    run(main())


def test_line_breaks_in_headers_and_targets_never_reach_the_wire(run: Run) -> None:
    async def main() -> None:
        async with upstream(serving()) as server, client() as pools:
            at = origin(server.url)
            for headers in (
                [(b"x", b"a\r\nhost: evil")],
                [(b"x", b"a\nb: c")],
                [(b"x", b"a\x00")],
                [(b"x: y\r\nz", b"a")],
                [(b"x y", b"a")],
                [(b"", b"a")],
                [(b"Content-Length", b"1")],
                [(b"a", b"b"), (b"Transfer-Encoding", b"chunked")],
                [(b"host", b"evil")],
            ):
                with pytest.raises(RequestRefused):
                    await pools.send(at, b"POST", b"/", headers, b"{}")
            for target in (b"/a b", b"/a\r\nx: y", b"", b"http://evil/", b"/\xff"):
                with pytest.raises(RequestRefused):
                    await pools.send(at, b"POST", target, (), b"{}")
            assert server.connections == 0

    run(main())


async def _cut(wire: bytes, cuts: list[int], pause: bool) -> tuple[bytes, int]:
    async def script(talk: Talk) -> None:
        await talk.request()
        edges = [0, *cuts, len(wire)]
        for begin, end in itertools.pairwise(edges):
            await talk.say(wire[begin:end])
            if pause:
                await asyncio.sleep(0.0005)
        await asyncio.sleep(10)

    async with upstream(script) as server, client() as pools:
        reply = await pools.send(origin(server.url), b"POST", b"/", (), b"{}")
        return b"".join([piece async for piece in reply.pieces()]), server.connections


@pytest.mark.parametrize("wire", [answer(b'{"a": 1}'), chunked(b"data: 1\n\n", b"data: 2\n\n")])
def test_every_split_of_an_answer_gives_the_same_body(run: Run, wire: bytes) -> None:
    body = b'{"a": 1}' if wire.startswith(answer(b'{"a": 1}')[:30]) else b"data: 1\n\ndata: 2\n\n"

    async def main() -> None:
        for at in range(1, len(wire)):
            assert await _cut(wire, [at], pause=True) == (body, 1)

    run(main())


@settings(max_examples=40)
@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=8),
    st.lists(st.integers(min_value=1, max_value=400), max_size=6),
)
def test_any_chunks_in_any_pieces_come_out_as_they_went_in(pieces: list[bytes], cuts: list[int]) -> None:
    wire = chunked(*pieces)
    edges = sorted({cut for cut in cuts if cut < len(wire)})
    assert asyncio.run(_cut(wire, edges, pause=False))[0] == b"".join(pieces)
