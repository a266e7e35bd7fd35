"""Task folders that are written: a commented example to start from, or what another format held.

Prevents the failure where moving to baimo loses something without anyone noticing: an import returns what it could not
carry over, and what it wrote reads back as the same task.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

from baimo.core.registry import Spec
from baimo.core.task import Example, Prompt, Task
from baimo.errors import TaskError
from baimo.evals.tasks.folder import read_task
from baimo.evals.tasks.formats.columns import Columns, near_name
from baimo.evals.tasks.formats.messages import plain_message, plain_tool
from baimo.evals.tasks.manifest import FILE_NAME
from baimo.evals.tasks.notes import Note
from baimo.evals.tasks.toml import assignment, has_null
from baimo.text import language

KINDS = ("classify", "extract-json", "qa", "chat-judge")
"""Kinds of tasks that new_task writes."""
_RESERVED = frozenset({"id", "target", "messages", "tools", "group", "metadata", "fields"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import wrote."""

    folder: Path
    """The new task folder."""
    files: tuple[Path, ...]
    """Files written."""
    examples: int
    """Examples of the test split."""
    format: str
    """Format of the source."""
    notes: tuple[Note, ...]
    """What was assumed, and what could not be carried over."""


def new_task(folder: Path | str, kind: str = "classify", *, locale: str = "") -> tuple[Path, ...]:
    """Write a commented task that runs as it is.

    Args:
        folder: where to; made if it is not there. The task takes its name.
        kind: one of KINDS.
        locale: en or zh; empty = the reader's language.

    Returns:
        The files written.

    Raises:
        TaskError: no such kind, or a file of that name is already there.
    """
    if kind not in KINDS:
        near = near_name(kind, KINDS) or KINDS[0]
        raise TaskError("tasks.unknown_kind", kind=kind, known=", ".join(KINDS), near=near)
    folder = Path(folder)
    source = resources.files("baimo.evals.tasks") / "scaffolds" / (locale or language()) / kind
    texts = {entry.name: entry.read_text(encoding="utf-8") for entry in source.iterdir()}
    texts[FILE_NAME] = texts[FILE_NAME].replace('name = ""', assignment("name", folder.absolute().name), 1)
    return _write(folder, texts)


def import_task(
    source: Path | str, folder: Path | str, *, format: str = "", columns: Columns | None = None
) -> Imported:
    """Convert what load_task can read to a task folder.

    Args:
        source: a file or folder in any readable format.
        folder: where to; made if it is not there.
        format: how the source is to be read; empty = by content.
        columns: which column of a data file holds what.

    Raises:
        TaskError: the source cannot be read, or the folder already holds a task.
    """
    reading = read_task(source, format=format, columns=columns)
    folder = Path(folder)
    files = _write(folder, texts_of(reading.task))
    return Imported(
        folder=folder,
        files=files,
        examples=len(reading.task.examples),
        format=reading.format,
        notes=reading.notes,
    )


def texts_of(task: Task) -> dict[str, str]:
    """The files of a task's folder, by name; reading them gives the same task."""
    texts: dict[str, str] = {"test.jsonl": _jsonl(task.examples)}
    if task.train:
        texts["train.jsonl"] = _jsonl(task.train)
    texts[FILE_NAME] = "\n".join(_manifest(task, texts)) + "\n"
    return texts


def row_of(example: Example) -> dict[str, Any]:
    """An Example as a row of the house format; loading it gives the same Example but for file and line."""
    row: dict[str, Any] = {"id": example.id}
    # a variable that is called like a column of the house would be taken for it
    nested = bool(_RESERVED & example.fields.keys()) or (
        "input" not in example.fields and not example.messages
    )
    row |= {"fields": dict(example.fields)} if nested else dict(example.fields)
    if example.messages:
        row["messages"] = [plain_message(message) for message in example.messages]
    if example.tools:
        row["tools"] = [plain_tool(tool) for tool in example.tools]
    if example.group is not None:
        row["group"] = example.group
    if example.metadata:
        row["metadata"] = dict(example.metadata)
    return {**row, "target": example.target}


def _jsonl(examples: Iterable[Example]) -> str:
    return "".join(json.dumps(row_of(example), ensure_ascii=False) + "\n" for example in examples)


def _manifest(task: Task, texts: dict[str, str]) -> Iterator[str]:
    yield assignment("name", task.name)
    for key in ("description", "license"):
        if value := getattr(task, key):
            yield assignment(key, value)
    yield assignment("data_class", task.data_class)
    if task.response_format is not None:
        schema = task.response_format.schema
        yield assignment(
            "json_schema", True if schema is None else _schema_file(schema, "answer.schema.json", texts)
        )
    yield from ("", "[data]", assignment("format", "rows"), assignment("test", "test.jsonl"))
    if task.train:
        yield assignment("train", "train.jsonl")
    # named here, so that no other column is taken for them
    yield from (assignment("target", "target"), assignment("id", "id"))
    for prompt in task.prompts:
        yield from (
            "",
            "[prompt]" if len(task.prompts) == 1 else "[[prompts]]",
            *_prompt(prompt, len(task.prompts)),
        )
    yield from ("", "[sampling]", *_sampling(task))
    for number, spec in enumerate(task.scorers, start=1):
        yield from ("", "[[scorers]]", *_scorer(spec, number, texts))
    for number, candidate in enumerate(task.candidates, start=1):
        yield from ("", "[[candidates]]", *_table(candidate, f"candidate-{number}", texts))


def _prompt(prompt: Prompt, count: int) -> Iterator[str]:
    for one in fields(prompt):
        value = getattr(prompt, one.name)
        if one.name != "few_shot" and (value != one.default or (one.name == "name" and count > 1)):
            yield assignment(one.name, value)
    if prompt.few_shot is not None:
        block = {one.name: getattr(prompt.few_shot, one.name) for one in fields(prompt.few_shot)}
        yield assignment(
            "few_shot", {name: value for name, value in block.items() if value not in (None, ())}
        )


def _sampling(task: Task) -> Iterator[str]:
    for one in fields(task.sampling):
        value = getattr(task.sampling, one.name)
        if value not in (None, ()):
            yield assignment(one.name, value)


def _scorer(spec: Spec, number: int, texts: dict[str, str]) -> Iterator[str]:
    yield assignment("name", spec.name)
    yield from _table(spec.args, f"{spec.name}-{number}", texts)


def _table(table: Mapping[str, Any], name: str, texts: dict[str, str]) -> Iterator[str]:
    for key, value in table.items():
        if key in {"schema", "json_schema"} and isinstance(value, Mapping):
            yield assignment(key, _schema_file(value, f"{name}.schema.json", texts))
        elif not has_null(value):
            yield assignment(key, value)


def _schema_file(schema: Any, name: str, texts: dict[str, str]) -> str:
    same = next(
        (known for known in texts if known.endswith(".json") and json.loads(texts[known]) == schema), None
    )
    if same is not None:
        return same
    texts[name] = json.dumps(schema, ensure_ascii=False, indent=2) + "\n"
    return name


def _write(folder: Path, texts: Mapping[str, str]) -> tuple[Path, ...]:
    taken = next((name for name in texts if (folder / name).exists()), None)
    if taken is not None:
        raise TaskError("tasks.folder_exists", path=folder, file=taken)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in texts.items():
            (folder / name).write_text(content, encoding="utf-8", newline="\n")
    except OSError as error:
        raise TaskError("tasks.unwritable", path=folder, problem=error) from error
    return tuple(folder / name for name in texts)
