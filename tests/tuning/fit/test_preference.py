"""The losses over pairs, against their papers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from baimo.tuning.fit.preference import Pair, preference_loss  # noqa: E402

figures = st.floats(-60, 0)
betas = st.floats(0.01, 2)


def pair(chosen: float, rejected: float) -> Pair:
    return Pair(torch.tensor([chosen], dtype=torch.float64), torch.tensor([rejected], dtype=torch.float64))


@given(figures, figures, figures, figures, betas)
def test_dpo_is_the_negative_log_sigmoid_of_beta_times_the_difference_of_log_ratios(
    chosen: float, rejected: float, base_chosen: float, base_rejected: float, beta: float
) -> None:
    judged = preference_loss(pair(chosen, rejected), pair(base_chosen, base_rejected), beta=beta)
    h = beta * ((chosen - base_chosen) - (rejected - base_rejected))
    expected = math.log1p(math.exp(-h)) if h > 0 else -h + math.log1p(math.exp(h))
    assert judged.loss.item() == pytest.approx(expected, abs=1e-9)
    assert judged.margin.item() == pytest.approx(h, abs=1e-9)


@pytest.mark.parametrize(("variant", "loss"), [("sigmoid", math.log(2)), ("ipo", 25.0)])
def test_a_policy_that_is_still_its_reference_has_the_loss_of_no_preference(
    variant: str, loss: float
) -> None:
    same = pair(-3.0, -7.0)
    judged = preference_loss(same, same, beta=0.1, variant=variant)  # type: ignore[arg-type]
    assert judged.loss.item() == pytest.approx(loss)
    assert not judged.right.any(), "a tie is not right"


@given(figures, figures, betas)
def test_ipo_wants_a_margin_of_half_the_inverse_of_beta_and_no_more(
    chosen: float, rejected: float, beta: float
) -> None:
    reached = pair(chosen + 1 / (2 * beta), rejected)
    assert preference_loss(reached, pair(chosen, rejected), beta=beta, variant="ipo").loss.item() < 1e-12
    beyond = pair(chosen + 1 / beta, rejected)
    assert preference_loss(beyond, pair(chosen, rejected), beta=beta, variant="ipo").loss.item() > 0


@pytest.mark.parametrize("variant", ["sigmoid", "ipo"])
def test_the_gradient_raises_the_chosen_answer_and_lowers_the_rejected_one(variant: str) -> None:
    policy = Pair(torch.tensor([-5.0], requires_grad=True), torch.tensor([-5.0], requires_grad=True))
    judged = preference_loss(policy, pair(-5.0, -5.0), beta=0.1, variant=variant)  # type: ignore[arg-type]
    judged.loss.sum().backward()
    assert policy.chosen.grad.item() < 0 < policy.rejected.grad.item()
    assert not judged.margin.requires_grad


def test_a_huge_margin_neither_overflows_nor_leaves_a_gradient() -> None:
    policy = Pair(torch.tensor([0.0], requires_grad=True), torch.tensor([-1e6], requires_grad=True))
    loss = preference_loss(policy, Pair(torch.tensor([-1e6]), torch.tensor([0.0])), beta=1.0).loss
    loss.sum().backward()
    assert loss.item() == 0.0
    assert policy.chosen.grad.item() == 0.0


def test_an_interleaved_batch_falls_into_its_pairs() -> None:
    both = Pair.interleaved(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert both.chosen.tolist() == [1.0, 3.0]
    assert both.rejected.tolist() == [2.0, 4.0]
