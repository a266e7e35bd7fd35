"""Work beside the gateway asks no model that a call in the same name might not ask."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from baimo.core.ids import plain
from baimo.core.model import Model
from baimo.core.money import Price
from baimo.core.tenant import Key, Limit, Tenant
from baimo.errors import Forbidden, UnknownModel
from baimo.settings import PolicySettings
from baimo.typed import converted
from baimo.workspace.permit import Permit, permit

TENANT = Tenant(id="acme")
KEY = Key(public="k", tenant="acme")
MODEL = Model(name="acme/one", vendor="acme", upstream="one")
COST = Limit(counts="cost", amount=5_000_000, window="month")


@pytest.mark.parametrize(
    ("policy", "key", "tenant", "brought", "leaves"),
    [
        ({}, None, None, (), True),
        ({}, None, None, ("confidential",), False),
        ({"data_class": "confidential"}, None, None, ("public",), False),
        ({"outside": "deny"}, None, None, ("public",), False),
        # the policy's class is for what says nothing: a task says
        ({"outside": "public_only"}, None, None, (), False),
        ({"outside": "public_only"}, None, None, ("public",), True),
        ({"outside": "public_only"}, None, None, ("internal",), False),
        ({}, KEY, TENANT, (), True),
        ({}, KEY, TENANT, ("confidential",), False),
        ({}, KEY, Tenant(id="acme", data_class="confidential"), ("public",), False),
        ({}, Key(public="k", tenant="acme", data_class="confidential"), TENANT, (), False),
        ({"outside": "public_only"}, KEY, TENANT, ("public",), False),
        ({"outside": "public_only"}, KEY, Tenant(id="acme", data_class="public"), ("public",), True),
        ({"outside": "public_only"}, KEY, Tenant(id="acme", data_class="public"), ("internal",), False),
    ],
)
def test_what_may_leave(policy: Any, key: Any, tenant: Any, brought: Any, leaves: bool) -> None:
    found = permit(PolicySettings(**policy), key, tenant, *brought)
    found.check(MODEL, inside=True)
    if leaves:
        found.check(MODEL, inside=False)
    else:
        with pytest.raises(Forbidden, match="may not go there"):
            found.check(MODEL, inside=False)


@pytest.mark.parametrize("strict", ["policy", "tenant"])
def test_what_must_be_masked_is_not_sent_by_what_cannot_mask(strict: str) -> None:
    policy = PolicySettings(pii="mask") if strict == "policy" else PolicySettings()
    tenant = Tenant(id="acme", pii="mask") if strict == "tenant" else TENANT
    found = permit(policy, KEY, tenant)
    found.check(MODEL, inside=True)
    with pytest.raises(Forbidden, match="masked"):
        found.check(MODEL, inside=False)


def test_a_key_asks_the_models_that_it_names() -> None:
    found = permit(PolicySettings(), Key(public="k", tenant="acme", models=("other/*",)), TENANT)
    with pytest.raises(Forbidden, match="k may not use acme/one"):
        found.check(MODEL, inside=True)


def test_a_tuned_model_of_the_owner_is_unknown_to_a_tenant() -> None:
    tuned = Model(name="ft:one:owner::abcdef", vendor="acme", upstream="one")
    permit(PolicySettings(), Key(public="k"), Tenant(id="")).check(tuned, inside=True)
    permit(PolicySettings(), None, None).check(tuned, inside=True)
    with pytest.raises(UnknownModel):
        permit(PolicySettings(), KEY, TENANT).check(tuned, inside=True)


def test_limited_money_is_not_spent_by_what_sets_none_aside() -> None:
    free = Price(input_per_million=Decimal(0), output_per_million=Decimal(0))
    dear = (None, Price(), Price(input_per_million=Decimal(0), output_per_million=Decimal(1)))
    limited = (
        permit(PolicySettings(), Key(public="k", tenant="acme", limits=(COST,)), TENANT),
        permit(PolicySettings(), KEY, Tenant(id="acme", limits=(COST,))),
    )
    for found in limited:
        found.check_money(Model(name="a/a", vendor="a", upstream="a", price=free))
        for price in dear:
            with pytest.raises(Forbidden, match="Money is limited"):
                found.check_money(Model(name="a/a", vendor="a", upstream="a", price=price))
    requests = Limit(counts="requests", amount=5, window="month")
    permit(PolicySettings(), Key(public="k", limits=(requests,)), TENANT).check_money(MODEL)
    permit(PolicySettings(), None, None).check_money(MODEL)


def test_it_can_be_written_down_for_another_process() -> None:
    found = permit(PolicySettings(outside="deny"), Key(public="k", models=("a/*",), limits=(COST,)), TENANT)
    assert converted(plain(found), Permit) == found


@pytest.mark.parametrize(
    ("rates", "free"),
    [
        ({}, False),
        ({"input_per_million": Decimal(0)}, False),
        ({"input_per_million": Decimal(0), "output_per_million": Decimal(0)}, True),
        ({"input_per_million": Decimal(0), "output_per_million": Decimal(0), "per_call": Decimal(1)}, False),
    ],
)
def test_free_is_what_is_known_to_cost_nothing(rates: Any, free: bool) -> None:
    assert Price(**rates).free is free
