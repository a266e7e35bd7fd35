"""Graders are checked as a whole before anything is graded."""

from __future__ import annotations

from typing import Any

import pytest

from baimo.errors import CallRefused
from baimo.evals.graders.kinds import Multi, grader_of, models_of, runs_code, threshold

CHECK = {
    "type": "string_check",
    "name": "c",
    "input": "{{sample.output_text}}",
    "reference": "x",
    "operation": "eq",
}
LIKE = {"type": "text_similarity", "name": "l", "input": "a", "reference": "b", "evaluation_metric": "bleu"}
SCORE = {
    "type": "score_model",
    "name": "s",
    "model": "v/m",
    "input": [{"role": "user", "content": "{{item.q}}"}],
}
LABEL = {**SCORE, "type": "label_model", "name": "b", "labels": ["good", "bad"], "passing_labels": ["good"]}
CODE = {"type": "python", "name": "p", "source": "def grade(sample, item):\n    return 1.0"}
MULTI = {
    "type": "multi",
    "name": "m",
    "graders": {"one": CHECK, "two": CODE},
    "calculate_output": "one * two",
}


@pytest.mark.parametrize("row", [CHECK, LIKE, SCORE, LABEL, CODE, MULTI], ids=lambda row: row["type"])
def test_every_kind_is_understood_with_and_without_a_name(row: dict[str, Any]) -> None:
    assert grader_of(row).name == row["name"]
    assert grader_of({name: value for name, value in row.items() if name != "name"}).name == ""
    assert grader_of({**row, "name": None}).name == ""


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ("no object", "grader"),
        ({}, "grader.type"),
        ({"type": "regex"}, "grader.type"),
        ({"type": ["multi"]}, "grader.type"),
        ({**CHECK, "operation": "gt"}, "grader.operation"),
        ({**CHECK, "input": 5}, "grader.input"),
        ({**CHECK, "refrence": "x"}, "grader.refrence"),
        ({**CHECK, "reference": None}, "grader.reference"),
        ({**CHECK, "pass_threshold": 1}, "grader.pass_threshold"),
        ({**CHECK, "input": "{{ samples.output_text }}"}, "grader.input"),
        ({**LIKE, "evaluation_metric": "rouge_6"}, "grader.evaluation_metric"),
        ({**LIKE, "pass_threshold": "high"}, "grader.pass_threshold"),
        ({**SCORE, "input": []}, "grader.input"),
        ({**SCORE, "input": [{"role": "tool", "content": "x"}]}, "grader.input[0].role"),
        ({**SCORE, "input": [{"role": "user"}]}, "grader.input[0].content"),
        ({**SCORE, "input": [{"role": "user", "content": [{"type": "file"}]}]}, "grader.input[0].content[0]"),
        ({**SCORE, "input": [{"role": "user", "content": "{{ x }}"}]}, "grader.input[0].content"),
        ({**SCORE, "range": [1, 0]}, "grader.range"),
        ({**SCORE, "range": [0]}, "grader.range"),
        ({**SCORE, "range": [0, 10], "pass_threshold": 11}, "grader.pass_threshold"),
        ({**SCORE, "model": ""}, "grader.model"),
        ({**SCORE, "sampling_params": {"temprature": 1}}, "grader.sampling_params.temprature"),
        ({**LABEL, "passing_labels": ["great"]}, "grader.passing_labels"),
        ({**LABEL, "labels": [], "passing_labels": []}, "grader.labels"),
        ({**CODE, "source": "def grade(sample:\n"}, "grader.source"),
        ({**CODE, "source": "x = 1"}, "grader.source"),
        ({**CODE, "source": "def grade(sample): return 1"}, "grader.source"),
        ({**CODE, "source": "async def grade(sample, item): return 1"}, "grader.source"),
        ({**CODE, "source": "#" * 256_000 + "\ndef grade(sample, item): return 1"}, "grader.source"),
        ({**MULTI, "calculate_output": "one + three"}, "grader.calculate_output"),
        ({**MULTI, "calculate_output": "one +"}, "grader.calculate_output"),
        ({**MULTI, "graders": {}}, "grader.graders"),
        ({**MULTI, "graders": {"one": {**CHECK, "operation": "no"}}}, "grader.graders.one.operation"),
        ({**MULTI, "graders": {"one": MULTI}, "calculate_output": "one"}, "grader.graders.one"),
    ],
)
def test_what_could_not_grade_is_refused_with_its_place(row: object, field: str) -> None:
    with pytest.raises(CallRefused) as caught:
        grader_of(row)
    assert caught.value.facts["field"] == field
    assert field in str(caught.value)


def test_one_grader_in_place_of_many_is_called_by_its_own_name() -> None:
    grader = grader_of({**MULTI, "graders": CHECK, "calculate_output": "c / 2"})
    assert isinstance(grader, Multi) and list(grader.parts) == ["c"]
    with pytest.raises(CallRefused) as caught:
        grader_of({**MULTI, "graders": {**CHECK, "operation": 1}, "calculate_output": "c"})
    assert caught.value.facts["field"] == "grader.graders.operation"


def test_code_may_make_its_function_in_any_way_and_is_not_run() -> None:
    for source in (
        "def grade(sample, item, strict=False): return 1",
        "def grade(*args): return 1",
        "grade = lambda sample, item: 1",
        "from scoring import grade",
        "raise SystemExit\ndef grade(sample, item): return 1",
    ):
        assert runs_code(grader_of({**CODE, "source": source}))


def test_a_score_passes_from_the_threshold_or_the_middle_of_its_range() -> None:
    assert [threshold(grader_of(row)) for row in (CHECK, LABEL, LIKE, SCORE, CODE)] == [1, 1, 0.5, 0.5, 0.5]
    assert threshold(grader_of({**SCORE, "range": [0, 10]})) == 5
    assert threshold(grader_of({**SCORE, "range": [0, 10], "pass_threshold": 9})) == 9


def test_the_models_and_the_code_in_a_grader_are_known_beforehand() -> None:
    nested = grader_of({**MULTI, "graders": {"a": SCORE, "b": LABEL}, "calculate_output": "a + b"})
    assert models_of(nested) == {"v/m"} and not runs_code(nested)
    assert models_of(grader_of(MULTI)) == set() and runs_code(grader_of(MULTI))
