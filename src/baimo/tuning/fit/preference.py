# pyright: basic
"""Losses over pairs of answers, of which one was preferred.

Prevents the failure that is hardest to see in a curve: a sign or a reference on the wrong side still lowers the
loss, while the model learns to prefer the rejected answer. Every function is pure and held against its paper.

Sources: DPO, Rafailov et al. 2023, arXiv 2305.18290, equation 7; IPO, Azar et al. 2023, arXiv 2310.12036, equation
17; the likelihood of the chosen answer as a further term: RPO, Pang et al. 2024, arXiv 2404.19733, equation 1.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor
from torch.nn.functional import logsigmoid

Variant = Literal["sigmoid", "ipo"]


class Pair(NamedTuple):
    """A figure of both answers of each pair, each of shape [pairs]."""

    chosen: Tensor
    """Of the answer that was preferred."""
    rejected: Tensor
    """Of the other one."""

    @classmethod
    def interleaved(cls, values: Tensor) -> Pair:
        """From values [2 × pairs] that stand chosen, rejected, chosen, rejected …"""
        both = values.reshape(-1, 2)
        return cls(both[:, 0], both[:, 1])


class Judged(NamedTuple):
    """What a batch of pairs says about the policy."""

    loss: Tensor
    """Of each pair, shape [pairs]."""
    rewards: Pair
    """Implicit rewards β·log(π / reference), without gradient."""

    @property
    def margin(self) -> Tensor:
        """How much more reward the chosen answer has, shape [pairs]."""
        return self.rewards.chosen - self.rewards.rejected

    @property
    def right(self) -> Tensor:
        """Whether the chosen answer has more reward, shape [pairs], boolean: a tie is not right."""
        return self.margin > 0


def preference_loss(policy: Pair, reference: Pair, *, beta: float, variant: Variant = "sigmoid") -> Judged:
    """How far the policy is from preferring the chosen answers as the variant wants it.

    Args:
        policy: log-probabilities of whole answers, with gradient; for `ipo` the mean over an answer's tokens.
        reference: the same of the model before training.
        beta: strength of the tie to the reference (β of DPO, τ of IPO).
        variant: sigmoid: −log σ(β·h), where h is the difference of log-ratios; ipo: (h − 1/2β)².
    """
    gained = Pair(policy.chosen - reference.chosen, policy.rejected - reference.rejected)
    difference = gained.chosen - gained.rejected
    loss = -logsigmoid(beta * difference) if variant == "sigmoid" else (difference - 1 / (2 * beta)) ** 2
    return Judged(loss, Pair(beta * gained.chosen.detach(), beta * gained.rejected.detach()))
