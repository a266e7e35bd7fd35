"""Server-sent events from bytes that arrive in any pieces.

Prevents the failure where a character, a CRLF or an event that straddles two network reads is lost or read twice.
Follows the HTML standard's "Interpreting an event stream" (html.spec.whatwg.org, 9.2.6), with one leniency: lines
that are complete when the stream ends are dispatched even if the closing blank line is missing, because several
model servers end that way.
"""

from __future__ import annotations

from typing import NamedTuple

_BOM = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One dispatched event."""

    event: str
    """Its type; "message" where the server gave none."""
    data: str
    """Its data lines, joined by newlines."""


class SseParser:
    """Feed it bytes; it returns the events that they complete."""

    def __init__(self) -> None:
        self._rest = b""
        self._skip_newline = False
        self._started = False
        self._type = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[Event]:
        """Events completed by `chunk`, oldest first."""
        buffer = self._rest + chunk
        if not self._started:
            if len(buffer) < len(_BOM) and _BOM.startswith(buffer):
                self._rest = buffer
                return []
            self._started = True
            buffer = buffer.removeprefix(_BOM)
        if self._skip_newline and buffer:
            self._skip_newline = False
            buffer = buffer.removeprefix(
                b"\n"
            )  # the second half of a CRLF whose first half ended the last chunk
        self._skip_newline = self._skip_newline or buffer.endswith(b"\r")
        *lines, self._rest = buffer.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        return [event for line in lines if (event := self._line(line)) is not None]

    def close(self) -> list[Event]:
        """The event whose lines were complete when the stream ended; a half line is dropped."""
        event = self._dispatch()
        return [] if event is None else [event]

    def _line(self, line: bytes) -> Event | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(b":")
        text = value.removeprefix(b" ").decode("utf-8", errors="replace")
        if field == b"data":
            self._data.append(text)
        elif field == b"event":
            self._type = text
        return None  # comments, id and retry are of no use here: a model's answer is never resumed

    def _dispatch(self) -> Event | None:
        kind, self._type = self._type, ""
        data, self._data = self._data, []
        return Event(kind or "message", "\n".join(data)) if data else None
