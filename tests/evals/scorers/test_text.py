"""exact, contains, icontains, regex."""

from __future__ import annotations

import pytest

from baimo.core.run import Outcome
from baimo.errors import TaskError
from tests.evals.scorers import judge


@pytest.mark.parametrize(
    ("reply", "target"),
    [
        ("paris", "Paris"),
        ("Paris.", "Paris"),
        ("  **Paris** ", "Paris"),
        ("“Paris”", "Paris"),
        ("Ｐａｒｉｓ", "Paris"),
        ("北 京 大学", "北京大学"),
        ("北京大学。", "北京大学"),
        ("New  York\n", "New York"),
        ("<think>Rome? No.</think>Paris", "Paris"),
        ("42", 42),
        ("TRUE", True),
    ],
)
def test_exact_forgives_form_in_the_lenient_score_only(reply: str, target: object) -> None:
    score = judge("exact", reply, target)
    assert score.lenient == 1
    assert score.strict == float(reply.strip() == str(target))


@pytest.mark.parametrize(
    ("reply", "target"), [("-5", "5"), ("C#", "C"), ("[1]", "(1)"), ("3.5", "35"), ("!", "?")]
)
def test_exact_keeps_what_carries_meaning(reply: str, target: str) -> None:
    assert judge("exact", reply, target).outcome is Outcome.WRONG


def test_exact_takes_any_accepted_answer() -> None:
    assert judge("exact", "NYC", ["New York", "NYC"]).strict == 1


@pytest.mark.parametrize(
    ("option", "reply"),
    [("case", "paris X"), ("whitespace", "Paris  X"), ("punctuation", "Paris X!"), ("unicode", "Paris Ｘ")],
)
def test_exact_counts_what_it_is_told_to_count(option: str, reply: str) -> None:
    assert judge("exact", reply, "Paris X").lenient == 1
    assert judge("exact", reply, "Paris X", **{option: True}).lenient == 0


def test_right_content_in_another_form_is_malformed_and_not_wrong() -> None:
    assert judge("exact", "paris", "Paris").outcome is Outcome.MALFORMED


def test_an_empty_reply_is_malformed() -> None:
    assert judge("exact", "", "Paris").outcome is Outcome.MALFORMED


@pytest.mark.parametrize(
    "name", ["exact", "choice", "numeric", "contains", "json", "tool_calls", "text_overlap", "code"]
)
def test_without_a_reference_the_cell_is_unscored(name: str) -> None:
    score = judge(name, "anything")
    assert score.outcome is Outcome.UNSCORED
    assert score.lenient is None


def test_contains_knows_any_all_and_none() -> None:
    reply = "Turn on the lamp in the kitchen"
    assert judge("contains", reply, values=["lamp", "oven"]).lenient == 1
    assert judge("contains", reply, values=["lamp", "oven"], mode="all").lenient == 0
    assert judge("contains", reply, values=["lamp", "oven"], mode="all", share=True).lenient == 0.5
    assert judge("contains", reply, values=["oven"], mode="none").lenient == 1
    assert judge("contains", reply, values=["lamp"], mode="none").outcome is Outcome.WRONG


def test_contains_names_what_is_missing() -> None:
    score = judge("contains", "lamp", values=["lamp", "oven"], mode="all")
    assert score.details["missing"] == ["oven"]
    assert "oven" in score.explanation


def test_contains_forgives_full_width_letters_in_the_lenient_score_only() -> None:
    score = judge("contains", "型号ＡＢＣ", "ABC")
    assert (score.lenient, score.strict) == (1, 0)


def test_icontains_forgives_case_in_both_scores() -> None:
    assert judge("icontains", "the LAMP", "Lamp").strict == 1
    assert judge("contains", "the LAMP", "Lamp").lenient == 0


def test_regex_finds_or_compares_a_group() -> None:
    assert judge("regex", "Invoice 2024-17", pattern=r"\d{4}-\d+").lenient == 1
    assert judge("regex", "room: kitchen!", "Kitchen", pattern=r"room: (\w+)", group=1).lenient == 1
    assert judge("regex", "room: hall", "kitchen", pattern=r"room: (\w+)", group=1).outcome is Outcome.WRONG
    assert judge("regex", "no idea", "kitchen", pattern=r"room: (\w+)", group=1).outcome is Outcome.MALFORMED
    assert judge("regex", "abc", "b.").lenient == 1


def test_regex_can_demand_the_whole_reply() -> None:
    assert judge("regex", " 2024 ", pattern=r"\d+", whole=True).lenient == 1
    assert judge("regex", "in 2024", pattern=r"\d+", whole=True).lenient == 0


def test_a_pattern_that_explodes_leaves_the_cell_unscored() -> None:
    score = judge("regex", "a" * 60 + "!", pattern=r"^(a|aa)+$", seconds=0.05)
    assert score.outcome is Outcome.UNSCORED
    assert "longer than" in score.explanation


def test_a_pattern_that_does_not_compile_is_refused_when_the_scorer_is_built() -> None:
    with pytest.raises(TaskError, match="does not compile"):
        judge("regex", "x", pattern="(")
