"""A model's answer in the words of Anthropic's Messages: whole, and as events."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from baimo.core.call import Completion, Delta, FinishReason, Usage
from baimo.core.message import ToolCall
from baimo.errors import BaimoError
from baimo.providers.anthropic import tool_use
from baimo.server.surfaces import anthropic_errors
from baimo.server.surfaces.sse import encoded, event

_STOP: Mapping[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "unknown": "end_turn",
}


def message(completion: Completion, *, model: str, id: str, one_call: bool = False) -> dict[str, Any]:
    """A whole message.

    Args:
        completion: the model's answer.
        model: name that the client asked for.
        id: the call's own.
        one_call: the client takes one tool call at a time: the others are left out.
    """
    calls = _whole_calls(completion)[:1] if one_call else _whole_calls(completion)
    content: list[dict[str, Any]] = []
    if completion.reasoning:
        content.append({"type": "thinking", "thinking": completion.reasoning, "signature": ""})
    if completion.text:
        content.append({"type": "text", "text": completion.text})
    content += [_call_block(call, id, number) for number, call in enumerate(calls)]
    return {
        **_envelope(model, id),
        "content": content,
        "stop_sequence": completion.stop_sequence,
        "stop_reason": _stop_reason(completion.finish_reason, calls, completion.stop_sequence),
        "usage": counts(completion.usage),
    }


def counts(usage: Usage | None) -> dict[str, Any]:
    """Token counts; input_tokens leaves out what was read from or written to a cache. Unknown is null."""
    usage = usage or Usage()
    fresh = usage.tokens_in
    if fresh is not None:
        fresh = max(0, fresh - (usage.tokens_cached or 0) - (usage.tokens_cache_write or 0))
    row: dict[str, Any] = {
        "input_tokens": fresh,
        "cache_creation_input_tokens": usage.tokens_cache_write,
        "cache_read_input_tokens": usage.tokens_cached,
        "output_tokens": usage.tokens_out,
    }
    if usage.tokens_cache_write_1h is not None:
        short = max(0, (usage.tokens_cache_write or 0) - usage.tokens_cache_write_1h)
        kept = {
            "ephemeral_5m_input_tokens": short,
            "ephemeral_1h_input_tokens": usage.tokens_cache_write_1h,
        }
        row["cache_creation"] = kept
    if usage.tokens_reasoning is not None:
        row["output_tokens_details"] = {"thinking_tokens": usage.tokens_reasoning}
    return row


class MessageEvents:
    """Implements `Events`: one content block open at a time, numbered from 0."""

    def __init__(self, *, model: str, id: str, one_call: bool = False) -> None:
        self._model = model
        self._id = id
        self._one_call = one_call
        self._started = False
        self._open = ""
        self._index = -1
        self._calls: list[ToolCall] = []
        self._finish: FinishReason = "unknown"
        self._stop_sequence: str | None = None
        self._usage: Usage | None = None

    def delta(self, delta: Delta, choice: int = 0) -> bytes:
        """The events of one piece; the first is preceded by message_start."""
        out = self._start()
        if delta.reasoning:
            out += self._piece(
                "thinking", {"type": "thinking", "thinking": "", "signature": ""}, delta.reasoning
            )
        if delta.text:
            out += self._piece("text", {"type": "text", "text": ""}, delta.text)
        for call in _whole_calls(delta):
            if not (self._one_call and self._calls):
                out += self._call(call)
                self._calls.append(call)
        self._finish = delta.finish_reason or self._finish
        self._stop_sequence = delta.stop_sequence or self._stop_sequence
        self._usage = delta.usage or self._usage
        return out

    def end(self) -> bytes:
        """The last block's end, message_delta with stop_reason and usage, message_stop."""
        ended = {
            "type": "message_delta",
            "delta": {
                "stop_reason": _stop_reason(self._finish, self._calls, self._stop_sequence),
                "stop_sequence": self._stop_sequence,
                "stop_details": None,
            },
            "usage": counts(self._usage),
        }
        return (
            self._start()
            + self._close()
            + event("message_delta", ended)
            + event("message_stop", {"type": "message_stop"})
        )

    def failed(self, error: BaimoError) -> bytes:
        """An error event; nothing follows it."""
        return b"event: error\ndata: %s\n\n" % anthropic_errors.refusal(error, request_id="")

    def _start(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        # counts are cumulative: those of the end replace these
        opening: dict[str, Any] = {**_envelope(self._model, self._id), "content": [], "stop_reason": None}
        opening["usage"] = {"input_tokens": 0, "output_tokens": 0}
        return event("message_start", {"type": "message_start", "message": opening})

    def _piece(self, kind: str, block: dict[str, Any], said: str) -> bytes:
        out = b"" if self._open == kind else self._close() + self._begin(kind, block)
        return out + self._change({"type": f"{kind}_delta", kind: said})

    def _call(self, call: ToolCall) -> bytes:
        block = _call_block(call, self._id, len(self._calls))
        given = encoded(block["input"]).decode()
        out = self._close() + self._begin("tool_use", {**block, "input": {}})
        return out + self._change({"type": "input_json_delta", "partial_json": given}) + self._close()

    def _begin(self, kind: str, block: dict[str, Any]) -> bytes:
        self._open = kind
        self._index += 1
        row = {"type": "content_block_start", "index": self._index, "content_block": block}
        return event("content_block_start", row)

    def _change(self, delta: dict[str, Any]) -> bytes:
        row = {"type": "content_block_delta", "index": self._index, "delta": delta}
        return event("content_block_delta", row)

    def _close(self) -> bytes:
        if not self._open:
            return b""
        self._open = ""
        return event("content_block_stop", {"type": "content_block_stop", "index": self._index})


def first(completion: Completion | Sequence[Completion]) -> Completion:
    """This API knows one answer to a request."""
    return completion if isinstance(completion, Completion) else completion[0]


def _whole_calls(said: Completion | Delta) -> Sequence[ToolCall]:
    """The calls without one that the limit of tokens cut: half an input is not what the model wanted to be run."""
    calls = said.tool_calls
    return calls[:-1] if calls and said.finish_reason == "length" and not _is_json(calls[-1]) else calls


def _is_json(call: ToolCall) -> bool:
    try:
        json.loads(call.arguments)
    except (ValueError, RecursionError):
        return False
    return True


def _envelope(model: str, id: str) -> dict[str, Any]:
    return {
        "id": own_id("msg", id),
        "type": "message",
        "role": "assistant",
        "model": model,
        "stop_sequence": None,
        "stop_details": None,
    }


def own_id(prefix: str, id: str) -> str:
    """A call's id with the prefix that this API uses: rec_01jd3k → msg_01jd3k."""
    return f"{prefix}_{id.partition('_')[2] or id}"


def _call_block(call: ToolCall, id: str, number: int) -> dict[str, Any]:
    block = tool_use(call)
    return block if call.id else {**block, "id": f"{own_id('toolu', id)}_{number}"}


def _stop_reason(finish: FinishReason, calls: Sequence[ToolCall], stop_sequence: str | None) -> str:
    """A client looks for tool_use before it runs a tool, whatever word the model's server had for the end."""
    if finish == "stop" and stop_sequence is not None:
        return "stop_sequence"
    return "tool_use" if calls and finish in ("stop", "unknown") else _STOP[finish]
