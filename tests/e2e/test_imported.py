"""Settings of other gateways, imported and served: clients go on with the names that they know."""

from __future__ import annotations

from pathlib import Path

import pytest
from openai import OpenAI

from baimo.workspace.importing.reading import imported
from tests.serving import serving
from tests.upstream import TOKENS_IN, TOKENS_OUT, upstream

LITELLM = """
model_list:
  - model_name: general
    litellm_params: {{model: openai/gone, api_base: "http://127.0.0.1:9/v1", api_key: os.environ/ONE, order: 1}}
  - model_name: general
    litellm_params:
      {{model: openai/there, api_base: "{address}", api_key: os.environ/TWO, order: 2,
        input_cost_per_token: 1.5e-07, output_cost_per_token: 6.0e-07}}
router_settings: {{num_retries: 0, model_group_alias: {{gpt-4: general}}}}
"""
TENSORZERO = """
[models.general]
routing = ["gone", "there"]
[models.general.providers.gone]
type = "openai"
model_name = "gone"
api_base = "http://127.0.0.1:9/v1"
api_key_location = "env::ONE"
[models.general.providers.there]
type = "openai"
model_name = "there"
api_base = "{address}"
api_key_location = "env::TWO"
cost = [
  {{ pointer = "/usage/prompt_tokens", cost_per_million = 0.15, required = true }},
  {{ pointer = "/usage/completion_tokens", cost_per_million = 0.6, required = true }},
]
"""


@pytest.mark.parametrize(
    ("kind", "source", "name"),
    [("litellm", LITELLM, "gpt-4"), ("tensorzero", TENSORZERO, "tensorzero::model_name::general")],
)
def test_imported_settings_answer_fall_back_and_price_as_before(
    kind: str, source: str, name: str, tmp_path: Path
) -> None:
    with upstream() as model:
        (tmp_path / "source").write_text(source.format(address=model.address), encoding="utf-8")
        carried = imported(kind, tmp_path / "source")
        assert carried.whole
        keys = {"ONE": "sk-one", "TWO": "sk-two"}
        with serving(tmp_path / "w", carried.settings, environment=keys) as endpoint:
            client = OpenAI(base_url=f"{endpoint.address}/v1", api_key=endpoint.key, max_retries=0)
            messages = [{"role": "user", "content": "hello"}]
            answer = client.chat.completions.create(model=name, messages=messages)  # type: ignore[arg-type]
            assert answer.choices[0].message.content == "echo: hello"
            (record,) = endpoint.settled(1)
            assert model.headers[-1]["authorization"] == "Bearer sk-two"
            assert model.bodies[-1]["model"] == "there"
            costs = TOKENS_IN * 150_000 + TOKENS_OUT * 600_000
            assert record["cost_micros"] * 10**6 + record["cost_rest"] == costs
