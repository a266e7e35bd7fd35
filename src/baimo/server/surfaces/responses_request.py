"""A Responses request in neutral words.

Left out, because they steer OpenAI's own servers and not the answer: what `_STEERING` names, include (but
log-probabilities), text.verbosity, truncation (a conversation that is too long is refused by the model's server), and
reasoning of earlier turns, which only its own model can read. parallel_tool_calls = false is kept by answering with one
call.
Refused, because the answer would be another one: tools and items that OpenAI's servers run, files, prompts that OpenAI
keeps, and members that are not known here.
"""

from __future__ import annotations

from baimo.core.call import JsonFormat, Request, Sampling
from baimo.core.message import Message, Part, Role, Tool, ToolCall
from baimo.errors import CallRefused
from baimo.server.surfaces.given import Given
from baimo.server.surfaces.responses_answer import PREVIOUS

_ROLES: dict[str, Role] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "system",
}
LOGPROBS = "message.output_text.logprobs"
_SAID = frozenset(
    {
        "model", "input", "instructions", "stream", "temperature", "top_p", "max_output_tokens", "tools", "tool_choice",
        "parallel_tool_calls", "text", "reasoning", "include", "top_logprobs", "truncation", "background",
        "conversation", "previous_response_id", PREVIOUS,
    }
)  # fmt: skip
_STEERING = frozenset(
    {
        "access_programs", "background_options", "client_metadata", "image", "max_tool_calls", "metadata",
        "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "safety_identifier", "service_tier",
        "store", "stream_options", "user",
    }
)  # fmt: skip


def request(given: Given, *, model: str) -> Request:
    """The neutral request.

    Raises:
        CallRefused: a field is wrong, or cannot be said to other models.
    """
    for name in given.row.keys() - _SAID - _STEERING:
        if given.has(name) and name.casefold() not in _SAID:
            raise CallRefused("responses.unsayable", field=given.at(name), what=name, model=model)
    tools, choice = _tools(given, model)
    effort = reasoning.text("effort") if (reasoning := given.object("reasoning")) is not None else None
    return Request(
        model=model,
        messages=(*_instructions(given), *Turns(model).said(given)),
        sampling=Sampling(
            temperature=given.number("temperature"),
            top_p=given.number("top_p"),
            max_tokens=given.whole("max_output_tokens", least=1),
        ),
        tools=tools,
        tool_choice=choice,
        response_format=_format(given),
        top_logprobs=_top_logprobs(given, model),
        extra=None if effort is None else {"reasoning_effort": effort},
    )


def _instructions(given: Given) -> tuple[Message, ...]:
    said = given.text("instructions")
    return (Message(role="system", content=said),) if said else ()


class Turns:
    """Items one after another become turns: calls join the assistant's turn that makes them, results follow it."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._messages: list[Message] = []
        self._text = ""
        self._calls: list[ToolCall] = []
        self._shown: list[Part] = []

    def said(self, given: Given) -> list[Message]:
        """The turns in `input`."""
        content = given.content("input") if given.has("input") else []
        if isinstance(content, str):
            return [Message(role="user", content=content)]
        for item in content:
            self._item(item)
        self._answered()
        self._seen()
        return self._messages

    def _item(self, item: Given) -> None:
        kind = item.text("type") or ("message" if item.has("role") else None)
        if kind != "function_call_output":
            self._seen()
        if kind == "message":
            self._message(item)
        elif kind == "function_call":
            arguments = item.needed("arguments")
            self._calls.append(
                ToolCall(id=item.needed("call_id"), name=item.needed("name"), arguments=arguments)
            )
        elif kind == "function_call_output":
            self._result(item)
        elif kind != "reasoning":
            item.needed("type")
            raise CallRefused("responses.unsayable", field=item.at("type"), what=str(kind), model=self._model)

    def _message(self, item: Given) -> None:
        item.needed("role")
        role = _ROLES[item.word("role", *_ROLES) or "user"]
        content = item.content("content")
        parts = (
            [Part(kind="text", data=content)]
            if isinstance(content, str)
            else [self._part(part) for part in content]
        )
        text = all(part.kind == "text" for part in parts)
        if role == "assistant" and text:
            if self._calls:
                self._answered()
            self._text += "".join(part.data for part in parts)
            return
        self._answered()
        said = "\n\n".join(part.data for part in parts) if text else tuple(parts)
        self._messages.append(Message(role=role, content=said))

    def _part(self, part: Given) -> Part:
        kind = part.needed("type")
        if kind in ("input_text", "output_text", "text"):
            return Part(kind="text", data=part.needed("text"))
        if kind == "refusal":
            return Part(kind="text", data=part.needed("refusal"))
        if kind == "input_image" and part.has("image_url"):
            return Part(kind="image_url", data=part.needed("image_url"), detail=part.text("detail"))
        if kind == "input_audio":
            sound = part.must("input_audio")
            form = sound.word("format", "mp3", "wav") or "wav"
            media_type = "audio/mpeg" if form == "mp3" else "audio/wav"
            return Part(kind="input_audio", data=sound.needed("data"), media_type=media_type)
        raise CallRefused("responses.unsayable", field=part.at("type"), what=kind, model=self._model)

    def _result(self, item: Given) -> None:
        """The turn of a tool, and what it cannot hold: other models take only text from tools."""
        self._answered()
        call = item.needed("call_id")
        content = item.content("output")
        parts = (
            [Part(kind="text", data=content)]
            if isinstance(content, str)
            else [self._part(part) for part in content]
        )
        said = "\n".join(part.data for part in parts if part.kind == "text")
        self._messages.append(Message(role="tool", content=said, tool_call_id=call))
        shown = [part for part in parts if part.kind != "text"]
        if shown:
            self._shown += [Part(kind="text", data=f"Shown by {call}:"), *shown]

    def _answered(self) -> None:
        """The assistant's turn is over."""
        if self._text or self._calls:
            turn = Message(role="assistant", content=self._text, tool_calls=tuple(self._calls))
            self._messages.append(turn)
        self._text, self._calls = "", []

    def _seen(self) -> None:
        """The results are over: what they showed besides text follows."""
        if self._shown:
            self._messages.append(Message(role="user", content=tuple(self._shown)))
        self._shown = []


def _tools(given: Given, model: str) -> tuple[tuple[Tool, ...], str | None]:
    tools = [_tool(tool, model) for tool in given.objects("tools")]
    choice = given.row.get("tool_choice")
    if choice is None or isinstance(choice, str):
        return tuple(tools), given.word("tool_choice", "auto", "none", "required")
    wanted = given.must("tool_choice")
    kind = wanted.needed("type")
    if kind == "function":
        return tuple(tools), wanted.needed("name")
    if kind == "allowed_tools":
        allowed = {tool.needed("name") for tool in wanted.objects("tools")}
        mode = wanted.word("mode", "auto", "required")
        return tuple(tool for tool in tools if tool.name in allowed), mode
    raise CallRefused("responses.built_in_tool", field=wanted.at("type"), tool=kind, model=model)


def _tool(given: Given, model: str) -> Tool:
    kind = given.needed("type")
    if kind != "function":
        raise CallRefused("responses.built_in_tool", field=given.at("type"), tool=kind, model=model)
    schema = given.object("parameters")
    return Tool(
        name=given.needed("name"),
        description=given.text("description") or "",
        parameters=None if schema is None else schema.row,
        strict=given.flag("strict"),
    )


def _format(given: Given) -> JsonFormat | None:
    text = given.object("text")
    wanted = text.object("format") if text is not None else None
    kind = None if wanted is None else wanted.word("type", "text", "json_object", "json_schema")
    if wanted is None or kind in (None, "text"):
        return None
    if kind == "json_object":
        return JsonFormat()
    strict = wanted.flag("strict")
    return JsonFormat(
        schema=wanted.must("schema").row,
        name=wanted.needed("name"),
        strict=True if strict is None else strict,
    )


def _top_logprobs(given: Given, model: str) -> int | None:
    top = given.whole("top_logprobs")
    if not top and LOGPROBS not in given.texts("include"):
        return None
    if given.flag("stream"):
        what = "log-probabilities in a stream"
        raise CallRefused("responses.unsayable", field=given.at("top_logprobs"), what=what, model=model)
    return top or 0
