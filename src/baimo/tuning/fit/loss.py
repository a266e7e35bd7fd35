# pyright: basic
"""Log-probabilities of answers, without ever holding all logits.

A vocabulary of 49,152 makes the head most of the cost of a small model when it is applied to every position. Here it
is applied where a learnt token is predicted, a few positions at a time; the gradient with respect to the hidden
state is formed in the same pass (as in Liger Kernel, arXiv:2410.10989), so the logits are never needed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch

from baimo.tuning.fit.base import LoadedBase
from baimo.tuning.fit.encode import Encoded
from baimo.tuning.fit.forward import answers

_POSITIONS = 256  # at once: 25 MB of logits in bf16
_CACHED = 16  # of them: on CPU, as many as stay in the cache from one pass over them to the next


class Logprobs(NamedTuple):
    """Of every learnt token, rows one after the other."""

    values: torch.Tensor
    """(answers,) f32, natural logarithm, with gradient."""
    hits: torch.Tensor
    """(answers,) bool: whether greedy decoding would have chosen it."""
    row: torch.Tensor
    """(answers,) int64: place in the rows given."""

    def sums(self, rows: int) -> torch.Tensor:
        """(rows,) f32: log-probability of every row's answer."""
        return torch.zeros(rows, device=self.values.device).index_add(0, self.row, self.values)


class Measured(NamedTuple):
    """What a micro-batch gave."""

    total: torch.Tensor
    """Loss summed (not averaged) over what the step's mean is taken over; with gradient."""
    loss: float
    """Sum that is shown as loss, over `count`."""
    hits: float
    """Tokens that greedy decoding would have got right."""
    count: int
    """Learnt tokens."""
    sums: Mapping[str, float] = MappingProxyType({})
    """Further figures, summed over rows: reward, margin …"""


def logprobs(base: LoadedBase, rows: Sequence[Encoded], temperature: float = 1.0) -> Logprobs:
    """Log-probabilities of the learnt tokens of some rows under the model as it is, at a temperature of sampling."""
    found = answers(base, rows)
    hidden = found.hidden if temperature == 1 else found.hidden / temperature
    values, hits = chosen(hidden, base.head, found.targets)
    return Logprobs(values, hits, found.row)


def supervised(base: LoadedBase, rows: Sequence[Encoded]) -> Measured:
    """Cross-entropy of the answers."""
    found = logprobs(base, rows)
    total = -found.values.sum()
    return Measured(total, float(total.detach()), float(found.hits.sum()), len(found.values))


def chosen(
    hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """log softmax(hidden · headᵀ)[target], f32, with gradient for `hidden`; and whether the target is the best.

    Args:
        hidden: (positions, width).
        head: (vocabulary, width); not learnt.
        targets: (positions,) int64.
    """
    return _Chosen.apply(hidden, head, targets)


class _Chosen(torch.autograd.Function):
    """log softmax(hidden · headᵀ)[target] and its gradient; the head is not learnt."""

    @staticmethod
    def forward(
        context, hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        wanted = context.needs_input_grad[0]
        values = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        hits = torch.empty(len(hidden), dtype=torch.bool, device=hidden.device)
        slopes = torch.empty_like(hidden) if wanted else None
        cached = _CACHED if hidden.device.type == "cpu" else _POSITIONS
        for start in range(0, len(hidden), _POSITIONS):
            part = slice(start, start + _POSITIONS)
            logits = hidden[part] @ head.T
            for one in range(0, len(logits), cached):
                some = slice(one, one + cached)
                place = slice(start + one, start + one + len(logits[some]))
                values[place], hits[place] = _told(logits[some], targets[place, None], wanted)
            if slopes is not None:
                torch.mm(logits, head, out=slopes[part])
        context.save_for_backward(slopes)
        context.mark_non_differentiable(hits)
        return values, hits

    @staticmethod
    def backward(context, slope: torch.Tensor, _: torch.Tensor):
        (slopes,) = context.saved_tensors
        return slopes * slope.neg()[:, None].to(slopes.dtype), None, None


def _told(logits: torch.Tensor, target: torch.Tensor, wanted: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of the targets, and whether nothing is above them; where wanted, `logits` become −gradient."""
    best = logits.amax(dim=1, keepdim=True)
    wish = logits.gather(1, target)
    hits = wish == best
    shares = torch.log_softmax(logits, dim=1, dtype=torch.float32)
    values = shares.gather(1, target)
    if wanted:
        shares.exp_().scatter_add_(1, target, torch.full_like(values, -1.0))
        logits.copy_(shares)
    return values[:, 0], hits[:, 0]
