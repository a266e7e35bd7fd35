"""How a model's tensors are called and laid out in GGUF and in Hugging Face form."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baimo.errors import AdapterError
from baimo.providers import gguf
from baimo.providers.hf_files import read_json

_WHOLE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_PARTS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)")
_ROTATED = ("attn_q", "attn_k")
ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""Whose names and layouts are known here."""


def gguf_name(name: str) -> str | None:
    """A tensor's name in GGUF by its name in Hugging Face form; None = not part of these architectures."""
    if name in _WHOLE:
        return _WHOLE[name]
    match = _LAYER.fullmatch(name)
    part = None if match is None else _PARTS.get(match[2])
    return None if match is None or part is None else f"blk.{match[1]}.{part}.{match[3]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What of a model's config decides how its tensors are laid out."""

    architecture: str
    """llama, qwen2, qwen3."""
    heads: int
    """Query heads."""
    pairs: int
    """Key and value heads."""

    def laid_out(self, name: str, data: Any) -> Any:
        """Rows of a query or key matrix, or of what is added to it, in GGUF's order; other tensors as they are.

        Args:
            name: in GGUF.
            data: [rows, …]
        """
        part = name.split(".")[2] if name.startswith("blk.") else ""
        if self.architecture != "llama" or part not in _ROTATED:
            return data
        heads = self.heads if part == "attn_q" else self.pairs
        halves = data.reshape(heads, 2, data.shape[0] // heads // 2, *data.shape[1:])
        return halves.swapaxes(1, 2).reshape(data.shape)


def shape_of_config(folder: Path) -> Shape:
    """The layout of a folder in Hugging Face form, by its config.json.

    Raises:
        AdapterError: there is none, or its architecture is not known here.
    """
    config = read_json(folder / "config.json")
    name = str(config.get("model_type"))
    if name not in ARCHITECTURES:
        raise AdapterError("adapters.architecture", path=folder, name=name, known=", ".join(ARCHITECTURES))
    heads = int(config["num_attention_heads"])
    return Shape(architecture=name, heads=heads, pairs=int(config.get("num_key_value_heads") or heads))


def shape_of_gguf(file: gguf.GgufFile) -> Shape:
    """The layout of a GGUF file.

    Raises:
        AdapterError: its architecture is not known here.
    """
    name = file.architecture
    if name not in ARCHITECTURES:
        raise AdapterError("adapters.architecture", path=file.path, name=name, known=", ".join(ARCHITECTURES))
    heads = int(file.metadata[f"{name}.attention.head_count"])
    pairs = int(file.metadata.get(f"{name}.attention.head_count_kv", heads))
    return Shape(architecture=name, heads=heads, pairs=pairs)
