"""Named steps take out or change what they say, tell how much, keep the order, and find nothing the second time."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.tuning import Row
from baimo.errors import UsageError
from baimo.tuning.data.clean import STEPS, USUAL, clean
from baimo.tuning.data.finding import Aids
from tests.tuning.data.rows import alike, calling, row, said

AIDS = Aids(
    near=alike,
    count=lambda one: sum(len(str(turn.content).split()) for turn in one.messages),
    longest=12,
    held_out=["What is the secret number?"],
    words=["darn"],
    languages=["en"],
)
ROWS = [
    row("Tell me a good joke please", "no"),
    row("Tell me a good joke please", "no"),
    row("tell me a good joke, please", "no"),
    row("What is the secret number?", "7"),
    row("hello", ""),
    row("darn it", "well"),
    row("mail me at li.wei@example.com", " ok "),
    row("word " * 20, "long"),
    row("你好，请开灯", "好的"),
    row("Which day is it today", "Monday"),
    row("which day is it today", "Tuesday"),
    calling("{"),
]
LEFT = {
    "trim": 12,
    "mask_pii": 12,
    "drop_empty": 11,
    "drop_broken": 10,
    "drop_too_long": 11,
    "drop_unwanted": 11,
    "keep_languages": 11,
    "drop_leaked": 11,
    "drop_duplicates": 11,
    "drop_contradictions": 10,
    "drop_near_duplicates": 11,
}


def test_every_step_is_tested_here() -> None:
    assert set(LEFT) == set(STEPS)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_leaves_one_line_that_counts_what_it_did(step: str) -> None:
    cleaned = clean(ROWS, [step], AIDS)
    (line,) = cleaned.lines
    changed = sum(one not in ROWS for one in cleaned.rows)
    assert (line["step"], line["kept"], line["removed"]) == (step, LEFT[step], len(ROWS) - LEFT[step])
    assert (line["changed"], len(cleaned.rows)) == (changed, LEFT[step])
    assert changed == {"trim": 2, "mask_pii": 1}.get(step, 0)


def test_all_steps_together_keep_the_order_and_find_nothing_the_second_time() -> None:
    cleaned = clean(ROWS, STEPS, AIDS)
    assert [one.messages[0].content for one in cleaned.rows] == [
        "Tell me a good joke please",
        "mail me at <EMAIL_1>",
    ]
    assert [line["step"] for line in cleaned.lines] == list(STEPS)
    again = clean(cleaned.rows, STEPS, AIDS)
    assert again.rows == cleaned.rows
    assert all(line["removed"] == line["changed"] == 0 for line in again.lines)


def test_the_first_of_repeated_rows_stays() -> None:
    rows = [dataclasses.replace(row(), line=number) for number in (5, 6, 7)]
    assert [one.line for one in clean(rows, USUAL).rows] == [5]


def test_a_step_that_lacks_what_it_needs_says_so_before_anything_is_done() -> None:
    for step in ("drop_too_long", "drop_unwanted", "keep_languages", "drop_leaked", "drop_near_duplicates"):
        with pytest.raises(UsageError, match=step) as caught:
            clean(ROWS, [step])
        assert "--" in caught.value.hint or "Aids" in caught.value.hint
    with pytest.raises(UsageError, match="limit"):
        clean(ROWS, ["drop_too_long"], Aids(count=len))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="drop_duplicates"):
        clean(ROWS, ["drop_dupes"])


texts = st.sampled_from(
    ["hello", "Hello!", "hello there my friend", "hello there, my friends", "", " x ", "li.wei@example.com",
     "call 13812345678", "Dear Mr. Smith, hi", "darn", "你好", "What is the secret number?", "<EMAIL_1> a@b.com"]
)  # fmt: skip
some = st.builds(row, texts, texts) | st.builds(
    lambda question, good, bad: row(question, good, rejected=(said("assistant", bad),)), texts, texts, texts
)


@given(st.lists(some, max_size=12), st.lists(st.sampled_from(list(STEPS)), unique=True, max_size=11))
def test_cleaning_twice_is_cleaning_once(rows: list[Row], steps: list[str]) -> None:
    once = clean(rows, steps, AIDS)
    twice = clean(once.rows, steps, AIDS)
    assert twice.rows == once.rows
    assert all(line["removed"] == line["changed"] == 0 for line in twice.lines)
    assert sum(line["removed"] for line in once.lines) == len(rows) - len(once.rows)
