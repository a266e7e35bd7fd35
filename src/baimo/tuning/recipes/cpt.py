# pyright: basic
"""Continued pretraining: the model reads raw text, all of which is learnt.

Texts stand one behind the other with an end token between them, cut into windows of equal length. Before and after,
the perplexity of text that is held out is told: the validation rows, or else a share of the texts.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from baimo.core.tuning import Effort, Row
from baimo.errors import TaskError
from baimo.tuning.bench import Bench, Facts, overridden
from baimo.tuning.fit import base as bases
from baimo.tuning.fit import forward, lora, precision
from baimo.tuning.fit.encode import windows
from baimo.tuning.fit.loop import Course, Loop
from baimo.tuning.fit.loss import supervised
from baimo.tuning.recipes.sft import Above, Count, Share, pace, rate, walk

VERSION = "1"
"""Of this recipe: a change that makes other weights out of the same spec raises it."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every value that the recipe uses."""

    method: Literal["lora", "full"] = "lora"
    """What is learnt: an adapter, or the weights themselves."""
    n_epochs: Above = 1.0
    """Passes over the texts."""
    batch_size: Count = 8
    """Windows of a step."""
    window: Count = 256
    """Tokens of a window."""
    held_out: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.05
    """Share of the texts that is measured instead of learnt, where there are no validation rows."""
    learning_rate_multiplier: Above = 1.0
    """Times `learning_rate`."""
    learning_rate: Above = 5e-4
    """Highest rate of AdamW."""
    upper: Share = 1.0
    """Share of the layers that learn, counted from the top."""
    rank: Count = 32
    """Of the adapter."""
    alpha: Above = 64.0
    """The adapter counts alpha / rank."""
    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    """Of the adapter's inputs."""
    warmup: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.05
    """Share of the steps in which the rate rises."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the rate falls."""
    weight_decay: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Of AdamW."""
    clip: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    """Longest gradient."""
    micro_tokens: Count = 2048
    """Most tokens computed at once."""
    valid_every: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Steps between two measurements of the text held out; 0 = once an epoch."""
    max_steps: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Stop earlier; 0 = when the epochs are over."""
    remember_mb: Annotated[float, msgspec.Meta(ge=0)] = 1024.0
    """Memory in which the layers that do not learn are computed once only; 0 = in every epoch again."""
    precision: Literal["auto", "bf16", "f32"] = "auto"
    """Of the computation; what is learnt is held in f32 either way."""


def planned(effort: Effort, facts: Facts, overrides: Mapping[str, Any]) -> Settings:
    """The dial → everything else.

    Raises:
        ConfigError: an override that does not exist or is not possible.
    """
    full = overrides.get("method") == "full"
    window = min({"small": 128, "medium": 256, "large": 512}[effort], facts.window or 512)
    derived = Settings(
        method="full" if full else "lora",
        n_epochs={"small": 1.0, "medium": 2.0, "large": 3.0}[effort],
        batch_size=max(1, min(16, facts.tokens // (window * 40) or 1)),
        window=window,
        learning_rate=rate(5e-5 if full else 5e-4, facts.parameters),
        upper=0.5 if effort == "small" else 1.0,
        rank={"small": 16, "medium": 32, "large": 64}[effort],
        alpha={"small": 32.0, "medium": 64.0, "large": 128.0}[effort],
        micro_tokens=16384 if facts.device.startswith("cuda") else 2048,
    )
    return overridden("cpt", derived, overrides)


def run(bench: Bench, settings: Settings) -> None:
    """Learn, and leave the result in the job's folder; tells the perplexity of unseen text before and after.

    Raises:
        ProviderError: the base cannot be read, memory is too short, or the loss diverged.
        TaskError: there is no text.
    """
    spec = bench.folder.spec()
    base = bases.loaded(bench, bases.precision(settings.precision))
    texts, unseen = divided(bench.folder.train(), bench.folder.valid(), settings.held_out, spec.seed)
    rows = windows(base.dialect, texts, settings.window)
    valid = windows(base.dialect, unseen, settings.window)
    if not rows:
        raise TaskError("fit.no_text")
    if settings.method == "full":
        weights = precision.unfreeze(base, settings.upper)
        save = functools.partial(precision.write_whole, base)
    else:
        weights = lora.adapt(
            base,
            rank=settings.rank,
            alpha=settings.alpha,
            dropout=settings.dropout,
            upper=settings.upper,
            seed=spec.seed,
        )
        save = functools.partial(lora.write_adapter, base, base_name=spec.base)
    if settings.remember_mb and settings.n_epochs > 1:
        forward.remember(base, rows, settings.remember_mb)
    course = Course(
        items=rows,
        valid=valid,
        cut=forward.pieces(base),
        loss=functools.partial(supervised, base),
        weight=lambda row: row.answers,
        tokens=len,
        save=save,
    )
    loop = Loop(bench, base, weights, course, pace(settings, spec.seed))
    if valid and not bench.folder.checkpoints():
        _tell_perplexity(bench, "before", loop)
    if walk(bench, loop, save) and valid:
        _tell_perplexity(bench, "after", loop)


def divided(
    train: Sequence[Row], valid: Sequence[Row], share: float, seed: int
) -> tuple[list[str], list[str]]:
    """Texts to learn and texts held out; rows of one group stay together."""
    texts = [row for row in train if row.text]
    if any(row.text for row in valid) or not share or len(texts) < 2:
        return [row.text for row in texts], [row.text for row in valid if row.text]
    groups = sorted({_group(row, at) for at, row in enumerate(texts)})
    random.Random(seed).shuffle(groups)
    out = set(groups[: max(1, round(len(groups) * share))]) if len(groups) > 1 else set()
    split: tuple[list[str], list[str]] = ([], [])
    for at, row in enumerate(texts):
        split[_group(row, at) in out].append(row.text)
    return split


def _group(row: Row, at: int) -> str:
    return row.group or f"{at:09d}"


def _tell_perplexity(bench: Bench, when: str, loop: Loop[Any]) -> None:
    loss, _ = loop.measured()
    bench.folder.tell("measured", when=when, figure="perplexity", value=math.exp(loss), loss=loss)
