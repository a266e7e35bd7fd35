from __future__ import annotations

import datetime
from urllib.parse import urlsplit

import pytest

from baimo.core.model import Model
from baimo.models.catalogue import Catalogue
from baimo.models.terms import Terms, terms_file, terms_of
from baimo.settings import Settings

CATALOGUE = Catalogue.load(Settings())
EVERY = [*terms_file().names, *terms_file().licenses, *terms_file().vendors]


@pytest.mark.parametrize("terms", EVERY, ids=lambda terms: terms.match[0])
def test_every_entry_says_what_where_and_when_in_both_languages(terms: Terms) -> None:
    assert terms.training != "unknown"
    assert terms.note and terms.note_zh
    assert urlsplit(terms.source).scheme == "https"
    assert datetime.date.fromisoformat(terms.as_of) <= datetime.date(2030, 1, 1)


@pytest.mark.parametrize("terms", terms_file().vendors, ids=lambda terms: terms.match[0])
def test_every_vendor_of_the_terms_is_in_the_catalogue(terms: Terms) -> None:
    for name in terms.match:
        assert CATALOGUE.vendor(name).name == name


@pytest.mark.parametrize(
    ("name", "license", "inside", "training"),
    [
        ("local/smollm2-135m-instruct", "Apache-2.0", True, "allowed"),
        ("vllm/qwen2.5-72b-instruct", "", True, "conditions"),
        ("ollama/Llama-3.1-8B", "", True, "conditions"),
        ("ollama/own-model", "", True, "unknown"),
        ("openai/gpt-4.1", "", False, "competing"),
        ("openai/gpt-oss-120b", "Apache-2.0", False, "competing"),  # whose API answers counts
        ("deepseek/deepseek-chat", "MIT", False, "allowed"),
        ("groq/llama-3.3-70b", "", False, "unknown"),  # the model's terms are known, the vendor's are not
        ("bedrock/meta.llama-3-70b", "", False, "forbidden"),
    ],
)
def test_the_strictest_of_model_and_vendor_counts(
    name: str, license: str, inside: bool, training: str
) -> None:
    vendor, _, upstream = name.partition("/")
    model = Model(name=name, vendor=vendor, upstream=upstream, license=license)
    assert terms_of(model, inside=inside).training == training
