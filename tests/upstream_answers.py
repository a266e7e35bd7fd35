"""What the model's server of the tests answers: calls of tools, JSON, several answers, pictures, sounds, or an echo."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

TOKENS_IN, TOKENS_OUT = 24, 21
"""Usage of every answer."""
WORDS = ["The ", "quick ", "brown ", "fox ", "jumps."]
"""The streamed answer to an ordinary question."""
ARGUMENTS = '{"city": "Bern"}'
"""What every tool is called with, and every JSON answer."""
SOUND = b"\xff\xfb\x90sound"
_USAGE = {"prompt_tokens": TOKENS_IN, "completion_tokens": TOKENS_OUT, "total_tokens": TOKENS_IN + TOKENS_OUT}
_COUNTS = {"input_tokens": TOKENS_IN, "output_tokens": TOKENS_OUT}
_Row = dict[str, Any]


def form(body: bytes) -> _Row:
    """The text fields of multipart/form-data."""
    found = re.findall(rb'name="(\w+)"\r\n\r\n([^\r]*)', body)
    return {name.decode(): value.decode() for name, value in found}


def wish_of(row: _Row) -> str:
    """The last thing that was said."""
    messages = row.get("messages") or row.get("input") or row.get("prompt") or row.get("query") or ""
    content: Any = messages[-1] if isinstance(messages, list) and messages else messages
    if isinstance(content, dict):
        content = content.get("content") or content.get("output") or ""
    if isinstance(content, list):
        content = " ".join(_said(part) for part in content if isinstance(part, dict))
    return str(content).strip()


def _said(part: _Row) -> str:
    inner = part.get("content")
    if isinstance(inner, list):  # a tool's result at Anthropic
        return " ".join(map(_said, inner))
    return str(inner or part.get("text", ""))


def tool_of(row: _Row) -> str:
    """Name of the tool that is called; empty = none: there are none, or its result is here."""
    tools = row.get("tools") or []
    turns = row.get("messages") or row.get("input") or []
    last = turns[-1] if isinstance(turns, list) and turns else {}
    parts = last.get("content") if isinstance(last.get("content"), list) else []
    answered = last.get("role") == "tool" or last.get("type") == "function_call_output"
    if not tools or answered or any(part.get("type") == "tool_result" for part in parts):
        return ""
    return str(tools[0].get("name") or tools[0].get("function", {}).get("name"))


def text_of(row: _Row, wish: str) -> str:
    """The answer's text."""
    wanted = row.get("response_format") or row.get("text") or row.get("output_config")
    if wanted and "schema" in json.dumps(wanted):
        return ARGUMENTS
    pictures = len(re.findall(r'"type": ?"(?:image_url|input_image|image)"', json.dumps(row)))
    return f"echo: {wish}" + (f" [{pictures} pictures]" if pictures else "")


def _pieces(row: _Row, wish: str) -> list[str]:
    text = text_of(row, wish)
    if text != f"echo: {wish}":
        return [text[at : at + 5] for at in range(0, len(text), 5)]
    return [f"{word} " for word in wish.split()[1:]] if wish.startswith("say ") else WORDS


def whole(path: str, row: _Row, wish: str) -> bytes:
    """A whole answer."""
    if path.endswith("/audio/speech"):
        return SOUND
    operation = next(name for name in _WHOLE if path.endswith(name))
    return json.dumps(_WHOLE[operation](row, wish)).encode()


def _chat(row: _Row, wish: str) -> _Row:
    tool = tool_of(row)
    message: _Row = {"role": "assistant", "content": None if tool else text_of(row, wish), "refusal": None}
    if tool:
        function = {"name": tool, "arguments": ARGUMENTS}
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
    logprobs = None
    if row.get("logprobs"):
        token = {"token": "echo", "logprob": -0.5, "bytes": None}
        logprobs = {"content": [{**token, "top_logprobs": [token]}], "refusal": None}
    choice = {"finish_reason": "tool_calls" if tool else "stop", "logprobs": logprobs, "message": message}
    choices = [{"index": index, **choice} for index in range(row.get("n") or 1)]
    return {**_facts(row, "chat.completion"), "choices": choices, "usage": _USAGE}


def _text(row: _Row, wish: str) -> _Row:
    logprobs = None
    if row.get("logprobs") is not None:
        alternatives = [{"echo": -0.5}]
        logprobs = {
            "tokens": ["echo"],
            "token_logprobs": [-0.5],
            "top_logprobs": alternatives,
            "text_offset": [0],
        }
    choice = {"finish_reason": "stop", "logprobs": logprobs, "text": text_of(row, wish)}
    choices = [{"index": index, **choice} for index in range(row.get("n") or 1)]
    return {**_facts(row, "text_completion"), "choices": choices, "usage": _USAGE}


def _message(row: _Row, wish: str) -> _Row:
    tool = tool_of(row)
    block: _Row = {"type": "text", "text": text_of(row, wish)}
    if tool:
        block = {"type": "tool_use", "id": "toolu_1", "name": tool, "input": json.loads(ARGUMENTS)}
    facts = {"id": "msg_1", "type": "message", "role": "assistant", "model": row.get("model")}
    reason = "tool_use" if tool else "end_turn"
    return {**facts, "content": [block], "stop_reason": reason, "stop_sequence": None, "usage": _COUNTS}


def _response(row: _Row, wish: str) -> _Row:
    tool = tool_of(row)
    part: _Row = {"type": "output_text", "text": text_of(row, wish), "annotations": []}
    if "message.output_text.logprobs" in (row.get("include") or []):
        part["logprobs"] = [{"token": "echo", "logprob": -0.5, "bytes": [], "top_logprobs": []}]
    item: _Row = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }
    if tool:
        item = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": tool}
        item |= {"arguments": ARGUMENTS, "status": "completed"}
    facts = {"id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "error": None}
    facts |= {"previous_response_id": None}
    facts |= {"model": row.get("model"), "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    usage = {**_COUNTS, **details, "total_tokens": TOKENS_IN + TOKENS_OUT}
    return {**facts, "incomplete_details": None, "output": [item], "usage": usage}


def _embeddings(row: _Row, wish: str) -> _Row:
    del wish
    inputs = row["input"] if isinstance(row.get("input"), list) else [row.get("input")]
    vectors = [
        {"object": "embedding", "index": index, "embedding": [0.1, 0.2]} for index in range(len(inputs))
    ]
    counts = {"prompt_tokens": TOKENS_IN, "total_tokens": TOKENS_IN}
    return {"object": "list", "data": vectors, "model": row.get("model"), "usage": counts}


def _ranks(row: _Row, wish: str) -> _Row:
    del wish
    results = [{"index": index, "relevance_score": 0.5} for index in range(len(row["documents"]))]
    return {"id": "rerank_1", "model": row["model"], "results": results, "usage": {"total_tokens": TOKENS_IN}}


def _judgement(row: _Row, wish: str) -> _Row:
    result = {"flagged": "bad" in wish, "categories": {}, "category_scores": {}}
    result["category_applied_input_types"] = {}
    return {"id": "modr_1", "model": row["model"], "results": [result]}


_WHOLE: dict[str, Any] = {
    "/chat/completions": _chat,
    "/completions": _text,
    "/messages/count_tokens": lambda row, wish: {"input_tokens": TOKENS_IN},
    "/messages": _message,
    "/responses": _response,
    "/embeddings": _embeddings,
    "/rerank": _ranks,
    "/moderations": _judgement,
    "/audio/transcriptions": lambda row, wish: {"text": "what was heard", "usage": {"type": "tokens", **_COUNTS}},
    "/images/generations": lambda row, wish: {
        "created": 1,
        "data": [{"b64_json": "aGk="} for _ in range(row.get("n") or 1)],
        "usage": _COUNTS,
    },
}  # fmt: skip


def _facts(row: _Row, kind: str) -> _Row:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": row.get("model")}


def events(path: str, row: _Row, wish: str) -> Iterator[str]:
    """The events of a streamed answer."""
    if path.endswith("/messages"):
        return _message_events(row, wish)
    if path.endswith("/responses"):
        return _response_events(row, wish)
    if path.endswith("/completions"):
        return _chunks(row, wish, chat=path.endswith("/chat/completions"))
    return _media_events(path)


def _chunks(row: _Row, wish: str, *, chat: bool) -> Iterator[str]:
    facts = _facts(row, "chat.completion.chunk" if chat else "text_completion")
    tool = tool_of(row)

    def chunk(index: int, said: _Row, finish: str | None = None) -> str:
        choice = {"index": index, "finish_reason": finish, "logprobs": None}
        return f"data: {json.dumps({**facts, 'choices': [{**choice, **said}]})}\n\n"

    for index in range(row.get("n") or 1):
        for piece in [] if tool else _pieces(row, wish):
            yield chunk(
                index, {"delta": {"role": "assistant", "content": piece}} if chat else {"text": piece}
            )
        if tool:
            start = {"index": 0, "id": "call_1", "type": "function"}
            yield chunk(
                index, {"delta": {"tool_calls": [{**start, "function": {"name": tool, "arguments": ""}}]}}
            )
            for piece in (ARGUMENTS[:6], ARGUMENTS[6:]):
                part = {"index": 0, "function": {"arguments": piece}}
                yield chunk(index, {"delta": {"tool_calls": [part]}})
        yield chunk(index, {"delta": {}} if chat else {"text": ""}, "tool_calls" if tool else "stop")
    if (row.get("stream_options") or {}).get("include_usage") and wish != "no usage":
        yield f"data: {json.dumps({**facts, 'choices': [], 'usage': _USAGE})}\n\n"
    yield "data: [DONE]\n\n"


def _message_events(row: _Row, wish: str) -> Iterator[str]:
    tool = tool_of(row)
    empty = {**_message(row, wish), "content": [], "stop_reason": None}
    begun = {"input_tokens": TOKENS_IN, "output_tokens": 1}
    yield _named({"type": "message_start", "message": {**empty, "usage": begun}})
    block: _Row = {"type": "text", "text": ""}
    if tool:
        block = {"type": "tool_use", "id": "toolu_1", "name": tool, "input": {}}
    yield _named({"type": "content_block_start", "index": 0, "content_block": block})
    for piece in (ARGUMENTS[:6], ARGUMENTS[6:]) if tool else _pieces(row, wish):
        delta = {"type": "text_delta", "text": piece}
        if tool:
            delta = {"type": "input_json_delta", "partial_json": piece}
        yield _named({"type": "content_block_delta", "index": 0, "delta": delta})
    yield _named({"type": "content_block_stop", "index": 0})
    ended = {"stop_reason": "tool_use" if tool else "end_turn", "stop_sequence": None}
    yield _named({"type": "message_delta", "delta": ended, "usage": {"output_tokens": TOKENS_OUT}})
    yield _named({"type": "message_stop"})


def _response_events(row: _Row, wish: str) -> Iterator[str]:
    done = _response(row, wish)
    item = done["output"][0]
    begun = {**done, "status": "in_progress", "output": [], "usage": None}
    tool = item["type"] == "function_call"
    place = {"item_id": item["id"], "output_index": 0}
    said: list[_Row] = [{"type": "response.created", "response": begun}]
    empty = {**item, "status": "in_progress", **({"arguments": ""} if tool else {"content": []})}
    said.append({"type": "response.output_item.added", "output_index": 0, "item": empty})
    if tool:
        said.append({"type": "response.function_call_arguments.delta", **place, "delta": ARGUMENTS})
        said.append({"type": "response.function_call_arguments.done", **place, "arguments": ARGUMENTS})
    else:
        place |= {"content_index": 0}
        part = {"type": "output_text", "text": "", "annotations": []}
        said.append({"type": "response.content_part.added", **place, "part": part})
        text = "".join(_pieces(row, wish))
        item = {**item, "content": [{**part, "text": text}]}
        for piece in _pieces(row, wish):
            said.append({"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []})
        said.append({"type": "response.output_text.done", **place, "text": text, "logprobs": []})
    said.append({"type": "response.output_item.done", "output_index": 0, "item": item})
    said.append({"type": "response.completed", "response": {**done, "output": [item]}})
    for number, event in enumerate(said):
        yield _named({**event, "sequence_number": number})


def _media_events(path: str) -> Iterator[str]:
    if "images" in path:
        yield _named({"type": "image_generation.completed", "b64_json": "aGk=", "usage": _COUNTS})
    elif "speech" in path:
        yield _named({"type": "speech.audio.delta", "audio": "aGk="})
        yield _named({"type": "speech.audio.done", "usage": _COUNTS})
    else:
        yield _named({"type": "transcript.text.delta", "delta": "what was "})
        yield _named({"type": "transcript.text.done", "text": "what was heard", "usage": _COUNTS})


def _named(event: _Row) -> str:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
