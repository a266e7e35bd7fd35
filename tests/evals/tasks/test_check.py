"""check: what is wrong with a task is found, named with its lines, and nothing else is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from baimo.core.message import Message, Tool
from baimo.core.registry import Spec
from baimo.core.task import Example, Prompt, Task
from baimo.errors import UnknownModel
from baimo.evals.tasks.check import Finding, check, estimated_tokens, script_of

Row = tuple[str, Any]


def _examples(rows: Sequence[Row], **more: Any) -> tuple[Example, ...]:
    return tuple(
        Example(id=f"r{line}", fields={"input": question}, target=target, line=line, file="t.jsonl", **more)
        for line, (question, target) in enumerate(rows, start=1)
    )


def _task(rows: Sequence[Row], scorer: str = "exact", *, train: Sequence[Row] = (), **args: Any) -> Task:
    specs = (Spec(name=scorer, args=args),) if scorer else ()
    return Task(name="t", examples=_examples(rows), scorers=specs, train=_examples(train))


def _found(task: Task, kind: str, **options: Any) -> list[Finding]:
    findings = check(task, **options)
    assert all(finding.detail for finding in findings)
    return [finding for finding in findings if finding.kind == kind]


def _clean(task: Task) -> None:
    assert [finding.kind for finding in check(task) if finding.kind != "few_examples"] == []


def test_a_sound_task_has_no_findings() -> None:
    _clean(_task([("Where is Lima?", "Peru"), ("Where is Oslo?", "Norway"), ("Where is Accra?", "Ghana")]))


def test_duplicates_are_found_whatever_their_case_spacing_and_width() -> None:
    rows = [("Open the  door", "a"), ("open the door.", "a"), ("OPEN THE DOOR", "a"), ("shut it", "b")]
    (finding,) = _found(_task(rows), "duplicate")
    assert (finding.lines, finding.ids, finding.severity) == ((1, 2, 3), ("r1", "r2", "r3"), "warning")


def test_the_same_question_with_two_answers_is_an_error() -> None:
    (finding,) = _found(_task([("打开灯", "on"), ("打开灯", "off"), ("关灯", "off")]), "contradiction")
    assert (finding.lines, finding.severity) == ((1, 2), "error")
    assert "on" in finding.detail and "off" in finding.detail


def test_only_what_the_prompt_shows_makes_two_questions_the_same() -> None:
    one, two = _examples([("Which year?", "1999"), ("Which year?", "2001")])
    task = _task([])
    passages = tuple(replace(e, fields={**e.fields, "passage": p}) for e, p in ((one, "A"), (two, "B")))
    shown = replace(task, examples=passages, prompts=(Prompt(user="{{ passage }} {{ input }}"),))
    assert _found(shown, "contradiction") == []
    assert len(_found(replace(shown, prompts=(Prompt(),)), "contradiction")) == 1


def test_near_duplicates_need_the_same_answer_and_the_same_numbers() -> None:
    text = "please be so kind and set the temperature of the living room to {} degrees{}"
    near = [(text.format(20, ""), "a"), (text.format(20, ", ok"), "a")]
    (finding,) = _found(_task(near), "near_duplicate")
    assert (finding.lines, finding.severity) == ((1, 2), "note")
    assert _found(_task([near[0], (near[1][0], "b")]), "near_duplicate") == []
    assert _found(_task([near[0], (text.format(21, ", ok"), "a")]), "near_duplicate") == []


def test_declared_groups_are_no_near_duplicates() -> None:
    task = _task(
        [("what is the capital city of France", "Paris"), ("what is the capital city of france now", "Paris")]
    )
    grouped = replace(task, examples=tuple(replace(example, group="g") for example in task.examples))
    assert len(_found(task, "near_duplicate")) == 1
    assert _found(grouped, "near_duplicate") == []


def test_leaks_between_the_splits_are_found_once_each() -> None:
    task = _task(
        [
            ("请把客厅的空调温度调高一点点好吗谢谢", "up"),
            ("exactly this one", "x"),
            ("a fresh question", "y"),
        ],
        train=[
            ("请把客厅的空调温度调高一点点好吗", "up"),
            ("Exactly this one!", "x"),
            ("something else entirely", "y"),
        ],
    )
    (near,) = _found(task, "near_leak")
    (exact,) = _found(task, "leak")
    assert (near.lines, exact.lines) == ((1, 1), (2, 2))
    assert [place.split for place in exact.places] == ["test", "train"]
    assert (exact.severity, near.severity) == ("error", "note")


def test_a_group_in_both_splits_is_found() -> None:
    task = _task([("one", "x")], train=[("two", "y")])
    grouped = [tuple(replace(one, group="g") for one in split) for split in (task.examples, task.train)]
    (finding,) = _found(replace(task, examples=grouped[0], train=grouped[1]), "group_leak")
    assert finding.ids == ("r1", "r1")


@pytest.mark.parametrize(
    ("scorer", "args", "good", "bad"),
    [
        ("numeric", {}, ["12", 3, "1,000"], "many apples"),
        ("choice", {"labels": ["yes", "no"]}, ["yes", "No"], "maybe"),
        ("json", {"schema": {"type": "object", "required": ["a"]}}, [{"a": 1}], {"b": 1}),
        ("regex", {}, ["^a+$", ["b", "c"]], "(unclosed"),
        ("tool_calls", {}, [[{"name": "f", "arguments": {}}], []], "f()"),
    ],
)
def test_a_reference_that_its_scorer_cannot_use_is_found(
    scorer: str, args: Any, good: list[Any], bad: Any
) -> None:
    rows = [(f"question {number}", target) for number, target in enumerate([*good, bad])]
    (finding,) = _found(_task(rows, scorer, **args), "unscorable")
    assert (finding.lines, finding.severity, finding.facts["scorer"]) == ((len(rows),), "error", scorer)


def test_a_call_of_a_function_that_is_not_offered_is_found() -> None:
    task = _task([("q", [{"name": "g", "arguments": {}}])], "tool_calls")
    offered = tuple(replace(example, tools=(Tool(name="f"),)) for example in task.examples)
    (finding,) = _found(replace(task, examples=offered), "unscorable")
    assert "g" in finding.detail


def test_broken_assertions_are_found() -> None:
    asserts = [{"type": "regex", "value": "("}, {"type": "is-json", "value": {"type": "objekt"}}]
    example = Example(id="1", fields={"input": "q"}, metadata={"asserts": asserts})
    task = Task(name="t", examples=(example,), scorers=(Spec(name="asserts"),))
    assert len(_found(task, "unscorable")) == 2
    assert _found(task, "no_reference") == []


def test_a_rubric_that_nobody_judges_is_found() -> None:
    rubric = {"type": "not-llm-rubric", "value": "is rude"}
    own = Example(id="1", fields={"input": "q"}, metadata={"asserts": [rubric]})
    bare = Example(id="2", fields={"input": "r"}, metadata={"asserts": [{"type": "equals", "value": "a"}]})
    task = Task(name="t", examples=(own, bare), scorers=(Spec(name="asserts"),))
    (finding,) = _found(task, "unscorable")
    assert (finding.ids, finding.severity) == (("1",), "error") and "judge" in finding.detail
    shared = replace(task, scorers=(Spec(name="asserts", args={"asserts": [rubric]}),))
    assert _found(shared, "unscorable")[0].ids == ("1", "2")
    judged = replace(task, scorers=(Spec(name="asserts", args={"judge": "a/b"}),))
    assert _found(judged, "unscorable") == []


def test_a_scorer_that_does_not_exist_or_takes_no_such_argument_is_found() -> None:
    (finding,) = _found(_task([("q", "1")], "numeric", tolerence=1), "scorer")
    assert finding.severity == "error" and "tolerence" in finding.detail
    assert len(_found(_task([("q", "1")], ""), "no_scorer")) == 1


@pytest.mark.parametrize(
    ("scorer", "args", "named"),
    [
        ("exct", {}, "exact"),
        ("judge", {}, "model"),
        ("judge", {"model": "nosuch/judge"}, "nosuch/judge"),
        ("asserts", {"judge": "nosuch/judge"}, "nosuch/judge"),
        ("grader", {"grader": {"type": "none"}}, "grader"),
        ("all", {"scorers": [{"name": "judge", "model": "nosuch/judge"}]}, "nosuch/judge"),
        ("any", {"scorers": [{"name": "python", "file": "gone.py"}]}, "gone.py"),
        ("python", {}, "scorer.py"),
    ],
)
def test_every_scorer_that_could_not_judge_is_found(
    scorer: str, args: Any, named: str, tmp_path: Path
) -> None:
    def find(model: str) -> None:
        raise UnknownModel("models.unknown", name=model, near="")

    task = replace(_task([("q", "1")], scorer, **args), folder=str(tmp_path))
    (finding,) = _found(task, "scorer", find=find)
    assert finding.severity == "error" and named in finding.detail


def test_a_scorers_code_is_read_and_not_run(tmp_path: Path) -> None:
    task = replace(_task([("q", "1")], "all", scorers=[{"name": "python"}]), folder=str(tmp_path))
    (tmp_path / "scorer.py").write_text("raise SystemExit\n", encoding="utf-8")
    assert _found(task, "scorer") == []
    (tmp_path / "scorer.py").write_text("def score(:\n", encoding="utf-8")
    assert "scorer.py, line 1" in _found(task, "scorer")[0].detail


def test_missing_references_are_errors_unless_a_judge_decides() -> None:
    rows: list[Row] = [("q", None), ("r", "x"), ("s", None)]
    (finding,) = _found(_task(rows), "no_reference")
    assert (finding.lines, finding.severity) == ((1, 3), "error")
    assert _found(_task(rows, "judge", model="a/b"), "no_reference")[0].severity == "note"


def test_a_template_that_some_examples_cannot_fill_is_found_with_their_lines() -> None:
    task = replace(_task([("a", "x"), ("b", "y")]), prompts=(Prompt(user="{{ input }} {{ city }}"),))
    first = replace(task.examples[0], fields={"input": "a", "city": "Rome"})
    (finding,) = _found(replace(task, examples=(first, task.examples[1])), "template")
    assert (finding.lines, finding.severity) == ((2,), "error") and "city" in finding.detail
    broken = replace(task, prompts=(Prompt(user="{{ input "),))
    assert len(_found(broken, "template")) == 1


def test_empty_and_over_long_inputs_are_found() -> None:
    task = _task([(" ", "x"), ("word " * 100, "y"), ("字" * 90, "z")])
    assert _found(task, "empty_input")[0].lines == (1,)
    assert _found(task, "long_input", most_tokens=89)[0].lines == (2, 3)
    assert _found(task, "long_input") == []


def test_one_sided_constant_and_mixed_references_are_found() -> None:
    assert len(_found(_task([("a", "x"), ("b", "x")]), "constant_target")) == 1
    many = [(f"question number {number} of many", "yes" if number % 4 else "no") for number in range(12)]
    assert _found(_task(many), "one_sided")[0].facts == {"label": "yes", "share": 75}
    assert _found(_task([("a", "x"), ("b", {"k": 1}), ("c", "y")]), "mixed_targets")[0].lines == (2,)


def test_a_label_that_train_does_not_show_is_noted() -> None:
    rows = [(f"question number {number}", "abc"[number % 3]) for number in range(12)]
    (finding,) = _found(_task(rows, train=[("t1", "a"), ("t2", "b")]), "unseen_label")
    assert finding.facts["labels"] == "c"


def test_several_scripts_are_noted_unless_the_report_slices_by_language() -> None:
    task = _task([("打开灯", "a"), ("open the window", "b"), ("включи свет", "c")])
    assert "Han 33 %" in _found(task, "languages")[0].detail
    sliced = tuple(replace(example, metadata={"language": "x"}) for example in task.examples)
    assert _found(replace(task, examples=sliced), "languages") == []


def test_conversations_are_compared_by_what_is_said() -> None:
    asked = (Message(role="user", content="Hello there"),)
    one = Example(id="1", fields={}, messages=asked, target="a")
    task = Task(name="t", examples=(one, replace(one, id="2")), scorers=(Spec(name="exact"),))
    assert _found(task, "duplicate")[0].ids == ("1", "2")


def test_errors_come_first() -> None:
    order = ["error", "warning", "note"]
    findings = check(_task([("a", "x"), ("a", "x"), ("b", None)]))
    assert [order.index(finding.severity) for finding in findings] == sorted(
        order.index(f.severity) for f in findings
    )


@pytest.mark.parametrize(
    ("words", "script"),
    [
        ("你好", "Han"),
        ("こんにちは世界", "Kana"),
        ("안녕", "Hangul"),
        ("naïve", "Latin"),
        ("привет", "Cyrillic"),
        ("42!", ""),
    ],
)
def test_scripts_are_told_apart(words: str, script: str) -> None:
    assert script_of(words) == script


def test_tokens_are_estimated_by_script() -> None:
    assert (
        estimated_tokens(""),
        estimated_tokens("abcde"),
        estimated_tokens("你好吗"),
        estimated_tokens("你ab"),
    ) == (0, 2, 3, 2)
