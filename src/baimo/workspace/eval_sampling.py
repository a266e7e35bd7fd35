"""From a row of data to the question that a model is asked, and from its answer to the sample that is graded.

A run asks through Chat Completions or through Responses, as its data source says; both answers become the same
`sample`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from baimo.core.call import Request
from baimo.core.message import Message
from baimo.errors import ScorerError
from baimo.evals.graders.grading import with_json
from baimo.evals.graders.messages import messages
from baimo.evals.graders.template import as_shown, found, path_of
from baimo.evals.scorers.base import is_array, is_object
from baimo.providers.openai import chat_body
from baimo.providers.openai_reply import count, fields, items
from baimo.workspace.eval_asking import CHAT, RESPONSES, used


class Question(NamedTuple):
    """What a model is asked."""

    path: str
    body: Mapping[str, Any]
    shown: Sequence[Mapping[str, str]]
    """The messages as an output item shows them."""


def question(asked: Mapping[str, Any], model: str, item: Mapping[str, Any]) -> Question:
    """The question for one row of data.

    Args:
        asked: data source of the run.
        model: name that is asked for.
        item: the row.

    Raises:
        ScorerError: a variable of the template is not there, or a reference names no messages.
    """
    given = fields(asked.get("input_messages"))
    params = fields(asked.get("sampling_params"))
    if given.get("type") == "item_reference":
        turns = _referenced(str(given.get("item_reference", "")), item)
    else:
        rows = [fields(row) for row in items(given.get("template"))]
        filled = messages(rows, {"item": item})
        turns = _input(filled) if asked["type"] == "responses" else _turns(filled)
    shown = [{"role": str(turn.get("role", turn.get("type", ""))), "content": said(turn)} for turn in turns]
    if asked["type"] == "responses":
        return Question(
            RESPONSES, {"model": model, "input": turns, "store": False, **_responses(params)}, shown
        )
    return Question(CHAT, {"model": model, "messages": turns, **_chat(params)}, shown)


def said(turn: Mapping[str, Any]) -> str:
    """The content of a message as text."""
    content = turn.get("content")
    if content is None:
        return as_shown({name: value for name, value in turn.items() if name != "role"})
    if isinstance(content, str):
        return content
    parts = [fields(part) for part in items(content)]
    if all(isinstance(part.get("text"), str) for part in parts):
        return "\n".join(part["text"] for part in parts)
    return as_shown(content)


def sample_of_chat(data: Mapping[str, Any]) -> dict[str, Any]:
    """The namespace `sample` of a chat completion."""
    choices = [fields(choice) for choice in items(data.get("choices"))]
    message = fields(choices[0].get("message") if choices else None)
    text = message.get("content")
    return with_json(
        {
            "model": str(data.get("model", "")),
            "choices": choices,
            "output_text": text if isinstance(text, str) else "",
            "output_tools": items(message.get("tool_calls")),
            "finish_reason": str(choices[0].get("finish_reason") or "stop") if choices else "stop",
        }
    )


def sample_of_response(data: Mapping[str, Any]) -> dict[str, Any]:
    """The namespace `sample` of a response."""
    output = [fields(one) for one in items(data.get("output"))]
    texts = [
        str(part.get("text", ""))
        for one in output
        if one.get("type") == "message"
        for part in map(fields, items(one.get("content")))
        if part.get("type") == "output_text"
    ]
    tools = [
        {
            "id": one.get("call_id"),
            "type": "function",
            "function": {"name": one.get("name"), "arguments": one.get("arguments")},
        }
        for one in output
        if one.get("type") == "function_call"
    ]
    reason = "length" if data.get("status") == "incomplete" else "tool_calls" if tools else "stop"
    text = "".join(texts)
    message = {"role": "assistant", "content": text, "tool_calls": tools or None}
    return with_json(
        {
            "model": str(data.get("model", "")),
            "output": output,
            "output_text": text,
            "output_tools": tools,
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
            "finish_reason": reason,
        }
    )


def sample_row(
    asked: Mapping[str, Any],
    shown: Sequence[Mapping[str, str]],
    sample: Mapping[str, Any],
    data: Mapping[str, Any] | None = None,
    error: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A sample as an output item shows it. What is not known of it has OpenAI's default, or 0: the form has no null."""
    params = fields(asked.get("sampling_params"))
    tokens = used(data or {})
    tokens_in, tokens_out = tokens.tokens_in or 0, tokens.tokens_out or 0
    calls = items(sample.get("output_tools"))
    text = sample.get("output_text")
    answer = {"role": "assistant", "content": text if isinstance(text, str) else ""}
    return {
        "input": list(shown),
        "output": [answer | ({"tool_calls": calls} if calls else {})] if sample else [],
        "finish_reason": str(sample.get("finish_reason", "")),
        "model": str(sample.get("model", "")),
        "usage": {
            "total_tokens": tokens_in + tokens_out,
            "completion_tokens": tokens_out,
            "prompt_tokens": tokens_in,
            "cached_tokens": tokens.tokens_cached or 0,
        },
        "error": error,
        "temperature": float(params.get("temperature", 1.0)),
        "top_p": float(params.get("top_p", 1.0)),
        "max_completion_tokens": count(params.get("max_completion_tokens")) or 0,
        "seed": params.get("seed") or 0,
    }


def _referenced(reference: str, item: Mapping[str, Any]) -> list[dict[str, Any]]:
    value = found(path_of(reference), {"item": item})
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if not is_array(value) or not value or not all(is_object(one) for one in value):
        raise ScorerError("evaluations.no_messages", reference=reference)
    return [dict(fields(one)) for one in value]


def _turns(filled: Sequence[Message]) -> list[dict[str, Any]]:
    return list(chat_body(Request(model="", messages=tuple(filled)))[0]["messages"])


def _input(filled: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as the Responses API has them."""
    rows: list[dict[str, Any]] = []
    for message, turn in zip(filled, _turns(filled), strict=True):
        content: Any = turn["content"]
        if not isinstance(message.content, str):
            content = [_block(fields(part)) for part in items(content)]
        rows.append({"role": turn["role"], "content": content})
    return rows


def _block(part: Mapping[str, Any]) -> dict[str, Any]:
    if part["type"] == "text":
        return {"type": "input_text", "text": part["text"]}
    if part["type"] == "image_url":
        image = fields(part["image_url"])
        return {"type": "input_image", "image_url": image["url"], "detail": image.get("detail", "auto")}
    return {"type": "input_audio", "input_audio": part["input_audio"]}


_BOTH = ("temperature", "top_p", "tools")


def _chat(params: Mapping[str, Any]) -> dict[str, Any]:
    names = (*_BOTH, "seed", "max_completion_tokens", "reasoning_effort", "response_format")
    return {name: params[name] for name in names if params.get(name) is not None}


def _responses(params: Mapping[str, Any]) -> dict[str, Any]:
    body = {name: params[name] for name in (*_BOTH, "text") if params.get(name) is not None}
    if params.get("max_completion_tokens") is not None:
        body["max_output_tokens"] = params["max_completion_tokens"]
    if params.get("reasoning_effort") is not None:
        body["reasoning"] = {"effort": params["reasoning_effort"]}
    return body
