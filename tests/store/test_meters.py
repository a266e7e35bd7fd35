"""Buckets have one name each, and leases in memory are all or nothing, first come first served."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.tenant import Limit
from baimo.store.buckets import (
    COUNTS,
    SCOPES,
    WINDOWS,
    bucket_of,
    name_of,
    named,
    parsed,
    window_end_ms,
    written,
)
from baimo.store.entry import Charge
from baimo.store.meters import Lease, Meters, Wait
from tests.store.accounting import NOW_MS, charge, charged, ended, entry

moments = st.integers(0, 4_102_444_800_000)
names = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)


def test_buckets_are_named_as_documented() -> None:
    made = [
        bucket_of("key", "ab12cd34ef56", Limit(counts="cost", amount=1, window="month"), NOW_MS),
        bucket_of("tenant", "acme", Limit(counts="tokens", amount=1, window="minute"), NOW_MS),
        bucket_of("model", "openai/gpt-x", Limit(counts="concurrency", amount=1), NOW_MS),
    ]
    assert made == [
        "key:ab12cd34ef56:cost:month:2027-01",
        "tenant:acme:tokens:minute:2027-01-15T08:00",
        "model:openai/gpt-x:concurrency:total:",
    ]


@given(
    scope=st.sampled_from(SCOPES),
    name=st.one_of(names, st.just("ollama/llama3:8b"), st.just("a:cost:day:2027-01-01")),
    counts=st.sampled_from(COUNTS),
    window=st.sampled_from(WINDOWS),
    now_ms=moments,
)
def test_a_name_taken_apart_is_what_it_was_made_of(
    scope: str, name: str, counts: str, window: str, now_ms: int
) -> None:
    limit = Limit(counts=counts, amount=1, window=window)  # type: ignore[arg-type]
    bucket = parsed(bucket_of(scope, name, limit, now_ms))
    assert (bucket.scope, bucket.name, bucket.counts, bucket.window) == (scope, name, counts, window)
    assert bucket.begins_ms <= now_ms < bucket.ends_ms == window_end_ms(window, now_ms)
    if window != "total":
        here = bucket_of(scope, name, limit, now_ms)
        assert bucket_of(scope, name, limit, bucket.ends_ms - 1) == here
        assert bucket_of(scope, name, limit, bucket.ends_ms) != here


def test_what_is_no_bucket_is_refused() -> None:
    with pytest.raises(ValueError, match="no bucket"):
        parsed("key:k1:cost:year:2027")


@given(
    picks=st.sets(st.tuples(st.sampled_from(SCOPES), st.sampled_from(COUNTS), st.sampled_from(WINDOWS))),
    odd=st.integers(0, 3),
    began_ms=moments,
)
def test_what_a_record_was_charged_to_can_be_told_from_it(
    picks: set[tuple[str, str, str]], odd: int, began_ms: int
) -> None:
    call = ended(entry(began_ms=began_ms))
    owners = {"key": call.key, "tenant": call.tenant, "model": call.model, "route": call.asked}
    reserved = [
        charge(
            Limit(counts=counts, amount=1, window=window), 1, scope=scope, name=owners[scope], now_ms=began_ms
        )  # type: ignore[arg-type]
        for scope, counts, window in sorted(picks)
    ]
    charges = list(charged(call, reserved))
    strange = [Charge(f"key:other{number}:cost:total:", 1, 5 + number) for number in range(odd)]
    mask, rest = written(call, [*charges, *strange])
    told = dict(named(mask, (call.key, call.tenant, call.model, call.asked), began_ms))
    assert set(told) == {each.bucket for each in charges}
    assert all(COUNTS[counts] == parsed(name).counts for name, counts in told.items())
    assert all(name_of(parsed(name).bit, parsed(name).name, began_ms) == name for name in told)
    assert rest.count("other") == odd and mask < 1 << 60


def leased(**amounts: int) -> Meters:
    meters = Meters(lambda: None)
    for name, amount in amounts.items():
        lease = meters.leases[name] = Lease(1_000)
        lease.amount = amount
    return meters


def share(name: str, amount: int) -> Charge:
    return Charge(name, 1_000, amount)


def test_a_reservation_is_all_or_nothing() -> None:
    meters = leased(a=10, b=5)
    assert not meters.reserve((share("a", 10), share("b", 6)))
    assert meters.leases["a"].free == 10
    assert meters.reserve((share("a", 10), share("b", 5)))
    assert meters.leases["a"].free == meters.leases["b"].free == 0
    meters.release((share("a", 10), share("b", 5)))
    assert meters.reserve((share("a", 10),))
    assert not meters.reserve((share("unknown", 0),))


def test_what_is_charged_stays_taken_until_the_database_has_it() -> None:
    meters = leased(a=10)
    assert meters.reserve((share("a", 8),))
    meters.settle((share("a", 8),), (share("a", 3),))
    assert meters.leases["a"].free == 7 and meters.remaining("a", 1_000) == 1_007


def test_another_limit_than_the_lease_was_drawn_under_takes_the_slow_way() -> None:
    meters = leased(a=10)
    assert not meters.reserve((Charge("a", 999, 1),))


def test_who_waits_is_not_overtaken_and_hears_when_there_is_room() -> None:
    asked: list[int] = []
    meters = leased(a=10, b=10)
    meters._ask = lambda: asked.append(1)

    async def run() -> None:
        assert meters.reserve((share("a", 6),))
        big, small, other = (
            Wait((share(name, amount),), 1.0) for name, amount in (("a", 8), ("a", 1), ("b", 1))
        )
        for wait in (big, small, other):
            meters.wait(wait)
        assert len(asked) == 3 and not meters.reserve((share("a", 1),))
        meters.grant()
        await asyncio.sleep(0)
        assert other.future.done() and not big.future.done() and not small.future.done()
        meters.release((share("a", 6),))
        await asyncio.sleep(0)
        assert big.future.done() and small.future.done()
        assert meters.leases["a"].free == 1 and not meters.waits

    asyncio.run(run())
