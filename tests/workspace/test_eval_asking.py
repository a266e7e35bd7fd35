"""How evaluations ask: what is asked again, what is an error, and what is counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from baimo.core.call import JsonFormat, Request, Sampling
from baimo.core.message import Message
from baimo.errors import CallRefused
from baimo.gateway.idle import Gate, Room
from baimo.store.evaluation_runs import ModelTokens
from baimo.workspace.eval_asking import CHAT, EMBEDDINGS, Asker, Halted, Line, Said

GOOD = {
    "model": "m-1",
    "choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}},
}
REQUEST = Request(
    model="v/m",
    messages=(Message(role="user", content="?"),),
    sampling=Sampling(max_tokens=9),
    response_format=JsonFormat(schema={"type": "object"}, name="score"),
    extra={"reasoning_effort": "low"},
)


class Server:
    """Says what it was told to, one after the other."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, Any]] = []
        self.pauses: list[float] = []

    async def send(self, path: str, body: bytes) -> Said:
        self.asked.append((path, json.loads(body)))
        answer = self.answers.pop(0)
        return answer if isinstance(answer, Said) else Said(200, json.dumps(answer).encode())

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def line(self, halted: Callable[[], bool] = lambda: False, *, gated: bool = True) -> Line:
        gate = Gate({}, lambda _: Room(4, 4, False)) if gated else None
        return Line(self.send, "v/embedder", gate, lambda _: frozenset({"v"}), halted, self.pause)


def error(status: int, retry_after_s: float | None = None, **facts: str) -> Said:
    return Said(status, json.dumps({"error": {"message": "no", **facts}}).encode(), retry_after_s)


def test_a_request_is_asked_in_openais_words_and_counted() -> None:
    server = Server(GOOD, GOOD)
    asker = Asker(server.line())
    completion = asyncio.run(asker.complete(REQUEST))
    assert (completion.text, completion.model, completion.usage.tokens_cached) == ("yes", "m-1", 3)
    path, body = server.asked[0]
    assert path == CHAT and body["model"] == "v/m" and body["reasoning_effort"] == "low"
    assert body["response_format"]["json_schema"]["name"] == "score"
    asyncio.run(asker.complete(REQUEST))
    assert asker.taken == {
        "v/m": ModelTokens(model="v/m", calls=2, tokens_in=10, tokens_out=4, tokens_cached=6)
    }


def test_vectors_come_in_the_order_of_their_texts() -> None:
    rows = [{"index": 1, "embedding": [0, 1]}, {"index": 0, "embedding": [1, 0]}]
    server = Server({"data": rows, "usage": {"prompt_tokens": 4}}, {"data": rows[:1]})
    asker = Asker(server.line())
    made = asyncio.run(asker.embed(["a", "b"]))
    assert made.vectors == [[1.0, 0.0], [0.0, 1.0]] and made.model == "v/embedder"
    assert server.asked[0][0] == EMBEDDINGS and asker.taken["v/embedder"].tokens_in == 4
    with pytest.raises(CallRefused):
        asyncio.run(asker.embed(["a", "b"]))
    assert Asker(server.line()._replace(embedder="")).helpers.embed is None


def test_a_full_server_is_asked_again_after_its_pause_and_a_broken_one_twice() -> None:
    server = Server(error(429, 7.0), error(503, 1.0), error(502), error(504), GOOD)
    assert asyncio.run(Asker(server.line()).complete(REQUEST)).text == "yes"
    assert server.pauses == [7.0, 1.0, 2.0, 10.0]
    broken = Server(error(502), error(502), error(502, code="upstream_error"))
    with pytest.raises(CallRefused) as caught:
        asyncio.run(Asker(broken.line()).complete(REQUEST))
    assert (caught.value.facts["status"], caught.value.facts["code"]) == (502, "upstream_error")


@pytest.mark.parametrize(
    "answer",
    [
        error(400, code="invalid_value"),
        error(429, 3600.0, code="invalid_value"),
        error(429, code="invalid_value"),
    ],
)
def test_what_waiting_does_not_help_is_an_error_at_once(answer: Said) -> None:
    server = Server(answer)
    with pytest.raises(CallRefused, match="no") as caught:
        asyncio.run(Asker(server.line()).complete(REQUEST))
    assert caught.value.facts["code"] == "invalid_value" and server.pauses == []


def test_an_answer_that_cannot_be_read_is_an_error_with_its_status() -> None:
    with pytest.raises(CallRefused, match="500"):
        asyncio.run(Asker(Server(Said(500, b"<html>")).line()).complete(REQUEST))


def test_who_waits_is_told_at_once_and_nothing_is_asked_again() -> None:
    server = Server(error(429, 1.0))
    with pytest.raises(CallRefused):
        asyncio.run(Asker(server.line(gated=False)).complete(REQUEST))


def test_nothing_is_begun_when_the_run_ends() -> None:
    server = Server(GOOD)
    with pytest.raises(Halted):
        asyncio.run(Asker(server.line(lambda: True)).complete(REQUEST))
    assert server.asked == []
