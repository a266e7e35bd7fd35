"""What every recipe that changes weights can be told."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Above = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Steps = Annotated[int, msgspec.Meta(ge=0)]
Part = Annotated[float, msgspec.Meta(ge=0, le=1)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Dropout = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Schedule = Literal["cosine", "linear", "constant"]


class Learning(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that recipes share; each has defaults of its own."""

    n_epochs: Above = 1.0
    """Passes over what is learnt from."""
    batch_size: Count = 8
    """Rows, pairs, windows or prompts of a step."""
    learning_rate_multiplier: Above = 1.0
    """Times `learning_rate`."""
    learning_rate: Above = 2e-4
    """Highest rate of AdamW."""
    upper: Share = 1.0
    """Share of the layers that learn, counted from the top."""
    rank: Count = 16
    """Of the adapter."""
    alpha: Above = 32.0
    """The adapter counts alpha / rank."""
    warmup: Part = 0.05
    """Share of the steps in which the rate rises."""
    schedule: Schedule = "cosine"
    """How the rate falls."""
    weight_decay: NotNegative = 0.0
    """Of AdamW."""
    clip: NotNegative = 1.0
    """Longest gradient."""
    micro_tokens: Count = 2048
    """Most tokens computed at once; memory grows with it, the result does not depend on it."""
    max_steps: Steps = 0
    """Stop earlier; 0 = when the epochs are over."""
    precision: Literal["auto", "bf16", "f32"] = "auto"
    """Of the computation; what is learnt is held in f32 either way."""


class Adapting(Learning, frozen=True, kw_only=True):
    """Settings of recipes that learn from given texts."""

    dropout: Dropout = 0.0
    """Of the adapter's inputs."""
    valid_every: Steps = 0
    """Steps between two measurements of what is held out; 0 = once an epoch."""
    remember_mb: NotNegative = 1024.0
    """Memory in which the layers that do not learn are computed once only; 0 = in every epoch again."""
