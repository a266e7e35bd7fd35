from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.rights import checked_key, checked_limits, checked_tenant, limit, networks, shown, tag
from baimo.core.tenant import Key, Limit, Tenant
from baimo.errors import UsageError

TENANT = Tenant(id="acme")
KEY = Key(public="0" * 12, digest="0" * 64, tenant="acme")
LIMITS = st.one_of(
    st.builds(Limit, counts=st.just("concurrency"), amount=st.integers(1, 10**6)),
    st.builds(
        Limit,
        counts=st.sampled_from(["requests", "tokens", "cost"]),
        amount=st.integers(1, 10**15),
        window=st.sampled_from(["minute", "hour", "day", "month", "total"]),
    ),
)


@given(LIMITS)
def test_a_limit_is_read_as_it_is_shown(one: Limit) -> None:
    assert limit(shown(one)) == one


@pytest.mark.parametrize(
    ("source", "amount", "window"),
    [
        ("cost=20/month", 20_000_000, "month"),
        ("cost=0.000001", 1, "total"),
        ("cost = 1_000 / day", 1_000_000_000, "day"),
        ("requests=60/minute", 60, "minute"),
        ("tokens=1e5/day", 100_000, "day"),
        ("concurrency=8", 8, "total"),
    ],
)
def test_a_limit_counts_money_in_micro_units_and_the_rest_in_ones(
    source: str, amount: int, window: str
) -> None:
    found = limit(source)
    assert (found.amount, found.window) == (amount, window)


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("cost", "accounts.bad_limit"),
        ("cost=", "accounts.bad_limit"),
        ("money=5", "accounts.bad_limit"),
        ("cost=5/fortnight", "accounts.bad_limit"),
        ("cost=nan", "accounts.bad_limit"),
        ("cost=inf", "accounts.bad_limit"),
        ("cost=0", "accounts.limit_amount"),
        ("cost=-1/day", "accounts.limit_amount"),
        ("requests=1e20", "accounts.limit_amount"),
        ("cost=1e30", "accounts.limit_amount"),
        ("requests=1.5/minute", "accounts.limit_too_fine"),
        ("cost=0.0000001", "accounts.limit_too_fine"),
        ("concurrency=8/minute", "accounts.limit_window"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused_by_name(source: str, key: str) -> None:
    with pytest.raises(UsageError) as caught:
        limit(source)
    assert caught.value.key == key
    assert caught.value.hint


def test_two_limits_on_one_thing_are_refused() -> None:
    twice = [limit("cost=1/day"), limit("cost=2/day")]
    with pytest.raises(UsageError, match="cost=2/day is there twice"):
        checked_limits(twice)
    assert len(checked_limits([limit("cost=1/day"), limit("cost=2/month")])) == 2


@pytest.mark.parametrize("id", ["Acme", "a_b", "-a", "a-", "a" * 65, "a b", "owner", "研究"])
def test_a_tenant_s_id_is_short_and_plain(id: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name"):
        checked_tenant(Tenant(id=id))
    assert checked_tenant(Tenant(id="research-2")).id == "research-2"


@pytest.mark.parametrize(
    "changes",
    [
        {"title": "a\nb"},
        {"title": "x" * 201},
        {"data_class": "secret"},
        {"cache": "yes"},
        {"pii": "mask "},
        {"contents_days": 0},
        {"limits": (Limit(counts="cost", amount=0),)},
    ],
)
def test_a_field_of_a_tenant_that_cannot_hold_its_value_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        checked_tenant(replace(TENANT, **changes))


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"surfaces": ("chta",)}, "chta"),
        ({"role": "root"}, "root"),
        ({"models": ("",)}, "models"),
        ({"models": ("a b",)}, "a b"),
        ({"networks": ("10.0.0.300",)}, "10.0.0.300"),
        ({"networks": ("10.0.0.7/8",)}, "10.0.0.7/8"),
        ({"tags": (("a b", "c"),)}, "a b=c"),
        ({"tags": (("a", "b"), ("a", "c"))}, "a=b, a=c"),
        ({"label": "\u202etxt"}, "label"),
        ({"data_class": "public"}, "public"),
    ],
)
def test_a_field_of_a_key_that_cannot_hold_its_value_is_refused(
    changes: dict[str, object], names: str
) -> None:
    with pytest.raises(UsageError) as caught:
        checked_key(replace(KEY, **changes), TENANT)
    assert names in str(caught.value)
    assert caught.value.hint


def test_a_misspelt_surface_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        checked_key(replace(KEY, surfaces=("embedings",)), TENANT)
    assert "embeddings" in caught.value.hint


def test_a_key_may_be_stricter_than_its_tenant_but_not_laxer() -> None:
    assert checked_key(replace(KEY, data_class="confidential"), TENANT).data_class == "confidential"
    assert checked_key(replace(KEY, data_class="public"), Tenant(id="")).data_class == "public"
    with pytest.raises(UsageError, match="its tenant is confidential"):
        checked_key(replace(KEY, data_class="internal"), replace(TENANT, data_class="confidential"))


def test_networks_are_kept_in_canonical_form_and_a_loose_one_is_answered_with_the_range_meant() -> None:
    asked = ["10.0.0.0/255.0.0.0", "192.168.7.21", "2001:DB8::/32", "::ffff:203.0.113.0/120", "::/0"]
    assert networks(asked) == (
        "10.0.0.0/8",
        "192.168.7.21/32",
        "2001:db8::/32",
        "203.0.113.0/24",
        "::/0",
    )
    with pytest.raises(UsageError) as caught:
        networks(["10.1.2.3/8"])
    assert "10.0.0.0/8" in caught.value.hint


def test_a_tag_has_a_name_and_a_value() -> None:
    assert tag("team=a=b") == ("team", "a=b")
    with pytest.raises(UsageError):
        tag("team")
