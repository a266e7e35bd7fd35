"""Text completions with the official OpenAI SDK as client and judge of shapes."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion as WireCompletion

from baimo.core.call import Completion, Delta, Sampling, TokenLogprob, Usage
from baimo.core.message import Message
from baimo.errors import CallRefused
from baimo.providers.sse import SseParser
from baimo.server.surfaces.completions import Completions
from tests.server.surfaces.counting import counted
from tests.server.surfaces.endpoint import CALL, CREATED, Endpoint, listening, streamed

USAGE = Usage(tokens_in=7, tokens_out=3)
SAID = [Delta(text="Once "), Delta(text="more."), Delta(finish_reason="length", usage=USAGE)]


def body_of(**fields: Any) -> bytes:
    return json.dumps({"model": "asked", "prompt": "Say", **fields}).encode()


def peeked(**fields: Any) -> Any:
    return Completions().peek(body_of(**fields), {})


@pytest.mark.parametrize(
    ("fields", "answers"),
    [
        ({}, 1),
        ({"n": 3}, 3),
        ({"n": 2, "best_of": 5}, 5),
        ({"prompt": ["a", "b"], "n": 3}, 6),
        ({"prompt": ["a"]}, 1),
        ({"prompt": []}, 1),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": [[1, 2], [3], [4]]}, 3),
        ({"prompt": None}, 1),
    ],
)
def test_every_prompt_is_answered_and_every_draft_is_paid_for(fields: dict[str, Any], answers: int) -> None:
    assert peeked(**fields).answers == answers


def test_a_prompt_of_token_numbers_has_no_more_tokens_than_bytes() -> None:
    assert peeked(prompt=[7] * 1000).text_bytes > 1000


def test_the_body_is_sent_with_the_models_own_name_and_usage_asked_for() -> None:
    body = body_of(stream=True, suffix="end", logit_bias={"50256": -100})
    sent = Completions().sent(body, Completions().peek(body, {}), model="up", max_tokens=9)
    assert json.loads(sent) == {
        **json.loads(body), "model": "up", "max_tokens": 9, "stream_options": {"include_usage": True},
    }  # fmt: skip


def test_the_longest_answer_keeps_its_name_where_chat_has_another_for_it() -> None:
    quirks = frozenset({"max_completion_tokens", "no_stream_options"})
    for limit, added in (({"max_tokens": 5}, None), ({}, 9)):
        body = body_of(stream=True, **limit)
        sent = Completions().sent(
            body, Completions().peek(body, {}), model="up", max_tokens=added, quirks=quirks
        )
        assert json.loads(sent) == {**json.loads(body), "model": "up", "max_tokens": added or 5}


def test_a_prompt_is_said_as_one_message() -> None:
    body = body_of(prompt=["Say"], max_tokens=5, stop=["\n"], temperature=0.5, logprobs=2, user="u", seed=1)
    request = Completions().request(body, Completions().peek(body, {}), model="m")
    assert request.messages == (Message(role="user", content="Say"),)
    assert request.sampling == Sampling(max_tokens=5, stop=("\n",), temperature=0.5, seed=1)
    assert (request.top_logprobs, request.extra) == (2, {"user": "u"})


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"echo": True}, "echo"),
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1, 2]]}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"logprobs": 1, "stream": True}, "logprobs"),
    ],
)
def test_what_cannot_be_said_neutrally_is_refused_by_name(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(CallRefused) as caught:
        Completions().request(body_of(**fields), peeked(**fields), model="m")
    assert caught.value.facts["field"] == field
    assert caught.value.hint
    with pytest.raises(CallRefused):
        Completions().peek(b'{"model": "m"}', {})


def test_answers_and_streams_are_what_the_sdk_expects() -> None:
    endpoint = Endpoint(Completions(), lambda _: SAID)
    with (
        listening(endpoint) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="k", max_retries=0) as client,
    ):
        answer = client.completions.create(model="asked", prompt="Say")
        chunks = list(
            client.completions.create(
                model="asked", prompt="Say", stream=True, stream_options={"include_usage": True}
            )
        )
    assert (answer.id, answer.created, answer.model) == (f"cmpl-{CALL}", CREATED, "asked")
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("Once more.", "length")
    assert answer.usage is not None and answer.usage.total_tokens == 10
    assert "".join(one.choices[0].text for one in chunks if one.choices) == "Once more."
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 3
    assert chunks[-2].choices[0].finish_reason == "length"


@given(st.lists(st.tuples(st.text("ab晴", min_size=1), st.floats(-9, 0)), max_size=4))
def test_logprobs_point_into_the_text(tokens: list[tuple[str, float]]) -> None:
    logprobs = tuple(
        TokenLogprob(token=token, logprob=value, top=((token, value),)) for token, value in tokens
    )
    text = "".join(token for token, _ in tokens)
    body = Completions().answer(
        [Completion(text=text, logprobs=logprobs, finish_reason="stop")], peeked(), id="i", created_s=1
    )
    found = WireCompletion.model_validate_json(body, strict=True).choices[0].logprobs
    assert found is not None and found.text_offset is not None and found.tokens is not None
    assert [
        text[at:].startswith(token) for at, token in zip(found.text_offset, found.tokens, strict=True)
    ] == [True for _ in tokens]


def test_a_stream_passed_through_is_watched_like_chat() -> None:
    peek = peeked(stream=True)
    with_usage = streamed(Completions(), peeked(stream=True, stream_options={"include_usage": True}), SAID)
    watch = Completions().watch(peek)
    kept = watch.feed(with_usage) + watch.rest()
    assert counted(watch.seen()) == USAGE
    assert watch.seen().complete
    events = [event.data for event in SseParser().feed(kept)]
    assert events[-1] == "[DONE]"
    assert all(json.loads(data)["choices"] for data in events[:-1])
    assert [json.loads(data)["choices"][0]["text"] for data in events[:2]] == ["Once ", "more."]
    assert all(
        "usage" not in json.loads(event.data)
        for event in SseParser().feed(streamed(Completions(), peek, SAID))
        if event.data != "[DONE]"
    )
