"""A model's answer as a Response of OpenAI's: the object with its items, whole and as events.

Source: developers.openai.com/api/reference/resources/responses and the types of the official SDK 3.54 (November 2026).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from baimo.core.call import Completion, Delta, FinishReason, TokenLogprob, Usage
from baimo.core.message import ToolCall
from baimo.errors import BaimoError
from baimo.server.surfaces import openai_errors
from baimo.server.surfaces.messages_answer import own_id
from baimo.server.surfaces.sse import event

Item = dict[str, Any]

PREVIOUS = "_previous_response_id"
"""Member of a body into which the turns before were written: the id that the client gave."""
_CUT: Mapping[FinishReason, str] = {"length": "max_output_tokens", "content_filter": "content_filter"}
_ECHOED: Mapping[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "store": True,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
    "user": None,
}
"""Members of a request that its response repeats, and what stands there where the request does not say."""


class Frame:
    """What stays the same in a response from its first event to its last.

    Args:
        given: the request's members.
        model: name that the client asked for.
        id: the call's own.
        created_s: seconds since 1970.
    """

    def __init__(self, given: Mapping[str, Any], *, model: str, id: str, created_s: int) -> None:
        echoed = {
            name: default if given.get(name) is None else given[name] for name, default in _ECHOED.items()
        }
        self.id = own_id("resp", id)
        self.one_call = given.get("parallel_tool_calls") is False
        self._row: Item = {
            "id": self.id,
            "object": "response",
            "created_at": created_s,
            "background": False,
            "model": model,
            "previous_response_id": given.get(PREVIOUS),
            "truncation": "disabled",
            **echoed,
        }

    def take(self, begun: Mapping[str, Any]) -> None:
        """Become the response that another server began: its id, and whatever else is given."""
        self._row |= begun

    def item_id(self, prefix: str, index: int) -> str:
        """Id of the item numbered `index`: it names its response, so that our own items can be told from others'."""
        return f"{own_id(prefix, self.id)}_{index}"

    def response(
        self,
        status: str,
        output: Sequence[Item] = (),
        *,
        usage: Usage | None = None,
        cut: str | None = None,
        error: BaimoError | None = None,
    ) -> Item:
        """The object.

        Args:
            status: in_progress, completed, incomplete or failed.
            output: its items.
            usage: token counts; None or a count unknown = null.
            cut: why it is incomplete.
            error: why it failed.
        """
        return {
            **self._row,
            "status": status,
            "output": list(output),
            "usage": counts(usage),
            "incomplete_details": None if cut is None else {"reason": cut},
            "error": None if error is None else _error(error),
        }


def response(completion: Completion, frame: Frame) -> Item:
    """A whole response."""
    items: list[Item] = []
    cut = None if completion.refused else _CUT.get(completion.finish_reason)
    status = "completed" if cut is None else "incomplete"
    if completion.reasoning:
        items.append(reasoning_item(frame.item_id("rs", 0), completion.reasoning))
    if completion.text:
        refused = completion.refused
        part = refusal_part(completion.text) if refused else text_part(completion.text, completion.logprobs)
        items.append(message_item(frame.item_id("msg", len(items)), status, [part]))
    for call in completion.tool_calls[:1] if frame.one_call else completion.tool_calls:
        items.append(call_item(frame.item_id("fc", len(items)), call, _call_status(call, completion)))
    return frame.response(status, items, usage=completion.usage, cut=cut)


def reasoning_item(id: str, text: str | None) -> Item:
    """What the model thought; None = it has only begun to."""
    summary = [] if text is None else [{"type": "summary_text", "text": text}]
    return {"id": id, "type": "reasoning", "summary": summary}


def message_item(id: str, status: str, content: Sequence[Item]) -> Item:
    """What the model said."""
    return {"id": id, "type": "message", "role": "assistant", "status": status, "content": list(content)}


def text_part(text: str, logprobs: Sequence[TokenLogprob] | None = None) -> Item:
    """Text of a message."""
    return {
        "type": "output_text",
        "text": text,
        "annotations": [],
        "logprobs": [
            {**_logprob(one.token, one.logprob), "top_logprobs": [_logprob(*top) for top in one.top]}
            for one in logprobs or ()
        ],
    }


def refusal_part(text: str) -> Item:
    """Why the model will not answer."""
    return {"type": "refusal", "refusal": text}


def call_item(id: str, call: ToolCall, status: str) -> Item:
    """A function that the model wants called; of one in progress the arguments are still to come."""
    return {
        "id": id,
        "type": "function_call",
        "status": status,
        "call_id": call.id or own_id("call", id),
        "name": call.name,
        "arguments": "" if status == "in_progress" else call.arguments,
    }


def counts(usage: Usage | None) -> Item | None:
    """Token counts; null where prompt or answer were not counted. Of details that nobody reports, 0 are known."""
    if usage is None or usage.tokens_in is None or usage.tokens_out is None:
        return None
    return {
        "input_tokens": usage.tokens_in,
        "input_tokens_details": {
            "cached_tokens": usage.tokens_cached or 0,
            "cache_write_tokens": usage.tokens_cache_write or 0,
        },
        "output_tokens": usage.tokens_out,
        "output_tokens_details": {"reasoning_tokens": usage.tokens_reasoning or 0},
        "total_tokens": usage.tokens_in + usage.tokens_out,
    }


class ResponsesEvents:
    """Implements `Events`: one item open at a time; every event is numbered."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._number = 0
        self._started = False
        self._items: list[Item] = []
        self._open = ""
        self._said: list[str] = []
        self._calls = 0
        self._refused = False
        self._finish: FinishReason = "unknown"
        self._usage: Usage | None = None

    def follow(self, begun: Mapping[str, Any], number: int) -> None:
        """Go on with a response that another server began.

        Args:
            begun: members that tell which it is.
            number: of the next event.
        """
        self._frame.take(begun)
        self._number = number
        self._started = True

    def delta(self, delta: Delta, choice: int = 0) -> bytes:
        """The events of one piece; the first is preceded by response.created."""
        out = self._start()
        if delta.reasoning:
            out += self._thought(delta.reasoning)
        if delta.text:
            out += self._text(delta.text, delta.refused)
        for call in delta.tool_calls:
            if not (self._frame.one_call and self._calls):
                out += self._call(call, _call_status(call, delta))
        self._finish = delta.finish_reason or self._finish
        self._usage = delta.usage or self._usage
        return out

    def end(self) -> bytes:
        """The open item's end, then response.completed or response.incomplete."""
        cut = None if self._refused else _CUT.get(self._finish)
        status = "completed" if cut is None else "incomplete"
        out = self._start() + self._close(status)
        whole = self._frame.response(status, self._items, usage=self._usage, cut=cut)
        return out + self._event(f"response.{status}", response=whole)

    def failed(self, error: BaimoError) -> bytes:
        """response.failed; nothing follows it."""
        out = self._start() + self._close("incomplete")
        whole = self._frame.response("failed", self._items, usage=self._usage, error=error)
        return out + self._event("response.failed", response=whole)

    def _start(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        begun = self._frame.response("in_progress")
        return self._event("response.created", response=begun) + self._event(
            "response.in_progress", response=begun
        )

    def _thought(self, said: str) -> bytes:
        out = b""
        if self._open != "rs":
            out += self._close() + self._begin("rs", reasoning_item(self._id("rs"), None))
            empty = {"type": "summary_text", "text": ""}
            out += self._piece("response.reasoning_summary_part.added", summary_index=0, part=empty)
        self._said.append(said)
        return out + self._piece("response.reasoning_summary_text.delta", summary_index=0, delta=said)

    def _text(self, said: str, refused: bool) -> bytes:
        out = b""
        if self._open != "msg" or refused != self._refused:
            out += self._close() + self._begin("msg", message_item(self._id("msg"), "in_progress", ()))
            self._refused = refused
            part = refusal_part("") if refused else text_part("")
            out += self._piece("response.content_part.added", content_index=0, part=part)
        self._said.append(said)
        if refused:
            return out + self._piece("response.refusal.delta", content_index=0, delta=said)
        return out + self._piece("response.output_text.delta", content_index=0, delta=said, logprobs=[])

    def _call(self, call: ToolCall, status: str) -> bytes:
        self._calls += 1
        out = self._close() + self._begin("fc", call_item(self._id("fc"), call, "in_progress"))
        if call.arguments:
            out += self._piece("response.function_call_arguments.delta", delta=call.arguments)
        if status == "completed":
            done = "response.function_call_arguments.done"
            out += self._piece(done, arguments=call.arguments, name=call.name)
        return out + self._finished(call_item(self._id("fc"), call, status))

    def _close(self, status: str = "completed") -> bytes:
        kind, said = self._open, "".join(self._said)
        if kind == "rs":
            part = {"type": "summary_text", "text": said}
            out = self._piece("response.reasoning_summary_text.done", summary_index=0, text=said)
            out += self._piece("response.reasoning_summary_part.done", summary_index=0, part=part)
            return out + self._finished(reasoning_item(self._id("rs"), said))
        if kind == "msg":
            part = refusal_part(said) if self._refused else text_part(said)
            if self._refused:
                out = self._piece("response.refusal.done", content_index=0, refusal=said)
            else:
                out = self._piece("response.output_text.done", content_index=0, text=said, logprobs=[])
            out += self._piece("response.content_part.done", content_index=0, part=part)
            return out + self._finished(message_item(self._id("msg"), status, [part]))
        return b""

    def _begin(self, kind: str, item: Item) -> bytes:
        self._open = kind
        return self._event("response.output_item.added", output_index=len(self._items), item=item)

    def _finished(self, item: Item) -> bytes:
        out = self._event("response.output_item.done", output_index=len(self._items), item=item)
        self._items.append(item)
        self._open, self._said = "", []
        return out

    def _id(self, prefix: str) -> str:
        return self._frame.item_id(prefix, len(self._items))

    def _piece(self, kind: str, **facts: Any) -> bytes:
        return self._event(kind, item_id=self._id(self._open), output_index=len(self._items), **facts)

    def _event(self, kind: str, **facts: Any) -> bytes:
        row = {"type": kind, "sequence_number": self._number, **facts}
        self._number += 1
        return event(kind, row)


def _call_status(call: ToolCall, said: Completion | Delta) -> str:
    """The limit of tokens cuts the last call."""
    cut = said.finish_reason == "length" and call is said.tool_calls[-1]
    return "incomplete" if cut else "completed"


def _error(error: BaimoError) -> Item:
    code = "rate_limit_exceeded" if error.http_status == 429 else "server_error"
    return {"code": code, "message": openai_errors.error_object(error)["message"]}


def _logprob(token: str, logprob: float) -> Item:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}
