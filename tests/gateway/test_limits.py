from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.tenant import Key, Limit, Tenant
from baimo.gateway.limits import Plan, Rule, duration, limit_of, merged, plan
from baimo.settings import LimitSettings
from baimo.store.entry import Charge
from tests.gateway.doubles import House, Script, answer, asking, key


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def test_a_plan_holds_the_limits_of_key_tenant_model_and_route() -> None:
    requests = Limit(counts="requests", amount=5, window="minute")
    money = Limit(counts="cost", amount=70, window="month")
    made = plan(
        key(requests),
        Tenant(id="acme", limits=(money,)),
        model=("v/m", (Limit(counts="concurrency", amount=2),)),
        routes=[("best", (Limit(counts="tokens", amount=90, window="day"),))],
    )
    charges = made.charges(at("2026-11-21T10:15:30"), tokens=8, micros=9)
    assert charges == (
        Charge("key:abcdef123456:requests:minute:2026-11-21T10:15", 5, 1),
        Charge("tenant:acme:cost:month:2026-11", 70, 9),
        Charge("model:v/m:concurrency:total:", 2, 1),
        Charge("route:best:tokens:day:2026-11-21", 90, 8),
    )
    assert [one.amount for one in made.charged(charges, tokens=3, micros=4)] == [1, 4, 0, 3]


def test_a_rotated_key_goes_on_with_the_buckets_of_the_old_one() -> None:
    limit = Limit(counts="cost", amount=70, window="total")
    new = Key(public="newnewnewnew", digest="", limits=(limit,), counted_as="oldoldoldold")
    made = plan(new, Tenant(id=""), model=("m", ()))
    assert made.charges(0, 0, 1)[0].bucket == "key:oldoldoldold:cost:total:"


def test_buckets_change_with_their_windows() -> None:
    limits = [Limit(counts="requests", amount=5, window=window) for window in ("minute", "month", "total")]
    made = Plan([Rule("key", "k", limit) for limit in limits])
    before = [one.bucket for one in made.charges(at("2026-12-31T23:59:59"), 0, 0)]
    after = [one.bucket for one in made.charges(at("2027-01-01T00:00:00"), 0, 0)]
    assert before == [
        "key:k:requests:minute:2026-12-31T23:59",
        "key:k:requests:month:2026-12",
        "key:k:requests:total:",
    ]
    assert after == [
        "key:k:requests:minute:2027-01-01T00:00",
        "key:k:requests:month:2027-01",
        "key:k:requests:total:",
    ]
    assert [one.bucket for one in made.charges(at("2026-12-31T23:59:59"), 0, 0)] == before


def test_of_two_limits_on_the_same_thing_the_lower_one_counts() -> None:
    made = Plan(
        [Rule("key", "k", Limit(counts="requests", amount=amount, window="day")) for amount in (9, 4, 7)]
    )
    assert [one.limit for one in made.charges(0, 0, 0)] == [4]


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0ms"), (20, "20ms"), (1000, "1s"), (1500, "1.5s"), (360_000, "6m0s"), (3_723_000, "1h2m3s")],
)
def test_durations_are_written_as_openai_writes_them(ms: int, text: str) -> None:
    assert duration(ms) == text


def test_limits_of_the_configuration_are_in_units() -> None:
    assert limit_of(LimitSettings(counts="cost", amount=2.5, window="day")).amount == 2_500_000
    assert limit_of(LimitSettings(counts="concurrency", amount=3, window="day")).window == "total"


amounts = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 100), max_size=4)


@given(amounts, amounts)
def test_what_is_held_after_merging_covers_both_and_not_more(
    held: dict[str, int], wanted: dict[str, int]
) -> None:
    extra, whole = merged(
        [Charge(name, 9, amount) for name, amount in held.items()],
        [Charge(name, 9, amount) for name, amount in wanted.items()],
    )
    most = {name: max(held.get(name, 0), wanted.get(name, 0)) for name in {**held, **wanted}}
    assert {one.bucket: one.amount for one in whole} == most
    added = {one.bucket: one.amount for one in extra}
    assert {name: held.get(name, 0) + added.get(name, 0) for name in most} == most
    assert [one.bucket for one in whole][: len(wanted)] == list(wanted)


# in a gateway


def test_a_limit_that_is_used_up_refuses_without_a_record() -> None:
    house = House(Script(body=answer()), key=key(Limit(counts="requests", amount=2)))
    assert [house.ask().status for _ in range(3)] == [200, 200, 429]
    assert (len(house.books.records), len(house.pool.sent)) == (2, 2)


def test_clients_racing_for_the_last_cent_never_overspend() -> None:
    # each call may cost (prompt bytes + 100 x 2) micro-units and does cost 20
    house = House(Script(body=answer(), waits=0.001), key=key(Limit(counts="cost", amount=5_000)))

    async def race() -> list[int]:
        calls = [house.call() for _ in range(100)]
        await asyncio.gather(*(house.gateway.serve(call) for call in calls))
        return [call.reply.status for call in calls]  # type: ignore[attr-defined]

    statuses = asyncio.run(race())
    house.books.settled()
    assert set(statuses) == {200, 429}
    assert statuses.count(200) * 20 == sum(house.books.used.values()) <= 5_000


def test_answers_say_what_is_left_of_the_tightest_limits() -> None:
    house = House(
        Script(body=answer()),
        key=key(
            Limit(counts="requests", amount=10, window="minute"),
            Limit(counts="tokens", amount=100_000, window="day"),
        ),
        tenant=Tenant(id="t", limits=(Limit(counts="requests", amount=1000, window="day"),)),
    )
    headers = house.ask().headers
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("10", "9")
    assert (headers["x-ratelimit-limit-tokens"], headers["x-ratelimit-remaining-tokens"]) == (
        "100000",
        "99985",
    )
    assert headers["x-ratelimit-reset-requests"].endswith("s")


def test_an_answer_without_limits_says_nothing_about_them() -> None:
    headers = House(Script(body=answer())).ask().headers
    assert not [name for name in headers if name.startswith("x-ratelimit")]


def test_limits_of_models_and_routes_hold_for_all_keys_together() -> None:
    house = House(
        Script(body=answer()),
        config={
            "models": {"acme/one": {"limits": [{"counts": "requests", "amount": 1}]}},
            "routes": {"best": {"models": ["acme/two"], "limits": [{"counts": "requests", "amount": 1}]}},
        },
    )
    other = Key(public="zzzzzz123456", digest="")
    assert [house.ask(asking("acme/one")).status, house.ask(asking("acme/one"), key=other).status] == [
        200,
        429,
    ]
    assert [house.ask(asking("best")).status, house.ask(asking("best"), key=other).status] == [200, 429]
    assert house.ask(asking("acme/two"), key=other).status == 200


ONCE = [{"counts": "requests", "amount": 1, "window": "total"}]


def test_limits_of_a_route_hold_when_it_is_reached_through_another_one() -> None:
    routes = {
        "inner": {"models": ["acme/one", "acme/two"], "limits": ONCE},
        "middle": {"models": ["inner"]},
        "outer": {"models": ["middle"], "limits": [{**ONCE[0], "amount": 9}]},
        "listed": {"models": ["acme/one", "inner"]},
    }
    house = House(Script(body=answer()), config={"routes": routes})
    first = house.ask(asking("outer"))
    assert (first.status, first.headers["x-ratelimit-limit-requests"]) == (200, "1")
    assert [house.ask(asking(name)).status for name in ("outer", "inner", "listed")] == [429, 429, 200]
    assert house.books.used == {"route:inner:requests:total:": 1, "route:outer:requests:total:": 1}


def test_where_an_inner_route_is_full_the_next_model_of_the_outer_one_answers() -> None:
    routes = {
        "inner": {"models": ["acme/one"], "limits": ONCE},
        "outer": {"models": ["inner", "acme/two"], "fallback_on": ["rate_limit"]},
    }
    house = House(Script(body=answer()), config={"routes": routes})
    assert [house.ask(asking("outer")).status for _ in range(2)] == [200, 200]
    assert [record.model for record in house.books.records] == ["acme/one", "acme/two"]


def test_a_changed_limit_holds_from_the_next_call_on() -> None:
    house = House(Script(body=answer()), key=key(Limit(counts="requests", amount=1)))
    assert [house.ask().status, house.ask().status] == [200, 429]
    raised = key(Limit(counts="requests", amount=2))
    assert house.ask(key=raised).status == 200
    assert house.ask(key=raised).status == 429
