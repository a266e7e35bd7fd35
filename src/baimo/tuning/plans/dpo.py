"""What direct preference optimisation can be told, and what follows from the dial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from baimo.core.tuning import Effort
from baimo.tuning.bench import Facts, overridden
from baimo.tuning.plans.sft import Above, Count, Share

Variant = Literal["sigmoid", "ipo"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every value that the recipe uses."""

    beta: Above = 0.1
    """How strongly the model is tied to what it was."""
    variant: Variant = "sigmoid"
    """sigmoid (DPO); ipo, which stops at a margin of 1/2β and so does not run away on clean pairs."""
    likelihood: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Weight of the chosen answer's own likelihood beside the preference (RPO): keeps it from becoming rarer."""
    n_epochs: Above = 1.0
    """Passes over the pairs."""
    batch_size: Count = 8
    """Pairs of a step."""
    learning_rate_multiplier: Above = 1.0
    """Times `learning_rate`."""
    learning_rate: Above = 2e-4
    """Highest rate of AdamW."""
    upper: Share = 1.0
    """Share of the layers that learn, counted from the top."""
    rank: Count = 16
    """Of the adapter."""
    alpha: Above = 32.0
    """The adapter counts alpha / rank."""
    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    """Of the adapter's inputs."""
    warmup: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.1
    """Share of the steps in which the rate rises."""
    schedule: Annotated[str, msgspec.Meta(pattern="^(cosine|linear|constant)$")] = "linear"
    """How the rate falls."""
    weight_decay: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Of AdamW."""
    clip: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    """Longest gradient."""
    longest: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Most tokens of a prompt with one answer; longer pairs are left out and told. 0 = the base's window."""
    micro_tokens: Count = 2048
    """Most tokens computed at once; memory grows with it, the result does not depend on it."""
    remember_mb: Annotated[float, msgspec.Meta(ge=0)] = 1024.0
    """Memory for what the layers below the lowest one that learns give: the reference has computed it already."""
    valid_every: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Steps between two measurements of the validation pairs; 0 = once an epoch."""
    max_steps: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Stop earlier; 0 = when the epochs are over."""
    precision: Annotated[str, msgspec.Meta(pattern="^(auto|bf16|f32)$")] = "auto"
    """Of the computation; what is learnt is held in f32 either way."""


def planned(effort: Effort, facts: Facts, overrides: Mapping[str, Any]) -> Settings:
    """The dial → everything else.

    Raises:
        ConfigError: an override that does not exist or is not possible.
    """
    epochs = {"small": 1.0, "medium": 2.0, "large": 3.0}[effort]
    steps = {"small": 40, "medium": 100, "large": 200}[effort]
    batch = 8 if facts.rows < 1000 else 16
    derived = Settings(
        n_epochs=min(10.0, max(epochs, round(steps * batch / max(facts.rows, 1)))),
        batch_size=batch,
        upper=0.5 if effort == "small" else 1.0,
        rank=32 if effort == "large" else 16,
        alpha=64.0 if effort == "large" else 32.0,
        micro_tokens=16384 if facts.device.startswith("cuda") else 2048,
    )
    return overridden("dpo", derived, overrides)
