"""What makes a step fast changes no figure: everything is held against transformers and PEFT, row by row."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is missing: pip install 'baimo[tune]'")
pytest.importorskip("peft", reason="peft is missing: pip install 'baimo[tune]'")

from baimo.tuning.fit import attention, forward, lora, loss, precision  # noqa: E402
from baimo.tuning.fit.base import LoadedBase  # noqa: E402
from baimo.tuning.fit.encode import Encoded  # noqa: E402
from tests.tuning.fit import tiny  # noqa: E402


def adapted(family: str, upper: float = 1.0, rank: int = 4) -> LoadedBase:
    base = tiny.base(family)
    weights = lora.adapt(base, rank=rank, alpha=8, upper=upper, seed=1)
    with torch.no_grad():  # an adapter that is still nothing would hide its gradients
        for weight in weights:
            weight.normal_(std=0.3, generator=torch.Generator().manual_seed(weight.numel()))
    return base


def row_by_row(base: LoadedBase, rows: list[Encoded]) -> tuple[float, list[torch.Tensor]]:
    """Loss and gradients the plain way: one row at a time, all logits, transformers' own modules."""
    total = torch.zeros(())
    for row in rows:
        logits = base.model(input_ids=torch.from_numpy(row.ids)[None]).logits[0, :-1].float()
        wanted = torch.from_numpy(row.ids[1:])
        losses = torch.nn.functional.cross_entropy(logits, wanted, reduction="none")
        total = total + losses[torch.from_numpy(row.trained[1:])].sum()
    return float(total.detach()), list(torch.autograd.grad(total, lora.learnt(base)))


def the_fast_way(base: LoadedBase, rows: list[Encoded]) -> tuple[float, list[torch.Tensor]]:
    assert forward.can_be_fast(base)
    measured = loss.supervised(base, rows)
    return measured.loss, list(torch.autograd.grad(measured.total, lora.learnt(base)))


def assert_same(fast: tuple[float, list[torch.Tensor]], plain: tuple[float, list[torch.Tensor]]) -> None:
    assert fast[0] == pytest.approx(plain[0], rel=1e-5)
    assert len(fast[1]) == len(plain[1]) > 0
    for mine, theirs in zip(fast[1], plain[1], strict=True):
        assert float(theirs.abs().max()) > 0
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("common", [0, 12])
def test_loss_and_gradients_of_an_adapter_are_those_of_the_plain_way(family: str, common: int) -> None:
    base, rows = adapted(family), tiny.rows(common=common)
    assert_same(the_fast_way(base, rows), row_by_row(base, rows))


def test_an_adapter_on_the_upper_half_gets_the_same_gradients_too() -> None:
    base, rows = adapted("llama", upper=0.5), tiny.rows()
    assert len(lora.learnt(base)) == 14
    assert_same(the_fast_way(base, rows), row_by_row(base, rows))


@pytest.mark.parametrize(
    ("family", "changes"),
    [("llama", {}), ("llama", {"attention_bias": True, "mlp_bias": True}), ("qwen2", {}), ("qwen3", {})],
)
def test_loss_and_gradients_of_whole_weights_are_those_of_the_plain_way(
    family: str, changes: dict[str, bool]
) -> None:
    base, rows = tiny.base(family, **changes), tiny.rows()
    precision.unfreeze(base)
    assert_same(the_fast_way(base, rows), row_by_row(base, rows))


def test_rows_too_long_for_their_scores_to_be_held_get_the_same_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base, rows = adapted("llama"), tiny.rows()
    monkeypatch.setattr(attention, "WIDE", 0)
    assert_same(the_fast_way(base, rows), row_by_row(base, rows))


def test_layers_that_are_computed_twice_to_save_memory_get_the_same_gradients() -> None:
    base, rows = adapted("llama"), tiny.rows()
    base.frugal = True
    assert_same(the_fast_way(base, rows), row_by_row(base, rows))


def test_what_the_lower_layers_gave_is_remembered_and_gives_the_same_gradients() -> None:
    base, rows = adapted("llama", upper=0.5), tiny.rows()
    forward.remember(base, rows, most_mb=1.0)
    with torch.no_grad():  # in other company than later, with a longer beginning in common
        for part in (rows[:1], rows[1:3], rows[3:]):
            loss.supervised(base, part)
    expected = row_by_row(base, rows)
    base.kept["layers"][1][0].stacks[0].matrix.fill_(float("nan"))  # whoever computes it again is found out
    assert_same(the_fast_way(base, rows), expected)


def test_memory_for_the_lower_layers_is_not_exceeded() -> None:
    base, rows = adapted("llama", upper=0.5), tiny.rows()
    forward.remember(base, rows, most_mb=0.001)
    assert_same(the_fast_way(base, rows), row_by_row(base, rows))
    assert base.kept["lower"].recalled(rows, attention.layout(rows, base.dtype, base.device)) is None


def test_the_reference_is_the_model_without_its_adapter() -> None:
    base, rows = adapted("llama"), tiny.rows()
    bare = loss.logprobs(tiny.base("llama"), rows).values
    with torch.no_grad(), base.reference():
        inside = loss.logprobs(base, rows).values
    torch.testing.assert_close(inside, bare)
    assert not torch.allclose(loss.logprobs(base, rows).values.detach(), bare, atol=1e-2)


def test_weights_that_the_optimizer_changed_are_taken_over() -> None:
    base, rows = adapted("llama"), tiny.rows()
    loss.supervised(base, rows)
    with torch.no_grad():
        for weight in lora.learnt(base):
            weight.mul_(1.5)
    assert_same(the_fast_way(base, rows), row_by_row(base, rows))


@pytest.mark.parametrize("upper", [0.5, 1.0])
def test_whole_weights_of_a_stranger_are_learnt_in_f32_and_computed_in_bf16(upper: float) -> None:
    base, rows = tiny.base("llama", torch.bfloat16), tiny.rows()
    weights = precision.unfreeze(base, upper)
    expected, wanted = the_fast_way(base, rows)
    base.model.config.model_type = "stranger"
    assert not forward.can_be_fast(base)
    assert forward.plain(base, rows).hidden.dtype == torch.bfloat16
    measured = loss.supervised(base, rows)
    measured.total.backward()
    assert measured.loss == pytest.approx(expected, rel=1e-2)
    assert weights and {weight.dtype for weight in weights} == {torch.float32}
    for weight, gradient in zip(weights, wanted, strict=True):
        assert weight.grad is not None and weight.grad.dtype == torch.float32
        assert float((weight.grad - gradient).norm()) < 0.1 * float(gradient.norm())


def test_an_architecture_that_is_not_of_the_family_is_computed_the_plain_way() -> None:
    base = adapted("llama")
    expected = loss.supervised(base, tiny.rows()).loss
    base.model.config.model_type = "stranger"
    assert not forward.can_be_fast(base)
    assert loss.supervised(base, tiny.rows()).loss == pytest.approx(expected, rel=1e-5)
