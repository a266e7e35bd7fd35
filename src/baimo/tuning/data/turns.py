"""Conversations and tools of foreign rows as Messages and Tools.

Understands OpenAI's chat format with tools and its older functions, and ShareGPT's from/value with function_call and
observation. As lenient as can be said without guessing: what cannot stand in a Message is a problem with its line,
what merely should not be so is left for the checks.

Sources: https://platform.openai.com/docs/guides/supervised-fine-tuning (also `weight`);
ShareGPT as FastChat and LLaMA-Factory write it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec

from baimo.core.message import Message, Part, Role, Tool, ToolCall
from baimo.errors import DataError
from baimo.tuning.data.records import kind_of

ROLES: Mapping[str, Role] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatgpt"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation"), "tool"),
}
"""Names of speakers → our roles."""
LEARNT = ("weight", "train", "loss")
"""Spellings of "this turn is learnt": OpenAI, axolotl, ms-swift."""
_KNOWN = frozenset(
    {"role", "from", "content", "value", "name", "tool_calls", "tool_call_id", "function_call", *LEARNT}
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands, for what has to be said about it."""

    path: Path
    """File."""
    line: int
    """Line, from 1."""
    left: Counter[str] = field(default_factory=Counter[str])
    """Parts of turns that a Message has no place for, by name."""

    def wrong(self, key: str, **facts: object) -> DataError:
        """The problem `data.<key>` at this place."""
        return DataError(f"data.{key}", path=self.path, line=self.line, **facts)


class Turns(NamedTuple):
    """A conversation."""

    messages: tuple[Message, ...]
    """Its turns."""
    trained: tuple[int, ...] | None
    """Places of the turns that are learnt, where the source says so."""


def turns(value: Any, place: Place) -> Turns:
    """A conversation from a list of turns.

    Raises:
        DataError: a turn cannot be a Message.
    """
    if value == []:
        raise place.wrong("no_messages")
    if not isinstance(value, list):
        raise place.wrong("bad_messages", found=kind_of(value))
    made: list[Message] = []
    told: dict[int, bool] = {}
    waiting: list[str] = []  # calls whose source gives them no id: answers take them in order
    for number, item in enumerate(cast("list[Any]", value)):
        if not isinstance(item, Mapping):
            raise place.wrong("bad_message", turn=number + 1, found=kind_of(item))
        said = cast("Mapping[str, Any]", item)
        message = _message(said, number, waiting, place)
        made.append(message)
        if message.role == "assistant" and (learnt := _learnt(said, number, place)) is not None:
            told[number] = learnt
    if all(told.values()):
        return Turns(tuple(made), None)
    assistant = (number for number, message in enumerate(made) if message.role == "assistant")
    return Turns(tuple(made), tuple(number for number in assistant if told.get(number, True)))


def tools(value: Any, place: Place) -> tuple[Tool, ...]:
    """Functions on offer, from OpenAI's `tools`, the older `functions`, or JSON text of either.

    Raises:
        DataError: it is no list, or a function has no name.
    """
    if isinstance(value, str):
        value = _parsed(value)
    if value is None or value == "":
        return ()
    if not isinstance(value, list):
        raise place.wrong("bad_tools", found=kind_of(value))
    return tuple(_tool(one, place) for one in cast("list[Any]", value))


def text_of(message: Message) -> str:
    """What a turn says, its text parts joined by line breaks."""
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.data for part in message.content if part.kind == "text")


def said(message: Message) -> str:
    """A turn as one text: who speaks unless it is the user, the words, the calls."""
    words = text_of(message)
    calls = (f"{call.name}({call.arguments})" for call in message.tool_calls)
    speaker = "" if message.role == "user" else f"{message.role}: "
    return speaker + "\n".join((words, *calls)) if message.tool_calls else speaker + words


def as_map(value: Any) -> Mapping[str, Any]:
    """`value` if it is an object, else an empty one."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _message(said: Mapping[str, Any], number: int, waiting: list[str], place: Place) -> Message:
    speaker = said["role"] if "role" in said else said.get("from")
    content = said["content"] if "content" in said else said.get("value")
    calls: Any = said.get("tool_calls")
    if speaker == "function_call":  # ShareGPT: the turn is the call
        speaker, calls, content = "assistant", _parsed(content), None
        calls = cast("list[Any]", calls) if isinstance(calls, list) else [calls]
    elif said.get("function_call") is not None:
        calls = [said["function_call"]]
    role = ROLES.get(speaker.lower()) if isinstance(speaker, str) else None
    if role is None:
        raise place.wrong("bad_role", turn=number + 1, role=speaker, known=", ".join(ROLES))
    if content is None and said.get("refusal"):
        content = said["refusal"]
    for name in said.keys() - _KNOWN - {"refusal"}:
        place.left[name] += 1
    answers, name = said.get("tool_call_id"), said.get("name")
    if role == "tool" and answers is None and waiting:
        answers = waiting.pop(0)
    return Message(
        role=role,
        content=_content(content, number, place),
        tool_calls=_calls(calls, number, waiting, place),
        tool_call_id=None if answers is None else str(answers),
        name=None if name is None else str(name),
    )


def _calls(calls: Any, number: int, waiting: list[str], place: Place) -> tuple[ToolCall, ...]:
    if calls is None:
        return ()
    if not isinstance(calls, list):
        raise place.wrong("bad_tool_call", turn=number + 1)
    made: list[ToolCall] = []
    for position, item in enumerate(cast("list[Any]", calls)):
        call = as_map(item)
        function = as_map(call.get("function", call))
        name, arguments = function.get("name"), function.get("arguments", "{}")
        if not isinstance(name, str):
            raise place.wrong("bad_tool_call", turn=number + 1)
        id = call.get("id")
        if id is None:
            id = f"call_{number}_{position}"
            waiting.append(id)
        written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        made.append(ToolCall(id=str(id), name=name, arguments=written))
    return tuple(made)


def _content(value: Any, number: int, place: Place) -> str | tuple[Part, ...]:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise place.wrong("bad_content", turn=number + 1, found=kind_of(value))
    parts = tuple(_part(one, number, place) for one in cast("list[Any]", value))
    if all(part.kind == "text" for part in parts):  # what templates of text models can show
        return "\n".join(part.data for part in parts)
    return parts


def _part(value: Any, number: int, place: Place) -> Part:
    if isinstance(value, str):
        return Part(kind="text", data=value)
    part = as_map(value)
    match part.get("type"):
        case "text" | "input_text" | "output_text" if isinstance(words := part.get("text"), str):
            return Part(kind="text", data=words)
        case "refusal" if isinstance(words := part.get("refusal"), str):
            return Part(kind="text", data=words)
        case "image_url" | "input_image" if (address := _inner(part.get("image_url"), "url")) is not None:
            return Part(kind="image_url", data=address)
        case "input_audio" if (sound := _inner(part.get("input_audio"), "data")) is not None:
            form = _inner(part["input_audio"], "format") if isinstance(part["input_audio"], Mapping) else None
            return Part(kind="input_audio", data=sound, media_type=f"audio/{form}" if form else None)
        case kind:
            raise place.wrong("bad_part", turn=number + 1, found=kind or kind_of(value))


def _inner(value: Any, name: str) -> str | None:
    value = cast("Mapping[str, Any]", value).get(name) if isinstance(value, Mapping) else value
    return value if isinstance(value, str) else None


def _learnt(said: Mapping[str, Any], number: int, place: Place) -> bool | None:
    name = next((name for name in LEARNT if said.get(name) is not None), None)
    if name is None:
        return None
    if said[name] not in (0, 1):
        raise place.wrong("bad_weight", turn=number + 1, value=said[name])
    return bool(said[name])


def _tool(value: Any, place: Place) -> Tool:
    outer = as_map(value)
    function = as_map(outer.get("function", outer))
    name, parameters, strict = (function.get(key) for key in ("name", "parameters", "strict"))
    if not isinstance(name, str):
        raise place.wrong("bad_tool")
    return Tool(
        name=name,
        description=str(function.get("description") or ""),
        parameters=cast("Mapping[str, Any]", parameters) if isinstance(parameters, Mapping) else None,
        strict=strict if isinstance(strict, bool) else None,
    )


def _parsed(words: Any) -> Any:
    if not isinstance(words, str):
        return words
    try:
        return msgspec.json.decode(words)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return words
