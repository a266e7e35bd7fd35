"""A sent form with files in it: multipart/form-data (RFC 7578), as browsers send it.

Prevents a form that two parsers read differently: what does not begin and end with its delimiter is nobody's form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from starlette.requests import Request

LARGEST = 32 * 2**20
"""Bytes of a form."""
_BOUNDARY = re.compile(
    r"""multipart/form-data\s*;.*?\bboundary=(?:"([^"\\]{1,70})"|([^\s;,"]{1,70}))""", re.I
)
_NAME = re.compile(r"""[;\s]name="([^"]*)\"""")
_FILE = re.compile(r"""[;\s]filename="([^"]*)\"""")


class File(NamedTuple):
    """A file that was sent."""

    name: str
    data: bytes


class Sent(NamedTuple):
    """A form."""

    fields: Mapping[str, str]
    """Without spaces around them."""
    files: Mapping[str, File]
    """By field; a field without a chosen file is not here."""


async def sent(request: Request) -> Sent | None:
    """The form in a request; None = there is none, or it is too large."""
    found = _BOUNDARY.search(request.headers.get("content-type", ""))
    if found is None:
        return None
    pieces, size = list[bytes](), 0
    async for piece in request.stream():
        pieces.append(piece)
        size += len(piece)
        if size > LARGEST:
            return None
    fields, files = dict[str, str](), dict[str, File]()
    for head, data in _parts(b"".join(pieces), (found[1] or found[2]).encode("latin-1", "replace")):
        name, file = _NAME.search(head), _FILE.search(head)
        if name is None:
            return None
        if file is None:
            fields[name[1]] = data.decode("utf-8", "replace").strip()
        elif file[1]:
            files[name[1]] = File(file[1], data)
    return Sent(fields, files)


def _parts(body: bytes, boundary: bytes) -> Iterator[tuple[str, bytes]]:
    """Head and data of each part."""
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary)[1:]:
        if part.startswith(b"--"):
            return
        head, blank, data = part.partition(b"\r\n\r\n")
        if blank:
            yield head.decode("utf-8", "replace"), data
