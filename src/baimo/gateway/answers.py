"""What an attempt brings back, whichever way the model was reached: a whole answer, or a stream that has begun."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import msgspec

from baimo.errors import BaimoError, BudgetExceeded, Conflict, LimitReached, NotSupported
from baimo.gateway.call import Reply
from baimo.gateway.surface import Seen

Headers = list[tuple[bytes, bytes]]
EVENTS: Headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
"""Of a stream that is written here."""
LONGEST_KEPT = 4 * 1024 * 1024
"""Most bytes of one answer that are kept for the cache or with a Record."""


LONGEST_PATIENCE_S = 60.0
"""The official SDKs wait no longer than this for what Retry-After says; after that they would knock in vain."""


def lines(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Header lines of an answer, each with its end; what `Reply` is given is made of such parts alone.

    Raises:
        ValueError: a name or value holds a line break or NUL.
    """
    block = b""
    for pair in headers:
        block += _lines.get(pair) or _line(pair)
    return block


def _line(pair: tuple[bytes, bytes]) -> bytes:
    line = b"%s: %s\r\n" % pair
    if _BREAKS(line, 0, len(line) - 2) is not None:
        raise ValueError("a response header holds a line break")
    if pair[0] == b"content-type" and len(_lines) < _REMEMBERED and len(line) < _SHORT:
        _lines[pair] = line
    return line


_BREAKS = re.compile(rb"[\r\n\0]").search
_REMEMBERED, _SHORT = 64, 256
_lines: dict[tuple[bytes, bytes], bytes] = {}
"""Content types that were written before: nearly every answer has one of the same few."""


def by_name(block: bytes) -> dict[bytes, bytes]:
    """Headers by name, of lines."""
    pairs = (line.partition(b": ") for line in block.splitlines())
    return {name: value for name, _, value in pairs}


def retry_headers(error: BaimoError) -> Headers:
    """Retry-After, where the error knows when, and x-should-retry: false, where an SDK's next try cannot succeed."""
    seconds: float | None = getattr(error, "retry_after_s", None)
    headers: Headers = []
    if seconds is not None:
        headers.append((b"retry-after", b"%d" % max(1, round(seconds + 0.499))))
    used_up = isinstance(error, LimitReached) and (seconds is None or seconds > LONGEST_PATIENCE_S)
    if used_up or isinstance(error, (BudgetExceeded, Conflict, NotSupported)):
        headers.append((b"x-should-retry", b"false"))
    return headers


class Whole(msgspec.Struct, frozen=True):
    """A complete answer, ready for the client."""

    status: int
    headers: Headers
    """content-type and what else of the model's head is passed on."""
    body: bytes
    seen: Seen
    calls: int = 1
    """How many calls it is the sum of."""


class Flow(Protocol):
    """A stream whose first bytes are here: no other model can be asked any more once they are sent."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Headers: ...

    @property
    def calls(self) -> int:
        """How many calls it is the sum of."""
        ...

    async def pour(self, reply: Reply, *, hold: bool, keep: list[bytes] | None) -> bytes:
        """Write the stream to the client as it comes.

        Args:
            reply: the client's side, started.
            hold: give back what follows the model's last word instead of writing it.
            keep: also put there what the client got, up to `LONGEST_KEPT`.

        Returns:
            What is still to be written when the Record is closed.

        Raises:
            ProviderError: the model broke off.
        """
        ...

    def seen(self) -> Seen:
        """What the stream has said about itself so far."""
        ...

    def failed(self, error: BaimoError) -> bytes:
        """An error event in the client's wire format."""
        ...

    async def aclose(self) -> None:
        """Give the connection back, or close it if the answer has not ended."""
        ...


class Keeper:
    """Collects what a client got, as long as it stays small enough to be kept."""

    __slots__ = ("_into", "_size")

    def __init__(self, into: list[bytes]) -> None:
        self._into = into
        self._size = 0

    def add(self, piece: bytes) -> None:
        """Also keep this."""
        self._size += len(piece)
        if self._size <= LONGEST_KEPT:
            self._into.append(piece)
        else:
            self._into.clear()
