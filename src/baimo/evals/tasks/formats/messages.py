"""Conversations and tools in the OpenAI chat format (https://platform.openai.com/docs/api-reference/chat) as data.

Tool schemas in the dialect of the Berkeley Function-Calling Leaderboard (`"type": "dict"`) become JSON Schema.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from baimo.core.message import Message, Part, Role, Tool, ToolCall
from baimo.errors import TaskError
from baimo.evals.tasks.formats.shapes import as_map, kind_of

_ALIASES: dict[Role, tuple[str, ...]] = {
    "system": ("system", "developer"),
    "user": ("user", "human"),
    "assistant": ("assistant", "gpt", "model", "bot", "chatgpt"),
    "tool": ("tool", "function", "observation"),
}
_ROLES: dict[str, Role] = {alias: role for role, aliases in _ALIASES.items() for alias in aliases}
_PLAIN_TYPES = {"dict": "object", "float": "number", "tuple": "array", "list": "array", "int": "integer"}


def role_of(name: Any, path: Path, line: int) -> Role:
    """The role that a foreign name stands for: human, gpt, developer …"""
    role: Role | None = _ROLES.get(name.lower()) if isinstance(name, str) else None
    if role is None:
        raise TaskError("tasks.bad_role", path=path, line=line, role=name, known=", ".join(_ROLES))
    return role


def messages_of(value: Any, path: Path, line: int) -> tuple[Message, ...]:
    """A conversation from a list of {"role", "content"}; a list that holds one such list is opened."""
    if isinstance(value, list) and len(cast("list[Any]", value)) == 1 and isinstance(value[0], list):
        value = cast("list[Any]", value)[0]
    return tuple(message_of(item, path, line) for item in turns_of(value, path, line))


def turns_of(value: Any, path: Path, line: int) -> list[Any]:
    """The turns of a conversation as they stand in the file; at least one."""
    if value == []:
        raise TaskError("tasks.no_messages", path=path, line=line)
    if not isinstance(value, list):
        raise TaskError("tasks.bad_messages", path=path, line=line, found=kind_of(value))
    return cast("list[Any]", value)


def message_of(item: Any, path: Path, line: int) -> Message:
    """One turn of a conversation."""
    if not isinstance(item, Mapping):
        raise TaskError("tasks.bad_message", path=path, line=line, found=kind_of(item))
    turn = cast("Mapping[str, Any]", item)
    calls = turn.get("tool_calls") or (
        [{"function": turn["function_call"]}] if turn.get("function_call") else []
    )
    name, call_id = turn.get("name"), turn.get("tool_call_id")
    return Message(
        role=role_of(turn.get("role"), path, line),
        content=_content(turn.get("content"), path, line),
        tool_calls=tuple(
            _call(call, position, path, line) for position, call in enumerate(_list(calls, path, line))
        ),
        tool_call_id=str(call_id) if call_id is not None else None,
        name=str(name) if name is not None else None,
    )


def tools_of(value: Any, path: Path, line: int) -> tuple[Tool, ...]:
    """Functions on offer, from OpenAI's `tools`, the older `functions`, or JSON text of either."""
    if isinstance(value, str):
        from baimo.evals.tasks.formats.rows import json_value

        value = json_value(value, path, line)
    return tuple(_tool(item, path, line) for item in _list(value, path, line))


def plain_message(message: Message) -> dict[str, Any]:
    """A Message in the OpenAI chat format; message_of reads it back."""
    content = (
        message.content
        if isinstance(message.content, str)
        else [_plain_part(part) for part in message.content]
    )
    turn: dict[str, Any] = {"role": message.role, "content": content}
    if message.tool_calls:
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    return turn | {
        name: value
        for name, value in (("tool_call_id", message.tool_call_id), ("name", message.name))
        if value
    }


def plain_tool(tool: Tool) -> dict[str, Any]:
    """A Tool in the OpenAI chat format; tools_of reads it back."""
    function: dict[str, Any] = {"name": tool.name, "description": tool.description}
    if tool.parameters is not None:
        function["parameters"] = tool.parameters
    return {"type": "function", "function": function}


def text_of(message: Message) -> str:
    """What a turn says, its text parts joined by line breaks."""
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.data for part in message.content if part.kind == "text")


def calls_as_target(calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    """Tool calls as a reference: [{"name", "arguments"}], arguments as data where they are valid JSON."""
    return [{"name": call.name, "arguments": _loads(call.arguments)} for call in calls]


def _content(value: Any, path: Path, line: int) -> str | tuple[Part, ...]:
    if value is None:
        return ""
    if isinstance(value, (str, int, float)):
        return str(value)
    return tuple(_part(part, path, line) for part in _list(value, path, line))


def _part(value: Any, path: Path, line: int) -> Part:
    if isinstance(value, str):
        return Part(kind="text", data=value)
    part = as_map(value)
    match part.get("type"):
        case "text" | "input_text" | "output_text" if isinstance(part.get("text"), str):
            return Part(kind="text", data=part["text"])
        case "image_url" | "input_image" if (url := _inner(part.get("image_url"), "url")) is not None:
            return Part(kind="image_url", data=url)
        case "input_audio" if (sound := _inner(part.get("input_audio"), "data")) is not None:
            form = _inner(part["input_audio"], "format")
            return Part(kind="input_audio", data=sound, media_type=f"audio/{form}" if form else None)
        case kind:
            raise TaskError("tasks.bad_part", path=path, line=line, found=kind or kind_of(value))


def _plain_part(part: Part) -> dict[str, Any]:
    if part.kind == "text":
        return {"type": "text", "text": part.data}
    if part.kind == "image_url":
        return {"type": "image_url", "image_url": {"url": part.data}}
    form = (part.media_type or "").removeprefix("audio/")
    return {"type": "input_audio", "input_audio": {"data": part.data} | ({"format": form} if form else {})}


def _inner(value: Any, name: str) -> str | None:
    if isinstance(value, Mapping):
        value = cast("Mapping[str, Any]", value).get(name)
    return value if isinstance(value, str) else None


def _call(value: Any, position: int, path: Path, line: int) -> ToolCall:
    call = as_map(value)
    function = as_map(call.get("function", call))
    if not isinstance(function.get("name"), str):
        raise TaskError("tasks.bad_tool_call", path=path, line=line)
    arguments = function.get("arguments", "{}")
    written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return ToolCall(id=str(call.get("id") or f"call_{position}"), name=function["name"], arguments=written)


def _tool(value: Any, path: Path, line: int) -> Tool:
    outer = as_map(value)
    function = as_map(outer.get("function", outer))
    if not isinstance(function.get("name"), str):
        raise TaskError("tasks.bad_tool", path=path, line=line)
    parameters = function.get("parameters")
    return Tool(
        name=function["name"],
        description=str(function.get("description") or ""),
        parameters=_json_schema(parameters) if isinstance(parameters, Mapping) else None,
    )


def _json_schema(value: Any) -> Any:
    if isinstance(value, Mapping):
        schema = {str(name): _json_schema(item) for name, item in cast("Mapping[Any, Any]", value).items()}
        kind = schema.get("type")
        if isinstance(kind, str) and kind in _PLAIN_TYPES:
            schema["type"] = _PLAIN_TYPES[kind]
        elif kind == "any":
            del schema["type"]
        return schema
    return [_json_schema(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value


def _list(value: Any, path: Path, line: int) -> list[Any]:
    if not isinstance(value, list):
        raise TaskError("tasks.not_a_list", path=path, line=line, found=kind_of(value))
    return cast("list[Any]", value)


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
