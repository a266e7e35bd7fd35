"""Rows that belong together stay together; sizes and languages are as asked; the place of a row decides nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.tuning import Row
from baimo.errors import DataError
from baimo.evals.tasks.near import proposed
from baimo.tuning.data.languages import language_of
from baimo.tuning.data.split import split
from tests.tuning.data.rows import row

WORDS = [f"question {sha256(bytes([number])).hexdigest()[:16]}" for number in range(200)]


def many(count: int, **more: object) -> list[Row]:
    return [row(f"{WORDS[number % 200]} of {number * 7919}", str(number), **more) for number in range(count)]


def test_without_groups_the_share_is_exact_and_every_row_is_on_one_side_in_order() -> None:
    rows = many(200)
    parts = split(rows, 0.15, near=proposed)
    assert (len(parts.train), len(parts.valid)) == (170, 30)
    places = {id(one): place for place, one in enumerate(rows)}
    for part in parts:
        assert [places[id(one)] for one in part] == sorted(places[id(one)] for one in part)
    assert {id(one) for part in parts for one in part} == set(places)


def test_paraphrases_and_contradictions_stay_on_one_side() -> None:
    rows = [
        row(f"{start} me all about {WORDS[number]}{end}", answer)
        for number in range(60)
        for start, end, answer in (
            ("Please tell", "", str(number)),
            ("please  TELL", "!", str(number)),
            ("Please do tell", "", str(number)),
            ("Please tell", "", "something else"),
        )
    ]
    apart = split(rows, 0.3, near=proposed).valid
    valid = Counter(word for word in WORDS for one in apart if word in str(one.messages))
    assert sum(valid.values()) >= 68
    assert set(valid.values()) == {4}


def test_each_language_gives_its_share() -> None:
    rows = [*many(100), *(row(f"请告诉我第{number}个问题的答案", "好") for number in range(40))]
    strata = Counter(language_of(one) == "zh" for one in split(rows, 0.1).valid)
    assert strata == {False: 10, True: 4}


def test_the_same_rows_in_another_order_split_alike_and_another_seed_splits_otherwise() -> None:
    rows = many(100)
    names = {str(one.messages) for one in split(rows, 0.2, seed=3).valid}
    assert {str(one.messages) for one in split(rows[::-1], 0.2, seed=3).valid} == names
    assert {str(one.messages) for one in split(rows, 0.2, seed=4).valid} != names


def test_a_file_that_grows_keeps_most_of_its_split() -> None:
    before = {str(one.messages) for one in split(many(200), 0.2).valid}
    after = {str(one.messages) for one in split(many(210), 0.2).valid}
    assert len(before & after) >= 35


def test_rows_that_all_belong_together_cannot_be_split() -> None:
    for rows in ([], [row()], [row(), row(answer="other")], many(5, group="g")):
        with pytest.raises(DataError) as caught:
            split(rows, 0.5)
        assert caught.value.key == "data.no_split"


def test_clusters_bigger_than_the_share_still_give_a_side_that_is_not_empty() -> None:
    rows = [*many(10, group="a"), *(replace(one, group="b") for one in many(30)[10:])]
    parts = split(rows, 0.05)
    assert {one.group for one in parts.valid} == {"a"}
    assert len(parts.train) == 20


groups = st.none() | st.sampled_from("abcdefgh")
some = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2), groups), min_size=2, max_size=40)


@given(some, st.floats(0.01, 0.99), st.integers(0, 5))
def test_no_group_and_no_question_straddles_and_sizes_hold(
    drawn: list[tuple[int, int, str | None]], share: float, seed: int
) -> None:
    rows = [row(WORDS[question], str(answer), group=group) for question, answer, group in drawn]
    try:
        parts = split(rows, share, seed=seed)
    except DataError:
        assert len({(str(one.messages[0]), one.group) for one in rows}) < 2 * len(rows)
        return
    assert len(parts.train) + len(parts.valid) == len(rows)
    assert parts.train
    assert parts.valid
    for name in (lambda one: one.group, lambda one: one.messages[0]):
        sides = ({name(one) for one in part} - {None} for part in parts)
        assert not set.intersection(*sides)
    if len({one.messages[0] for one in rows}) == len(rows) and all(one.group is None for one in rows):
        assert len(parts.valid) == min(max(1, round(share * len(rows))), len(rows) - 1)
