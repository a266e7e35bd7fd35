"""What direct preference optimisation can be told, and what follows from the dial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from baimo.core.tuning import Effort
from baimo.tuning.bench import Facts, overridden
from baimo.tuning.plans.learning import Above, Adapting, NotNegative, Part, Schedule, Steps

Variant = Literal["sigmoid", "ipo"]


class Settings(Adapting, frozen=True, kw_only=True):
    """Every value that the recipe uses."""

    beta: Above = 0.1
    """How strongly the model is tied to what it was."""
    variant: Variant = "sigmoid"
    """sigmoid (DPO); ipo, which stops at a margin of 1/2β and so does not run away on clean pairs."""
    likelihood: NotNegative = 0.0
    """Weight of the chosen answer's own likelihood beside the preference (RPO): keeps it from becoming rarer."""
    warmup: Part = 0.1
    schedule: Schedule = "linear"
    longest: Steps = 0
    """Most tokens of a prompt with one answer; longer pairs are left out and told. 0 = the base's window."""


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
