from __future__ import annotations

import asyncio
import math
import threading
from typing import Any

import msgspec
import pytest

from baimo.core.tenant import Limit, Tenant
from baimo.errors import ConfigError
from baimo.gateway.semantic import QUESTIONS, Question, Semantic
from baimo.server.surfaces.embeddings import Embeddings
from tests.gateway.doubles import House, Script, answer, asking, key
from tests.waiting import PATIENCE_S

ON = Tenant(id="t", cache="on")
POLICY = {"policy": {"semantic_cache": 0.9, "semantic_model": "acme/vectors"}}
ANGLES = {"hello": 0.0, "hello!": 0.1, "goodbye": 1.5, "nothing": None}


def embedded(row: Any) -> Script:
    """Each text is a direction in a plane."""
    angle = ANGLES.get(row["input"])
    if angle is None:
        return Script(status=500, body=b"x")
    vector = [3 * math.cos(angle), 3 * math.sin(angle)]
    usage = {"prompt_tokens": 4, "total_tokens": 4}
    body = {"data": [{"index": 0, "embedding": vector, "object": "embedding"}], "usage": usage, "model": "v"}
    return Script(body=msgspec.json.encode(body))


def house(**more: Any) -> House:
    answers = [Script(body=answer(text)) for text in ("first", "second", "third", "fourth")]
    given: dict[str, Any] = {"by_model": {"one": answers, "two": answers, "vectors": embedded}, "tenant": ON}
    return House(**{**given, "config": POLICY, "embeddings": Embeddings(), **more})


def said(reply: Any) -> str:
    return str(reply.json["choices"][0]["message"]["content"])


def test_a_similar_question_gets_the_answer_and_says_so() -> None:
    asked = house()
    assert said(asked.ask(asking(text="hello"))) == "first"
    reply = asked.ask(asking(text="hello!"))
    assert said(reply) == "first"
    assert reply.headers["x-baimo-cache"].startswith("similar; cosine=0.99")
    assert said(asked.ask(asking(text="goodbye"))) == "second"


def test_a_similar_question_is_known_as_soon_as_the_first_is_answered() -> None:
    began, written = threading.Event(), threading.Event()

    class SlowShelf:
        def get(self, tenant: str, key: str, since_ms: int) -> tuple[None, int]:
            return None, 0

        def put(self, tenant: str, key: str, at_ms: int, data: bytes, times: int) -> None:
            began.set()
            written.wait(PATIENCE_S)

    async def two() -> str:
        asked = house(shelf=SlowShelf())
        first, second = asked.call(asking(text="hello")), asked.call(asking(text="hello!"))
        serving = asyncio.create_task(asked.gateway.serve(first))
        await asyncio.to_thread(began.wait, PATIENCE_S)
        # the first is answered, and its answer is not yet in the store
        await asked.gateway.serve(second)
        written.set()
        await serving
        return said(second.reply)

    assert asyncio.run(two()) == "first"


def test_every_embedding_is_paid_for_by_the_caller() -> None:
    payer = key(Limit(counts="requests", amount=50), models=("acme/one",), surfaces=("chat",))
    asked = house(key=payer)
    asked.ask(asking(text="hello"))
    asked.ask(asking(text="hello!"))
    asked.books.settled()
    assert [(one.surface, one.route, one.cost_micros, one.key) for one in asked.books.records] == [
        ("embeddings", "direct", 4, payer.public),
        ("chat", "direct", 20, payer.public),
        ("embeddings", "direct", 4, payer.public),
        ("chat", "cache", 0, payer.public),
    ]
    assert asked.books.used["key:abcdef123456:requests:total:"] == 4


@pytest.mark.parametrize("of", ["batch", "run"])
def test_an_embedding_belongs_to_the_batch_or_evaluation_of_its_question(of: str) -> None:
    asked = house()
    call = asked.call(asking(text="hello"))
    setattr(call, of, "it_1")
    asyncio.run(asked.gateway.serve(call))
    asked.books.settled()
    assert [(one.surface, one.run) for one in asked.books.records] == [
        ("embeddings", "it_1"),
        ("chat", "it_1"),
    ]


@pytest.mark.parametrize(
    "other",
    [
        asking("acme/two", "hello!"),
        asking(text="hello!", temperature=0.5),
        {
            "model": "acme/one",
            "messages": [{"role": "system", "content": "Shout."}, *asking(text="hello!")["messages"]],
        },
        asking(text="hello!", tools=[{"type": "function", "function": {"name": "f"}}]),
    ],
)
def test_what_stands_around_the_question_must_be_the_same(other: Any) -> None:
    asked = house()
    asked.ask(asking(text="hello"))
    assert said(asked.ask(other)) == "second"


def test_no_tenant_gets_the_answer_to_another_tenants_similar_question() -> None:
    asked = house()
    asked.ask(asking(text="hello"))
    assert said(asked.ask(asking(text="hello!"), tenant=Tenant(id="other", cache="on"))) == "second"


def test_nothing_is_embedded_where_the_cache_is_closed() -> None:
    asked = house(tenant=Tenant(id="t"))
    asked.ask(asking(text="hello"))
    assert [row["model"] for _, _, row in asked.pool.sent] == ["one"]


def test_without_an_embedding_the_call_goes_on() -> None:
    asked = house()
    assert [said(asked.ask(asking(text="nothing"))) for _ in range(2)] == [
        "first",
        "first",
    ]  # the very same question
    assert [one.status for one in asked.books.records][:2] == ["providers.server_error", "ok"]


def test_confidential_questions_are_embedded_inside_or_not_at_all() -> None:
    asked = house(tenant=Tenant(id="t", cache="on", data_class="confidential"))
    assert asked.ask(asking(text="hello")).status == 403
    assert asked.pool.sent == []


def test_a_threshold_without_a_model_is_told_at_the_start() -> None:
    with pytest.raises(ConfigError):
        house(config={"policy": {"semantic_cache": 0.9}})


def test_what_is_remembered_is_bounded_and_the_oldest_goes() -> None:
    semantic = Semantic(model="m", threshold=0.5, surface=Embeddings(), now=lambda: 0.0)
    question = Question("frame", "text")
    for number in range(QUESTIONS + 10):
        angle = number / (QUESTIONS + 10) * math.pi
        semantic.remember("t", question, [math.cos(angle), math.sin(angle)], str(number))
    hit = semantic.nearest("t", question, [1.0, 0.0])
    assert hit is not None
    assert hit.key == "10"


def test_what_a_tenant_asked_is_forgotten_and_what_others_asked_is_not() -> None:
    semantic = Semantic(model="m", threshold=0.5, surface=Embeddings(), now=lambda: 0.0)
    for tenant in ("one", "two"):
        semantic.remember(tenant, Question("frame", "text"), [1.0, 0.0], "key")
    semantic.clear("one")
    hits = [semantic.nearest(tenant, Question("frame", "text"), [1.0, 0.0]) for tenant in ("one", "two")]
    assert [hit is not None for hit in hits] == [False, True]


@pytest.mark.parametrize("vector", [[0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0]])
def test_vectors_without_a_direction_are_like_nothing(vector: list[float]) -> None:
    semantic = Semantic(model="m", threshold=0.5, surface=Embeddings(), now=lambda: 0.0)
    question = Question("frame", "text")
    semantic.remember("t", question, vector, "key")
    assert semantic.nearest("t", question, [1.0, 0.0]) is None
    semantic.remember("t", question, [1.0, 0.0], "key")
    assert semantic.nearest("t", question, vector) is None
    assert semantic.nearest("t", question, [1.0, 0.0, 0.0]) is None
