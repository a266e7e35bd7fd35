"""AnthropicProvider: translation, replies, streams and a real server."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
from typing import Any

import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from provider_doubles import CANARY, Answering, Scripted, asked, says, settings, streams, vendor
from pydantic import TypeAdapter

from baimo.core.call import Completion, Delta, JsonFormat, Request, Sampling, Usage
from baimo.core.message import Message, Part, Tool, ToolCall
from baimo.errors import AuthenticationFailed, BadReply, RateLimited, RequestRefused
from baimo.providers.anthropic import AnthropicProvider, closed
from baimo.testing.clock import FakeClock

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "object", "properties": {}}, "b": {"type": "string"}},
}


def built(url: str = "http://h", **more: Any) -> AnthropicProvider:
    return AnthropicProvider(vendor("anthropic"), settings(url, **more), clock=FakeClock())


def body(request: Request, *quirks: str, stream: bool = False, **more: Any) -> dict[str, Any]:
    return built(**more).outgoing(request, frozenset(quirks), stream=stream).body


def message(*content: dict[str, Any], stop: str = "end_turn", **more: Any) -> dict[str, Any]:
    usage = {"input_tokens": 7, "output_tokens": 3}
    return {
        "type": "message",
        "model": "m-2026",
        "content": list(content),
        "stop_reason": stop,
        "usage": usage,
        **more,
    }


def run(server: Scripted, request: Request | None = None, **more: Any) -> Completion:
    async def scenario() -> Completion:
        async with server.running() as url:
            provider = built(url, **more)
            try:
                return await provider.complete(request or asked())
            finally:
                await provider.aclose()

    return asyncio.run(scenario())


def collect(answer: Answering, request: Request | None = None, **more: Any) -> list[Delta]:
    async def scenario() -> list[Delta]:
        async with Scripted(answer).running() as url:
            provider = built(url, **more)
            try:
                return [delta async for delta in provider.stream(request or asked())]
            finally:
                await provider.aclose()

    return asyncio.run(scenario())


def start(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def piece(index: int, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


BEGIN = {
    "type": "message_start",
    "message": {
        "model": "m-2",
        "usage": {"input_tokens": 7, "cache_read_input_tokens": 5, "output_tokens": 1},
    },
}
END = (
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
    {"type": "message_stop"},
)


def test_system_texts_stand_apart_and_turns_alternate() -> None:
    request = Request(
        model="m",
        messages=(
            Message(role="system", content="be brief"),
            Message(role="user", content="weather in A and B?"),
            Message(
                role="assistant",
                content="looking",
                tool_calls=(
                    ToolCall(id="1", name="w", arguments='{"c":"A"}'),
                    ToolCall(id="2", name="w", arguments="{oops"),
                ),
            ),
            Message(role="tool", tool_call_id="1", content="sun"),
            Message(role="tool", tool_call_id="2", content="rain"),
            Message(role="user", content="so?"),
        ),
        sampling=Sampling(temperature=0, top_p=0.9, max_tokens=50, stop=("END",)),
        tools=(Tool(name="w", description="weather", parameters=SCHEMA), Tool(name="t")),
        tool_choice="required",
    )
    assert body(request) == {
        "model": "m",
        "max_tokens": 50,
        "system": "be brief",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "weather in A and B?"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "looking"},
                    {"type": "tool_use", "id": "1", "name": "w", "input": {"c": "A"}},
                    {"type": "tool_use", "id": "2", "name": "w", "input": {"text": "{oops"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "sun"}]},
                    {
                        "type": "tool_result",
                        "tool_use_id": "2",
                        "content": [{"type": "text", "text": "rain"}],
                    },
                    {"type": "text", "text": "so?"},
                ],
            },
        ],
        "temperature": 0,
        "top_p": 0.9,
        "stop_sequences": ["END"],
        "tools": [
            {"name": "w", "description": "weather", "input_schema": SCHEMA},
            {"name": "t", "input_schema": {"type": "object"}},
        ],
        "tool_choice": {"type": "any"},
    }


def test_the_types_of_the_official_sdk_accept_what_is_sent() -> None:
    request = Request(
        model="m",
        messages=(
            Message(role="system", content="be brief"),
            Message(
                role="user",
                content=(Part(kind="image_url", data="https://x.test"), Part(kind="text", data="?")),
            ),
            Message(role="assistant", tool_calls=(ToolCall(id="1", name="w", arguments='{"c":"A"}'),)),
            Message(role="tool", tool_call_id="1", content="sun"),
        ),
        sampling=Sampling(max_tokens=50, stop=("END",)),
        tools=(Tool(name="w", parameters=SCHEMA),),
        tool_choice="w",
        response_format=JsonFormat(schema=SCHEMA),
    )
    sent = body(request)
    accepted: Any = TypeAdapter(MessageCreateParamsNonStreaming).validate_python(sent)
    assert accepted.keys() == sent.keys(), "the SDK knows every field"


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ("w", {"type": "tool", "name": "w"}),
    ],
)
def test_tool_choices_are_translated(choice: str, sent: dict[str, str]) -> None:
    assert body(asked(tools=(Tool(name="w"),), tool_choice=choice))["tool_choice"] == sent


@pytest.mark.parametrize(
    ("part", "source"),
    [
        (Part(kind="image_url", data="https://x.test/a.png"), {"type": "url", "url": "https://x.test/a.png"}),
        (
            Part(kind="image_url", data="data:image/webp;base64,QUJD"),
            {"type": "base64", "media_type": "image/webp", "data": "QUJD"},
        ),
        (
            Part(kind="image_url", data="data:image/jpg;base64,QUJD"),
            {"type": "base64", "media_type": "image/jpeg", "data": "QUJD"},
        ),
        (
            Part(kind="image_url", data="QUJD", media_type="image/gif"),
            {"type": "base64", "media_type": "image/gif", "data": "QUJD"},
        ),
    ],
)
def test_images_are_sent_by_address_or_content(part: Part, source: dict[str, str]) -> None:
    request = Request(model="m", messages=(Message(role="user", content=(part,)),))
    assert body(request)["messages"][0]["content"] == [{"type": "image", "source": source}]


def test_turns_and_texts_that_say_nothing_are_left_out() -> None:
    blank, question = Part(kind="text", data=" \n"), Part(kind="text", data="q")
    call = ToolCall(id="1", name="w", arguments="{}")
    request = Request(
        model="m",
        messages=(
            Message(role="system", content=""),
            Message(role="user", content="hi"),
            Message(role="assistant", content=""),
            Message(role="user", content=(blank, question)),
            Message(role="assistant", content="\n", tool_calls=(call,)),
            Message(role="tool", tool_call_id="1", content=""),
        ),
    )
    sent = body(request)
    assert "system" not in sent
    assert sent["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": "q"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "w", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": []}]},
    ]


def test_ids_of_other_vendors_are_replaced_alike_in_calls_and_results() -> None:
    given = ("functions.f:0", "functions_f_0", "")
    calls = tuple(ToolCall(id=one, name="f", arguments="{}") for one in given)
    results = (Message(role="tool", tool_call_id=one, content="sun") for one in given)
    request = Request(model="m", messages=(Message(role="assistant", tool_calls=calls), *results))
    called, answered = (turn["content"] for turn in body(request)["messages"])
    ids = [block["id"] for block in called]
    assert [block["tool_use_id"] for block in answered] == ids
    assert (len(set(ids)), ids[1]) == (3, "functions_f_0")
    assert all(re.fullmatch("[a-zA-Z0-9_-]+", one) for one in ids)


def test_without_tools_there_is_nothing_to_choose() -> None:
    assert "tool_choice" not in body(asked(tool_choice="auto"))
    with pytest.raises(RequestRefused):
        body(asked(tool_choice="required"))


def test_sound_is_refused_before_it_is_sent() -> None:
    request = Request(
        model="m", messages=(Message(role="user", content=(Part(kind="input_audio", data="UklG"),)),)
    )
    with pytest.raises(RequestRefused):
        body(request)


def test_what_the_format_does_not_have_is_reported_as_left_out() -> None:
    request = asked(sampling=Sampling(seed=1, temperature=0), top_logprobs=1)
    assert built().outgoing(request, frozenset(), stream=False).adapted == ("seed", "logprobs")
    outgoing = built().outgoing(request, frozenset({"no_temperature"}), stream=False)
    assert "temperature" not in outgoing.body and "temperature" in outgoing.adapted


def test_a_schema_is_enforced_by_structured_output_with_all_objects_closed() -> None:
    sent = body(asked(response_format=JsonFormat(schema=SCHEMA)))
    assert sent["output_config"] == {"format": {"type": "json_schema", "schema": closed(SCHEMA)}}
    schema = closed(SCHEMA)
    assert (
        schema["additionalProperties"] is False and schema["properties"]["a"]["additionalProperties"] is False
    )
    assert "additionalProperties" not in SCHEMA, "the caller's schema is left as it was"
    assert closed({**SCHEMA, "additionalProperties": True})["additionalProperties"] is True


def test_any_json_is_asked_for_in_words() -> None:
    outgoing = built().outgoing(asked(response_format=JsonFormat()), frozenset(), stream=False)
    assert "JSON" in outgoing.body["system"] and outgoing.adapted == ("json_object",)


def test_without_structured_output_a_forced_tool_carries_the_answer() -> None:
    request = asked(response_format=JsonFormat(schema=SCHEMA))
    server = Scripted(
        says(
            {
                "type": "error",
                "error": {"type": "invalid_request_error", "message": "output_config: not supported"},
            },
            400,
        ),
        says(
            message({"type": "tool_use", "id": "1", "name": "answer", "input": {"b": "好"}}, stop="tool_use")
        ),
    )
    found = run(server, request)
    assert (found.text, found.tool_calls, found.finish_reason) == ('{"b": "好"}', (), "stop")
    assert server.seen[1].body["tool_choice"] == {"type": "tool", "name": "answer"}
    events = (
        BEGIN,
        start(0, type="tool_use", id="1", name="answer", input={}),
        piece(0, type="input_json_delta", partial_json='{"b":'),
        piece(0, type="input_json_delta", partial_json=' "x"}'),
        stop(0),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    )
    deltas = collect(streams(*events, named=True), request, quirks=["no_json_schema"])
    assert "".join(delta.text for delta in deltas) == '{"b": "x"}' and deltas[-1].finish_reason == "stop"


def test_a_schema_that_is_refused_leaves_structured_output_to_the_next() -> None:
    problem = "output_config.format.schema: For 'integer' type, property 'minimum' is not supported"
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": problem}}
    server = Scripted(says(error, 400), says(message({"type": "text", "text": "{}"})))

    async def scenario() -> None:
        async with server.running() as url:
            provider = built(url)
            try:
                for _ in range(2):
                    await provider.complete(asked(response_format=JsonFormat(schema=SCHEMA)))
            finally:
                await provider.aclose()

    asyncio.run(scenario())
    assert ["output_config" in row.body for row in server.seen] == [True, False, True]


def test_tools_of_the_caller_are_not_taken_away_for_a_schema() -> None:
    request = asked(tools=(Tool(name="w"),), response_format=JsonFormat(schema=SCHEMA))
    outgoing = built().outgoing(request, frozenset({"no_json_schema"}), stream=False)
    assert [tool["name"] for tool in outgoing.body["tools"]] == ["w"] and outgoing.adapted == ("json_schema",)
    assert outgoing.json_tool is None and "JSON Schema" in outgoing.body["system"]


def test_schemas_of_tools_are_enforced_where_the_model_can() -> None:
    problem = "tools.0.custom.strict: Extra inputs are not permitted"
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": problem}}
    server = Scripted(says(error, 400), says(message({"type": "text", "text": "a"})))
    found = run(server, asked(tools=(Tool(name="w", parameters=SCHEMA, strict=True), Tool(name="v"))))
    assert [row.body["tools"] for row in server.seen] == [
        [
            {"name": "w", "strict": True, "input_schema": closed(SCHEMA)},
            {"name": "v", "input_schema": {"type": "object"}},
        ],
        [{"name": "w", "input_schema": SCHEMA}, {"name": "v", "input_schema": {"type": "object"}}],
    ]
    assert found.adapted == ("strict",)


def test_the_api_s_number_of_tokens_has_a_default_that_can_be_set() -> None:
    assert body(asked())["max_tokens"] == 8192
    assert body(asked(), options={"max_tokens": 100})["max_tokens"] == 100
    assert body(asked(sampling=Sampling(max_tokens=0)))["max_tokens"] == 0


def test_key_and_version_are_presented_and_the_path_follows_the_address() -> None:
    server = Scripted(says(message({"type": "text", "text": "hello"})))
    assert run(server).text == "hello"
    seen = server.seen[0]
    assert seen.path == "/v1/messages" and seen.headers["x-api-key"] == CANARY
    assert seen.headers["anthropic-version"] == "2023-06-01" and "Authorization" not in seen.headers
    server = Scripted(says(message({"type": "text", "text": "hello"})))
    run(server, quirks=["bearer"])
    assert (
        server.seen[0].headers["Authorization"] == f"Bearer {CANARY}"
        and "x-api-key" not in server.seen[0].headers
    )
    assert built("http://h/v1").outgoing(asked(), frozenset(), stream=False).path == "messages"


def test_a_reply_is_read_completely() -> None:
    data = message(
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "I will "},
        {"type": "text", "text": "look"},
        {"type": "tool_use", "id": "1", "name": "w", "input": {"c": "北京"}},
        stop="tool_use",
    )
    data["usage"] |= {
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 20,
        "cache_creation": {"ephemeral_5m_input_tokens": 12, "ephemeral_1h_input_tokens": 8},
        "output_tokens_details": {"thinking_tokens": 2},
    }
    found = run(Scripted(says(data)))
    assert (found.text, found.reasoning, found.model) == ("I will look", "hm", "m-2026")
    assert found.tool_calls == (ToolCall(id="1", name="w", arguments='{"c": "北京"}'),)
    assert found.finish_reason == "tool_calls"
    assert found.usage == Usage(
        tokens_in=127,
        tokens_out=3,
        tokens_cached=100,
        tokens_reasoning=2,
        tokens_cache_write=20,
        tokens_cache_write_1h=8,
    )


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("pause_turn", "unknown"),
    ],
)
def test_reasons_to_stop_are_translated(word: str, reason: str) -> None:
    assert run(Scripted(says(message({"type": "text", "text": "a"}, stop=word)))).finish_reason == reason


def test_missing_usage_is_unknown() -> None:
    assert run(Scripted(says(message({"type": "text", "text": "a"}, usage=None)))).usage == Usage()


def test_a_stream_is_put_together() -> None:
    events = (
        BEGIN,
        {"type": "ping"},
        start(0, type="thinking", thinking=""),
        piece(0, type="thinking_delta", thinking="hm"),
        piece(0, type="signature_delta", signature="s"),
        stop(0),
        start(1, type="text", text=""),
        piece(1, type="text_delta", text="hel"),
        piece(1, type="text_delta", text="lo"),
        stop(1),
        start(2, type="tool_use", id="1", name="w", input={}),
        piece(2, type="input_json_delta", partial_json='{"c"'),
        piece(2, type="input_json_delta", partial_json=': "A"}'),
        stop(2),
        start(3, type="tool_use", id="2", name="t", input={}),
        stop(3),
        *END,
    )
    deltas = collect(streams(*events, named=True))
    assert "".join(delta.text for delta in deltas) == "hello"
    assert "".join(delta.reasoning for delta in deltas) == "hm"
    calls = [call for delta in deltas for call in delta.tool_calls]
    assert calls == [
        ToolCall(id="1", name="w", arguments='{"c": "A"}'),
        ToolCall(id="2", name="t", arguments="{}"),
    ]
    assert (deltas[-1].finish_reason, deltas[-1].model) == ("stop", "m-2")
    assert deltas[-1].usage == Usage(tokens_in=12, tokens_out=9, tokens_cached=5)


def test_the_text_that_ended_an_answer_is_named() -> None:
    found = run(
        Scripted(says(message({"type": "text", "text": "a"}, stop="stop_sequence", stop_sequence="END")))
    )
    assert (found.finish_reason, found.stop_sequence) == ("stop", "END")
    ended = {"type": "message_delta", "delta": {"stop_reason": "stop_sequence", "stop_sequence": "END"}}
    (last,) = collect(streams(BEGIN, ended, {"type": "message_stop"}, named=True))
    assert (last.finish_reason, last.stop_sequence) == ("stop", "END")


def test_an_input_that_is_given_as_its_block_starts_is_not_lost() -> None:
    given = start(0, type="tool_use", id="1", name="answer", input={"b": "好"})
    deltas = collect(streams(BEGIN, given, stop(0), *END, named=True))
    assert deltas[-1].tool_calls == (ToolCall(id="1", name="answer", arguments='{"b": "好"}'),)
    request = asked(response_format=JsonFormat(schema=SCHEMA))
    deltas = collect(streams(BEGIN, given, stop(0), *END, named=True), request, quirks=["no_json_schema"])
    assert "".join(delta.text for delta in deltas) == '{"b": "好"}'


def test_a_call_that_the_limit_cut_comes_with_the_reason() -> None:
    events = (
        BEGIN,
        start(0, type="tool_use", id="1", name="w", input={}),
        stop(0),
        start(1, type="tool_use", id="2", name="t", input={}),
        piece(1, type="input_json_delta", partial_json='{"c": "Be'),
        stop(1),
        {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    )
    first, last = collect(streams(*events, named=True))
    assert [call.id for call in first.tool_calls] == ["1"]
    assert last.finish_reason == "length"
    assert last.tool_calls == (ToolCall(id="2", name="t", arguments='{"c": "Be'),)


def test_a_stream_that_breaks_off_is_no_answer() -> None:
    with pytest.raises(BadReply):
        collect(streams(BEGIN, start(0, type="text", text="hel")), retries=0)


def test_an_overload_in_the_middle_of_a_stream_is_nobody_s_fault() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    with pytest.raises(RateLimited):
        collect(streams(BEGIN, piece(0, type="text_delta", text="hel"), error))


def test_an_overload_before_the_first_piece_is_waited_for() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    good = streams(BEGIN, piece(0, type="text_delta", text="hello"), *END)
    server = Scripted(streams(error), says(error, 529), good)

    async def scenario() -> list[Delta]:
        async with server.running() as url:
            provider = built(url, retries=0)
            try:
                return [delta async for delta in provider.stream(asked())]
            finally:
                await provider.aclose()

    assert "".join(delta.text for delta in asyncio.run(scenario())) == "hello"


def test_sampling_parameters_that_new_models_refuse_are_learnt() -> None:
    refusal = {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "`temperature` is deprecated for this model."},
    }
    server = Scripted(says(refusal, 400), says(message({"type": "text", "text": "a"})))
    found = run(server, asked(sampling=Sampling(temperature=0)))
    assert found.adapted == ("temperature",) and "temperature" not in server.seen[1].body


def test_a_refused_key_is_quoted_without_the_key() -> None:
    answer = {
        "type": "error",
        "error": {"type": "authentication_error", "message": f"invalid x-api-key {CANARY}"},
    }
    with pytest.raises(AuthenticationFailed) as caught:
        run(Scripted(says(answer, 401)))
    assert "invalid x-api-key" in str(caught.value) and CANARY not in str(caught.value)


def test_something_else_than_a_message_is_a_bad_reply() -> None:
    with pytest.raises(BadReply):
        run(Scripted(says(json.dumps({"choices": []}))), retries=0)


TOOL = Tool(name="w", parameters={"type": "object"})


@pytest.mark.parametrize(
    ("extra", "expected", "left_out"),
    [
        ({"reasoning_effort": "low"}, {"output_config": {"effort": "low"}}, []),
        ({"reasoning_effort": "minimal"}, {}, ["reasoning_effort"]),
        (
            {"parallel_tool_calls": False},
            {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
            [],
        ),
        ({"parallel_tool_calls": True}, {}, []),
        ({"user": "u"}, {"metadata": {"user_id": "u"}}, []),
        ({"user": "u", "safety_identifier": "s"}, {"metadata": {"user_id": "s"}}, []),
        ({"metadata": {"user_id": "m", "a": "b"}, "user": "u"}, {"metadata": {"user_id": "m"}}, []),
        ({"metadata": {"a": "b"}, "store": True, "logit_bias": {}}, {}, ["logit_bias", "metadata", "store"]),
        ({"top_k": 5, "thinking": {"type": "adaptive"}}, {"top_k": 5, "thinking": {"type": "adaptive"}}, []),
    ],
)
def test_fields_of_openais_chat_are_said_in_anthropics_words_or_left_out(
    extra: dict[str, Any], expected: dict[str, Any], left_out: list[str]
) -> None:
    request = asked(tools=(TOOL,))
    outgoing = built().outgoing(dataclasses.replace(request, extra=extra), frozenset(), stream=False)
    plainly = body(request)
    assert {name: value for name, value in outgoing.body.items() if name not in plainly} == expected
    assert sorted(outgoing.adapted) == left_out


def test_effort_and_a_schema_share_one_field() -> None:
    request = dataclasses.replace(
        asked(), response_format=JsonFormat(schema=SCHEMA), extra={"reasoning_effort": "max"}
    )
    config = body(request)["output_config"]
    assert config["effort"] == "max" and config["format"]["type"] == "json_schema"


def test_fields_of_anthropics_own_replace_nothing_that_was_said() -> None:
    system = Message(role="system", content="be safe")
    request = Request(model="m", messages=(system, *asked().messages), sampling=Sampling(stop=("a",)))
    for extra, field in (
        ({"system": "be bold"}, "system"),
        ({"stop_sequences": ["b"]}, "stop_sequences"),
        ({"reasoning_effort": "low", "output_config": {"effort": "max"}}, "output_config.effort"),
    ):
        with pytest.raises(RequestRefused) as caught:
            body(dataclasses.replace(request, extra=extra))
        assert str(caught.value).startswith(f"{field} ")
    shaped = dataclasses.replace(
        request, response_format=JsonFormat(schema=SCHEMA), extra={"output_config": {"effort": "low"}}
    )
    assert sorted(body(shaped)["output_config"]) == ["effort", "format"]
    assert body(dataclasses.replace(asked(), extra={"system": "be safe"}))["system"] == "be safe"


def test_a_client_that_wants_no_tool_is_not_told_how_many_at_once() -> None:
    request = dataclasses.replace(
        asked(tools=(TOOL,)), tool_choice="none", extra={"parallel_tool_calls": False}
    )
    assert body(request)["tool_choice"] == {"type": "none"}
