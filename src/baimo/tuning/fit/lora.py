# pyright: basic
"""Low-rank adapters (LoRA, arXiv:2106.09685) by PEFT, on every linear layer of the decoder or of its upper part."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import torch

from baimo.core.registry import require
from baimo.tuning.fit.base import LoadedBase

_TRAVELS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)


def adapt(
    base: LoadedBase, *, rank: int, alpha: float, dropout: float = 0.0, upper: float = 1.0, seed: int = 0
) -> list[torch.nn.Parameter]:
    """Put an adapter into the base, in place; it changes nothing until it is trained.

    Args:
        base: all its weights stay as they are.
        rank: inner dimension.
        alpha: the product counts alpha / rank.
        dropout: of the adapter's inputs.
        upper: share of the decoder layers, counted from the top, that get one.
        seed: of the first matrices.

    Returns:
        What is learnt, f32.
    """
    peft = require("peft", "tune", "fit.purpose")
    count = len(base.layers)
    first = count - max(1, round(count * upper))
    torch.manual_seed(seed)
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=linear_names(base),
        layers_to_transform=list(range(first, count)) if first else None,
        layers_pattern="layers" if first else None,
        task_type="CAUSAL_LM",
        bias="none",
    )
    with warnings.catch_warnings():  # PEFT 0.21 asks transformers 5.23 by a name that goes out of use
        warnings.simplefilter("ignore", FutureWarning)
        base.peft = peft.get_peft_model(base.model, config, autocast_adapter_dtype=True)
    return learnt(base)


def learnt(base: LoadedBase) -> list[torch.nn.Parameter]:
    """Parameters that have a gradient, in the model's order."""
    return [weight for weight in base.model.parameters() if weight.requires_grad]


def linear_names(base: LoadedBase) -> list[str]:
    """Last names of the linear layers inside the decoder layers."""
    found = {
        name.rpartition(".")[2]
        for name, module in base.layers[0].named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    return sorted(found)


def write_adapter(base: LoadedBase, folder: Path, base_name: str) -> None:
    """The adapter as PEFT reads it, with all that is needed to serve it as it was trained.

    Args:
        base: adapted.
        folder: exists.
        base_name: what the adapter's configuration calls its base.
    """
    peft = require("peft", "tune", "fit.purpose")
    safetensors = require("safetensors.torch", "tune", "fit.purpose")
    weights = peft.get_peft_model_state_dict(base.peft, save_embedding_layers=False)
    whole = {name: weight.detach().float().cpu().contiguous() for name, weight in weights.items()}
    safetensors.save_file(whole, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = base.peft.peft_config["default"].to_dict()
    config |= {"base_model_name_or_path": base_name, "inference_mode": True}
    text = json.dumps(config, indent=2, sort_keys=True, default=_plain)
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")
    copy_dialect(base, folder)


def copy_dialect(base: LoadedBase, folder: Path) -> None:
    """Tokenizer, chat template and generation config of the base."""
    for name in _TRAVELS:
        if (base.folder / name).is_file():
            shutil.copyfile(base.folder / name, folder / name)


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, set | frozenset) else str(getattr(value, "value", value))
