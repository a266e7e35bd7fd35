"""What supervised fine-tuning can be told, and what follows from the dial."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from baimo.core.tuning import Effort
from baimo.tuning.bench import Facts, overridden

Above = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every value that the recipe uses."""

    method: Literal["lora", "full"] = "lora"
    """What is learnt: an adapter, or the weights themselves."""
    n_epochs: Above = 3.0
    """Passes over the rows."""
    batch_size: Count = 16
    """Rows of a step."""
    learning_rate_multiplier: Above = 1.0
    """Times `learning_rate`."""
    learning_rate: Above = 1e-3
    """Highest rate of AdamW."""
    upper: Share = 1.0
    """Share of the layers that learn, counted from the top."""
    rank: Count = 16
    """Of the adapter."""
    alpha: Above = 32.0
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
    longest: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Most tokens of a row; longer ones are left out and told. 0 = the base's window."""
    micro_tokens: Count = 2048
    """Most tokens computed at once; memory grows with it, the result does not depend on it."""
    valid_every: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Steps between two measurements of the validation rows; 0 = once an epoch."""
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
    epochs = {"small": 2.0, "medium": 3.0, "large": 5.0}[effort]
    steps = {"small": 60, "medium": 150, "large": 300}[effort]
    batch = max(4, min(32, 2 ** round(math.log2(max(1.0, facts.rows / 64)))))
    derived = Settings(
        method="full" if full else "lora",
        n_epochs=min(20.0, max(epochs, round(steps * batch / max(facts.rows, 1)))),
        batch_size=batch,
        learning_rate=rate(1e-4 if full else 3e-3 if effort == "small" else 1e-3, facts.parameters),
        upper=0.5 if effort == "small" else 1.0,
        rank=32 if effort == "large" else 16,
        alpha=64.0 if effort == "large" else 32.0,
        micro_tokens=16384 if facts.device.startswith("cuda") else 2048,
    )
    return overridden("sft", derived, overrides)


def rate(small: float, parameters: int) -> float:
    """A learning rate that is right for 135 million weights, for so many: larger models want smaller steps."""
    return float(f"{small * min(1.0, (135e6 / max(parameters, 1)) ** 0.35):.1e}")
