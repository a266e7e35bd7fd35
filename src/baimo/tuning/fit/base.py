# pyright: basic
"""A base model, loaded to be tuned."""

from __future__ import annotations

import functools
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from baimo.core.registry import require
from baimo.providers.hf import hf_folder
from baimo.tuning.bench import Bench
from baimo.tuning.fit.encode import Dialect, dialect

SHAPES = "64"
"""Shapes of matrix products whose kernels oneDNN and PyTorch keep; one pass over a batch needs about 40."""


@dataclass(slots=True, kw_only=True)
class LoadedBase:
    """A causal language model on its device, in the precision of the computation."""

    model: Any
    """transformers' model; adapters are put into it in place."""
    dialect: Dialect
    """Tokenizer, template, end tokens."""
    folder: Path
    """Hugging Face form."""
    dtype: torch.dtype
    """Of the computation."""
    device: torch.device
    """Where it is computed."""
    peft: Any = None
    """PEFT's wrapper, once there is an adapter."""
    adapted: bool = True
    """Whether the adapter takes part; `reference` turns it off."""
    frugal: bool = False
    """Whether layers are computed again in the backward pass instead of held: half slower, a tenth of the memory."""
    kept: dict[str, Any] = field(default_factory=dict)
    """What other modules keep about this model, by their name."""

    @property
    def layers(self) -> Any:
        """Decoder layers, from below."""
        return self.model.model.layers

    @property
    def head(self) -> torch.Tensor:
        """Matrix from the last hidden state to logits, (vocabulary, width)."""
        return self.model.get_output_embeddings().weight

    @property
    def parameters(self) -> int:
        """Weights of the base."""
        return sum(weight.numel() for name, weight in self.model.named_parameters() if "lora_" not in name)

    @contextmanager
    def reference(self) -> Generator[None]:
        """The model without its adapter, as a recipe's point of comparison."""
        before, self.adapted = self.adapted, False
        try:
            if self.peft is None:
                yield
            else:
                with self.peft.disable_adapter():
                    yield
        finally:
            self.adapted = before


def loaded(bench: Bench, dtype: torch.dtype | None = None) -> LoadedBase:
    """The bench's base on the bench's device.

    Args:
        bench: names base, device and threads.
        dtype: of the computation; None = `best_dtype`.

    Raises:
        ProviderError: the base cannot be read.
        MissingExtra: transformers is not installed.
    """
    place = device(bench.device)
    if place.type == "cpu":
        keep_few_shapes()
        torch.set_num_threads(bench.threads or os.cpu_count() or 1)
    folder = hf_folder(bench.base, bench.cache)
    return opened(folder, place, dtype or best_dtype(place))


def keep_few_shapes() -> None:
    """Have oneDNN and PyTorch keep kernels for a few shapes only, unless the environment says how many.

    Batches have all lengths: the thousand kernels that are kept otherwise are gigabytes, and hardly one comes again.
    """
    for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(cache, SHAPES)


def opened(folder: Path, place: torch.device, dtype: torch.dtype) -> LoadedBase:
    """A model of Hugging Face form."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here is to be looked up anywhere else
    transformers = require("transformers", "tune", "fit.purpose")
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="sdpa", local_files_only=True
    )
    model.to(place).eval()
    model.requires_grad_(False)
    model.config.use_cache = False
    return LoadedBase(model=model, dialect=dialect(folder), folder=folder, dtype=dtype, device=place)


def device(name: str) -> torch.device:
    """`auto` = a GPU if there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def best_dtype(place: torch.device) -> torch.dtype:
    """bf16 where the processor multiplies it natively, else f32: emulated bf16 is slower than f32."""
    native = torch.cuda.is_bf16_supported() if place.type == "cuda" else _native_bf16()
    return torch.bfloat16 if native else torch.float32


@functools.cache
def _native_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def precision(name: str) -> torch.dtype | None:
    """`bf16`, `f32`; `auto` = None."""
    return {"bf16": torch.bfloat16, "f32": torch.float32}.get(name)
