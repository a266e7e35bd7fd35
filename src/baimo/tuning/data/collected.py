"""Rows out of the workspace: what tenants that opted in were answered, and what people preferred.

Prevents three failures: half an answer that is learnt as a whole one (cut by a limit, a filter or the size that is
kept), the same answer learnt once for every later turn of its conversation, and paraphrases of one conversation on
both sides of a split. Understands the four text surfaces of the endpoint, whole and streamed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec

from baimo.core.call import Completion, Delta
from baimo.core.message import Message, Tool, ToolCall
from baimo.core.tuning import Row
from baimo.errors import BadReply, DataError, ProviderError
from baimo.providers import anthropic_reply, openai_reply
from baimo.providers.faults import Place as Source
from baimo.providers.sse import Event, SseParser
from baimo.tuning.data.turns import Place, as_map, tools, turns

_WHOLE = ("stop", "tool_calls")
_BLOCKS = ("text", "tool_use", "tool_result", "thinking", "redacted_thinking")
_KEPT = Source(host="record", model="", key="")


class Kept(NamedTuple):
    """One call with what was said."""

    record: str
    """Record.id."""
    surface: str
    """Record.surface."""
    request: bytes
    """Body as the client sent it."""
    answer: bytes
    """Body as the client got it: JSON or events."""
    conversation: str = ""
    """Record.conversation."""


class Vote(NamedTuple):
    """Somebody saw two answers and preferred one."""

    messages: tuple[Message, ...]
    """What was asked."""
    preferred: Message
    """The better answer."""
    other: Message
    """The worse answer."""
    tools: tuple[Tool, ...] = ()
    """Functions on offer."""
    conversation: str = ""
    """What belongs together."""
    id: str = ""
    """Of the vote, for messages."""


class Collected(NamedTuple):
    """Rows, and calls that could not become any."""

    rows: list[Row]
    """In the order of the calls."""
    skipped: Mapping[str, int]
    """Why → how many: surface, earlier, broken, unfinished, empty."""


def from_records(kept: Iterable[Kept]) -> Collected:
    """Answers that were given, as rows: each is learnt once, in the row of its own call."""
    rows: list[Row] = []
    skipped: Counter[str] = Counter()
    for call in kept:
        read = _SURFACES.get(call.surface)
        if read is None:
            skipped["surface"] += 1
            continue
        try:
            made = read(call)
        except (ProviderError, DataError, msgspec.DecodeError, UnicodeError, RecursionError):
            skipped["broken"] += 1
            continue
        if isinstance(made, str):
            skipped[made] += 1
        else:
            rows.append(made)
    return Collected(rows, skipped)


def from_votes(votes: Iterable[Vote]) -> Iterator[Row]:
    """Votes as preference rows; answers that say the same are no preference."""
    for vote in votes:
        if vote.preferred == vote.other:
            continue
        messages = (*vote.messages, vote.preferred)
        yield Row(
            messages=messages,
            trained=_last(messages),
            rejected=(vote.other,),
            tools=vote.tools,
            group=vote.conversation or None,
            file=f"vote {vote.id}" if vote.id else "",
        )


def _last(messages: tuple[Message, ...]) -> tuple[int, ...] | None:
    """Only the last answer is learnt; None where it is the only one."""
    several = any(one.role == "assistant" for one in messages[:-1])
    return (len(messages) - 1,) if several else None


def _row(call: Kept, asked: list[Any], offered: Any, answer: Completion) -> Row | str:
    if answer.finish_reason not in _WHOLE:
        return "unfinished"
    if not answer.text.strip() and not answer.tool_calls:
        return "empty"
    place = Place(Path(call.record), 1)
    calls = tuple(
        replace(one, id=one.id or f"call_{number}") for number, one in enumerate(answer.tool_calls)
    )  # not every server gives ids
    said = Message(role="assistant", content=answer.text, tool_calls=calls)
    messages = (*turns(asked, place).messages, said)
    return Row(
        messages=messages,
        trained=_last(messages),
        tools=tools(offered, place),
        group=call.conversation or None,
        file=call.record,
    )


def _chat(call: Kept) -> Row | str:
    request = _object(call.request)
    if _is_json(call.answer):
        answer = openai_reply.completion(_object(call.answer), _KEPT)
    else:
        reader = openai_reply.ChunkReader(_KEPT)
        answer = _streamed(call.answer, reader.feed, reader.close)
    offered = request.get("tools") or request.get("functions")
    return _row(call, _list(request.get("messages")), offered, answer)


def _completions(call: Kept) -> Row | str:
    request = _object(call.request)
    prompt = request.get("prompt")
    if not isinstance(prompt, str):
        return "broken"
    whole = _is_json(call.answer)
    data = [_object(call.answer)] if whole else [_object(one.data.encode()) for one in _events(call.answer)]
    choices = [as_map(_first(one.get("choices"))) for one in data]
    words = "".join(str(choice.get("text") or "") for choice in choices)
    reasons = [choice.get("finish_reason") for choice in choices if choice.get("finish_reason")]
    answer = Completion(text=words, finish_reason="stop" if reasons == ["stop"] else "unknown")
    return _row(call, [{"role": "user", "content": prompt}], None, answer)


def _messages(call: Kept) -> Row | str:
    request = _object(call.request)
    if _is_json(call.answer):
        answer = anthropic_reply.completion(_object(call.answer), _KEPT)
    else:
        reader = anthropic_reply.EventReader(_KEPT)
        answer = _streamed(call.answer, reader.feed, reader.close)
    asked: list[dict[str, Any]] = []
    if system := _words(request.get("system")):
        asked.append({"role": "system", "content": system})
    for turn in map(as_map, _list(request.get("messages"))):
        asked += _of_blocks(str(turn.get("role")), turn.get("content"))
    offered = [
        {
            "name": one.get("name"),
            "description": one.get("description"),
            "parameters": one.get("input_schema"),
        }
        for one in map(as_map, _list(request.get("tools")))
    ]
    return _row(call, asked, offered, answer)


def _of_blocks(role: str, content: Any) -> Iterator[dict[str, Any]]:
    """A turn of Anthropic's Messages as turns of chat: results of tools are turns of their own."""
    calls: list[dict[str, Any]] = []
    for block in map(as_map, _list(content)):
        if block.get("type") not in _BLOCKS:  # a picture or a document: without it the answer makes no sense
            raise BadReply("providers.malformed", host="record", model="")
        if block.get("type") == "tool_result":
            words = _words(block.get("content"))
            yield {"role": "tool", "content": words, "tool_call_id": block.get("tool_use_id")}
        elif block.get("type") == "tool_use":
            function: dict[str, Any] = {"name": block.get("name"), "arguments": block.get("input") or {}}
            calls.append({"id": block.get("id"), "function": function})
    words = _words(content)
    if calls or words or isinstance(content, str):
        yield {"role": role, "content": words} | ({"tool_calls": calls} if calls else {})


def _responses(call: Kept) -> Row | str:
    request = _object(call.request)
    if request.get("previous_response_id") or request.get("conversation"):
        return "earlier"
    data = _object(call.answer) if _is_json(call.answer) else _completed(call.answer)
    if data.get("status") != "completed":
        return "unfinished"
    words, calls = "", list[ToolCall]()
    for item in map(as_map, _list(data.get("output"))):
        if item.get("type") == "message":
            words += _words(item.get("content"))
        elif item.get("type") == "function_call":
            names = (str(item.get(name) or "") for name in ("call_id", "name", "arguments"))
            id, name, arguments = names
            calls.append(ToolCall(id=id, name=name, arguments=arguments))
    asked: list[Any] = []
    if instructions := _words(request.get("instructions")):
        asked.append({"role": "system", "content": instructions})
    given = request.get("input")
    asked += [{"role": "user", "content": given}] if isinstance(given, str) else _of_items(_list(given))
    answer = Completion(text=words, tool_calls=tuple(calls), finish_reason="stop")
    offered = [one for one in _list(request.get("tools")) if as_map(one).get("type") == "function"]
    return _row(call, asked, offered, answer)


def _of_items(items: list[Any]) -> list[dict[str, Any]]:
    """Input items of the Responses API as turns of chat; calls that follow each other are one turn."""
    made: list[dict[str, Any]] = []
    for item in map(as_map, items):
        kind = item.get("type", "message")
        if kind == "function_call":
            if not made or "tool_calls" not in made[-1]:
                made.append({"role": "assistant", "content": None, "tool_calls": []})
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            made[-1]["tool_calls"].append({"id": item.get("call_id"), "function": function})
        elif kind == "function_call_output":
            words = _words(item.get("output"))
            made.append({"role": "tool", "content": words, "tool_call_id": item.get("call_id")})
        elif kind == "message":
            made.append({"role": item.get("role"), "content": item.get("content")})
    return made


_SURFACES: Mapping[str, Callable[[Kept], Row | str]] = {
    "chat": _chat,
    "completions": _completions,
    "messages": _messages,
    "responses": _responses,
}


def _streamed(
    answer: bytes, feed: Callable[[Event], list[Delta]], close: Callable[[], list[Delta]]
) -> Completion:
    deltas = [delta for event in _events(answer, done=True) for delta in feed(event)] + close()
    return Completion(
        text="".join(delta.text for delta in deltas),
        tool_calls=tuple(call for delta in deltas for call in delta.tool_calls),
        finish_reason=deltas[-1].finish_reason or "unknown",
    )


def _events(answer: bytes, *, done: bool = False) -> Iterator[Event]:
    parser = SseParser()
    for event in (*parser.feed(answer), *parser.close()):
        if done or event.data.strip() != "[DONE]":
            yield event


def _completed(answer: bytes) -> Mapping[str, Any]:
    """The whole response out of its events."""
    for event in _events(answer):
        data = _object(event.data.encode())
        if data.get("type") == "response.completed":
            return as_map(data.get("response"))
    return {}


def _words(content: Any) -> str:
    if isinstance(content, str):
        return content
    blocks = map(as_map, _list(content))
    return "\n".join(words for block in blocks if isinstance(words := block.get("text"), str))


def _object(body: bytes) -> dict[str, Any]:
    return msgspec.json.decode(body, type=dict[str, Any])


def _is_json(body: bytes) -> bool:
    return body.lstrip()[:1] == b"{"


def _first(value: Any) -> Any:
    return next(iter(_list(value)), None)


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []
