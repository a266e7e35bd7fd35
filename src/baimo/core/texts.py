"""Every text in what people, models and tools wrote, changed one by one.

Arguments of tools are changed value by value, so that they stay JSON and a text is recognised that JSON writes with
escapes; broken ones are changed as the text that they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from baimo.core.message import Message, Part

Change = Callable[[str], str]
DEEPEST = 200
"""Levels of a value that are looked into."""


def in_message(message: Message, change: Change) -> Message:
    """Content and arguments, always in the same order; pictures and sounds stay as they are."""
    content: str | tuple[Part, ...]
    if isinstance(message.content, str):
        content = change(message.content)
    else:
        content = tuple(
            replace(part, data=change(part.data)) if part.kind == "text" else part for part in message.content
        )
    calls = tuple(replace(call, arguments=in_json(call.arguments, change)) for call in message.tool_calls)
    return replace(message, content=content, tool_calls=calls)


def in_json(written: str, change: Change) -> str:
    """The texts of a JSON value."""
    try:
        data = json.loads(written)
        changed = in_value(data, change)
    except (ValueError, RecursionError):
        return change(written)
    return written if changed == data else json.dumps(changed, ensure_ascii=False)


def in_value(value: Any, change: Change, deepest: int = DEEPEST) -> Any:
    """The texts of a value; the names of members stay.

    Raises:
        RecursionError: it is nested more deeply; which texts were changed by then does not depend on the caller.
    """
    if isinstance(value, str):
        return change(value)
    if not deepest:
        raise RecursionError
    if isinstance(value, Mapping):
        members = cast("Mapping[str, Any]", value).items()
        return {name: in_value(one, change, deepest - 1) for name, one in members}
    if isinstance(value, (list, tuple)):
        return [in_value(one, change, deepest - 1) for one in cast("Sequence[Any]", value)]
    return value
