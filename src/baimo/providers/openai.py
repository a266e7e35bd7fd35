"""Chat completions as OpenAI defines them, spoken with any server that calls itself compatible.

Source: developers.openai.com/api/reference/resources/chat; deviations of single vendors are cited where they
are handled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from baimo.core.call import Completion, JsonFormat, Request
from baimo.core.ids import plain
from baimo.core.message import Message, Part, Tool
from baimo.providers.faults import Place
from baimo.providers.openai_reply import ChunkReader, completion
from baimo.providers.server import Outgoing, Reader, ServerProvider, sent_extra, tool_choice


class OpenAIProvider(ServerProvider):
    """Models behind `POST {base_url}/chat/completions`."""

    protocol = "openai"
    options = frozenset({"api_version"})

    def outgoing(self, request: Request, quirks: frozenset[str], *, stream: bool) -> Outgoing:
        """The request as JSON, minus what the quirks say this model does not take."""
        body, left_out = chat_body(request, quirks)
        adapted = list(left_out)
        if stream:
            body["stream"] = True
            if "no_stream_options" not in quirks:
                body["stream_options"] = {"include_usage": True}
        body.update(sent_extra(request, quirks, adapted))
        path, query = "chat/completions", dict[str, str]()
        # learn.microsoft.com/azure/ai-foundry/openai/reference: dated versions name the deployment in the path
        if "azure" in quirks and not self.base.path.endswith("/v1"):
            path = f"openai/deployments/{request.model}/{path}"
            query["api-version"] = str(self.settings.options.get("api_version", "2024-10-21"))
        return Outgoing(path, body, tuple(adapted), quirks, query)

    def key_headers(self, key: str) -> dict[str, str]:
        """A bearer token; Azure has a header of its own."""
        return {"api-key": key} if "azure" in self.quirks else {"Authorization": f"Bearer {key}"}

    def completion(self, data: Mapping[str, Any], outgoing: Outgoing, place: Place) -> Completion:
        """The first choice of a whole body."""
        return completion(data, place, think_tags="think_tags" in outgoing.quirks)

    def reader(self, outgoing: Outgoing, place: Place) -> Reader:
        """Reads `chat.completion.chunk` events."""
        return ChunkReader(place, think_tags="think_tags" in outgoing.quirks)


def chat_body(
    request: Request, quirks: frozenset[str] = frozenset()
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The body of a chat completion without stream and extra fields, and what the quirks took from it."""
    adapted: list[str] = []
    messages = [_message(message) for message in request.messages]
    body: dict[str, Any] = {"model": request.model, "messages": messages}
    _sampling(body, request, quirks, adapted)
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if choice := tool_choice(request):
        body["tool_choice"] = _tool_choice(choice, quirks)
    if request.response_format is not None:
        _response_format(body, request.response_format, quirks, adapted)
    if request.top_logprobs is not None:
        if "no_logprobs" in quirks:
            adapted.append("logprobs")
        else:
            body.update(logprobs=True, top_logprobs=request.top_logprobs)
    return body, tuple(adapted)


def schema_wish(wanted: JsonFormat) -> str:
    """What a model that has no schema mode is told. Some JSON modes refuse prompts without the word JSON."""
    if wanted.schema is None:
        return "Answer with one JSON object and nothing else."
    schema = msgspec.json.encode(plain(wanted.schema)).decode()
    return f"Answer with one JSON value and nothing else. It must satisfy this JSON Schema:\n{schema}"


def _sampling(body: dict[str, Any], request: Request, quirks: frozenset[str], adapted: list[str]) -> None:
    sampling = request.sampling
    wanted = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "stop": list(sampling.stop) or None,
        "seed": sampling.seed,
    }
    dropped_by = {
        "temperature": "no_temperature",
        "top_p": "no_temperature",
        "stop": "no_stop",
        "seed": "no_seed",
    }
    renamed_by = {"max_tokens": "max_completion_tokens", "seed": "random_seed"}
    for name, value in wanted.items():
        if value is None:
            continue
        if dropped_by.get(name) in quirks:
            adapted.append(name)
        else:
            body[renamed_by[name] if renamed_by.get(name) in quirks else name] = value


def _message(message: Message) -> dict[str, Any]:
    row: dict[str, Any] = {"role": message.role}
    if isinstance(message.content, str):
        # an assistant turn that only calls tools has null for content
        row["content"] = message.content if message.content or not message.tool_calls else None
    else:
        row["content"] = [_part(part) for part in message.content]
    if message.name:
        row["name"] = message.name
    if message.tool_call_id is not None:
        row["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        row["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    return row


def _part(part: Part) -> dict[str, Any]:
    if part.kind == "text":
        return {"type": "text", "text": part.data}
    if part.kind == "image_url":
        address = part.data.startswith(("http://", "https://", "data:"))
        url = part.data if address else f"data:{part.media_type or 'image/png'};base64,{part.data}"
        image = {"url": url, "detail": part.detail} if part.detail else {"url": url}
        return {"type": "image_url", "image_url": image}
    sound = (part.media_type or "audio/wav").partition("/")[2].removeprefix("x-")
    return {
        "type": "input_audio",
        "input_audio": {"data": part.data, "format": "mp3" if sound == "mpeg" else sound},
    }


def _tool(tool: Tool) -> dict[str, Any]:
    parameters: Any = (
        {"type": "object", "properties": {}} if tool.parameters is None else plain(tool.parameters)
    )
    function: dict[str, Any] = {"name": tool.name, "description": tool.description, "parameters": parameters}
    function["strict"] = tool.strict
    said = {name: value for name, value in function.items() if value not in ("", None)}
    return {"type": "function", "function": said}


def _tool_choice(choice: str, quirks: frozenset[str]) -> Any:
    if choice == "required":
        return "any" if "tool_choice_any" in quirks else "required"
    if choice in {"auto", "none"}:
        return choice
    return {"type": "function", "function": {"name": choice}}


def _response_format(
    body: dict[str, Any], wanted: JsonFormat, quirks: frozenset[str], adapted: list[str]
) -> None:
    if wanted.schema is not None and not quirks & {"no_json_schema", "no_json_object"}:
        strict = wanted.strict and "no_strict" not in quirks
        if wanted.strict and not strict:
            adapted.append("strict")
        schema = {"name": wanted.name, "schema": plain(wanted.schema), "strict": strict}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return
    if wanted.schema is not None:
        adapted.append("json_schema")
    plain_json = not quirks & {"no_json_object", "no_plain_json"}
    if plain_json:
        body["response_format"] = {"type": "json_object"}
    else:
        adapted.append("json_object")
    if wanted.schema is not None or not plain_json:
        _tell(body["messages"], schema_wish(wanted))


def _tell(messages: list[dict[str, Any]], wish: str) -> None:
    """Put an instruction into the system message; several servers accept one only, and only in front."""
    first = messages[0] if messages else {}
    if first.get("role") == "system" and isinstance(first.get("content"), str):
        first["content"] = f"{first['content']}\n\n{wish}"
    else:
        messages.insert(0, {"role": "system", "content": wish})
