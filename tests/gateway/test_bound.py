from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from math import ceil
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.call import Usage
from baimo.core.money import Price, Tier, converted
from baimo.core.tenant import Limit, Tenant
from baimo.gateway.bound import ATTACHMENT_TOKENS, WITHOUT_LIMIT, Bounds
from baimo.gateway.limits import plan
from baimo.gateway.surface import Peek
from baimo.gateway.terms import Terms
from baimo.pii.mask import Masker
from baimo.server.surfaces.completions import Completions
from baimo.server.surfaces.images import Images
from baimo.server.surfaces.messages import Messages
from baimo.server.surfaces.rerank import Rerank
from baimo.server.surfaces.responses import Responses
from baimo.server.surfaces.speech import Speech
from baimo.server.surfaces.transcriptions import Transcriptions
from baimo.settings import MoneySettings, Settings
from baimo.store.entry import Entry
from tests.gateway.doubles import (
    CHAT,
    DONE,
    EVENTS,
    VENDORS,
    House,
    Script,
    ScriptedProvider,
    answer,
    asking,
    chunk,
    completion,
    key,
    model,
)

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
        cache_write_1h_per_million=draw(money),
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
        plan(key(), Tenant(id="t"), model=("m", ())),
    )
    long_cache = data.draw(st.booleans())
    peek = Peek(
        model="m", text_bytes=text_bytes, max_tokens=max_tokens, answers=answers, long_cache=long_cache
    )
    bound = terms.bound(peek, CHAT)
    prompt = data.draw(st.integers(0, text_bytes))
    entry = Entry(
        id="r",
        surface="chat",
        tokens_in=prompt * answers,
        tokens_out=data.draw(st.integers(0, max_tokens * answers)),
        tokens_cached=data.draw(st.integers(0, prompt)),
        tokens_cache_write=data.draw(st.integers(0, prompt)),
    )
    kept = data.draw(st.integers(0, entry.tokens_cache_write or 0)) if long_cache else 0
    charged = terms.reckon(entry, answers, tokens_cache_write_1h=kept)
    if kept and price.tiers and prompt > price.tiers[0].above_tokens:
        assert charged is None
        return
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
    nothing = plan(key(), Tenant(id="t"), model=("m", ()))
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


@pytest.mark.parametrize(
    ("facts", "own", "put", "bound"),
    [
        ({"max_output": 100}, None, None, 100),  # the vendor's own longest answer
        ({"max_output": 100}, 100, 100, 100),
        ({"max_output": 100, "context_window": 101}, 100, 100, 100),
        ({"max_output": 100, "context_window": 100}, 100, 50, 50),
        ({"max_output": 30, "context_window": 30}, 30, 30, 30),
        ({"max_output": None}, None, 50, 50),
    ],
)
def test_what_is_put_into_a_request_is_its_bound(
    facts: dict[str, Any], own: int | None, put: int | None, bound: int
) -> None:
    bounds = Bounds(model("a/b", **facts), rate=1.0, assumed_output=50, own_output=own)
    peek = Peek(model="")
    assert (bounds.assumes(peek, "chat"), bounds.tokens_out(peek, "chat")) == (put, bound)
    assert bounds.assumes(Peek(model="", max_tokens=7), "chat") is None
    assert bounds.assumes(peek, "embeddings") is None


OWN = {"models": {"acme/one": {"max_output": 100}, "bolt/one": {"max_output": 70}}}


@pytest.mark.parametrize(("limits", "put"), [(("cost",), 100), (("tokens",), 100), (("requests",), None)])
def test_the_own_longest_answer_of_a_model_is_put_in_where_a_limit_needs_it(
    limits: tuple[Any, ...], put: int | None
) -> None:
    holder = key(*(Limit(counts=counts, amount=1_000_000) for counts in limits))
    house = House(Script(body=answer()), key=holder, config=OWN)
    house.ask(asking("acme/one"))
    assert house.pool.sent[0][2].get("max_tokens") == put
    house = House(Script(body=answer()), key=holder, config={})
    house.ask(asking("acme/one"))
    assert "max_tokens" not in house.pool.sent[0][2]


def test_a_fallback_is_told_its_own_longest_answer() -> None:
    route = {"models": ["acme/one", "bolt/one"]}
    house = House(
        Script(status=500, body=b"{}"),
        Script(body=answer()),
        key=COST,
        config={**OWN, "routes": {"best": route}},
    )
    assert house.ask(asking("best")).status == 200
    assert [sent[2]["max_tokens"] for sent in house.pool.sent] == [100, 70]


@pytest.mark.parametrize(
    ("longest", "options", "put"),
    [(2000, {}, 2000), (64_000, {}, 8192), (64_000, {"max_tokens": 9000}, 9000)],
)
@pytest.mark.parametrize("limited", [False, True])
def test_claude_is_never_asked_for_more_than_its_longest_answer(
    longest: int, options: dict[str, Any], put: int, limited: bool
) -> None:
    provider = ScriptedProvider(completion())
    house = House(
        key=key(Limit(counts="cost", amount=1_000_000)) if limited else key(),
        providers={"clay": provider},
        more_models=[model("clay/opus", max_output=longest)],
        config={
            "providers": {"clay": {"options": options}},
            "models": {"clay/opus": {"max_output": longest}},
        },
    )
    assert house.ask(asking("clay/opus")).status == 200
    assert provider.asked[0].sampling.max_tokens == put
    assert house.record.charged_micros <= 20


CLAUDE = Price(
    input_per_million=Decimal(5),
    output_per_million=Decimal(25),
    cached_per_million=Decimal("0.5"),
    cache_write_per_million=Decimal("6.25"),
    cache_write_1h_per_million=Decimal(10),
)


def claude(**usage: Any) -> bytes:
    counts = {"input_tokens": 10, "output_tokens": 5, **usage}
    row = {"id": "m", "type": "message", "role": "assistant", "model": "opus", "stop_reason": "end_turn"}
    return msgspec.json.encode({**row, "content": [{"type": "text", "text": "hi"}], "usage": counts})


def claudes(script: Script, *, price: Price = CLAUDE, **more: Any) -> House:
    return House(script, more_models=[model("clay/opus", price=price, context_window=4000)], **more)


def of_claude(**more: Any) -> dict[str, Any]:
    return asking("clay/opus", max_tokens=50, **more)


WRITTEN = {
    "cache_creation_input_tokens": 1_000_003,
    "cache_creation": {"ephemeral_5m_input_tokens": 1_000_000, "ephemeral_1h_input_tokens": 3},
}


@pytest.mark.parametrize("streamed", [False, True])
def test_what_is_kept_for_an_hour_is_billed_at_its_own_rate(streamed: bool) -> None:
    start = {"type": "message_start", "message": {"model": "o", "usage": {"input_tokens": 10, **WRITTEN}}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}}
    pieces = [
        b"data: " + msgspec.json.encode(event) + b"\n\n" for event in (start, end, {"type": "message_stop"})
    ]
    script = Script(pieces=pieces, headers=EVENTS) if streamed else Script(body=claude(**WRITTEN))
    house = claudes(script)
    house.ask(of_claude(stream=streamed), surface=Messages())
    entry = house.record
    average = 6_250_011  # 6.25 + 3 * 3.75 / 1,000,003
    assert entry.price_cache_write == average
    exact = 10 * 5_000_000 + 1_000_003 * average + 5 * 25_000_000
    assert (entry.cost_micros or 0) * 1_000_000 + (entry.cost_rest or 0) == exact
    assert abs(exact - (10 * 5 + 1_000_000 * 6.25 + 3 * 10 + 5 * 25) * 1_000_000) < 1_000_003


def test_an_hour_whose_rate_nobody_knows_makes_the_cost_unknown() -> None:
    house = claudes(Script(body=claude(**WRITTEN)), price=replace(CLAUDE, cache_write_1h_per_million=None))
    house.ask(of_claude(), surface=Messages())
    assert (house.record.cost_micros, house.record.tokens_cache_write) == (None, 1_000_003)


@pytest.mark.parametrize(
    ("ttl", "long"), [('"5m"', False), ('"1h"', True), ('"\\u0031h"', True), ('"1\\u0068"', True)]
)
def test_a_prompt_that_may_be_kept_for_an_hour_is_reserved_at_that_rate(ttl: str, long: bool) -> None:
    body = msgspec.json.encode(of_claude()).replace(b'"hi"', b'[{"type":"text","text":"hi"}]')
    body = body[:-1] + f',"cache_control":{{"type":"ephemeral","ttl":{ttl}}}}}'.encode()
    peek = Messages().peek(body, {})
    bounds = Bounds(model("clay/opus", price=CLAUDE), rate=1.0, assumed_output=50)
    rate = 10 if long else 6.25
    assert bounds.bound(peek, "messages").micros == ceil(peek.text_bytes * rate + 50 * 25)


RESPONSES = Responses()
COST = key(Limit(counts="cost", amount=100_000, window="day"))


def test_a_model_without_a_price_is_refused_under_a_money_limit() -> None:
    house = House(Script(body=answer()), key=COST)
    reply = house.ask(asking("acme/unpriced"))
    assert (reply.status, house.pool.sent) == (403, [])
    assert "nobody knows what acme/unpriced costs" in reply.json["error"]["message"]


def test_a_price_in_a_currency_without_a_rate_is_named_as_such() -> None:
    price = Price(currency="CNY", input_per_million=Decimal(1), output_per_million=Decimal(2))
    foreign = [model("acme/foreign", price=price)]
    reply = House(key=COST, more_models=foreign).ask(asking("acme/foreign"))
    assert reply.status == 403
    assert "in CNY" in reply.json["error"]["message"] and "money.rates.CNY" in reply.json["error"]["message"]
    rates = {"money": {"rates": {"CNY": 0.14}}}
    house = House(Script(body=answer()), key=COST, more_models=foreign, config=rates)
    assert house.ask(asking("acme/foreign")).status == 200


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


@pytest.mark.parametrize(
    ("surface", "body", "model", "masked"),
    [
        (RESPONSES, {"input": "hi"}, "home/small", False),
        (RESPONSES, {"input": "hi"}, "acme/one", True),  # its chat completions are asked, without a tier
        (Messages(), {"max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}, "home/small", False),
        (CHAT, {"messages": [{"role": "user", "content": "hi"}]}, "home/small", False),
    ],
)
def test_a_tier_that_no_server_is_told_has_the_ordinary_price(
    surface: Any, body: dict[str, Any], model: str, masked: bool
) -> None:
    provider = ScriptedProvider(completion())
    tenant = Tenant(id="t", pii="mask" if masked else "off")
    house = House(providers={"home": provider, "acme": provider}, key=COST, tenant=tenant, masker=Masker)
    reply = house.ask({"model": model, "service_tier": "flex", **body}, surface=surface)
    assert reply.status == 200
    assert house.record.cost_micros == 20


def test_a_masked_call_tells_an_openai_server_its_tier() -> None:
    house = House(
        providers={"acme": ScriptedProvider(completion())}, tenant=Tenant(id="t", pii="mask"), masker=Masker
    )
    house.ask(asking("acme/one", service_tier="flex"))
    assert house.record.cost_micros is None
    house = House(key=COST, tenant=Tenant(id="t", pii="mask"), masker=Masker)
    assert house.ask(asking("acme/one", service_tier="flex")).status == 403


SEARCH = {"type": "web_search_20260318", "name": "web_search"}
OWN_SEARCH = {"name": "web_search", "input_schema": {"type": "object"}}
COMPACT = {"edits": [{"type": "compact_20260112"}]}
SOUND = [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]}]


@pytest.mark.parametrize(
    ("surface", "asked", "field"),
    [
        (Messages(), {"speed": "fast"}, "speed"),
        (Messages(), {"inference_geo": "us"}, "inference_geo"),
        (Messages(), {"context_management": COMPACT}, "context_management"),
        (Messages(), {"tools": [OWN_SEARCH, SEARCH]}, "tools[1]"),
        (Messages(), {"tools": [{"type": "code_execution_20260521", "name": "c"}]}, "tools[0]"),
        (Messages(), {"mcp_servers": [{"type": "url", "url": "https://x", "name": "x"}]}, "mcp_servers"),
        (Messages(), {"fallbacks": "default"}, "fallbacks"),
        (Messages(), {"speed": "standard", "inference_geo": "global", "tools": [OWN_SEARCH]}, ""),
        (Messages(), {"tools": [{"type": "bash_20250124", "name": "bash"}]}, ""),
        (Messages(), {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, ""),
        (CHAT, {"speed": "fast"}, "speed"),
        (CHAT, {"inference_geo": "us"}, "inference_geo"),
        (CHAT, {"inference_geo": ""}, ""),
        (Messages(), {"inference_geo": "not_available"}, ""),
        (CHAT, {"context_management": COMPACT}, "context_management"),
        (CHAT, {"web_search_options": {}}, ""),  # it does not reach Anthropic
    ],
)
def test_a_key_with_a_money_limit_asks_anthropic_for_nothing_without_a_price(
    surface: Any, asked: dict[str, Any], field: str
) -> None:
    provider = ScriptedProvider(completion())
    house = claudes(Script(body=claude()), key=COST, providers={"clay": provider})
    reply = house.ask(of_claude(**asked), surface=surface)
    assert (reply.status, house.pool.sent == []) == ((403, True) if field else (200, surface is CHAT))
    if field:
        assert f"nobody knows what {field} may cost" in reply.json["error"]["message"]
    else:
        assert house.record.cost_micros


def test_what_no_server_is_told_has_the_ordinary_price() -> None:
    masked = {"tenant": Tenant(id="t", pii="mask"), "masker": Masker}
    house = claudes(
        Script(body=claude()), key=COST, providers={"clay": ScriptedProvider(completion())}, **masked
    )
    assert house.ask(of_claude(speed="fast"), surface=Messages()).status == 200
    assert house.record.cost_micros
    house = claudes(Script(), key=COST, providers={"clay": ScriptedProvider(completion())}, **masked)
    assert house.ask(of_claude(speed="fast")).status == 403  # chat's members are sent on
    house = House(key=COST, providers={"acme": ScriptedProvider(completion())})
    reply = house.ask(
        {"model": "acme/one", "input": "hi", "tools": [{"type": "web_search"}]}, surface=RESPONSES
    )
    assert (reply.status, reply.json["error"]["param"]) == (400, "tools[0].type")


@pytest.mark.parametrize(
    ("surface", "asked", "field"),
    [
        (CHAT, {"web_search_options": {}}, "web_search_options"),
        (CHAT, {"modalities": ["text", "audio"], "audio": {"voice": "ash", "format": "wav"}}, "audio"),
        (CHAT, {"messages": SOUND}, "messages[0].content"),
        (CHAT, {"tools": [{"type": "web_search"}]}, "tools[0]"),
        (
            CHAT,
            {"modalities": ["text"], "tools": [{"type": "function", "function": {"name": "web_search"}}]},
            "",
        ),
        (
            RESPONSES,
            {"tools": [{"type": "function", "name": "web_search"}, {"type": "web_search"}]},
            "tools[1]",
        ),
        (RESPONSES, {"tools": [{"type": "shell", "environment": {"type": "container_auto"}}]}, "tools[0]"),
        (RESPONSES, {"context_management": [{"type": "compaction"}]}, "context_management"),
        (RESPONSES, {"input": SOUND}, "input"),
        (RESPONSES, {"tools": [{"type": "function", "name": "web_search"}, {"type": "local_shell"}]}, ""),
        (RESPONSES, {"tools": [{"type": "shell", "environment": {"type": "local"}}]}, ""),
    ],
)
def test_a_key_with_a_money_limit_asks_openai_for_nothing_without_a_price(
    surface: Any, asked: dict[str, Any], field: str
) -> None:
    house = House(Script(body=answer()), key=COST)
    given = asking() if surface is CHAT else {"model": "acme/one", "input": "hi"}
    peek = surface.peek(msgspec.json.encode(given | asked), {})
    assert peek.unpriced == field
    if surface is CHAT:
        reply = house.ask(given | asked)
        assert reply.status == (403 if field else 200)


SWITCHES = {
    "enable_search": True,
    "enable_enhancement": True,
    "plugins": [{"id": "web"}],
    "web_search": {"enable": True},
    "search_parameters": {"mode": "on"},
}
COMPLETIONS = Completions()


@pytest.mark.parametrize(
    ("surface", "body"),
    [
        (CHAT, asking()),
        (COMPLETIONS, {"model": "acme/one", "prompt": "hi"}),
        (RESPONSES, {"model": "acme/one", "input": "hi", "store": False}),
        (Messages(), of_claude()),
    ],
)
def test_a_switch_for_searches_has_no_price_and_makes_the_prompt_longer(
    surface: Any, body: dict[str, Any]
) -> None:
    for name, value in SWITCHES.items():
        peek = surface.peek(msgspec.json.encode(body | {name: value}), {})
        assert (peek.unpriced, peek.told, peek.attachments, peek.deterministic) == (name, False, 1, False)
        both = surface.peek(msgspec.json.encode(body | SWITCHES | {"tools": [{"type": "browser"}]}), {})
        assert both.unpriced and not both.told
    for off in (None, False, [], {}, {"mode": "off"}, {"enable": False}):
        peek = surface.peek(msgspec.json.encode(body | dict.fromkeys(SWITCHES, off)), {})
        assert (peek.unpriced, peek.attachments, peek.deterministic) == ("", 0, True)


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_key_with_a_money_limit_searches_only_where_calls_have_a_price(switch: str) -> None:
    house = House(Script(body=answer()), key=COST)
    reply = house.ask(asking(**{switch: SWITCHES[switch]}))
    assert (reply.status, reply.json["error"]["param"]) == (403, switch)
    house = House(Script(body=answer()))
    house.ask(asking(**{switch: SWITCHES[switch]}))
    assert house.record.cost_micros is None
    price = Price(input_per_million=Decimal(1), output_per_million=Decimal(2), per_call=Decimal("0.025"))
    house = House(Script(body=answer()), key=COST, more_models=[model("acme/search", price=price)])
    assert house.ask(asking("acme/search", **{switch: SWITCHES[switch]})).status == 200
    assert house.record.cost_micros == 25_020


def test_a_switch_in_other_letters_is_not_sent() -> None:
    house = House(Script(body=answer()), key=COST)
    assert house.ask(asking(Enable_Search=True)).status == 200
    assert "Enable_Search" not in house.pool.sent[0][2]


def test_servers_that_anthropic_asks_make_the_prompt_longer() -> None:
    servers = {"mcp_servers": [{"type": "url", "url": "https://x", "name": "x"}], "speed": "fast"}
    for surface in (Messages(), CHAT):
        assert surface.peek(msgspec.json.encode(of_claude(**servers)), {}).attachments == 1


def test_a_price_for_each_call_is_one_for_its_search() -> None:
    price = Price(input_per_million=Decimal(1), output_per_million=Decimal(2), per_call=Decimal("0.025"))
    house = House(Script(body=answer()), key=COST, more_models=[model("acme/search", price=price)])
    assert house.ask(asking("acme/search", web_search_options={})).status == 200
    assert house.record.cost_micros == 25_020


COUNTED = Price(input_per_million=Decimal(0), output_per_million=Decimal(0), per_call=Decimal("0.04"))


@pytest.mark.parametrize(
    ("surface", "asked", "answered", "micros"),
    [
        (Rerank(), {"query": "q", "documents": ["a"]}, {"results": []}, 40_000),
        (Images(), {"prompt": "a cat", "n": 3}, {"data": [{"url": "x"}] * 3}, 120_000),
        (Speech(), {"input": "hi", "voice": "ash"}, {"sound": 1}, 40_000),
    ],
)
def test_where_only_calls_are_billed_a_cost_needs_no_tokens(
    surface: Any, asked: dict[str, Any], answered: dict[str, Any], micros: int
) -> None:
    limits = (Limit(counts="cost", amount=200_000), Limit(counts="tokens", amount=100_000))
    house = House(
        Script(body=msgspec.json.encode(answered)),
        key=key(*limits),
        more_models=[model("acme/counted", price=COUNTED, max_output=5000)],
    )
    reply = house.ask({"model": "acme/counted", **asked}, surface=surface)
    record = house.record
    assert (record.tokens_in, record.tokens_out, record.price_call) == (None, None, micros)
    assert record.cost_micros == record.charged_micros == micros
    assert record.charged_tokens > 0  # nobody knows how many there were
    assert reply.headers["x-baimo-cost"] == f"{micros / 1_000_000:.2f}"


@pytest.mark.parametrize(
    ("surface", "asked"),
    [(Images(), {"prompt": "a cat"}), (Speech(), {"input": "hi", "voice": "ash"}), (CHAT, asking())],
)
@pytest.mark.parametrize(
    ("counts", "facts", "ledger", "status"),
    [
        ("cost", {}, "refuse", 403),
        ("tokens", {}, "refuse", 403),
        ("tokens", {"price": None}, "refuse", 403),
        ("requests", {}, "refuse", 200),
        ("cost", {}, "allow", 200),
        ("cost", {"max_output": 6240}, "refuse", 200),
        ("cost", {"price": COUNTED}, "refuse", 200),
        ("tokens", {"price": COUNTED}, "refuse", 403),
    ],
)
def test_what_has_no_bound_is_refused_where_a_limit_needs_one(
    surface: Any, asked: dict[str, Any], counts: Any, facts: dict[str, Any], ledger: str, status: int
) -> None:
    facts = {"max_output": None, **facts}
    usage = {"input_tokens": 9, "output_tokens": 50, "total_tokens": 59}
    house = House(
        Script(body=msgspec.json.encode({"choices": [{}], "usage": usage})),
        key=key(Limit(counts=counts, amount=900_000)),
        more_models=[model("acme/drawn", **facts)],
        config={"ledger": {"unpriced": ledger}},
    )
    reply = house.ask({**asked, "model": "acme/drawn"}, surface=surface)
    assert reply.status == (200 if surface is CHAT else status)
    if reply.status == 403:
        assert "how many tokens an answer of acme/drawn may have" in reply.json["error"]["message"]


def test_a_transcript_has_no_bound_of_its_own() -> None:
    assert {Images.name, Speech.name, Transcriptions.name} == WITHOUT_LIMIT


def test_pictures_of_a_stream_are_billed_one_by_one() -> None:
    done = b'data: {"type":"image_generation.completed","b64_json":"AA"}\n\n'
    house = House(
        Script(pieces=[done, done], headers=EVENTS), more_models=[model("acme/counted", price=COUNTED)]
    )
    house.ask({"model": "acme/counted", "prompt": "a cat", "n": 2, "stream": True}, surface=Images())
    assert house.record.cost_micros == 80_000


def test_a_call_that_broke_off_may_or_may_not_be_billed() -> None:
    piece = b'data: {"type":"speech.audio.delta","audio":"AAAA"}\n\n'
    house = House(Script(pieces=[piece], headers=EVENTS), more_models=[model("acme/counted", price=COUNTED)])
    house.ask(
        {"model": "acme/counted", "input": "hi", "voice": "ash", "stream_format": "sse"}, surface=Speech()
    )
    assert (house.record.cost_micros, house.record.unsure) == (None, 1)


def test_within_the_walls_nobody_bills_sound() -> None:
    house = House(key=COST, providers={"home": ScriptedProvider(completion())})
    assert (
        house.ask(asking("home/small", tools=[{"type": "browser"}])).status == 400
    )  # not a word about money


@pytest.mark.parametrize(
    ("asked", "usage", "known"),
    [
        ({}, {"speed": "standard", "inference_geo": "global", "server_tool_use": None}, True),
        ({}, {"inference_geo": "not_available"}, True),
        ({}, {"speed": "fast"}, False),
        ({}, {"inference_geo": "us"}, False),  # the workspace's own default
        ({"speed": "fast"}, {}, False),
        ({"tools": [SEARCH]}, {"server_tool_use": {"web_search_requests": 2}}, False),
        ({"tools": [SEARCH]}, {"server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 1}}, True),
        ({}, {"server_tool_use": {"tool_search_requests": 2}}, True),
        ({"tools": [{"type": "code_execution_20260521", "name": "c"}]}, {}, False),
        ({}, {"iterations": [{"type": "message"}, {"type": "advisor_message", "model": "x"}]}, False),
        ({}, {"iterations": [{"type": "message", "input_tokens": 10, "output_tokens": 5}]}, True),
    ],
)
def test_what_anthropic_bills_besides_makes_the_cost_unknown(
    asked: dict[str, Any], usage: dict[str, Any], known: bool
) -> None:
    house = claudes(Script(body=claude(**usage)))
    house.ask(of_claude(**asked), surface=Messages())
    assert (house.record.cost_micros is not None) is known
    assert house.record.tokens_in == 10


def test_the_tokens_of_a_summary_are_counted() -> None:
    rounds = [
        {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3_500, "cache_read_input_tokens": 7},
        {"type": "message", "input_tokens": 23_000, "output_tokens": 1_000},
    ]
    usage = {
        "input_tokens": 23_000,
        "output_tokens": 1_000,
        "cache_read_input_tokens": None,
        "iterations": rounds,
    }
    house = claudes(Script(body=claude(**usage)))
    house.ask(of_claude(context_management=COMPACT), surface=Messages())
    entry = house.record
    assert (entry.tokens_in, entry.tokens_out, entry.tokens_cached) == (203_007, 4_500, 7)
    assert entry.cost_micros == round(203_000 * 5 + 7 * 0.5 + 4_500 * 25)


@pytest.mark.parametrize(
    ("details", "known"),
    [
        ({"prompt_tokens_details": {"audio_tokens": 0}}, True),
        ({"prompt_tokens_details": {"audio_tokens": 3}}, False),
        ({"completion_tokens_details": {"audio_tokens": 3}}, False),
        ({"server_tool_use": {"web_search_requests": 0}}, True),
        ({"server_tool_use": {"web_search_requests": 1}}, False),
    ],
)
def test_sound_and_searches_in_a_usage_make_the_cost_unknown(details: dict[str, Any], known: bool) -> None:
    counts = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, **details}
    house = House(Script(body=answer(usage=counts)))
    house.ask(asking())
    assert (house.record.cost_micros is not None) is known
    assert house.record.tokens_in == 10


def test_a_search_that_a_chat_asks_for_is_billed_though_its_usage_is_silent() -> None:
    house = House(Script(body=answer()))
    house.ask(asking(web_search_options={}))
    assert house.record.cost_micros is None


@pytest.mark.parametrize(
    ("item", "known"), [("message", True), ("function_call", True), ("web_search_call", False)]
)
def test_a_hosted_tool_that_a_response_used_makes_its_cost_unknown(item: str, known: bool) -> None:
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    body = {"status": "completed", "model": "m", "output": [{"type": item}], "usage": usage}
    found = RESPONSES.seen(msgspec.json.encode(body)).usage
    assert found is not None and found.unpriced is not known
