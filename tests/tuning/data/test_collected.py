"""Kept calls of every text surface, whole and streamed, become rows that learn their own answer once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from baimo.core.tuning import Row
from baimo.tuning.data.collected import Kept, Vote, from_records, from_votes
from tests.tuning.data.rows import said

ASKED = {"role": "user", "content": "2 + 2?"}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}


def kept(surface: str, request: Any, answer: Any, conversation: str = "") -> Kept:
    data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return Kept("rec_1", surface, json.dumps(request).encode(), data, conversation)


def events(*data: Any) -> bytes:
    lines = (one if isinstance(one, str) else json.dumps(one) for one in data)
    return "".join(f"data: {line}\n\n" for line in lines).encode()


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def chat(text: str = "4", finish: str = "stop", **more: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": text, **more}, "finish_reason": finish}]}


def message(*blocks: Any, stop: str = "end_turn") -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": list(blocks), "stop_reason": stop}


def only(call: Kept) -> Row:
    collected = from_records([call])
    assert collected.skipped == {}
    (made,) = collected.rows
    return made


WORDS = {"type": "text", "text": "4"}
PICTURE = {"type": "image"}
RESPONSE = {
    "status": "completed",
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "4"}]}],
}
MESSAGE_EVENTS = events(
    {"type": "message_start", "message": {"usage": {"input_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "4"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
    {"type": "message_stop"},
)


@pytest.mark.parametrize(
    ("surface", "request_", "answer"),
    [
        ("chat", {"messages": [ASKED]}, chat()),
        ("chat", {"messages": [ASKED]}, events(chunk(content="4"), chunk("stop"), "[DONE]")),
        ("completions", {"prompt": "2 + 2?"}, {"choices": [{"text": "4", "finish_reason": "stop"}]}),
        (
            "completions",
            {"prompt": "2 + 2?"},
            events(
                {"choices": [{"text": "4"}]}, {"choices": [{"text": "", "finish_reason": "stop"}]}, "[DONE]"
            ),
        ),
        ("messages", {"messages": [ASKED]}, message(WORDS)),
        (
            "messages",
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "2 + 2?"}]}]},
            MESSAGE_EVENTS,
        ),
        ("responses", {"input": "2 + 2?"}, RESPONSE),
        ("responses", {"input": [ASKED]}, events({"type": "response.completed", "response": RESPONSE})),
    ],
)
def test_an_answer_is_the_same_row_on_every_surface(surface: str, request_: Any, answer: Any) -> None:
    made = only(kept(surface, request_, answer))
    assert (made.messages, made.trained) == ((said("user", "2 + 2?"), said("assistant", "4")), None)
    assert made.file == "rec_1"


def test_only_the_answer_of_the_call_itself_is_learnt_and_its_conversation_is_its_group() -> None:
    turns = [ASKED, {"role": "assistant", "content": "4"}, {"role": "user", "content": "sure?"}]
    made = only(kept("chat", {"messages": turns}, chat("yes"), "talk"))
    assert (made.trained, made.group, len(made.messages)) == ((3,), "talk", 4)


@pytest.mark.parametrize("streamed", [False, True])
def test_calls_of_functions_are_learnt(streamed: bool) -> None:
    piece = {**CALL, "index": 0}
    whole = chat("", "tool_calls", tool_calls=[CALL])
    answer: Any = events(chunk(tool_calls=[piece]), chunk("tool_calls"), "[DONE]") if streamed else whole
    made = only(kept("chat", {"messages": [ASKED], "tools": [TOOL]}, answer))
    assert made.messages[-1].tool_calls[0].arguments == '{"a": 2}'
    assert made.tools[0].name == "add"


@pytest.mark.parametrize("streamed", [False, True])
def test_calls_without_ids_are_told_apart(streamed: bool) -> None:
    calls = [{"index": number, "function": CALL["function"]} for number in (0, 1)]
    whole = chat("", "tool_calls", tool_calls=calls)
    answer: Any = events(chunk(tool_calls=calls), chunk("tool_calls"), "[DONE]") if streamed else whole
    made = only(kept("chat", {"messages": [ASKED], "tools": [TOOL]}, answer))
    assert [call.id for call in made.messages[-1].tool_calls] == ["call_0", "call_1"]


def test_tools_of_the_other_surfaces_become_the_same_turns() -> None:
    use = {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 2}}
    result = {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "4"}]}
    request: dict[str, Any] = {
        "system": "brief",
        "messages": [ASKED, {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}],
        "tools": [{"name": "add", "description": "", "input_schema": {"type": "object"}}],
    }
    one = only(kept("messages", request, message(WORDS)))
    items = [
        ASKED,
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 2}'},
        {"type": "function_call_output", "call_id": "c1", "output": "4"},
    ]
    given = {"instructions": "brief", "input": items, "tools": [{"type": "function", **TOOL["function"]}]}  # type: ignore[dict-item]
    other = only(kept("responses", given, RESPONSE))
    assert [turn.role for turn in one.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert (one.messages, one.tools, one.trained) == (other.messages, other.tools, (4,))


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (kept("embeddings", {"input": "x"}, {}), "surface"),
        (kept("chat", {"messages": [ASKED]}, chat("4", "length")), "unfinished"),
        (kept("chat", {"messages": [ASKED]}, chat("4", "content_filter")), "unfinished"),
        (kept("chat", {"messages": [ASKED]}, events(chunk(content="4"))), "broken"),
        (kept("chat", {"messages": [ASKED]}, chat(" ")), "empty"),
        (kept("chat", {"messages": "x"}, chat()), "broken"),
        (kept("chat", {"messages": [ASKED]}, b"<html>"), "broken"),
        (kept("messages", {"messages": [ASKED]}, message(WORDS, stop="max_tokens")), "unfinished"),
        (kept("messages", {"messages": [{"role": "user", "content": [PICTURE, WORDS]}]}, message(WORDS)), "broken"),
        (kept("responses", {"input": "x", "previous_response_id": "r"}, RESPONSE), "earlier"),
        (kept("responses", {"input": "x"}, {**RESPONSE, "status": "incomplete"}), "unfinished"),
        (kept("completions", {"prompt": ["x"]}, {"choices": []}), "broken"),
    ],
)  # fmt: skip
def test_what_is_no_whole_answer_is_left_out_and_counted(call: Kept, why: str) -> None:
    assert from_records([call]) == ([], {why: 1})


def test_votes_become_preference_rows() -> None:
    better, worse = said("assistant", "4"), said("assistant", "5")
    asked = (said("user", "2 + 2?"),)
    votes = [
        Vote(asked, better, worse, conversation="talk", id="7"),
        Vote(asked, better, better),
        Vote((*asked, worse, said("user", "sure?")), better, worse),
    ]
    first, last = from_votes(votes)
    assert (first.messages, first.rejected, first.trained) == ((*asked, better), (worse,), None)
    assert (first.group, first.file) == ("talk", "vote 7")
    assert last.trained == (3,)
