"""llama.cpp: a closed door, exact counts, log-probabilities, schemas, cancellation."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from local_model import BRIEF, FRANCE, LABELS, asked
from local_model import engine as engine_of
from tests.waiting import settled

from baimo.core.call import Completion, JsonFormat
from baimo.errors import RequestRefused
from baimo.providers.local import LocalProvider

pytestmark = pytest.mark.local


@pytest.mark.skipif(sys.platform == "win32", reason="no Unix sockets")
def test_its_server_listens_on_a_private_socket_and_wants_a_key(on_llamacpp: LocalProvider) -> None:
    engine = asyncio.run(engine_of(on_llamacpp))
    address: str = engine.address  # type: ignore[attr-defined]
    assert address.startswith("unix://")
    path = Path(address.removeprefix("unix://"))
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    connection.request("POST", "/completion", json.dumps({"prompt": "hi", "n_predict": 1}))
    assert connection.getresponse().status == 401
    connection.close()


def test_counts_are_exact_and_a_known_beginning_is_counted_as_cached(on_llamacpp: LocalProvider) -> None:
    request = asked(FRANCE, max_tokens=16, system=BRIEF)

    async def ask() -> list[Completion]:
        return [await on_llamacpp.complete(request) for _ in range(2)]

    first, second = asyncio.run(ask())
    assert first.text == second.text == "The capital of France is Paris."
    assert first.finish_reason == "stop"
    assert first.usage.tokens_in == 26
    assert first.usage.tokens_out == 8  # seven for the text and the end of turn
    assert second.usage.tokens_cached == 25
    assert first.latency_ms is not None and first.latency_ms > 0


def test_log_probabilities_come_with_their_alternatives(on_llamacpp: LocalProvider) -> None:
    request = replace(asked("Is water wet? Answer yes or no.", max_tokens=4), top_logprobs=3)
    answer = asyncio.run(on_llamacpp.complete(request))
    assert answer.logprobs is not None and len(answer.logprobs) == answer.usage.tokens_out
    for token in answer.logprobs:
        assert len(token.top) == 3
        assert token.top[0] == (token.token, token.logprob)
        assert token.top[0][1] >= token.top[1][1] >= token.top[2][1]


def test_every_constrained_answer_satisfies_the_schema(on_llamacpp: LocalProvider) -> None:
    requests = [
        asked(f"Case {n}: lost", schema=True, max_tokens=128, temperature=1.3, seed=n) for n in range(4)
    ]

    async def ask() -> list[Completion]:
        return list(await asyncio.gather(*map(on_llamacpp.complete, requests)))

    for answer in asyncio.run(ask()):
        assert answer.finish_reason == "stop"
        assert json.loads(answer.text)["label"] in LABELS


def test_a_malformed_schema_is_refused_instead_of_ignored(on_llamacpp: LocalProvider) -> None:
    """The library itself answers such a request with free text."""
    request = replace(asked("hi"), response_format=JsonFormat(schema={"type": "objec"}))
    with pytest.raises(RequestRefused, match="JSON Schema cannot be enforced"):
        asyncio.run(on_llamacpp.complete(request))


def test_stop_strings_end_the_answer_and_are_not_part_of_it(on_llamacpp: LocalProvider) -> None:
    answer = asyncio.run(on_llamacpp.complete(asked(FRANCE, stop=("Paris",), system=BRIEF)))
    assert answer.text == "The capital of France is "
    assert answer.finish_reason == "stop"


def test_a_prompt_beyond_the_window_is_refused_with_both_sizes(on_llamacpp: LocalProvider) -> None:
    with pytest.raises(RequestRefused, match=r"about 90\d\d tokens.*8192"):
        asyncio.run(on_llamacpp.complete(asked("a " * 9000)))


def test_a_caller_that_goes_away_ends_the_work(on_llamacpp: LocalProvider) -> None:
    async def ask() -> int:
        engine = await engine_of(on_llamacpp)
        deltas = on_llamacpp.stream(asked("Count to a thousand", max_tokens=900))
        assert (await anext(deltas)).text
        await deltas.aclose()  # type: ignore[attr-defined]
        await settled(lambda: engine.running == 0)  # type: ignore[attr-defined]
        return engine.running  # type: ignore[attr-defined]

    assert asyncio.run(ask()) == 0
