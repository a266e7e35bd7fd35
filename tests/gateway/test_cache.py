from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.tenant import Limit, Tenant
from baimo.errors import StoreError
from baimo.gateway.cache import NO_MARK, Cache, Kept
from baimo.store.cached import Cached
from baimo.store.engine import Database
from tests.gateway.doubles import (
    EVENTS,
    House,
    Script,
    ScriptedProvider,
    answer,
    asking,
    chunk,
    completion,
    key,
    stream,
)

ON = Tenant(id="t", cache="on")
LIMITED = key(Limit(counts="cost", amount=10_000), Limit(counts="requests", amount=9))


def house(*scripts: Script, **more: Any) -> House:
    return House(
        *(scripts or (Script(body=answer("first")), Script(body=answer("second")))), **{"tenant": ON, **more}
    )


@pytest.mark.parametrize("streamed", [False, True])
def test_the_same_question_is_answered_again_without_being_sent(streamed: bool) -> None:
    asked = house(stream("a", "b"), stream("c")) if streamed else house()
    asked = house(*asked.pool.scripts, key=LIMITED)
    first, second = (asked.ask(asking(stream=streamed)) for _ in range(2))
    assert first.body == second.body
    assert (second.status, second.ended, second.started) == (200, True, streamed)
    assert len(asked.pool.sent) == 1
    asked.books.settled()
    paid, free = asked.books.records
    assert (paid.route, paid.cost_micros, paid.attempts) == ("direct", 20, 1)
    assert (free.route, free.cost_micros, free.attempts, free.tokens_in, free.tokens_out) == (
        "cache",
        0,
        0,
        0,
        0,
    )
    assert (free.model, free.charged_micros, free.status) == ("acme/one", 0, "ok")
    assert second.headers["x-baimo-cache"] == "hit"
    assert second.headers["x-baimo-cost"] == "0"
    for name in ("content-type", "cache-control", "x-accel-buffering"):
        assert second.headers.get(name) == first.headers.get(name)
    # a request is a request, but it takes no money
    assert asked.books.used["key:abcdef123456:requests:total:"] == 2
    assert asked.books.used["key:abcdef123456:cost:total:"] == 20


def test_an_answer_from_the_cache_needs_no_budget() -> None:
    asked = house(key=key(Limit(counts="cost", amount=900)))
    asked.ask()
    asked.books.used["key:abcdef123456:cost:total:"] = 900
    assert asked.ask().status == 200
    assert asked.ask(asking(text="other")).status == 429


def test_translated_answers_are_kept_too() -> None:
    asked = house(providers={"home": ScriptedProvider(completion("first"), completion("second"))})
    bodies = {asked.ask(asking("home/small")).body for _ in range(3)}
    assert len(bodies) == 1


@pytest.mark.parametrize(
    "other",
    [
        asking(text="ho"),
        asking("acme/two"),
        asking(stream=True),
        asking(temperature=0.1),
        asking(seed=1),
        {**asking(), "x_unknown": 1},
    ],
)
def test_whatever_the_answer_may_depend_on_makes_another_question(other: Any) -> None:
    asked = house(
        Script(body=answer("first")),
        stream("second") if other.get("stream") else Script(body=answer("second")),
    )
    asked.ask()
    asked.ask(other)
    assert len(asked.pool.sent) == 2


def test_the_order_and_spacing_of_json_make_no_other_question() -> None:
    asked = house()
    asked.ask(b'{"model": "acme/one", "messages": [{"role": "user", "content": "hi"}]}')
    asked.ask(b'{"messages":[{"content":"hi","role":"user"}],"model":"acme/one"}')
    assert len(asked.pool.sent) == 1


@given(st.sampled_from(["a", "b", ""]), st.sampled_from(["a", "b", ""]))
def test_no_tenant_gets_another_tenants_answer(one: str, other: str) -> None:
    asked = house()
    asked.ask(tenant=Tenant(id=one, cache="on"))
    asked.ask(tenant=Tenant(id=other, cache="on"))
    assert len(asked.pool.sent) == (1 if one == other else 2)


@pytest.mark.parametrize(
    ("policy", "tenant", "header", "reads", "writes"),
    [
        ("off", "off", None, False, False),
        ("off", "off", "on", False, False),  # a header opens nothing
        ("on", "off", None, True, True),
        ("off", "on", None, True, True),
        ("off", "on", "off", False, False),
        ("off", "on", "read", True, False),
        ("off", "on", "write", False, True),
        ("off", "read", None, True, False),
        ("off", "write", "on", False, True),
        ("read", "write", None, True, True),
        ("on", "off", "off", False, False),
    ],
)
def test_who_may_read_and_who_may_write(
    policy: str, tenant: Any, header: str | None, reads: bool, writes: bool
) -> None:
    filled = house(config={"policy": {"cache": policy}})
    owner = Tenant(id="t", cache=tenant)
    headers = {b"x-baimo-cache": header.encode()} if header else {}
    filled.ask(tenant=owner, headers=headers)
    filled.ask(tenant=Tenant(id="t", cache="read"))
    assert len(filled.pool.sent) == (1 if writes else 2)
    filled = house(config={"policy": {"cache": policy}})
    filled.ask(tenant=Tenant(id="t", cache="write"))
    filled.ask(tenant=owner, headers=headers)
    assert len(filled.pool.sent) == (1 if reads else 2)


def test_a_cache_header_that_says_nothing_is_refused() -> None:
    assert house().ask(headers={b"x-baimo-cache": b"maybe"}).status == 400


def test_failures_and_broken_streams_are_not_kept() -> None:
    asked = house(Script(status=500, body=b"x"), Script(body=answer()))
    assert [asked.ask().status, asked.ask().status] == [502, 200]
    asked = house(Script(pieces=[chunk("a")], headers=EVENTS), stream("b"))
    assert [asked.ask(asking(stream=True)).aborted, asked.ask(asking(stream=True)).aborted] == [True, False]


def test_what_is_not_deterministic_is_not_kept() -> None:
    asked = house()
    for _ in range(2):
        asked.ask(asking(n=2))
    assert len(asked.pool.sent) == 2


def test_answers_survive_in_the_store_and_are_shared_by_processes(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    shelf = Cached(database)
    first, second = house(shelf=shelf), house(shelf=shelf)
    assert first.ask().body == second.ask().body
    assert second.pool.sent == []
    assert second.record.route == "cache"
    database.close()


def test_answers_that_are_too_old_are_asked_for_again() -> None:
    asked = house(config={"policy": {"cache_ttl_s": 0.02}})
    asked.ask()
    time.sleep(0.03)
    asked.ask()
    assert len(asked.pool.sent) == 2


class BrokenShelf:
    def get(self, tenant: str, key: str, since_ms: int) -> tuple[bytes | None, int]:
        raise StoreError("store.locked", where="x")

    def put(self, tenant: str, key: str, at_ms: int, data: bytes, times: int) -> None:
        raise StoreError("store.locked", where="x")


def test_a_cache_that_cannot_be_read_or_written_disturbs_nobody() -> None:
    asked = house(shelf=BrokenShelf())
    assert asked.ask().status == 200


def test_memory_in_front_of_the_store_is_bounded() -> None:
    held = Cache(None, ttl_s=60, wall_ms=lambda: 0, memory_bytes=100)

    async def fill() -> list[bool]:
        for number in range(10):
            await held.put("t", str(number), Kept([], b"x" * 30, "m", "m", 0), NO_MARK)
        return [(await held.get("t", str(number)))[0] is not None for number in range(10)]

    assert asyncio.run(fill()) == [False] * 7 + [True] * 3


def test_what_a_tenant_was_answered_leaves_memory_and_the_others_answers_stay() -> None:
    held = Cache(None, ttl_s=60, wall_ms=lambda: 0, memory_bytes=100)

    async def fill() -> list[bool]:
        for tenant in ("one", "two"):
            _, mark = await held.get(tenant, "key")
            await held.put(tenant, "key", Kept([], b"x" * 60, "m", "m", 0), mark)
            await held.put(tenant, "other", Kept([], b"x" * 20, "m", "m", 0), mark)
            held.clear("one")
        return [(await held.get("two", key))[0] is not None for key in ("key", "other")]

    assert asyncio.run(fill()) == [True, True]  # what was cleared takes no room


def test_an_answer_that_was_asked_for_before_memory_was_cleared_does_not_come_back() -> None:
    held, kept = Cache(None, ttl_s=60, wall_ms=lambda: 0), Kept([], b"x", "m", "m", 0)

    async def late() -> tuple[bool, bool]:
        _, before = await held.get("t", "key")
        held.clear("t")
        await held.put("t", "key", kept, before)
        gone, after = await held.get("t", "key")
        await held.put("t", "key", kept, after)
        return gone is None, (await held.get("t", "key"))[0] is not None

    assert asyncio.run(late()) == (True, True)


def test_an_answer_that_is_read_while_memory_is_cleared_is_not_held() -> None:
    kept = Kept([], b"x", "m", "m", 0)

    class Slow:
        """Is cleared while it is read."""

        def get(self, tenant: str, key: str, since_ms: int) -> tuple[bytes | None, int]:
            held.clear("t")
            return msgspec.msgpack.encode(kept), 0

        def put(self, tenant: str, key: str, at_ms: int, data: bytes, times: int) -> None:
            raise AssertionError("nothing is written")

    held = Cache(Slow(), ttl_s=60, wall_ms=lambda: 0)
    assert asyncio.run(held.get("t", "key"))[0] == kept
    assert not held._near
