"""Rows of a file, one at a time: JSON Lines, JSON arrays, CSV and TSV, each plain or gzipped; Parquet is in parquet.py.

Prevents the failure where a file is half read: bytes that are no UTF-8, a ragged row or a broken object stop the
reading with file and line, and never turn into replacement characters, shifted columns or missing examples.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn, cast

import msgspec

from baimo.errors import TaskError

Refused = Callable[[TaskError], object]
"""Is told of a row that cannot be used; what it does not raise is left out."""
LONGEST_LINE = 64 * 2**20
"""Bytes; a longer line is a file of another kind, and reading it could fill the memory."""
_UTF8_MARK = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_ENCODINGS = (  # codec, title, and letters of which the right guess has many
    ("shift_jis", "Shift-JIS", frozenset(map(chr, range(0x3041, 0x30FB)))),
    ("gb18030", "GBK / GB18030", frozenset("的一是不了在人有我他这中大来上个国到说们文数据测试")),
    ("big5", "Big5", frozenset("的一是不了在人有我他這中大來上個國到說們文數據測試")),
)


def raised(error: TaskError) -> NoReturn:
    """The first row that cannot be used ends the reading."""
    raise error


class Row(NamedTuple):
    """One record of a file."""

    line: int
    """Line on which it begins, from 1; in Parquet the number of the row."""
    value: dict[str, Any]
    """The record, as JSON-ready data."""
    before: int = 0
    """Records that begin on the same line before it, as in a JSON array on one line."""

    @property
    def id(self) -> str:
        """Its id when it has none of its own."""
        return f"{self.line}.{self.before + 1}" if self.before else str(self.line)


def container(path: Path) -> str:
    """How a file is packed: jsonl, json, csv, tsv, yaml, toml or parquet; by content where the name does not say."""
    start = head(path).removeprefix(_UTF8_MARK)
    if start.startswith(b"PAR1"):
        return "parquet"
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    by_name = {
        ".csv": "csv",
        ".tsv": "tsv",
        ".yaml": "yaml",
        ".yml": "yaml",
        ".parquet": "parquet",
        ".toml": "toml",
    }
    if named := by_name.get(suffix.lower()):
        return named
    first = start.lstrip()[:1]
    if first == b"[":
        return "json"
    if first == b"{":
        return "jsonl" if suffix.lower() != ".json" or _is_object(start.lstrip().partition(b"\n")) else "json"
    if not first and not start.strip():
        raise TaskError("tasks.empty_file", path=path)
    if suffix.lower() in {".jsonl", ".ndjson", ".json"}:
        return "jsonl"
    raise TaskError("tasks.unknown_container", path=path)


def _is_object(parts: tuple[bytes, bytes, bytes]) -> bool:
    line, _, rest = parts
    try:
        return isinstance(msgspec.json.decode(line), dict) and bool(rest.strip())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def head(path: Path, size: int = 65536) -> bytes:
    """The first bytes of a file, unpacked if gzipped."""
    with _opened(path) as stream:
        return _guarded_read(stream, path, size)


def content(path: Path) -> str:
    """A whole text file."""
    return "".join(line for _, line in lines(path))


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of a text file, with their line ends, without a byte order mark."""
    with _opened(path) as stream:
        number = 0
        while raw := _guarded_read(stream, path, LONGEST_LINE, line=True):
            number += 1
            if len(raw) == LONGEST_LINE:
                raise TaskError("tasks.long_line", path=path, line=number, limit=LONGEST_LINE // 2**20)
            if number == 1:
                raw = raw.removeprefix(_UTF8_MARK)
            if b"\0" in raw:
                raise TaskError("tasks.encoding", path=path, line=number, guess=encoding_guess(head(path)))
            try:
                yield number, raw.decode("utf-8")
            except UnicodeDecodeError as error:
                start = head(path)
                guess = encoding_guess(start if start.startswith((b"\xff\xfe", b"\xfe\xff")) else raw)
                raise TaskError("tasks.encoding", path=path, line=number, guess=guess) from error


def json_lines(path: Path, refused: Refused = raised) -> Iterator[Row]:
    """Rows of a JSON Lines file; blank lines are skipped."""
    for number, line in lines(path):
        if line.strip():
            try:
                value = json_object(line, path, number)
            except TaskError as error:
                refused(error)
            else:
                yield Row(number, value)


def json_array(path: Path, refused: Refused = raised) -> Iterator[Row]:
    """Rows of a JSON document that is one array of objects."""
    data = content(path).encode()
    try:
        items = msgspec.json.decode(data, type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError) as error:
        raise TaskError("tasks.bad_json", path=path, line=_error_line(data, error), problem=error) from error
    position, line, last, before = 0, 1, 0, 0
    for item in items:
        raw = bytes(item)
        start = data.index(raw, position)
        line += data.count(b"\n", position, start)
        last, before = line, before + 1 if line == last else 0
        try:
            value = json_object(raw.decode(), path, line)
        except TaskError as error:
            refused(error)
        else:
            yield Row(line, value, before)
        position = start + len(raw)
        line += raw.count(b"\n")


def json_value(text: str, path: Path, line: int) -> Any:
    """A JSON text as data. NaN, lone surrogates and numbers out of range are errors, as in RFC 8259."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise TaskError("tasks.bad_json", path=path, line=line, problem=error) from error


def json_object(text: str, path: Path, line: int) -> dict[str, Any]:
    """Like json_value, for a text that has to be an object."""
    value = json_value(text, path, line)
    if not isinstance(value, dict):
        raise TaskError("tasks.not_an_object", path=path, line=line, found=type(value).__name__)
    return cast("dict[str, Any]", value)


def table(path: Path, delimiter: str = "", refused: Refused = raised) -> Iterator[Row]:
    """Rows of a CSV or TSV file (RFC 4180 with a header); every value is text.

    Args:
        path: the file.
        delimiter: one character; empty = tab in .tsv, else whichever of , ; tab the header has most of.
        refused: told of rows that cannot be used.
    """
    numbered = lines(path)
    first = next((line for line in numbered if line[1].strip()), None)
    if first is None:
        raise TaskError("tasks.empty_file", path=path)
    delimiter = delimiter or max(",;\t", key=first[1].count)

    def texts() -> Iterator[str]:
        yield first[1]
        yield from (line for _, line in numbered)

    reader = csv.reader(texts(), delimiter=delimiter, strict=True)
    before = first[0] - 1
    try:
        header = [name.strip() for name in next(reader)]
    except csv.Error as error:
        raise TaskError("tasks.bad_csv", path=path, line=before + reader.line_num, problem=error) from error
    _check_header(header, path, first[0])
    end = before + reader.line_num
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:  # the reader goes on with the next line
            end = before + reader.line_num
            refused(TaskError("tasks.bad_csv", path=path, line=end, problem=error))
            continue
        if cells is None:
            return
        start, end = end + 1, before + reader.line_num
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            facts = {"path": path, "line": start, "found": len(cells), "expected": len(header)}
            refused(TaskError("tasks.ragged", **facts))
        else:
            yield Row(start, dict(zip(header, cells, strict=True)))


def _check_header(header: list[str], path: Path, line: int) -> None:
    if "" in header:
        raise TaskError("tasks.header_empty", path=path, line=line, position=header.index("") + 1)
    double = next((name for name in header if header.count(name) > 1), None)
    if double is not None:
        raise TaskError("tasks.header_double", path=path, line=line, name=double)


def encoding_guess(raw: bytes) -> str:
    """What bytes that are no UTF-8 most likely are, as a name that `iconv` and editors know."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or raw[:400].count(0) > len(raw[:400]) // 4:
        return "UTF-16"
    if b"\0" in raw:
        return "binary"
    best, likely = 0.0, "Windows-1252 / Latin-1"
    for codec, title, frequent in _ENCODINGS:
        try:
            letters = [letter for letter in raw.decode(codec) if ord(letter) > 127]
        except UnicodeDecodeError:
            continue
        share = sum(letter in frequent for letter in letters) / max(len(letters), 1)
        if share > best:
            best, likely = share, title
    # a short text may hold none of those letters; in GB 2312, letters of Western texts would have to come in pairs
    return "GBK / GB18030" if not best and _decodes(raw, "gb2312") else likely


def _decodes(raw: bytes, codec: str) -> bool:
    try:
        raw.decode(codec)
    except UnicodeDecodeError:
        return False
    return True


def near_files(path: Path) -> str:
    """Names of files beside a missing one that look like it, for an error's advice."""
    import difflib

    if not path.parent.is_dir():
        return ""
    names = [entry.name for entry in path.parent.iterdir()][:1000]
    return ", ".join(difflib.get_close_matches(path.name, names, n=3, cutoff=0.5))


def _opened(path: Path) -> IO[bytes]:
    try:
        with path.open("rb") as stream:
            packed = stream.read(2) == _GZIP
        return cast("IO[bytes]", gzip.open(path)) if packed else path.open("rb")
    except (FileNotFoundError, NotADirectoryError) as error:
        near = near_files(path)
        raise TaskError(
            "tasks.missing_file_near" if near else "tasks.missing_file", path=path, near=near
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise TaskError("tasks.unreadable", path=path, problem=error) from error


def _guarded_read(stream: IO[bytes], path: Path, size: int, *, line: bool = False) -> bytes:
    try:
        return stream.readline(size) if line else stream.read(size)
    except (EOFError, OSError, zlib.error) as error:
        raise TaskError("tasks.unreadable", path=path, problem=error) from error


def _error_line(data: bytes, error: Exception) -> int:
    _, _, offset = str(error).partition("(byte ")
    return data.count(b"\n", 0, int(offset.rstrip(")"))) + 1 if offset else 1
