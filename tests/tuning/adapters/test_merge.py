"""Merging on files gives what PEFT computes, for every kind of LoRA that is taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from baimo.errors import AdapterError  # noqa: E402
from baimo.providers.peft_folder import PeftFolder  # noqa: E402
from baimo.tuning.adapters.merge import Merged, merged  # noqa: E402
from tests.tuning.adapters import tuned  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries about each other

IDS = [7, 42, 3, 250, 99, 120, 5]


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"use_rslora": True},
        {"use_dora": True},
        {"alpha_pattern": {"q_proj": 32}, "rank_pattern": {"layers.1.mlp.up_proj": 2}},
        {"modules_to_save": ["embed_tokens", "lm_head"]},
        {"target_modules": [*tuned.TARGETS, "embed_tokens"]},
        {"target_modules": ["q_proj"], "layers_to_transform": [1]},
    ],
    ids=["plain", "rslora", "dora", "patterns", "saved", "embedding", "upper"],
)
def test_a_merged_folder_answers_as_peft_does(tmp_path: Path, config: dict[str, Any]) -> None:
    import transformers

    base = tuned.base(tmp_path / "base")
    with_adapter = tuned.adapted(base, tmp_path / "adapter", **config)
    expected = tuned.logits(with_adapter, IDS)
    with with_adapter.disable_adapter():
        bare = tuned.logits(with_adapter, IDS)
    out = merged(tmp_path / "adapter", base, tmp_path / "merged")
    model = transformers.AutoModelForCausalLM.from_pretrained(out)
    assert (expected - bare).abs().max() > 0.05
    assert torch.allclose(tuned.logits(model.eval(), IDS), expected, atol=2e-4)


def test_whole_weights_are_taken_as_they_are(tmp_path: Path) -> None:
    base = tuned.base(tmp_path / "base")
    out = merged(base, base, tmp_path / "out")
    assert (out / "model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()
    assert (out / "tokenizer.json").is_file()


def test_an_adapter_of_another_base_is_refused_with_the_part_that_does_not_fit(tmp_path: Path) -> None:
    base = tuned.base(tmp_path / "base")
    tuned.adapted(base, tmp_path / "adapter", target_modules=["q_proj"])
    other = tuned.base(tmp_path / "other")
    head = other / "model.safetensors"
    from safetensors.torch import load_file, save_file

    weights = load_file(head)
    weights["model.layers.0.self_attn.q_proj.weight"] = torch.zeros(32, 64)
    save_file(weights, head)
    with pytest.raises(AdapterError, match=r"model\.layers\.0\.self_attn\.q_proj has size \(64, 64\)"):
        Merged(other, tmp_path / "adapter")["model.layers.0.self_attn.q_proj.weight"]
    del weights["model.layers.0.self_attn.q_proj.weight"]
    save_file(weights, head)
    with pytest.raises(AdapterError, match="which the base does not have"):
        Merged(other, tmp_path / "adapter")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peft_type": "IA3"}, "of kind IA3"),
        ({"init_lora_weights": "pissa"}, "changes the base's weights too"),
        ({"init_lora_weights": "pissa_niter_4"}, "changes the base's weights too"),
        ({"bias": "lora_only"}, "trained biases"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
        ({"lora_alpha": None}, "cannot be read"),
    ],
)
def test_what_cannot_be_followed_completely_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    base = tuned.base(tmp_path / "base")
    tuned.adapted(base, tmp_path / "adapter", target_modules=["q_proj"])
    path = tmp_path / "adapter" / "adapter_config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
    with pytest.raises(AdapterError, match=said):
        PeftFolder(tmp_path / "adapter")


def test_a_pickle_is_not_opened_and_a_missing_file_is_named(tmp_path: Path) -> None:
    base = tuned.base(tmp_path / "base")
    folder = tmp_path / "adapter"
    tuned.adapted(base, folder, target_modules=["q_proj"])
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(AdapterError, match="may run code"):
        PeftFolder(folder)
    (folder / "adapter_model.bin").unlink()
    with pytest.raises(AdapterError, match=r"adapter_model\.safetensors"):
        PeftFolder(folder)
    (folder / "adapter_config.json").unlink()
    with pytest.raises(AdapterError, match=r"no adapter_config\.json"):
        PeftFolder(folder)
