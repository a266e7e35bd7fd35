"""What learning from rewards can be told, and what follows from the dial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from baimo.core.tuning import Effort
from baimo.tuning.bench import Facts, overridden
from baimo.tuning.plans.learning import Above, Count, Learning, NotNegative, Part, Schedule, Share, Steps

Divisor = Literal["longest", "answer", "token"]


class Settings(Learning, frozen=True, kw_only=True):
    """Every value that the recipe uses."""

    rewards: dict[str, float] = msgspec.field(default_factory=dict[str, float])
    """Weights of rewards by name; empty = the job's grader, else the scorer that decides the task."""
    answers: Annotated[int, msgspec.Meta(ge=2)] = 8
    """To each prompt of a step."""
    compute_multiplier: Above = 1.0
    """Times `answers`: how widely is searched."""
    longest_answer: Count = 128
    """Most tokens of an answer."""
    reasoning_effort: Literal["default", "low", "medium", "high"] = "default"
    """Times `longest_answer`: low ½, high 2; a base that thinks needs the room."""
    temperature: Above = 1.0
    """Of the answers that are learnt from."""
    scaled: bool = False
    """Divide advantages by the deviation of their group (GRPO); without it (Dr. GRPO) sure groups weigh no more."""
    share: Divisor = "longest"
    """What a token's part in the loss is divided by: longest (Dr. GRPO), answer (GRPO), token (DAPO)."""
    low: Share = 0.2
    """How far a token's probability ratio may fall."""
    high: Above = 0.28
    """How far it may rise; further than it may fall, so that rare tokens can become likelier (DAPO)."""
    kl: NotNegative = 0.0
    """Weight of the divergence from the model before training; 0 = not computed."""
    warmup: Part = 0.1
    schedule: Schedule = "constant"
    rows: Count = 128
    """Most answers decoded together; memory grows with it, the answers do not depend on it."""
    eval_interval: Steps = 0
    """Steps between two measurements of the validation prompts; 0 = once an epoch."""
    eval_samples: Count = 1
    """Answers to each validation prompt; 1 = the likeliest, more = sampled."""

    @property
    def group(self) -> int:
        """Answers to each prompt of a step, all told."""
        return max(2, round(self.answers * self.compute_multiplier))

    @property
    def room(self) -> int:
        """Most tokens of an answer, all told."""
        factor = {"low": 0.5, "high": 2.0}.get(self.reasoning_effort, 1.0)
        return max(1, round(self.longest_answer * factor))


def planned(effort: Effort, facts: Facts, overrides: Mapping[str, Any]) -> Settings:
    """The dial → everything else.

    Raises:
        ConfigError: an override that does not exist or is not possible.
    """
    steps = {"small": 40, "medium": 120, "large": 300}[effort]
    batch = 8
    derived = Settings(
        answers=16 if effort == "large" else 8,
        longest_answer=max(1, min(128, (facts.window or 2048) - facts.longest)),
        n_epochs=max(1.0, round(steps * batch / max(facts.rows, 1), 2)),
        batch_size=batch,
        upper=0.5 if effort == "small" else 1.0,
        rank=32 if effort == "large" else 16,
        alpha=64.0 if effort == "large" else 32.0,
        max_steps=steps if overrides.get("n_epochs") in (None, "auto") else 0,
        rows=512 if facts.device.startswith("cuda") else 128,
        micro_tokens=16384 if facts.device.startswith("cuda") else 2048,
    )
    return overridden("grpo", derived, overrides)
