# pyright: basic
"""Answers sampled from the model in training, many at a time.

Prevents two failures of reinforcement on small machines: a learner that waits for its own text nine tenths of the
time, and log-probabilities that belong to another temperature than the one that was sampled at. All answers of a step
are decoded together, prompts are read once each, and rows that have ended leave the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from baimo.tuning.fit.base import LoadedBase
from baimo.tuning.fit.branches import Tip, tip

_DEAD = 1 / 8  # share of ended rows at which the others move together


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How answers are sampled."""

    stops: frozenset[int]
    """Tokens that end an answer; they are part of it."""
    longest: int
    """Most tokens of an answer; one that is cut here has not ended."""
    temperature: float = 1.0
    """Divides the logits; 0 = the likeliest token each time."""
    rows: int = 128
    """Most answers that are decoded together."""


class Rollout(NamedTuple):
    """One sampled answer."""

    prompt: int
    """Place of its prompt among the prompts asked for."""
    ids: tuple[int, ...]
    """Its tokens, with the one that ended it."""
    logprobs: tuple[float, ...]
    """Of each token at the temperature of the sampling (at 1 where that was 0)."""
    ended: bool
    """Whether it ended by itself."""


Engine = Callable[[Sequence[Sequence[int]], int, Sampling, int], list[Rollout]]
"""(prompts as token ids, answers of each, sampling, seed) → answers in order of the prompts: another way to sample."""


@torch.no_grad()
def rollouts(
    base: LoadedBase, prompts: Sequence[Sequence[int]], group: int, sampling: Sampling, seed: int
) -> list[Rollout]:
    """`group` answers to each prompt, in order of the prompts.

    Args:
        base: the model in training, with its adapter.
        prompts: token ids, ending where the answer begins.
        group: answers of each prompt; they share what was computed for it.
        sampling: how.
        seed: the same seed, prompts and weights give the same answers, however many are decoded together.
    """
    generator = torch.Generator().manual_seed(seed)
    chance = torch.rand(len(prompts) * group, sampling.longest, generator=generator, dtype=torch.float64)
    at_once = max(1, sampling.rows // group)
    found: list[Rollout] = []
    for start in range(0, len(prompts), at_once):
        some = prompts[start : start + at_once]
        chances = chance[start * group : (start + len(some)) * group]
        growing = Growing(base, some, group, sampling, chances.to(base.device), tip(base))
        found += [each._replace(prompt=each.prompt + start) for each in growing.grown()]
    return found


class Growing:
    """Answers that are decoded together."""

    def __init__(
        self,
        base: LoadedBase,
        prompts: Sequence[Sequence[int]],
        group: int,
        sampling: Sampling,
        chance: Tensor,
        tip: Tip,
    ) -> None:
        device, count = base.device, len(prompts) * group
        self._head, self._sampling, self._chance, self._group = base.head, sampling, chance, group
        self._tip = tip
        last = self._tip.plant(prompts)
        owner = torch.arange(len(prompts), device=device).repeat_interleave(group)
        self._tip.open(owner, sampling.longest)
        self._hidden = last[owner]
        self._rows = torch.arange(count, device=device)  # which answer each row of the tip is
        self._ids = torch.zeros(count, sampling.longest, dtype=torch.long, device=device)
        self._logprobs = torch.zeros(count, sampling.longest, device=device)
        self._lengths = torch.full((count,), sampling.longest, device=device)
        self._ended = torch.zeros(count, dtype=torch.bool, device=device)
        self._stops = torch.tensor(sorted(sampling.stops), device=device)

    def grown(self) -> list[Rollout]:
        """All answers, whole."""
        for place in range(self._sampling.longest):
            chosen = self._chosen(place)
            alive = ~self._ended[self._rows]
            if place + 1 == self._sampling.longest or not bool(alive.any()):
                break
            if float(alive.float().mean()) <= 1 - _DEAD:
                self._tip.keep(alive.nonzero()[:, 0])
                self._rows, chosen = self._rows[alive], chosen[alive]
            self._hidden = self._tip.step(chosen)
        each = zip(self._lengths.tolist(), self._ended.tolist(), strict=True)
        return [
            Rollout(
                row // self._group,
                tuple(self._ids[row, :length].tolist()),
                tuple(self._logprobs[row, :length].tolist()),
                ended,
            )
            for row, (length, ended) in enumerate(each)
        ]

    def _chosen(self, place: int) -> Tensor:
        """The next token of each row, which is written down."""
        rows = self._rows
        logits = (self._hidden @ self._head.T).float()
        chosen, logprob = drawn(logits, self._chance[rows, place], self._sampling.temperature)
        self._ids[rows, place], self._logprobs[rows, place] = chosen, logprob
        over = torch.isin(chosen, self._stops) & ~self._ended[rows]
        self._lengths[rows[over]] = place + 1
        self._ended[rows[over]] = True
        return chosen


def drawn(logits: Tensor, chance: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """A token of each row and its log-probability.

    Args:
        logits: shape [rows, vocabulary], float32.
        chance: uniform in [0, 1), shape [rows]: which quantile of the distribution is taken, so that an
            answer does not depend on which others are decoded beside it.
        temperature: divides the logits; 0 = the likeliest token.
    """
    shares = torch.softmax(logits / temperature if temperature not in (0.0, 1.0) else logits, -1)
    if temperature:
        summed = shares.cumsum(-1)
        whole = summed[:, -1]
        # a chance that rounds to 1 must not reach behind the last token that can be taken
        wanted = torch.minimum(
            chance.to(summed.dtype) * whole, torch.nextafter(whole, torch.zeros_like(whole))
        )
        chosen = torch.searchsorted(summed, wanted[:, None], right=True)[:, 0]
    else:
        chosen = logits.argmax(-1)
    return chosen, shares.gather(-1, chosen[:, None])[:, 0].log()
