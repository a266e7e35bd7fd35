"""Which format a file is in, told by its content; `format = "…"` in task.toml overrides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, cast

from baimo.core.registry import Spec
from baimo.core.task import Example, Prompt
from baimo.errors import TaskError
from baimo.evals.tasks.formats import chat, columns
from baimo.evals.tasks.formats.columns import Columns, unique
from baimo.evals.tasks.formats.parquet import parquet_rows
from baimo.evals.tasks.formats.promptfoo import is_configuration, read_suite
from baimo.evals.tasks.formats.rows import (
    Refused,
    Row,
    container,
    content,
    json_array,
    json_lines,
    json_value,
    raised,
    table,
)
from baimo.evals.tasks.notes import Notebook

Reader = Callable[[Iterable[Row], Path, Columns, Notebook], Iterator[Example]]
FORMATS: dict[str, Reader] = {
    "rows": columns.examples,
    "openai-chat": chat.openai_chat,
    "openai-evals": chat.openai_evals,
    "sharegpt": chat.sharegpt,
    "alpaca": chat.alpaca,
}
"""Formats of rows; `promptfoo` is the one that is a document."""
NAMES = (*FORMATS, "promptfoo")


class Contents(NamedTuple):
    """What one data file holds."""

    format: str
    """Name of the format that it was read as."""
    examples: tuple[Example, ...]
    """Its examples, in the order of the file."""
    prompts: tuple[Prompt, ...] = ()
    """Its prompts, where the format has them."""
    scorers: tuple[Spec, ...] = ()
    """Its scorers, where the format has them."""
    description: str = ""
    """What it says of itself."""


def read_file(
    path: Path,
    notebook: Notebook,
    *,
    mapping: Columns | None = None,
    format: str = "",
    delimiter: str = "",
    refused: Refused = raised,
) -> Contents:
    """Read a data file in any known format.

    Args:
        path: JSON Lines, JSON, CSV, TSV, Parquet or YAML, also gzipped.
        notebook: gets what was assumed and what stayed behind.
        mapping: which column holds what; one means the format `rows`.
        format: one of NAMES; empty = by content.
        delimiter: of CSV; empty = found.
        refused: told of each row that cannot be used; what it does not raise is left out.

    Raises:
        TaskError: the file cannot be read; names file and line.
        MissingExtra: it is Parquet, and pyarrow is not installed.
    """
    if format and format not in NAMES:
        near = columns_near(format)
        raise TaskError("tasks.unknown_format", path=path, format=format, near=near, known=", ".join(NAMES))
    packed = container(path)
    if format == "promptfoo" or (not format and _is_suite(path, packed)):
        suite = read_suite(path, notebook)
        return Contents("promptfoo", suite.examples, suite.prompts, suite.scorers, suite.description)
    rows = _rows(path, packed, delimiter, refused)
    first = next(rows, None)
    if first is None:
        raise TaskError("tasks.empty_file", path=path)
    mapping = mapping or Columns()
    name = format or ("rows" if mapping.named else recognised(first.value))
    if name == "promptfoo":
        suite = read_suite(path, notebook)
        return Contents("promptfoo", suite.examples, suite.prompts, suite.scorers, suite.description)
    found = _read(FORMATS[name], chain([first], rows), path, mapping, notebook, refused)
    return Contents(name, tuple(unique(found, path, refused)))


def _read(
    reader: Reader, rows: Iterator[Row], path: Path, mapping: Columns, notebook: Notebook, refused: Refused
) -> Iterator[Example]:
    """What the reader makes of the rows; where one stops it, it begins anew behind it."""
    read, broken = 0, False

    def counted() -> Iterator[Row]:
        nonlocal read, broken
        broken = True
        for row in rows:
            read, broken = read + 1, False
            yield row
            broken = True
        broken = False

    while True:
        before = read
        try:
            yield from reader(counted(), path, mapping, notebook)
        except TaskError as error:
            if broken or read == before:  # it is not about a row, but about the file
                raise
            refused(error)
        else:
            return


def recognised(record: Mapping[str, Any]) -> str:
    """The format of which `record` is the first row."""
    if isinstance(record.get("vars"), Mapping) or any(name.startswith("__expected") for name in record):
        return "promptfoo"
    if isinstance(record.get("item"), Mapping) or {"input", "ideal"} <= record.keys():
        return "openai-evals"
    if isinstance(record.get("messages"), list) and "target" not in record and _said(record["messages"]):
        return "openai-chat"
    if isinstance(record.get("conversations"), list):
        return "sharegpt"
    if {"instruction", "output"} <= record.keys():
        return "alpaca"
    return "rows"


class Head(NamedTuple):
    """What the first rows of a file say."""

    columns: tuple[str, ...]
    """Names of their columns; none where it is a document."""
    format: str
    """Format of the first one."""


def columns_of(path: Path, *, delimiter: str = "", rows: int = 50) -> Head:
    """What the first rows of a file say.

    Raises:
        TaskError: the file cannot be read, or holds no row.
    """
    packed = container(path)
    if _is_suite(path, packed):
        return Head((), "promptfoo")
    first = list(islice(_rows(path, packed, delimiter, lambda _: None), rows))
    if not first:
        raise TaskError("tasks.empty_file", path=path)
    return Head(tuple(dict.fromkeys(name for row in first for name in row.value)), recognised(first[0].value))


def columns_near(name: str) -> str:
    """The format whose name is nearest."""
    return columns.near_name(name, NAMES)


def _said(messages: list[Any]) -> bool:
    return bool(messages) and all(isinstance(turn, Mapping) for turn in messages)


def _is_suite(path: Path, packed: str) -> bool:
    if packed == "yaml":
        return True
    if packed != "json" or content(path).lstrip("\ufeff \t\r\n")[:1] != "{":
        return False
    value = json_value(content(path), path, 1)
    if is_configuration(value):
        return True
    raise TaskError("tasks.one_object", path=path, keys=", ".join(cast("dict[str, Any]", value)))


def _rows(path: Path, packed: str, delimiter: str, refused: Refused) -> Iterator[Row]:
    match packed:
        case "json":
            return json_array(path, refused)
        case "csv" | "tsv":
            return table(path, "\t" if packed == "tsv" and not delimiter else delimiter, refused)
        case "parquet":
            return parquet_rows(path)
        case "jsonl":
            return json_lines(path, refused)
        case _:
            raise TaskError("tasks.unknown_container", path=path)
