"""Files to learn from, looked at before they are uploaded: what a job would refuse is told with its line.

Prevents two failures: a job that is ordered, waits and fails because of a comma in line 40; and a table that somebody
turns into JSON lines by hand.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from baimo.core.tuning import Row
from baimo.errors import DataError, TooLarge, UsageError
from baimo.server.admin.operation import Asking, Operation
from baimo.workspace.tune_orders import OF_FILES

if TYPE_CHECKING:
    from baimo.tuning.data.openai import Param

LARGEST = 8 * 2**20
"""Bytes of a file; a longer one is uploaded as it is, and looked at when its job begins."""
_MOST = 20
"""Faults that are told."""
_NAME = 60
"""Characters of a file's name that messages have room for."""
_CONTAINERS = (".jsonl", ".json", ".csv", ".tsv")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsAsked:
    """A file and what is to be learnt from it."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
    """Its name; the ending says how it is packed: .jsonl, .json, .csv or .tsv."""
    base64: str
    """What it holds."""
    recipe: Literal["sft", "dpo"] = "sft"
    """How a model is to learn from it."""
    measured: bool = False
    """It is only measured, not learnt: a single row is enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultShown:
    """Why a job would refuse a file."""

    line: int | None
    """Of the file that was sent, from 1; null = the file as a whole."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsShown:
    """What a file holds."""

    rows: int
    faults: list[FaultShown]
    """The first of them; none = a job takes it."""
    jsonl: str | None
    """The same as JSON lines that `POST /v1/files` takes; null = it is that already, or has faults."""


class _Unread(Exception):
    """What is wrong with a table that cannot become JSON lines."""

    def __init__(self, faults: list[FaultShown]) -> None:
        super().__init__()
        self.faults = faults


def _looked(asking: Asking, asked: RowsAsked) -> RowsShown:
    del asking
    from baimo.tuning.data.openai import file_faults, upload_fault  # loaded where something is tuned

    suffix = Path(asked.name).suffix.lower()
    if suffix not in _CONTAINERS:
        raise UsageError("tuning.no_container", name=asked.name[-40:], field="/name")
    data = _bytes(asked)
    method: Any = OF_FILES[asked.recipe]
    param: Param = "validation_file" if asked.measured else "training_file"
    with tempfile.TemporaryDirectory(prefix="baimo-rows-") as folder:
        path = Path(folder) / Path(asked.name).name[-_NAME:]
        path.write_bytes(data)
        origin: Sequence[int] | None = None
        if suffix != ".jsonl":
            try:
                path, origin = _lines(path)
            except _Unread as found:
                return RowsShown(rows=0, faults=found.faults, jsonl=None)
        broken = upload_fault(path)
        faults = (
            [broken]
            if broken
            else file_faults(path, method, param=param, file=Path(asked.name).name[-_NAME:])
        )
        written = path.read_text("utf-8") if origin is not None and not faults else None
    told = [FaultShown(line=_origin(one.line, origin), message=one.message) for one in faults[:_MOST]]
    return RowsShown(rows=data.count(b"\n") if origin is None else len(origin), faults=told, jsonl=written)


def _bytes(asked: RowsAsked) -> bytes:
    if len(asked.base64) > LARGEST * 4 // 3 + 4:
        raise TooLarge("tuning.long_file", limit=LARGEST // 2**20)
    try:
        return base64.b64decode(asked.base64, validate=True)
    except ValueError:
        raise UsageError("admin.bad_text", field="/base64") from None


def _lines(path: Path) -> tuple[Path, Sequence[int]]:
    """The rows of a table as JSON lines, with the line of each in the table.

    Raises:
        _Unread: it cannot be read, or has lines that cannot.
    """
    from baimo.tuning.data.export import openai_row  # loaded where something is tuned
    from baimo.tuning.data.formats import read

    try:
        reading = read(path)
    except DataError as error:
        raise _Unread([_fault(error, path)]) from None
    if reading.problems:
        raise _Unread([_fault(one, path) for one in reading.problems[:_MOST]])
    made = path.with_name("rows.jsonl")
    # other columns are for graders and splits, which these recipes do without
    rows = [replace(row, item={}, group=None) for row in reading.rows]
    made.write_bytes(b"".join(msgspec.json.encode(openai_row(row)) + b"\n" for row in rows))
    return made, [_line(row) for row in reading.rows]


def _line(row: Row) -> int:
    return row.line or 0


def _fault(error: DataError, path: Path) -> FaultShown:
    line = error.facts.get("line")
    # the folder is nobody's concern
    message = str(error).replace(f"{path.parent}/", "")
    return FaultShown(line=line if isinstance(line, int) else None, message=message)


def _origin(line: int | None, origin: Sequence[int] | None) -> int | None:
    if line is None or origin is None:
        return line
    return origin[line - 1] or None


TUNING_FILES = (
    Operation(
        method="POST", path="/api/tuning/rows", role="engineer", takes=RowsAsked, gives=RowsShown, does=_looked,
        tag="tuning", summary="admin.tuning_rows", errors=(422,), longest=LARGEST * 4 // 3 + 65_536,
    ),
)  # fmt: skip
