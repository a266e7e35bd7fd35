"""The official Anthropic SDK is the client and the judge of shapes."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import anthropic
import pytest
from anthropic.types import Message as WireMessage
from anthropic.types import RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from baimo.core.call import Completion, Delta, JsonFormat, Request, Sampling, Usage
from baimo.core.message import Message, Part, Tool, ToolCall
from baimo.core.model import Vendor
from baimo.errors import (
    BadReply,
    BaimoError,
    BudgetExceeded,
    CallRefused,
    Forbidden,
    LimitReached,
    NotFound,
    NotSupported,
    Overloaded,
    RateLimited,
    TooLarge,
    Unauthenticated,
    UnknownModel,
)
from baimo.providers.anthropic import AnthropicProvider
from baimo.providers.anthropic_reply import EventReader
from baimo.providers.faults import Place
from baimo.providers.sse import SseParser
from baimo.server.surfaces.messages import Messages
from baimo.server.surfaces.sse import LONGEST_EVENT
from baimo.server.surfaces.told import told
from baimo.settings import ProviderSettings
from tests.server.surfaces.endpoint import CALL, CREATED, Endpoint, listening, streamed

USAGE = Usage(
    tokens_in=100,
    tokens_out=12,
    tokens_cached=60,
    tokens_cache_write=10,
    tokens_reasoning=4,
    tokens_cache_write_1h=3,
)
SAID = [
    Delta(reasoning="Let me "),
    Delta(reasoning="think."),
    Delta(text="It is "),
    Delta(text="sunny 晴."),
    Delta(finish_reason="stop", usage=USAGE),
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
WEATHER: Any = {
    "name": "weather",
    "description": "Weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
ASKED: Any = {"model": "asked", "max_tokens": 64, "messages": [{"role": "user", "content": "Weather?"}]}
QUICK = Messages().peek(json.dumps(ASKED).encode(), {})


@contextmanager
def served(script: Sequence[Delta | BaimoError]) -> Iterator[tuple[anthropic.Anthropic, Endpoint]]:
    endpoint = Endpoint(Messages(), lambda _: script)
    with (
        listening(endpoint) as address,
        anthropic.Anthropic(base_url=address, api_key="k", max_retries=0) as client,
    ):
        yield client, endpoint


def asked(body: dict[str, Any], **more: Any) -> Request:
    surface = Messages()
    data = json.dumps(ASKED | body).encode()
    return surface.request(data, surface.peek(data, {}), model="m", **more)


# whole answers


def test_a_whole_answer_is_a_message_to_the_sdk() -> None:
    with served(SAID) as (client, endpoint):
        message = client.messages.create(**ASKED)
    WireMessage.model_validate_json(message.to_json(), strict=True)
    assert message.id == "msg_01jd3kabcdefghjkmnpq"
    assert (message.model, message.role, message.stop_reason) == ("asked", "assistant", "end_turn")
    assert [block.to_dict() for block in message.content] == [
        {"type": "thinking", "thinking": "Let me think.", "signature": ""},
        {"type": "text", "text": "It is sunny 晴."},
    ]
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (
        30,
        60,
        10,
    )
    assert usage.cache_creation and usage.cache_creation.to_dict() == {
        "ephemeral_5m_input_tokens": 7,
        "ephemeral_1h_input_tokens": 3,
    }
    assert usage.output_tokens == 12
    assert usage.output_tokens_details and usage.output_tokens_details.thinking_tokens == 4
    assert endpoint.paths == ["/v1/messages"]
    assert endpoint.seen[0].messages == (Message(role="user", content="Weather?"),)
    assert endpoint.seen[0].sampling.max_tokens == 64


def test_tool_calls_become_tool_use_blocks_with_objects_for_input() -> None:
    with served(CALLED) as (client, _):
        message = client.messages.create(**ASKED, tools=[WEATHER])
    assert message.stop_reason == "tool_use"
    calls = [block for block in message.content if block.type == "tool_use"]
    assert [(call.id, call.name, call.input) for call in calls] == [
        ("call_1", "weather", {"city": "北京"}),
        ("toolu_01jd3kabcdefghjkmnpq_1", "clock", {}),
    ]


CUT = Delta(
    tool_calls=(
        ToolCall(id="call_1", name="clock", arguments="{}"),
        ToolCall(id="call_2", name="weather", arguments='{"city": "Be'),
    ),
    finish_reason="length",
)


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_the_limit_cut_is_left_out(stream: bool) -> None:
    with served([CUT]) as (client, _):
        if stream:
            with client.messages.stream(**ASKED, tools=[WEATHER]) as events:
                message: Any = events.get_final_message()
        else:
            message = client.messages.create(**ASKED, tools=[WEATHER])
    assert message.stop_reason == "max_tokens"
    assert [block.name for block in message.content] == ["clock"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_takes_one_call_at_a_time_gets_one(stream: bool) -> None:
    choice: Any = {"type": "auto", "disable_parallel_tool_use": True}
    with served(CALLED) as (client, _):
        if stream:
            with client.messages.stream(**ASKED, tools=[WEATHER], tool_choice=choice) as events:
                message: Any = events.get_final_message()
        else:
            message = client.messages.create(**ASKED, tools=[WEATHER], tool_choice=choice)
    assert [block.name for block in message.content if block.type == "tool_use"] == ["weather"]


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("content_filter", "refusal"),
        ("unknown", "end_turn"),
    ],
)
def test_every_reason_to_stop_has_its_word(finish: Any, reason: str) -> None:
    with served([Delta(text="x", finish_reason=finish)]) as (client, _):
        assert client.messages.create(**ASKED).stop_reason == reason


def test_the_text_that_ended_an_answer_is_named() -> None:
    with served([Delta(text="x"), Delta(finish_reason="stop", stop_sequence="END")]) as (client, _):
        whole = client.messages.create(**ASKED, stop_sequences=["END"])
        with client.messages.stream(**ASKED, stop_sequences=["END"]) as events:
            final = events.get_final_message()
    for message in (whole, final):
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "END")


def test_usage_that_nobody_knows_is_null() -> None:
    surface = Messages()
    peek = surface.peek(json.dumps(ASKED).encode(), {})
    body = json.loads(surface.answer(Completion(text="x"), peek, id=CALL, created_s=CREATED))
    assert body["usage"]["input_tokens"] is body["usage"]["output_tokens"] is None


class Weather(BaseModel):
    city: str
    degrees: int


def test_structured_output_reaches_the_model_as_a_schema_and_comes_back_parsed() -> None:
    said = [Delta(text='{"city":"Oslo","degrees":3}', finish_reason="stop", usage=USAGE)]
    with served(said) as (client, endpoint):
        parsed = client.messages.parse(**ASKED, output_format=Weather)
    assert parsed.parsed_output == Weather(city="Oslo", degrees=3)
    wanted = endpoint.seen[0].response_format
    assert wanted is not None and wanted.schema is not None
    assert set(wanted.schema["properties"]) == {"city", "degrees"}


# streams


@pytest.mark.parametrize("script", [SAID, CALLED, [Delta(finish_reason="stop", usage=USAGE)]])
def test_a_stream_adds_up_to_the_whole_answer(script: list[Delta]) -> None:
    with served(script) as (client, _):
        with client.messages.stream(**ASKED) as events:
            final = events.get_final_message()
        message = client.messages.create(**ASKED)
    assert {**final.to_dict(), "usage": None} == {**message.to_dict(), "usage": None}
    assert final.usage.input_tokens == 30
    assert final.usage.output_tokens == 12
    assert final.usage.cache_read_input_tokens == 60


def test_events_come_in_the_order_that_the_api_promises() -> None:
    with served([*SAID[:4], CALLED[1]]) as (client, _):
        events = list(client.messages.create(**ASKED, stream=True))
    adapter: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
    for event in events:
        adapter.validate_json(event.to_json(), strict=True)
    assert [event.type for event in events] == [
        "message_start",
        *("content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"),
        *("content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"),
        *("content_block_start", "content_block_delta", "content_block_stop") * 2,
        "message_delta",
        "message_stop",
    ]
    starts = [event for event in events if event.type == "content_block_start"]
    assert [(event.index, event.content_block.type) for event in starts] == [
        (0, "thinking"),
        (1, "text"),
        (2, "tool_use"),
        (3, "tool_use"),
    ]


def test_the_async_client_and_the_beta_client_understand_the_same_answers() -> None:
    async def run(address: str) -> Any:
        async with anthropic.AsyncAnthropic(base_url=address, api_key="k") as client:
            async with client.messages.stream(**ASKED) as events:
                texts = [text async for text in events.text_stream]
            return texts, await client.beta.messages.create(**ASKED, betas=["context-1m-2025-08-07"])

    with listening(Endpoint(Messages(), lambda _: SAID)) as address:
        texts, message = asyncio.run(run(address))
    assert texts == ["It is ", "sunny 晴."]
    assert [block.type for block in message.content] == ["thinking", "text"]


def test_a_model_that_breaks_off_raises_in_the_client() -> None:
    broken = BadReply("providers.truncated", host="h", model="m")
    with (
        served([Delta(text="half"), broken]) as (client, _),
        pytest.raises(anthropic.APIStatusError) as caught,
        client.messages.stream(**ASKED) as events,
    ):
        events.get_final_message()
    body: Any = caught.value.body
    assert body["error"]["type"] == "api_error"
    assert str(told(broken)) in body["error"]["message"]


# errors


@pytest.mark.parametrize(
    ("error", "kind", "word"),
    [
        (CallRefused("surfaces.missing", field="x"), anthropic.BadRequestError, "invalid_request_error"),
        (
            Unauthenticated("surfaces.missing", field="x"),
            anthropic.AuthenticationError,
            "authentication_error",
        ),
        (Forbidden("surfaces.missing", field="x"), anthropic.PermissionDeniedError, "permission_error"),
        (NotFound("surfaces.missing", field="x"), anthropic.NotFoundError, "not_found_error"),
        (UnknownModel("models.unknown_near", name="x", near="y"), anthropic.NotFoundError, "not_found_error"),
        (TooLarge("surfaces.missing", field="x"), anthropic.APIStatusError, "request_too_large"),
        (LimitReached("surfaces.missing", field="x"), anthropic.RateLimitError, "rate_limit_error"),
        (BudgetExceeded("surfaces.missing", field="x"), anthropic.RateLimitError, "rate_limit_error"),
        (NotSupported("surfaces.missing", field="x"), anthropic.InternalServerError, "api_error"),
        (Overloaded("surfaces.missing", field="x"), anthropic.InternalServerError, "overloaded_error"),
        (
            RateLimited("providers.rate_limited", host="h", model="m", status=429, detail="d"),
            anthropic.RateLimitError,
            "rate_limit_error",
        ),
        (
            BadReply("providers.truncated", host="h", model="m"),
            anthropic.InternalServerError,
            "api_error",
        ),
    ],
)
def test_every_error_is_the_exception_that_the_sdk_has_for_it(
    error: BaimoError, kind: type[Exception], word: str
) -> None:
    with served([error]) as (client, _), pytest.raises(kind) as caught:
        client.messages.create(**ASKED)
    body: Any = caught.value.body  # type: ignore[attr-defined]
    assert body["type"] == "error"
    assert body["error"]["type"] == word
    assert str(told(error)) in body["error"]["message"] and told(error).hint in body["error"]["message"]
    assert body["request_id"] == "req_1"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"model": None}, "model"),
        ({"messages": "hi"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"stream": "yes"}, "stream"),
        ({"temperature": "hot"}, "temperature"),
        ({"stop_sequences": [1]}, "stop_sequences"),
        ({"tools": [{"name": "x"}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "maybe"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(change: dict[str, Any], field: str) -> None:
    with pytest.raises(CallRefused) as caught:
        asked(change)
    assert field in str(caught.value)
    assert caught.value.http_status == 400


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(CallRefused):
        Messages().peek(body, {})


# requests


def test_a_conversation_with_tools_and_pictures_is_said_in_neutral_words() -> None:
    request = asked(
        {
            "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Look"}, png("AAAA")]},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "hm", "signature": "s"},
                        {"type": "redacted_thinking", "data": "x"},
                        {"type": "text", "text": "I "},
                        {"type": "text", "text": "look."},
                        {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "北京"}},
                        {"type": "tool_use", "id": "t2", "name": "map", "input": {}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "t1",
                            "content": "no such city",
                            "is_error": True,
                        },
                        {
                            "type": "tool_result",
                            "tool_use_id": "t2",
                            "content": [{"type": "text", "text": "a map"}, png("BBBB")],
                        },
                        {"type": "text", "text": "And now?"},
                    ],
                },
                {"role": "system", "content": "Answer in Chinese."},
            ],
            "tools": [WEATHER],
            "tool_choice": {"type": "any"},
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 5,
            "stop_sequences": ["END"],
            "metadata": {"user_id": "u"},
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "output_config": {"effort": "high"},
            "context_management": {"edits": []},
            "mcp_servers": [],
        }
    )
    assert request.messages == (
        Message(role="system", content="Be brief.\n\nBe kind."),
        Message(role="user", content=(Part(kind="text", data="Look"), shown("AAAA"))),
        Message(
            role="assistant",
            content="I look.",
            tool_calls=(
                ToolCall(id="t1", name="weather", arguments='{"city":"北京"}'),
                ToolCall(id="t2", name="map", arguments="{}"),
            ),
        ),
        Message(role="tool", content="Error: no such city", tool_call_id="t1"),
        Message(role="tool", content="a map", tool_call_id="t2"),
        Message(
            role="user",
            content=(
                Part(kind="text", data="Shown by t2:"),
                shown("BBBB"),
                Part(kind="text", data="And now?"),
            ),
        ),
        Message(role="system", content="Answer in Chinese."),
    )
    assert request.sampling.temperature == 0.5 and request.sampling.top_p == 0.9
    assert request.sampling.stop == ("END",)
    assert request.extra == {"top_k": 5, "reasoning_effort": "high"}
    assert (request.tool_choice, request.tools[0].name) == ("required", "weather")
    assert request.tools[0].parameters == WEATHER["input_schema"]


def test_a_server_of_the_same_api_is_told_how_to_think_and_what_to_cache() -> None:
    said = {
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "cache_control": {"type": "ephemeral"},
        "metadata": {"user_id": "u"},
    }
    assert asked(said, native=True).extra == said
    assert asked({"max_tokens": 0}, native=True).sampling.max_tokens == 0
    # the API wants this turn to begin with the thinking that came before its call
    result = {"type": "tool_result", "tool_use_id": "t", "content": "sunny"}
    within = {"messages": [*ASKED["messages"], {"role": "user", "content": [result]}]}
    assert asked({**within, "thinking": said["thinking"]}, native=True).extra is None
    adaptive = {"thinking": {"type": "adaptive"}}
    assert asked(within | adaptive, native=True).extra == adaptive


@pytest.mark.parametrize("effort", ["xhigh", "max"])
def test_an_effort_that_only_claude_knows_is_the_highest_that_others_know(effort: str) -> None:
    said = {"output_config": {"effort": effort}}
    assert asked(said, native=True).extra == {"reasoning_effort": effort}
    assert asked(said).extra == {"reasoning_effort": "high"}


def cached(block: dict[str, Any], **control: Any) -> dict[str, Any]:
    return {**block, "cache_control": {"type": "ephemeral", **control}}


def test_what_is_to_be_cached_is_told_to_a_server_of_the_same_api_block_by_block() -> None:
    call = {"type": "tool_use", "id": "t", "name": "weather", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "sunny"}]}
    system = [cached({"type": "text", "text": "Be brief."}, ttl="1h"), {"type": "text", "text": "Be kind."}]
    body = {
        "system": system,
        "tools": [cached(WEATHER)],
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, cached({"type": "text", "text": "b"})],
            },
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [cached(result), cached(png("AAAA"))]},
        ],
    }
    provider = AnthropicProvider(
        Vendor(name="clay", title="Clay", protocol="anthropic", base_url="http://h"), ProviderSettings()
    )
    request = asked(body, native=True)
    sent = provider.outgoing(request, frozenset(), stream=False).body
    assert {name: sent[name] for name in body} == body
    form = JsonFormat()
    wished = provider.outgoing(replace(request, response_format=form), frozenset(), stream=False).body[
        "system"
    ]
    assert (wished[:2], [block["type"] for block in wished]) == (system, ["text"] * 3)
    # others have no word for it, and take texts as one
    plainly = asked(body)
    assert plainly.messages[0].content == "Be brief.\n\nBe kind."
    assert (plainly.messages[1].content, plainly.messages[3].content) == ("a\n\nb", "sunny")
    assert plainly.tools[0].cache is None


def png(data: str) -> dict[str, Any]:
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}


def shown(data: str) -> Part:
    return Part(kind="image_url", data=f"data:image/png;base64,{data}", media_type="image/png")


def test_documents_and_search_results_that_are_text_are_said_as_text() -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "The law."}
    nested = {"type": "content", "content": [{"type": "text", "text": "inner"}]}
    found = {
        "type": "search_result",
        "title": "T",
        "source": "s",
        "content": [{"type": "text", "text": "found"}],
    }
    blocks = [
        {"type": "document", "title": "Civil Code", "source": source},
        {"type": "document", "source": nested},
        found,
    ]
    request = asked({"messages": [{"role": "user", "content": blocks}]})
    assert request.messages[0].content == "Civil Code\n\nThe law.\n\ninner\n\nT (s)\nfound"


@pytest.mark.parametrize(
    ("choice", "neutral"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "weather"}, "weather"),
    ],
)
def test_every_tool_choice_is_kept(choice: dict[str, Any], neutral: str) -> None:
    assert asked({"tool_choice": choice, "tools": [WEATHER]}).tool_choice == neutral


PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AA"}}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"messages": [{"role": "user", "content": [PDF]}]}, "messages[0].content[0].source.type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file"}}]}]},
            "messages[0].content[0].source.type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "container_upload"}]}]},
            "messages[0].content[0].type",
        ),
        ({"tools": [WEATHER, {"type": "web_search_20260318", "name": "web_search"}]}, "tools[1].type"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"mcp_servers": [{"type": "url", "url": "https://h", "name": "h"}]}, "mcp_servers"),
        ({"frobnicate": 1}, "frobnicate"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "document",
                                "source": {"type": "text", "data": "x"},
                                "citations": {"enabled": True},
                            }
                        ],
                    }
                ]
            },
            "messages[0].content[0].citations.enabled",
        ),
    ],
)
def test_what_other_models_cannot_take_is_refused_and_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(CallRefused) as caught:
        asked(change)
    assert str(caught.value).startswith(field)


# the quick look


def test_a_peek_knows_what_admission_asks() -> None:
    body = json.dumps(ASKED | {"stream": True, "system": "s"}).encode()
    peek = Messages().peek(body, {})
    assert (peek.model, peek.stream, peek.max_tokens, peek.answers) == ("asked", True, 64, 1)
    assert peek.wants_usage and peek.attachments == 0 and peek.text_bytes >= len(body)
    assert peek.opening == b'"s"{"role": "user", "content": "Weather?"}'


def test_the_opening_is_the_same_in_every_turn_of_a_conversation() -> None:
    turns = [
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "3"},
    ]
    openings = {
        Messages().peek(json.dumps(ASKED | {"messages": turns[:length]}).encode(), {}).opening
        for length in (1, 2, 3)
    }
    assert len(openings) == 1


def test_attachments_are_counted_and_their_bytes_are_no_text() -> None:
    large = "A" * 100_000
    content = [
        png(large),
        {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
        {"type": "tool_result", "tool_use_id": "t", "content": [png(large)]},
        {"type": "document", "source": {"type": "text", "data": "text"}},
        {"type": "document", "source": {"type": "content", "content": [png(large)]}},
    ]
    peek = Messages().peek(
        json.dumps(ASKED | {"messages": [{"role": "user", "content": content}]}).encode(), {}
    )
    assert peek.attachments == 4
    assert peek.text_bytes < 4_000


def test_an_attachment_written_with_escapes_is_counted_too() -> None:
    body = json.dumps(ASKED | {"messages": [{"role": "user", "content": [png("A")]}]})
    assert Messages().peek(body.replace('"image"', '"\\u0069mage"').encode(), {}).attachments == 1


def test_a_body_that_is_nested_without_end_is_harmless() -> None:
    surface = Messages()
    source = '{"type":"document","source":{"type":"content","content":['
    for opening, closing in (("[", "]"), ('{"type":"tool_result","content":[', "]}"), (source, "]}}")):
        nested = opening * 300 + closing * 300
        body = f'{{"max_tokens":1,"messages":[{{"role":"user","content":[{nested},"image"]}}]}}'.encode()
        try:
            peek = surface.peek(body, {})
            assert peek.attachments == 0
            surface.request(body, peek, model="m")
        except CallRefused:
            continue
        pytest.fail("it was understood")


def test_tools_that_servers_run_have_no_bound_in_bytes() -> None:
    tools = [WEATHER, {"type": "web_search_20260318", "name": "web_search"}]
    assert Messages().peek(json.dumps(ASKED | {"tools": tools}).encode(), {}).attachments == 1


@given(st.text(max_size=200), st.booleans())
def test_no_prompt_has_more_bytes_than_a_peek_says(said: str, ascii_only: bool) -> None:
    said = said.encode("utf-8", "replace").decode()
    body = json.dumps(ASKED | {"messages": [{"role": "user", "content": said}]}, ensure_ascii=ascii_only)
    assert Messages().peek(body.encode(), {}).text_bytes > len(said.encode())


# passing through


def test_only_the_model_changes_on_the_way_to_anthropic() -> None:
    surface = Messages()
    body = (
        b'{"model":"asked", "max_tokens": 5,"temperature":1.10,'
        b'"messages":[{"role":"user","content":"model"}],"new":{"x":[1e3]},"MAX_TOKENS":999}'
    )
    sent = surface.sent(body, surface.peek(body, {}), model="claude", max_tokens=9)
    assert sent == (
        b'{"model":"claude","max_tokens":5,"temperature":1.10,'
        b'"messages":[{"role":"user","content":"model"}],"new":{"x":[1e3]}}'
    )


def test_thinking_that_another_model_wrote_is_not_sent_to_anthropic() -> None:
    surface = Messages()
    ours = {"type": "thinking", "thinking": "hm", "signature": ""}
    theirs = {"type": "thinking", "thinking": "hm", "signature": "abc"}
    said = {"type": "text", "text": "yes"}
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [ours, said]},
        {"role": "assistant", "content": [ours]},
        {"role": "assistant", "content": [theirs, said]},
    ]
    body = json.dumps(ASKED | {"messages": turns}).encode()
    sent = json.loads(surface.sent(body, surface.peek(body, {}), model="c", max_tokens=None))
    assert sent["messages"] == [turns[0], {"role": "assistant", "content": [said]}, turns[3]]


def test_ids_that_other_vendors_gave_to_calls_reach_anthropic_as_it_takes_them() -> None:
    surface = Messages()
    given = ["functions.f:0", "functions_f_0", "toolu_1", "调用"]
    calls = [{"type": "tool_use", "id": one, "name": "f", "input": {"id": one}} for one in given]
    results = [{"type": "tool_result", "tool_use_id": one, "content": one} for one in given]
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": calls},
        {"role": "user", "content": results},
    ]
    for spaced in ((",", ":"), (", ", ": ")):
        body = json.dumps(ASKED | {"messages": turns}, separators=spaced).encode()
        sent = json.loads(surface.sent(body, surface.peek(body, {}), model="c", max_tokens=None))
        ids = [block["id"] for block in sent["messages"][1]["content"]]
        assert all(re.fullmatch("[a-zA-Z0-9_-]+", one) for one in ids)
        assert (len(set(ids)), ids[1:3]) == (4, given[1:3])
        assert [block["tool_use_id"] for block in sent["messages"][2]["content"]] == ids
        assert [block["input"]["id"] for block in sent["messages"][1]["content"]] == given


def test_ids_that_anthropic_takes_change_no_byte() -> None:
    surface = Messages()
    said = b'[{"role":"user","content":[{"type":"tool_result","tool_use_id":"call-1", "content":"a:0"}]}]'
    body = b'{"model":"c","max_tokens":5,"messages":%s}' % said
    assert surface.sent(body, surface.peek(body, {}), model="c", max_tokens=None) == body


def test_a_whole_answer_says_what_it_used() -> None:
    answer = {
        "type": "message",
        "model": "claude-x",
        "stop_reason": "end_turn",
        "usage": {
            "input_tokens": 30,
            "cache_read_input_tokens": 60,
            "cache_creation_input_tokens": 10,
            "cache_creation": {"ephemeral_5m_input_tokens": 7, "ephemeral_1h_input_tokens": 3},
            "output_tokens": 12,
            "output_tokens_details": {"thinking_tokens": 4},
        },
    }
    seen = Messages().seen(json.dumps(answer).encode())
    assert (seen.usage, seen.model, seen.finish_reason, seen.complete) == (
        USAGE,
        "claude-x",
        "end_turn",
        True,
    )


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"usage": 7}', b'{"usage": {"input_tokens": "x"}}']
)
def test_an_answer_that_cannot_be_read_is_unknown(body: bytes) -> None:
    assert Messages().seen(body).usage is None


STREAM = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant",'
    b'"model":"claude-x","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":30,'
    b'"cache_read_input_tokens":60,"cache_creation_input_tokens":10,'
    b'"cache_creation":{"ephemeral_5m_input_tokens":7,"ephemeral_1h_input_tokens":3},"output_tokens":1}}}\n\n'
    b'event: ping\ndata: {"type": "ping"}\n\n'
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
    b'"content_block":{"type":"text","text":""}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta",'
    b'"text":"\\"usage\\": message_stop \\"error\\" \xe4\xbd\xa0\xe5\xa5\xbd"}}\n\n'
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},'
    b'"usage":{"output_tokens":12,"output_tokens_details":{"thinking_tokens":4}}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)


def test_a_stream_is_understood_however_it_is_cut() -> None:
    for line_end in (b"\n", b"\r\n"):
        stream = STREAM.replace(b"\n", line_end)
        for cut in range(len(stream) + 1):
            watch = Messages().watch(QUICK)
            passed = watch.feed(stream[:cut]) + watch.feed(stream[cut:]) + watch.rest()
            assert passed == stream
            seen = watch.seen()
            assert (seen.usage, seen.model, seen.finish_reason) == (USAGE, "claude-x", "end_turn")
            assert seen.complete and not seen.failed


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_a_stream_in_any_number_of_pieces_is_understood(cuts: list[int]) -> None:
    watch = Messages().watch(QUICK)
    edges = [0, *sorted(cuts), len(STREAM)]
    passed = b"".join(watch.feed(STREAM[start:end]) for start, end in itertools.pairwise(edges))
    assert passed + watch.rest() == STREAM
    assert watch.seen().usage == USAGE


def test_a_stream_that_breaks_off_is_incomplete_and_knows_its_prompt() -> None:
    end = STREAM.index(b"event: message_delta")
    for cut in range(end):
        watch = Messages().watch(QUICK)
        watch.feed(STREAM[:cut])
        watch.rest()
        seen = watch.seen()
        assert not seen.complete
        assert seen.usage is None or seen.usage.tokens_out is None
    assert seen.usage == Usage(
        tokens_in=100, tokens_cached=60, tokens_cache_write=10, tokens_cache_write_1h=3
    )
    assert seen.text_bytes > 0


def test_how_much_text_came_is_estimated_within_a_tenth() -> None:
    surface = Messages()
    said = ["the quick brown fox jumps over the lazy dog "] * 200
    stream = streamed(surface, QUICK, [Delta(text=piece) for piece in said])
    watch = surface.watch(QUICK)
    for start in range(0, len(stream), 1460):
        watch.feed(stream[start : start + 1460])
    assert watch.seen().text_bytes == pytest.approx(sum(map(len, said)), rel=0.1)


def test_a_server_that_counts_at_the_end_is_not_believed_at_the_beginning() -> None:
    stream = streamed(Messages(), QUICK, SAID)
    watch = Messages().watch(QUICK)
    watch.feed(stream[: stream.index(b"event: message_delta")])
    assert watch.seen().usage is None
    watch.feed(stream[stream.index(b"event: message_delta") :])
    assert watch.seen().usage == USAGE


def test_an_error_event_is_a_failed_stream() -> None:
    watch = Messages().watch(QUICK)
    watch.feed(STREAM[: STREAM.index(b"event: message_delta")])
    watch.feed(
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    )
    seen = watch.seen()
    assert (seen.failed, seen.complete) == ("Overloaded", False)


def test_whole_events_pass_at_once_and_half_an_event_waits_for_its_end() -> None:
    for line_end in (b"\n", b"\r\n", b"\r"):
        stream, blank = STREAM.replace(b"\n", line_end), line_end * 2
        for size in (1, 2, 3, 7, 100, 1000):
            watch, passed = Messages().watch(QUICK), b""
            for start in range(0, len(stream), size):
                passed += watch.feed(stream[start : start + size])
                came = stream[: start + size]
                assert passed == came[: came.rfind(blank) + len(blank)] if blank in came else not passed
            assert (passed, watch.rest()) == (stream, b"")


def test_an_event_without_its_blank_line_is_not_lost_at_the_end() -> None:
    for missing in (1, 2):
        watch = Messages().watch(QUICK)
        passed, rest = watch.feed(STREAM[:-missing]), watch.rest()
        assert passed + rest == STREAM[:-missing]
        assert rest.startswith(b"event: message_stop")
        assert watch.seen().complete
        assert watch.rest() == b""


@pytest.mark.parametrize("block", [b"x" * (1 << 20), b"data: x\n" * (1 << 17)])
def test_an_event_without_end_does_not_fill_the_memory(block: bytes) -> None:
    watch = Messages().watch(QUICK)
    passed = b"".join(watch.feed(block) for _ in range(20))
    assert 20 * len(block) - len(passed) <= LONGEST_EVENT
    passed += watch.feed(b'"usage" message_stop\n') + watch.feed(STREAM) + watch.rest()
    assert passed == block * 20 + b'"usage" message_stop\n' + STREAM
    assert watch.seen().usage == USAGE


def test_an_event_of_many_pieces_is_not_searched_again_with_each() -> None:
    watch = Messages().watch(QUICK)
    line = b"data: x\n" * 50
    began = time.process_time()
    for _ in range(40_000):
        watch.feed(line)
    assert time.process_time() - began < 5


# there and back

said = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(str.strip)
names = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
tool_calls = st.builds(
    ToolCall,
    id=st.from_regex(r"c[a-z0-9]{1,8}", fullmatch=True),
    name=names,
    arguments=st.dictionaries(said, st.integers(0, 99), max_size=2).map(
        lambda given: json.dumps(given, ensure_ascii=False, separators=(",", ":"))
    ),
)
pictures = st.builds(
    lambda data: Part(kind="image_url", data=f"data:image/png;base64,{data}", media_type="image/png"),
    st.sampled_from(["AAAA", "BBBB"]),
)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    messages = [Message(role="system", content=draw(said))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        parts = (Part(kind="text", data=draw(said)), draw(pictures))
        messages.append(Message(role="user", content=draw(st.one_of(said, st.just(parts)))))
        calls = tuple(draw(st.lists(tool_calls, max_size=2)))
        messages.append(Message(role="assistant", content=draw(said), tool_calls=calls))
        messages += [Message(role="tool", content=draw(said), tool_call_id=call.id) for call in calls]
        if calls:
            messages.append(Message(role="assistant", content=draw(said)))
    return tuple(messages)


@given(
    st.builds(
        Request,
        model=st.just("m"),
        messages=conversations(),
        sampling=st.builds(
            Sampling,
            temperature=st.none() | st.floats(0, 1),
            top_p=st.none() | st.floats(0, 1),
            max_tokens=st.integers(1, 99),
            stop=st.lists(said, max_size=2).map(tuple),
        ),
        tools=st.lists(
            st.builds(Tool, name=names, description=said, parameters=st.just({"type": "object"})), max_size=2
        ).map(tuple),
        tool_choice=st.sampled_from([None, "auto", "none", "required", "weather"]),
        response_format=st.none() | st.just(JsonFormat(schema={"type": "array"})),
    ).filter(lambda request: bool(request.tools) or request.tool_choice is None)
)
def test_what_our_own_client_of_the_api_asks_is_understood_as_it_was_meant(request: Request) -> None:
    settings = ProviderSettings(base_url="http://127.0.0.1:9")
    provider = AnthropicProvider(Vendor(name="a", title="A", protocol="anthropic"), settings)
    body = json.dumps(provider.outgoing(request, frozenset(), stream=False).body).encode()
    surface = Messages()
    assert surface.request(body, surface.peek(body, {}), model="m") == request


deltas = st.lists(
    st.builds(
        Delta,
        text=st.text(st.characters(codec="utf-8"), max_size=8),
        reasoning=st.text(st.characters(codec="utf-8"), max_size=8),
        tool_calls=st.lists(
            st.builds(
                ToolCall,
                id=st.from_regex(r"[a-z0-9_]{1,8}", fullmatch=True),
                name=st.from_regex(r"[a-z]{1,8}", fullmatch=True),
                arguments=st.dictionaries(
                    st.text(st.characters(codec="utf-8"), max_size=4), st.integers()
                ).map(json.dumps),
            ),
            max_size=2,
        ).map(tuple),
    ),
    max_size=6,
)


@given(deltas, st.integers(1, 64))
def test_what_is_written_as_events_is_read_back_by_our_own_client(pieces: list[Delta], size: int) -> None:
    stream = streamed(Messages(), QUICK, [*pieces, Delta(finish_reason="stop", usage=USAGE)])
    parser, reader = SseParser(), EventReader(Place(host="h", model="m", key=""))
    found: list[Delta] = []
    for start in range(0, len(stream), size):
        for event in parser.feed(stream[start : start + size]):
            found += reader.feed(event)
    found += reader.close()
    assert "".join(one.text for one in found) == "".join(one.text for one in pieces)
    assert "".join(one.reasoning for one in found) == "".join(one.reasoning for one in pieces)
    calls = [call for one in found for call in one.tool_calls]
    wanted = [call for one in pieces for call in one.tool_calls]
    assert [(call.id, call.name, json.loads(call.arguments)) for call in calls] == [
        (call.id, call.name, json.loads(call.arguments)) for call in wanted
    ]
    assert found[-1].usage == USAGE
    assert found[-1].finish_reason == ("tool_calls" if wanted else "stop")


def test_half_a_surrogate_pair_in_a_call_does_not_break_the_answer() -> None:
    call = ToolCall(id="c", name="n", arguments='{"x": "\\ud83d"}')
    stream = streamed(Messages(), QUICK, [Delta(tool_calls=(call,), finish_reason="tool_calls")])
    assert b"\\\\ud83d" in stream or b"\\ud83d" in stream
