"""What is trained is what is served: the same tokens, cut at the same places, up to the token that ends the answer."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tokenizers", reason="tokenizers is missing: pip install 'baimo[tune]'")
pytest.importorskip("torch", reason="torch is missing: pip install 'baimo[tune]'")

from baimo.core.message import Message
from baimo.core.tuning import Row
from baimo.errors import TaskError
from baimo.tuning.fit.encode import Dialect, Encoded, encoded, encoded_rows, windows
from tests.tuning.fit import tiny

END = "<|im_end|>"
MERGING = (
    "{% for m in messages %}{{ m.role }}:{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
FORGETFUL = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Writes the last answer otherwise than the earlier ones, as Qwen3 does."""


def talk(*turns: str, trained: tuple[int, ...] | None = None) -> Row:
    roles = ("user", "assistant")
    messages = tuple(Message(role=roles[at % 2], content=turn) for at, turn in enumerate(turns))  # type: ignore[arg-type]
    return Row(messages=messages, trained=trained, line=7, file="train.jsonl")


def learnt(dialect: Dialect, one: Encoded) -> str:
    """What is learnt, with a bar between pieces."""
    text, before = "", False
    for token, trained in zip(one.ids.tolist(), one.trained.tolist(), strict=True):
        if trained:
            text += ("|" if not before and text else "") + dialect.tokenizer.decode(
                [token], skip_special_tokens=False
            )
        before = trained
    return text


def merging(template: str) -> Dialect:
    """A tokenizer that merges a line's end with the line's end that follows."""
    import tokenizers

    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: at for at, letter in enumerate([*alphabet, "ĊĊ", ":a"])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, [("Ċ", "Ċ"), (":", "a")]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", END])
    ends = (tokenizer.token_to_id(END),)
    return dataclasses.replace(tiny.dialect(), tokenizer=tokenizer, template=template, ends=ends)


def test_the_answer_is_learnt_with_the_token_that_ends_it_and_nothing_else() -> None:
    dialect = tiny.dialect()
    one = encoded(dialect, talk("hello", "good day"))
    assert learnt(dialect, one) == f"good day{END}"
    assert one.ids[-1] == dialect.ends[0]
    assert one.answers == len("good day") + 1


def test_every_answer_of_a_conversation_is_learnt_unless_the_row_chooses() -> None:
    dialect = tiny.dialect()
    turns = ("a", "first", "b", "second", "c", "third")
    assert learnt(dialect, encoded(dialect, talk(*turns))) == f"first{END}|second{END}|third{END}"
    chosen = encoded(dialect, talk(*turns, trained=(3,)))
    assert learnt(dialect, chosen) == f"second{END}"
    assert "third" not in dialect.decoded(chosen.ids)  # nothing behind the last learnt token is computed


@given(st.lists(st.text(st.sampled_from("ab\n :{}"), min_size=1, max_size=8), min_size=2, max_size=6))
def test_what_stands_before_an_answer_is_token_for_token_what_is_served(turns: list[str]) -> None:
    turns = turns[: len(turns) // 2 * 2]
    row = talk(*turns)
    for dialect in (tiny.dialect(), merging(tiny.TEMPLATE), merging(MERGING)):
        one = encoded(dialect, row)
        starts = [at for at in range(1, len(one)) if one.trained[at] and not one.trained[at - 1]]
        served = dialect.prompt_ids(Row(messages=row.messages[:1]))
        assert one.ids[: starts[0]].tolist() == served


def test_a_token_that_would_straddle_prompt_and_answer_is_cut_where_serving_cuts_it() -> None:
    dialect = merging(tiny.TEMPLATE)
    one = encoded(dialect, talk("hello", "\nanswer"))
    assert learnt(dialect, one) == f"\nanswer{END}"
    prompt = dialect.prompt_ids(Row(messages=talk("hello", "\nanswer").messages[:1]))
    assert one.ids[: len(prompt)].tolist() == prompt


def test_a_template_without_an_end_of_turn_gets_one_behind_the_last_answer() -> None:
    dialect = merging(MERGING)
    assert learnt(dialect, encoded(dialect, talk("hello", "bye"))) == f"bye{END}"


def test_a_template_that_writes_earlier_answers_otherwise_is_followed() -> None:
    dialect = dataclasses.replace(tiny.dialect(), template=FORGETFUL)
    one = encoded(dialect, talk("a", "first", "b", "second"))
    assert learnt(dialect, one) == f"first{END}|<think>\n\n</think>\n\nsecond{END}"


def test_rows_that_are_too_long_are_told_and_not_cut() -> None:
    rows = [talk("short", "yes"), talk("long", "no" * 50), talk("short", "also")]
    kept, told = encoded_rows(tiny.dialect(), rows, longest=60)
    assert [one.row for one in kept] == [0, 2]
    assert [(one.row, one.line) for one in told] == [(1, 7)]
    assert told[0].tokens > 60


def test_a_row_without_an_answer_names_its_line() -> None:
    with pytest.raises(TaskError, match=r"train\.jsonl:7"):
        encoded(tiny.dialect(), talk("only a question"))


def test_windows_hold_every_token_of_a_text_once_as_something_to_learn() -> None:
    dialect = tiny.dialect()
    found = windows(dialect, ["abcdefgh", "", "ijk"], 5)
    whole = dialect.ids(f"abcdefgh{END}ijk{END}")
    targets = [token for one in found for token in one.ids[one.trained].tolist()]
    assert targets == whole[1:]
    assert max(map(len, found)) == 6
