# pyright: basic
"""Supervised fine-tuning: the model learns to say what the assistant turns of the rows say.

small    LoRA on the upper half of the layers: the quick one
medium   LoRA on all layers
large    LoRA on all layers, of higher rank, for longer
method = "full" learns all weights of the layers instead; embeddings and head stay
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from baimo.core.tuning import TuneSpec
from baimo.errors import TaskError
from baimo.text import text
from baimo.tuning.bench import Bench
from baimo.tuning.fit import base as bases
from baimo.tuning.fit import forward, lora, precision
from baimo.tuning.fit.encode import Encoded, Told, encoded_rows
from baimo.tuning.fit.loop import Course, Loop, Pace
from baimo.tuning.fit.loss import supervised
from baimo.tuning.plans.learning import Learning
from baimo.tuning.plans.sft import Settings as Settings
from baimo.tuning.plans.sft import planned as planned

VERSION = "1"
"""Of this recipe: a change that makes other weights out of the same spec raises it."""


def run(bench: Bench, settings: Settings) -> None:
    """Learn, and leave the result in the job's folder.

    Raises:
        ProviderError: the base cannot be read, memory is too short, or the loss diverged.
        TaskError: not a single row can be learnt.
    """
    spec = bench.folder.spec()
    base = bases.loaded(bench, bases.precision(settings.precision))
    rows = learnable(bench, base, settings.longest)
    weights, save = learning(base, settings, spec)
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
    walk(bench, Loop(bench, base, weights, course, pace(settings, spec.seed, settings.valid_every)), save)


def learning(
    base: bases.LoadedBase, settings: Any, spec: TuneSpec
) -> tuple[list[torch.nn.Parameter], Callable[[Path], None]]:
    """The weights that `method` lets learn, and what writes them as they are served."""
    if settings.method == "full":
        return precision.unfreeze(base, settings.upper), functools.partial(precision.write_whole, base)
    weights = lora.adapt(
        base,
        rank=settings.rank,
        alpha=settings.alpha,
        dropout=settings.dropout,
        upper=settings.upper,
        seed=spec.seed,
    )
    return weights, functools.partial(lora.write_adapter, base, base_name=spec.base)


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


def pace(settings: Learning, seed: int, valid_every: int) -> Pace:
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
        valid_every=valid_every,
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
