from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from baimo.core.task import Example
from baimo.tuning.search.parts import mixed, parts_of, sliced
from tests.tuning.search.doubles import examples

TRAINS = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from(["en", "zh", "de"])), min_size=1, max_size=120
).map(
    lambda rows: tuple(
        Example(
            id=str(number),
            fields={"input": "x"},
            target="y",
            group=f"g{group}",
            metadata={"language": language},
        )
        for number, (group, language) in enumerate(rows)
    )
)


@given(train=TRAINS, seed=st.integers(0, 5), confirmed=st.integers(1, 40))
def test_no_example_and_no_group_is_in_two_parts(
    train: tuple[Example, ...], seed: int, confirmed: int
) -> None:
    parts = parts_of(train, "language", seed, confirmed=confirmed)
    ids = Counter(example.id for part in parts for example in part)
    assert max(ids.values(), default=0) <= 1
    groups = [{example.group for example in part} for part in parts]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert len(parts.confirmed) <= confirmed


def test_every_slice_is_in_every_part_and_every_beginning_is_mixed() -> None:
    parts = parts_of(examples(200), "language", 0, confirmed=30)
    assert [set(sliced(part, "language")) for part in parts] == [{"en", "zh"}] * 3
    assert [one.metadata["language"] for one in parts.scored[:4]] == ["en", "zh", "en", "zh"]
    assert len(parts.shown) > len(parts.scored) > len(parts.confirmed)


def test_another_seed_parts_otherwise_and_the_same_seed_alike() -> None:
    train = examples(100)
    assert parts_of(train, "", 1, confirmed=20) == parts_of(train[::-1], "", 1, confirmed=20)
    assert parts_of(train, "", 1, confirmed=20) != parts_of(train, "", 2, confirmed=20)


def test_mixing_loses_nothing() -> None:
    train = examples(33, languages=("en", "zh", "de"))
    assert sorted(one.id for one in mixed(train, "language", 0)) == sorted(one.id for one in train)


def test_what_is_shown_already_is_never_asked_nor_is_its_group() -> None:
    train = examples(100)
    already = {one.id for one in train[::9]}
    parts = parts_of(train, "language", 0, confirmed=30, already=already)
    asked = {one.group for one in (*parts.scored, *parts.confirmed)}
    assert not asked & {one.group for one in train if one.id in already}
    assert already <= {one.id for one in parts.shown}
