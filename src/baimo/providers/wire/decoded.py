"""An answer that came compressed, although plain bytes were asked for.

Prevents two failures: compressed bytes handed to a client that was not told of it, and a small answer that fills the
memory once it is unpacked.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from baimo.errors import BadReply

_EITHER = 32 + zlib.MAX_WBITS
"""gzip or zlib, as the first bytes say."""
_BARE = -zlib.MAX_WBITS


class Encoded(Protocol):
    """What is unpacked: `Answer`."""

    status: int
    headers: Mapping[bytes, bytes]

    def pieces(self) -> AsyncIterator[bytes]: ...

    def close(self) -> None: ...


class Decoded:
    """Reads like `Answer`. gzip and deflate are unpacked (RFC 9110, 8.4.1); who reads another is told its name."""

    def __init__(self, answer: Encoded, coding: bytes, *, host: str, limit_bytes: int) -> None:
        """
        Args:
            answer: whose body has not been read.
            coding: its content-encoding.
            host: what errors name.
            limit_bytes: longest body, unpacked.
        """
        self.status = answer.status
        self.headers = answer.headers
        self._answer = answer
        self._pieces = answer.pieces()
        self._coding = coding.strip().lower()
        self._host = host
        self._limit = limit_bytes
        self._size = 0
        self._inflating: Any = None

    async def whole(self, limit_bytes: int) -> bytes:
        """The body.

        Raises:
            BadReply: it is longer than `limit_bytes`, broke off, or cannot be unpacked.
            Unreachable: the connection failed.
        """
        self._limit = min(self._limit, limit_bytes)
        return b"".join([piece async for piece in self])

    def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes; raises what `whole` raises."""
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        async for packed in self._pieces:
            piece = self._unpacked(packed)
            if piece:
                return piece
        if self._inflating is not None and not self._inflating.eof:
            raise BadReply("wire.truncated", host=self._host)
        raise StopAsyncIteration

    def close(self) -> None:
        """Done with it."""
        self._answer.close()

    def _unpacked(self, packed: bytes) -> bytes:
        if self._inflating is None:
            self._inflating = self._begun(packed[0])
        try:
            # a limit of 0 would be none
            unpacked: bytes = self._inflating.decompress(packed, self._limit - self._size + 1)
        except zlib.error as error:
            raise BadReply("wire.bad_encoding", host=self._host, problem=str(error)) from None
        self._size += len(unpacked)
        if self._size > self._limit:
            raise BadReply("wire.too_large", host=self._host, limit=self._limit)
        if self._inflating.unused_data:  # several gzip members are allowed, but no server needs them
            raise BadReply("wire.bad_encoding", host=self._host, problem="bytes after the end")
        return unpacked

    def _begun(self, first: int) -> Any:
        if self._coding not in {b"gzip", b"x-gzip", b"deflate"}:
            coding = self._coding.decode("latin-1")[:40]
            raise BadReply("wire.unknown_encoding", host=self._host, coding=coding)
        # "deflate" is zlib's form, whose first byte ends in 8; some servers send it bare (RFC 9110, 8.4.1.2)
        bare = self._coding == b"deflate" and first & 15 != 8
        return zlib.decompressobj(_BARE if bare else _EITHER)
