"""Numbered JSON records of a file: JSON Lines, JSON arrays, CSV, TSV and Parquet, each plain or gzipped.

Prevents two failures: a file of a million rows of which one is broken, and nobody says which; and bytes that are no
UTF-8 turning into replacement characters that a model then learns. A broken line is a problem with its number, and
the lines after it are read; what breaks the whole file (its packing, its encoding) ends the reading.
"""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import msgspec

from baimo.core.registry import require
from baimo.errors import DataError

LONGEST_LINE = 64 * 2**20
"""Bytes; a longer line is a file of another kind, and reading it could fill the memory."""
_MARK = b"\xef\xbb\xbf"
_CELL = 16 * 2**20
_BY_NAME = {".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".txt": "text", ".md": "text"}
PURPOSE = "data.purpose_parquet"


class Record(NamedTuple):
    """One record of a file."""

    line: int
    """Line on which it begins, from 1; in Parquet the number of the row."""
    value: dict[str, Any]
    """Its fields."""


def container(path: Path) -> str:
    """How a file is packed: jsonl, json, csv, tsv, parquet or text; by content where the name does not say.

    Raises:
        DataError: it cannot be read, is empty, or is none of these.
    """
    start = _head(path).removeprefix(_MARK)
    if start.startswith(b"PAR1"):
        return "parquet"
    if not start.strip():
        raise DataError("data.empty_file", path=path, line=1)
    suffix = (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()
    if suffix in _BY_NAME:
        return _BY_NAME[suffix]
    first, _, rest = start.lstrip().partition(b"\n")
    several = bool(rest.strip()) and _whole(first)
    if first[:1] == b"[":
        return "jsonl" if several and suffix != ".json" else "json"
    if first[:1] == b"{" or suffix in (".jsonl", ".ndjson"):
        return "json" if suffix == ".json" and not several else "jsonl"
    raise DataError("data.unknown_container", path=path, line=1)


def records(path: Path, packed: str) -> Iterator[Record | DataError]:
    """The records of a file in its order, and a problem in the place of each that cannot be read.

    Raises:
        DataError: the file as a whole cannot be read.
        MissingExtra: it is Parquet, and pyarrow is not installed.
    """
    match packed:
        case "jsonl":
            return _lines_of_json(path)
        case "json":
            return _array(path)
        case "csv" | "tsv":
            return _table(path, "\t" if packed == "tsv" else "")
        case "parquet":
            return _parquet(path)
        case _:
            raise DataError("data.unknown_container", path=path, line=1)


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of a text file with their ends, without a byte order mark.

    Raises:
        DataError: a line is no UTF-8 or too long, or the file cannot be read.
    """
    with _opened(path) as stream:
        number = 0
        while raw := _read(stream, path, number + 1):
            number += 1
            if len(raw) > LONGEST_LINE:
                raise DataError("data.long_line", path=path, line=number, limit=LONGEST_LINE // 2**20)
            if number == 1:
                raw = raw.removeprefix(_MARK)
            try:
                yield number, raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError("data.encoding", path=path, line=number, place=error.start + 1) from error


def decoded(words: str, path: Path, line: int) -> dict[str, Any]:
    """A JSON object.

    Raises:
        DataError: it is no JSON (RFC 8259: no NaN, no lone surrogate), or no object.
    """
    try:
        value = msgspec.json.decode(words)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise DataError("data.bad_json", path=path, line=line, problem=error) from error
    if not isinstance(value, dict):
        raise DataError("data.no_object", path=path, line=line, found=kind_of(value))
    return cast("dict[str, Any]", value)


def kind_of(value: Any) -> str:
    """The JSON name of a value's type."""
    names: dict[type[Any], str] = {dict: "object", list: "array", str: "string", bool: "boolean"}
    return "null" if value is None else names.get(cast("type[Any]", type(value)), "number")


def _lines_of_json(path: Path) -> Iterator[Record | DataError]:
    for number, line in lines(path):
        if line.strip():
            try:
                yield Record(number, decoded(line, path, number))
            except DataError as problem:
                yield problem


def _array(path: Path) -> Iterator[Record | DataError]:
    """Of a JSON document that is one array, or one object."""
    data = "".join(line for _, line in lines(path)).encode()
    if data.lstrip()[:1] == b"{":
        yield Record(1, decoded(data.decode(), path, 1))
        return
    try:
        items = msgspec.json.decode(data, type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError) as error:
        _, _, offset = str(error).partition("(byte ")
        line = data.count(b"\n", 0, int(offset.rstrip(")"))) + 1 if offset else 1
        raise DataError("data.bad_json", path=path, line=line, problem=error) from error
    place, line = 0, 1
    for item in items:
        raw = bytes(item)
        start = data.index(raw, place)
        line += data.count(b"\n", place, start)
        try:
            yield Record(line, decoded(raw.decode(), path, line))
        except DataError as problem:
            yield problem
        place = start + len(raw)
        line += raw.count(b"\n")


def _table(path: Path, delimiter: str) -> Iterator[Record | DataError]:
    """Of a table with a header (RFC 4180), all text. The delimiter of a .csv is what its header has most of."""
    numbered = lines(path)
    number, first = next((one for one in numbered if one[1].strip()), (1, ""))

    def texts() -> Iterator[str]:
        yield first
        yield from (line for _, line in numbered)

    csv.field_size_limit(_CELL)
    reader = csv.reader(texts(), delimiter=delimiter or max(",;\t", key=first.count), strict=True)
    before = number - 1
    try:
        header = [name.strip() for name in next(reader)]
        if "" in header or len(set(header)) < len(header):
            raise DataError("data.bad_header", path=path, line=number, columns=", ".join(header))
        end = before + reader.line_num
        for cells in reader:
            start, end = end + 1, before + reader.line_num
            if len(cells) == len(header):
                yield Record(start, dict(zip(header, cells, strict=True)))
            elif any(cell.strip() for cell in cells):
                facts = {"found": len(cells), "expected": len(header)}
                yield DataError("data.ragged", path=path, line=start, **facts)
    except csv.Error as error:
        raise DataError("data.bad_table", path=path, line=before + reader.line_num, problem=error) from error


def _parquet(path: Path) -> Iterator[Record | DataError]:
    parquet = require("pyarrow.parquet", "parquet", PURPOSE)
    broken = (require("pyarrow", "parquet", PURPOSE).ArrowException, OSError)
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for record in batch.to_pylist():
                    number += 1
                    yield Record(number, {str(name): _plain(cell) for name, cell in record.items()})
    except broken as error:
        raise DataError("data.bad_parquet", path=path, line=number + 1, problem=error) from error


def _plain(value: Any) -> Any:
    """A cell as JSON-ready data: dates in ISO 8601, what has no JSON form as text, NaN as null."""
    match value:
        case None | str() | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return float(value)
        case datetime() | date() | time():
            return value.isoformat()
        case Mapping():
            return {str(name): _plain(one) for name, one in cast("Mapping[Any, Any]", value).items()}
        case list() | tuple():
            return [_plain(one) for one in cast("list[Any]", value)]
        case _:
            return str(value)


def _whole(line: bytes) -> bool:
    """Whether a line is a JSON document of its own."""
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return True


def _head(path: Path) -> bytes:
    with _opened(path) as stream:
        return _read(stream, path, 1, whole=True)


def _opened(path: Path) -> IO[bytes]:
    try:
        with path.open("rb") as stream:
            packed = stream.read(2) == b"\x1f\x8b"
        return cast("IO[bytes]", gzip.open(path)) if packed else path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        problem = getattr(error, "strerror", None) or error
        raise DataError("data.unreadable", path=path, line=1, problem=problem) from error


def _read(stream: IO[bytes], path: Path, line: int, *, whole: bool = False) -> bytes:
    try:
        return stream.read(65536) if whole else stream.readline(LONGEST_LINE + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError("data.unreadable", path=path, line=line, problem=error) from error
