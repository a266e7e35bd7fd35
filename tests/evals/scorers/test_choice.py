"""Multiple choice."""

from __future__ import annotations

import pytest

from baimo.core.run import Outcome
from tests.evals.scorers import judge


@pytest.mark.parametrize(
    "reply",
    [
        "B", "(B)", "b", "B.", "Ｂ", "The answer is (B).", "答案是B", "答案：B。因为A不对", "\\boxed{B}",
        "$\\boxed{\\text{B}}$", "**Answer: B**", "Answer:\n\nB",
        "I think A is wrong. The answer is B, because C is bad.",
        "First I thought the answer is A. But wait, the final answer is B.", "B. Paris", "选B", "不选A，选B",
        "答案应该选Ｂ", "The correct option is **B**: foo", "Option B is correct", "A is incorrect. B is correct.",
        "综上，B项正确", "I would go with B", "正确答案为：【B】", "应选择B选项", "选项A：错误；选项C：错误；所以选B",
        "the correct answer is not A but B", "The final answer is $\\boxed{B}$. A is wrong.",
        "<think>The answer is A</think>The answer is B",
    ],
)  # fmt: skip
def test_the_label_that_a_reply_settles_on_is_found(reply: str) -> None:
    assert judge("choice", reply, "B").lenient == 1


@pytest.mark.parametrize("reply", ["Answer: A or B", "The answer is A and B.", "答案是A或者B"])
def test_a_statement_with_two_labels_is_no_answer(reply: str) -> None:
    score = judge("choice", reply, "B", form="any")
    assert (score.lenient, score.outcome) == (0, Outcome.WRONG)
    assert "several" in score.explanation


@pytest.mark.parametrize(
    "reply", ["", "A dog is here", "The answer is a dog", "none of these", "A, B and C are wrong, so D?"]
)
def test_text_without_a_choice_is_malformed(reply: str) -> None:
    score = judge("choice", reply, "A")
    assert (score.lenient, score.outcome) == (0, Outcome.MALFORMED)


def test_strict_wants_the_bare_label() -> None:
    assert judge("choice", "B", "B").outcome is Outcome.RIGHT
    assert judge("choice", "The answer is B", "B").outcome is Outcome.MALFORMED
    assert judge("choice", "The answer is B", "B", form="any").outcome is Outcome.RIGHT
    assert judge("choice", "C", "B").outcome is Outcome.WRONG


def test_words_can_be_labels_and_the_longest_wins() -> None:
    labels = ["card", "card_arrival", "positive", "正面", "负面"]
    assert judge("choice", "Answer: card_arrival", "card_arrival", labels=labels).lenient == 1
    assert judge("choice", "Answer: card_arrival", "card", labels=labels).lenient == 0
    assert judge("choice", "情感：正面", "正面", labels=labels).lenient == 1
    assert judge("choice", "不是正面", "正面", labels=labels).lenient == 0


def test_the_text_of_an_option_stands_for_its_label() -> None:
    fields = {"input": "capital?", "choices": ["Rome", "Paris", "Bern"]}
    assert judge("choice", "Paris.", "B", example_fields=fields).lenient == 1


def test_as_many_labels_as_options() -> None:
    fields = {"input": "?", "options": [str(number) for number in range(10)]}
    assert judge("choice", "The answer is (J).", "J", example_fields=fields).lenient == 1


def test_a_target_outside_the_labels_is_the_task_s_fault() -> None:
    assert judge("choice", "A", "X").outcome is Outcome.UNSCORED
