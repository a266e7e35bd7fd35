from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import anthropic
import pytest

from baimo.core.call import Completion, Request, Usage
from baimo.errors import BaimoError, CallRefused, NotSupported
from baimo.server.surfaces.count_tokens import CountTokens
from tests.server.surfaces.endpoint import CALL, CREATED, listening

ASKED: Any = {"model": "asked", "messages": [{"role": "user", "content": "one two three"}]}
BODY = json.dumps(ASKED).encode()


def words(request: Request) -> int | None:
    if request.model == "unknown":
        return None
    return sum(len(str(message.content).split()) for message in request.messages)


class App:
    """Answers what a counter counts."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.paths: list[str] = []

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        self.paths.append(scope["path"])
        try:
            status, answer = 200, CountTokens().count(body, model=self.model, counter=words)
        except BaimoError as error:
            status, answer = error.http_status, CountTokens().refusal(error, request_id="r")
        headers = [(b"content-type", b"application/json"), (b"x-should-retry", b"false")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


def test_the_sdk_gets_the_count_of_the_models_own_tokenizer() -> None:
    app = App("known")
    with listening(app) as address, anthropic.Anthropic(base_url=address, api_key="k") as client:
        assert client.messages.count_tokens(**ASKED, system="four").input_tokens == 4
    assert app.paths == ["/v1/messages/count_tokens"]


def test_without_a_tokenizer_nothing_is_guessed() -> None:
    with (
        listening(App("unknown")) as address,
        anthropic.Anthropic(base_url=address, api_key="k") as client,
        pytest.raises(anthropic.APIStatusError) as caught,
    ):
        client.messages.count_tokens(**ASKED)
    assert caught.value.status_code == 501
    assert "no tokenizer of unknown" in str(caught.value)


def test_passing_through_needs_no_max_tokens_and_costs_nothing() -> None:
    surface = CountTokens()
    peek = surface.peek(BODY, {})
    assert (peek.model, peek.stream, peek.text_bytes, peek.attachments) == ("asked", False, 0, 0)
    assert json.loads(surface.sent(BODY, peek, model="c", max_tokens=5)) == ASKED | {"model": "c"}
    assert surface.seen(b'{"input_tokens": 12}').usage == Usage(tokens_in=0, tokens_out=0)


def test_no_model_is_ever_called_for_a_count() -> None:
    surface = CountTokens()
    assert not surface.neutral
    with pytest.raises(NotSupported):
        surface.answer(Completion(text="x"), surface.peek(BODY, {}), id=CALL, created_s=CREATED)


def test_what_cannot_be_said_to_the_model_is_not_counted_either() -> None:
    body = json.dumps(ASKED | {"messages": [{"role": "user", "content": [{"type": "container_upload"}]}]})
    with pytest.raises(CallRefused):
        CountTokens().count(body.encode(), model="known", counter=words)
