"""Server-sent events: writing them, and watching a stream that passes through.

Prevents three failures: a gateway that decodes every event of every stream only to learn the token counts in the last
one, counts that are missed because an event was cut in two by the network, and an error event of ours that no client
can read because it follows half of another.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from typing import Any

from baimo.errors import BaimoError
from baimo.gateway.surface import Events, Seen
from baimo.server.surfaces import wirejson

LONGEST_EVENT = 16 * 1024 * 1024
"""Bytes of an unfinished event that are held back; a longer one passes on in parts and is not understood."""


def event(kind: str, data: Any) -> bytes:
    """One event with a type of its own, as Anthropic's Messages and OpenAI's Responses send them."""
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), encoded(data))


def encoded(data: Any) -> bytes:
    """JSON of an answer. A model may write half of a surrogate pair, which has no UTF-8: it leaves as an escape."""
    try:
        return wirejson.written(data)
    except UnicodeEncodeError:
        return json.dumps(data, separators=(",", ":")).encode()


class LineWatch:
    """Passes whole events on, an unfinished one waits for its end; reads only the data lines that hold a mark.

    Args:
        marks: what a line that matters holds; each costs one search of every piece.
        opener: begins every event with a piece of the answer.
        overhead: bytes of such an event without its text, for the estimate of `text_bytes`.
    """

    def __init__(self, *, marks: tuple[bytes, ...], opener: bytes, overhead: int) -> None:
        self._marks = marks
        self._opener = opener
        self._overhead = overhead
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._seam = b""  # last bytes of what is held: the blank line may be cut
        self._bytes = 0
        self._pieces = 0
        self._block = b""
        """The events that were passed on last."""

    def feed(self, piece: bytes) -> bytes:
        """The events that the piece completes, as they came."""
        if self._held or not piece.endswith(b"\n\n"):
            piece = self._completed(piece)
            if not piece:
                return b""
        self._block = piece
        self._bytes += len(piece)
        self._pieces += piece.count(self._opener)
        for mark in self._marks:
            if piece.find(mark) >= 0:
                self._read(piece)
                break
        return piece

    def rest(self) -> bytes:
        """An event without its end; it is looked at like the others."""
        if not self._held:
            return b""
        held, passed = b"".join(self._held), self._block
        self._hold(b"")
        rest = self.feed(held + b"\n\n")[:-2]
        self._block = passed  # where the stream broke, this is not handed on
        return rest

    @abstractmethod
    def seen(self) -> Seen:
        """What the stream has said so far."""

    def failed(self, error: BaimoError, events: Events) -> bytes:
        """An error event; nothing in it depends on what came."""
        return events.failed(error)

    @abstractmethod
    def read(self, data: bytes) -> None:
        """Look at the data of one event that holds a mark; whatever cannot be understood is left alone."""

    @property
    def text_bytes(self) -> int:
        """About how many bytes of answer came."""
        return max(0, self._bytes - self._pieces * self._overhead) if self._pieces else 0

    def _completed(self, piece: bytes) -> bytes:
        """What is complete of what is held and `piece`; the rest is held."""
        # only what is new is searched: an event of many pieces must not cost their square
        near = self._seam + piece
        end = near.rfind(b"\n\n") + 2
        if near.find(b"\r") >= 0:
            end = max(end, near.rfind(b"\n\r\n") + 3, near.rfind(b"\r\r") + 2)
        if end > 2:  # -1 + 3 is none; no event is that short
            end -= len(self._seam)
        elif self._held_bytes + len(piece) > LONGEST_EVENT:
            end = len(piece)
        else:
            self._held.append(piece)
            self._held_bytes += len(piece)
            self._seam = near[-3:]
            return b""
        whole = b"".join((*self._held, piece[:end]))
        self._hold(piece[end:])
        return whole

    def _hold(self, rest: bytes) -> None:
        self._held = [rest] if rest else []
        self._held_bytes = len(rest)
        self._seam = rest[-3:]

    def _read(self, lines: bytes) -> None:
        for line in lines.splitlines():
            if line.startswith(b"data:") and any(mark in line for mark in self._marks):
                self._bytes -= len(line)  # it holds no text
                self.read(line[5:])
