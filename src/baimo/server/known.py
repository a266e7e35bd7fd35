"""Heads that were parsed before: the same bytes at the start of a request mean the same.

Clients repeat themselves: what an SDK sends before the body differs from call to call in the digits of Content-Length
only. A request that begins as the last one on its connection began, and is there to its last byte, needs no parser. The
first of its kind went through llhttp, so nothing is accepted here that would not be accepted there.
"""

from __future__ import annotations

import re

import msgspec

from baimo.server.exchange import Hot

MOST_KNOWN = 4096
LONGEST_HEAD = 8192
ONCE = frozenset(
    {b"x-request-id", b"traceparent", b"tracestate", b"idempotency-key", b"expect", b"x-forwarded-for"}
)
"""Heads with these differ each time, or mean more than the same again."""

# llhttp has seen to it that there is one, and that no value holds a line end
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]{1,15})\r\n", re.IGNORECASE)


class Known(msgspec.Struct, frozen=True):
    """A head around the digits of its Content-Length."""

    before: bytes
    after: bytes
    hot: Hot

    def body(self, data: bytes, limit_bytes: int) -> bytes | None:
        """The body, if `data`, which begins with `before`, is one whole request with this head; else None."""
        begin = len(self.before)
        end = data.find(b"\r", begin, begin + 16)
        digits = data[begin:end]
        if end < 0 or not digits.isdigit() or not data.startswith(self.after, end):
            return None
        length = int(digits)
        body = data[end + len(self.after) :]
        return body if len(body) == length <= limit_bytes else None


class Heads:
    """The known heads of one process, shared by its connections."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes], Known] = {}

    def learned(self, data: bytes, hot: Hot) -> Known | None:
        """Remember the head of a request.

        Args:
            data: exactly one request, as the parser accepted it.
            hot: what it said.
        """
        end = data.find(b"\r\n\r\n") + 4
        if end > LONGEST_HEAD or not hot.keep_alive or not ONCE.isdisjoint(hot.headers):
            return None
        found = _LENGTH.search(data, 0, end)
        if found is None or len(data) - end != int(found[1]):
            return None
        before, after = data[: found.start(1)], data[found.end(1) : end]
        known = self._known.get((before, after))
        if known is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            known = self._known[before, after] = Known(before, after, hot)
        return known
