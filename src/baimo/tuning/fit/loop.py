# pyright: basic
"""The loop that every recipe with weights runs.

Prevents three losses: of a night's work when the process is killed (a checkpoint holds weights, optimizer, random
state and place, and a resumed job ends where an uninterrupted one does), of a job that runs out of memory (the step
is taken again in smaller pieces; its gradient stays the same), and of a person's time (a wish to pause or cancel is
looked for after every step).
"""

from __future__ import annotations

import functools
import math
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Generic, Literal, NamedTuple, TypeVar

import torch

from baimo.core.tuning import TuneProgress
from baimo.errors import ProviderError
from baimo.text import text
from baimo.tuning.bench import Bench
from baimo.tuning.fit.base import LoadedBase
from baimo.tuning.fit.batches import order, steps
from baimo.tuning.fit.loss import Measured
from baimo.tuning.fit.team import Team, shard

Item = TypeVar("Item")
Ending = Literal["done", "paused", "cancelled"]

RESUME = "resume.pt"
"""File of a checkpoint from which a job goes on."""
_LEAST_TOKENS = 256  # of a micro-batch: below, memory is not what is in the way


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How the loop walks; the numbers of a recipe's settings."""

    epochs: float
    """Passes over the items."""
    batch_size: int
    """Items of a step."""
    learning_rate: float
    """Highest."""
    warmup: float = 0.05
    """Share of the steps in which the rate rises."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How it falls afterwards, to a tenth (cosine) or to nothing (linear)."""
    weight_decay: float = 0.0
    """Of AdamW."""
    clip: float = 1.0
    """Longest gradient; 0 = any."""
    micro_tokens: int = 4096
    """Most tokens computed at once."""
    valid_every: int = 0
    """Steps between two measurements of the validation items; 0 = at the end of every epoch."""
    seed: int = 0
    """Of the order of the items and of dropout."""
    max_steps: int = 0
    """Stop earlier; 0 = when the epochs are over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course(Generic[Item]):
    """What is learnt from: items of any kind, and how they are measured."""

    items: Sequence[Item]
    """One per row."""
    cut: Callable[[Sequence[Item], int], Sequence[Sequence[Item]]]
    """Micro-batches of some items, each of at most so many tokens."""
    loss: Callable[[Sequence[Item]], Measured]
    """Of a micro-batch."""
    weight: Callable[[Item], float]
    """What an item counts in the step's mean: its learnt tokens, or 1."""
    tokens: Callable[[Item], int]
    """Tokens of an item."""
    valid: Sequence[Item] = ()
    """Items that are only measured."""
    drawn: Callable[[Sequence[Item], int], Sequence[Item]] | None = None
    """What is learnt at a step instead of the items themselves: answers that the model just gave. (items, step)"""
    save: Callable[[Path], None] | None = None
    """Writes the model as it is into a folder, so that a checkpoint can be served."""
    before_step: Callable[[], None] | None = None
    """Called before every step and every measurement, when weights have changed."""


class _Sums(NamedTuple):
    loss: float = 0.0
    hits: float = 0.0
    count: int = 0
    sums: Mapping[str, float] = MappingProxyType({})

    def plus(self, one: Measured | _Sums) -> _Sums:
        sums = {name: self.sums.get(name, 0.0) + value for name, value in one.sums.items()}
        return _Sums(
            self.loss + one.loss, self.hits + one.hits, self.count + one.count, {**self.sums, **sums}
        )

    @property
    def mean(self) -> float:
        return self.loss / max(self.count, 1)

    @property
    def accuracy(self) -> float:
        return self.hits / max(self.count, 1)


@dataclass(slots=True, kw_only=True)
class _State:
    """What a checkpoint holds beside weights and optimizer."""

    step: int = 0
    tokens: int = 0
    examples: int = 0
    elapsed_s: float = 0.0
    micro_tokens: int = 0
    frugal: bool = False


class Loop(Generic[Item]):
    """One job's way from the first step to the last.

    Args:
        bench: its folder gets events and checkpoints.
        base: with something to learn.
        weights: what is learnt, f32.
        course: what it is learnt from.
        pace: how.
    """

    def __init__(
        self,
        bench: Bench,
        base: LoadedBase,
        weights: Sequence[torch.nn.Parameter],
        course: Course[Item],
        pace: Pace,
    ) -> None:
        self.bench, self.base, self.course, self.pace = bench, base, course, pace
        self.weights = list(weights)
        self.team = Team()
        if bench.shard:
            shard(base, self.weights)
        self.optimizer = torch.optim.AdamW(
            self.weights,
            lr=pace.learning_rate,
            weight_decay=pace.weight_decay,
            betas=(0.9, 0.999),
            fused=True,
        )
        self.per_epoch = max(1, math.ceil(len(course.items) / pace.batch_size))
        self.steps = max(1, round(self.per_epoch * pace.epochs))
        if pace.max_steps:
            self.steps = min(self.steps, pace.max_steps)
        self.state = _State(micro_tokens=pace.micro_tokens)
        self._epoch: tuple[int, list[list[int]]] = (-1, [])
        self._rates: list[float] = []
        self._peak_mb = 0.0

    # the walk

    def run(self) -> Ending:
        """Learn until done, or until the parent wants something else; goes on from the last checkpoint."""
        self._resumed()
        kept_at = self.state.elapsed_s
        began = time.monotonic() - self.state.elapsed_s
        while self.state.step < self.steps:
            progress = self._step(began)
            self.bench.folder.tell("progress", progress=progress)
            self._check_memory(progress.memory_mb)
            whole = self._epoch_ends or self.state.step == self.steps
            late = self.state.elapsed_s - kept_at > 60 * self.bench.checkpoint_minutes
            wish, overdue = self.team.agreed((self.bench.folder.wished(), late))
            if whole or overdue or wish:
                self._keep(whole, progress)
                kept_at = self.state.elapsed_s
            if wish == "cancel":
                return "cancelled"
            if wish == "pause" and self.state.step < self.steps:
                return "paused"
        return "done"

    @property
    def _epoch_ends(self) -> bool:
        return self.state.step % self.per_epoch == 0

    def _items(self) -> Sequence[Item]:
        """Of the step that comes next."""
        epoch, at = divmod(self.state.step, self.per_epoch)
        if self._epoch[0] != epoch:
            places = order(self.pace.seed, epoch, len(self.course.items))
            self._epoch = (epoch, steps(places, self.pace.batch_size))
        items = [self.course.items[place] for place in self._epoch[1][at]]
        return self.course.drawn(items, self.state.step) if self.course.drawn else items

    def _step(self, began: float) -> TuneProgress:
        rate = self._rate(self.state.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(
            self.pace.seed * 1_000_003 + self.state.step
        )  # dropout does not depend on what came before
        self._changed()
        items = self._items()
        sums = self._learned(items)
        self.state.step += 1
        self.state.examples += len(items)
        self.state.tokens += sum(map(self.course.tokens, items))
        self.state.elapsed_s = time.monotonic() - began
        valid = self._measured() if self._valid_due else None
        progress = self._progress(sums, valid, rate)
        self.state.elapsed_s = time.monotonic() - began
        return progress

    def _learned(self, items: Sequence[Item]) -> _Sums:
        """One step of the optimizer."""
        weight = sum(map(self.course.weight, items)) or 1.0
        sums = self._in_pieces(items, lambda measured: (measured.total / weight).backward())
        self.team.add_gradients(self.weights)
        if not math.isfinite(sums.loss):
            raise ProviderError("fit.diverged", step=self.state.step + 1)
        if self.pace.clip:
            torch.nn.utils.clip_grad_norm_(self.weights, self.pace.clip)
        self.optimizer.step()
        torch.autograd.graph.increment_version(
            self.weights
        )  # which the fused optimizer forgets; `layers` goes by it
        return sums

    def _in_pieces(self, items: Sequence[Item], then: Callable[[Measured], object]) -> _Sums:
        """Measure items in pieces that fit; a piece that does not makes all of them smaller."""
        while True:
            sums = _Sums()
            self.optimizer.zero_grad(set_to_none=True)
            try:
                for part, counts in self._parts(items):
                    measured = self.course.loss(part)
                    then(measured if counts else measured._replace(total=measured.total * 0))
                    sums = sums.plus(measured) if counts else sums
                everybodys = self.team.gathered(sums._replace(sums=dict(sums.sums)))
                return functools.reduce(_Sums.plus, everybodys, _Sums())
            except (MemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                if not self._smaller():
                    raise ProviderError("fit.no_memory", tokens=self.state.micro_tokens) from error

    def _parts(self, items: Sequence[Item]) -> Iterator[tuple[Sequence[Item], bool]]:
        """This process's pieces, and whether they count: where layers are sharded, all compute equally many."""
        mine = self.team.share(items)
        parts = list(self.course.cut(mine, self.state.micro_tokens)) if mine else []
        most = max(self.team.gathered(len(parts))) if self.base.kept.get("sharded") else len(parts)
        yield from ((part, True) for part in parts)
        yield from ((items[:1], False) for _ in range(most - len(parts)))

    def _rate(self, step: int) -> float:
        rise = max(1, round(self.steps * self.pace.warmup))
        if step < rise:
            return self.pace.learning_rate * (step + 1) / rise
        way = (step - rise) / max(1, self.steps - rise)
        if self.pace.schedule == "cosine":
            return self.pace.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * way)))
        return self.pace.learning_rate * (1 - way if self.pace.schedule == "linear" else 1.0)

    # measuring

    @property
    def _valid_due(self) -> bool:
        if not self.course.valid:
            return False
        step, every = self.state.step, self.pace.valid_every or self.per_epoch
        return step % every == 0 or step == self.steps

    def measured(self) -> tuple[float, float]:
        """Mean loss and accuracy over all learnt tokens of the validation items."""
        sums = self._measured()
        return sums.mean, sums.accuracy

    def _measured(self) -> _Sums:
        self._changed()
        with torch.no_grad():
            return self._in_pieces(self.course.valid, lambda measured: None)

    def _changed(self) -> None:
        if self.course.before_step is not None:
            self.course.before_step()

    def _progress(self, sums: _Sums, valid: _Sums | None, rate: float) -> TuneProgress:
        state = self.state
        reward = sums.sums.get("reward")
        return TuneProgress(
            step=state.step,
            steps=self.steps,
            epoch=round(state.step / self.per_epoch, 4),
            loss=sums.mean,
            accuracy=sums.accuracy if sums.count else None,
            valid_loss=None if valid is None else valid.mean,
            valid_accuracy=None if valid is None else valid.accuracy,
            reward=None if reward is None else reward / max(sums.sums.get("rewards", 1.0), 1.0),
            learning_rate=rate,
            tokens=state.tokens,
            examples=state.examples,
            elapsed_s=round(state.elapsed_s, 3),
            eta_s=self._eta(),
            memory_mb=round(peak_memory_mb(self.base.device), 1),
        )

    def _eta(self) -> float:
        """From the last steps: the first ones warm caches up, and the machine's other work comes and goes."""
        self._rates = [*self._rates, self.state.elapsed_s][-20:]
        if len(self._rates) < 2:
            return round(self.state.elapsed_s / self.state.step * (self.steps - self.state.step), 1)
        a_step = (self._rates[-1] - self._rates[0]) / (len(self._rates) - 1)
        return round(a_step * (self.steps - self.state.step), 1)

    # memory

    def _smaller(self) -> bool:
        """Half as many tokens at once, at last layers computed twice; False = nothing is left to save."""
        if self.state.micro_tokens // 2 >= _LEAST_TOKENS:
            self.state.micro_tokens //= 2
            code, message = "smaller", text("fit.smaller", tokens=self.state.micro_tokens)
        elif not self.base.frugal:
            self.base.frugal = self.state.frugal = True
            code, message = "frugal", text("fit.frugal")
        else:
            return False
        if self.base.device.type == "cuda":
            torch.cuda.empty_cache()
        self.bench.folder.tell("notice", code=code, message=message, micro_tokens=self.state.micro_tokens)
        return True

    def _check_memory(self, peak_mb: float) -> None:
        """On CPU nobody refuses an allocation: the kernel ends the process instead, so look before it does."""
        limit = max(
            self.bench.memory_mb, 1.02 * self._peak_mb
        )  # a peak never falls: only what is above it is new
        if self.bench.memory_mb and self.base.device.type == "cpu" and peak_mb > limit:
            self._peak_mb = peak_mb
            self._smaller()

    # what is kept

    def _keep(self, whole: bool, progress: TuneProgress) -> None:
        """A checkpoint; at the end of an epoch with the model as it would be served."""
        state = {name: getattr(self.state, name) for name in _State.__slots__}

        def fill(at: Path) -> None:
            if whole and self.course.save is not None:
                self.course.save(at)
            kept = {
                "weights": [weight.detach().cpu() for weight in self.weights],
                "optimizer": self.optimizer.state_dict(),
                "state": state,
                "random": torch.get_rng_state(),
            }
            torch.save(kept, at / RESUME)

        path = self.bench.folder.checkpoint(self.state.step, fill)
        self.bench.folder.tell(
            "checkpoint", step=self.state.step, path=path.name, whole=whole, progress=progress
        )
        self._forget()

    def _forget(self) -> None:
        """What only older checkpoints needed to go on from: it is most of their weight."""
        found = self.bench.folder.checkpoints()
        for _, path in found[: -self.bench.checkpoints]:
            if (path / "adapter_config.json").is_file() or (path / "config.json").is_file():
                (path / RESUME).unlink(missing_ok=True)
            else:
                shutil.rmtree(path, ignore_errors=True)

    def _resumed(self) -> None:
        for _, path in reversed(self.bench.folder.checkpoints()):
            if not (path / RESUME).is_file():
                continue
            kept = torch.load(path / RESUME, map_location=self.base.device, weights_only=True)
            with torch.no_grad():
                for weight, value in zip(self.weights, kept["weights"], strict=True):
                    weight.copy_(value)
            self.optimizer.load_state_dict(kept["optimizer"])
            self.state = _State(**kept["state"])
            # smaller since: whoever looks after the job saw it die of memory
            self.base.frugal = self.state.frugal
            self.state.micro_tokens = min(self.state.micro_tokens, self.pace.micro_tokens)
            torch.set_rng_state(kept["random"].cpu())
            self.bench.folder.tell(
                "notice", code="resumed", message=text("fit.resumed", step=self.state.step)
            )
            return


def peak_memory_mb(device: torch.device) -> float:
    """Most memory so far: of the GPU if that computes, else resident memory of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _out_of_memory(error: BaseException) -> bool:
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or "can't allocate memory" in str(error) or "out of memory" in str(error).lower()
