from __future__ import annotations

import random
from collections import Counter
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baimo.core.money import Price
from baimo.core.tenant import Key, Tenant
from baimo.errors import BaimoError, CallRefused, ConfigError, Forbidden, NotSupported, UnknownModel
from baimo.gateway.call import Choice
from baimo.gateway.routing import Router
from baimo.gateway.strategies import Latencies, Signals
from baimo.gateway.surface import Peek
from baimo.models.catalogue import Catalogue
from baimo.server.surfaces.table import surfaces
from baimo.settings import ProviderSettings, Settings
from tests.gateway.doubles import CHAT, SmallCatalogue, key, model

OWNER = Tenant(id="")


class Embeddings:
    """As much of a surface as routing looks at."""

    name = "embeddings"
    protocol = "openai"
    target = "embeddings"
    neutral = False
    ability = "embeddings"


class Setting:
    """A router and the clock that it goes by."""

    def __init__(
        self, config: dict[str, Any], *more: Any, usable: Any = lambda vendor: True, seed: int = 3
    ) -> None:
        self.time = 0.0
        self.latencies = Latencies(lambda: self.time)
        given = msgspec.convert(config, Settings)
        signals = Signals(self.latencies, given.money.rates, given.money.currency)
        self.router = Router(given, SmallCatalogue(*more), signals, usable=usable, chance=random.Random(seed))

    def choice(
        self,
        name: str,
        *,
        by: Key = key(),
        tenant: Tenant = OWNER,
        conversation: str = "",
        surface: Any = CHAT,
        headers: dict[bytes, bytes] | None = None,
        **peek: Any,
    ) -> Choice:
        asked = Peek(model=name, **peek)
        return self.router.choice(asked, surface, by, tenant, headers or {}, conversation)[0]


def names(choice: Choice) -> list[str]:
    return [choice.model.name, *(one.name for one in choice.fallbacks)]


def routes(**named: Any) -> dict[str, Any]:
    return {
        "routes": {name: one if isinstance(one, dict) else {"models": one} for name, one in named.items()}
    }


def refusal(setting: Setting, name: str, **more: Any) -> BaimoError:
    with pytest.raises(BaimoError) as caught:
        setting.choice(name, **more)
    return caught.value


# names


def test_a_model_is_asked_for_by_its_full_name_or_by_one_that_only_one_vendor_has() -> None:
    setting = Setting({})
    assert names(setting.choice("acme/one")) == ["acme/one"]
    assert names(setting.choice("two")) == ["acme/two"]
    assert setting.choice("two").why == "direct"


def test_of_several_vendors_the_only_usable_one_is_meant() -> None:
    assert names(Setting({}, usable=lambda vendor: vendor != "acme").choice("one")) == ["bolt/one"]
    error = refusal(Setting({}), "one")
    assert isinstance(error, UnknownModel)
    assert "acme/one, bolt/one" in error.hint


def test_a_server_of_our_own_comes_before_a_vendor_without_a_key() -> None:
    custom = ProviderSettings(protocol="vllm", inside=True, options={"served_names": ["qwen3-32b"]})
    given = Settings(providers={"gpu": custom})
    signals = Signals(Latencies(lambda: 0.0), {}, "USD")
    router = Router(given, Catalogue.load(given), signals, usable=lambda vendor: vendor == "gpu")
    choice, _ = router.choice(Peek(model="qwen3-32b"), CHAT, key(), OWNER, {}, "")
    assert choice.model.name == "gpu/qwen3-32b"
    assert "gpu/qwen3-32b" in [name for name, _ in router.offered(key())]


def test_of_several_vendors_the_one_that_the_key_may_use_is_meant() -> None:
    assert names(Setting({}).choice("one", by=key(models=("bolt/*",)))) == ["bolt/one"]


def test_an_unknown_name_is_answered_with_near_names_that_the_key_may_use_and_no_others() -> None:
    setting = Setting(routes(best=["acme/one"], **{"acme-two-hidden": ["acme/two"]}))
    error = refusal(setting, "acme/on", by=key(models=("acme/one", "bolt/*")))
    assert error.http_status == 404
    assert "acme/one" in error.hint
    assert "two" not in error.hint
    assert "GET /v1/models" in refusal(setting, "zzzzzz").hint


def test_no_name_means_the_default_model() -> None:
    assert names(Setting({"serve": {"default_model": "acme/two"}}).choice("")) == ["acme/two"]
    assert isinstance(refusal(Setting({}), ""), CallRefused)
    with pytest.raises(UnknownModel):
        Setting({"serve": {"default_model": "acme/none"}})


# rights


def test_a_key_may_use_what_its_patterns_cover_whatever_lies_behind_a_route() -> None:
    setting = Setting(routes(best=["acme/one", "bolt/one"], mixed=["acme/one", "bolt/one"]))
    narrow = key(models=("best", "acme/*"))
    assert names(setting.choice("best", by=narrow)) == ["acme/one", "bolt/one"]
    assert names(setting.choice("acme/two", by=narrow)) == ["acme/two"]
    for name in ("bolt/one", "mixed"):
        assert isinstance(refusal(setting, name, by=narrow), Forbidden)


def test_a_key_may_use_a_route_all_of_whose_models_it_may_use() -> None:
    setting = Setting(routes(best=["acme/one", "acme/two"]))
    assert names(setting.choice("best", by=key(models=("acme/*",)))) == ["acme/one", "acme/two"]


def test_a_key_may_use_only_its_surfaces() -> None:
    assert isinstance(refusal(Setting({}), "acme/one", by=key(surfaces=("embeddings",))), Forbidden)


def test_rights_are_looked_up_anew_when_the_key_changes() -> None:
    setting = Setting({})
    setting.choice("acme/one", by=key())
    assert isinstance(refusal(setting, "acme/one", by=key(models=("bolt/*",))), Forbidden)


# policy


@pytest.mark.parametrize(
    ("policy", "tenant", "by", "header", "outside"),
    [
        ({}, "internal", None, None, True),
        ({}, "confidential", None, None, False),
        ({}, "internal", "confidential", None, False),
        ({}, "confidential", "public", None, False),  # a key is stricter, never looser
        ({}, "internal", None, "confidential", False),
        ({}, "confidential", None, "public", False),  # and so is a header
        ({"outside": "deny"}, "public", None, None, False),
        ({"outside": "public_only"}, "public", None, None, True),
        ({"outside": "public_only"}, "internal", None, None, False),
        ({"outside": "public_only"}, "public", None, "internal", False),
        ({"data_class": "confidential"}, "public", None, None, False),
    ],
)
def test_what_may_leave(policy: Any, tenant: Any, by: Any, header: str | None, outside: bool) -> None:
    setting = Setting({"policy": policy, **routes(best=["acme/one", "home/small", "away/large"])})
    more: Any = {
        "tenant": Tenant(id="t", data_class=tenant),
        "by": key(data_class=by),
        "headers": {b"x-baimo-data-class": header.encode()} if header else {},
    }
    assert names(setting.choice("home/small", **more)) == ["home/small"]
    if outside:
        assert names(setting.choice("best", **more)) == ["acme/one", "home/small", "away/large"]
    else:
        assert names(setting.choice("best", **more)) == ["home/small"]
        assert isinstance(refusal(setting, "acme/one", **more), Forbidden)


def test_the_owners_class_is_the_policys() -> None:
    setting = Setting({"policy": {"data_class": "public", "outside": "public_only"}})
    assert names(setting.choice("acme/one")) == ["acme/one"]


def test_a_data_class_that_does_not_exist_is_refused() -> None:
    error = refusal(Setting({}), "acme/one", headers={b"x-baimo-data-class": b"secret"})
    assert (error.http_status, error.key) == (400, "gateway.bad_header")


def test_personal_data_that_cannot_be_replaced_does_not_leave() -> None:
    setting = Setting({"policy": {"pii": "mask"}})
    assert names(setting.choice("acme/one")) == ["acme/one"]
    error = refusal(setting, "acme/vectors", surface=Embeddings)
    assert (error.key, error.http_status) == ("gateway.cannot_mask", 403)


def test_models_are_asked_only_for_what_they_can_do() -> None:
    setting = Setting(routes(mixed=["acme/vectors", "acme/one"]))
    assert names(setting.choice("acme/vectors", surface=Embeddings)) == ["acme/vectors"]
    assert names(setting.choice("mixed")) == ["acme/one"]
    assert isinstance(refusal(setting, "acme/vectors"), NotSupported)
    assert isinstance(refusal(setting, "clay/opus", surface=Embeddings), NotSupported)


def test_every_surface_names_an_ability_that_routing_knows() -> None:
    from baimo.gateway.routing import KINDS

    assert {surface.ability for surface in surfaces().values()} <= KINDS | {""}


# configuration


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (routes(a=["b"], b=["c"], c=["a"]), "a → b → c → a"),
        (routes(a=["a"]), "a → a"),
        (routes(a=[]), "names no models"),
        (routes(a={"models": ["acme/one", "acme/two"], "strategy": "weighted", "weights": [1]}), "1 usable"),
        (routes(a={"models": ["acme/one"], "strategy": "weighted", "weights": [0]}), "usable weights"),
        (routes(a={"models": ["acme/one"], "strategy": "canary"}), "a canary needs two models"),
    ],
)
def test_a_route_that_cannot_work_is_told_at_the_start(config: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("→", ".")) as caught:
        Setting(config)
    assert caught.value.hint


def test_a_route_to_a_model_that_does_not_exist_is_told_at_the_start() -> None:
    with pytest.raises(UnknownModel):
        Setting(routes(a=["acme/none"]))


# strategies


def test_routes_may_lead_to_routes() -> None:
    setting = Setting(routes(inner=["acme/two", "acme/one"], outer=["inner", "acme/one", "bolt/three"]))
    assert names(setting.choice("outer")) == ["acme/two", "acme/one", "bolt/three"]
    assert setting.choice("outer").route == "outer"


def test_a_route_with_one_model_is_an_alias() -> None:
    choice = Setting(routes(gpt=["acme/one"])).choice("gpt")
    assert (choice.why, names(choice)) == ("alias", ["acme/one"])


def test_a_route_may_bear_the_name_of_the_model_that_it_replaces() -> None:
    setting = Setting(routes(**{"acme/one": ["acme/one", "bolt/one"]}))
    assert names(setting.choice("acme/one")) == ["acme/one", "bolt/one"]


THREE = ["acme/one", "acme/two", "bolt/three"]


@settings(max_examples=25)
@given(st.lists(st.integers(0, 10), min_size=3, max_size=3).filter(any), st.booleans())
def test_weights_are_kept_over_many_conversations(weights: list[int], sticky: bool) -> None:
    route = {"models": THREE, "strategy": "weighted", "weights": weights, "sticky": sticky}
    setting = Setting(routes(mix=route))
    seen = Counter(setting.choice("mix", conversation=f"c{number}").model.name for number in range(2000))
    for name, weight in zip(THREE, weights, strict=True):
        share = weight / sum(weights)
        # five standard deviations of a binomial share
        assert abs(seen[name] / 2000 - share) <= 0.001 + 5 * (share * (1 - share) / 2000) ** 0.5
    assert all(len(names(setting.choice("mix"))) == 3 for _ in range(5))


@given(st.text(min_size=1), st.sampled_from(["weighted", "canary"]))
def test_a_conversation_stays_with_its_model_where_the_route_is_sticky(
    conversation: str, strategy: str
) -> None:
    route = {"models": THREE, "strategy": strategy, "weights": [1, 1, 1], "share": 0.5}
    setting = Setting(routes(mix=route))
    chosen = {setting.choice("mix", conversation=conversation).model.name for _ in range(8)}
    other = {Setting(routes(mix=route), seed=9).choice("mix", conversation=conversation).model.name}
    assert len(chosen | other) == 1  # in every process


@settings(max_examples=20)
@given(st.floats(0.0, 0.9))
def test_the_newcomer_gets_its_share_and_the_usual_models_the_rest(share: float) -> None:
    setting = Setting(routes(trial={"models": THREE, "strategy": "canary", "share": share}))
    drawn = [setting.choice("trial", conversation=f"c{number}") for number in range(2000)]
    first = Counter(choice.model.name for choice in drawn)
    assert abs(first["bolt/three"] / 2000 - share) <= 0.001 + 5 * (share * (1 - share) / 2000) ** 0.5
    assert first["acme/two"] == 0
    for choice in drawn[:50]:
        rest = ["acme/one", "acme/two", "bolt/three"]
        assert names(choice) in (rest, ["bolt/three", "acme/one", "acme/two"])


def test_two_canary_routes_try_different_conversations() -> None:
    both = {"models": ["acme/one", "acme/two"], "strategy": "canary", "share": 0.5}
    setting = Setting(routes(a=both, b=both))
    same = sum(
        setting.choice("a", conversation=str(n)).model == setting.choice("b", conversation=str(n)).model
        for n in range(1000)
    )
    assert 400 < same < 600


def test_the_cheapest_model_is_the_one_that_this_call_costs_least_at() -> None:
    dear_prompt = Price(input_per_million=Decimal(10), output_per_million=Decimal(1))
    dear_answer = Price(input_per_million=Decimal(1), output_per_million=Decimal(10))
    yuan = Price(currency="CNY", input_per_million=Decimal(1), output_per_million=Decimal(1))
    setting = Setting(
        {
            "money": {"currency": "USD", "rates": {"CNY": 20}},
            **routes(low={"models": ["acme/unpriced", "acme/p", "acme/a", "acme/y"], "strategy": "cheapest"}),
        },
        model("acme/p", price=dear_prompt),
        model("acme/a", price=dear_answer),
        model("acme/y", price=yuan),
    )
    assert names(setting.choice("low", text_bytes=40_000)) == ["acme/a", "acme/p", "acme/y", "acme/unpriced"]
    assert names(setting.choice("low", text_bytes=40))[:2] == ["acme/p", "acme/a"]
    assert setting.choice("low").why == "cheapest"


def test_the_quickest_model_is_found_out_and_found_out_again() -> None:
    setting = Setting(routes(fast={"models": THREE, "strategy": "latency"}))
    assert setting.choice("fast").model.name == "acme/one"  # nobody has measured: in their order
    for name, seconds in zip(THREE, (0.3, 0.1, 0.2), strict=True):
        setting.latencies.seen(name, seconds)
    assert names(setting.choice("fast")) == ["acme/two", "bolt/three", "acme/one"]
    for _ in range(20):
        setting.latencies.seen("acme/two", 1.0)
    assert setting.choice("fast").model.name == "bolt/three"
    setting.time = 61  # long ago: one call each finds out anew, the others go where it was quick
    first = [setting.choice("fast").model.name for _ in range(3)]
    assert first[0] == "acme/one"
    assert first[1:] == ["bolt/three", "bolt/three"]


def test_a_model_that_refuses_at_once_does_not_look_quick() -> None:
    setting = Setting(routes(fast={"models": THREE[:2], "strategy": "latency"}))
    setting.latencies.seen("acme/one", 0.5)
    setting.latencies.seen("acme/two", 0.6)
    for _ in range(5):
        setting.latencies.failed("acme/one", 0.001)
    assert setting.choice("fast").model.name == "acme/two"
