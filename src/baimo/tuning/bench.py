"""What a recipe finds on its bench: the job's folder, the base, the machine, and what the workspace lends it.

No torch here: the parent reads `RECIPES` and fills `Facts` for a forecast without loading a model.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from baimo.core.call import Completion, Request
from baimo.core.tuning import Row
from baimo.tuning.folder import JobFolder

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
    cache: Path | None = None
    """Where a base in Hugging Face form is kept; None = the user's cache."""
