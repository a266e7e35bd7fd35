"""ASGI applications behind the lane: bodies, streams, uploads, disconnects."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from baimo.server.exchange import Exchange
from tests.server.lane_house import house, post
from tests.waiting import PATIENCE_S, settled

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def runner(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=request.param) as under:
            return under.run(asyncio.wait_for(coroutine, PATIENCE_S))

    return runner


def get(path: bytes, *, method: bytes = b"GET", head: bytes = b"") -> bytes:
    return b"%s %s HTTP/1.1\r\nHost: test\r\n%s\r\n" % (method, path, head)


def test_starlette_answers_whole_streamed_and_by_head(run: Run) -> None:
    async def about(request: Request) -> PlainTextResponse:
        facts = (request.url.path, request.url.query, request.client.host, request.headers["x-request-id"])  # type: ignore[union-attr]
        return PlainTextResponse(repr(facts))

    async def stream(request: Request) -> StreamingResponse:
        async def pieces() -> Any:
            for number in range(3):
                yield b"piece %d;" % number
                await asyncio.sleep(0)

        return StreamingResponse(pieces())

    app = Starlette(routes=[Route("/über", about), Route("/stream", stream)])

    async def main() -> None:
        async with house({}, app) as at:
            client = await at.client()
            client.send(get(b"/%C3%BCber?a=1", head=b"x-request-id: mine\r\n"))
            answer = await client.answer()
            assert answer.body.decode() == "('/über', 'a=1', '127.0.0.1', 'mine')"
            assert answer.headers["server"] == "baimo" and answer.headers["x-request-id"] == "mine"
            client.send(get(b"/stream"))
            answer = await client.answer()
            assert answer.body == b"piece 0;piece 1;piece 2;"
            assert answer.headers["transfer-encoding"] == "chunked"
            client.send(get(b"/%C3%BCber", method=b"HEAD"))
            answer = await client.answer(head_only=True)
            assert answer.status == 200 and int(answer.headers["content-length"]) > 0
            client.send(get(b"/none"))
            assert (await client.answer()).status == 404
            client.close()
            old = await at.exchange(b"GET /stream HTTP/1.0\r\n\r\n")
            assert old.endswith(b"\r\n\r\npiece 0;piece 1;piece 2;") and b"connection: close" in old

    run(main())


def test_an_upload_flows_as_fast_as_the_application_reads(run: Run) -> None:
    got = 0
    go_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal got
        await go_on.wait()
        while True:
            message = await receive()
            got += len(message["body"])
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body", "body": b"%d" % got})

    async def main() -> None:
        async with house({}, app) as at:
            client = await at.client()
            size = 24 * 1024 * 1024
            client.send(b"PUT /file HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % size)
            client.writer.transport.set_write_buffer_limits(high=0)
            client.send(b"x" * size)
            await asyncio.sleep(0.2)
            assert client.writer.transport.get_write_buffer_size() > size // 2  # it waits in the client
            go_on.set()
            answer = await client.answer()
            assert (answer.status, answer.body, got) == (201, b"%d" % size, size)
            client.send(b"PUT /file HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nok")
            assert (await client.answer()).status == 201
            client.close()

    run(main())


def test_an_answer_before_the_body_was_read_ends_the_connection(run: Run) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"no"})

    async def main() -> None:
        async with house({}, app) as at:
            client = await at.client()
            client.send(b"PUT /file HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\nhalf")
            answer = await client.answer()
            assert answer.status == 401 and answer.headers["connection"] == "close"
            client.send(b"x" * 996 + get(b"/smuggled"))
            assert await client.reader.read() == b""
            client.close()
            assert at.server.server_state.total_requests == 1

    run(main())


def test_a_client_that_waits_for_100_continue_gets_it_when_the_body_is_asked_for(run: Run) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"] if scope["path"] == "/reads" else b"unread"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async def main() -> None:
        async with house({}, app) as at:
            for path, first in ((b"/reads", 100), (b"/refuses", 200)):
                client = await at.client()
                client.send(get(path, method=b"PUT", head=b"Expect: 100-continue\r\nContent-Length: 4\r\n"))
                answer = await client.answer()
                assert answer.status == first
                if first == 100:
                    client.send(b"body")
                    assert (await client.answer()).body == b"body"
                client.close()

    run(main())


def test_the_application_hears_that_its_client_has_left(run: Run) -> None:
    heard: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        heard.append((await receive())["type"])
        try:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        except OSError:
            heard.append("OSError")

    async def main() -> None:
        async with house({}, app) as at:
            client = await at.client()
            client.send(get(b"/"))
            await client.reader.readuntil(b"\r\n\r\n")
            client.writer.transport.abort()
            await settled(lambda: heard == ["http.disconnect", "OSError"])

    run(main())


def test_an_application_that_fails_or_lies_about_its_length_never_looks_complete(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/raises":
            raise ValueError("canary-secret")
        if scope["path"] == "/nothing":
            return
        length = b"3" if scope["path"] == "/long" else b"9"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": b"five!"})

    async def main() -> None:
        async with house({}, app) as at:
            for path in (b"/raises", b"/nothing"):
                answer = await at.exchange(get(path))
                assert answer.startswith(b"HTTP/1.1 500 ") and b"connection: close" in answer
            for path in (b"/long", b"/short"):
                client = await at.client()
                client.send(get(path))
                with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                    await client.answer()
                client.close()

    with caplog.at_level(logging.ERROR, logger="baimo.server"):
        run(main())
    assert "ValueError at" in caplog.text and "canary-secret" not in caplog.text


def test_uvicorn_counts_cold_and_hot_requests_alike(run: Run) -> None:
    async def hot(call: Any) -> None:
        call.whole(200, b"", b"")

    async def main() -> None:
        async with house({(b"POST", b"/hot"): hot}) as at:
            await at.exchange(post(head=b"Connection: close\r\n"))
            await at.exchange(get(b"/", head=b"Connection: close\r\n"))
            assert at.server.server_state.total_requests == 2 and not at.server.server_state.tasks

    run(main())


def test_a_trusted_proxy_says_how_the_client_reached_it(run: Run) -> None:
    async def address(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(request.base_url))

    app = Starlette(routes=[Route("/", address)])
    said = b"X-Forwarded-Proto: %s\r\nX-Forwarded-Host: %s\r\n"
    cases = {
        said % (b"https", b"llm.example.com"): b"https://llm.example.com/",
        said % (b"HTTPS", b"[2001:db8::1]:8443"): b"https://[2001:db8::1]:8443/",
        said % (b"gopher", b"evil.example.com/x?"): b"http://test/",
        b"X-Forwarded-Proto: https\r\n": b"https://test/",
        b"": b"http://test/",
    }

    async def main() -> None:
        for trusted in (["127.0.0.0/8"], ["10.0.0.0/8"], []):
            async with house({}, app, trusted_proxies=trusted) as at:
                client = await at.client()
                for head, expected in cases.items():
                    client.send(get(b"/", head=head))
                    believed = trusted == ["127.0.0.0/8"]
                    assert (await client.answer()).body == (expected if believed else b"http://test/")
                client.close()

    run(main())


def test_a_slash_behind_an_operation_makes_no_difference(run: Run) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        said = scope["path"].encode() + b" " + scope["raw_path"] + b" " + scope["query_string"]
        head = [(b"content-length", b"%d" % len(said))]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": said})

    async def hot(call: Exchange) -> None:
        call.whole(200, b"", b"hot " + call.path + b" " + call.query)

    async def main() -> None:
        async with house({(b"POST", b"/v1/hot"): hot}, app) as at:
            client = await at.client()
            cases = {
                post(path=b"/v1/hot/"): b"hot /v1/hot ",
                post(path=b"/v1/hot//?a=/&b?"): b"hot /v1/hot a=/&b?",
                get(b"/v1/models/"): b"/v1/models /v1/models ",
                get(b"/v1/models/?a=b/"): b"/v1/models /v1/models a=b/",
                get(b"/console/"): b"/console/ /console/ ",
            }
            for data, expected in cases.items():
                for _ in range(2):
                    client.send(data)
                    assert (await client.answer()).body == expected
            client.close()

    run(main())
