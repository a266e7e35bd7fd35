"""Records of other houses as Examples: chat fine-tuning, Evals, ShareGPT, Alpaca.

Sources: OpenAI's fine-tuning guide (https://platform.openai.com/docs/guides/supervised-fine-tuning), the Evals
repository (https://github.com/openai/evals, docs/build-eval.md) and the Evals API's data source rows; FastChat's
ShareGPT data (https://github.com/lm-sys/FastChat); Stanford Alpaca (https://github.com/tatsu-lab/stanford_alpaca).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, cast

from baimo.core.message import Message
from baimo.core.task import Example
from baimo.errors import TaskError
from baimo.evals.tasks.formats.columns import Columns, examples
from baimo.evals.tasks.formats.messages import (
    calls_as_target,
    message_of,
    messages_of,
    role_of,
    text_of,
    tools_of,
    turns_of,
)
from baimo.evals.tasks.formats.rows import Row
from baimo.evals.tasks.formats.shapes import as_items, as_map, kind_of
from baimo.evals.tasks.notes import Notebook


def openai_chat(rows: Iterable[Row], path: Path, columns: Columns, notebook: Notebook) -> Iterator[Example]:
    """Chat fine-tuning records: {"messages": […], "tools": […]}; the last assistant turn is the target."""
    for row in rows:
        record = row.value
        if "messages" not in record:
            raise TaskError(
                "tasks.record_without", path=path, line=row.line, name="messages", format="openai-chat"
            )
        if any("weight" in as_map(turn) for turn in as_items(record["messages"])):
            notebook.add("left_weight", row.line)
        tools: Any = record.get("tools") or record.get("functions") or []
        messages = messages_of(record["messages"], path, row.line)
        yield _conversation(
            row, path, messages, notebook, tools=tools, known={"messages", "tools", "functions"}
        )


def openai_evals(rows: Iterable[Row], path: Path, columns: Columns, notebook: Notebook) -> Iterator[Example]:
    """Evals records: {"input": text or messages, "ideal": text or texts}, or the API's {"item": {…}, "sample": {…}}."""
    buffered = iter(rows)
    for row in buffered:
        if "item" in row.value:  # from here on, every row has to be one of the API's
            yield from examples(_items(row, buffered, path, notebook), path, columns, notebook)
            return
        record = row.value
        if "input" not in record:
            raise TaskError(
                "tasks.record_without", path=path, line=row.line, name="input", format="openai-evals"
            )
        if isinstance(record["input"], list):
            messages = messages_of(record["input"], path, row.line)
        else:
            messages = (message_of({"role": "user", "content": record["input"]}, path, row.line),)
        yield _conversation(
            row, path, messages, notebook, target=record.get("ideal"), known={"input", "ideal"}
        )


def sharegpt(rows: Iterable[Row], path: Path, columns: Columns, notebook: Notebook) -> Iterator[Example]:
    """ShareGPT records: {"conversations": [{"from": "human", "value": …}]}; the last assistant turn is the target."""
    for row in rows:
        turns = turns_of(row.value.get("conversations"), path, row.line)
        messages = tuple(_sharegpt_turn(turn, path, row.line) for turn in turns)
        system = row.value.get("system")
        if isinstance(system, str) and system:
            messages = (Message(role="system", content=system), *messages)
        tools: Any = row.value.get("tools") or []
        known = {"conversations", "system", "tools"}
        yield _conversation(row, path, messages, notebook, tools=tools, known=known)


def alpaca(rows: Iterable[Row], path: Path, columns: Columns, notebook: Notebook) -> Iterator[Example]:
    """Alpaca records: {"instruction", "input", "output"}; the field `input` is both texts, blank line between."""
    for row in rows:
        record = row.value
        instruction, context = record.get("instruction"), record.get("input") or ""
        if not isinstance(instruction, str) or not isinstance(context, str):
            raise TaskError(
                "tasks.record_without", path=path, line=row.line, name="instruction", format="alpaca"
            )
        metadata, left = _spare(row, {"instruction", "input", "output", "system", "history"})
        for name in (*left, *(["history"] if record.get("history") else [])):
            notebook.add("left_field", row.line, name=name)
        system = record.get("system")
        fields = {
            "input": f"{instruction}\n\n{context}".strip(),
            "instruction": instruction,
            "context": context,
        }
        yield Example(
            id=str(record.get("id", row.id)),
            fields=fields | ({"system": system} if isinstance(system, str) else {}),
            target=record.get("output") or None,
            metadata=metadata,
            line=row.line,
            file=str(path),
        )


def _conversation(
    row: Row,
    path: Path,
    messages: tuple[Message, ...],
    notebook: Notebook,
    *,
    known: set[str],
    target: Any = None,
    tools: Any = (),
) -> Example:
    if target is None and "ideal" not in known and messages[-1].role == "assistant":
        last, messages = messages[-1], messages[:-1]
        target = calls_as_target(last.tool_calls) if last.tool_calls else (text_of(last) or None)
        if last.tool_calls and text_of(last):
            notebook.add("left_text_beside_calls", row.line)
    if not messages:
        raise TaskError("tasks.nothing_asked", path=path, line=row.line)
    metadata, left = _spare(row, known)
    for name in left:
        notebook.add("left_field", row.line, name=name)
    asked = next((message for message in reversed(messages) if message.role == "user"), messages[-1])
    return Example(
        id=str(row.value.get("id", row.id)),
        fields={"input": text_of(asked)},
        target=target,
        messages=messages,
        tools=tools_of(tools, path, row.line) if tools else (),
        metadata=metadata,
        line=row.line,
        file=str(path),
    )


def _sharegpt_turn(turn: Any, path: Path, line: int) -> Message:
    if not isinstance(turn, Mapping):
        raise TaskError("tasks.bad_message", path=path, line=line, found=kind_of(turn))
    said = cast("Mapping[str, Any]", turn)
    speaker, words = said.get("from", said.get("role")), said.get("value", said.get("content"))
    if isinstance(speaker, str) and speaker == "function_call":
        return message_of({"role": "assistant", "tool_calls": [{"function": _parsed(words)}]}, path, line)
    return message_of({"role": role_of(speaker, path, line), "content": words}, path, line)


def _parsed(words: Any) -> Any:
    import json

    try:
        return json.loads(words) if isinstance(words, str) else words
    except (ValueError, RecursionError):
        return None


def _items(first: Row, rest: Iterable[Row], path: Path, notebook: Notebook) -> Iterator[Row]:
    for row in chain([first], rest):
        line, record = row.line, row.value
        item = record.get("item")
        if not isinstance(item, Mapping):
            raise TaskError("tasks.record_without", path=path, line=line, name="item", format="openai-evals")
        for name in sorted(record.keys() - {"item"}):
            notebook.add("left_field", line, name=name)
        yield row._replace(value=dict(cast("Mapping[str, Any]", item)))


def _spare(row: Row, known: set[str]) -> tuple[dict[str, Any], list[str]]:
    """Further keys of a record: those that make slices for the report, and those that stay behind."""
    spare = {name: item for name, item in row.value.items() if name not in known | {"id", "metadata"}}
    slices = {name: item for name, item in spare.items() if isinstance(item, (str, int, float, bool))}
    kept = row.value.get("metadata")
    if isinstance(kept, Mapping):
        slices |= cast("Mapping[str, Any]", kept)
    elif kept is not None:
        spare["metadata"] = kept
    return slices, [name for name in spare if name not in slices]
