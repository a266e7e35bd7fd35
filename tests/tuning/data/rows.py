"""Rows and files of rows for tests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from baimo.core.message import Message, Tool, ToolCall
from baimo.core.tuning import Row


def said(role: Any, content: str = "", **more: Any) -> Message:
    return Message(role=role, content=content, **more)


def row(question: str = "hello", answer: str | None = "hi", *, system: str = "", **more: Any) -> Row:
    """One question and its answer; None = none."""
    turns = [said("system", system)] if system else []
    turns.append(said("user", question))
    if answer is not None:
        turns.append(said("assistant", answer))
    return Row(messages=tuple(turns), **{"file": "f", "line": 1, **more})


def calling(arguments: str = "{}", *, name: str = "f", offered: Sequence[str] = ("f",), **more: Any) -> Row:
    """A row that ends with a call."""
    call = ToolCall(id="c1", name=name, arguments=arguments)
    turns = (said("user", "do it"), said("assistant", tool_calls=(call,)))
    return Row(messages=turns, tools=tuple(Tool(name=one) for one in offered), file="f", line=1, **more)


def file_of(folder: Path, *lines: Any, name: str = "rows.jsonl") -> Path:
    """A file of JSON Lines; texts are written as they are."""
    path = folder / name
    written = (line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines)
    path.write_text("".join(f"{line}\n" for line in written), encoding="utf-8")
    return path


def alike(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Every pair: what is near is for the caller to decide."""
    return ((first, second) for second in range(len(texts)) for first in range(second))
