"""What recipes can be told is known without torch, and knows OpenAI's words."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from baimo.errors import ConfigError
from baimo.tuning.bench import RECIPES
from baimo.tuning.plans import PLANS, check

NO_TORCH = """
import sys
from baimo.tuning.plans import PLANS, check
for recipe in PLANS:
    check(recipe, {})
    assert not {"torch", "numpy", "transformers", "peft"} & set(sys.modules), recipe
"""
SHARED = {"n_epochs": 3, "batch_size": 4, "learning_rate_multiplier": 0.5}
REINFORCED = {"compute_multiplier": 2.0, "eval_interval": 5, "eval_samples": 3, "reasoning_effort": "low"}


def test_every_recipe_has_a_plan_that_needs_no_torch() -> None:
    assert set(PLANS) == set(RECIPES)
    done = subprocess.run([sys.executable, "-c", NO_TORCH], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("recipe", "told"),
    [("sft", SHARED), ("dpo", {**SHARED, "beta": 0.2}), ("grpo", {**SHARED, **REINFORCED})],
)
def test_hyperparameters_with_openai_s_names_can_be_told(recipe: str, told: dict[str, Any]) -> None:
    check(recipe, told)
    check(recipe, dict.fromkeys(told, "auto"))


@pytest.mark.parametrize(
    ("recipe", "told"),
    [("sft", {"beta": 1}), ("dpo", {"beta": -1}), ("grpo", {"answers": 1}), ("cpt", {"window": "wide"})],
)
def test_what_a_recipe_cannot_be_told_is_named(recipe: str, told: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        check(recipe, told)
    assert caught.value.facts["name"] == next(iter(told)) and caught.value.facts["recipe"] == recipe
