"""Chat completions with the official OpenAI SDK as client and judge of shapes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from baimo.core.call import Completion, Delta, JsonFormat, Request, Sampling, TokenLogprob, Usage
from baimo.core.message import Message, Part, Tool, ToolCall
from baimo.errors import BadReply, BaimoError, CallRefused, RateLimited
from baimo.providers.faults import Place
from baimo.providers.openai import chat_body
from baimo.providers.openai_reply import ChunkReader, completion
from baimo.providers.sse import SseParser
from baimo.server.surfaces.chat import Chat
from tests.server.surfaces.counting import counted
from tests.server.surfaces.endpoint import CALL, CREATED, Endpoint, listening, streamed

PLACE = Place(host="h", model="m", key="")
USAGE = Usage(tokens_in=100, tokens_out=12, tokens_cached=60, tokens_cache_write=10, tokens_reasoning=4)
CALLS = (
    ToolCall(id="call_1", name="weather", arguments='{"city": "北京"}'),
    ToolCall(id="call_2", name="clock", arguments=""),
)
SAID = [
    Delta(reasoning="Let me "),
    Delta(reasoning="think."),
    Delta(text="It is "),
    Delta(text="sunny 晴."),
    Delta(finish_reason="stop", usage=USAGE),
]
CALLED = [Delta(text="Looking."), Delta(tool_calls=CALLS, finish_reason="tool_calls", usage=USAGE)]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        "strict": True,
    },
}
ASKED: list[Any] = [{"role": "user", "content": "Weather?"}]


@contextmanager
def served(script: Sequence[Delta | BaimoError]) -> Iterator[tuple[openai.OpenAI, Endpoint]]:
    endpoint = Endpoint(Chat(), lambda _: script)
    with (
        listening(endpoint) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="k", max_retries=0) as client,
    ):
        yield client, endpoint


def body_of(**fields: Any) -> bytes:
    return json.dumps({"model": "asked", "messages": ASKED, **fields}).encode()


def neutral(**fields: Any) -> Request:
    body = body_of(**fields)
    return Chat().request(body, Chat().peek(body, {}), model="m")


def peeked(**fields: Any) -> Any:
    return Chat().peek(body_of(**fields), {})


# peek


def test_admission_learns_what_it_needs() -> None:
    peek = peeked(stream=True, max_tokens=5, n=3, stream_options={"include_usage": True})
    assert (peek.model, peek.stream, peek.max_tokens, peek.answers) == ("asked", True, 5, 3)
    assert (peek.wants_usage, peek.deterministic, peek.attachments) == (True, False, 0)
    assert peeked().deterministic
    assert not peeked(store=True).deterministic
    assert Chat().peek(b'{"messages": []}', {}).model == ""


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({}, None),
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 9}, 9),
        ({"max_tokens": 7, "max_completion_tokens": 9}, 9),
        ({"max_tokens": 9, "max_completion_tokens": 7}, 9),
        ({"max_tokens": None, "max_completion_tokens": 7}, 7),
        (
            {"max_tokens": 9, "prediction": "12345"},
            16,
        ),  # tokens of a prediction that was wrong are billed as well
    ],
)
def test_the_larger_limit_of_the_answer_counts(fields: dict[str, Any], most: int | None) -> None:
    assert peeked(**fields).max_tokens == most


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_an_answer_of_no_tokens_is_refused_as_openai_does(field: str) -> None:
    with pytest.raises(CallRefused) as caught:
        peeked(**{field: 0})
    assert caught.value.facts["field"] == field


def test_drafts_that_are_thrown_away_are_answers_too() -> None:
    assert peeked(n=2, best_of=5).answers == 5


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000, "detail": "low"}}
SOUND = {"type": "input_audio", "input_audio": {"data": "B" * 10_000, "format": "mp3"}}
FILE = {"type": "file", "file": {"file_data": "C" * 10_000}}
VIDEO = {"type": "video_url", "video_url": {"url": "https://example.com/v.mp4"}}
TEXT = {"type": "text", "text": "look"}


def test_everything_that_is_no_text_is_counted_and_its_data_is_not() -> None:
    messages = [
        {"role": "user", "content": [TEXT, IMAGE, SOUND]},
        {"role": "tool", "tool_call_id": "c", "content": [FILE, VIDEO, TEXT]},
        {"role": "assistant", "content": None},
    ]
    peek = peeked(messages=messages)
    assert peek.attachments == 4
    assert peek.text_bytes < 2500


def test_what_the_vendors_own_tools_find_is_counted_like_an_attachment() -> None:
    assert peeked(tools=[WEATHER, {"type": "custom", "custom": {"name": "x"}}]).attachments == 0
    assert peeked(tools=[WEATHER, {"type": "web_search"}]).attachments == 1
    assert peeked(web_search_options={}).attachments == 1
    assert peeked(web_search_options=None, tools=None).attachments == 0


def test_an_attachment_cannot_hide_behind_escapes() -> None:
    body = body_of(messages=[{"role": "user", "content": [IMAGE]}]).replace(
        b'"image_url", ', b'"image\\u005furl", '
    )
    body = body.replace(b'"type"', b'"typ\\u0065"')
    assert Chat().peek(body, {}).attachments == 1


@given(
    st.lists(
        st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), st.text(max_size=30)), max_size=6
    ),
    st.booleans(),
    st.booleans(),
)
def test_no_tokenizer_makes_more_tokens_than_the_bound(
    turns: list[tuple[str, str]], escaped: bool, tools: bool
) -> None:
    fields: dict[str, Any] = {"messages": [{"role": role, "content": said} for role, said in turns]}
    if tools:
        fields |= {
            "tools": [WEATHER],
            "response_format": {"type": "json_schema", "json_schema": {"name": "x"}},
        }
    try:
        body = json.dumps(fields, ensure_ascii=escaped).encode()
    except UnicodeEncodeError:
        return
    worst = sum(len(f"<|im_start|>{role}\n{said}<|im_end|>\n".encode()) for role, said in turns)
    worst += len(json.dumps(WEATHER, ensure_ascii=False)) + 1000 if tools else 0
    try:
        assert Chat().peek(body, {}).text_bytes >= worst
    except CallRefused:
        assert "\\ud" in body.decode()


def test_turns_of_one_conversation_share_their_beginning() -> None:
    first = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [TEXT, IMAGE]}]
    later = [*first, {"role": "assistant", "content": "ok"}, {"role": "user", "content": "And now?"}]
    other = [first[0], {"role": "user", "content": "Something else"}]
    assert peeked(messages=first).opening == peeked(messages=later).opening
    assert peeked(messages=first).opening != peeked(messages=other).opening


# sent, seen


def sent(
    fields: dict[str, Any], *, max_tokens: int | None = None, quirks: frozenset[str] = frozenset()
) -> Any:
    body = body_of(**fields)
    return json.loads(
        Chat().sent(body, Chat().peek(body, {}), model="up", max_tokens=max_tokens, quirks=quirks)
    )


def test_a_body_is_sent_as_it_came_with_the_models_own_name() -> None:
    fields = {"temperature": 0.1, "top_k": 5, "tools": [WEATHER], "metadata": {"model": "decoy"}}
    assert sent(fields) == {"model": "up", "messages": ASKED, **fields}


def test_usage_is_asked_for_in_streams_and_only_there() -> None:
    assert sent({"stream": True})["stream_options"] == {"include_usage": True}
    assert "stream_options" not in sent({})
    given = {"include_obfuscation": False, "include_usage": False}
    assert sent({"stream": True, "stream_options": given})["stream_options"] == {
        **given,
        "include_usage": True,
    }
    assert sent({"stream": True, "stream_options": None})["stream_options"] == {"include_usage": True}
    wanted = {"include_usage": True, "x": 1}
    assert sent({"stream": True, "stream_options": wanted})["stream_options"] == wanted
    assert "stream_options" not in sent({"stream": True}, quirks=frozenset({"no_stream_options"}))


def test_a_limit_of_ours_never_replaces_the_clients() -> None:
    assert sent({}, max_tokens=50)["max_tokens"] == 50
    assert sent({"max_tokens": None}, max_tokens=50)["max_tokens"] == 50
    assert sent({"max_tokens": 7}, max_tokens=50)["max_tokens"] == 7
    assert "max_tokens" not in sent({"max_completion_tokens": 7}, max_tokens=50)
    named = sent({}, max_tokens=50, quirks=frozenset({"max_completion_tokens"}))
    assert (named.get("max_tokens"), named["max_completion_tokens"]) == (None, 50)
    own = sent({"max_tokens": 7}, max_tokens=None, quirks=frozenset({"max_completion_tokens"}))
    assert (own.get("max_tokens"), own["max_completion_tokens"]) == (None, 7)


COUNTS = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (COUNTS, Usage(tokens_in=10, tokens_out=5)),
        (
            {
                **COUNTS,
                "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 2, "rejected_prediction_tokens": 0},
            },
            Usage(tokens_in=10, tokens_out=5, tokens_cached=4, tokens_reasoning=2, tokens_cache_write=1),
        ),
        # xAI and Gemini leave reasoning out of completion_tokens
        ({**COUNTS, "total_tokens": 20}, Usage(tokens_in=10, tokens_out=10)),
        ({**COUNTS, "prompt_cache_hit_tokens": 6}, Usage(tokens_in=10, tokens_out=5, tokens_cached=6)),
        ({"prompt_tokens": 10.0, "completion_tokens": 5.0}, Usage(tokens_in=10, tokens_out=5)),
        ({"prompt_tokens": 10}, Usage(tokens_in=10)),
        ({"prompt_tokens": -1, "completion_tokens": True}, None),
        ("many", None),
        (None, None),
    ],
)
def test_usage_of_a_whole_answer_is_read_in_every_spelling(usage: Any, expected: Usage | None) -> None:
    body = {
        "model": "up-1",
        "usage": usage,
        "choices": [{"finish_reason": "length", "message": {"content": "x"}}],
    }
    seen = Chat().seen(json.dumps(body).encode())
    assert (counted(seen), seen.model, seen.finish_reason) == (expected, "up-1", "length")


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"usage": {"prompt_tokens": 1', b"\xff", b"[" * 99_999]
)
def test_what_cannot_be_read_is_unknown(body: bytes) -> None:
    assert Chat().seen(body).usage is None


# request


def test_a_request_in_full_is_understood() -> None:
    request = neutral(
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "name": "Ann", "content": [TEXT, IMAGE, SOUND]},
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "dropped",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "sunny"}]},
            {"role": "assistant", "content": None, "refusal": "I will not."},
        ],
        temperature=0,
        top_p=0.5,
        max_completion_tokens=9,
        stop="END",
        seed=-3,
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
        logprobs=True,
        top_logprobs=2,
        user="u1",
        top_k=4,
        presence_penalty=None,
        MODEL="smuggled",
    )
    assert request.messages == (
        Message(role="system", content="Be brief."),
        Message(
            role="user",
            name="Ann",
            content=(
                Part(kind="text", data="look"),
                Part(kind="image_url", data=IMAGE["image_url"]["url"], detail="low"),  # type: ignore[index]
                Part(kind="input_audio", data="B" * 10_000, media_type="audio/mpeg"),
            ),
        ),
        Message(role="assistant", tool_calls=(ToolCall(id="c1", name="weather", arguments="{}"),)),
        Message(role="tool", tool_call_id="c1", content=(Part(kind="text", data="sunny"),)),
        Message(role="assistant", content="I will not."),
    )
    assert request.sampling == Sampling(temperature=0, top_p=0.5, max_tokens=9, stop=("END",), seed=-3)
    assert request.tools == (
        Tool(
            name="weather",
            description="Weather of a city.",
            parameters=WEATHER["function"]["parameters"],
            strict=True,
        ),
    )
    assert (request.tool_choice, request.top_logprobs, request.model) == ("required", 2, "m")
    assert request.extra == {"parallel_tool_calls": False, "user": "u1", "top_k": 4}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        (None, None),
        ({"type": "function", "function": {"name": "weather"}}, "weather"),
    ],
)
def test_every_way_to_choose_a_tool_is_understood(choice: Any, expected: str | None) -> None:
    assert neutral(tools=[WEATHER], tool_choice=choice).tool_choice == expected


def test_of_allowed_tools_the_others_are_not_shown() -> None:
    clock = {"type": "function", "function": {"name": "clock"}}
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "clock"}}]}
    request = neutral(tools=[WEATHER, clock], tool_choice={"type": "allowed_tools", "allowed_tools": allowed})
    assert ([tool.name for tool in request.tools], request.tool_choice) == (["clock"], "required")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, JsonFormat()),
        (
            {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
            },
            JsonFormat(schema={"type": "object"}, name="n", strict=True),
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "description": "d"}},
            JsonFormat(schema={"description": "d"}, name="n", strict=False),
        ),
    ],
)
def test_formats_of_the_answer_are_understood(wanted: dict[str, Any], expected: JsonFormat | None) -> None:
    assert neutral(response_format=wanted).response_format == expected


def test_functions_of_before_tools_are_tools() -> None:
    function = WEATHER["function"]
    messages = [
        *ASKED,
        {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": "{}"}},
        {"role": "function", "name": "weather", "content": "sunny"},
    ]
    request = neutral(messages=messages, functions=[function], function_call={"name": "weather"})
    assert [tool.name for tool in request.tools] == ["weather"]
    assert request.tool_choice == "weather"
    assert request.messages[1].tool_calls[0].id == request.messages[2].tool_call_id
    peek = peeked(functions=[function])
    answer = json.loads(
        Chat().answer(
            Completion(text="", tool_calls=CALLS[:1], finish_reason="tool_calls"), peek, id="i", created_s=1
        )
    )
    choice = ChatCompletion.model_validate(answer).choices[0]
    assert choice.finish_reason == "function_call"
    assert choice.message.function_call is not None
    assert choice.message.function_call.arguments == CALLS[0].arguments
    assert choice.message.tool_calls is None
    chunks = rows(streamed(Chat(), peek, CALLED))
    assert [
        one.choices[0].delta.function_call.name for one in chunks if one.choices[0].delta.function_call
    ] == ["weather"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [{"role": "user", "content": [FILE]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [VIDEO]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].name"),
        ({"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, "messages[0].audio"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"type": "custom", "id": "c"}]}]},
            "messages[0].tool_calls[0].type",
        ),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "auto"}}}, "tool_choice"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"temperature": "hot"}, "temperature"),
        ({"stop": [1]}, "stop"),
        ({"stream": True, "logprobs": True}, "logprobs"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_neutrally_is_refused_by_name(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(CallRefused) as caught:
        neutral(**fields)
    assert caught.value.facts["field"].removesuffix("[0]") == field.removesuffix("[0]")
    assert field in str(caught.value) or field.startswith("stop")
    error = json.loads(Chat().refusal(caught.value, request_id="r"))["error"]
    assert error["param"] == caught.value.facts["field"]
    assert error["type"] == "invalid_request_error"


names = st.text("abcXYZ_09", min_size=1, max_size=8)
texts = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)
parts = st.lists(
    st.one_of(
        st.builds(lambda said: {"type": "text", "text": said}, texts),
        st.builds(
            lambda detail: {"type": "image_url", "image_url": {"url": "https://x.example/a.png", **detail}},
            st.sampled_from([{}, {"detail": "high"}]),
        ),
        st.builds(
            lambda form: {"type": "input_audio", "input_audio": {"data": "QUJD", "format": form}},
            st.sampled_from(["wav", "mp3"]),
        ),
    ),
    min_size=1,
    max_size=3,
)
calls = st.lists(
    st.builds(
        lambda id, name, given: {"id": id, "type": "function", "function": {"name": name, "arguments": given}},
        names, names, texts,
    ),
    min_size=1, max_size=2,
)  # fmt: skip
turns = st.lists(
    st.one_of(
        st.builds(lambda said: {"role": "system", "content": said}, texts),
        st.builds(lambda said: {"role": "user", "content": said}, texts | parts),
        st.builds(lambda said: {"role": "assistant", "content": said}, texts),
        st.builds(lambda made: {"role": "assistant", "content": None, "tool_calls": made}, calls),
        st.builds(lambda said, id: {"role": "tool", "content": said, "tool_call_id": id}, texts, names),
    ),
    min_size=1,
    max_size=5,
)
optional: Any = {
    "temperature": st.sampled_from([0, 0.5, 1.5]),
    "top_p": st.sampled_from([0.1, 1]),
    "max_tokens": st.integers(1, 99),
    "stop": st.lists(st.text("ab", min_size=1), min_size=1, max_size=2),
    "seed": st.integers(-9, 9),
    "tools": st.just([WEATHER]),
    "tool_choice": st.sampled_from(
        ["auto", "none", "required", {"type": "function", "function": {"name": "weather"}}]
    ),
    "response_format": st.sampled_from(
        [
            {"type": "json_object"},
            {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": False},
            },
        ]
    ),
}


def sayable(fields: dict[str, Any]) -> bool:
    return "tools" in fields or "tool_choice" not in fields


@given(turns, st.fixed_dictionaries({}, optional=optional).filter(sayable))
def test_what_goes_through_the_neutral_request_arrives_as_it_left(
    messages: list[dict[str, Any]], fields: dict[str, Any]
) -> None:
    request = neutral(messages=messages, **fields)
    body, adapted = chat_body(request)
    assert body == {"model": "m", "messages": messages, **fields}
    assert adapted == ()


# answer, events


def rows(stream: bytes) -> list[ChatCompletionChunk]:
    events = [event.data for event in SseParser().feed(stream)]
    assert events[-1] == "[DONE]"
    return [ChatCompletionChunk.model_validate_json(data, strict=True) for data in events[:-1]]


def test_a_whole_answer_is_what_the_sdk_expects() -> None:
    with served(SAID) as (client, _):
        answer = client.chat.completions.create(model="asked", messages=ASKED)
    ChatCompletion.model_validate(answer.model_dump(), strict=True)
    assert (answer.model, answer.id, answer.created) == ("asked", f"chatcmpl-{CALL}", CREATED)
    assert answer.choices[0].message.content == "It is sunny 晴."
    assert answer.choices[0].message.reasoning_content == "Let me think."  # type: ignore[attr-defined]
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (
        100,
        12,
        112,
    )
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 60


def test_a_stream_is_what_the_sdk_expects() -> None:
    with served(CALLED) as (client, endpoint):
        with client.chat.completions.stream(
            model="asked", messages=ASKED, tools=[WEATHER], stream_options={"include_usage": True}
        ) as stream:
            kinds = {event.type for event in stream}
            final = stream.get_final_completion()
        assert {"content.delta", "content.done", "tool_calls.function.arguments.done", "chunk"} <= kinds
        message = final.choices[0].message
        assert message.content == "Looking."
        assert message.tool_calls is not None
        assert [(call.id, call.function.name, call.function.arguments) for call in message.tool_calls] == [
            ("call_1", "weather", '{"city": "北京"}'),
            ("call_2", "clock", ""),
        ]
        assert final.choices[0].finish_reason == "tool_calls"
        assert final.usage is not None and final.usage.total_tokens == 112
        assert endpoint.seen[0].tools[0].strict is True


@pytest.mark.parametrize("stream", [False, True])
def test_calls_without_ids_get_ids_of_their_own(stream: bool) -> None:
    calls = (ToolCall(id="", name="weather", arguments="{}"), ToolCall(id="", name="clock", arguments=""))
    with served([Delta(tool_calls=calls, finish_reason="tool_calls")]) as (client, _):
        if stream:
            with client.chat.completions.stream(model="asked", messages=ASKED, tools=[WEATHER]) as events:
                message: Any = events.get_final_completion().choices[0].message
        else:
            answer = client.chat.completions.create(model="asked", messages=ASKED, tools=[WEATHER])
            message = answer.choices[0].message
    own = CALL.replace("rec", "call")
    assert [call.id for call in message.tool_calls] == [f"{own}_0_0", f"{own}_0_1"]


class Weather(BaseModel):
    city: str
    degrees: int


def test_structured_answers_are_parsed_by_the_sdk() -> None:
    script = [Delta(text='{"city": "北京", "degrees": 3}'), Delta(finish_reason="stop")]
    with served(script) as (client, endpoint):
        parsed = client.chat.completions.parse(model="asked", messages=ASKED, response_format=Weather)
        assert parsed.choices[0].message.parsed == Weather(city="北京", degrees=3)
        assert parsed.usage is None
        wanted = endpoint.seen[0].response_format
        assert wanted is not None and wanted.strict and wanted.schema is not None
        assert set(wanted.schema["required"]) == {"city", "degrees"}


REFUSED = [
    Delta(text="I ", refused=True),
    Delta(text="will not.", refused=True),
    Delta(finish_reason="content_filter", refused=True),
]


def test_a_refusal_is_not_the_answer() -> None:
    with served(REFUSED) as (client, _):
        parsed = client.chat.completions.parse(model="asked", messages=ASKED, response_format=Weather)
        with client.chat.completions.stream(model="asked", messages=ASKED, response_format=Weather) as stream:
            refusals = [event.refusal for event in stream if event.type == "refusal.done"]
            final = stream.get_final_completion()
    assert refusals == ["I will not."]
    for choice in (parsed.choices[0], final.choices[0]):
        assert (choice.message.refusal, choice.message.parsed) == ("I will not.", None)
        assert (choice.message.content or "", choice.finish_reason) == ("", "stop")


def test_a_stream_without_the_wish_for_usage_has_none() -> None:
    quiet = rows(streamed(Chat(), peeked(stream=True), SAID))
    assert all(one.usage is None and one.choices for one in quiet)
    told = rows(streamed(Chat(), peeked(stream=True, stream_options={"include_usage": True}), SAID))
    assert told[-1].choices == []
    assert told[-1].usage is not None and told[-1].usage.completion_tokens == 12
    assert len(told) == len(quiet) + 1
    assert quiet[0].choices[0].delta.role == "assistant"


def test_unknown_usage_is_null_and_counted_usage_says_so() -> None:
    peek = peeked(stream=True, stream_options={"include_usage": True})
    assert rows(streamed(Chat(), peek, [Delta(text="x", finish_reason="stop")]))[-1].usage is None
    guess = Completion(text="x", usage=Usage(tokens_in=1, tokens_out=2, estimated=True))
    assert json.loads(Chat().answer(guess, peek, id="i", created_s=1))["usage"]["estimated"] is True
    half = Completion(text="x", usage=Usage(tokens_in=1))
    assert json.loads(Chat().answer(half, peek, id="i", created_s=1))["usage"] is None


def test_several_completions_are_several_choices_and_cost_together() -> None:
    ones = [Completion(text=text, finish_reason="stop", usage=USAGE) for text in ("a", "b", "c")]
    answer = ChatCompletion.model_validate_json(
        Chat().answer(ones, peeked(n=3), id="i", created_s=1), strict=True
    )
    assert [(one.index, one.message.content) for one in answer.choices] == [(0, "a"), (1, "b"), (2, "c")]
    assert answer.usage is not None and answer.usage.completion_tokens == 36
    ones[1] = Completion(text="b")
    assert json.loads(Chat().answer(ones, peeked(n=3), id="i", created_s=1))["usage"] is None


def test_several_streams_share_one_stream() -> None:
    events = Chat().events(
        peeked(n=2, stream=True, stream_options={"include_usage": True}), id="i", created_s=1
    )
    stream = events.delta(Delta(text="a"), 0) + events.delta(Delta(text="b"), 1)
    stream += events.delta(Delta(finish_reason="length", usage=USAGE), 1)
    stream += events.delta(Delta(finish_reason="stop", usage=USAGE), 0) + events.end()
    chunks = rows(stream)
    finishes = {one.choices[0].index: one.choices[0].finish_reason for one in chunks if one.choices}
    assert finishes == {0: "stop", 1: "length"}
    assert chunks[-1].usage is not None and chunks[-1].usage.total_tokens == 224


def test_a_stream_that_never_told_why_it_ended_ends_all_the_same() -> None:
    assert rows(streamed(Chat(), peeked(), [Delta(text="x")]))[-1].choices[0].finish_reason == "stop"
    assert rows(streamed(Chat(), peeked(), []))[-1].choices[0].finish_reason == "stop"


def test_half_a_character_does_not_break_a_stream() -> None:
    chunks = streamed(Chat(), peeked(), [Delta(text="\ud83d"), Delta(finish_reason="stop")])
    assert b"\\ud83d" in chunks


finish = st.sampled_from(["stop", "length", "tool_calls", "content_filter"])
counts = st.none() | st.integers(0, 1 << 40)
usages = st.builds(
    Usage,
    tokens_in=st.integers(0, 1 << 40),
    tokens_out=st.integers(0, 1 << 40),
    tokens_cached=counts,
    tokens_reasoning=counts,
    tokens_cache_write=counts,
) | st.just(Usage())
logprobs = st.none() | st.lists(
    st.builds(
        TokenLogprob,
        token=texts,
        logprob=st.floats(-50, 0),
        top=st.lists(st.tuples(texts, st.floats(-50, 0)), max_size=2).map(tuple),
    ),
    max_size=3,
).map(tuple)
completions = st.builds(
    Completion,
    text=texts,
    tool_calls=st.lists(st.builds(ToolCall, id=names, name=names, arguments=texts), max_size=2).map(tuple),
    finish_reason=finish,
    usage=usages,
    logprobs=logprobs,
    reasoning=st.none() | texts.filter(bool),
    model=st.just("asked"),
)


@given(completions)
def test_a_completion_goes_out_and_comes_back_the_same(said: Completion) -> None:
    body = Chat().answer(said, peeked(), id="i", created_s=1)
    ChatCompletion.model_validate_json(body, strict=True)
    back = completion(json.loads(body), PLACE)
    expected = "tool_calls" if said.tool_calls and said.finish_reason == "stop" else said.finish_reason
    assert (back.text, back.tool_calls, back.finish_reason) == (said.text, said.tool_calls, expected)
    assert (back.usage, back.logprobs, back.reasoning, back.model) == (
        said.usage, said.logprobs, said.reasoning, said.model,
    )  # fmt: skip


@given(st.lists(st.builds(Delta, text=texts, reasoning=texts), max_size=5), completions)
def test_deltas_go_out_and_come_back_the_same(deltas: list[Delta], last: Completion) -> None:
    final = Delta(tool_calls=last.tool_calls, finish_reason=last.finish_reason, usage=last.usage)
    stream = streamed(Chat(), peeked(stream=True, stream_options={"include_usage": True}), [*deltas, final])
    rows(stream)
    reader, back = ChunkReader(PLACE), list[Delta]()
    for event in SseParser().feed(stream):
        back += reader.feed(event)
    back += reader.close()
    assert "".join(one.text for one in back) == "".join(one.text for one in deltas)
    assert "".join(one.reasoning for one in back) == "".join(one.reasoning for one in deltas)
    assert back[-1].tool_calls == last.tool_calls
    assert (back[-1].usage or Usage()) == last.usage
    watch = Chat().watch(peeked(stream=True))
    watch.feed(stream)
    assert (counted(watch.seen()) or Usage()) == last.usage
    assert watch.seen().complete


# errors and retries, as the SDK sees them


def test_an_error_before_the_stream_is_the_sdks_own_exception() -> None:
    limited = RateLimited("providers.rate_limited", host="h", model="m", status=429, detail="slow down")
    with served([limited]) as (client, _):
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="asked", messages=ASKED, stream=True)
        assert caught.value.code == "rate_limit_exceeded"
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model="asked", messages=[{"role": "user", "content": [FILE]}])  # type: ignore[list-item]
        assert refused.value.param == "messages[0].content[0]"


def test_a_stream_that_breaks_off_raises_in_the_sdk() -> None:
    broken = BadReply("providers.truncated", host="h", model="m")
    with served([SAID[2], broken]) as (client, _):
        got = list[str]()
        with pytest.raises(openai.APIError, match="broke off"):
            for one in client.chat.completions.create(model="asked", messages=ASKED, stream=True):
                got.append(one.choices[0].delta.content or "")
        assert "".join(got) == "It is "


def test_the_sdk_tries_again_where_waiting_helps() -> None:
    scripts = itertools.chain(
        [[RateLimited("providers.rate_limited", host="h", model="m", status=429, detail="")]],
        itertools.repeat(SAID),
    )
    endpoint = Endpoint(Chat(), lambda _: next(scripts), retry=True)
    with (
        listening(endpoint) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="k", max_retries=1) as client,
    ):
        answer = client.chat.completions.create(model="asked", messages=ASKED)
    assert answer.choices[0].message.content == "It is sunny 晴."
    assert len(endpoint.seen) == 2
