"""Steps follow from (seed, epoch); micro-batches hold every row once and never more than they may."""

from __future__ import annotations

import numpy
from hypothesis import given
from hypothesis import strategies as st

from baimo.tuning.fit import batches
from baimo.tuning.fit.encode import Encoded, shared


def row(ids: list[int], learnt: int, at: int = 0) -> Encoded:
    trained = numpy.zeros(len(ids), dtype=bool)
    trained[-learnt:] = True
    return Encoded(ids=numpy.array(ids, dtype=numpy.int64), trained=trained, row=at)


rows_of_any_kind = st.lists(
    st.tuples(st.lists(st.integers(0, 2), min_size=3, max_size=20), st.integers(1, 2)),
    min_size=1,
    max_size=20,
).map(lambda found: [row(ids, learnt, at) for at, (ids, learnt) in enumerate(found)])


@given(rows_of_any_kind, st.integers(4, 60))
def test_every_row_is_in_one_micro_batch_and_none_is_above_the_budget(
    rows: list[Encoded], budget: int
) -> None:
    groups = batches.micro_batches(rows, budget)
    assert sorted(one.row for group in groups for one in group) == list(range(len(rows)))
    for group in groups:
        assert len(group) == 1 or batches.computed(group) <= budget


@given(rows_of_any_kind, st.integers(4, 60))
def test_rows_that_are_padded_are_within_the_budget_with_their_padding(
    rows: list[Encoded], budget: int
) -> None:
    groups = batches.by_length(rows, budget)
    assert sorted(one.row for group in groups for one in group) == list(range(len(rows)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(map(len, group)) <= budget


@given(rows_of_any_kind)
def test_the_common_beginning_is_common_and_predicts_nothing_learnt(rows: list[Encoded]) -> None:
    length = shared(rows)
    assert 0 <= length < min(map(len, rows))
    for one in rows:
        assert one.ids[:length].tolist() == rows[0].ids[:length].tolist()
        assert not one.trained[: length + 1].any()


def test_the_common_beginning_is_as_long_as_it_can_be() -> None:
    assert shared([row([1, 2, 3, 4, 9, 9], 2), row([1, 2, 3, 5, 9], 1)]) == 3
    assert (
        shared([row([1, 2, 3, 9, 9], 2), row([1, 2, 3, 9, 8], 2)]) == 2
    )  # 3 predicts the first learnt token


def test_rows_with_two_beginnings_are_computed_apart() -> None:
    long, other = [1] * 300, [2] * 300
    rows = [row([*(long if at % 2 else other), 3 + at, 9], 1, at) for at in range(8)]
    groups = batches.micro_batches(rows, 10_000)
    assert [shared(group) for group in groups] == [300, 300]


def test_an_epoch_has_every_row_once_in_an_order_of_its_own() -> None:
    first, again, second = batches.order(7, 0, 50), batches.order(7, 0, 50), batches.order(7, 1, 50)
    assert first == again != second
    assert sorted(first) == sorted(second) == list(range(50))
    assert batches.order(8, 0, 50) != first
    assert [len(step) for step in batches.steps(first, 16)] == [16, 16, 16, 2]
