"""Rows with named columns become Examples: the house format, and any JSON Lines, CSV or Parquet file with a mapping."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from baimo.core.task import Example
from baimo.errors import TaskError
from baimo.evals.tasks.formats.messages import messages_of, tools_of
from baimo.evals.tasks.formats.rows import Refused, Row, json_value, raised
from baimo.evals.tasks.formats.shapes import as_map
from baimo.evals.tasks.notes import Notebook

INPUT_NAMES = (
    "input",
    "question",
    "prompt",
    "text",
    "query",
    "sentence",
    "instruction",
    "utterance",
    "content",
)
"""Columns taken for the input when none is named, in this order."""
TARGET_NAMES = (
    *(
        "target",
        "answer",
        "label",
        "answers",
        "expected",
        "reference",
        "ideal",
        "output",
        "completion",
        "response",
    ),
    *("intent", "summary", "expected_output", "expectedAnswer", "ground_truth"),
)
"""Columns taken for the reference when none is named, in this order."""
_MISSING = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which column holds what; "" = found by name. `a.b` reaches into an object where no column is called `a.b`."""

    input: str = ""
    """The question or text; empty = the first of INPUT_NAMES that is there."""
    target: str | tuple[str, ...] = ""
    """The reference; several names make an object of these columns; empty = the first of TARGET_NAMES."""
    id: str = ""
    """Unique name of the row; empty = `id`, or the line number where there is none."""
    group: str = ""
    """Rows that belong together; empty = `group`, if there."""
    metadata: tuple[str, ...] = ()
    """Slices for the report, besides the entries of a column `metadata`."""
    messages: str = ""
    """A conversation to continue; empty = `messages`, if there."""
    tools: str = ""
    """Functions on offer; empty = `tools`, if there."""
    json: tuple[str, ...] = ()
    """Columns whose text is JSON (for CSV)."""

    @property
    def named(self) -> set[str]:
        """Every column that was mapped by hand."""
        targets = {self.target} if isinstance(self.target, str) else set(self.target)
        return ({self.input, self.id, self.group, self.messages, self.tools, *self.metadata} | targets) - {""}


def examples(rows: Iterable[Row], path: Path, columns: Columns, notebook: Notebook) -> Iterator[Example]:
    """Examples from rows with named columns.

    Raises:
        TaskError: a column that is mapped or needed is missing, or a cell cannot be used; names file and line.
    """
    settled, unseen, first = columns, columns.named, None
    for row in rows:
        row = row._replace(value=_with_json(row, path, columns.json))
        settled = _settled(row, settled, path, notebook)
        first = first or row
        # a column may be absent from some rows of JSON Lines, but one that no row has is a slip of the pen
        unseen = {name for name in unseen if _cell(row, name, _MISSING) is _MISSING} if unseen else unseen
        yield _example(row, path, settled)
    if first is not None and unseen:
        raise _no_column(first, path, min(unseen))
    if first is not None and not settled.target:
        notebook.add("assumed_no_target", columns=", ".join(first.value))


def unique(found: Iterable[Example], path: Path, refused: Refused = raised) -> Iterator[Example]:
    """The same examples; two with one id are an error that names both lines."""
    seen: dict[str, int | None] = {}
    for example in found:
        if example.id in seen:
            facts = {"path": path, "line": example.line, "id": example.id, "first": seen[example.id]}
            refused(TaskError("tasks.double_id", **facts))
        else:
            seen[example.id] = example.line
            yield example


def near_name(name: str, known: Iterable[str]) -> str:
    """The known name nearest to `name`; empty when none is near."""
    return "".join(difflib.get_close_matches(name, list(known), n=1))


def _settled(row: Row, columns: Columns, path: Path, notebook: Notebook) -> Columns:
    """Names for what has none yet. Rows may differ: a column that only later rows have is found when it comes."""
    value = row.value

    def present(name: str, kind: type = object) -> str:
        return name if name in value and isinstance(value[name], kind) else ""

    settled = replace(
        columns,
        input=columns.input or next(filter(present, INPUT_NAMES), ""),
        target=columns.target or next(filter(present, TARGET_NAMES), ""),
        id=columns.id or present("id"),
        group=columns.group or present("group"),
        messages=columns.messages or present("messages", list),
        tools=columns.tools or present("tools", list),
    )
    if not (settled.input or settled.messages or isinstance(value.get("fields"), Mapping)):
        raise TaskError("tasks.no_input_column", path=path, line=row.line, columns=", ".join(value))
    if settled.input not in (columns.input, "input"):
        notebook.add("assumed_input", column=settled.input)
    if settled.target not in (columns.target, "target"):
        notebook.add("assumed_target", column=settled.target)
    return settled


def _example(row: Row, path: Path, columns: Columns) -> Example:
    def cell(name: str) -> Any:
        return _cell(row, name, None) if name else None

    turns, kept = cell(columns.messages), row.value.get("metadata")
    metadata: dict[str, Any] = dict(as_map(kept)) | {name: cell(name) for name in columns.metadata}
    targets = (columns.target,) if isinstance(columns.target, str) else columns.target
    kept_apart = {columns.id, columns.group, columns.messages, columns.tools, *targets}
    # columns of the house format; the second is there where variables are called like columns
    kept_apart |= {name for name in ("metadata", "fields") if isinstance(row.value.get(name), Mapping)}
    fields = {name: item for name, item in row.value.items() if name not in kept_apart}
    fields |= as_map(row.value.get("fields"))
    if "fields" not in kept_apart and (columns.input or turns is None):
        question = _cell(row, columns.input, None if turns is not None else _MISSING)
        if question is _MISSING:
            raise _no_column(row, path, columns.input or "input")
        fields["input"] = "" if question is None else question
    group = cell(columns.group)
    return Example(
        id=_id(cell(columns.id), row, path) if columns.id else row.id,
        fields=fields,
        target=_target(row, columns.target),
        messages=messages_of(turns, path, row.line) if turns is not None else (),
        tools=tools_of(cell(columns.tools) or [], path, row.line),
        group=None if group in (None, "") else str(group),
        metadata=metadata,
        line=row.line,
        file=str(path),
    )


def _target(row: Row, names: str | tuple[str, ...]) -> Any:
    if not isinstance(names, str):
        return {name: _cell(row, name, None) for name in names}
    value = _cell(row, names, None) if names else None
    return None if value == "" else value


def _id(value: Any, row: Row, path: Path) -> str:
    if value is None or value == "" or isinstance(value, (dict, list)):
        raise TaskError("tasks.no_id", path=path, line=row.line)
    return str(value)


def _cell(row: Row, name: str, default: Any) -> Any:
    if name in row.value:
        return row.value[name]
    value: Any = row.value
    for step in name.split("."):
        value = (
            cast("Mapping[str, Any]", value).get(step, _MISSING) if isinstance(value, Mapping) else _MISSING
        )
    return default if value is _MISSING else value


def _no_column(row: Row, path: Path, name: str) -> TaskError:
    near = near_name(name, row.value)
    facts = {"path": path, "line": row.line, "name": name, "near": near, "columns": ", ".join(row.value)}
    return TaskError("tasks.no_column_near" if near else "tasks.no_column", **facts)


def _with_json(row: Row, path: Path, names: Iterable[str]) -> dict[str, Any]:
    parsed = {
        name: json_value(row.value[name], path, row.line)
        for name in names
        if isinstance(row.value.get(name), str) and row.value[name].strip()
    }
    return row.value | parsed
