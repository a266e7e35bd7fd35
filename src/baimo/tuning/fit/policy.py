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
    """To be maximised, shape [answers, tokens]."""
    clipped: Tensor
    """Where clipping took the gradient away, shape [answers, tokens], boolean."""


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
        logprobs: of the tokens under the policy, with gradient, shape [answers, tokens].
        old: under the policy that the answers are judged against, without gradient; the same shape.
        advantages: of the answers, shape [answers].
        low, high: how far the ratio may move before the gradient ends.
    """
    ratio = (logprobs - old).exp()
    weight = advantages[:, None]
    bounded = ratio.clamp(1 - low, 1 + high) * weight
    free = ratio * weight
    return Surrogate(torch.minimum(free, bounded), (bounded < free).detach())


def divergence(logprobs: Tensor, reference: Tensor) -> Tensor:
    """Schulman's k3: exp(d) − 1 − d with d = reference − logprobs; per token, never negative, unbiased for the KL
    divergence of the policy from the reference where the tokens were sampled from the policy.
    """
    difference = reference - logprobs
    return torch.expm1(difference) - difference


def averaged(values: Tensor, mask: Tensor, *, share: Share = "longest", longest: int) -> Tensor:
    """One figure of values [answers, tokens] under the mask.

    Args:
        share: what an answer's tokens are divided by. answer: its own length, then the mean over answers (GRPO), in
            which a token of a short answer weighs more; longest: the same constant for all (Dr. GRPO), unbiased;
            token: the number of tokens in the batch (DAPO).
        longest: most tokens that an answer may have.
    """
    total = torch.where(mask, values, 0.0)
    if share == "token":
        return total.sum() / mask.sum().clamp(min=1)
    divisor = mask.sum(-1).clamp(min=1) if share == "answer" else longest
    return (total.sum(-1) / divisor).mean()


def correction(old: Tensor, sampled: Tensor, *, most: float = 2.0) -> Tensor:
    """Weights for tokens that another engine sampled: min(old / sampled, most), without gradient.

    Two engines never compute the same probabilities; untreated, the difference acts as if the policy were
    off its own answers. Source: truncated importance sampling, Yao et al. 2025, "Your efficient RL framework secretly
    brings you off-policy RL training".
    """
    return (old - sampled).exp().clamp(max=most).detach()
