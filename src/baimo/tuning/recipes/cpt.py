# pyright: basic
"""Continued pretraining: the model reads raw text, all of which is learnt.

Texts stand one behind the other with an end token between them, cut into windows of equal length. Before and after,
the perplexity of text that is held out is told: the validation rows, or else a share of the texts.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Sequence
from typing import Any

from baimo.core.tuning import Row
from baimo.errors import TaskError
from baimo.tuning.bench import Bench
from baimo.tuning.fit import base as bases
from baimo.tuning.fit import forward
from baimo.tuning.fit.encode import windows
from baimo.tuning.fit.loop import Course, Loop
from baimo.tuning.fit.loss import supervised
from baimo.tuning.plans.cpt import Settings as Settings
from baimo.tuning.plans.cpt import planned as planned
from baimo.tuning.recipes.sft import learning, pace, walk

VERSION = "1"
"""Of this recipe: a change that makes other weights out of the same spec raises it."""


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
    weights, save = learning(base, settings, spec)
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
    loop = Loop(bench, base, weights, course, pace(settings, spec.seed, settings.valid_every))
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
