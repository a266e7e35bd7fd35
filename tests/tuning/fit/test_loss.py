"""Log-probabilities and their gradient are those of a softmax over all logits."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is missing: pip install 'baimo[tune]'")

from baimo.tuning.fit import loss  # noqa: E402
from tests.tuning.fit import tiny  # noqa: E402


def test_log_probabilities_and_hits_are_those_of_a_softmax_over_all_logits() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(300, 16, requires_grad=True)
    head, targets, weights = torch.randn(50, 16), torch.randint(0, 50, (300,)), torch.randn(300)
    values, hits = loss.chosen(hidden, head, targets)
    (mine,) = torch.autograd.grad((values * weights).sum(), hidden)
    logits = hidden @ head.T
    expected = torch.log_softmax(logits, dim=1)[torch.arange(300), targets]
    (theirs,) = torch.autograd.grad((expected * weights).sum(), hidden)
    torch.testing.assert_close(values, expected)
    torch.testing.assert_close(mine, theirs)
    assert hits.tolist() == (logits.argmax(1) == targets).tolist()


def test_sums_are_by_row() -> None:
    base, rows = tiny.base(), tiny.rows()
    with torch.no_grad():
        together = loss.logprobs(base, rows)
        apart = [float(loss.logprobs(base, [row]).values.sum()) for row in rows]
    assert together.sums(len(rows)).tolist() == pytest.approx(apart, rel=1e-4)


def test_a_model_in_bf16_gives_about_the_same_loss() -> None:
    rows = tiny.rows()
    exact = loss.supervised(tiny.base(), rows)
    coarse = loss.supervised(tiny.base(dtype=torch.bfloat16), rows)
    assert coarse.loss == pytest.approx(exact.loss, rel=0.05)
    assert coarse.count == exact.count == sum(row.answers for row in rows)
