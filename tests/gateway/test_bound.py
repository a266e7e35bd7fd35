from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.call import Usage
from baimo.core.money import Price, Tier, converted
from baimo.core.tenant import Limit, Tenant
from baimo.gateway.bound import ATTACHMENT_TOKENS, Bounds
from baimo.gateway.limits import plan
from baimo.gateway.surface import Peek
from baimo.gateway.terms import Terms
from baimo.settings import MoneySettings, Settings
from baimo.store.entry import Entry
from tests.gateway.doubles import DONE, EVENTS, VENDORS, House, Script, answer, asking, chunk, key, model

money = st.decimals(min_value=0, max_value=1000, places=6, allow_nan=False)
maybe = st.none() | money


@st.composite
def prices(draw: Any) -> Price:
    starts = sorted(draw(st.sets(st.integers(1, 5000), max_size=3)))
    tiers = tuple(
        Tier(
            above_tokens=above,
            input_per_million=draw(money),
            output_per_million=draw(money),
            cached_per_million=draw(maybe),
        )
        for above in starts
    )
    return Price(
        currency=draw(st.sampled_from(["USD", "CNY"])),
        input_per_million=draw(money),
        output_per_million=draw(money),
        cached_per_million=draw(maybe),
        cache_write_per_million=draw(maybe),
        per_call=draw(maybe),
        tiers=tiers,
    )


@given(prices(), st.integers(0, 8000), st.integers(1, 3000), st.integers(1, 4), st.data())
def test_no_usage_within_the_bounds_costs_more_than_the_bound(
    price: Price, text_bytes: int, max_tokens: int, answers: int, data: st.DataObject
) -> None:
    settings = Settings(money=MoneySettings(currency="USD", rates={"CNY": 0.137}))
    one = model("acme/one", price=price)
    terms = Terms(
        settings,
        key(),
        Tenant(id="t"),
        one,
        VENDORS["acme"],
        plan(key(), Tenant(id="t"), model=("m", ()), route=None),
    )
    peek = Peek(model="m", text_bytes=text_bytes, max_tokens=max_tokens, answers=answers)
    bound = terms.bound(peek, "chat")
    prompt = data.draw(st.integers(0, text_bytes))
    entry = Entry(
        id="r",
        surface="chat",
        tokens_in=prompt * answers,
        tokens_out=data.draw(st.integers(0, max_tokens * answers)),
        tokens_cached=data.draw(st.integers(0, prompt)),
        tokens_cache_write=data.draw(st.integers(0, prompt)),
    )
    charged = terms.reckon(entry, answers)
    assert charged is not None and bound.micros is not None
    assert charged <= bound.micros
    assert (entry.tokens_in or 0) + (entry.tokens_out or 0) <= bound.tokens
    exact = converted(entry.cost_micros, price.currency, "USD", settings.money.rates)
    assert exact is not None and exact <= charged


@given(prices(), st.integers(0, 8000), st.integers(0, 3000), st.integers(0, 8000))
def test_the_cost_in_a_record_follows_from_its_tokens_and_prices(
    price: Price, tokens_in: int, tokens_out: int, cached: int
) -> None:
    one = model("acme/one", price=price)
    settings = Settings(money=MoneySettings(currency="USD", rates={"CNY": 0.137}))
    nothing = plan(key(), Tenant(id="t"), model=("m", ()), route=None)
    terms = Terms(settings, key(), Tenant(id="t"), one, VENDORS["acme"], nothing)
    entry = Entry(id="r", surface="chat", tokens_in=tokens_in, tokens_out=tokens_out, tokens_cached=cached)
    terms.reckon(entry)
    cost = price.cost(Usage(tokens_in=tokens_in, tokens_out=tokens_out, tokens_cached=cached))
    assert cost is not None
    assert (entry.cost_micros, entry.cost_rest, entry.currency) == (cost.micros, cost.rest, price.currency)


def test_a_prompt_that_may_fall_into_a_dearer_tier_is_reserved_at_its_price() -> None:
    tiers = (Tier(above_tokens=100, input_per_million=Decimal(10), output_per_million=Decimal(10)),)
    price = Price(input_per_million=Decimal(1), output_per_million=Decimal(1), tiers=tiers)
    bounds = Bounds(model("a/b", price=price), rate=1.0, assumed_output=50)
    assert bounds.bound(Peek(model="", text_bytes=100, max_tokens=10), "chat").micros == 110
    assert bounds.bound(Peek(model="", text_bytes=101, max_tokens=10), "chat").micros == 1110


def test_a_cheaper_price_of_long_prompts_does_not_hide_the_dearer_short_ones() -> None:
    tiers = (Tier(above_tokens=100, input_per_million=Decimal(0), output_per_million=Decimal(0)),)
    price = Price(input_per_million=Decimal(1), output_per_million=Decimal(1), tiers=tiers)
    bounds = Bounds(model("a/b", price=price), rate=1.0, assumed_output=50)
    assert bounds.bound(Peek(model="", text_bytes=500, max_tokens=10), "chat").micros == 110


@pytest.mark.parametrize(
    ("facts", "peek", "surface", "tokens"),
    [
        ({}, {"text_bytes": 1000, "max_tokens": 7}, "chat", 1007),
        ({"context_window": 800}, {"text_bytes": 1000, "max_tokens": 7}, "chat", 807),
        ({}, {"text_bytes": 10}, "chat", 110),
        ({"max_output": None}, {"text_bytes": 10}, "chat", 60),
        ({}, {"text_bytes": 10, "max_tokens": 0}, "chat", 110),
        ({}, {"text_bytes": 10, "max_tokens": 0}, "messages", 10),
        ({}, {"text_bytes": 10, "max_tokens": 7, "answers": 3}, "chat", 51),
        ({}, {"text_bytes": 10}, "embeddings", 10),
        ({}, {"text_bytes": 10, "attachments": 2, "max_tokens": 1}, "chat", 11 + 2 * ATTACHMENT_TOKENS),
        ({"context_window": 800}, {"text_bytes": 10, "attachments": 2, "max_tokens": 1}, "chat", 801),
    ],
)
def test_the_bound_on_tokens(facts: dict[str, Any], peek: dict[str, Any], surface: str, tokens: int) -> None:
    bounds = Bounds(model("a/b", **facts), rate=1.0, assumed_output=50)
    assert bounds.bound(Peek(model="", **peek), surface).tokens == tokens


COST = key(Limit(counts="cost", amount=100_000, window="day"))


def test_a_model_without_a_price_is_refused_under_a_money_limit() -> None:
    house = House(Script(body=answer()), key=COST)
    reply = house.ask(asking("acme/unpriced"))
    assert (reply.status, house.pool.sent) == (403, [])
    assert "nobody knows what acme/unpriced costs" in reply.json["error"]["message"]


def test_a_model_without_a_price_may_be_allowed_and_its_cost_stays_unknown() -> None:
    house = House(Script(body=answer()), key=COST, config={"ledger": {"unpriced": "allow"}})
    reply = house.ask(asking("acme/unpriced"))
    assert reply.status == 200
    assert "x-baimo-cost" not in reply.headers
    assert (house.record.cost_micros, house.record.charged_micros, house.record.tokens_out) == (None, 0, 5)


def test_an_answer_that_nothing_limits_gets_a_limit_only_where_money_or_tokens_are_counted() -> None:
    for limits, sent in ((COST, 77), (key(), None)):
        house = House(Script(body=answer()), key=limits, config={"ledger": {"assumed_output": 77}})
        house.ask(asking("acme/endless"))
        assert house.pool.sent[0][2].get("max_tokens") == sent


def test_a_foreign_price_without_a_rate_is_no_price() -> None:
    price = Price(currency="JPY", input_per_million=Decimal(1), output_per_million=Decimal(1))
    house = House(Script(body=answer()), key=COST, more_models=[model("acme/yen", price=price)])
    assert house.ask(asking("acme/yen")).status == 403
    house = House(Script(body=answer()), more_models=[model("acme/yen", price=price)])
    assert house.ask(asking("acme/yen")).headers["x-baimo-currency"] == "JPY"
    assert (house.record.cost_micros, house.record.currency, house.record.charged_micros) == (15, "JPY", 0)


@pytest.mark.parametrize(
    ("asked", "said", "known"),
    [
        (None, None, True),
        (None, "default", True),
        ("auto", "default", True),
        ("priority", "default", True),  # the vendor had no room for it, and bills the ordinary price
        ("priority", "priority", False),
        ("flex", None, False),
        (None, "priority", False),  # the account's own default
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_the_price_of_another_service_tier_is_unknown(
    asked: str | None, said: str | None, known: bool, streamed: bool
) -> None:
    counts = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    usage = {"choices": [], "usage": counts, "service_tier": said}
    last = b"data: " + msgspec.json.encode(usage) + b"\n\n"
    whole = Script(body=answer(service_tier=said))
    pieces = [chunk("hi"), chunk(finish="stop"), last, DONE]
    house = House(Script(pieces=pieces, headers=EVENTS) if streamed else whole)
    wish = {} if asked is None else {"service_tier": asked}
    house.ask(asking("acme/one", stream=streamed, **wish))
    assert (house.record.cost_micros is not None) is known


def test_a_key_with_a_money_limit_gets_no_tier_whose_price_nobody_knows() -> None:
    house = House(Script(body=answer()), key=COST)
    reply = house.ask(asking("acme/one", service_tier="priority"))
    assert reply.status == 403
    assert "service tier priority" in reply.json["error"]["message"]
    assert reply.json["error"]["param"] == "service_tier"
