"""What continued pretraining can be told, and what follows from the dial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from baimo.core.tuning import Effort
from baimo.tuning.bench import Facts, overridden
from baimo.tuning.plans.sft import Above, Count, Share, rate


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every value that the recipe uses."""

    method: Literal["lora", "full"] = "lora"
    """What is learnt: an adapter, or the weights themselves."""
    n_epochs: Above = 1.0
    """Passes over the texts."""
    batch_size: Count = 8
    """Windows of a step."""
    window: Count = 256
    """Tokens of a window."""
    held_out: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.05
    """Share of the texts that is measured instead of learnt, where there are no validation rows."""
    learning_rate_multiplier: Above = 1.0
    """Times `learning_rate`."""
    learning_rate: Above = 5e-4
    """Highest rate of AdamW."""
    upper: Share = 1.0
    """Share of the layers that learn, counted from the top."""
    rank: Count = 32
    """Of the adapter."""
    alpha: Above = 64.0
    """The adapter counts alpha / rank."""
    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    """Of the adapter's inputs."""
    warmup: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.05
    """Share of the steps in which the rate rises."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the rate falls."""
    weight_decay: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Of AdamW."""
    clip: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    """Longest gradient."""
    micro_tokens: Count = 2048
    """Most tokens computed at once."""
    valid_every: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Steps between two measurements of the text held out; 0 = once an epoch."""
    max_steps: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Stop earlier; 0 = when the epochs are over."""
    remember_mb: Annotated[float, msgspec.Meta(ge=0)] = 1024.0
    """Memory in which the layers that do not learn are computed once only; 0 = in every epoch again."""
    precision: Literal["auto", "bf16", "f32"] = "auto"
    """Of the computation; what is learnt is held in f32 either way."""


def planned(effort: Effort, facts: Facts, overrides: Mapping[str, Any]) -> Settings:
    """The dial → everything else.

    Raises:
        ConfigError: an override that does not exist or is not possible.
    """
    full = overrides.get("method") == "full"
    window = min({"small": 128, "medium": 256, "large": 512}[effort], facts.window or 512)
    derived = Settings(
        method="full" if full else "lora",
        n_epochs={"small": 1.0, "medium": 2.0, "large": 3.0}[effort],
        batch_size=max(1, min(16, facts.tokens // (window * 40) or 1)),
        window=window,
        learning_rate=rate(5e-5 if full else 5e-4, facts.parameters),
        upper=0.5 if effort == "small" else 1.0,
        rank={"small": 16, "medium": 32, "large": 64}[effort],
        alpha={"small": 32.0, "medium": 64.0, "large": 128.0}[effort],
        micro_tokens=16384 if facts.device.startswith("cuda") else 2048,
    )
    return overridden("cpt", derived, overrides)
