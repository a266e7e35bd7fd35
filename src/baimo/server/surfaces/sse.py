"""Server-sent events: writing them, and watching a stream that passes through.

Prevents two failures: a gateway that decodes every event of every stream only to learn the token counts in the last
one, and counts that are missed because an event was cut in two by the network.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from typing import Any

from baimo.gateway.surface import Seen
from baimo.server.surfaces import wirejson

LONGEST_LINE = 16 * 1024 * 1024
"""Bytes of a line that are kept until its end comes; of a longer one nothing is read."""


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
    """Passes every byte on at once; reads only the data lines that hold one of its marks.

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
        self._bytes = 0
        self._pieces = 0

    def feed(self, piece: bytes) -> bytes:
        """The piece, unchanged."""
        self._bytes += len(piece)
        self._pieces += piece.count(self._opener)
        lines = piece
        if self._held or not piece.endswith(b"\n"):
            lines = self._completed(piece)
        for mark in self._marks:
            if lines.find(mark) >= 0:
                self._read(lines)
                break
        return piece

    def rest(self) -> bytes:
        """Nothing was held back; a last line without its end is read."""
        if self._held:
            self._read(b"".join(self._held))
            self._held.clear()
        return b""

    @abstractmethod
    def seen(self) -> Seen:
        """What the stream has said so far."""

    @abstractmethod
    def read(self, data: bytes) -> None:
        """Look at the data of one event that holds a mark; whatever cannot be understood is left alone."""

    @property
    def text_bytes(self) -> int:
        """About how many bytes of answer came."""
        return max(0, self._bytes - self._pieces * self._overhead) if self._pieces else 0

    def _completed(self, piece: bytes) -> bytes:
        """The lines that end in this piece; the rest is held until its end comes."""
        end = piece.rfind(b"\n") + 1
        rest = piece[end:]
        lines = b""
        if end:
            lines = b"".join((*self._held, piece[:end]))
            self._held.clear()
            self._held_bytes = 0
        self._held_bytes += len(rest)
        if self._held_bytes > LONGEST_LINE:
            self._held.clear()  # what still comes of this line will not begin with "data:" and is left alone
        elif rest:
            self._held.append(rest)
        return lines

    def _read(self, lines: bytes) -> None:
        for line in lines.splitlines():
            if line.startswith(b"data:") and any(mark in line for mark in self._marks):
                self._bytes -= len(line)  # it holds no text
                self.read(line[5:])
