"""What continued pretraining can be told, and what follows from the dial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from baimo.core.tuning import Effort
from baimo.tuning.bench import Facts, overridden
from baimo.tuning.plans.learning import Above, Adapting, Count, Dropout
from baimo.tuning.plans.sft import rate


class Settings(Adapting, frozen=True, kw_only=True):
    """Every value that the recipe uses."""

    method: Literal["lora", "full"] = "lora"
    """What is learnt: an adapter, or the weights themselves."""
    window: Count = 256
    """Tokens of a window."""
    held_out: Dropout = 0.05
    """Share of the texts that is measured instead of learnt, where there are no validation rows."""
    learning_rate: Above = 5e-4
    rank: Count = 32
    alpha: Above = 64.0


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
