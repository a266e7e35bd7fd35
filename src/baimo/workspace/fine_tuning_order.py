"""What a fine-tuning job is asked to do, freed from the form in which it was asked.

OpenAI's three methods are recipes here; what only baimo knows (another recipe, the dial, single settings) comes beside
them and is never required.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from baimo.core.tuning import Effort

RECIPES: Mapping[str, str] = {"supervised": "sft", "dpo": "dpo", "reinforcement": "grpo"}
"""OpenAI's method → our recipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order of a tuned model."""

    model: str
    """As the client named it: a base, an alias, or an `ft:` model."""
    training_file: str
    """StoredFile.id."""
    validation_file: str = ""
    """StoredFile.id; empty = none."""
    method: str = "supervised"
    """supervised, dpo or reinforcement."""
    recipe: str = "sft"
    """Name of the recipe."""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Those that the client has set, under OpenAI's names; whatever is `auto` is not here."""
    grader: Mapping[str, Any] | None = None
    """Of a reinforcement job."""
    overrides: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Settings of the recipe for which OpenAI has no name."""
    effort: Effort = "small"
    """The dial."""
    suffix: str = ""
    """Part of the tuned model's name."""
    seed: int | None = None
    """Of every random choice; None = one is drawn."""
    integrations: int = 0
    """Services that were to be told, and are not."""
    asked: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The request as the client sent it."""

    @property
    def settings(self) -> dict[str, Any]:
        """What the recipe is told beside the dial."""
        return {**self.hyperparameters, **self.overrides}

    def place(self, name: str) -> str:
        """Where in the request one of `settings` stands."""
        if name not in self.hyperparameters or name in self.overrides:
            return f"baimo.overrides.{name}"
        method = f"method.{self.method}." if self.asked.get("method") else ""
        return f"{method}hyperparameters.{name}"
