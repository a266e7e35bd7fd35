"""Messages as Anthropic defines them.

Source: platform.claude.com/docs/en/api/messages and the type definitions of the official SDK 2.12 (November 2026).
Sampling parameters are gone from the newest models; where a model refuses them they are learnt and left out.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import unquote_to_bytes

from baimo.core.call import USUAL_OUTPUT, Completion, JsonFormat, Request
from baimo.core.ids import plain
from baimo.core.message import Message, Part, Tool, ToolCall
from baimo.errors import RequestRefused
from baimo.providers.anthropic_extra import add_extra
from baimo.providers.anthropic_reply import EventReader, completion
from baimo.providers.faults import Place
from baimo.providers.openai import schema_wish
from baimo.providers.server import Outgoing, Reader, ServerProvider, sent_extra, tool_choice

API_VERSION = "2023-06-01"
_TOOL_ID = re.compile("[a-zA-Z0-9_-]+")


class AnthropicProvider(ServerProvider):
    """Models behind `POST {base_url}/v1/messages`."""

    protocol = "anthropic"
    options = frozenset({"max_tokens"})

    def outgoing(self, request: Request, quirks: frozenset[str], *, stream: bool) -> Outgoing:
        """The request as JSON: system texts apart, everything else as content blocks."""
        adapted: list[str] = []
        body: dict[str, Any] = {
            "model": request.model,
            "max_tokens": int(self.settings.options.get("max_tokens", USUAL_OUTPUT))
            if request.sampling.max_tokens is None
            else request.sampling.max_tokens,
            "messages": _turns(request.messages, self.vendor.name),
        }
        _sampling(body, request, quirks, adapted)
        _tools(body, request, quirks, adapted)
        wish: list[str] = []
        json_tool = None
        if request.response_format is not None:
            wish, json_tool = _response_format(body, request.response_format, quirks, adapted)
        if system := _system(request.messages, wish):
            body["system"] = system
        if stream:
            body["stream"] = True
        add_extra(body, sent_extra(request, quirks, adapted), adapted)
        path = "messages" if self.base.path.endswith("/v1") else "v1/messages"
        return Outgoing(path, body, tuple(adapted), quirks, json_tool=json_tool)

    def key_headers(self, key: str) -> dict[str, str]:
        """The key and the version of the API."""
        named = {"Authorization": f"Bearer {key}"} if "bearer" in self.quirks else {"x-api-key": key}
        return {**named, "anthropic-version": API_VERSION}

    def completion(self, data: Mapping[str, Any], outgoing: Outgoing, place: Place) -> Completion:
        """A whole message."""
        return completion(data, place, json_tool=outgoing.json_tool)

    def reader(self, outgoing: Outgoing, place: Place) -> Reader:
        """Reads message_start … message_stop."""
        return EventReader(place, json_tool=outgoing.json_tool)


def _sampling(body: dict[str, Any], request: Request, quirks: frozenset[str], adapted: list[str]) -> None:
    sampling = request.sampling
    for name, value in (("temperature", sampling.temperature), ("top_p", sampling.top_p)):
        if value is not None and "no_temperature" in quirks:
            adapted.append(name)
        elif value is not None:
            body[name] = value
    if sampling.stop and "no_stop" in quirks:
        adapted.append("stop")
    elif sampling.stop:
        body["stop_sequences"] = list(sampling.stop)
    if sampling.seed is not None:
        adapted.append("seed")
    if request.top_logprobs is not None:
        adapted.append("logprobs")


def _tools(body: dict[str, Any], request: Request, quirks: frozenset[str], adapted: list[str]) -> None:
    strict = "no_strict_tools" not in quirks
    if request.tools:
        body["tools"] = [_tool(tool, strict=strict) for tool in request.tools]
    if not strict and any(tool.strict for tool in request.tools):
        adapted.append("strict")
    if choice := tool_choice(request):
        named = {"auto": "auto", "none": "none", "required": "any"}.get(choice)
        body["tool_choice"] = {"type": named} if named else {"type": "tool", "name": choice}


def _tool(tool: Tool, *, strict: bool) -> dict[str, Any]:
    schema = plain(tool.parameters) if tool.parameters is not None else {"type": "object"}
    row: dict[str, Any] = {"name": tool.name, "input_schema": schema}
    if tool.description:
        row["description"] = tool.description
    if tool.strict and strict:
        row |= {"strict": True, "input_schema": closed(schema)}
    if tool.cache is not None:
        row["cache_control"] = plain(tool.cache)
    return row


def _response_format(
    body: dict[str, Any], wanted: JsonFormat, quirks: frozenset[str], adapted: list[str]
) -> tuple[list[str], str | None]:
    """Structured output, else a forced tool, else a wish: what the system text must say, and the tool's name."""
    if wanted.schema is None:
        adapted.append("json_object")  # there is no mode for just any JSON
        return [schema_wish(wanted)], None
    schema = plain(wanted.schema)
    if not quirks & {"no_json_schema", "no_json_object"}:
        body["output_config"] = {"format": {"type": "json_schema", "schema": closed(schema)}}
        return [], None
    if "tools" in body or schema.get("type") != "object":
        adapted.append("json_schema")  # forcing one tool would take the others away
        return [schema_wish(wanted)], None
    body["tools"] = [{"name": wanted.name, "description": "Give the answer.", "input_schema": schema}]
    body["tool_choice"] = {"type": "tool", "name": wanted.name}
    return [], wanted.name


def closed(schema: Any) -> Any:
    """The schema with `additionalProperties: false` wherever an object does not say, as structured output demands."""
    if isinstance(schema, Mapping):
        row = {name: closed(value) for name, value in cast("Mapping[str, Any]", schema).items()}
        if row.get("type") == "object" and "properties" in row:
            row.setdefault("additionalProperties", False)
        return row
    if isinstance(schema, Sequence) and not isinstance(schema, str):
        return [closed(value) for value in cast("Sequence[Any]", schema)]
    return schema


def _system(messages: Sequence[Message], wish: Sequence[str]) -> str | list[dict[str, Any]]:
    """One text, or blocks where one of them is to be cached."""
    said = [_parts(message) for message in messages if message.role == "system"]
    if any(part.cache is not None for parts in said for part in parts):
        blocks = [_block(part, "") for parts in said for part in parts if part.data.strip()]
        return blocks + [{"type": "text", "text": text} for text in wish]
    texts = ["\n".join(part.data for part in parts) for parts in said]
    return "\n\n".join([*(text for text in texts if text.strip()), *wish])


def _turns(messages: Sequence[Message], provider: str) -> list[dict[str, Any]]:
    """User and assistant turns, neighbours of one role merged: all results of a round must share one user turn.
    The API takes no turns that say nothing."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message, provider)
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    return turns


def _blocks(message: Message, provider: str) -> list[dict[str, Any]]:
    # the API refuses blank texts, which other models write and other servers take
    blocks = [_block(part, provider) for part in _parts(message) if part.kind != "text" or part.data.strip()]
    if message.role == "tool":
        marks = [block.pop("cache_control") for block in blocks if "cache_control" in block]
        row = {"type": "tool_result", "tool_use_id": tool_id(message.tool_call_id or ""), "content": blocks}
        return [{**row, "cache_control": marks[-1]} if marks else row]
    return blocks + [{**tool_use(call), "id": tool_id(call.id)} for call in message.tool_calls]


def tool_id(given: str) -> str:
    """The id of a call as the API takes it: those of other vendors (`functions.f:0`) become others, always the same."""
    if _TOOL_ID.fullmatch(given):
        return given
    own = hashlib.sha256(given.encode("utf-8", errors="surrogatepass")).hexdigest()[:16]
    return f"toolu_{own}"


def tool_use(call: ToolCall) -> dict[str, Any]:
    """The content block of a call; its input is an object even where the model wrote something else."""
    try:
        given = json.loads(call.arguments or "{}")
    except ValueError:
        given = call.arguments
    return {
        "type": "tool_use",
        "id": call.id,
        "name": call.name,
        "input": given if isinstance(given, dict) else {"text": given},
    }


def _block(part: Part, provider: str) -> dict[str, Any]:
    row = _said(part, provider)
    return row if part.cache is None else {**row, "cache_control": plain(part.cache)}


def _said(part: Part, provider: str) -> dict[str, Any]:
    if part.kind == "text":
        return {"type": "text", "text": part.data}
    if part.kind == "input_audio":
        raise RequestRefused("providers.part_unsupported", provider=provider, part=part.kind)
    if part.data.startswith(("http://", "https://")):
        return {"type": "image", "source": {"type": "url", "url": part.data}}
    media_type, data = part.media_type or "image/png", part.data
    if data.startswith("data:"):  # RFC 2397
        head, _, data = data.removeprefix("data:").partition(",")
        media_type = head.partition(";")[0] or media_type
        if not head.endswith(";base64"):
            data = base64.b64encode(unquote_to_bytes(data)).decode()
    if media_type == "image/jpg":  # a name that browsers take and the API does not
        media_type = "image/jpeg"
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


def _parts(message: Message) -> Sequence[Part]:
    content = message.content
    if isinstance(content, str):
        return (Part(kind="text", data=content),)
    # system turns hold nothing but text here
    return [part for part in content if message.role != "system" or part.kind == "text"]
