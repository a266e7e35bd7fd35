"""Templates over item and sample."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.errors import CallRefused, ScorerError
from baimo.evals.graders.grading import sample_of
from baimo.evals.graders.template import checked, filled

NAMES = {
    "item": {
        "answer": "Paris",
        "count": 5,
        "sure": True,
        "nothing": None,
        "rows": [{"id": "a"}, {"id": "b", "more": {"x y": 1.5}}],
        "城市": "巴黎",
    },
    "sample": sample_of('{"city": "Paris", "list": [1, {"deep": "er"}]}'),
}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("plain", "plain"),
        ("{{item.answer}}", "Paris"),
        ("It is {{ item.answer }}, {{item.count}} times.", "It is Paris, 5 times."),
        ("{{ item.sure }} {{ item.nothing }}", "true null"),
        ("{{ item.rows[1].id }}{{ item.rows[-1].more['x y'] }}", "b1.5"),
        ('{{ item["rows"][0]["id"] }}', "a"),
        ("{{ item.rows[0] }}", '{"id": "a"}'),
        ("{{ item.城市 }}", "巴黎"),
        ("{{ sample.output_json.list[1].deep }}", "er"),
        ("{{ sample.output_text }}", '{"city": "Paris", "list": [1, {"deep": "er"}]}'),
        ("{{\n item.answer\n}}", "Paris"),
        ("{ item.answer } }}", "{ item.answer } }}"),
    ],
)
def test_a_template_is_filled_with_texts_as_they_are_and_the_rest_as_json(source: str, expected: str) -> None:
    checked(source, "grader.input")
    assert filled(source, NAMES) == expected


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("{{ item.answr }}", "graders.no_variable"),
        ("{{ item.rows[2].id }}", "graders.no_variable"),
        ("{{ item.answer.deeper }}", "graders.no_variable"),
        ("{{ sample.output_json.town }}", "graders.sample_no_field"),
        ("{{ sample.nothing }}", "graders.no_variable"),
    ],
)
def test_a_variable_that_is_not_there_is_named(source: str, key: str) -> None:
    with pytest.raises(ScorerError) as caught:
        filled(source, NAMES)
    assert caught.value.key == key
    assert source.strip("{} ") in str(caught.value)


def test_a_sample_that_is_no_json_is_told_apart_from_a_field_that_is_missing() -> None:
    with pytest.raises(ScorerError) as caught:
        filled("{{ sample.output_json.city }}", {"sample": sample_of("no JSON")})
    assert caught.value.key == "graders.sample_no_json"


@pytest.mark.parametrize(
    "source", ["{{ other.x }}", "{{ 1 + 1 }}", "{{ (item.x) }}", "{{ }}", "{{ item.a[b] }}"]
)
def test_what_is_no_variable_is_refused_before_anything_is_graded(source: str) -> None:
    with pytest.raises(CallRefused) as caught:
        checked(source, "grader.reference")
    assert caught.value.facts["field"] == "grader.reference"


@given(st.text())
def test_no_text_makes_a_template_do_anything_but_fill_or_refuse(source: str) -> None:
    try:
        checked(source, "x")
        filled(source, NAMES)
    except (CallRefused, ScorerError):
        return
