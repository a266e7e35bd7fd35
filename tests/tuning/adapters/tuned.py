"""A tiny model with an adapter by PEFT, made in milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.tuning.fit import tiny

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def adapted(base: Path, folder: Path, *, size: float = 0.05, seed: int = 1, **config: Any) -> Any:
    """PEFT's model, saved to `folder` with the base's tokenizer beside; its B is not nothing."""
    import peft
    import transformers

    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    given = {"r": 4, "lora_alpha": 8, "target_modules": TARGETS, "task_type": "CAUSAL_LM", **config}
    made = peft.get_peft_model(model, peft.LoraConfig(**given))
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "lora_B" in name or "lora_embedding_A" in name:
                weight.normal_(std=size)
            elif "modules_to_save" in name or "magnitude" in name:
                weight.mul_(1 + 0.2 * torch.rand_like(weight))
    made.save_pretrained(folder, save_embedding_layers=False)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        (folder / name).write_bytes((base / name).read_bytes())
    return made.eval()


def logits(model: Any, ids: list[int]) -> Any:
    """Of every place."""
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0].float()


def base(path: Path, family: str = "llama") -> Path:
    """Folder of Hugging Face form."""
    return tiny.hf_folder(path, family)
