"""The mathematics of rewards, against its papers."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from baimo.tuning.fit.policy import (  # noqa: E402
    answer_weight,
    clipped_ratio,
    divergence,
    group_advantages,
    token_weights,
)

groups = st.lists(st.lists(st.floats(-1, 1), min_size=4, max_size=4), min_size=1, max_size=5)


@given(groups, st.booleans())
def test_the_advantages_of_a_group_sum_to_nothing(rewards: list[list[float]], scaled: bool) -> None:
    found = group_advantages(torch.tensor(rewards, dtype=torch.float64), scaled=scaled)
    assert found.sum(-1).abs().max().item() < 1e-6


@given(groups, st.floats(-5, 5), st.floats(0.1, 10))
def test_scaled_advantages_do_not_depend_on_the_scale_of_a_reward(
    rewards: list[list[float]], shift: float, factor: float
) -> None:
    plain = torch.tensor(rewards, dtype=torch.float64)
    assume((plain.std(-1) > 1e-3).all())
    other = group_advantages(plain * factor + shift, least=0.0)
    assert torch.allclose(group_advantages(plain, least=0.0), other, atol=1e-5)


def test_the_advantage_is_the_distance_from_the_mean_in_sample_deviations() -> None:
    found = group_advantages(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), least=0.0)
    assert found[0].tolist() == pytest.approx([1.5, -0.5, -0.5, -0.5])
    unscaled = group_advantages(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), scaled=False)
    assert unscaled[0].tolist() == pytest.approx([0.75, -0.25, -0.25, -0.25])


def test_a_group_of_equal_rewards_teaches_nothing() -> None:
    assert group_advantages(torch.full((2, 8), 0.3)).abs().max().item() < 1e-2
    assert group_advantages(torch.zeros(2, 8)).tolist() == torch.zeros(2, 8).tolist()


def test_an_answer_without_a_grade_is_neither_good_nor_bad() -> None:
    nan = float("nan")
    found = group_advantages(torch.tensor([[1.0, 0.0, nan], [nan, nan, nan], [nan, 1.0, nan]]), scaled=False)
    assert found.tolist() == [[0.5, -0.5, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]


def test_the_ratio_is_clipped_only_where_going_on_would_gain() -> None:
    logprobs = torch.log(torch.tensor([1.5, 1.5, 0.5, 0.5])).requires_grad_()
    found = clipped_ratio(logprobs, torch.zeros(4), torch.tensor([1.0, -1.0, 1.0, -1.0]), low=0.2, high=0.3)
    assert found.gain.tolist() == pytest.approx([1.3, -1.5, 0.5, -0.8])
    assert found.clipped.tolist() == [True, False, False, True]
    found.gain.sum().backward()
    assert logprobs.grad.tolist() == pytest.approx([0.0, -1.5, 0.5, 0.0])


def test_on_the_policys_own_answers_the_gradient_is_that_of_reinforce() -> None:
    logprobs = torch.tensor([-1.0, -2.0, -0.5], requires_grad=True)
    clipped_ratio(logprobs, logprobs.detach(), torch.tensor([2.0, 2.0, -1.0])).gain.sum().backward()
    assert logprobs.grad.tolist() == [2.0, 2.0, -1.0]


@given(st.lists(st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)), min_size=2, max_size=6))
def test_k3_is_in_expectation_the_divergence_of_the_policy_from_the_reference(
    weights: list[tuple[float, float]],
) -> None:
    policy, reference = (torch.tensor(side, dtype=torch.float64) for side in zip(*weights, strict=True))
    policy, reference = policy / policy.sum(), reference / reference.sum()
    each = divergence(policy.log(), reference.log())
    assert (each >= 0).all()
    exact = (policy * (policy / reference).log()).sum()
    assert (policy * each).sum().item() == pytest.approx(exact.item(), abs=1e-9)


def test_only_division_by_a_constant_gives_every_token_the_same_weight_at_every_length() -> None:
    lengths = torch.tensor([4, 1])
    assert token_weights(lengths, longest=8).tolist() == [1 / 8, 1 / 8]
    assert token_weights(lengths, share="answer", longest=8).tolist() == [1 / 4, 1.0]
    assert token_weights(lengths, share="token", longest=8).tolist() == [1.0, 1.0]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=9), st.sampled_from(["answer", "token"]))
def test_over_a_step_the_weights_of_all_tokens_make_one(lengths: list[int], share: str) -> None:
    each = token_weights(torch.tensor(lengths), share=share, longest=50)  # type: ignore[arg-type]
    whole = sum(answer_weight(length, share) for length in lengths)  # type: ignore[arg-type]
    assert (each * torch.tensor(lengths)).sum().item() / whole == pytest.approx(1.0)
