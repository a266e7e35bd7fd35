"""TLS, proxies and addresses of the upstream client."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from tests.providers.wire.scripted import Talk, answer, upstream
from tests.waiting import PATIENCE_S

from baimo.errors import ConfigError, Unreachable
from baimo.providers.wire.dial import _taking_turns
from baimo.providers.wire.origin import Stages, origin
from baimo.providers.wire.pool import Pools

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def runner(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=request.param) as under:
            return under.run(asyncio.wait_for(coroutine, PATIENCE_S))

    return runner


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Certificate for model.test and 127.0.0.1, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command is missing")
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += [
        "-days",
        "2",
        "-subj",
        "/CN=model.test",
        "-addext",
        "subjectAltName=DNS:model.test,IP:127.0.0.1",
    ]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


def serving_with(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


async def hello(talk: Talk) -> None:
    while True:
        await talk.request()
        await talk.say(answer(b"hello"))


async def asked(pools: Pools, at: Any) -> bytes:
    return await (await pools.send(at, b"POST", b"/v1/x", (), b"{}")).whole(1000)


def test_tls_is_checked_against_the_name_and_the_connection_is_kept(
    run: Run, certificate: tuple[Path, Path]
) -> None:
    async def main() -> None:
        async with upstream(hello, context=serving_with(certificate)) as server:
            trusting = Pools(context=ssl.create_default_context(cafile=str(certificate[0])))
            at = origin(f"https://127.0.0.1:{server.port}")
            assert [await asked(trusting, at) for _ in range(3)] == [b"hello"] * 3
            assert server.connections == 1
            wrong_name = origin(f"https://localhost:{server.port}")
            strangers = Pools()
            for pools, wrong in ((trusting, wrong_name), (strangers, at)):
                with pytest.raises(Unreachable) as caught:
                    await asked(pools, wrong)
                assert (caught.value.stage, caught.value.sent, caught.value.retryable) == (
                    "tls",
                    False,
                    False,
                )
                assert "certificate" in str(caught.value)
            await trusting.aclose()
            await strangers.aclose()

    run(main())


def test_tls_with_a_server_that_speaks_plainly_fails_in_its_stage(run: Run) -> None:
    async def plain(talk: Talk) -> None:
        await talk.reader.read(10)
        await talk.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def main() -> None:
        async with upstream(plain) as server:
            pools = Pools()
            with pytest.raises(Unreachable) as caught:
                await asked(pools, origin(f"https://127.0.0.1:{server.port}"))
            assert caught.value.stage == "tls" and not caught.value.sent
            await pools.aclose()

    run(main())


def test_a_handshake_that_never_ends_costs_the_connect_stage(run: Run) -> None:
    async def silent(talk: Talk) -> None:
        await asyncio.sleep(10)

    async def main() -> None:
        async with upstream(silent) as server:
            pools = Pools()
            at = origin(f"https://127.0.0.1:{server.port}", stages=Stages(connect_s=0.2))
            with pytest.raises(Unreachable, match=r"within 0\.2 s") as caught:
                await asked(pools, at)
            assert caught.value.stage == "tls" and not caught.value.sent
            await pools.aclose()

    run(main())


def test_https_goes_through_a_proxy_by_connect_with_its_password(
    run: Run, certificate: tuple[Path, Path]
) -> None:
    asked_for: list[bytes] = []

    async def main() -> None:
        async with upstream(hello, context=serving_with(certificate)) as server:

            async def proxy(talk: Talk) -> None:
                asked_for.append(await talk.reader.readuntil(b"\r\n\r\n"))
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                await talk.say(b"HTTP/1.1 200 Connection ", b"established\r\nvia: test\r\n\r\n")

                async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                    while data := await source.read(65_536):
                        sink.write(data)
                    sink.close()

                try:
                    await asyncio.gather(pump(talk.reader, writer), pump(reader, talk.writer))
                finally:
                    writer.transport.abort()

            async with upstream(proxy) as between:
                pools = Pools(context=ssl.create_default_context(cafile=str(certificate[0])))
                at = origin("https://model.test:8443", proxy=f"http://me:p%40ss@127.0.0.1:{between.port}")
                assert await asked(pools, at) == b"hello" and await asked(pools, at) == b"hello"
                await pools.aclose()
            assert b"\r\nhost: model.test:8443\r\n" in server.requests[0]
            assert b"proxy-authorization" not in server.requests[0]
        [connect] = asked_for
        assert connect.startswith(b"CONNECT model.test:8443 HTTP/1.1\r\n")
        assert b"proxy-authorization: Basic bWU6cEBzcw==\r\n" in connect

    run(main())


@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 407 Proxy Auth\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nsurplus", b"", b"NO\r\n\r\n"]
)
def test_a_proxy_that_refuses_or_says_too_much_is_an_error_of_its_own_stage(run: Run, said: bytes) -> None:
    async def proxy(talk: Talk) -> None:
        await talk.reader.readuntil(b"\r\n\r\n")
        await talk.say(said)

    async def main() -> None:
        async with upstream(proxy) as between:
            pools = Pools()
            with pytest.raises(Unreachable) as caught:
                await asked(
                    pools, origin("https://model.test", proxy=f"http://me:canary@127.0.0.1:{between.port}")
                )
            assert (caught.value.stage, caught.value.sent) == ("proxy", False)
            assert "canary" not in str(caught.value)
            await pools.aclose()

    run(main())


def test_plain_http_goes_through_a_proxy_in_absolute_form(run: Run) -> None:
    async def main() -> None:
        async with upstream(hello) as between:
            pools = Pools()
            at = origin("http://model.test", proxy=f"http://me:pass@127.0.0.1:{between.port}")
            assert await asked(pools, at) == b"hello"
            assert between.requests[0].startswith(
                b"POST http://model.test/v1/x HTTP/1.1\r\nhost: model.test\r\n"
            )
            assert b"\r\nproxy-authorization: Basic " in between.requests[0]
            await pools.aclose()

    run(main())


def test_the_environment_names_the_proxy_and_who_goes_past_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:3128")
    monkeypatch.setenv("NO_PROXY", "inside.test")
    found = origin("https://api.test").proxy
    assert found is not None and (found.host, found.port) == ("proxy.test", 3128)
    assert origin("http://api.test").proxy is None
    assert origin("https://inside.test").proxy is None
    assert origin("https://127.0.0.1:8000").proxy is None
    assert origin("https://inside.test", proxy="http://proxy.test:3128").proxy is None


@pytest.mark.parametrize(
    "url", ["ftp://x", "api.example.com", "http://", "https://x:notaport", "http+tcp://x", "http://u:p@x", ""]
)
def test_an_address_that_is_none_or_holds_a_password_is_refused_without_repeating_the_password(
    url: str,
) -> None:
    with pytest.raises(ConfigError) as caught:
        origin(url)
    assert "u:p" not in str(caught.value) and caught.value.hint


@pytest.mark.parametrize("proxy", ["https://proxy.test", "http://", "http://x:notaport"])
def test_a_proxy_that_cannot_be_one_is_refused(proxy: str) -> None:
    with pytest.raises(ConfigError):
        origin("https://api.test", proxy=proxy)


def test_names_say_what_is_unusual() -> None:
    urls = [
        "https://a.test",
        "https://a.test:8443",
        "http://[::1]:80",
        "http://[::1]:81",
        "http+unix://%2Frun%2Fm",
    ]
    assert [origin(url).name for url in urls] == ["a.test", "a.test:8443", "[::1]", "[::1]:81", "/run/m"]
    assert b"host: xn--bcher-kva.test\r\n" in origin("https://bücher.test").first_line(b"GET", b"/")


def test_address_families_take_turns() -> None:
    found = [(family, 1, 6, "", (f"{family}.{at}", 80)) for family in (10, 2) for at in range(3)]
    assert [address[0] for _, _, address in _taking_turns(found)] == [
        "10.0",
        "2.0",
        "10.1",
        "2.1",
        "10.2",
        "2.2",
    ]


def test_an_address_that_does_not_answer_does_not_hold_up_the_one_that_does(run: Run) -> None:
    from baimo.providers.wire.dial import _first

    async def main() -> None:
        async with upstream(hello) as server:
            good = (2, 6, ("127.0.0.1", server.port))
            dead = (2, 6, ("127.0.0.1", 1))
            for candidates in ([dead, good], [good, dead], [dead, dead, good]):
                connected = await _first(list(candidates))
                assert connected.getpeername()[1] == server.port
                connected.close()
            with pytest.raises(ConnectionRefusedError):
                await _first([dead, dead])

    run(main())
