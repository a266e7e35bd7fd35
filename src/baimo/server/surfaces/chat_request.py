"""A chat completion request in neutral words.

Everything that `Request` has no word for travels in `extra` and is sent to servers of OpenAI's format as it came.
Left out: what an assistant thought in earlier turns (`reasoning_content`), which servers refuse or ignore.
Refused: what would make the answer another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from baimo.core.call import JsonFormat, Request, Sampling
from baimo.core.message import Message, Part, Tool, ToolCall
from baimo.errors import CallRefused
from baimo.server.surfaces.given import Given
from baimo.text import text

_SAID = frozenset(  # everything that the neutral request or the gateway itself takes care of
    {
        "model", "messages", "stream", "stream_options", "n", "temperature", "top_p", "max_tokens",
        "max_completion_tokens", "stop", "seed", "tools", "tool_choice", "functions", "function_call",
        "response_format", "logprobs", "top_logprobs", "modalities", "audio",
    }
)  # fmt: skip
_CHOICES = frozenset({"auto", "none", "required"})
MEDIA_TYPES = {"mp3": "audio/mpeg"}


def chat_request(body: bytes, *, model: str) -> Request:
    """The neutral request.

    Args:
        body: as the client sent it.
        model: name as the model's server knows it.

    Raises:
        CallRefused: a field is wrong, or cannot be said to other models.
    """
    given = Given.body(body)
    if "audio" in (given.texts("modalities")) or given.has("audio"):
        raise unsayable("modalities", text("surfaces.what_audio_output"))
    tools, choice = _tools(given)
    return Request(
        model=model,
        messages=tuple(_messages(given)),
        sampling=sampling(given),
        tools=tools,
        tool_choice=choice,
        response_format=_response_format(given.object("response_format")),
        top_logprobs=_top_logprobs(given),
        extra=extra(given, _SAID),
    )


def sampling(given: Given) -> Sampling:
    """Decoding parameters, which chat and text completions share."""
    limits = [given.whole("max_tokens"), given.whole("max_completion_tokens")]
    stop = given.row.get("stop")
    return Sampling(
        temperature=given.number("temperature"),
        top_p=given.number("top_p"),
        max_tokens=max((limit for limit in limits if limit is not None), default=None),
        stop=(stop,) if isinstance(stop, str) else given.texts("stop"),
        seed=given.whole("seed", least=-(1 << 63)),
    )


def extra(given: Given, said: frozenset[str]) -> Mapping[str, Any] | None:
    """The fields that have no neutral word; none whose name differs from a known one in case only."""
    return {
        name: value
        for name, value in given.row.items()
        if value is not None and name not in said and name.casefold() not in said
    } or None


def unsayable(field: str, what: str) -> CallRefused:
    """The refusal of a field that has no neutral word."""
    return CallRefused("surfaces.not_neutral", field=field, what=what)


def _messages(given: Given) -> Iterator[Message]:
    called: dict[str, str] = {}
    for turn in given.some("messages"):
        message = _message(turn, called)
        if turn.has("function_call"):  # results of functions name the function, not the call
            called[message.tool_calls[0].name] = message.tool_calls[0].id
        yield message


def _message(turn: Given, called: Mapping[str, str]) -> Message:
    role = turn.needed("role")
    name = turn.text("name")
    if role in {"system", "developer"}:
        return Message(role="system", content=_content(turn), name=name)
    if role == "user":
        return Message(role="user", content=_content(turn), name=name)
    if role == "assistant":
        return _assistant(turn, name)
    if role == "tool":
        return Message(
            role="tool", content=_content(turn), tool_call_id=turn.needed("tool_call_id"), name=name
        )
    if role == "function":
        call = called.get(turn.needed("name"))
        if call is None:
            raise CallRefused("surfaces.orphan_result", field=turn.at("name"))
        content = _content(turn) if turn.has("content") else ""
        return Message(role="tool", content=content, tool_call_id=call, name=name)
    raise unsayable(turn.at("role"), text("surfaces.what_role", role=role))


def _assistant(turn: Given, name: str | None) -> Message:
    if turn.has("audio"):
        raise unsayable(turn.at("audio"), text("surfaces.what_earlier_audio"))
    calls = [_call(call) for call in turn.objects("tool_calls")]
    if (function := turn.object("function_call")) is not None:
        call_id = "call_" + turn.path.removeprefix("messages[").removesuffix("]")
        calls.append(ToolCall(id=call_id, **_called(function)))
    content = _content(turn) if turn.has("content") else turn.text("refusal") or ""
    return Message(role="assistant", content=content, tool_calls=tuple(calls), name=name)


def _call(call: Given) -> ToolCall:
    if call.text("type") not in {None, "function"}:
        raise unsayable(call.at("type"), text("surfaces.what_custom_tools"))
    function = call.object("function")
    if function is None:
        raise CallRefused("surfaces.missing", field=call.at("function"))
    return ToolCall(id=call.needed("id"), **_called(function))


def _called(function: Given) -> dict[str, str]:
    return {"name": function.needed("name"), "arguments": function.text("arguments") or ""}


def _content(turn: Given) -> str | tuple[Part, ...]:
    content = turn.content("content")
    return content if isinstance(content, str) else tuple(map(_part, content))


def _part(part: Given) -> Part:
    kind = part.needed("type")
    if kind in {"text", "refusal"}:
        return Part(kind="text", data=part.needed(kind))
    if kind == "image_url":
        if isinstance(part.row.get(kind), str):  # several compatible servers take the address alone
            return Part(kind="image_url", data=part.needed(kind))
        image = _inside(part, kind)
        return Part(kind="image_url", data=image.needed("url"), detail=image.text("detail"))
    if kind == "input_audio":
        sound = _inside(part, kind)
        form = sound.needed("format")
        media_type = MEDIA_TYPES.get(form, f"audio/{form}")
        return Part(kind="input_audio", data=sound.needed("data"), media_type=media_type)
    if kind == "file":
        raise unsayable(part.path, text("surfaces.what_file"))
    raise unsayable(part.at("type"), text("surfaces.what_part", type=kind))


def _inside(part: Given, name: str) -> Given:
    inner = part.object(name)
    if inner is None:
        raise CallRefused("surfaces.missing", field=part.at(name))
    return inner


def _tools(given: Given) -> tuple[tuple[Tool, ...], str | None]:
    tools: list[Tool] = []
    for tool in given.objects("tools"):
        if tool.text("type") not in {None, "function"}:
            raise unsayable(tool.at("type"), text("surfaces.what_custom_tools"))
        tools.append(_function(_inside(tool, "function")))
    tools += map(_function, given.objects("functions"))
    field = "tool_choice" if given.has("tool_choice") else "function_call"
    value = given.row.get(field)
    if value is None or isinstance(value, str):
        return tuple(tools), given.word(field, *_CHOICES)
    choice = _inside(given, field)
    if choice.text("type") == "allowed_tools":
        return _allowed(tools, _inside(choice, "allowed_tools"))
    if choice.text("type") not in {None, "function"}:
        raise unsayable(choice.at("type"), text("surfaces.what_custom_tools"))
    name = (choice if field == "function_call" else _inside(choice, "function")).needed("name")
    if name in _CHOICES:
        raise unsayable(field, text("surfaces.what_reserved_name", name=name))
    return tuple(tools), name


def _allowed(tools: list[Tool], allowed: Given) -> tuple[tuple[Tool, ...], str | None]:
    """The tools that may be called now; the others are not shown to the model."""
    names = {
        _inside(tool, "function").needed("name") if tool.has("function") else tool.needed("name")
        for tool in allowed.objects("tools")
    }
    return tuple(tool for tool in tools if tool.name in names), allowed.word("mode", "auto", "required")


def _function(function: Given) -> Tool:
    parameters = function.object("parameters")
    return Tool(
        name=function.needed("name"),
        description=function.text("description") or "",
        parameters=None if parameters is None else parameters.row,
        strict=function.flag("strict"),
    )


def _response_format(wanted: Given | None) -> JsonFormat | None:
    if wanted is None:
        return None
    kind = wanted.word("type", "text", "json_object", "json_schema")
    if kind is None:
        raise CallRefused("surfaces.missing", field=wanted.at("type"))
    if kind == "text":
        return None
    if kind == "json_object":
        return JsonFormat()
    shape = _inside(wanted, "json_schema")
    schema = shape.object("schema")
    row: Mapping[str, Any] = {} if schema is None else schema.row
    if (said := shape.text("description")) and "description" not in row:
        row = {**row, "description": said}
    return JsonFormat(schema=row, name=shape.needed("name"), strict=shape.flag("strict") or False)


def _top_logprobs(given: Given) -> int | None:
    most = given.whole("top_logprobs")
    if not given.flag("logprobs"):
        return None
    if given.flag("stream"):
        raise unsayable("logprobs", text("surfaces.what_stream_logprobs"))
    return most or 0
