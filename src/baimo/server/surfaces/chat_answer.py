"""Neutral answers as chat completions and their chunks.

Beyond OpenAI's own fields: `reasoning_content` as DeepSeek and vLLM spell it, and `estimated` in a usage that the
gateway counted itself. Usage that is not known is null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from baimo.core.call import Completion, Delta, FinishReason, TokenLogprob, Usage
from baimo.core.message import ToolCall
from baimo.errors import BaimoError
from baimo.gateway.surface import Peek
from baimo.providers.openai_reply import fields, items
from baimo.server.surfaces import openai_errors
from baimo.server.surfaces.messages_answer import own_id
from baimo.server.surfaces.sse import encoded as written
from baimo.server.surfaces.usage import object_in

DONE = b"data: [DONE]\n\n"
FINISH: Mapping[FinishReason, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "unknown": "stop",  # the API has no word for it
}


def chat_answer(
    completion: Completion | Sequence[Completion], *, model: str, id: str, created_s: int, functions: bool
) -> bytes:
    """A whole answer.

    Args:
        completion: one choice, or several.
        model: name that the client asked for.
        id: of the call, without the API's prefix.
        created_s: seconds since 1970.
        functions: in the words of before tools.
    """
    choices = several(completion)
    return written(
        {
            "id": f"chatcmpl-{id}",
            "object": "chat.completion",
            "created": created_s,
            "model": model,
            "choices": [_choice(index, one, id, functions) for index, one in enumerate(choices)],
            "usage": usage_row(Usage.sum(one.usage for one in choices)),
            "system_fingerprint": None,
        }
    )


def several(completion: Completion | Sequence[Completion]) -> Sequence[Completion]:
    """The choices of an answer."""
    return (completion,) if isinstance(completion, Completion) else completion


def usage_row(usage: Usage) -> dict[str, Any] | None:
    """OpenAI's shape of token counts; null when a count is not known."""
    if usage.tokens_in is None or usage.tokens_out is None:
        return None
    row: dict[str, Any] = {
        "prompt_tokens": usage.tokens_in,
        "completion_tokens": usage.tokens_out,
        "total_tokens": usage.tokens_in + usage.tokens_out,
    }
    prompt = {"cached_tokens": usage.tokens_cached, "cache_write_tokens": usage.tokens_cache_write}
    if known := {name: count for name, count in prompt.items() if count is not None}:
        row["prompt_tokens_details"] = known
    if usage.tokens_reasoning is not None:
        row["completion_tokens_details"] = {"reasoning_tokens": usage.tokens_reasoning}
    if usage.estimated:
        row["estimated"] = True
    return row


def retold(body: bytes) -> bytes:
    """A server's whole chat or text completion as the stream that was asked for; empty = it has no choices."""
    row = dict(object_in(body))
    choices = [_choice_streamed(fields(choice)) for choice in items(row.pop("choices", None))]
    if not choices:
        return b""
    if row.get("object") == "chat.completion":
        row["object"] = "chat.completion.chunk"
    usage = row.pop("usage", None)
    said = b"data: %s\n\n" % written({**row, "choices": choices})
    if usage:
        said += b"data: %s\n\n" % written({**row, "choices": [], "usage": usage})
    return said + DONE


class ChatEvents:
    """Implements `Events`.

    Args:
        peek: of the request.
        id: of the call, without the API's prefix.
        created_s: seconds since 1970.
        functions: in the words of before tools.
    """

    def __init__(self, peek: Peek, *, id: str, created_s: int, functions: bool) -> None:
        head = {
            "id": f"chatcmpl-{id}",
            "object": "chat.completion.chunk",
            "created": created_s,
            "model": peek.model,
            "system_fingerprint": None,
        }
        self._head = b"data: " + written(head)[:-1]
        self._id = id
        self._usage_wanted = peek.wants_usage
        self._tail = b',"usage":null}\n\n' if peek.wants_usage else b"}\n\n"
        self._functions = functions
        self._answers = peek.answers
        self._begun: set[int] = set()
        self._finished: set[int] = set()
        self._calls: dict[int, int] = {}
        self._usages: dict[int, Usage | None] = {}

    def delta(self, delta: Delta, choice: int = 0) -> bytes:
        """One chunk for each thing that the delta holds."""
        sent = b""
        if choice not in self._begun:
            self._begun.add(choice)
            sent = self._chunk(choice, {"role": "assistant", "content": "", "refusal": None})
        if delta.reasoning:
            sent += self._chunk(choice, {"reasoning_content": delta.reasoning})
        if delta.text:
            sent += self._chunk(choice, {"refusal" if delta.refused else "content": delta.text})
        for call in delta.tool_calls:
            number = self._calls.get(choice, 0)
            self._calls[choice] = number + 1
            if not self._functions:
                row = {"index": number, **_call_row(call, self._id, choice, number)}
                sent += self._chunk(choice, {"tool_calls": [row]})
            elif not number:  # these clients know one call, and would put the pieces of two together
                sent += self._chunk(choice, {"function_call": _function_row(call)})
        if delta.usage is not None:
            self._usages[choice] = delta.usage
        if delta.finish_reason is not None and choice not in self._finished:
            self._finished.add(choice)
            sent += self._chunk(choice, {}, _finish(delta, self._functions))
        return sent

    def end(self) -> bytes:
        """The finish of choices that never told theirs, usage if it is wanted, and [DONE]."""
        sent = b""
        for choice in range(self._answers):
            if choice not in self._finished:
                sent += self.delta(Delta(finish_reason="unknown"), choice)
        if self._usage_wanted:
            row = usage_row(Usage.sum(self._usages.get(choice) or Usage() for choice in range(self._answers)))
            sent += self._head + b',"choices":[],"usage":' + written(row) + b"}\n\n"
        return sent + DONE

    def failed(self, error: BaimoError) -> bytes:
        """An error event; the stream ends without [DONE]."""
        return openai_errors.event(error)

    def _chunk(self, choice: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
        row = {"index": choice, "delta": delta, "logprobs": None, "finish_reason": finish}
        return b'%s,"choices":[%s]%s' % (self._head, written(row), self._tail)


def _choice(index: int, completion: Completion, id: str, functions: bool) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": completion.text if completion.text or not completion.tool_calls else None,
        "refusal": None,
    }
    if completion.refused:
        message |= {"content": None, "refusal": completion.text}
    if completion.reasoning:
        message["reasoning_content"] = completion.reasoning
    if completion.tool_calls and functions:
        message["function_call"] = _function_row(completion.tool_calls[0])
    elif completion.tool_calls:
        message["tool_calls"] = [
            _call_row(call, id, index, number) for number, call in enumerate(completion.tool_calls)
        ]
    return {
        "index": index,
        "message": message,
        "logprobs": _logprobs_row(completion.logprobs),
        "finish_reason": _finish(completion, functions),
    }


def _choice_streamed(choice: Mapping[str, Any]) -> dict[str, Any]:
    row = dict(choice)
    if (message := row.pop("message", None)) is not None:
        row["delta"] = delta = dict(fields(message))
        if calls := items(delta.get("tool_calls")):
            delta["tool_calls"] = [{"index": number, **fields(call)} for number, call in enumerate(calls)]
    return row


def _finish(said: Completion | Delta, functions: bool) -> str:
    if said.refused:  # its text says it; for content_filter the SDK raises
        return "stop"
    reason = said.finish_reason or "unknown"
    return "function_call" if functions and reason == "tool_calls" else FINISH[reason]


def _call_row(call: ToolCall, id: str, choice: int, number: int) -> dict[str, Any]:
    own = call.id or f"{own_id('call', id)}_{choice}_{number}"  # a client tells its results apart by it
    return {"id": own, "type": "function", "function": _function_row(call)}


def _function_row(call: ToolCall) -> dict[str, str]:
    return {"name": call.name, "arguments": call.arguments}


def _logprobs_row(logprobs: tuple[TokenLogprob, ...] | None) -> dict[str, Any] | None:
    if logprobs is None:
        return None
    content = [
        {**_token_row(one.token, one.logprob), "top_logprobs": [_token_row(*other) for other in one.top]}
        for one in logprobs
    ]
    return {"content": content, "refusal": None}


def _token_row(token: str, logprob: float) -> dict[str, Any]:
    # OpenAI writes -9999.0 for tokens that have no probability worth naming; JSON has no infinity
    shown = max(logprob, -9999.0)
    return {"token": token, "logprob": shown, "bytes": list(token.encode("utf-8", errors="replace"))}
