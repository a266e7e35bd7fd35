"""Whatever a client sends: an answer or a refusal in the API's words, never a fault of ours."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from baimo.errors import CallRefused
from baimo.gateway.surface import Surface
from baimo.server.surfaces.table import surfaces

SURFACES = list(surfaces().values())
HEADERS = {b"content-type": b"multipart/form-data; boundary=b"}
NAMES = [
    "model", "messages", "prompt", "input", "query", "documents", "stream", "n", "best_of", "max_tokens",
    "max_completion_tokens", "stream_options", "include_usage", "tools", "functions", "function_call", "tool_choice",
    "response_format", "json_schema", "schema", "logprobs", "top_logprobs", "stop", "seed", "temperature", "role",
    "content", "type", "text", "image_url", "url", "input_audio", "tool_calls", "tool_call_id", "function", "name",
    "arguments", "id", "modalities", "audio", "prediction", "system", "stream_format", "echo", "suffix", "usage",
    "prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "choices", "finish_reason", "meta",
]  # fmt: skip
WORDS = [
    "user", "assistant", "system", "tool", "function", "developer", "text", "image_url", "input_audio", "file", "auto",
    "json_schema", "json_object", "allowed_tools", "custom", "sse", "", "\ud800", "晴", "x",
]  # fmt: skip
leaves = (
    st.none()
    | st.booleans()
    | st.sampled_from([0, 1, -1, 2, 10**30, 0.5, 1e308, -0.0])
    | st.sampled_from(WORDS)
    | st.sampled_from(NAMES)
)
trees: Any = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=8,
)
turns = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(WORDS)},
        optional={
            "content": trees, "tool_calls": trees, "function_call": trees, "tool_call_id": trees, "name": trees,
            "refusal": trees, "audio": trees,
        },
    ),
    max_size=3,
)  # fmt: skip
bodies = st.fixed_dictionaries(
    {"model": st.just("m") | trees},
    optional={**dict.fromkeys(NAMES[1:], trees), "messages": turns, "prompt": trees, "input": trees},
)


def tried(surface: Surface, body: bytes) -> None:
    surface.seen(body)
    try:
        peek = surface.peek(body, HEADERS)
        assert peek.answers >= 1 and peek.text_bytes >= 0 and peek.attachments >= 0
        assert peek.max_tokens is None or peek.max_tokens >= 0
        sent = surface.sent(body, peek, model="up", max_tokens=5)
        assert surface.peek(sent, HEADERS).model == "up"
        if surface.neutral:
            surface.request(body, peek, model="up")
    except CallRefused as error:
        assert 400 <= error.http_status < 500
        assert json.loads(surface.refusal(error, request_id="r"))["error"]["message"]


@pytest.mark.parametrize("surface", SURFACES, ids=lambda one: one.name)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(bodies)
@example(
    {
        "model": "m",
        "input": {"text": "\ud800"},
        "prompt": ["\ud800"],
        "query": {"x": "\ud800"},
        "documents": [{}],
    }
)
@example({"model": "m", "input": [{"image": "\ud800"}], "messages": [{"role": "user", "content": "\ud800"}]})
def test_any_json_is_answered_or_refused(surface: Surface, body: dict[str, Any]) -> None:
    tried(surface, json.dumps(body).encode())


@pytest.mark.parametrize("surface", SURFACES, ids=lambda one: one.name)
@given(
    st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
@example(
    b'{"model":"m","messages":[{"role":"user","content":"'
    + b"\xff"
    + b'"}],"input":[{"a":"\xff"}],"prompt":["\xff"]}'
)
@example(b'{"input":' + b"[" * 100_000 + b'{"')
@example(
    b'{"input":'
    + b"[" * 900
    + b"{}"
    + b"]" * 900
    + b',"query":"q","documents":['
    + b"[" * 900
    + b"]" * 900
    + b"]}"
)
def test_any_bytes_are_refused_and_nothing_breaks(surface: Surface, body: bytes) -> None:
    tried(surface, body)


@pytest.mark.parametrize("surface", SURFACES, ids=lambda one: one.name)
@given(
    st.lists(
        st.binary(max_size=60)
        | st.sampled_from([b"data: {}\n\n", b'data: {"usage":{"x_tokens":1}}\n\n', b"\n\n", b"data: [DONE]"]),
        max_size=6,
    )
)
def test_no_stream_breaks_its_watch(surface: Surface, pieces: list[bytes]) -> None:
    body: dict[str, Any] = {
        "model": "m",
        "messages": [],
        "input": "i",
        "query": "q",
        "documents": [],
        "max_tokens": 1,
    }
    if surface.name != "responses":
        body["prompt"] = "p"
    form = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b--\r\n'
    peek = surface.peek(form if surface.name == "transcriptions" else json.dumps(body).encode(), HEADERS)
    watch = surface.watch(peek)
    for piece in pieces:
        watch.feed(piece)
        watch.seen()
    watch.rest()
    assert watch.seen().usage is None or watch.seen().usage
