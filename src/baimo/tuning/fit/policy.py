# pyright: basic
"""The mathematics of learning from rewards: group advantages, the clipped ratio, the price of drifting away.

Prevents two known faults of group-relative training: answers that are favoured for being long or short because
each one's loss is divided by its own length, and a grader's failure that is learnt from as if it were a score of 0.

Sources: GRPO, Shao et al. 2024, arXiv 2402.03300, equations 3 and 4; Dr. GRPO, Liu et al. 2025, arXiv 2503.20783;
clipping from above further than from below and dividing by tokens: DAPO, Yu et al. 2025, arXiv 2503.14476; estimators
of the KL divergence: Schulman 2020, "Approximating KL Divergence", joschu.net/blog/kl-approx.html.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Share = Literal["longest", "answer", "token"]


class Surrogate(NamedTuple):
    """The objective of each token of a batch."""

    gain: Tensor
    """To be maximised."""
    clipped: Tensor
    """Where clipping took the gradient away."""


def group_advantages(rewards: Tensor, *, scaled: bool = True, least: float = 1e-4) -> Tensor:
    """How much better each answer is than its prompt's other answers, shape as `rewards`.

    Args:
        rewards: shape [prompts, answers]; NaN = not graded, which counts neither as good nor as bad.
        scaled: divide by the group's standard deviation (GRPO); without (Dr. GRPO) groups that are nearly all
            right or all wrong do not weigh more than the others.
        least: added to the standard deviation.
    """
    graded = ~rewards.isnan()
    count = graded.sum(-1, keepdim=True)
    mean = torch.where(graded, rewards, 0.0).sum(-1, keepdim=True) / count.clamp(min=1)
    centred = torch.where(graded, rewards - mean, 0.0)
    if scaled:
        spread = (centred.square().sum(-1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
        centred = centred / (spread + least)
    return centred


def clipped_ratio(
    logprobs: Tensor, old: Tensor, advantages: Tensor, *, low: float = 0.2, high: float = 0.2
) -> Surrogate:
    """min(r·A, clip(r, 1 − low, 1 + high)·A) with r = π / old of each token.

    Args:
        logprobs: of the tokens under the policy, with gradient, any shape.
        old: under the policy that sampled them, as it computed them: another engine never computes quite the same.
        advantages: of the answer that each token is part of.
        low, high: how far the ratio may move before the gradient ends.
    """
    ratio = (logprobs - old).exp()
    bounded = ratio.clamp(1 - low, 1 + high) * advantages
    free = ratio * advantages
    return Surrogate(torch.minimum(free, bounded), (bounded < free).detach())


def divergence(logprobs: Tensor, reference: Tensor) -> Tensor:
    """Schulman's k3: exp(d) − 1 − d with d = reference − logprobs; per token, never negative, unbiased for the KL
    divergence of the policy from the reference where the tokens were sampled from the policy.
    """
    difference = reference - logprobs
    return torch.expm1(difference) - difference


def token_weights(lengths: Tensor, *, share: Share = "longest", longest: int) -> Tensor:
    """What a token of each answer counts, shape as `lengths`, before division by all answers' `answer_weight`.

    Args:
        lengths: tokens of each answer.
        share: longest: the same for every token (Dr. GRPO), unbiased; answer: one share of its own answer (GRPO), in
            which a token of a short answer weighs more; token: one of all tokens of the step (DAPO).
        longest: most tokens that an answer may have.
    """
    if share == "answer":
        return 1 / lengths.clamp(min=1)
    return torch.full(lengths.shape, 1.0 if share == "token" else 1 / longest, device=lengths.device)


def answer_weight(length: int, share: Share) -> float:
    """What an answer counts in the mean over a step."""
    return float(length) if share == "token" else 1.0
