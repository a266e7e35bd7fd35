"""What one tuning job is asked to do: the source of the command line's options and of the reference page.

Imports nothing heavy, so that `baimo --help` stays fast. Each field's help text is `options.tune_<field>` in the
message catalogue.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from baimo.core.tuning import Effort
from baimo.errors import UsageError

EMBEDDED = "local/smollm2-135m-instruct"
"""The base that is tuned when none is named."""
_SUFFIX = re.compile(r"[\w.-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneOptions:
    """`baimo tune TASK_OR_FILE`: adapt a model to data, on this machine."""

    source: str = field(metadata={"metavar": "TASK_OR_FILE", "required": True})
    """Folder of a task, whose train split is learnt, or a file of training data."""
    model: str = EMBEDDED
    """Base: a local model, a tuned one, or a folder of Hugging Face form."""
    recipe: str = "sft"
    """How it learns: sft, dpo, grpo, cpt, distill, prompt."""
    effort: Effort = "small"
    """The dial from which everything else follows."""
    set: tuple[str, ...] = ()
    """Settings of the recipe that are wanted otherwise: NAME=VALUE."""
    valid: str | None = None
    """File of rows that are only measured."""
    task: str | None = None
    """Task whose scorers judge answers, where `source` is a file."""
    prompt: str | None = None
    """Name of the task's prompt that is learnt; None = the first."""
    suffix: str | None = None
    """Part of the tuned model's name."""
    seed: int = 0
    """Decides the order of rows and every random choice."""
    gpus: int | None = None
    """Processes of this machine that share the job, one per GPU; None = one."""
    on: str | None = None
    """Ray cluster that runs it: ray://host:10001."""
    forecast: bool = False
    """Only say what it would take."""

    def __post_init__(self) -> None:
        """
        Raises:
            UsageError: an option cannot be used.
        """
        if self.suffix and not _SUFFIX.fullmatch(self.suffix):
            raise UsageError("tune.bad_suffix", suffix=self.suffix)
        if self.gpus is not None and self.gpus < 1:
            raise UsageError("options.out_of_range", option="--gpus", value=self.gpus, range="≥ 1")
        self.settings()

    def settings(self) -> dict[str, Any]:
        """`set` as name → value; a value is JSON, or else text.

        Raises:
            UsageError: one of them is no NAME=VALUE.
        """
        found: dict[str, Any] = {}
        for one in self.set:
            name, equals, value = one.partition("=")
            if not name or not equals:
                raise UsageError("tune.bad_set", given=one)
            try:
                found[name.replace("-", "_")] = json.loads(value)
            except ValueError:
                found[name.replace("-", "_")] = value
        return found
