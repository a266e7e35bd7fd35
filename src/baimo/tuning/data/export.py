"""Rows as OpenAI's JSON Lines: what other trainers, other platforms and `baimo tune` read back.

A row is written in the form that says all of it: a preference row when it has a rejected ending, else a conversation
(with `weight` where not every answer is learnt, and the fields that graders compare with), else a text.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from baimo.core.message import Message, Part, Tool
from baimo.core.tuning import Row
from baimo.errors import DataError


def openai_row(row: Row) -> dict[str, Any]:
    """One line: the API's FineTuneChatRequestInput, its Preference or Reinforcement sister, or a text."""
    further = dict(row.item) | ({} if row.group is None else {"group": row.group})
    if not row.messages:
        return {"text": row.text, **further}
    tools = {"tools": [_tool(tool) for tool in row.tools]} if row.tools else {}
    if row.rejected:
        before = {"messages": [_turn(one) for one in row.messages[:-1]], **tools}
        good, bad = [_turn(row.messages[-1])], [_turn(one) for one in row.rejected]
        return {"input": before, "preferred_output": good, "non_preferred_output": bad, **further}
    turns = [_turn(one) for one in row.messages]
    if row.trained is not None:
        for number, turn in enumerate(turns):
            if turn["role"] == "assistant":
                turn["weight"] = int(number in row.trained)
    return {"messages": turns, **tools, **further}


def write(path: Path, rows: Iterable[Row], *, force: bool = False) -> int:
    """Write rows as JSON Lines, in one piece; returns how many.

    Args:
        path: the file.
        rows: what it is to hold.
        force: whether an existing file is replaced.

    Raises:
        DataError: it exists already, or cannot be written.
    """
    if path.exists() and not force:
        raise DataError("data.exists", path=path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    count = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            for row in rows:
                file.write(msgspec.json.encode(openai_row(row)) + b"\n")
                count += 1
        part.replace(path)
    except OSError as error:
        raise DataError("data.cannot_write", path=path, problem=error.strerror or error) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return count


def _turn(message: Message) -> dict[str, Any]:
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in message.tool_calls
    ]
    turn: dict[str, Any] = {"role": message.role, "content": _content(message)}
    if calls:
        turn |= {"content": turn["content"] or None, "tool_calls": calls}
    names = (("tool_call_id", message.tool_call_id), ("name", message.name))
    return turn | {name: value for name, value in names if value is not None}


def _content(message: Message) -> str | list[dict[str, Any]]:
    if isinstance(message.content, str):
        return message.content
    return [_part(part) for part in message.content]


def _part(part: Part) -> dict[str, Any]:
    if part.kind == "text":
        return {"type": "text", "text": part.data}
    if part.kind == "image_url":
        return {"type": "image_url", "image_url": {"url": part.data}}
    form = (part.media_type or "").removeprefix("audio/")
    return {"type": "input_audio", "input_audio": {"data": part.data} | ({"format": form} if form else {})}


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    facts: Sequence[tuple[str, Any]] = (
        ("description", tool.description or None),
        ("parameters", tool.parameters),
        ("strict", tool.strict),
    )
    function |= {name: value for name, value in facts if value is not None}
    return {"type": "function", "function": function}
