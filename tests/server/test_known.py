"""Heads that were parsed before."""

from __future__ import annotations

import asyncio

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from baimo.gateway.answers import lines
from baimo.server.exchange import Exchange, Hot
from baimo.server.known import Heads
from tests.server.lane_house import house, post

HEAD = b"POST /hot HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\nX-Key: a\r\n\r\n"


async def nothing(call: Exchange) -> None: ...


class Parsed:
    """What llhttp says."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ended = 0

    def on_body(self, piece: bytes) -> None:
        self.pieces.append(piece)

    def on_message_complete(self) -> None:
        self.ended += 1


def hot(**fields: bytes) -> Hot:
    headers = {name.replace("_", "-").encode(): value for name, value in fields.items()}
    return Hot(nothing, b"POST", b"/hot", b"", headers, True, True)


def test_the_same_head_with_another_length_gives_the_body() -> None:
    known = Heads().learned(HEAD % 4 + b"body", hot())
    assert known is not None
    for body in (b"", b"x", b"body", b"longer than before", b"\r\n\r\n"):
        data = HEAD % len(body) + body
        assert data.startswith(known.before) and known.body(data, 1000) == body


@pytest.mark.parametrize(
    "data",
    [
        HEAD % 4 + b"bod",
        HEAD % 4 + b"body!",
        HEAD % 4 + b"body" + HEAD % 0,
        HEAD[:-2] % 4 + b"X-More: 1\r\n\r\nbody",
        (HEAD % 4).replace(b"X-Key: a", b"X-Key: b") + b"body",
        (HEAD % 4).replace(b": 4", b": +4") + b"body",
        (HEAD % 4).replace(b": 4", b": 4 ") + b"body",
        (HEAD % 4).replace(b": 4", b": 0x4") + b"body",
        (HEAD % 4).replace(b": 4", b": ") + b"body",
        (HEAD % 4).replace(b": 4", b": 4\r\nContent-Length: 4") + b"body",
        (HEAD % 4).replace(b": 4", b": 00000000000000000000004") + b"body",
        HEAD % 4,
    ],
)
def test_anything_else_goes_to_the_parser(data: bytes) -> None:
    known = Heads().learned(HEAD % 4 + b"body", hot())
    assert known is not None
    assert known.body(data, 1000) is None


def test_a_body_over_the_limit_goes_to_the_parser_which_refuses_it() -> None:
    known = Heads().learned(HEAD % 4 + b"body", hot())
    assert known is not None and known.body(HEAD % 4 + b"body", 3) is None


def test_heads_that_will_not_come_again_are_not_kept_and_the_others_are_shared() -> None:
    heads = Heads()
    data = HEAD % 4 + b"body"
    assert heads.learned(data, hot()) is heads.learned(HEAD % 5 + b"body!", hot())
    assert heads.learned(data, hot(x_request_id=b"1")) is None
    assert heads.learned(data, replace(hot(), keep_alive=False)) is None
    assert heads.learned(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", hot()) is None
    assert heads.learned(data + b"x", hot()) is None


@given(st.binary(max_size=30), st.binary(max_size=12), st.integers(min_value=0, max_value=99))
def test_what_is_taken_without_the_parser_is_what_the_parser_says(
    body: bytes, noise: bytes, length: int
) -> None:
    known = Heads().learned(HEAD % 4 + b"body", hot())
    assert known is not None
    for data in (HEAD % len(body) + body, known.before + noise + known.after + body, HEAD % length + body):
        taken = known.body(data, 1000)
        if taken is None:
            continue
        parsed = Parsed()
        httptools.HttpRequestParser(parsed).feed_data(data)
        assert parsed.ended == 1 and b"".join(parsed.pieces) == taken


def test_requests_alternate_between_known_and_new_on_one_connection() -> None:
    async def echo(call: Exchange) -> None:
        call.whole(200, lines([(b"x-key", call.headers.get(b"x-key", b"-"))]), call.body)

    async def main() -> None:
        async with house({(b"POST", b"/hot"): echo}, max_body_mib=0.001) as at:
            client = await at.client()
            for number in range(40):
                key = b"X-Key: %d\r\n" % (number // 3)
                client.send(post(b"body %d" % number, head=key))
                answer = await client.answer()
                assert (answer.body, answer.headers["x-key"]) == (b"body %d" % number, str(number // 3))
            client.send(post(b"x" * 2_000, head=key))
            assert (await client.answer()).status == 413
            client.close()

    asyncio.run(main())


def test_a_head_is_not_remembered_with_the_trailers_of_the_request_before_it() -> None:
    async def keys(call: Exchange) -> None:
        call.whole(200, b"", call.headers.get(b"x-key", b"-"))

    async def main() -> None:
        async with house({(b"POST", b"/hot"): keys}) as at:
            client = await at.client()
            client.send(
                b"POST /hot HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Key: a\r\n\r\n"
            )
            assert (await client.answer()).body == b"-"
            for _ in range(3):
                client.send(post(b"body"))
                assert (await client.answer()).body == b"-"
            client.close()

    asyncio.run(main())
