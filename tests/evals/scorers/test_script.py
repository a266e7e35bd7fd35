"""A task's own scorer, lists of checks, and scorers put together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from baimo.core.run import Outcome, Score
from baimo.errors import TaskError
from tests.evals.scorers import ScriptedJudge, judge


def own(folder: Path, body: str, head: str = "def score(example, completion):") -> Score:
    (folder / "scorer.py").write_text(
        f"from baimo.core.run import Score\n\n{head}\n    {body}\n", encoding="utf-8"
    )
    return judge("python", "a reply", "a reply", folder=folder)


@pytest.mark.parametrize(
    ("body", "lenient", "strict"),
    [
        ("return 1.0", 1, 1),
        ("return example.target == completion.text", 1, 1),
        ("return {'score': 0.5, 'strict': 0.25, 'explanation': 'half', 'hits': 3}", 0.5, 0.25),
        ("return Score.of(0.75)", 0.75, 0.75),
    ],
)
def test_a_script_may_return_a_number_a_bool_a_mapping_or_a_score(
    body: str, lenient: float, strict: float, tmp_path: Path
) -> None:
    score = own(tmp_path, body)
    assert (score.lenient, score.strict) == (lenient, strict)


def test_a_script_may_be_async(tmp_path: Path) -> None:
    assert own(tmp_path, "return 1", "async def score(example, completion):").lenient == 1


@pytest.mark.parametrize(
    "body",
    [
        "return 1 / 0",
        "return 2",
        "return float('nan')",
        "return 'good'",
        "raise SystemError",
        "return {'score': 1, 'hits': {1, 2}}",
        "return {'score': 1, 'loss': float('inf')}",
    ],
)
def test_what_a_script_gets_wrong_leaves_the_cell_unscored(body: str, tmp_path: Path) -> None:
    score = own(tmp_path, body)
    assert (score.outcome, score.lenient) == (Outcome.UNSCORED, None)


def test_an_exception_names_the_line_of_the_script(tmp_path: Path) -> None:
    assert "scorer.py, line 4: ZeroDivisionError" in own(tmp_path, "return 1 / 0").explanation


@pytest.mark.parametrize("source", ["def score(:", "import no_such_module", "x = 1"])
def test_a_script_that_cannot_be_used_is_refused_when_the_scorer_is_built(
    source: str, tmp_path: Path
) -> None:
    (tmp_path / "scorer.py").write_text(source)
    with pytest.raises(TaskError, match=r"scorer\.py"):
        judge("python", "x", folder=tmp_path)
    with pytest.raises(TaskError, match=r"gone\.py"):
        judge("python", "x", folder=tmp_path, file="gone.py")


def checked(reply: str, *asserts: dict[str, Any], **args: Any) -> Score:
    return judge("asserts", reply, example_metadata={"asserts": list(asserts)}, **args)


@pytest.mark.parametrize(
    ("kind", "value", "reply", "threshold"),
    [
        ("equals", "yes", "yes", None),
        ("equals", {"a": 1}, '{"a":1}', None),
        ("contains", "lamp", "the lamp", None),
        ("icontains", "LAMP", "the lamp", None),
        ("contains-any", ["oven", "lamp"], "the lamp", None),
        ("contains-any", "oven, lamp", "the lamp", None),
        ("contains-all", ["the", "lamp"], "the lamp", None),
        ("icontains-any", ["LAMP"], "the lamp", None),
        ("icontains-all", ["LAMP", "THE"], "the lamp", None),
        ("starts-with", "the", "the lamp", None),
        ("regex", r"l\w+p", "the lamp", None),
        ("is-json", None, '{"a": 1}', None),
        ("is-json", {"required": ["a"]}, '{"a": 1}', None),
        ("contains-json", None, 'so: {"a": 1}', None),
        ("levenshtein", "lamp", "lump", 1),
        ("similar", "the red lamp", "red lamp", 0.8),
    ],
)
def test_each_check_holds_and_its_negation_does_not(
    kind: str, value: Any, reply: str, threshold: float | None
) -> None:
    check = {"type": kind, "value": value, "threshold": threshold}
    assert checked(reply, check).lenient == 1
    assert checked(reply, {**check, "type": f"not-{kind}"}).lenient == 0
    assert checked("#", check).lenient == 0


def test_checks_count_together_or_by_weight() -> None:
    checks = ({"type": "contains", "value": "a", "weight": 3}, {"type": "contains", "value": "b"})
    assert checked("a", *checks).outcome is Outcome.WRONG
    score = checked("a", *checks, mode="share")
    assert score.lenient == 0.75
    assert [check["held"] for check in score.details["asserts"]] == [True, False]
    assert "contains b" in score.explanation


@pytest.mark.parametrize(
    "check",
    [
        {"type": "javascript", "value": "1"},
        {"type": "python", "value": "1"},
        {"value": "x"},
        {"type": "regex", "value": "("},
        {"type": "contains"},
        {"type": "contains", "value": "x", "weight": "heavy"},
        {"type": "llm-rubric", "value": "polite"},
    ],
)
def test_a_check_that_cannot_be_made_leaves_the_cell_unscored(check: dict[str, Any]) -> None:
    assert checked("x", {"type": "contains", "value": "x"}, check).outcome is Outcome.UNSCORED


def test_a_rubric_is_put_to_the_judge() -> None:
    ask = ScriptedJudge('{"reasoning": "", "score": 5}')
    assert checked("x", {"type": "llm-rubric", "value": "is polite"}, judge="lab/judge", ask=ask).lenient == 1
    assert "is polite" in str(ask.requests[0].messages[0].content)


def test_without_checks_there_is_nothing_to_score() -> None:
    assert checked("x").outcome is Outcome.UNSCORED


def test_all_takes_the_lowest_and_any_the_highest_score() -> None:
    parts = [{"name": "exact"}, {"name": "contains", "values": ["lamp"]}]
    assert judge("all", "the lamp", "lamp", scorers=parts).lenient == 0
    assert judge("any", "the lamp", "lamp", scorers=parts).lenient == 1
    assert judge("all", "Lamp.", "lamp", scorers=[{"name": "exact"}]).outcome is Outcome.MALFORMED


def test_an_unscored_part_leaves_the_whole_unscored() -> None:
    parts = [{"name": "exact"}, {"name": "numeric"}]
    assert judge("all", "lamp", "lamp", scorers=parts).outcome is Outcome.UNSCORED


def test_a_wrong_part_is_refused_at_once() -> None:
    with pytest.raises(TaskError, match="exact"):
        judge("all", "x", scorers=[{"name": "exakt"}])
