"""What each recipe can be told, and what follows from the dial: no torch here, so that a server can check an order."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from baimo.tuning.bench import overridden

PLANS: Mapping[str, str] = {
    **{name: f"baimo.tuning.plans.{name}" for name in ("sft", "cpt", "dpo", "grpo")},
    **{name: f"baimo.tuning.recipes.{name}" for name in ("distill", "prompt")},
}
"""Modules with `Settings` and `planned`, by name of the recipe."""


def check(recipe: str, overrides: Mapping[str, Any]) -> None:
    """Refuse what a recipe cannot be told.

    Args:
        recipe: its name.
        overrides: its settings that are wanted otherwise.

    Raises:
        ConfigError: it has no such setting, or the value is not possible; the fact `name` says which.
    """
    overridden(recipe, importlib.import_module(PLANS[recipe]).Settings(), overrides)
