"""The input file of a batch: one request per line, checked before the first of them costs anything.

Prevents the failure of a batch that breaks off at line 40,000 because of a misspelt field that was there all along.
Limits and codes: developers.openai.com/api/docs/guides/batch.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from baimo.errors import StoreError
from baimo.store.batches import LineError
from baimo.text import text
from baimo.typed import json_decoder

MOST_LINES = 50_000
MOST_BYTES = 200 * 1024 * 1024
LONGEST_ID = 256
MOST_ERRORS = 100
"""A file that is wrong throughout is told so by its first lines."""


class Line(NamedTuple):
    """One request."""

    number: int
    """Counted from 1."""
    custom_id: str
    """The client's name for it."""
    model: str
    """Name that it asks for; empty = none."""
    body: bytes
    """JSON, as the client wrote it."""


class Inspected(NamedTuple):
    """What an input file holds."""

    total: int
    model: str
    """Name that all lines ask for; empty = they ask for several, or none."""
    errors: tuple[LineError, ...]


class _Line(msgspec.Struct):
    custom_id: Any = None
    method: Any = None
    url: Any = None
    body: msgspec.Raw = msgspec.Raw()


class _Body(msgspec.Struct):
    model: Any = None
    stream: Any = None


_line = json_decoder(_Line)
_body = json_decoder(_Body)


class _Wrong(Exception):
    """`code`, `param`, message."""

    def __init__(self, code: str, param: str | None = None, word: str = "", **facts: object) -> None:
        super().__init__(code)
        self.code, self.param = code, param
        self.message = text(f"batches.line_{word or code}", **facts)


def inspected(path: Path, endpoint: str, longest: int) -> Inspected:
    """Read all of an input file; blocks.

    Args:
        path: of the file.
        endpoint: path that every line must name.
        longest: most bytes of a line.

    Raises:
        StoreError: it cannot be read.
    """
    errors: list[LineError] = []
    names: dict[str, int] = {}
    models: set[str] = set()
    total = 0
    for number, line in _raw(path, longest):
        if not line.strip():
            continue
        total += 1
        if total > MOST_LINES:
            message = text("batches.too_many_lines", limit=MOST_LINES)
            errors = [LineError(code="too_many_lines", message=message)]
            break
        try:
            read = _read(number, line, endpoint, longest)
            first = names.setdefault(read.custom_id, number)
            if first != number:
                raise _Wrong("duplicate_custom_id", "custom_id", id=read.custom_id, first=first)
            models.add(read.model)
        except _Wrong as wrong:
            if len(errors) >= MOST_ERRORS:
                message = text("batches.too_many_errors", limit=MOST_ERRORS)
                errors.append(LineError(code="too_many_errors", message=message))
                break
            errors.append(LineError(code=wrong.code, message=wrong.message, line=number, param=wrong.param))
    if not total:
        errors = [LineError(code="empty_file", message=text("batches.empty_file"))]
    return Inspected(total, models.pop() if len(models) == 1 else "", tuple(errors))


def lines(path: Path, endpoint: str, longest: int) -> Iterator[Line]:
    """The lines of a file that `inspected` found nothing wrong with.

    Raises:
        StoreError: it cannot be read.
    """
    return (_read(number, line, endpoint, longest) for number, line in _raw(path, longest) if line.strip())


def _raw(path: Path, longest: int) -> Iterator[tuple[int, bytes]]:
    """Every line with its number; of one that is too long, as much as shows that it is."""
    try:
        with path.open("rb") as file:
            if file.read(len(BOM_UTF8)) != BOM_UTF8:
                file.seek(0)
            number = 0
            while line := file.readline(longest + 2):
                number += 1
                piece = line
                while not piece.endswith(b"\n") and len(piece) == longest + 2:
                    piece = file.readline(longest + 2)
                yield number, line
    except OSError as error:
        raise StoreError("files.unreadable", where=path, problem=error.strerror or error) from error


def _read(number: int, line: bytes, endpoint: str, longest: int) -> Line:
    if len(line) > longest + 1:
        raise _Wrong("line_too_long", None, "too_long", limit=longest)
    try:
        read = _line(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _Wrong("invalid_json_line") from None
    for field in ("custom_id", "method", "url"):
        value = getattr(read, field)
        if value is None:
            raise _Wrong("missing_required_parameter", field, field=field)
        if not isinstance(value, str):
            raise _Wrong("invalid_type", field, field=field, expected="string")
    if not 1 <= len(read.custom_id) <= LONGEST_ID:
        raise _Wrong("invalid_custom_id", "custom_id", "custom_id_length", limit=LONGEST_ID)
    if read.method != "POST":
        raise _Wrong("invalid_method", "method")
    if read.url != endpoint:
        raise _Wrong("mismatched_url", "url", url=read.url[:200], endpoint=endpoint)
    body = bytes(read.body)
    if not body or body == b"null":
        raise _Wrong("missing_required_parameter", "body", field="body")
    if not body.startswith(b"{"):
        raise _Wrong("invalid_type", "body", field="body", expected="object")
    peek = _body(body)
    if peek.stream not in (None, False):
        raise _Wrong("stream_not_supported", "body.stream", "stream")
    if not isinstance(peek.model, str | None):
        raise _Wrong("invalid_type", "body.model", field="body.model", expected="string")
    return Line(number, read.custom_id, peek.model or "", body)
