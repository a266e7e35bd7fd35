"""JSON, found, repaired and compared field by field."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from baimo.core.run import Outcome
from baimo.errors import TaskError
from baimo.evals.scorers.loose_json import read
from tests.evals.scorers import judge

LAMP = {"intent": "turn_on", "slots": {"name": "lamp", "area": "hall"}, "level": 5}

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("reply", "value", "repair"),
    [
        ('```json\n{"a": 1}\n```', {"a": 1}, None),
        ('Sure: {"a": 1}. Anything else?', {"a": 1}, None),
        ('{"draft": 0} and finally {"a": 1}', {"a": 1}, None),
        ('{"a": "x \\( y \\)"}', {"a": "x \\( y \\)"}, "backslash"),
        ('{"a": "\\frac{1}{2} \\(x\\)"}', {"a": "\\frac{1}{2} \\(x\\)"}, "backslash"),
        ('{"a": "one\ntwo"}', {"a": "one\ntwo"}, "line break"),
        ("{'a': 'it', 'b': True, 'c': None}", {"a": "it", "b": True, "c": None}, "quotes"),
        ('{"a": [1, 2,],}', {"a": [1, 2]}, "trailing comma"),
        ('{"a": 1 // one\n, "b": 2}', {"a": 1, "b": 2}, "comment"),
        ('{"a": "f("x", "y")", "b": 2}', {"a": 'f("x", "y")', "b": 2}, "unescaped quote"),
        ('{"a": {"b": 1}', {"a": {"b": 1}}, "unclosed"),
        ('{"a": 1, "b": "cut o', {"a": 1, "b": "cut o"}, "unclosed"),
        ('{"a": 1\n "b": 2}', {"a": 1, "b": 2}, "missing comma"),
        ("{a: 1}", {"a": 1}, "quotes"),
        ('{“a”: “中文”，"b"：1}', {"a": "中文", "b": 1}, "quotes"),
        ('{"a": "\\ud83d\\ude00", }', {"a": "😀"}, "trailing comma"),
    ],
)
def test_json_is_found_and_repaired(reply: str, value: Any, repair: str | None) -> None:
    reading = read(reply)
    assert reading is not None
    assert reading.value == value
    assert not reading.whole
    assert (repair in reading.repairs) if repair else not reading.repairs


@pytest.mark.parametrize(
    "reply", ["", "no json", "{x} and {y}", '{"a" "b"}', "{" * 5000, '{"a":' * 500, '"' * 1000]
)
def test_what_is_no_json_stays_none_or_harmless(reply: str) -> None:
    reading = read(reply)
    assert reading is None or reading.repairs


@given(values)
def test_valid_json_is_read_as_the_standard_reader_reads_it(value: Any) -> None:
    reading = read(json.dumps(value))
    assert reading is not None
    assert reading.whole
    assert reading.value == value


@given(st.dictionaries(st.text(string.ascii_letters, min_size=1), values, min_size=1, max_size=3))
def test_the_forgiving_reader_agrees_on_valid_json_with_a_trailing_comma(value: dict[str, Any]) -> None:
    written = json.dumps(value, ensure_ascii=True)
    assume(not re.search(r"\\[bfnrt]", written))  # in broken JSON, \ni is taken for LaTeX
    reading = read(written[:-1] + ",}")
    assert reading is not None
    assert reading.value == value


@given(st.text(alphabet="{}[]\":,\\'`\n abtrue01./#*“”"))
def test_no_text_makes_the_reader_fail(reply: str) -> None:
    read(reply)


def test_wrapping_is_malformed_and_not_wrong() -> None:
    score = judge("json", f"```json\n{json.dumps(LAMP)}\n```", LAMP)
    assert (score.lenient, score.strict, score.outcome) == (1, 0, Outcome.MALFORMED)
    assert score.details["parsed"] == "extracted"
    assert (
        judge("json", f"```json\n{json.dumps(LAMP)}\n```", LAMP, strict="extracted").outcome is Outcome.RIGHT
    )
    assert judge("json", "<think>hm</think>" + json.dumps(LAMP), LAMP).outcome is Outcome.MALFORMED


def test_fields_are_marked_one_by_one() -> None:
    reply = {"intent": "turn_on", "slots": {"name": "lamp", "area": "kitchen"}, "level": 5}
    assert judge("json", json.dumps(reply), LAMP).lenient == 0
    score = judge("json", json.dumps(reply), LAMP, mode="fields")
    assert score.lenient == 0.75
    assert score.details["fields"] == {"intent": True, "slots.name": True, "slots.area": False, "level": True}
    assert "slots.area" in score.explanation
    assert judge("json", json.dumps(reply), LAMP, mode="fields", weights={"slots": 0}).lenient == 1
    assert judge("json", json.dumps(reply), LAMP, ignore=["slots.area"]).lenient == 1


def test_an_invented_field_is_wrong_unless_the_task_says_otherwise() -> None:
    reply = json.dumps({**LAMP, "mood": "warm", "note": None})
    assert judge("json", reply, LAMP).lenient == 0
    assert judge("json", reply, LAMP, mode="fields").lenient == 0.8
    assert judge("json", reply, LAMP, extra="ignored").lenient == 1
    assert judge("json", reply, LAMP, ignore=["mood"]).lenient == 1


def test_numbers_arrays_and_texts_have_their_own_rules() -> None:
    assert judge("json", '{"a": "5"}', {"a": 5}).lenient == 1
    assert judge("json", '{"a": 5.01}', {"a": 5}).lenient == 0
    assert judge("json", '{"a": 5.01}', {"a": 5}, tolerance=0.1).lenient == 1
    assert judge("json", '{"a": [2, 1]}', {"a": [1, 2]}).lenient == 0
    assert judge("json", '{"a": [2, 1]}', {"a": [1, 2]}, unordered=True).lenient == 1
    assert judge("json", '{"a": [2, 1]}', {"a": [1, 2]}, unordered=["b"]).lenient == 0
    assert (
        judge("json", '{"a": [{"x": 2}, {"x": 1}]}', {"a": [{"x": 1}, {"x": 2}]}, unordered=["a"]).lenient
        == 1
    )
    assert judge("json", '{"a": "LAMP"}', {"a": "lamp"}).lenient == 0
    assert judge("json", '{"a": "LAMP"}', {"a": "lamp"}, ignore_case=True).lenient == 1
    assert judge("json", '{"a": "客厅 灯"}', {"a": "客厅灯"}).lenient == 1
    assert judge("json", '{"a": true}', {"a": 1}).lenient == 0


def test_one_field_can_be_the_answer_and_hold_a_literal() -> None:
    reply = json.dumps({"reasoning": "…", "answer": "[1,2, 'x']"})
    assert judge("json", reply, "[1, 2, 'x']", answer="answer").lenient == 0
    assert judge("json", reply, "[1, 2, 'x']", answer="answer", texts="literal").lenient == 1
    assert judge("json", '{"answer": "\\"ba\\""}', "'ba'", answer="answer", texts="unquoted").lenient == 1
    assert (
        judge(
            "json", '{"answer": "__import__(\'os\').abort()"}', "1", answer="answer", texts="literal"
        ).lenient
        == 0
    )


def test_strict_wants_the_schema_satisfied() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    assert judge("json", '{"a": 5}', {"a": 5}, schema=schema).outcome is Outcome.RIGHT
    score = judge("json", '{"a": "5"}', {"a": 5}, schema=schema)
    assert score.outcome is Outcome.MALFORMED
    assert "$.a" in score.explanation


def test_a_schema_may_stand_in_a_file_and_is_checked_at_once(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"type": "object"}')
    assert judge("json", "{}", {}, schema="s.json", folder=tmp_path).strict == 1
    (tmp_path / "t.json").write_text('{"type": "elephant"}')
    with pytest.raises(TaskError, match="not a valid JSON Schema"):
        judge("json", "{}", {}, schema="t.json", folder=tmp_path)
    with pytest.raises(TaskError, match=r"none\.json cannot be read"):
        judge("json", "{}", {}, schema="none.json", folder=tmp_path)


def test_no_json_at_all_is_malformed() -> None:
    assert judge("json", "I would turn on the lamp.", LAMP).outcome is Outcome.MALFORMED
