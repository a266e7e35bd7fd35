"""What a recipe finds on its bench: the job's folder, the base, the machine, and what the workspace lends it.

No torch here: the parent reads `RECIPES` and fills `Facts` for a forecast without loading a model.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from baimo.core.call import Completion, Request
from baimo.core.tuning import Row
from baimo.errors import ConfigError
from baimo.tuning.folder import JobFolder
from baimo.tuning.search.work import Work
from baimo.tuning.teaching import Teachers
from baimo.typed import converted

Reward = Callable[[Row, str], float]
"""How good an answer to a row is; a scorer or a grader, lent by the workspace."""
Ask = Callable[[Request], Awaitable[Completion]]
"""A call to a model through the gateway, so that it is paid for and recorded."""

RECIPES: Mapping[str, str] = {
    "sft": "baimo.tuning.recipes.sft",
    "cpt": "baimo.tuning.recipes.cpt",
    "dpo": "baimo.tuning.recipes.dpo",
    "grpo": "baimo.tuning.recipes.grpo",
    "distill": "baimo.tuning.recipes.distill",
    "prompt": "baimo.tuning.recipes.prompt",
}
"""Recipes by name: modules with `Settings`, `planned` and `run`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of data, base and machine before a job starts; whatever is not overridden follows from it."""

    rows: int
    """Training rows."""
    tokens: int
    """Tokens of all training rows, once."""
    longest: int
    """Tokens of the longest row."""
    trained_tokens: int = 0
    """Tokens among them that are learnt."""
    shared: int = 0
    """Tokens with which all rows begin."""
    parameters: int = 0
    """Weights of the base, embeddings included."""
    layers: int = 0
    """Decoder layers of the base."""
    window: int = 0
    """Tokens that the base was made for; 0 = not known."""
    cores: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Processor threads that the job may use."""
    memory_mb: float = 0.0
    """Memory that the job may use, of the GPU if there is one; 0 = not known."""
    device: str = "cpu"
    """cpu, cuda, cuda:1 …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Everything that a recipe works with. It writes into `folder` and nowhere else."""

    folder: JobFolder
    """Spec, rows, events, checkpoints, result."""
    base: Path
    """GGUF file, or folder of Hugging Face form."""
    rewards: Mapping[str, Reward] = field(default_factory=dict[str, Reward])
    """Scorers by name, for recipes that want them."""
    ask: Ask | None = None
    """Calls to other models, for recipes that want them."""
    rest: Callable[[], None] = lambda: None
    """Lets go of what was asked, and its memory, until the next call."""
    work: Work | None = None
    """The task as the recipe `prompt` sees it."""
    teachers: Teachers | None = None
    """What is known of models that could teach, for the recipe `distill`."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 …"""
    threads: int = 0
    """Processor threads; 0 = all."""
    memory_mb: float = 0.0
    """Most memory that the job may take; 0 = what is free."""
    checkpoint_minutes: float = 5.0
    """Longest working time between two checkpoints."""
    checkpoints: int = 3
    """How many are kept besides those at the end of an epoch."""
    shard: bool = False
    """Spread the base over the processes that share the job, where it does not fit one."""
    cache: Path | None = None
    """Where a base in Hugging Face form is kept; None = the user's cache."""


Chosen = TypeVar("Chosen", bound=msgspec.Struct)


def overridden(recipe: str, settings: Chosen, overrides: Mapping[str, Any]) -> Chosen:
    """Derived settings with what the user wants otherwise; "auto" and None leave a value as derived.

    Args:
        recipe: its name, for messages.
        settings: as derived.
        overrides: by name of the field.

    Raises:
        ConfigError: no such setting, or a value that is not possible.
    """
    values: dict[str, Any] = msgspec.to_builtins(settings)
    for name, value in overrides.items():
        if name not in values:
            near = difflib.get_close_matches(name, values, n=1)
            key, known = ("fit.unknown_setting", near) if near else ("fit.no_such_setting", values)
            raise ConfigError(key, recipe=recipe, name=name, near=", ".join(known))
        if value is None or value == "auto":
            continue
        try:
            settings = converted({**values, name: value}, type(settings), strict=not isinstance(value, str))
        except msgspec.ValidationError as error:
            problem = str(error).partition(" - at")[0]
            raise ConfigError(
                "fit.bad_setting", recipe=recipe, name=name, value=value, problem=problem
            ) from error
        values = msgspec.to_builtins(settings)
    return settings
