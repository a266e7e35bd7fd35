"""What a server answers: its head at once, its body as it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from baimo.errors import BadReply, ProviderError
from baimo.providers.wire.parked import Parked

HIGH_WATER = 256 * 1024
"""Bytes that may wait for a slow reader before the server is no longer read."""


class Source(Protocol):
    """The connection that an answer comes from."""

    @property
    def host(self) -> str: ...

    def resume(self) -> None:
        """Read on after `paused`."""
        ...

    def drop(self) -> None:
        """Close it: nobody wants the rest."""
        ...


class Answer:
    """One answer. Read it with `whole` or `pieces`, and `close` it in every case.

    A complete answer has already given its connection back; closing one that is not breaks the connection, because the
    rest of its body may be long.
    """

    __slots__ = (
        "_arrived",
        "_error",
        "_size",
        "_source",
        "complete",
        "headers",
        "high_water",
        "paused",
        "status",
        "turn",
    )

    def __init__(self, source: Source) -> None:
        self._source = source
        self.turn: Parked[None] = Parked()
        """Set when there is news; `Pools.send` waits for the first."""
        self._arrived: list[bytes] = []
        self._size = 0
        self._error: ProviderError | None = None
        self.status = 0
        """HTTP status; 0 = the head has not come."""
        self.headers: Mapping[bytes, bytes] = {}
        """Lower-case names; values of a repeated one joined by a comma."""
        self.complete = False
        """Nothing more will come: it ended, or failed."""
        self.high_water = HIGH_WATER
        self.paused = False

    # the connection's side

    def take(self, piece: bytes) -> bool:
        """Bytes of the body arrived; True = enough for now, stop reading."""
        self._arrived.append(piece)
        self._size += len(piece)
        return self._size > self.high_water

    def finish(self, error: ProviderError | None = None) -> None:
        """It ended here, or broke off."""
        if not self.complete:
            self.complete = True
            self._error = error

    def wake(self) -> None:
        """There is news for whoever waits."""
        self.turn.set(None)

    def opened(self) -> Answer:
        """Itself, with status and headers.

        Raises:
            Unreachable, BadReply: they will not come.
        """
        self.turn.clear()
        if self._error is not None and not self.status:
            raise self._error
        return self

    # the caller's side

    async def whole(self, limit_bytes: int) -> bytes:
        """The body.

        Raises:
            BadReply: it is longer than `limit_bytes`, or broke off.
            Unreachable: the connection failed, or nothing came for too long (stage body).
        """
        self.high_water = limit_bytes  # reading on until then: nobody takes pieces out
        self._read_on()
        while True:
            if self._size > limit_bytes:
                self.close()
                raise BadReply("wire.too_large", host=self._source.host, limit=limit_bytes)
            if self.complete:
                break
            await self._news()
        if self._error is not None:
            raise self._error
        body = self._arrived[0] if len(self._arrived) == 1 else b"".join(self._arrived)
        self._arrived.clear()
        return body

    def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes, without the framing of chunks: everything that has arrived since the last piece.

        Raises, from the iteration, what `whole` raises; the pieces that came before are handed out first.
        """
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        arrived = self._arrived
        while not arrived:
            if self.complete:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            await self._news()
        piece = arrived[0] if len(arrived) == 1 else b"".join(arrived)
        arrived.clear()
        self._size = 0
        self._read_on()
        return piece

    def close(self) -> None:
        """Done with it."""
        if not self.complete:
            self.complete = True
            self._source.drop()
        self._arrived.clear()

    def _read_on(self) -> None:
        if self.paused:
            self.paused = False
            self._source.resume()

    async def _news(self) -> None:
        turn = self.turn
        try:
            await turn
        except BaseException:  # whoever waited has gone: what comes now is for nobody
            self.close()
            raise
        turn.clear()
