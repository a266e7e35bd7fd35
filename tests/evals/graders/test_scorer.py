"""A grader as a scorer of a task."""

from __future__ import annotations

import pytest

from baimo.core.run import Outcome
from baimo.errors import TaskError
from tests.evals.graders.test_kinds import CHECK, SCORE
from tests.evals.scorers import ScriptedJudge, judge

TOWN = {**CHECK, "reference": "{{item.target}}"}


def test_an_answer_is_graded_against_the_examples_fields_and_reference() -> None:
    assert judge("grader", "Paris", "Paris", grader=TOWN).outcome is Outcome.RIGHT
    assert judge("grader", "Rome", "Paris", grader=TOWN).outcome is Outcome.WRONG
    field = {**CHECK, "reference": "{{item.town}}"}
    assert judge("grader", "Rome", grader=field, example_fields={"town": "Rome"}).lenient == 1
    two = [{"name": "grader", "grader": TOWN}, {"name": "grader", "grader": {**TOWN, "operation": "ne"}}]
    assert judge("all", "Paris", "Paris", scorers=two).lenient == 0


def test_a_broken_answer_is_malformed_and_a_broken_grader_is_no_judgement() -> None:
    asks_json = {**CHECK, "input": "{{sample.output_json.town}}"}
    assert judge("grader", "Paris", grader=asks_json).outcome is Outcome.MALFORMED
    assert judge("grader", "Paris", grader=TOWN | {"reference": "{{item.gone}}"}).outcome is Outcome.UNSCORED


def test_a_range_is_mapped_to_a_share_where_the_score_counts() -> None:
    row = {**SCORE, "input": [{"role": "user", "content": "{{sample.output_text}}"}], "range": [0, 10]}
    asked = ScriptedJudge('{"result": 4}', '{"result": 4}')
    assert judge("grader", "x", grader=row, by="score", ask=asked).lenient == 0.4
    assert judge("grader", "x", grader=row, ask=asked).lenient == 0


def test_a_grader_that_could_not_grade_is_refused_before_the_comparison() -> None:
    with pytest.raises(TaskError, match=r"grader\.operation"):
        judge("grader", "x", grader={**CHECK, "operation": "?"})
    with pytest.raises(TaskError, match="judge"):
        judge("grader", "x", grader=SCORE)
