"""Requests and replies in the words of OpenAI and of those who imitate it."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from provider_doubles import asked, said, settings, vendor
from pydantic import TypeAdapter

from baimo.core.call import Delta, JsonFormat, Request, Sampling, Usage
from baimo.core.message import Message, Part, Tool, ToolCall
from baimo.errors import BadReply, ProviderError, RequestRefused
from baimo.providers.faults import Place
from baimo.providers.openai import OpenAIProvider, chat_body
from baimo.providers.openai_reply import ChunkReader, completion, usage
from baimo.providers.quirks import lasts, learnt
from baimo.providers.sse import Event
from baimo.providers.think import ThinkSplitter

PLACE = Place(host="h", model="m", key="")
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


def read(*chunks: dict[str, Any] | str, think_tags: bool = False) -> list[Delta]:
    reader = ChunkReader(PLACE, think_tags=think_tags)
    found: list[Delta] = []
    for chunk in chunks:
        data = chunk if isinstance(chunk, str) else json.dumps(chunk)
        found += reader.feed(Event("message", data))
    return [*found, *reader.close()]


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def test_a_plain_question_is_sent_without_anything_that_was_not_asked_for() -> None:
    assert chat_body(asked("hi")) == ({"model": "m", "messages": [{"role": "user", "content": "hi"}]}, ())


def test_every_part_of_a_request_is_sent() -> None:
    request = Request(
        model="m",
        messages=(
            Message(role="system", content="be brief"),
            Message(
                role="user",
                name="ann",
                content=(
                    Part(kind="text", data="what is this?"),
                    Part(kind="image_url", data="https://x.test/a.png"),
                    Part(kind="image_url", data="QUJD", media_type="image/jpeg"),
                    Part(kind="input_audio", data="UklG", media_type="audio/mpeg"),
                ),
            ),
            Message(role="assistant", tool_calls=(ToolCall(id="c1", name="f", arguments='{"x":1}'),)),
            Message(role="tool", tool_call_id="c1", content="42"),
        ),
        sampling=Sampling(temperature=0, top_p=0.5, max_tokens=9, stop=("END",), seed=7),
        tools=(Tool(name="f", description="d", parameters=SCHEMA), Tool(name="g")),
        tool_choice="f",
        response_format=JsonFormat(schema=SCHEMA),
        top_logprobs=2,
    )
    body, adapted = chat_body(request)
    assert adapted == ()
    assert body["messages"] == [
        {"role": "system", "content": "be brief"},
        {
            "role": "user",
            "name": "ann",
            "content": [
                {"type": "text", "text": "what is this?"},
                {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}},
                {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,QUJD"}},
                {"type": "input_audio", "input_audio": {"data": "UklG", "format": "mp3"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
            ],
        },
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
    ]
    assert {name: body[name] for name in ("temperature", "top_p", "max_tokens", "stop", "seed")} == {
        "temperature": 0,
        "top_p": 0.5,
        "max_tokens": 9,
        "stop": ["END"],
        "seed": 7,
    }
    assert body["tools"][1] == {
        "type": "function",
        "function": {"name": "g", "parameters": {"type": "object", "properties": {}}},
    }
    assert body["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
    }
    assert (body["logprobs"], body["top_logprobs"]) == (True, 2)


def test_the_types_of_the_official_sdk_accept_what_is_sent() -> None:
    request = Request(
        model="m",
        messages=(
            Message(role="system", content="be brief"),
            Message(
                role="user",
                content=(Part(kind="image_url", data="https://x.test"), Part(kind="text", data="?")),
            ),
            Message(role="assistant", tool_calls=(ToolCall(id="c1", name="f", arguments="{}"),)),
            Message(role="tool", tool_call_id="c1", content="42"),
        ),
        sampling=Sampling(temperature=0, top_p=0.5, max_tokens=9, stop=("END",), seed=7),
        tools=(Tool(name="f", parameters=SCHEMA), Tool(name="g")),
        tool_choice="f",
        response_format=JsonFormat(schema=SCHEMA),
        top_logprobs=2,
    )
    body, _ = chat_body(request)
    accepted: Any = TypeAdapter(CompletionCreateParamsNonStreaming).validate_python(body)
    assert accepted.keys() == body.keys(), "the SDK knows every field"


@pytest.mark.parametrize(
    ("quirk", "absent", "present", "adapted"),
    [
        ("max_completion_tokens", {"max_tokens"}, {"max_completion_tokens": 9}, ()),
        ("no_temperature", {"temperature", "top_p"}, {}, ("temperature", "top_p")),
        ("no_seed", {"seed"}, {}, ("seed",)),
        ("random_seed", {"seed"}, {"random_seed": 7}, ()),
        ("no_stop", {"stop"}, {}, ("stop",)),
        ("no_logprobs", {"logprobs", "top_logprobs"}, {}, ("logprobs",)),
        ("tool_choice_any", set[str](), {"tool_choice": "any"}, ()),
    ],
)
def test_quirks_change_what_is_sent_and_say_what_was_left_out(
    quirk: str, absent: set[str], present: dict[str, Any], adapted: tuple[str, ...]
) -> None:
    sampling = Sampling(temperature=0, top_p=0.5, max_tokens=9, stop=("END",), seed=7)
    request = asked(sampling=sampling, top_logprobs=1, tool_choice="required", tools=(Tool(name="f"),))
    body, changed = chat_body(request, frozenset({quirk}))
    assert not absent & body.keys()
    assert {name: body[name] for name in present} == present
    assert changed == adapted


def test_a_schema_that_cannot_be_enforced_is_told() -> None:
    request = asked(response_format=JsonFormat(schema=SCHEMA))
    body, adapted = chat_body(request, frozenset({"no_json_schema"}))
    assert body["response_format"] == {"type": "json_object"} and adapted == ("json_schema",)
    assert body["messages"][0]["role"] == "system" and json.dumps(SCHEMA).replace(" ", "") in str(
        body["messages"][0]
    )
    body, adapted = chat_body(request, frozenset({"no_json_object"}))
    assert "response_format" not in body and adapted == ("json_schema", "json_object")
    body, adapted = chat_body(request, frozenset({"no_plain_json", "no_json_schema"}))
    assert "response_format" not in body and adapted == ("json_schema", "json_object")
    body, adapted = chat_body(request, frozenset({"no_plain_json"}))
    assert body["response_format"]["type"] == "json_schema" and adapted == ()
    body, adapted = chat_body(request, frozenset({"no_strict"}))
    assert body["response_format"]["json_schema"]["strict"] is False and adapted == ("strict",)


def test_a_wish_for_json_joins_the_system_message_that_is_there() -> None:
    messages = (Message(role="system", content="be brief"), Message(role="user", content="hi"))
    request = Request(model="m", messages=messages, response_format=JsonFormat())
    body, _ = chat_body(request, frozenset({"no_json_object"}))
    assert [row["role"] for row in body["messages"]] == ["system", "user"]
    assert body["messages"][0]["content"].startswith("be brief\n\n")


def test_extra_fields_pass_through_and_the_example_does_not() -> None:
    provider = OpenAIProvider(vendor(), settings("http://h/v1"))
    request = asked(extra={"example": "ex-1", "enable_thinking": False, "seed": 3})
    body = provider.outgoing(request, frozenset(), stream=False).body
    assert body["enable_thinking"] is False and body["seed"] == 3 and "example" not in body


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_without_tools_there_is_nothing_to_choose(choice: str) -> None:
    assert "tool_choice" not in chat_body(asked(tool_choice=choice))[0]


@pytest.mark.parametrize("choice", ["required", "f"])
def test_a_call_demanded_without_tools_is_refused(choice: str) -> None:
    with pytest.raises(RequestRefused):
        chat_body(asked(tool_choice=choice))


def test_an_effort_that_the_model_does_not_take_is_left_out() -> None:
    provider = OpenAIProvider(vendor(), settings("http://h/v1"))
    request = asked(extra={"reasoning_effort": "max", "top_k": 1})
    outgoing = provider.outgoing(request, frozenset({"no_effort"}), stream=False)
    assert "reasoning_effort" not in outgoing.body and outgoing.adapted == ("reasoning_effort",)
    assert provider.outgoing(request, frozenset(), stream=False).body["reasoning_effort"] == "max"


def test_streams_ask_for_usage_unless_the_server_refuses_to_hear_of_it() -> None:
    provider = OpenAIProvider(vendor(), settings("http://h/v1"))
    assert provider.outgoing(asked(), frozenset(), stream=True).body["stream_options"] == {
        "include_usage": True
    }
    assert (
        "stream_options" not in provider.outgoing(asked(), frozenset({"no_stream_options"}), stream=True).body
    )


def test_azure_has_its_own_path_and_header_for_dated_versions_only() -> None:
    options = {"resource": "r1", "api_version": "2025-01-01"}
    azure = vendor(base_url="https://{resource}.openai.azure.com", quirks=("azure",))
    provider = OpenAIProvider(azure, settings(options=options))
    outgoing = provider.outgoing(asked(), provider.quirks, stream=False)
    assert outgoing.path == "openai/deployments/m/chat/completions"
    assert outgoing.query == {"api-version": "2025-01-01"} and str(provider.base).startswith(
        "https://r1.openai"
    )
    assert provider.key_headers("k") == {"api-key": "k"}
    current = OpenAIProvider(azure, settings("https://r1.openai.azure.com/openai/v1"))
    assert current.outgoing(asked(), current.quirks, stream=False)[::5] == ("chat/completions", None)


def test_a_reply_is_read_completely() -> None:
    data = said("hello")
    data["choices"][0]["logprobs"] = {
        "content": [
            {
                "token": "he",
                "logprob": -0.1,
                "top_logprobs": [{"token": "he", "logprob": -0.1}, {"token": "x"}],
            },
            {"token": "broken"},
        ]
    }
    data["usage"] |= {
        "prompt_tokens_details": {"cached_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    found = completion(data, PLACE)
    assert (found.text, found.finish_reason, found.model) == ("hello", "stop", "m-2026")
    assert found.usage == Usage(tokens_in=7, tokens_out=3, tokens_cached=5, tokens_reasoning=1)
    assert found.logprobs is not None and [row.token for row in found.logprobs] == ["he"]
    assert found.logprobs[0].top == (("he", -0.1),)


@pytest.mark.parametrize(
    ("row", "counts"),
    [
        (None, None),
        ({}, None),
        ({"prompt_tokens": "7"}, None),
        ({"prompt_tokens": 7}, (7, None, None, None)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, (0, 0, None, None)),
        ({"prompt_tokens": 7, "completion_tokens": -1}, (7, None, None, None)),
        ({"prompt_tokens": True, "completion_tokens": 3}, (None, 3, None, None)),
        (
            {"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 4},
            (9, 1, 4, None),
        ),  # DeepSeek
        ({"prompt_tokens": 9, "completion_tokens": 1, "cached_tokens": 4}, (9, 1, 4, None)),  # Moonshot
        (  # xAI: reasoning is billed but not part of completion_tokens
            {
                "prompt_tokens": 9,
                "completion_tokens": 1,
                "total_tokens": 30,
                "completion_tokens_details": {"reasoning_tokens": 20},
            },
            (9, 21, None, 20),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 3}, (9, 1, None, None)),
        ({"prompt_tokens": 1 << 63, "completion_tokens": 1, "cached_tokens": 1e300}, (None, 1, None, None)),
        ({"prompt_tokens": float("inf"), "completion_tokens": float("nan")}, None),
    ],
)
def test_tokens_that_nobody_counted_are_unknown_and_none_are_lost(
    row: Any, counts: tuple[int | None, ...] | None
) -> None:
    found = usage(row)
    if counts is None:
        assert found is None
    else:
        assert found is not None
        assert (found.tokens_in, found.tokens_out, found.tokens_cached, found.tokens_reasoning) == counts


@pytest.mark.parametrize(
    ("message", "text", "reasoning"),
    [
        ({"content": "a", "reasoning_content": "r"}, "a", "r"),
        ({"content": "a", "reasoning": "r"}, "a", "r"),
        ({"content": None}, "", None),
        ({"content": "<think>r</think>a"}, "<think>r</think>a", None),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "r"}]},
                    {"type": "text", "text": "a"},
                ]
            },
            "a",
            "r",
        ),
    ],
)
def test_reasoning_is_kept_apart_however_it_is_sent(
    message: dict[str, Any], text: str, reasoning: str | None
) -> None:
    found = completion({"choices": [{"message": message, "finish_reason": "stop"}]}, PLACE)
    assert (found.text, found.reasoning) == (text, reasoning)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", "stop"),
        ("eos", "stop"),
        ("model_length", "length"),
        ("sensitive", "content_filter"),
        ("new", "unknown"),
    ],
)
def test_reasons_to_stop_are_translated(word: str, reason: str) -> None:
    assert (
        completion({"choices": [{"message": {"content": "a"}, "finish_reason": word}]}, PLACE).finish_reason
        == reason
    )


def test_a_refusal_of_the_model_is_its_text() -> None:
    data = {"choices": [{"message": {"content": None, "refusal": "I cannot"}, "finish_reason": "stop"}]}
    found = completion(data, PLACE)
    assert (found.text, found.finish_reason, found.refused) == ("I cannot", "content_filter", True)


def test_a_streamed_refusal_is_told_from_an_answer() -> None:
    deltas = read(
        chunk({"role": "assistant", "content": "", "refusal": None}),
        chunk({"refusal": "I "}),
        chunk({"refusal": "cannot"}),
        chunk({}, "stop"),
    )
    assert [(delta.text, delta.refused) for delta in deltas] == [("I ", True), ("cannot", True), ("", True)]
    assert deltas[-1].finish_reason == "content_filter"
    assert not read(chunk({"content": "a"}, "stop"))[-1].refused


@pytest.mark.parametrize("data", [{"choices": []}, {}, {"choices": None}, {"object": "list"}])
def test_a_reply_without_choices_is_no_reply(data: dict[str, Any]) -> None:
    with pytest.raises(BadReply):
        completion(data, PLACE)


@pytest.mark.parametrize("word", ["insufficient_system_resource", "network_error"])
def test_an_interrupted_generation_is_not_an_answer(word: str) -> None:
    with pytest.raises(BadReply):
        completion({"choices": [{"message": {"content": "hal"}, "finish_reason": word}]}, PLACE)


def test_tool_calls_are_read_even_where_arguments_are_an_object_and_the_reason_says_stop() -> None:
    calls = [{"id": "c1", "function": {"name": "f", "arguments": {"x": "好"}}}]
    data = {"choices": [{"message": {"content": None, "tool_calls": calls}, "finish_reason": "stop"}]}
    found = completion(data, PLACE)
    assert found.tool_calls == (ToolCall(id="c1", name="f", arguments='{"x": "好"}'),)
    assert found.finish_reason == "tool_calls"


def test_a_stream_is_put_together_with_its_usage() -> None:
    deltas = read(
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "hm"}),
        chunk({"content": "he"}),
        chunk({"content": "llo"}),
        chunk({}, "stop"),
        {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}},
        "[DONE]",
    )
    assert "".join(delta.text for delta in deltas) == "hello" and deltas[0].reasoning == "hm"
    assert deltas[-1].finish_reason == "stop" and deltas[-1].usage == Usage(tokens_in=7, tokens_out=3)


@pytest.mark.parametrize(
    "last",
    [
        {
            "choices": [
                {"delta": {}, "finish_reason": "stop", "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
            ]
        },
        {**chunk({}, "stop"), "x_groq": {"usage": {"prompt_tokens": 7, "completion_tokens": 3}}},
        {**chunk({}, "stop"), "usage": {"prompt_tokens": 7, "completion_tokens": 3}},
    ],
)
def test_usage_is_found_wherever_a_stream_puts_it(last: dict[str, Any]) -> None:
    assert read(chunk({"content": "a"}), last)[-1].usage == Usage(tokens_in=7, tokens_out=3)


@given(st.lists(st.integers(1, 20), max_size=6))
def test_tool_calls_are_assembled_from_any_pieces(cuts: list[int]) -> None:
    wanted = [
        ToolCall(id="a", name="f", arguments='{"x": 1}'),
        ToolCall(id="b", name="g", arguments='{"y": "two"}'),
    ]
    chunks: list[dict[str, Any]] = []
    for index, call in enumerate(wanted):
        head = {"index": index, "id": call.id, "function": {"name": call.name, "arguments": ""}}
        chunks.append(chunk({"tool_calls": [head]}))
        places = sorted({cut % (len(call.arguments) + 1) for cut in cuts} | {0, len(call.arguments)})
        for start, end in pairwise(places):
            piece = {"index": index, "function": {"arguments": call.arguments[start:end]}}
            chunks.append(chunk({"tool_calls": [piece]}))
    deltas = read(*chunks, chunk({}, "tool_calls"), "[DONE]")
    assert [call for delta in deltas for call in delta.tool_calls] == wanted
    assert deltas[-1].finish_reason == "tool_calls"


def test_whole_tool_calls_without_an_index_stay_apart() -> None:
    deltas = read(
        chunk({"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]}),
        chunk({"tool_calls": [{"id": "b", "function": {"name": "f", "arguments": "{}"}}]}, "stop"),
    )
    assert [call.id for call in deltas[-1].tool_calls] == ["a", "b"] and deltas[
        -1
    ].finish_reason == "tool_calls"


def test_calls_that_all_have_the_number_0_stay_apart() -> None:
    deltas = read(
        chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":1}'}}]}),
        chunk({"tool_calls": [{"index": 0, "id": "b", "function": {"name": "g", "arguments": '{"y":'}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": "2}"}}]}, "tool_calls"),
    )
    assert deltas[-1].tool_calls == (
        ToolCall(id="a", name="f", arguments='{"x":1}'),
        ToolCall(id="b", name="g", arguments='{"y":2}'),
    )


@pytest.mark.parametrize("place", [{"index": 0}, {}])
def test_a_call_whose_pieces_have_different_ids_is_one_call(place: dict[str, int]) -> None:
    deltas = read(
        chunk({"tool_calls": [{**place, "id": "a", "function": {"name": "f", "arguments": ""}}]}),
        chunk({"tool_calls": [{**place, "id": "b", "function": {"arguments": '{"x":'}}]}),
        chunk({"tool_calls": [{**place, "id": "c", "function": {"arguments": "1}"}}]}, "tool_calls"),
    )
    assert deltas[-1].tool_calls == (ToolCall(id="a", name="f", arguments='{"x":1}'),)


def test_a_call_without_an_id_is_not_given_one_that_the_next_turn_has_too() -> None:
    piece = {"index": 0, "function": {"name": "f", "arguments": "{}"}}
    assert read(chunk({"tool_calls": [piece]}, "tool_calls"))[-1].tool_calls[0].id == ""


@pytest.mark.parametrize(
    "chunks",
    [
        (chunk({"content": "hel"}),),
        (),
        (chunk({"content": "hel"}), '{"choices": [{"del'),
        (chunk({"content": "hel"}), {"error": {"message": "boom", "code": 500}}),
        (chunk({"content": "hel"}), "upstream connect error"),
    ],
)
def test_a_stream_that_breaks_off_is_no_answer(chunks: tuple[dict[str, Any] | str, ...]) -> None:
    with pytest.raises(ProviderError):
        read(*chunks)


@given(
    st.sampled_from(
        [
            "<think>why\nso</think>\n\nbecause <think> not",
            "  <think>all</think>",
            "<think>cut",
            "no tags <",
            "<thin",
        ]
    ),
    st.lists(st.integers(0, 60), max_size=20),
)
def test_think_tags_are_split_the_same_however_the_text_is_cut(text: str, cuts: list[int]) -> None:
    def split(places: list[int]) -> tuple[str, str]:
        splitter = ThinkSplitter()
        pieces = [splitter.feed(text[a:b]) for a, b in zip([0, *places], [*places, len(text)], strict=True)]
        pieces.append(splitter.close())
        return "".join(piece[0] for piece in pieces), "".join(piece[1] for piece in pieces)

    wanted = {
        "<think>why\nso</think>\n\nbecause <think> not": ("why\nso", "because <think> not"),
        "  <think>all</think>": ("all", ""),
        "<think>cut": ("cut", ""),
        "no tags <": ("", "no tags <"),
        "<thin": ("", "<thin"),
    }[text]
    assert split([]) == wanted
    assert split(sorted({cut % (len(text) + 1) for cut in cuts})) == wanted


def test_think_tags_become_reasoning_where_the_vendor_is_known_for_them() -> None:
    data = said("<think>hm</think>yes")
    assert completion(data, PLACE, think_tags=True).reasoning == "hm"
    deltas = read(chunk({"content": "<thi"}), chunk({"content": "nk>hm</think>yes"}, "stop"), think_tags=True)
    assert ("".join(d.text for d in deltas), "".join(d.reasoning for d in deltas)) == ("yes", "hm")


@pytest.mark.parametrize(
    ("refusal", "sent", "quirk"),
    [
        (
            "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.",
            {"max_tokens": 9},
            "max_completion_tokens",
        ),
        (
            "Unsupported value: 'temperature' does not support 0. Only the default (1) value is supported.",
            {"temperature": 0},
            "no_temperature",
        ),
        ("`temperature` is deprecated for this model.", {"temperature": 0}, "no_temperature"),
        ('{"detail":[{"type":"extra_forbidden","loc":["body","seed"]}]}', {"seed": 1}, "no_seed"),
        ("This response_format type is unavailable now", {"response_format": {}}, "no_json_schema"),
        (
            "Invalid schema for response_format 'answer': 'additionalProperties' is required",
            {"response_format": {}},
            "no_strict",
        ),
        (
            "'response_format' of type 'json_object' is not supported",
            {"response_format": {"type": "json_object"}},
            "no_plain_json",
        ),
        (
            "output_config.effort: not supported",
            {"output_config": {"effort": "low", "format": {}}},
            "no_effort",
        ),
        (
            "Unsupported parameter: 'reasoning_effort' is not supported with this model.",
            {"reasoning_effort": "low"},
            "no_effort",
        ),
        (
            "reasoning_effort: Input should be 'low', 'medium' or 'high'",
            {"reasoning_effort": "xhigh"},
            "no_effort",
        ),
        ("`reasoning_effort` must be one of [low, high]", {"reasoning_effort": "minimal"}, "no_effort"),
        ("output_config: not supported", {"output_config": {"effort": "low"}}, None),
        ("This model only supports streaming mode", {}, "stream_only"),
        ('Invalid JSON payload received. Unknown name "seed": Cannot find field.', {"seed": 1}, "no_seed"),
        ("temperature must be between 0 and 2", {"temperature": 9}, None),
        ("Unsupported parameter: temperature", {}, None),
        ("max_tokens is too large: 99999. This model supports at most 4096", {"max_tokens": 99999}, None),
        ("prompt is too long", {"temperature": 0}, None),
    ],
)
def test_a_refusal_teaches_what_it_names_and_nothing_else(
    refusal: str, sent: dict[str, Any], quirk: str | None
) -> None:
    assert learnt(refusal, sent, frozenset()) == quirk
    if quirk is not None:
        assert learnt(refusal, sent, frozenset({quirk})) != quirk, "nothing is learnt twice"


@pytest.mark.parametrize(
    ("quirk", "refusal", "lasting"),
    [
        ("no_seed", "seed: not supported", True),
        ("no_strict", "Invalid schema for response_format 'answer'", False),
        ("no_json_schema", "'response_format' of type 'json_schema' is not supported", True),
        ("no_json_schema", "output_config: Extra inputs are not permitted", True),
        (
            "no_json_schema",
            "output_config.format.schema: property 'minimum' is not supported",
            False,
        ),
        ("no_json_schema", "output_config.format: 'minimum' is not supported", False),
        (
            "no_effort",
            "Unsupported parameter: 'reasoning_effort' is not supported with this model.",
            True,
        ),
        ("no_effort", "Unsupported value: 'reasoning_effort' does not support 'max'", False),
        ("no_effort", "reasoning_effort: Input should be 'low', 'medium' or 'high'", False),
        ("no_effort", "`reasoning_effort` must be one of [low, high]", False),
        ("no_effort", "Function tools with reasoning_effort are not supported", False),
        ("no_strict_tools", "tools.0.custom.strict: Extra inputs are not permitted", True),
        ("no_strict_tools", "tools.0.custom: property 'minimum' is not supported", False),
        ("no_plain_json", "'response_format' of type 'json_object' is not supported", True),
        ("no_plain_json", "response_format is not supported together with tools", False),
    ],
)
def test_what_a_refusal_says_of_one_schema_holds_for_one_request(
    quirk: str, refusal: str, lasting: bool
) -> None:
    assert lasts(quirk, refusal) == lasting
