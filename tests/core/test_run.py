from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.run import Outcome, Score

marks = st.floats(min_value=0, max_value=1)


@given(marks)
def test_a_well_formed_answer_is_right_partial_or_wrong_by_its_content(mark: float) -> None:
    expected = Outcome.RIGHT if mark == 1 else Outcome.WRONG if mark == 0 else Outcome.PARTIAL
    score = Score.of(mark)
    assert (score.outcome, score.lenient, score.strict) == (expected, mark, mark)


@given(st.floats(min_value=0, max_value=1, exclude_min=True))
def test_content_that_the_contract_refuses_is_malformed(mark: float) -> None:
    score = Score.of(mark, 0.0)
    assert (score.outcome, score.lenient, score.strict) == (Outcome.MALFORMED, mark, 0.0)


@given(marks, marks)
def test_whoever_says_malformed_is_believed_and_the_word_is_no_detail(mark: float, strict: float) -> None:
    score = Score.of(mark, strict, malformed=True, fields=3)
    assert score.outcome is Outcome.MALFORMED
    assert score.details == {"fields": 3}


@given(marks, st.floats(min_value=0.001, max_value=1))
def test_a_strict_score_above_0_is_not_malformed(mark: float, strict: float) -> None:
    assert Score.of(mark, strict).outcome is not Outcome.MALFORMED


@pytest.mark.parametrize(
    ("score", "outcome"),
    [(Score.unscored("no judge"), Outcome.UNSCORED), (Score.failed("no answer"), Outcome.FAILED)],
)
def test_what_was_not_judged_has_no_figure_and_says_why(score: Score, outcome: Outcome) -> None:
    assert (score.outcome, score.lenient, score.strict) == (outcome, None, None)
    assert score.explanation.startswith("no ")
