"""multipart/form-data (RFC 7578): where each field lies in a body, without copying the files in it.

Prevents a field that the gateway does not see and the model's server does: a boundary inside a part, a field given
twice, a name that two parsers read differently. Whatever is not plain is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from baimo.errors import CallRefused

_BOUNDARY = re.compile(
    rb"""multipart/form-data\s*;.*?\bboundary=(?:"([^"\\]{1,70})"|([^\s;,"]{1,70}))""", re.I | re.S
)
_PARAMETER = re.compile(rb""";\s*([\w*-]+)\s*=\s*(?:"([^"\\\r\n]*)"|([^\s;"]*))""")
_LONGEST_HEAD = 4096


class Field(NamedTuple):
    """One part."""

    name: str
    start: int
    """Offset of its value in the body."""
    end: int
    """Offset behind its value."""
    file: bool
    """It has a file name."""


def boundary_of(headers: Mapping[bytes, bytes]) -> bytes:
    """The boundary that the content-type names.

    Raises:
        CallRefused: it is no multipart/form-data.
    """
    found = _BOUNDARY.match(headers.get(b"content-type", b"").strip())
    if found is None:
        raise CallRefused("surfaces.no_form")
    return found[1] or found[2]


def fields_of(body: bytes, boundary: bytes) -> list[Field]:
    """All parts, in order.

    Raises:
        CallRefused: the body is broken, or could be read in two ways.
    """
    delimiter = b"--" + boundary
    found: list[Field] = []
    start = -1
    for at in _found(body, delimiter):
        behind = body[at + len(delimiter) : at + len(delimiter) + 2]
        inside = at > 0 and body[at - 2 : at] != b"\r\n"
        if inside or behind not in {b"\r\n", b"--"} or (at > 0 and start < 0):
            raise CallRefused("surfaces.broken_form")
        if start >= 0:
            found.append(_field(body, start, at - 2))
        start = at + len(delimiter) + 2
        if behind == b"--":
            if body[start:].strip(b"\r\n \t"):
                raise CallRefused("surfaces.broken_form")
            return found
    raise CallRefused("surfaces.broken_form")


def _found(body: bytes, delimiter: bytes) -> Iterator[int]:
    at = body.find(delimiter)
    while at >= 0:
        yield at
        at = body.find(delimiter, at + len(delimiter))


def _field(body: bytes, start: int, end: int) -> Field:
    blank = body.find(b"\r\n\r\n", start, min(end + 4, start + _LONGEST_HEAD))
    if blank < 0 or blank + 4 > end:
        raise CallRefused("surfaces.broken_form")
    name, filename = named(body[start:blank])
    return Field(name, blank + 4, end, filename is not None)


def named(head: bytes) -> tuple[str, str | None]:
    """The name of a part, and that of its file; None = it is no file.

    Args:
        head: its header lines.

    Raises:
        CallRefused: it has no name, or one that could be read in two ways.
    """
    for line in head.split(b"\r\n"):
        header, _, value = line.partition(b":")
        if header.strip().lower() == b"content-disposition":
            parameters = [
                (name.lower(), quoted or plain) for name, quoted, plain in _PARAMETER.findall(value)
            ]
            names = [said for name, said in parameters if name == b"name"]
            # an escaped quote, name* and a second name are read differently by different servers
            if len(names) != 1 or b"\\" in value or any(name == b"name*" for name, _ in parameters):
                break
            files = [said for name, said in parameters if name in {b"filename", b"filename*"}]
            filename = files[0].decode("utf-8", errors="replace") if files else None
            return names[0].decode("utf-8", errors="replace"), filename
    raise CallRefused("surfaces.broken_form")
