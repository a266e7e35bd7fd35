"""A Messages request in neutral words.

Left out, because they steer Claude's own servers and not the answer: what `_STEERING` names, cache_control and thinking
where the server does not speak this API, cache_control of calls, and thinking of earlier turns, which only the model
that wrote it could read.
disable_parallel_tool_use is kept by answering with one call.
Refused, because the answer would be another one: server tools and their results, PDFs and uploaded files, citations,
and members that are not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from baimo.core.call import JsonFormat, Request, Sampling
from baimo.core.message import Message, Part, Role, Tool, ToolCall
from baimo.errors import CallRefused
from baimo.server.surfaces import wirejson
from baimo.server.surfaces.given import Given

_ROLES: tuple[Role, ...] = ("user", "assistant", "system")
_SAID = frozenset(
    {
        "model", "messages", "system", "stream", "temperature", "top_p", "top_k", "max_tokens", "stop_sequences",
        "tools", "tool_choice", "output_config", "output_format", "cache_control", "thinking",
    }
)  # fmt: skip
_STEERING = frozenset(
    {
        "billing_policy", "container", "context_management", "diagnostics", "fallback_credit_token", "fallbacks",
        "inference_geo", "metadata", "service_tier", "speed", "user_profile_id", "workspace_id",
    }
)  # fmt: skip
_CLAUDES = ("xhigh", "max")
"""Efforts that only Claude knows; other servers refuse them."""
_THOUGHT = ("thinking", "redacted_thinking")


def request(given: Given, *, model: str, native: bool = False) -> Request:
    """The neutral request.

    Args:
        given: the body.
        model: name as the model's server knows it.
        native: that server speaks this API.

    Raises:
        CallRefused: a field is wrong, or cannot be said to other models.
    """
    for name in given.row.keys() - _SAID - _STEERING:
        if given.row[name] not in (None, []) and name.casefold() not in _SAID:
            raise _unsayable(given, name, name, model)
    return Request(
        model=model,
        messages=(
            *_system(given, native),
            *(turn for one in given.some("messages") for turn in _turns(one, model, native)),
        ),
        sampling=Sampling(
            temperature=given.number("temperature"),
            top_p=given.number("top_p"),
            max_tokens=_most(given, model, native=native),
            stop=given.texts("stop_sequences"),
        ),
        tools=tuple(_tool(tool, model, native) for tool in given.objects("tools")),
        tool_choice=_tool_choice(given.object("tool_choice")),
        response_format=_format(given),
        extra=_extra(given, native=native),
    )


def _extra(given: Given, *, native: bool) -> dict[str, Any] | None:
    config = given.object("output_config")
    effort = None if config is None else config.text("effort")
    extra: dict[str, Any] = {
        "top_k": given.whole("top_k"),
        "reasoning_effort": "high" if effort in _CLAUDES and not native else effort,
    }
    if native:
        extra |= {name: given.row.get(name) for name in ("cache_control", "metadata")}
        extra["thinking"] = _thinking(given)
    return {name: value for name, value in extra.items() if value is not None} or None


def _thinking(given: Given) -> Any:
    """How the model shall think; not within a round of tools, which would have to begin with its earlier thinking."""
    thinking, last = given.object("thinking"), given.some("messages")[-1]
    if thinking is None or thinking.text("type") != "enabled":
        return given.row.get("thinking")
    content = last.content("content")
    within = not isinstance(content, str) and any(block.text("type") == "tool_result" for block in content)
    return None if within else thinking.row


def _most(given: Given, model: str, *, native: bool) -> int | None:
    most = given.whole("max_tokens")
    # 0 fills the vendor's prompt cache; other servers refuse it, or take it for no limit
    if most == 0 and not native:
        raise _unsayable(given, "max_tokens", "0", model)
    return most


def _system(given: Given, native: bool) -> tuple[Message, ...]:
    if not given.has("system"):
        return ()
    content = given.content("system")
    if isinstance(content, str):
        said: str | tuple[Part, ...] = content
    else:
        parts = [
            Part(kind="text", data=block.needed("text"), cache=_cache(block, native)) for block in content
        ]
        said = _joined(parts, "system")
    return (Message(role="system", content=said),) if said else ()


def _cache(given: Given, native: bool) -> Mapping[str, Any] | None:
    control = given.object("cache_control") if native else None
    return None if control is None else control.row


def _turns(given: Given, model: str, native: bool) -> list[Message]:
    """One turn; results of tools become turns of their own, and what they show besides text follows them."""
    given.needed("role")
    role = cast("Role", given.word("role", *_ROLES))
    content = given.content("content")
    if isinstance(content, str):
        return [Message(role=role, content=content)]
    parts: list[Part] = []
    calls: list[ToolCall] = []
    results: list[Message] = []
    for block in content:
        kind = block.needed("type")
        if kind == "tool_use":
            calls.append(_call(block))
        elif kind == "tool_result":
            result, shown = _result(block, model, native)
            results.append(result)
            parts += shown
        elif kind not in _THOUGHT:
            parts += _parts(block, model)
            if (cache := _cache(block, native)) is not None:
                parts[-1] = replace(parts[-1], cache=cache)
    said: list[Message] = []
    if parts or calls or not results:
        said.append(Message(role=role, content=_joined(parts, role), tool_calls=tuple(calls)))
    return results + said


def _joined(parts: list[Part], role: Role) -> str | tuple[Part, ...]:
    """Plain text where everything is text: many servers take nothing else from assistants and in system turns."""
    if all(part.kind == "text" and part.cache is None for part in parts):
        joint = "" if role == "assistant" else "\n\n"
        return joint.join(part.data for part in parts)
    return tuple(parts)


def _parts(block: Given, model: str) -> list[Part]:
    kind = block.needed("type")
    if kind == "text":
        return [Part(kind="text", data=block.needed("text"))]
    if kind == "image":
        return [_image(block, model)]
    if kind == "document":
        return _document(block, model)
    if kind == "search_result":
        _uncited(block, model)
        head = f"{block.needed('title')} ({block.needed('source')})"
        texts = [one.needed("text") for one in block.objects("content")]
        return [Part(kind="text", data="\n".join((head, *texts)))]
    raise _unsayable(block, "type", kind, model)


def _image(block: Given, model: str) -> Part:
    source = block.must("source")
    kind = source.needed("type")
    if kind == "url":
        return Part(kind="image_url", data=source.needed("url"))
    if kind != "base64":
        raise _unsayable(source, "type", kind, model)
    media_type = source.needed("media_type")
    data = f"data:{media_type};base64,{source.needed('data')}"
    return Part(kind="image_url", data=data, media_type=media_type)


def _document(block: Given, model: str) -> list[Part]:
    _uncited(block, model)
    source = block.must("source")
    kind = source.needed("type")
    head = [Part(kind="text", data=said) for name in ("title", "context") if (said := block.text(name))]
    if kind == "text":
        return [*head, Part(kind="text", data=source.needed("data"))]
    if kind != "content":
        raise _unsayable(source, "type", kind, model)
    content = source.content("content")
    if isinstance(content, str):
        return [*head, Part(kind="text", data=content)]
    for one in content:
        if one.needed("type") not in ("text", "image"):
            raise one.wrong("type", "text | image")
    return head + [part for one in content for part in _parts(one, model)]


def _uncited(block: Given, model: str) -> None:
    citations = block.object("citations")
    if citations is not None and citations.flag("enabled"):
        raise _unsayable(citations, "enabled", "citations", model)


def _result(block: Given, model: str, native: bool) -> tuple[Message, list[Part]]:
    """The turn of a tool, and what it cannot hold: other models take only text from tools."""
    call = block.needed("tool_use_id")
    content = block.content("content") if block.has("content") else ""
    parts = (
        [Part(kind="text", data=content)]
        if isinstance(content, str)
        else [part for one in content for part in _parts(one, model)]
    )
    said = "\n".join(part.data for part in parts if part.kind == "text")
    if block.flag("is_error") and not said.lower().startswith("error"):
        said = f"Error: {said}"
    shown = [part for part in parts if part.kind != "text"]
    if shown:
        shown.insert(0, Part(kind="text", data=f"Shown by {call}:"))
    cache = _cache(block, native)
    held = said if cache is None else (Part(kind="text", data=said, cache=cache),)
    return Message(role="tool", content=held, tool_call_id=call), shown


def _call(block: Given) -> ToolCall:
    arguments = wirejson.written(block.must("input").row).decode()
    return ToolCall(id=block.needed("id"), name=block.needed("name"), arguments=arguments)


def _tool(given: Given, model: str, native: bool) -> Tool:
    kind = given.text("type")
    if kind not in (None, "custom"):
        raise CallRefused("messages.server_tool", field=given.at("type"), tool=kind, model=model)
    return Tool(
        name=given.needed("name"),
        description=given.text("description") or "",
        parameters=given.must("input_schema").row,
        strict=given.flag("strict"),
        cache=_cache(given, native),
    )


def _tool_choice(given: Given | None) -> str | None:
    if given is None:
        return None
    kind = given.word("type", "auto", "any", "tool", "none")
    if kind is None:
        raise given.wrong("type", "auto | any | tool | none")
    return given.needed("name") if kind == "tool" else {"any": "required"}.get(kind, kind)


def _format(given: Given) -> JsonFormat | None:
    config = given.object("output_config")
    wanted = config.object("format") if config is not None else None
    wanted = wanted or given.object("output_format")  # its name while it was in beta
    if wanted is None:
        return None
    wanted.word("type", "json_schema")
    return JsonFormat(schema=wanted.must("schema").row)


def _unsayable(given: Given, name: str, what: str, model: str) -> CallRefused:
    return CallRefused("messages.unsayable", field=given.at(name), what=what, model=model)
