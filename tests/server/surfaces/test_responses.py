"""The official OpenAI SDK is the client and the judge of shapes."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from baimo.core.call import Completion, Delta, Request, TokenLogprob, Usage
from baimo.core.message import Message, Part, Tool, ToolCall
from baimo.errors import (
    BadReply,
    BaimoError,
    CallRefused,
    LimitReached,
    NotFound,
    NotSupported,
    RateLimited,
    Unauthenticated,
)
from baimo.server.surfaces.responses import Responses
from baimo.server.surfaces.told import told
from tests.server.surfaces.endpoint import CALL, CREATED, Endpoint, listening, streamed, whole

USAGE = Usage(tokens_in=100, tokens_out=12, tokens_cached=60, tokens_cache_write=10, tokens_reasoning=4)
STOPPED = Delta(finish_reason="stop", usage=USAGE)
SAID = [
    Delta(reasoning="Let me "),
    Delta(reasoning="think."),
    Delta(text="It is "),
    Delta(text="晴."),
    STOPPED,
]
CALLED = [
    Delta(text="Looking."),
    Delta(
        tool_calls=(
            ToolCall(id="call_1", name="weather", arguments='{"city": "北京"}'),
            ToolCall(id="", name="clock", arguments=""),
        ),
        finish_reason="tool_calls",
        usage=USAGE,
    ),
]
REFUSED = [
    Delta(text="I ", refused=True),
    Delta(text="will not.", refused=True),
    Delta(finish_reason="content_filter", refused=True, usage=USAGE),
]
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "Weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
ASKED: Any = {"model": "asked", "input": "Weather?"}
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
QUICK = Responses().peek(json.dumps(ASKED).encode(), {})


@contextmanager
def served(script: Sequence[Delta | BaimoError]) -> Iterator[tuple[openai.OpenAI, Endpoint]]:
    endpoint = Endpoint(Responses(), lambda _: script)
    with (
        listening(endpoint) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="k", max_retries=0) as client,
    ):
        yield client, endpoint


def asked(body: dict[str, Any]) -> Request:
    surface = Responses()
    data = json.dumps(ASKED | body).encode()
    return surface.request(data, surface.peek(data, {}), model="m")


# whole answers


def test_a_whole_answer_is_a_response_to_the_sdk() -> None:
    with served(SAID) as (client, endpoint):
        response = client.responses.create(
            **ASKED,
            instructions="Be brief.",
            metadata={"a": "b"},
            temperature=0.5,
            max_output_tokens=64,
            store=False,
        )
    Response.model_validate_json(response.to_json(), strict=True)
    assert response.output_text == "It is 晴."
    assert (response.id, response.object, response.model) == (
        "resp_01jd3kabcdefghjkmnpq",
        "response",
        "asked",
    )
    assert (response.status, response.created_at, response.error) == ("completed", CREATED, None)
    assert (response.instructions, response.metadata, response.temperature) == ("Be brief.", {"a": "b"}, 0.5)
    assert (response.max_output_tokens, response.parallel_tool_calls, response.tool_choice) == (
        64,
        True,
        "auto",
    )
    assert [item.type for item in response.output] == ["reasoning", "message"]
    usage = response.usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (100, 12, 112)
    assert (usage.input_tokens_details.cached_tokens, usage.input_tokens_details.cache_write_tokens) == (
        60,
        10,
    )
    assert usage.output_tokens_details.reasoning_tokens == 4
    assert endpoint.paths == ["/v1/responses"]
    assert endpoint.seen[0].messages == (
        Message(role="system", content="Be brief."),
        Message(role="user", content="Weather?"),
    )
    assert endpoint.seen[0].sampling.max_tokens == 64


def test_tool_calls_become_function_call_items() -> None:
    with served(CALLED) as (client, endpoint):
        response = client.responses.create(**ASKED, tools=[WEATHER])
    calls = [item for item in response.output if item.type == "function_call"]
    assert [(call.call_id, call.name, call.arguments, call.status) for call in calls] == [
        ("call_1", "weather", '{"city": "北京"}', "completed"),
        (calls[1].call_id, "clock", "", "completed"),
    ]
    assert calls[1].call_id
    assert endpoint.seen[0].tools == (
        Tool(name="weather", description="Weather of a city.", parameters=WEATHER["parameters"], strict=True),
    )


CUT = Delta(
    tool_calls=(
        ToolCall(id="call_1", name="clock", arguments="{}"),
        ToolCall(id="call_2", name="weather", arguments='{"city": "Be'),
    ),
    finish_reason="length",
)


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_the_limit_cut_is_incomplete(stream: bool) -> None:
    with served([CUT]) as (client, _):
        if stream:
            events = list(client.responses.create(**ASKED, tools=[WEATHER], stream=True))
            assert [one.name for one in events if one.type == "response.function_call_arguments.done"] == [
                "clock"
            ]
            assert events[-1].type == "response.incomplete"
            response: Any = events[-1].response
        else:
            response = client.responses.create(**ASKED, tools=[WEATHER])
    assert response.status == "incomplete"
    assert [(item.name, item.status) for item in response.output] == [
        ("clock", "completed"),
        ("weather", "incomplete"),
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_takes_one_call_at_a_time_gets_one(stream: bool) -> None:
    with served(CALLED) as (client, _):
        if stream:
            with client.responses.stream(**ASKED, tools=[WEATHER], parallel_tool_calls=False) as events:
                response: Any = events.get_final_response()
        else:
            response = client.responses.create(**ASKED, tools=[WEATHER], parallel_tool_calls=False)
    assert [item.name for item in response.output if item.type == "function_call"] == ["weather"]
    assert response.parallel_tool_calls is False


class Weather(BaseModel):
    city: str
    degrees: int


def test_structured_output_reaches_the_model_as_a_schema_and_comes_back_parsed() -> None:
    with served([Delta(text='{"city":"Oslo","degrees":3}'), STOPPED]) as (client, endpoint):
        parsed = client.responses.parse(**ASKED, text_format=Weather)
    assert parsed.output_parsed == Weather(city="Oslo", degrees=3)
    wanted = endpoint.seen[0].response_format
    assert wanted is not None and wanted.schema is not None
    assert (wanted.name, wanted.strict, set(wanted.schema["properties"])) == (
        "Weather",
        True,
        {"city", "degrees"},
    )


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("unknown", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
    ],
)
def test_every_reason_to_stop_has_its_status(finish: Any, status: str, reason: str | None) -> None:
    with served([Delta(text="x", finish_reason=finish)]) as (client, _):
        response = client.responses.create(**ASKED)
        with client.responses.stream(**ASKED) as events:
            last = list(events)[-1]
    assert (response.status, response.usage) == (status, None)
    assert (response.incomplete_details and response.incomplete_details.reason) == reason
    assert last.type == f"response.{status}"


def test_log_probabilities_are_given_where_they_are_asked_for() -> None:
    surface = Responses()
    probable = TokenLogprob(token="晴", logprob=-0.5, top=(("晴", -0.5), ("雨", -1.0)))
    completion = Completion(text="晴", logprobs=(probable,), finish_reason="stop")
    body = surface.answer(completion, QUICK, id=CALL, created_s=CREATED)
    response = Response.model_validate_json(body, strict=True)
    content: Any = response.output[0]
    assert content.content[0].logprobs[0].top_logprobs[1].logprob == -1.0
    assert content.content[0].logprobs[0].bytes == list("晴".encode())


# streams


def test_a_refusal_is_not_the_answer() -> None:
    with served(REFUSED) as (client, _):
        response = client.responses.create(**ASKED)
        events = list(client.responses.create(**ASKED, stream=True))
    for event in events:
        EVENT.validate_json(event.to_json(), strict=True)
    assert [event.type.removeprefix("response.") for event in events[2:]] == [
        "output_item.added",
        "content_part.added",
        "refusal.delta",
        "refusal.delta",
        "refusal.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert (response.status, response.output_text) == ("completed", "")
    assert [part.to_dict() for part in response.output[0].content] == [  # type: ignore[union-attr]
        {"type": "refusal", "refusal": "I will not."}
    ]


def test_a_refusal_after_an_answer_has_begun_is_a_message_of_its_own() -> None:
    with served([Delta(text="Well, "), *REFUSED]) as (client, _), client.responses.stream(**ASKED) as events:
        final = events.get_final_response()
    assert [part.type for item in final.output for part in item.content] == ["output_text", "refusal"]  # type: ignore[union-attr]


@pytest.mark.parametrize("script", [SAID, CALLED, [STOPPED], REFUSED])
def test_a_stream_adds_up_to_the_whole_answer(script: list[Delta]) -> None:
    with served(script) as (client, _):
        with client.responses.stream(**ASKED, tools=[WEATHER]) as events:
            final = events.get_final_response()
        response = client.responses.create(**ASKED, tools=[WEATHER])
    streamed_, whole_ = final.to_dict(), response.to_dict()
    for items in (streamed_["output"], whole_["output"]):
        for item in items:  # type: ignore[attr-defined]
            item.pop("parsed_arguments", None)
            for part in item.get("content") or []:
                part.pop("parsed", None)
    assert streamed_ == whole_


def test_events_come_in_the_order_that_the_api_promises() -> None:
    with served([*SAID[:4], CALLED[1]]) as (client, _):
        events = list(client.responses.create(**ASKED, stream=True))
    for event in events:
        EVENT.validate_json(event.to_json(), strict=True)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type.removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    added = [event for event in events if event.type == "response.output_item.added"]
    done = [event for event in events if event.type == "response.output_item.done"]
    assert [event.output_index for event in added] == [event.output_index for event in done] == [0, 1, 2, 3]
    assert [event.item.id for event in added] == [event.item.id for event in done]


def test_the_async_client_understands_the_same_answers() -> None:
    async def run(address: str) -> str:
        async with (
            openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="k") as client,
            client.responses.stream(**ASKED) as events,
        ):
            return (await events.get_final_response()).output_text

    with listening(Endpoint(Responses(), lambda _: SAID)) as address:
        assert asyncio.run(run(address)) == "It is 晴."


def test_a_model_that_breaks_off_fails_the_response() -> None:
    broken = BadReply("providers.truncated", host="h", model="m")
    with served([Delta(text="half"), broken]) as (client, _):
        events = list(client.responses.create(**ASKED, stream=True))
    last: Any = events[-1]
    assert last.type == "response.failed"
    assert (last.response.status, last.response.error.code) == ("failed", "server_error")
    assert str(told(broken)) in last.response.error.message
    assert last.response.output[0].content[0].text == "half"
    assert last.response.output[0].status == "incomplete"


def test_a_limit_reached_in_a_stream_has_its_own_code() -> None:
    limited = RateLimited("providers.rate_limited", host="h", model="m", status=429, detail="d")
    events = Responses().events(QUICK, id=CALL, created_s=CREATED)
    last = json.loads(events.failed(limited).splitlines()[-2].removeprefix(b"data: "))
    assert last["response"]["error"]["code"] == "rate_limit_exceeded"


# errors


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (CallRefused("surfaces.missing", field="input"), openai.BadRequestError),
        (Unauthenticated("surfaces.missing", field="x"), openai.AuthenticationError),
        (NotFound("surfaces.missing", field="x"), openai.NotFoundError),
        (LimitReached("surfaces.missing", field="x"), openai.RateLimitError),
        (NotSupported("surfaces.missing", field="x"), openai.InternalServerError),
    ],
)
def test_every_error_is_the_exception_that_the_sdk_has_for_it(
    error: BaimoError, kind: type[Exception]
) -> None:
    with served([error]) as (client, _), pytest.raises(kind) as caught:
        client.responses.create(**ASKED)
    assert str(told(error)) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model": 7}, "model"),
        ({"input": 7}, "input"),
        ({"input": [7]}, "input[0]"),
        ({"input": [{"content": "x"}]}, "input[0].type"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"type": "message", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"type": "function_call", "name": "x", "arguments": "{}"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call_output", "call_id": "x"}]}, "input[0].output"),
        ({"max_output_tokens": -1}, "max_output_tokens"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"instructions": ["x"]}, "instructions"),
        ({"stream": "yes"}, "stream"),
        ({"tools": [{"name": "x"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(change: dict[str, Any], field: str) -> None:
    with pytest.raises(CallRefused) as caught:
        asked(change)
    assert str(caught.value).startswith((f"{field} ", f"{field}:"))
    assert caught.value.http_status == 400


@pytest.mark.parametrize(
    ("change", "field", "what"),
    [
        ({"tools": [WEATHER, {"type": "web_search"}]}, "tools[1].type", "web_search"),
        ({"tools": [{"type": "custom", "name": "x"}]}, "tools[0].type", "custom"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice.type", "file_search"),
        ({"input": [{"type": "web_search_call", "id": "ws"}]}, "input[0].type", "web_search_call"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
            "input[0].content[0].type",
            "input_file",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0].type",
            "input_image",
        ),
        ({"prompt": {"id": "p"}}, "prompt", "prompt"),
        ({"presence_penalty": 1.0}, "presence_penalty", "presence_penalty"),
        ({"top_logprobs": 2, "stream": True}, "top_logprobs", "log-probabilities"),
    ],
)
def test_what_other_models_cannot_take_is_refused_and_named(
    change: dict[str, Any], field: str, what: str
) -> None:
    with pytest.raises(CallRefused) as caught:
        asked(change)
    assert str(caught.value).startswith(field) and what in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"background": True},
        {"conversation": "conv_1"},
        {"conversation": {"id": "conv_1"}},
        {"previous_response_id": "resp_1"},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"input": [{"id": "msg_1"}]},
    ],
)
def test_what_would_be_kept_or_counted_elsewhere_is_refused_before_it_is_sent(change: dict[str, Any]) -> None:
    with pytest.raises(NotSupported) as caught:
        Responses().peek(json.dumps(ASKED | change).encode(), {})
    assert caught.value.http_status == 501


# requests


def test_a_conversation_with_tools_and_pictures_is_said_in_neutral_words() -> None:
    image = {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"}
    request = asked(
        {
            "instructions": "Be brief.",
            "input": [
                {"role": "developer", "content": "Be kind."},
                {"role": "user", "content": [{"type": "input_text", "text": "Look"}, image]},
                {"type": "reasoning", "id": "rs_1", "summary": []},
                {
                    "type": "message",
                    "id": "msg_1",
                    "role": "assistant",
                    "status": "completed",
                    "content": [{"type": "output_text", "text": "I look.", "annotations": []}],
                },
                {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city":"北京"}'},
                {"type": "function_call", "call_id": "c2", "name": "map", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
                {
                    "type": "function_call_output",
                    "call_id": "c2",
                    "output": [{"type": "input_text", "text": "a map"}, image],
                },
                {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
                {"role": "user", "content": "And now?"},
            ],
            "tools": [WEATHER],
            "tool_choice": "required",
            "temperature": 0.5,
            "top_p": 0.9,
            "reasoning": {"effort": "low", "summary": "auto"},
            "text": {"format": {"type": "json_object"}, "verbosity": "low"},
            "truncation": "auto",
            "client_metadata": {"session": "s"},
        }
    )
    picture = Part(kind="image_url", data="https://x/y.png", detail="low")
    assert request.messages == (
        Message(role="system", content="Be brief."),
        Message(role="system", content="Be kind."),
        Message(role="user", content=(Part(kind="text", data="Look"), picture)),
        Message(
            role="assistant",
            content="I look.",
            tool_calls=(
                ToolCall(id="c1", name="weather", arguments='{"city":"北京"}'),
                ToolCall(id="c2", name="map", arguments="{}"),
            ),
        ),
        Message(role="tool", content="sunny", tool_call_id="c1"),
        Message(role="tool", content="a map", tool_call_id="c2"),
        Message(role="user", content=(Part(kind="text", data="Shown by c2:"), picture)),
        Message(role="assistant", content="No."),
        Message(role="user", content="And now?"),
    )
    assert (request.tool_choice, request.extra) == ("required", {"reasoning_effort": "low"})
    assert request.response_format is not None and request.response_format.schema is None


@pytest.mark.parametrize(
    ("choice", "neutral", "tools"),
    [
        ("auto", "auto", 2),
        ("none", "none", 2),
        ({"type": "function", "name": "weather"}, "weather", 2),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]},
            "required",
            1,
        ),
    ],
)
def test_every_tool_choice_is_kept(choice: Any, neutral: str, tools: int) -> None:
    request = asked({"tool_choice": choice, "tools": [WEATHER, WEATHER | {"name": "map"}]})
    assert (request.tool_choice, len(request.tools)) == (neutral, tools)


def test_what_a_model_answered_can_be_sent_back_to_it_as_it_came() -> None:
    answer = json.loads(Responses().answer(whole(CALLED), QUICK, id=CALL, created_s=CREATED))
    request = asked({"input": answer["output"]})
    assert request.messages == (
        Message(
            role="assistant",
            content="Looking.",
            tool_calls=(
                ToolCall(id="call_1", name="weather", arguments='{"city": "北京"}'),
                ToolCall(id="call_01jd3kabcdefghjkmnpq_2", name="clock", arguments=""),
            ),
        ),
    )


# the quick look


def test_an_answer_of_no_tokens_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(CallRefused) as caught:
        Responses().peek(json.dumps(ASKED | {"max_output_tokens": 0}).encode(), {})
    assert caught.value.facts["field"] == "max_output_tokens"


def test_a_peek_knows_what_admission_asks() -> None:
    body = json.dumps(ASKED | {"stream": True, "instructions": "s", "max_output_tokens": 9}).encode()
    peek = Responses().peek(body, {})
    assert (peek.model, peek.stream, peek.max_tokens, peek.answers) == ("asked", True, 9, 1)
    assert peek.wants_usage and peek.attachments == 0 and peek.text_bytes >= len(body)
    assert not peek.deterministic
    assert Responses().peek(json.dumps(ASKED | {"store": False}).encode(), {}).deterministic


def test_a_text_opens_a_conversation_as_the_item_does_that_it_stands_for() -> None:
    item = {"type": "message", "role": "user", "content": "Weather?"}
    body = json.dumps({"model": "m", "input": [item, item]}, separators=(",", ":")).encode()
    assert Responses().peek(body, {}).opening == QUICK.opening


def test_attachments_are_counted_and_their_bytes_are_no_text() -> None:
    large = "A" * 100_000
    content = [
        {"type": "input_text", "text": "Look"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{large}"},
        {"type": "input_file", "file_data": large, "filename": "x.pdf"},
        {"type": "input_audio", "input_audio": {"data": large, "format": "mp3"}},
    ]
    items = [
        {"role": "user", "content": content},
        {
            "type": "function_call_output",
            "call_id": "c",
            "output": [{"type": "input_image", "image_url": f"data:,{large}"}],
        },
    ]
    more = {"tools": [WEATHER, {"type": "web_search"}], "prompt": {"id": "p"}}
    peek = Responses().peek(json.dumps({"model": "m", "input": items} | more).encode(), {})
    assert peek.attachments == 4 + 1 + 1
    assert peek.text_bytes < 5_000


@given(st.text(max_size=200), st.booleans())
def test_no_prompt_has_more_bytes_than_a_peek_says(said: str, ascii_only: bool) -> None:
    said = said.encode("utf-8", "replace").decode()
    body = json.dumps(ASKED | {"input": said}, ensure_ascii=ascii_only)
    assert Responses().peek(body.encode(), {}).text_bytes > len(said.encode())


# passing through


def test_only_the_model_changes_on_the_way_to_openai() -> None:
    surface = Responses()
    body = (
        b'{"model":"asked","temperature":1.10,"input":"model","_previous_response_id":"resp_1","Model":"x"}'
    )
    sent = surface.sent(body, surface.peek(body, {}), model="gpt", max_tokens=9)
    assert sent == b'{"model":"gpt","temperature":1.10,"input":"model","max_output_tokens":9}'


def test_a_whole_answer_says_what_it_used() -> None:
    surface = Responses()
    for finish, reason in (("stop", "completed"), ("length", "max_output_tokens")):
        completion = Completion(text="x", usage=USAGE, finish_reason=finish)  # type: ignore[arg-type]
        seen = surface.seen(surface.answer(completion, QUICK, id=CALL, created_s=CREATED))
        assert (seen.usage, seen.model, seen.finish_reason, seen.complete) == (USAGE, "asked", reason, True)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"usage": 7}', b'{"usage": {"input_tokens": "x"}}']
)
def test_an_answer_that_cannot_be_read_is_unknown(body: bytes) -> None:
    assert Responses().seen(body).usage is None


STREAM = streamed(
    Responses(), QUICK, [Delta(text='"usage": "error" response.completed 你'), *SAID[:1], *CALLED]
)


def test_a_stream_is_understood_however_it_is_cut() -> None:
    for cut in range(len(STREAM) + 1):
        watch = Responses().watch(QUICK)
        passed = watch.feed(STREAM[:cut]) + watch.feed(STREAM[cut:]) + watch.rest()
        assert passed == STREAM
        seen = watch.seen()
        assert (seen.usage, seen.model, seen.finish_reason) == (USAGE, "asked", "completed")
        assert seen.complete and not seen.failed


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_a_stream_in_any_number_of_pieces_is_understood(cuts: list[int]) -> None:
    watch = Responses().watch(QUICK)
    edges = [0, *sorted(cuts), len(STREAM)]
    passed = b"".join(watch.feed(STREAM[start:end]) for start, end in itertools.pairwise(edges))
    assert passed + watch.rest() == STREAM
    assert watch.seen().usage == USAGE


def test_a_stream_that_breaks_off_is_incomplete() -> None:
    watch = Responses().watch(QUICK)
    watch.feed(STREAM[: STREAM.index(b"event: response.completed")])
    watch.rest()
    seen = watch.seen()
    assert (seen.usage, seen.complete, seen.model) == (None, False, "asked")
    assert seen.text_bytes > 0


def test_how_much_text_came_is_estimated_within_a_fifth() -> None:
    surface = Responses()
    said = ["the quick brown fox jumps over the lazy dog "] * 200
    events = surface.events(QUICK, id=CALL, created_s=CREATED)
    stream = b"".join(events.delta(Delta(text=piece)) for piece in said)
    watch = surface.watch(QUICK)
    for start in range(0, len(stream), 1460):
        watch.feed(stream[start : start + 1460])
    assert watch.seen().text_bytes == pytest.approx(sum(map(len, said)), rel=0.2)


@pytest.mark.parametrize(
    "event",
    [
        b'event: error\ndata: {"type":"error","code":"x","message":"Overloaded","param":null,"sequence_number":3}\n\n',
        b'data: {"error":{"message":"Overloaded","code":"x"}}\n\n',
        b'event: response.failed\ndata: {"type":"response.failed","response":{"status":"failed",'
        b'"error":{"code":"server_error","message":"Overloaded"}}}\n\n',
    ],
)
def test_an_error_event_is_a_failed_stream(event: bytes) -> None:
    watch = Responses().watch(QUICK)
    watch.feed(STREAM[: STREAM.index(b"event: response.completed")])
    watch.feed(event)
    seen = watch.seen()
    assert (seen.failed, seen.complete) == ("Overloaded", False)


# there and back

texts = st.text(st.characters(codec="utf-8"), max_size=8)
calls = st.builds(
    ToolCall,
    id=st.from_regex(r"call_[a-z0-9]{1,8}", fullmatch=True),
    name=st.from_regex(r"[a-z]{1,8}", fullmatch=True),
    arguments=texts,
)
deltas = st.lists(
    st.builds(Delta, text=texts, reasoning=texts, tool_calls=st.lists(calls, max_size=2).map(tuple)),
    max_size=6,
)


@given(deltas)
def test_events_say_what_the_deltas_said(pieces: list[Delta]) -> None:
    stream = streamed(Responses(), QUICK, [*pieces, STOPPED])
    events = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith(b"data: ")]
    for event in events:
        EVENT.validate_python(event)
    final = Response.model_validate(events[-1]["response"])
    assert final.output_text == "".join(one.text for one in pieces)
    assert "".join(
        part.text for item in final.output if item.type == "reasoning" for part in item.summary
    ) == ("".join(one.reasoning for one in pieces))
    made = [item for item in final.output if item.type == "function_call"]
    wanted = [call for one in pieces for call in one.tool_calls]
    assert [(one.call_id, one.name, one.arguments) for one in made] == [
        (one.id, one.name, one.arguments) for one in wanted
    ]
    assert [event["item"] for event in events if event["type"] == "response.output_item.done"] == (
        events[-1]["response"]["output"]
    )
    said = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert "".join(said) == final.output_text
