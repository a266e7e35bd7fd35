"""What comes back from a chat completion: whole bodies and chunks, with the spellings of many vendors.

Prevents a family of silent losses: reasoning that ends up in the answer, tool calls cut in two, tokens that were
generated and billed but left out of the count, and an answer that broke off taken for a complete one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from baimo.core.call import Completion, Delta, FinishReason, TokenLogprob, Usage
from baimo.core.message import ToolCall
from baimo.errors import BadReply
from baimo.providers.faults import Place, body_fault, parsed
from baimo.providers.sse import Event
from baimo.providers.think import ThinkSplitter

_FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",  # Together
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",  # Mistral
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "sensitive": "content_filter",  # Zhipu
}
_INTERRUPTED = {
    "insufficient_system_resource",  # api-docs.deepseek.com/api/create-chat-completion
    "network_error",  # Zhipu: docs.bigmodel.cn
    "error",  # OpenRouter
}

Fields = Mapping[str, Any]

MOST = 1 << 53
"""A bigger whole number is none: beyond it floats skip some, and databases end at 63 bits."""


def completion(data: Fields, place: Place, *, think_tags: bool = False) -> Completion:
    """The first choice of a whole body.

    Raises:
        BadReply: no choices, or the server says that it was interrupted.
    """
    choice = _first_choice(data)
    if choice is None:
        raise BadReply("providers.no_choices", host=place.host, model=place.model)
    message = fields(choice.get("message"))
    text, reasoning = _content(message)
    if think_tags:
        splitter = ThinkSplitter()
        thought, said = splitter.feed(text)
        rest_thought, rest_said = splitter.close()
        text, reasoning = said + rest_said, reasoning + thought + rest_thought
    calls = tuple(_call(fields(call)) for call in items(message.get("tool_calls")))
    refusal, refused = message.get("refusal"), False
    finish = finish_reason(choice.get("finish_reason"), place, called=bool(calls))
    if isinstance(refusal, str) and refusal and not text:
        text, finish, refused = refusal, "content_filter", True
    return Completion(
        text=text,
        tool_calls=calls,
        finish_reason=finish or "unknown",
        refused=refused,
        usage=usage_anywhere(data, choice) or Usage(),
        model=str(data.get("model") or ""),
        logprobs=_logprobs(choice.get("logprobs")),
        reasoning=reasoning or None,
    )


class ChunkReader:
    """Assembles one stream of chunks."""

    def __init__(self, place: Place, *, think_tags: bool = False) -> None:
        self._place = place
        self._splitter = ThinkSplitter() if think_tags else None
        self._calls: list[dict[str, str]] = []
        self._current: dict[int, dict[str, str]] = {}
        self._finish: FinishReason | None = None
        self._refused = False
        self._usage: Usage | None = None
        self._model = ""
        self._done = False

    def feed(self, event: Event) -> list[Delta]:
        """The deltas in one chunk; the finish waits for the end, because usage comes after it.

        Raises:
            BadReply: not JSON, or the server reports an error in the stream (then any ProviderError).
        """
        if event.data.strip() == "[DONE]":
            self._done = True
            return []
        data = parsed(event.data.encode("utf-8", errors="replace"))
        if not isinstance(data, dict):
            raise BadReply("providers.malformed", host=self._place.host, model=self._place.model)
        data = cast("dict[str, Any]", data)
        if error := body_fault(data, self._place):
            raise error
        choice = _first_choice(data) or {}
        self._model = str(data.get("model") or self._model)
        self._usage = usage_anywhere(data, choice) or self._usage
        message = fields(choice.get("delta") or choice.get("message"))
        for call in items(message.get("tool_calls")):
            self._piece(fields(call))
        self._finish = (
            finish_reason(choice.get("finish_reason"), self._place, called=bool(self._calls)) or self._finish
        )
        text, reasoning = _content(message)
        refusal = "" if text else str(message.get("refusal") or "")
        self._refused = self._refused or bool(refusal)
        if self._splitter is not None:
            thought, text = self._splitter.feed(text)
            reasoning += thought
        said = [Delta(text=text, reasoning=reasoning)] if text or reasoning else []
        return [*said, Delta(text=refusal, refused=True)] if refusal else said

    def close(self) -> list[Delta]:
        """The last delta: tool calls, finish reason, usage.

        Raises:
            BadReply: the stream broke off: neither a finish reason nor [DONE].
        """
        if self._finish is None and not self._done:
            raise BadReply("providers.truncated", host=self._place.host, model=self._place.model)
        thought, text = self._splitter.close() if self._splitter is not None else ("", "")
        calls = tuple(
            ToolCall(id=call["id"], name=call["name"], arguments=call["arguments"]) for call in self._calls
        )
        finish = self._finish or ("tool_calls" if calls else "unknown")
        return [
            Delta(
                text=text,
                reasoning=thought,
                tool_calls=calls,
                finish_reason="content_filter" if self._refused else finish,
                refused=self._refused,
                usage=self._usage,
                model=self._model,
            )
        ]

    def _piece(self, piece: Fields) -> None:
        """A piece belongs to the latest call of its index, or to the latest of all where it has none (Gemini).

        Another id together with a name begins another call: Ollama numbers all calls 0 (ollama#15457). Another id alone
        does not: some servers make a new one for every piece (vllm#23522).
        """
        index, call_id = piece.get("index"), str(piece.get("id") or "")
        function = fields(piece.get("function"))
        name = str(function.get("name") or "")
        if not isinstance(index, int):
            index = max(self._current, default=0)
        call = self._current.get(index)
        if call is None or (name and call_id not in ("", call["id"]) and call["id"]):
            call = self._current[index] = {"id": "", "name": "", "arguments": ""}
            self._calls.append(call)
        call["id"] = call["id"] or call_id
        call["name"] = call["name"] or name
        call["arguments"] += _arguments(function.get("arguments"))


def finish_reason(value: Any, place: Place, *, called: bool) -> FinishReason | None:
    """A vendor's word for why it stopped; None while it has not."""
    if not isinstance(value, str) or not value:
        return None
    if value in _INTERRUPTED:
        raise BadReply("providers.interrupted", host=place.host, model=place.model, reason=value)
    reason = _FINISH.get(value.lower(), "unknown")
    return "tool_calls" if called and reason == "stop" else reason  # Gemini says stop after tool calls


def usage(value: Any) -> Usage | None:
    """Token counts in any spelling; what is missing stays None.

    Reasoning must be part of the generated tokens. xAI and Gemini leave it out of completion_tokens but count it in
    total_tokens, so the larger of the two readings is taken.
    """
    row = fields(value)
    prompt, out, total = (
        count(row.get("prompt_tokens")),
        count(row.get("completion_tokens")),
        count(row.get("total_tokens")),
    )
    if prompt is None and out is None:
        return None
    if prompt is not None and out is not None and total is not None:
        out = max(out, total - prompt)
    prompt_details, out_details = (
        fields(row.get("prompt_tokens_details")),
        fields(row.get("completion_tokens_details")),
    )
    cached = first_count(
        prompt_details.get("cached_tokens"), row.get("prompt_cache_hit_tokens"), row.get("cached_tokens")
    )  # OpenAI, DeepSeek, Moonshot
    reasoning = first_count(out_details.get("reasoning_tokens"), row.get("reasoning_tokens"))
    return Usage(
        tokens_in=prompt,
        tokens_out=out,
        tokens_cached=cached,
        tokens_reasoning=reasoning,
        tokens_cache_write=count(prompt_details.get("cache_write_tokens")),
        # sound has another price; OpenRouter counts searches
        unpriced=bool(
            prompt_details.get("audio_tokens")
            or out_details.get("audio_tokens")
            or any(fields(row.get("server_tool_use")).values())
        ),
    )


def count(value: Any) -> int | None:
    """A number of tokens, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MOST:
        return None
    return int(value) if value == int(value) else None


def first_count(*values: Any) -> int | None:
    """The first of several spellings that holds a number."""
    return next((number for value in values if (number := count(value)) is not None), None)


def fields(value: Any) -> Fields:
    """`value` if it is an object, else an empty one."""
    # the first question is for speed: nearly all are
    return cast("Fields", value) if value.__class__ is dict or isinstance(value, Mapping) else {}


def items(value: Any) -> list[Any]:
    """`value` if it is a list, else an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def _first_choice(data: Fields) -> Fields | None:
    choices = items(data.get("choices"))
    return fields(choices[0]) if choices else None


def usage_anywhere(data: Fields, choice: Fields) -> Usage | None:
    """Usage on top, in the choice (Moonshot's streams) or in x_groq (Groq's)."""
    candidates = (data.get("usage"), choice.get("usage"), fields(data.get("x_groq")).get("usage"))
    return next((found for value in candidates if (found := usage(value)) is not None), None)


def _content(message: Fields) -> tuple[str, str]:
    """Text and reasoning of a message or delta: a string, or parts as Mistral's reasoning models send them."""
    reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
    thought = reasoning if isinstance(reasoning, str) else ""
    content = message.get("content")
    if isinstance(content, str):
        return content, thought
    said = ""
    for part in map(fields, items(content)):
        if part.get("type") == "thinking":
            inner = part.get("thinking")
            thought += inner if isinstance(inner, str) else _content({"content": inner})[0]
        elif isinstance(part.get("text"), str):
            said += part["text"]
    return said, thought


def _call(call: Fields) -> ToolCall:
    function = fields(call.get("function"))
    arguments = _arguments(function.get("arguments"))
    return ToolCall(id=str(call.get("id") or ""), name=str(function.get("name") or ""), arguments=arguments)


def _arguments(value: Any) -> str:
    """JSON text; some servers send the object itself."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _logprobs(value: Any) -> tuple[TokenLogprob, ...] | None:
    rows = fields(value).get("content")
    if not isinstance(rows, list):
        return None
    found: list[TokenLogprob] = []
    for row in map(fields, cast("list[Any]", rows)):
        top = [
            pair for other in items(row.get("top_logprobs")) if (pair := _logprob(fields(other))) is not None
        ]
        if (own := _logprob(row)) is not None:
            found.append(TokenLogprob(token=own[0], logprob=own[1], top=tuple(top)))
    return tuple(found)


def _logprob(row: Fields) -> tuple[str, float] | None:
    value = row.get("logprob")
    return (str(row.get("token", "")), float(value)) if isinstance(value, (int, float)) else None
