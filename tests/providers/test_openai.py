"""OpenAIProvider against a real server that behaves and misbehaves."""

from __future__ import annotations

import asyncio
import logging
import pickle
import random
import traceback
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from provider_doubles import (
    CANARY,
    KEY_VARIABLE,
    Answering,
    Scripted,
    asked,
    said,
    says,
    settings,
    streams,
    vendor,
)

from baimo.core.call import Completion, Delta, JsonFormat, Request, Sampling
from baimo.core.ids import canonical
from baimo.core.model import Vendor
from baimo.errors import (
    AuthenticationFailed,
    BadReply,
    ConfigError,
    ProviderError,
    RateLimited,
    RequestRefused,
    Unreachable,
)
from baimo.providers.openai import OpenAIProvider
from baimo.testing.clock import FakeClock


def build(url: str, clock: FakeClock | None = None, **more: Any) -> OpenAIProvider:
    return OpenAIProvider(
        vendor(), settings(f"{url}/v1", **more), clock=clock or FakeClock(), chance=random.Random(1)
    )


def run(
    server: Scripted, *requests: Request, clock: FakeClock | None = None, **more: Any
) -> list[Completion]:
    """Completions of requests that are asked one after another."""

    async def scenario() -> list[Completion]:
        async with server.running() as url:
            provider = build(url, clock, **more)
            try:
                return [await provider.complete(request) for request in requests or (asked(),)]
            finally:
                await provider.aclose()

    return asyncio.run(scenario())


def collect(server: Scripted, request: Request | None = None, **more: Any) -> list[Delta]:
    async def scenario() -> list[Delta]:
        async with server.running() as url:
            provider = build(url, **more)
            try:
                return [delta async for delta in provider.stream(request or asked())]
            finally:
                await provider.aclose()

    return asyncio.run(scenario())


async def dropped(request: web.Request) -> web.StreamResponse:
    """Close the connection instead of answering."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def cut(status: int) -> Answering:
    """Half of what the header promises."""

    async def answer(request: web.Request) -> web.StreamResponse:
        headers = {"Content-Type": "application/json", "Content-Length": "100"}
        response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(request)
        await response.write(b'{"choices": [')
        assert request.transport is not None
        request.transport.close()
        return response

    return answer


half = cut(200)


async def silent(request: web.Request) -> web.StreamResponse:
    """Never answer."""
    await asyncio.sleep(30)
    return web.Response()


def test_an_answer_comes_back_with_the_key_presented_once() -> None:
    server = Scripted(says(said("hello")))
    (found,) = run(server)
    assert found.text == "hello" and found.attempts == 1 and found.latency_ms is not None
    assert server.seen[0].path == "/v1/chat/completions"
    assert server.seen[0].headers["Authorization"] == f"Bearer {CANARY}"
    assert server.seen[0].headers["Accept-Encoding"] == "identity"


def test_further_headers_are_sent_and_may_be_references(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ACME_ORG", "org-1")
    (tmp_path / "project").write_text("p-1\n")
    server = Scripted(says(said()))
    run(server, headers={"X-Org": "env:ACME_ORG", "X-Project": f"file:{tmp_path}/project", "X-Plain": "yes"})
    headers = server.seen[0].headers
    assert (headers["X-Org"], headers["X-Project"], headers["X-Plain"]) == ("org-1", "p-1", "yes")


@pytest.mark.parametrize(
    "fault", [says("oops", 500), says("{not json"), says("[]"), says({"choices": []}), dropped, half]
)
def test_passing_failures_are_tried_again(fault: Answering) -> None:
    clock = FakeClock()
    (found,) = run(Scripted(fault, fault, says(said("hello"))), clock=clock, retries=2)
    assert (found.text, found.attempts, len(clock.sleeps)) == ("hello", 3, 2)


@pytest.mark.parametrize(
    ("fault", "kind", "key"),
    [
        (says("oops", 500), BadReply, "providers.server_error"),
        (says("<html>", 200), BadReply, "providers.malformed"),
        (says({"choices": []}), BadReply, "providers.no_choices"),
        (half, BadReply, "providers.truncated"),
        (cut(502), BadReply, "providers.server_error"),
        (dropped, Unreachable, "providers.disconnected"),
    ],
)
def test_failures_that_persist_are_named_after_all_attempts(
    fault: Answering, kind: type[ProviderError], key: str
) -> None:
    server = Scripted(fault)
    with pytest.raises(kind) as caught:
        run(server, retries=3)
    assert caught.value.key == key and len(server.seen) == 4
    assert "127.0.0.1" in str(caught.value) and " m" in str(caught.value) and caught.value.hint


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, RequestRefused), (401, AuthenticationFailed), (404, RequestRefused), (307, RequestRefused)],
)
def test_refusals_are_not_sent_again(status: int, kind: type[ProviderError]) -> None:
    server = Scripted(says({"error": {"message": "no"}}, status, {"Location": "http://elsewhere.test/"}))
    with pytest.raises(kind):
        run(server)
    assert len(server.seen) == 1


def test_a_refusal_without_its_end_is_one_all_the_same() -> None:
    server = Scripted(cut(400))
    with pytest.raises(RequestRefused) as caught:
        run(server)
    assert caught.value.facts["status"] == 400 and len(server.seen) == 1


def test_being_told_to_slow_down_costs_no_attempts_and_is_obeyed() -> None:
    clock = FakeClock()
    busy = says({"error": {"message": "slow down"}}, 429, {"Retry-After": "3"})
    (found,) = run(Scripted(*[busy] * 8, says(said())), clock=clock, retries=0)
    assert found.attempts == 9
    assert clock.now() >= 24 and all(delay < 3.4 for delay in clock.sleeps)


def test_a_server_that_is_busy_for_ever_is_given_up_after_ten_minutes() -> None:
    clock = FakeClock()
    with pytest.raises(RateLimited):
        run(Scripted(says("", 429, {"retry-after-ms": "30000"})), clock=clock)
    assert 500 < clock.now() < 700


def test_one_refusal_to_serve_slows_the_whole_provider_down() -> None:
    clock = FakeClock()
    busy = says("", 429, {"Retry-After": "5"})
    server = Scripted(busy, says(said()))

    async def scenario() -> float:
        async with server.running() as url:
            provider = build(url, clock, concurrency=4)
            first = asyncio.ensure_future(provider.complete(asked("first")))
            while not clock.sleeps:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            await provider.complete(asked("another"))
            await first
            await provider.aclose()
            return provider.pace.allowed

    allowed = asyncio.run(scenario())
    assert clock.now() >= 5 and allowed < 4


def test_an_empty_account_is_not_asked_again() -> None:
    server = Scripted(
        says({"error": {"code": "insufficient_quota", "message": "pay"}}, 429, {"Retry-After": "1"})
    )
    with pytest.raises(AuthenticationFailed) as caught:
        run(server)
    assert caught.value.key == "providers.no_credit" and len(server.seen) == 1


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://127.0.0.1:1", "providers.unreachable"),
        ("http://no-such-host.invalid", "providers.unknown_host"),
    ],
)
def test_nobody_at_the_address_is_unreachable(url: str, key: str) -> None:
    async def scenario() -> None:
        provider = build(url, retries=0)
        try:
            await provider.complete(asked())
        finally:
            await provider.aclose()

    with pytest.raises(Unreachable) as caught:
        asyncio.run(scenario())
    # a closed resolver, as on machines without a network, fails before the name is known to be wrong
    assert caught.value.key in {key, "providers.unreachable"} and caught.value.hint
    assert not caught.value.sent  # nobody can have billed it


async def babbling(request: web.Request) -> web.StreamResponse:
    """Something that was never HTTP."""
    assert request.transport is not None
    request.transport.write(b"220 mail.acme.test ESMTP\r\n")
    await asyncio.sleep(0.05)
    request.transport.close()
    return web.Response()


def test_something_that_is_not_http_is_a_bad_reply() -> None:
    with pytest.raises(BadReply) as caught:
        run(Scripted(babbling), retries=0)
    assert caught.value.key == "providers.not_http"


def test_a_server_without_the_encryption_that_its_address_promises_is_not_asked_twice() -> None:
    clock = FakeClock()

    async def scenario() -> None:
        async with Scripted(says(said())).running() as url:
            provider = build(url.replace("http", "https"), clock)
            try:
                await provider.complete(asked())
            finally:
                await provider.aclose()

    with pytest.raises(Unreachable) as caught:
        asyncio.run(scenario())
    assert caught.value.key == "providers.tls" and not clock.sleeps
    assert not caught.value.sent


@pytest.mark.parametrize(
    ("limits", "key"),
    [
        ({"read_timeout_s": 0.05}, "providers.read_timeout"),
        ({"total_timeout_s": 0.05}, "providers.total_timeout"),
    ],
)
def test_a_silent_server_is_given_up(limits: dict[str, float], key: str) -> None:
    with pytest.raises(Unreachable) as caught:
        run(Scripted(silent), retries=0, **limits)
    assert caught.value.key == key and "0.05" in str(caught.value)
    assert caught.value.sent


def test_what_a_model_does_not_take_is_learnt_once_per_model_and_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuses(name: str) -> Answering:
        return says(
            {"error": {"message": f"Unsupported parameter: '{name}'", "code": "unsupported_parameter"}}, 400
        )

    server = Scripted(refuses("temperature"), refuses("max_tokens"), says(said()))
    request = asked(sampling=Sampling(temperature=0, max_tokens=9))
    with caplog.at_level(logging.WARNING, "baimo.providers"):
        first, second = run(server, request, request)
    assert [sorted(row.body.keys() - {"model", "messages"}) for row in server.seen] == [
        ["max_tokens", "temperature"],
        ["max_tokens"],
        ["max_completion_tokens"],
        ["max_completion_tokens"],
    ]
    assert first.adapted == second.adapted == ("temperature",)
    assert (first.attempts, second.attempts) == (3, 1)
    assert len(caplog.records) == 2


def test_a_model_that_takes_schemas_but_no_plain_json_is_refused_once() -> None:
    refusal = says(
        {"error": "'response_format.type' of 'json_object' is not supported, use 'json_schema'"}, 400
    )
    server = Scripted(refusal, says(said("{}")))
    plain = asked(response_format=JsonFormat())
    first, second, third = run(
        server, plain, plain, asked(response_format=JsonFormat(schema={"type": "object"}))
    )
    assert [row.body.get("response_format", {}).get("type") for row in server.seen] == [
        "json_object",
        None,
        None,
        "json_schema",
    ]
    assert first.adapted == second.adapted == ("json_object",)
    assert (third.adapted, third.attempts) == ((), 1)


def test_many_calls_that_learn_the_same_at_once_all_succeed() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if "seed" in await request.json():
            return web.json_response(
                {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"]}]}, status=422
            )
        return web.json_response(said())

    async def scenario() -> list[Completion]:
        async with Scripted(answer).running() as url:
            provider = build(url, concurrency=8)
            requests = [asked(str(number), sampling=Sampling(seed=1)) for number in range(8)]
            try:
                return await asyncio.gather(*map(provider.complete, requests))
            finally:
                await provider.aclose()

    assert [found.adapted for found in asyncio.run(scenario())] == [("seed",)] * 8


def test_a_model_that_only_streams_is_streamed() -> None:
    server = Scripted(
        says({"error": {"message": "This model only supports streaming mode"}}, 400),
        streams({"choices": [{"delta": {"content": "hello"}, "finish_reason": "stop"}]}, "[DONE]"),
    )
    (found,) = run(server)
    assert (found.text, found.model, found.finish_reason) == ("hello", "m", "stop")
    assert server.seen[1].body["stream"] is True


def test_a_schema_falls_back_step_by_step() -> None:
    refusal = says({"error": {"message": "This response_format type is unavailable now"}}, 400)
    server = Scripted(refusal, refusal, says(said("{}")))
    (found,) = run(server, asked(response_format=JsonFormat(schema={"type": "object"})))
    assert [row.body.get("response_format", {}).get("type") for row in server.seen] == [
        "json_schema",
        "json_object",
        None,
    ]
    assert found.adapted == ("json_schema", "json_object")


def test_a_schema_that_is_refused_weakens_nobody_else_s(caplog: pytest.LogCaptureFixture) -> None:
    refusal = says({"error": {"message": "Invalid schema for response_format 'answer': missing 'b'."}}, 400)
    server = Scripted(refusal, says(said("{}")))
    request = asked(response_format=JsonFormat(schema={"type": "object"}))
    with caplog.at_level(logging.WARNING, "baimo.providers"):
        first, second = run(server, request, request)
    strict = [row.body["response_format"]["json_schema"]["strict"] for row in server.seen]
    assert strict == [True, False, True] and not caplog.records
    assert (first.adapted, second.adapted) == (("strict",), ())


def test_a_stream_arrives_in_pieces_with_usage_last() -> None:
    chunks = [{"choices": [{"delta": {"content": piece}}]} for piece in ("百模", " ", "大战")]
    last = {"choices": [{"delta": {}, "finish_reason": "length"}]}
    usage = {"choices": [], "model": "m-2", "usage": {"prompt_tokens": 2, "completion_tokens": 3}}
    deltas = collect(Scripted(streams(*chunks, last, usage, "[DONE]")))
    assert [delta.model for delta in deltas] == ["", "", "", "m-2"]
    assert [delta.text for delta in deltas] == ["百模", " ", "大战", ""]
    assert deltas[-1].finish_reason == "length"
    assert deltas[-1].usage is not None and deltas[-1].usage.tokens_out == 3


def test_a_stream_is_tried_again_before_its_first_piece() -> None:
    good = streams({"choices": [{"delta": {"content": "hello"}, "finish_reason": "stop"}]}, "[DONE]")
    server = Scripted(says("", 500), dropped, streams(cut=True), good)
    assert "".join(delta.text for delta in collect(server)) == "hello"


@pytest.mark.parametrize("cut", [False, True])
def test_a_stream_is_never_tried_again_after_its_first_piece(cut: bool) -> None:
    server = Scripted(streams({"choices": [{"delta": {"content": "hel"}}]}, cut=cut))
    got: list[Delta] = []

    async def scenario() -> None:
        async with server.running() as url:
            provider = build(url)
            try:
                async for delta in provider.stream(asked()):
                    got.append(delta)
            finally:
                await provider.aclose()

    with pytest.raises(BadReply):
        asyncio.run(scenario())
    assert [delta.text for delta in got] == ["hel"] and len(server.seen) == 1


def test_a_server_that_does_not_stream_is_read_whole() -> None:
    assert [delta.text for delta in collect(Scripted(says(said("hello"))))] == ["hello"]


def test_an_error_that_comes_as_a_successful_answer_is_an_error() -> None:
    with pytest.raises(RequestRefused):
        collect(Scripted(says({"error": {"code": 400, "message": "no"}})))
    with pytest.raises(RequestRefused):
        run(Scripted(says({"error": {"code": 400, "message": "no"}})))


def test_connections_are_kept_and_no_more_are_opened_than_calls_run_at_once() -> None:
    peers: list[Any] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peers.append(request.transport.get_extra_info("peername"))
        return web.json_response(said())

    async def scenario() -> None:
        async with Scripted(answer).running() as url:
            provider = build(url, concurrency=3)
            await asyncio.gather(*(provider.complete(asked(str(number))) for number in range(30)))
            await provider.aclose()

    asyncio.run(scenario())
    assert len(peers) == 30 and len(set(peers)) <= 3


def test_a_dropped_stream_gives_its_place_back() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        while True:
            await response.write(b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n')
            await asyncio.sleep(0.001)

    async def scenario() -> int:
        async with Scripted(endless).running() as url:
            provider = build(url, concurrency=1)
            for _ in range(3):
                async with aclosing(provider.stream(asked())) as deltas:
                    async for _delta in deltas:
                        break
            await provider.aclose()
            return provider.pace.in_flight

    assert asyncio.run(scenario()) == 0


def echo_of_headers(status: int) -> Answering:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": f"you sent {dict(request.headers)}"}}, status=status)

    return answer


@pytest.mark.parametrize(
    "answer", [echo_of_headers(400), echo_of_headers(401), echo_of_headers(500), dropped, half, says("{")]
)
@pytest.mark.parametrize("reference", ["", "file:{}/key"])
def test_the_key_shows_up_nowhere(
    answer: Answering, reference: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "key").write_text(CANARY + "\n")
    told: list[str] = []

    async def scenario() -> None:
        async with Scripted(answer).running() as url:
            given = settings(
                f"{url}/v1",
                key=reference.format(tmp_path),
                headers={"X-Own": f"env:{KEY_VARIABLE}"},
                retries=1,
            )
            provider = OpenAIProvider(vendor(), given, clock=FakeClock())
            try:
                await provider.complete(asked())
            except ProviderError as error:
                told.extend(
                    (
                        str(error),
                        repr(error),
                        error.hint,
                        str(error.facts),
                        "".join(traceback.format_exception(error)),
                    )
                )
                told.append(repr(pickle.dumps(error)))
            told.extend((repr(provider), str(vars(provider)), canonical(provider.spec).decode()))
            await provider.aclose()

    with caplog.at_level(logging.DEBUG):
        asyncio.run(scenario())
    assert len(told) == 9
    assert CANARY not in "\n".join([*told, caplog.text])


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("env:NOT_SET_ANYWHERE", "NOT_SET_ANYWHERE"),
        ("file:/does/not/exist", "/does/not/exist"),
        (CANARY, "configuration"),
    ],
)
def test_a_missing_key_is_named_before_anything_is_sent(key: str, words: str) -> None:
    server = Scripted(says(said()))
    with pytest.raises(AuthenticationFailed) as caught:
        run(server, key=key)
    assert words in str(caught.value) and CANARY not in str(caught.value) and not server.seen


def test_a_key_with_a_line_break_in_it_is_refused_before_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "one\ntwo")
    server = Scripted(says(said()))
    with pytest.raises(AuthenticationFailed) as caught:
        run(server)
    assert caught.value.key == "providers.unprintable_key" and not server.seen


def test_netrc_passwords_are_not_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("default login ann password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv(KEY_VARIABLE)
    server = Scripted(says(said()))

    async def scenario() -> None:
        async with server.running() as url:
            keyless = Vendor(name="open", title="Open", protocol="openai")
            provider = OpenAIProvider(keyless, settings(f"{url}/v1"))
            await provider.complete(asked())
            await provider.aclose()

    asyncio.run(scenario())
    assert "Authorization" not in server.seen[0].headers


def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    paths: list[str] = []

    async def scenario() -> None:
        async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            paths.append((await reader.readline()).decode())
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
            await writer.drain()
            writer.close()

        listener = await asyncio.start_server(proxy, "127.0.0.1", 0)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
        provider = build("http://api.acme.test")
        with pytest.raises(RequestRefused):
            await provider.complete(asked())
        await provider.aclose()
        listener.close()
        await listener.wait_closed()

    asyncio.run(scenario())
    assert paths == ["POST http://api.acme.test/v1/chat/completions HTTP/1.1\r\n"]


def test_text_that_cannot_be_sent_is_refused() -> None:
    with pytest.raises(RequestRefused) as caught:
        run(Scripted(says(said())), asked("\ud800"))
    assert caught.value.key == "providers.unsendable"


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda: OpenAIProvider(vendor(), settings("")), "providers.no_address"),
        (lambda: OpenAIProvider(vendor(), settings("ftp://x")), "providers.bad_address"),
        (lambda: OpenAIProvider(vendor(), settings("localhost:8000")), "providers.bad_address"),
        (lambda: OpenAIProvider(vendor(), settings("http://ann:pw@x/v1")), "providers.password_in_address"),
        (lambda: OpenAIProvider(vendor(base_url="https://{region}.x"), settings()), "providers.placeholder"),
        (
            lambda: OpenAIProvider(vendor(), settings("http://x", options={"file": 1})),
            "providers.unknown_option",
        ),
        (lambda: OpenAIProvider(vendor(quirks=("no_sed",)), settings("http://x")), "providers.unknown_quirk"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(change: Callable[[], object], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        change()
    assert (
        caught.value.key == key and "pw" not in str(caught.value) and str(caught.value) and caught.value.hint
    )
