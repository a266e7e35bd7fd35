"""The semantic cache as clients of a whole endpoint meet it, with a model's server that embeds."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from baimo.workspace.ledger_options import ShowOptions
from tests.server.served import Said, Served, served
from tests.server.upstream import upstream
from tests.waiting import PATIENCE_S, until

TOML = """
[providers.acme]
base_url = "http://127.0.0.1:{port}/v1"
inside = true
[models."acme/small"]
input_per_million = 1.0
output_per_million = 2.0
[models."acme/vectors"]
input_per_million = 0.5
output_per_million = 0.0
[policy]
cache = "on"
"""
OPEN = 'semantic_cache = 0.95\nsemantic_model = "acme/vectors"\n'
ANGLES = {"What time is it?": 0.0, "What's the time?": 0.2, "Who are you?": 1.5}


class Vendor:
    """Says what it was asked, and shows each question as a direction in a plane."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []

    def __call__(self, path: str, body: Any) -> Any:
        self.asked.append((path, body))
        if path == "/v1/embeddings":
            angle = ANGLES[body["input"]]
            row = {"object": "embedding", "index": 0, "embedding": [math.cos(angle), math.sin(angle)]}
            usage = {"prompt_tokens": 4, "total_tokens": 4}
            return {"object": "list", "model": "vectors", "data": [row], "usage": usage}
        message = {"role": "assistant", "content": f"You asked: {body['messages'][-1]['content']}"}
        return {
            "id": "x",
            "object": "chat.completion",
            "created": 1,
            "model": "small",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7},
        }

    @property
    def embedded(self) -> list[str]:
        return [body["input"] for path, body in self.asked if path == "/v1/embeddings"]


def content(said: Said) -> str:
    assert said.status == 200, said.body
    return str(said.data["choices"][0]["message"]["content"])


def lines(house: Served, count: int) -> list[tuple[str, str, int | None]]:
    house.recorded(count)
    records = [line.record for line in house.workspace.bookkeeping.newest(ShowOptions(record=""))]
    return [(one.surface, one.route, one.cost_micros) for one in reversed(records)]


def test_a_similar_question_is_answered_without_asking_the_model_again(tmp_path: Path) -> None:
    vendor = Vendor()
    with upstream() as server:
        server.answers = vendor
        with served(tmp_path, TOML.format(port=server.port) + OPEN) as house:
            key, other = house.key(), house.key(tenant=house.tenant("other").id)
            first = house.chat(key, "What time is it?")
            similar = house.chat(key, "What's the time?")
            assert content(similar) == content(first) == "You asked: What time is it?"
            assert similar.headers["x-baimo-cache"] == f"similar; cosine={math.cos(0.2):.4f}"
            assert "x-baimo-cache" not in first.headers
            assert house.chat(key, "What time is it?").headers["x-baimo-cache"] == "hit"
            assert content(house.chat(key, "Who are you?")) == "You asked: Who are you?"
            assert content(house.chat(other, "What's the time?")) == "You asked: What's the time?"
            assert vendor.embedded == [*ANGLES, "What's the time?"]
            assert lines(house, 9) == [
                ("embeddings", "direct", 2),
                ("chat", "direct", 10),
                ("embeddings", "direct", 2),
                ("chat", "cache", 0),
                ("chat", "cache", 0),
                ("embeddings", "direct", 2),
                ("chat", "direct", 10),
                ("embeddings", "direct", 2),
                ("chat", "direct", 10),
            ]


def test_it_is_off_until_it_is_asked_for_and_needs_no_restart(tmp_path: Path) -> None:
    vendor = Vendor()
    with upstream() as server:
        server.answers = vendor
        toml = TOML.format(port=server.port)
        with served(tmp_path, toml) as house:
            key = house.key()
            for text in ("What time is it?", "What's the time?"):
                assert content(house.chat(key, text)) == f"You asked: {text}"
            assert vendor.embedded == []
            service = house.state["service"]
            (tmp_path / "baimo.toml").write_text(toml + OPEN, encoding="utf-8")
            deadline = time.monotonic() + PATIENCE_S
            while service.parts.semantic is None:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert content(house.chat(key, "Who are you?")) == "You asked: Who are you?"
            assert vendor.embedded == ["Who are you?"]


def test_a_running_server_drops_the_answers_of_a_tenant_that_is_forgotten(tmp_path: Path) -> None:
    vendor = Vendor()
    with upstream() as server:
        server.answers = vendor
        with served(tmp_path, TOML.format(port=server.port)) as house:
            keys = [house.key(tenant=house.tenant(name).id) for name in ("stays", "goes")]
            for key in keys:
                content(house.chat(key))
                assert house.chat(key).headers["x-baimo-cache"] == "hit"
            house.workspace.accounting.forget_tenant("goes")  # as another process does
            until(lambda: "x-baimo-cache" not in house.chat(keys[1]).headers)
            assert house.chat(keys[0]).headers["x-baimo-cache"] == "hit"
