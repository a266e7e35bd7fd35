"""What one comparison is asked to do: the source of the command line's options and of the reference page.

Imports nothing heavy, so that `baimo --help` stays fast. Each field's help text is `options.compare_<field>` in the
message catalogue.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from baimo.errors import UsageError

LIMITS = ("max_cost", "max_calls", "max_minutes")
"""Options that may change when a comparison goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions:
    """`baimo compare TASK`: which candidate does this task best, for how much, how sure?"""

    task: str
    """Folder, task.toml or data file."""
    model: tuple[str, ...] = ()
    """vendor/model or a pattern such as `deepseek/*`; replaces the candidates that the task names."""
    also: tuple[str, ...] = ()
    """vendor/model, or vendor/model@PROMPT of the task; joins the candidates."""
    only: tuple[str, ...] = ()
    """Names or patterns of the task's candidates to keep."""
    decision: Literal["best", "cheapest"] = "best"
    """best, or cheapest within epsilon of the best."""
    epsilon: float | None = None
    """Difference that does not matter; None = compare.epsilon of the settings."""
    delta: float | None = None
    """Highest acceptable probability of a wrong choice; None = compare.delta of the settings."""
    assurance: Literal["calibrated", "guaranteed"] | None = None
    """calibrated or guaranteed; None = compare.assurance of the settings."""
    target: Literal["set", "population"] = "set"
    """State the result for these examples, or for the population that they were drawn from."""
    score: Literal["lenient", "strict"] = "lenient"
    """Which score decides."""
    max_cost: float | None = None
    """Most money to spend, in money.currency; None = compare.max_cost of the settings."""
    max_calls: int | None = None
    """Most calls to make; None = no limit."""
    max_minutes: float | None = None
    """Most wall time; None = no limit."""
    exhaustive: bool = False
    """Ask every candidate every example, whatever is certain already."""
    examples: int | None = None
    """Use a random subset of this many examples; None = all."""
    batch: int = 64
    """Most calls under way at once."""
    seed: int = 0
    """Decides the shared order of examples and every random choice."""
    require: tuple[str, ...] = ()
    """Conditions such as `score>=0.9` that decide the exit code."""
    resume: str | None = None
    """Id of a run to go on with, or `last`."""
    forecast: bool = False
    """Only say what it would take."""

    def __post_init__(self) -> None:
        """
        Raises:
            UsageError: a number is out of its range.
        """
        self._check("epsilon", self.epsilon is None or 0 <= self.epsilon < 1, "0 ≤ ε < 1")
        self._check("delta", self.delta is None or 0 < self.delta < 1, "0 < δ < 1")
        for name in ("max_cost", "max_minutes"):
            limit = getattr(self, name)
            self._check(name, limit is None or (limit > 0 and math.isfinite(limit)), "> 0")
        self._check("seed", 0 <= self.seed < 2**63, "0 … 2⁶³ − 1")
        for name in ("max_calls", "examples", "batch"):
            count: int | None = getattr(self, name)
            self._check(name, count is None or count >= 1, "≥ 1")

    def _check(self, name: str, fits: bool, range: str) -> None:
        if not fits:
            value: Any = getattr(self, name)
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(
                "options.out_of_range", option=flag, value=f"{value:g}", range=range, field=f"/{name}"
            )
