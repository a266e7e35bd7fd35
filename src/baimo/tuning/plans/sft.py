"""What supervised fine-tuning can be told, and what follows from the dial."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from baimo.core.tuning import Effort
from baimo.tuning.bench import Facts, overridden
from baimo.tuning.plans.learning import Above, Adapting, Count, Steps


class Settings(Adapting, frozen=True, kw_only=True):
    """Every value that the recipe uses."""

    method: Literal["lora", "full"] = "lora"
    """What is learnt: an adapter, or the weights themselves."""
    n_epochs: Above = 3.0
    batch_size: Count = 16
    learning_rate: Above = 1e-3
    longest: Steps = 0
    """Most tokens of a row; longer ones are left out and told. 0 = the base's window."""


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
