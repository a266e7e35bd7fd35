"""Every data file is read strictly, and its facts are of the right form."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from decimal import Decimal
from importlib import resources

import msgspec
import pytest

from baimo.models.catalogue import ANY_MODEL
from baimo.models.vendors import VendorFile
from baimo.providers.quirks import QUIRKS

FOLDER = resources.files("baimo.models") / "data" / "vendors"
FILES = sorted(file.name for file in FOLDER.iterdir())
PROTOCOLS = {"openai", "anthropic", "local", "replay", "fake"}
ABILITIES = {"tools", "json", "json_schema", "vision", "audio", "reasoning", "logprobs", "embeddings"}
# fmt: off
FIRST_CLASS = {
    "ark", "azure", "anthropic", "baichuan", "bedrock", "cohere", "dashscope", "deepseek", "fake",
    "fireworks", "gemini", "groq", "hunyuan", "llamacpp-server", "lmstudio", "local", "minimax",
    "mistral", "moonshot", "ollama", "openai", "openrouter", "qianfan", "replay", "sensenova",
    "sglang", "siliconflow", "spark", "stepfun", "together", "vllm", "xai", "xinference", "yi",
    "zhipu",
}
# fmt: on


def read(name: str) -> VendorFile:
    return msgspec.convert(tomllib.loads((FOLDER / name).read_text(encoding="utf-8")), VendorFile)


def test_every_vendor_that_was_promised_has_a_file() -> None:
    assert {name.removesuffix(".toml") for name in FILES} >= FIRST_CLASS


@pytest.mark.parametrize("name", FILES)
def test_the_vendor_is_described_completely(name: str) -> None:
    vendor = read(name).vendor
    assert vendor.name == name.removesuffix(".toml")
    assert vendor.title
    assert vendor.title_zh
    assert vendor.protocol in PROTOCOLS
    assert set(vendor.quirks) <= {ANY_MODEL, *QUIRKS}
    assert vendor.country == "" or re.fullmatch("[A-Z]{2}", vendor.country)
    if vendor.protocol in {"openai", "anthropic"}:
        assert vendor.base_url is not None
        loopback = vendor.base_url.startswith("http://127.0.0.1:")
        assert loopback or vendor.base_url.startswith("https://")
        assert not vendor.base_url.endswith("/")
        assert vendor.docs.startswith("https://")
        assert loopback == vendor.inside
        if not loopback:
            assert vendor.key_variable is not None
            assert re.fullmatch("[A-Z][A-Z0-9_]*_(KEY|TOKEN|BEDROCK)", vendor.key_variable)
    else:
        assert vendor.inside


@pytest.mark.parametrize("name", FILES)
def test_models_have_valid_abilities_windows_and_dates(name: str) -> None:
    for model, entry in read(name).models.items():
        assert set(entry.abilities) <= ABILITIES, model
        assert entry.context_window is None or entry.context_window > 0, model
        assert entry.max_output is None or entry.max_output > 0, model
        for day in (entry.released, entry.shutdown):
            if day:
                date.fromisoformat((day + "-01-01")[:10] if len(day) == 4 else (day + "-01")[:10])
        assert not entry.license or entry.open_weights, model


@pytest.mark.parametrize("name", FILES)
def test_every_price_is_exact_not_negative_and_carries_its_source_and_date(name: str) -> None:
    file = read(name)
    for model, entry in file.models.items():
        price = entry.model(file.vendor.name, model, file.prices).price
        if price is None:
            assert not entry.tiers, model
            continue
        assert re.fullmatch("[A-Z]{3}", price.currency), model
        assert price.source == "local" or price.source.startswith("https://"), model
        assert date(2023, 1, 1) < date.fromisoformat(price.as_of), model
        rates = [price, *price.tiers]
        for rate in rates:
            for figure in (rate.input_per_million, rate.output_per_million):
                assert isinstance(figure, Decimal), model
                assert 0 <= figure < 1000, model
            if rate.cached_per_million is not None and rate.input_per_million is not None:
                assert 0 <= rate.cached_per_million <= rate.input_per_million, model
        bounds = [tier.above_tokens for tier in price.tiers]
        assert bounds == sorted(set(bounds)), model


@pytest.mark.parametrize("name", FILES)
def test_a_price_of_nothing_is_local_or_that_of_a_vendor_known_to_give_models_away(name: str) -> None:
    file = read(name)
    for model, entry in file.models.items():
        if entry.price is not None and entry.price.output == 0 and "embeddings" not in entry.abilities:
            assert file.vendor.name in {"local", "zhipu", "siliconflow"}, model


@pytest.mark.parametrize("name", FILES)
def test_models_stand_in_order_and_decimals_are_text(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    models = re.findall(r'^\[models\."(.+)"\]$', text, flags=re.MULTILINE)
    assert models == sorted(models, key=str.lower)
    assert not re.search(r"\b(?<!_)(input|output|cached) = \d", text)


def test_a_misspelt_key_is_not_taken_for_an_unknown_price() -> None:
    data = {"vendor": {"name": "x", "title": "x", "protocol": "openai"}, "models": {"m": {"prize": {}}}}
    with pytest.raises(msgspec.ValidationError, match="prize"):
        msgspec.convert(data, VendorFile)
