# pyright: basic
"""Direct preference optimisation: of two answers to a prompt, the preferred one becomes likelier than the other.

small    LoRA on the upper half of the layers, one pass
medium   LoRA on all layers, two passes
large    LoRA on all layers, of higher rank, three passes

What the model thought of the answers before (the reference) is computed once, with the adapter turned off, and kept in
the job's folder. Source: Rafailov et al. 2023, arXiv 2305.18290; hyperparameters carry OpenAI's names.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import torch

from baimo.core.ids import digest
from baimo.core.tuning import Row
from baimo.errors import BaimoError, TaskError
from baimo.text import text
from baimo.tuning.bench import Bench
from baimo.tuning.fit import base as bases
from baimo.tuning.fit import forward, lora
from baimo.tuning.fit.base import LoadedBase
from baimo.tuning.fit.encode import Dialect, Encoded, encoded
from baimo.tuning.fit.families import together
from baimo.tuning.fit.loop import Course, Loop
from baimo.tuning.fit.loss import Measured, logprobs
from baimo.tuning.fit.preference import Pair, preference_loss
from baimo.tuning.plans.dpo import Settings as Settings
from baimo.tuning.plans.dpo import planned as planned
from baimo.tuning.recipes.sft import pace, walk

VERSION = "1"
"""Of this recipe: a change that makes other weights out of the same spec raises it."""

REFERENCE = "reference.json"
"""File of the job's folder: log-probabilities of all answers before training."""


def run(bench: Bench, settings: Settings) -> None:
    """Learn, and leave the result in the job's folder.

    Raises:
        ProviderError: the base cannot be read, memory is too short, or the loss diverged.
        TaskError: not a single row is a pair that can be learnt.
    """
    spec = bench.folder.spec()
    base = bases.loaded(bench, bases.precision(settings.precision))
    train = pairs(bench, base.dialect, bench.folder.train(), settings.longest)
    if not train:
        raise TaskError("preference.no_pairs", rows=len(bench.folder.train()))
    valid = pairs(bench, base.dialect, bench.folder.valid(), settings.longest)
    weights = lora.adapt(
        base,
        rank=settings.rank,
        alpha=settings.alpha,
        dropout=settings.dropout,
        upper=settings.upper,
        seed=spec.seed,
    )
    if settings.remember_mb:
        again = [row for pair in (*train, *valid) for row in both(pair)]
        forward.remember(base, again, settings.remember_mb)
    known = referred(bench.folder.path / REFERENCE, base, [*train, *valid], settings.micro_tokens)
    save = functools.partial(lora.write_adapter, base, base_name=spec.base)
    course = Course(
        items=known[: len(train)],
        valid=known[len(train) :],
        cut=cut,
        loss=functools.partial(judged, base, settings),
        weight=lambda _: 1.0,
        tokens=lambda pair: len(pair.chosen) + len(pair.rejected),
        save=save,
    )
    walk(bench, Loop(bench, base, weights, course, pace(settings, spec.seed, settings.valid_every)), save)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Two answers to one prompt."""

    chosen: Encoded
    """Prompt with the preferred answer, which is marked."""
    rejected: Encoded
    """Prompt with the other one."""
    before: tuple[float, float] = (0.0, 0.0)
    """Their log-probabilities under the reference."""


def pairs(bench: Bench, dialect: Dialect, rows: Sequence[Row], longest: int) -> list[Compared]:
    """The pairs among the rows; the others are told in an event."""
    limit = min(longest or dialect.window, dialect.window)
    kept: list[Compared] = []
    told: list[dict[str, Any]] = []
    for at, row in enumerate(rows):
        try:
            pair = compared(dialect, row, at)
        except BaimoError as error:
            told.append({"line": row.line or at + 1, "problem": str(error)})
            continue
        tokens = max(len(pair.chosen), len(pair.rejected))
        if tokens > limit:
            problem = text("fit.too_long", tokens=tokens, limit=limit)
            told.append({"line": row.line or at + 1, "problem": problem})
        else:
            kept.append(pair)
    if told:
        message = text("fit.skipped", count=len(told), rows=len(rows), **told[0])
        bench.folder.tell("notice", code="skipped", message=message, count=len(told), rows=told[:100])
    return kept


def compared(dialect: Dialect, row: Row, at: int) -> Compared:
    """A row as two, of which only the last turn is learnt.

    Raises:
        TaskError: it has no second answer, or both are the same.
        RequestRefused: the template refuses it.
    """
    if not row.rejected or not row.messages or row.messages[-1].role != "assistant":
        raise TaskError("preference.no_pair", file=row.file, line=row.line or at + 1)
    before = len(row.messages) - 1
    worse = (*row.messages[:before], *row.rejected)
    chosen = encoded(dialect, replace(row, trained=(before,)), at)
    turns = tuple(place for place in range(before, len(worse)) if worse[place].role == "assistant")
    rejected = encoded(dialect, replace(row, messages=worse, trained=turns), at)
    if chosen.ids.tolist() == rejected.ids.tolist():
        raise TaskError("preference.same", file=row.file, line=row.line or at + 1)
    return Compared(chosen=chosen, rejected=rejected)


def both(pair: Compared) -> tuple[Encoded, Encoded]:
    """Its rows."""
    return pair.chosen, pair.rejected


def cut(some: Sequence[Compared], budget: int) -> list[list[Compared]]:
    """Pairs in micro-batches: a pair stays together, because its loss is one and its prompt is computed once."""
    return together([[pair] for pair in some], both, budget)


def said(base: LoadedBase, some: Sequence[Compared]) -> torch.Tensor:
    """Log-probabilities of the answers, shape [2 × pairs]: chosen, rejected, chosen …"""
    rows = [row for pair in some for row in both(pair)]
    return logprobs(base, rows).sums(len(rows))


def judged(base: LoadedBase, settings: Settings, some: Sequence[Compared]) -> Measured:
    """The preference loss of some pairs; reward = mean margin, accuracy = share of pairs with a positive margin."""
    policy = said(base, some)
    reference = torch.tensor([pair.before for pair in some], device=policy.device).flatten()
    lengths = torch.tensor([row.answers for pair in some for row in both(pair)], device=policy.device)
    likelihood = policy / lengths
    if settings.variant == "ipo":
        policy, reference = likelihood, reference / lengths
    found = preference_loss(
        Pair.interleaved(policy), Pair.interleaved(reference), beta=settings.beta, variant=settings.variant
    )
    total = found.loss.sum() - settings.likelihood * Pair.interleaved(likelihood).chosen.sum()
    sums = {"reward": float(found.margin.sum()), "rewards": float(len(some))}
    return Measured(total, float(found.loss.detach().sum()), float(found.right.sum()), len(some), sums)


def referred(path: Path, base: LoadedBase, some: Sequence[Compared], budget: int) -> list[Compared]:
    """The pairs with what the model says of them without its adapter; kept in a file for when the job goes on."""
    of = digest([[row.ids.tolist() for row in both(pair)] for pair in some])
    kept = _kept(path, of)
    if kept is None:
        places = {id(pair): at for at, pair in enumerate(some)}
        kept = [(0.0, 0.0)] * len(some)
        with torch.no_grad(), base.reference():
            for part in cut(some, budget):
                for pair, two in zip(part, said(base, part).reshape(-1, 2).tolist(), strict=True):
                    kept[places[id(pair)]] = (two[0], two[1])
        fresh = path.with_suffix(".part")
        fresh.write_bytes(msgspec.json.encode({"of": of, "logprobs": kept}))
        fresh.replace(path)
    return [replace(pair, before=tuple(two)) for pair, two in zip(some, kept, strict=True)]


def _kept(path: Path, of: str) -> list[tuple[float, float]] | None:
    try:
        kept = msgspec.json.decode(path.read_bytes())
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return kept["logprobs"] if kept["of"] == of else None
