"""Whole answers of servers that were asked for a stream, as the official SDKs meet them behind the gateway."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest

from baimo.server.surfaces.chat import Chat
from baimo.server.surfaces.completions import Completions
from baimo.server.surfaces.messages import Messages
from tests.gateway.doubles import House, RecordingReply, Script
from tests.server.surfaces.test_broken_streams import MESSAGE, again

CALLS = [
    {"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": '{"in": "巴黎"}'}}
    for name in ("weather", "time")
]
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
CHAT: dict[str, Any] = {
    "id": "chatcmpl-up",
    "object": "chat.completion",
    "created": 1,
    "model": "one-2026",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": "Hm.",
                "reasoning_content": "so",
                "tool_calls": CALLS,
            },
        },
        {"index": 1, "finish_reason": "stop", "message": {"role": "assistant", "content": "Yes."}},
    ],
    "usage": USAGE,
    "service_tier": "default",
}
ASKED: Any = {"model": "acme/one", "messages": [{"role": "user", "content": "Hi"}], "n": 2}


def asked(surface: Any, body: dict[str, Any], answer: dict[str, Any]) -> RecordingReply:
    house = House(Script(body=json.dumps(answer).encode()))
    reply = house.ask({**body, "stream": True}, surface=surface)
    assert (reply.status, reply.ended, reply.aborted) == (200, True, False)
    assert reply.headers["content-type"].startswith("text/event-stream")
    record = house.record
    assert (record.status, record.tokens_in, record.tokens_out) == ("ok", 10, 5)
    return reply


@pytest.mark.parametrize("wanted", [True, False])
def test_a_chat_completion(wanted: bool) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if wanted else {}
    reply = asked(Chat(), {**ASKED, **options}, CHAT)
    assert (b'"usage"' in reply.body, reply.body.endswith(b"data: [DONE]\n\n")) == (wanted, True)
    with (
        again(reply) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="k", max_retries=0) as client,
        client.chat.completions.stream(**ASKED) as stream,
    ):
        found = stream.get_final_completion()
    first, second = found.choices
    assert (first.message.content, first.finish_reason) == ("Hm.", "tool_calls")
    assert [call.model_dump(include={"id", "function"}) for call in first.message.tool_calls or ()] == [
        {"id": call["id"], "function": {**call["function"], "parsed_arguments": None}} for call in CALLS
    ]
    assert (second.message.content, second.finish_reason) == ("Yes.", "stop")
    assert (found.usage and found.usage.total_tokens) == (15 if wanted else None)


def test_a_text_completion() -> None:
    answer = {
        **CHAT,
        "object": "text_completion",
        "choices": [{"index": 0, "text": "Yes.", "finish_reason": "stop"}],
    }
    body: Any = {"model": "acme/one", "prompt": "Hi"}
    reply = asked(Completions(), body, answer)
    with (
        again(reply) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="k", max_retries=0) as client,
        client.completions.create(**body, stream=True) as stream,
    ):
        assert [choice.text for one in stream for choice in one.choices] == ["Yes."]


def test_a_message() -> None:
    content = [
        {"type": "thinking", "thinking": "so", "signature": "s"},
        {"type": "text", "text": "Hm."},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"in": "巴黎"}},
    ]
    answer = {
        "id": "msg_up",
        "type": "message",
        "role": "assistant",
        "model": "opus-2026",
        "content": content,
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 8, "cache_read_input_tokens": 2, "output_tokens": 5},
    }
    reply = asked(Messages(), MESSAGE, answer)
    with (
        again(reply) as address,
        anthropic.Anthropic(base_url=address, api_key="k", max_retries=0) as client,
        client.messages.stream(**MESSAGE) as stream,
    ):
        found = stream.get_final_message()
    thought, said, called = found.content
    assert (thought.type, said.type, called.type) == ("thinking", "text", "tool_use")
    assert isinstance(called, anthropic.types.ToolUseBlock)
    assert (called.id, called.input, found.stop_reason) == ("toolu_1", {"in": "巴黎"}, "tool_use")
    assert (found.id, found.model, found.usage.output_tokens) == ("msg_up", "opus-2026", 5)
