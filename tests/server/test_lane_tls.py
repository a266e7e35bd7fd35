"""The lane behind TLS, by uvicorn's own options."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
import uvloop

from baimo.server.exchange import Exchange
from tests.server.certificates import certificate
from tests.server.lane_house import Client, house, post


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key."""
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_hot_and_cold_requests_and_refusals_go_through_tls(loop: Any, files: tuple[Path, Path]) -> None:
    async def hot(call: Exchange) -> None:
        call.start(200, b"")
        for _ in range(20):
            call.write(call.body * 1000)
            if (behind := call.drained()) is not None:
                await behind
        call.end()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["scheme"].encode()})

    async def main() -> None:
        options = {"ssl_certfile": files[0], "ssl_keyfile": files[1]}
        async with house({(b"POST", b"/hot"): hot}, app, options=options, max_body_mib=1) as at:
            context = ssl.create_default_context(cafile=str(files[0]))
            client = Client(*await asyncio.open_connection("127.0.0.1", at.port, ssl=context))
            for _ in range(2):
                client.send(post(b"0123456789"))
                assert len((await client.answer()).body) == 200_000
                client.send(b"GET /cold HTTP/1.1\r\nHost: t\r\n\r\n")
                assert (await client.answer()).body == b"https"
            client.send(b"POST /hot HTTP/1.1\r\nHost: t\r\nContent-Length: 9999999\r\n\r\n")
            assert (await client.answer()).status == 413
            assert await client.reader.read() == b""
            client.close()

    with asyncio.Runner(loop_factory=loop) as under:
        under.run(asyncio.wait_for(main(), 25))
