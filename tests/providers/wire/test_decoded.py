"""Answers that come compressed although nobody asked for that."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Mapping

import pytest

from baimo.errors import BadReply
from baimo.providers.wire.decoded import Decoded

BODY = b"data: one\n\n" * 500
BARE = zlib.compressobj(wbits=-15)
PACKED: list[tuple[bytes, bytes]] = [
    (b"gzip", gzip.compress(BODY)),
    (b"X-GZIP", gzip.compress(BODY)),
    (b"deflate", zlib.compress(BODY)),
    (b"deflate", BARE.compress(BODY) + BARE.flush()),
]


class Scripted:
    """An answer whose body is known."""

    status = 200
    headers: Mapping[bytes, bytes] = {}

    def __init__(self, *pieces: bytes) -> None:
        self._given = pieces
        self.closed = False

    async def pieces(self) -> AsyncIterator[bytes]:
        for piece in self._given:
            yield piece

    def close(self) -> None:
        self.closed = True


def read(coding: bytes, *pieces: bytes, limit: int = 1_000_000) -> bytes:
    return asyncio.run(Decoded(Scripted(*pieces), coding, host="h", limit_bytes=limit).whole(limit))


def refused(coding: bytes, *pieces: bytes, limit: int = 1_000_000) -> str:
    with pytest.raises(BadReply) as caught:
        read(coding, *pieces, limit=limit)
    return caught.value.key


@pytest.mark.parametrize(("coding", "packed"), PACKED, ids=["gzip", "x-gzip", "zlib", "deflate"])
def test_what_was_packed_is_unpacked_however_it_is_cut(coding: bytes, packed: bytes) -> None:
    assert read(coding, packed) == BODY
    assert read(coding, *(bytes([byte]) for byte in packed)) == BODY


def test_pieces_come_as_soon_as_they_can_be_unpacked() -> None:
    packing = zlib.compressobj(wbits=31)
    events = [b"data: %d\n\n" % number for number in range(3)]
    packed = [packing.compress(event) + packing.flush(zlib.Z_SYNC_FLUSH) for event in events]

    async def main() -> list[bytes]:
        return [
            piece
            async for piece in Decoded(Scripted(*packed, packing.flush()), b"gzip", host="h", limit_bytes=99)
        ]

    assert asyncio.run(main()) == events


@pytest.mark.parametrize(("coding", "packed"), PACKED, ids=["gzip", "x-gzip", "zlib", "deflate"])
def test_half_of_it_is_not_taken_for_the_whole(coding: bytes, packed: bytes) -> None:
    assert refused(coding, packed[:-1]) == "wire.truncated"
    assert refused(coding, packed + b"x") == "wire.bad_encoding"


def test_no_more_is_unpacked_than_an_answer_may_have() -> None:
    assert read(b"gzip", gzip.compress(bytes(1000)), limit=1000) == bytes(1000)
    assert refused(b"gzip", gzip.compress(bytes(1001)), limit=1000) == "wire.too_large"
    assert refused(b"gzip", gzip.compress(bytes(300_000_000), 9), limit=1000) == "wire.too_large"


def test_what_cannot_be_unpacked_is_named() -> None:
    assert refused(b"gzip", b"{}") == "wire.bad_encoding"
    assert refused(b"br", b"x") == refused(b"gzip, gzip", b"x") == "wire.unknown_encoding"
    assert read(b"br") == b""


def test_closing_closes_the_answer() -> None:
    answer = Scripted()
    Decoded(answer, b"gzip", host="h", limit_bytes=9).close()
    assert answer.closed
