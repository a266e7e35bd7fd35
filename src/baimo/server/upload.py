"""multipart/form-data (RFC 7578) as it comes from the network: piece by piece, never all of it in memory.

Prevents an upload that has to fit into memory, and a form that two parsers read differently: whatever is not plain is
refused, as in `surfaces.form`.
"""

from __future__ import annotations

from typing import NamedTuple

from baimo.errors import CallRefused
from baimo.server.surfaces.form import named

LONGEST_HEAD = 4096


class Part(NamedTuple):
    """A piece of a field."""

    name: str
    filename: str | None
    """None = it is no file."""
    data: bytes
    last: bool
    """The field ends with it."""


class Form:
    """A form on its way in."""

    def __init__(self, boundary: bytes) -> None:
        """
        Args:
            boundary: of `surfaces.form.boundary_of`.
        """
        self.ended = False
        """Its last delimiter came."""
        self._delimiter = b"\r\n--" + boundary
        self._window = bytearray(b"\r\n")  # before the first delimiter there is no line feed
        self._field: tuple[str, str | None] | None = None

    def feed(self, piece: bytes) -> list[Part]:
        """What this piece of the body brings.

        Raises:
            CallRefused: it is broken, or could be read in two ways.
        """
        self._window += piece
        found: list[Part] = []
        while not self.ended and self._step(found):
            pass
        if self.ended and self._window.strip(b"\r\n \t"):
            raise CallRefused("surfaces.broken_form")
        return found

    def _step(self, found: list[Part]) -> bool:
        """Read on; False = more must come first."""
        window, delimiter = self._window, self._delimiter
        at = window.find(delimiter)
        if at < 0:
            self._pass_on(found, len(window) - len(delimiter) + 1)
            return False
        if self._field is None and at:
            raise CallRefused("surfaces.broken_form")
        behind = at + len(delimiter)
        mark = bytes(window[behind : behind + 2])
        if mark == b"--":
            self._end(found, at)
            self.ended = True
            del window[: behind + 2]
            return True
        if not (b"\r\n".startswith(mark) or b"--".startswith(mark)):
            raise CallRefused("surfaces.broken_form")
        if len(mark) < 2:
            return False
        blank = window.find(b"\r\n\r\n", behind)
        if blank < 0:
            if len(window) - behind > LONGEST_HEAD:
                raise CallRefused("surfaces.broken_form")
            return False
        self._end(found, at)
        self._field = named(bytes(window[behind + 2 : blank]))
        del window[: blank + 4]
        return True

    def _pass_on(self, found: list[Part], safe: int) -> None:
        """What cannot be the beginning of a delimiter belongs to the field."""
        if safe <= 0:
            return
        if self._field is None:
            raise CallRefused("surfaces.broken_form")
        found.append(Part(*self._field, bytes(self._window[:safe]), last=False))
        del self._window[:safe]

    def _end(self, found: list[Part], at: int) -> None:
        if self._field is not None:
            found.append(Part(*self._field, bytes(self._window[:at]), last=True))
