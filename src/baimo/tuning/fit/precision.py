# pyright: basic
"""Whole weights, learnt with f32 masters.

A step of 1e-5 is lost in bf16, which has eight bits: what is learnt is held in f32, and what is computed is its copy.
"""

from __future__ import annotations

from pathlib import Path

import torch

from baimo.core.registry import require
from baimo.tuning.fit.base import LoadedBase
from baimo.tuning.fit.lora import copy_dialect, learnt


def unfreeze(base: LoadedBase, upper: float = 1.0) -> list[torch.nn.Parameter]:
    """Let the decoder layers learn; embeddings, head and last norm stay as they are.

    Args:
        base: of this model.
        upper: share of the decoder layers, counted from the top.

    Returns:
        What is learnt, f32.
    """
    count = len(base.layers)
    first = count - max(1, round(count * upper))
    for layer in base.layers[first:]:
        for weight in layer.parameters():
            weight.data = weight.data.float()
            weight.requires_grad_(True)
    return learnt(base)


def write_whole(base: LoadedBase, folder: Path) -> None:
    """All weights in Hugging Face form, with tokenizer, template and generation config.

    What was learnt is f32; everything else is as the base has it, not as it was computed with.
    """
    safetensors = require("safetensors.torch", "tune", "fit.purpose")
    weights: dict[str, torch.Tensor] = {}
    for file in sorted(base.folder.glob("*.safetensors")):
        weights |= safetensors.load_file(file)
    for name, weight in base.model.named_parameters():
        if weight.requires_grad:
            weights[name] = weight.detach().cpu().contiguous()
    safetensors.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_bytes((base.folder / "config.json").read_bytes())
    copy_dialect(base, folder)
