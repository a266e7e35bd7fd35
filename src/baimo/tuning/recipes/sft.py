# pyright: basic
"""Supervised fine-tuning: the model learns to say what the assistant turns of the rows say.

small    LoRA on the upper half of the layers: the quick one
medium   LoRA on all layers
large    LoRA on all layers, of higher rank, for longer
method = "full" learns all weights of the layers instead; embeddings and head stay
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from baimo.core.tuning import Effort
from baimo.errors import TaskError
from baimo.text import text
from baimo.tuning.bench import Bench, Facts, overridden
from baimo.tuning.fit import base as bases
from baimo.tuning.fit import forward, lora, precision
from baimo.tuning.fit.encode import Encoded, Told, encoded_rows
from baimo.tuning.fit.loop import Course, Loop, Pace
from baimo.tuning.fit.loss import supervised

VERSION = "1"
"""Of this recipe: a change that makes other weights out of the same spec raises it."""

Above = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every value that the recipe uses."""

    method: Literal["lora", "full"] = "lora"
    """What is learnt: an adapter, or the weights themselves."""
    n_epochs: Above = 3.0
    """Passes over the rows."""
    batch_size: Count = 16
    """Rows of a step."""
    learning_rate_multiplier: Above = 1.0
    """Times `learning_rate`."""
    learning_rate: Above = 1e-3
    """Highest rate of AdamW."""
    upper: Share = 1.0
    """Share of the layers that learn, counted from the top."""
    rank: Count = 16
    """Of the adapter."""
    alpha: Above = 32.0
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
    longest: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Most tokens of a row; longer ones are left out and told. 0 = the base's window."""
    micro_tokens: Count = 2048
    """Most tokens computed at once; memory grows with it, the result does not depend on it."""
    valid_every: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Steps between two measurements of the validation rows; 0 = once an epoch."""
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
    epochs = {"small": 2.0, "medium": 3.0, "large": 5.0}[effort]
    steps = {"small": 60, "medium": 150, "large": 300}[effort]
    batch = max(4, min(32, 2 ** round(math.log2(max(1.0, facts.rows / 64)))))
    derived = Settings(
        method="full" if full else "lora",
        n_epochs=min(20.0, max(epochs, round(steps * batch / max(facts.rows, 1)))),
        batch_size=batch,
        learning_rate=rate(1e-4 if full else 3e-3 if effort == "small" else 1e-3, facts.parameters),
        upper=0.5 if effort == "small" else 1.0,
        rank=32 if effort == "large" else 16,
        alpha=64.0 if effort == "large" else 32.0,
        micro_tokens=16384 if facts.device.startswith("cuda") else 2048,
    )
    return overridden("sft", derived, overrides)


def rate(small: float, parameters: int) -> float:
    """A learning rate that is right for 135 million weights, for so many: larger models want smaller steps."""
    return float(f"{small * min(1.0, (135e6 / max(parameters, 1)) ** 0.35):.1e}")


def run(bench: Bench, settings: Settings) -> None:
    """Learn, and leave the result in the job's folder.

    Raises:
        ProviderError: the base cannot be read, memory is too short, or the loss diverged.
        TaskError: not a single row can be learnt.
    """
    spec = bench.folder.spec()
    base = bases.loaded(bench, bases.precision(settings.precision))
    rows = learnable(bench, base, settings.longest)
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
        valid=encoded_rows(base.dialect, bench.folder.valid(), longest=settings.longest)[0],
        cut=forward.pieces(base),
        loss=functools.partial(supervised, base),
        weight=lambda row: row.answers,
        tokens=len,
        save=save,
    )
    walk(bench, Loop(bench, base, weights, course, pace(settings, spec.seed)), save)


def learnable(bench: Bench, base: bases.LoadedBase, longest: int) -> list[Encoded]:
    """The rows of the job as ids; rows that cannot be learnt are told in an event.

    Raises:
        TaskError: none can.
    """
    everything = bench.folder.train()
    rows, left = encoded_rows(base.dialect, everything, longest=longest)
    if left:
        limit = min(longest or base.dialect.window, base.dialect.window)
        first = left[0]
        facts = {"line": first.line or first.row + 1, "problem": _problem(first, limit)}
        if not rows:
            raise TaskError("fit.no_rows", **facts)
        message = text("fit.skipped", count=len(left), rows=len(everything), **facts)
        told = [{"line": one.line or one.row + 1, "problem": _problem(one, limit)} for one in left[:100]]
        bench.folder.tell("notice", code="skipped", message=message, count=len(left), rows=told)
    return rows


def _problem(told: Told, limit: int) -> str:
    return text("fit.too_long", tokens=told.tokens, limit=limit) if told.tokens else told.problem


def pace(settings: Any, seed: int) -> Pace:
    """The loop's part of a recipe's settings."""
    return Pace(
        epochs=settings.n_epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate * settings.learning_rate_multiplier,
        warmup=settings.warmup,
        schedule=settings.schedule,
        weight_decay=settings.weight_decay,
        clip=settings.clip,
        micro_tokens=settings.micro_tokens,
        valid_every=settings.valid_every,
        seed=seed,
        max_steps=settings.max_steps,
    )


def walk(bench: Bench, loop: Loop[Any], save: Any) -> bool:
    """Run the loop and tell how it ended; the result is there if it ended well."""
    ending = loop.run()
    if ending == "done":
        bench.folder.result(save)
    bench.folder.tell(ending, step=loop.state.step)
    return ending == "done"
