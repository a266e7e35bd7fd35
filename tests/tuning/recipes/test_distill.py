"""The recipe `distill`: who may teach, which answers are kept, and what they cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from baimo.core.call import Completion, Request, Usage
from baimo.core.message import Message
from baimo.core.model import Model
from baimo.core.money import Price
from baimo.core.registry import Spec
from baimo.core.tuning import Row, TuneSpec
from baimo.errors import ScorerError, UsageError
from baimo.models.terms import Terms, Training
from baimo.tuning.bench import Bench, Facts
from baimo.tuning.folder import JobFolder
from baimo.tuning.recipes.distill import Settings, folded, planned, run
from baimo.tuning.teaching import Teacher, permitted

PRICE = Price(input_per_million=Decimal(1), output_per_million=Decimal(2))
RIGHT = Settings(teacher="big/teacher")


@dataclass
class Scripted:
    """A teacher that says what a script says; counts."""

    script: Callable[[str, int], str | Completion]
    asked: list[Request] = field(default_factory=list[Request])

    async def ask(self, request: Request) -> Completion:
        self.asked.append(request)
        said = self.script(str(request.messages[-1].content), request.repeat)
        if isinstance(said, Completion):
            return said
        return Completion(text=said, usage=Usage(tokens_in=10, tokens_out=5), finish_reason="stop")


def teacher(training: Training = "allowed", **facts: Any) -> Teacher:
    model = Model(name="big/teacher", vendor="big", upstream="teacher", price=PRICE)
    terms = Terms(training=training, note="said so", source="https://example.org", as_of="2026-01-01")
    return Teacher(model=model, inside=facts.pop("inside", False), terms=terms, **facts)


def questions(count: int) -> list[Row]:
    """Sums, with the right answer beside them, and with a wrong one as the row's own."""
    return [
        Row(
            messages=(
                Message(role="system", content="Add."),
                Message(role="user", content=f"{number}+1"),
                Message(role="assistant", content="?"),
            ),
            item={"id": str(number), "target": str(number + 1)},
        )
        for number in range(count)
    ]


def by_target(row: Row, said: str) -> float:
    return float(said == row.item["target"])


def bench(path: Path, scripted: Scripted, rows: list[Row], **more: Any) -> Bench:
    folder = JobFolder(path)
    folder.write(TuneSpec(id="ftjob-1", recipe=Spec(name="distill"), base="small/one"), rows)
    rewards = more.pop("rewards", {"task": by_target})
    lent = more.pop("teacher", teacher())
    return Bench(
        folder=folder, base=path, ask=scripted.ask, rewards=rewards, teachers=lambda name: lent, **more
    )


class Student:
    """Learns nothing, and remembers what it was to learn."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.given: Mapping[str, Any] = {}

    def __call__(self, bench: Bench, given: Mapping[str, Any]) -> None:
        self.rows, self.given = bench.folder.train(), given
        bench.folder.result(lambda at: (at / "weights").write_bytes(b"w"))
        bench.folder.tell("done")


def figures(at: Bench) -> dict[str, Any]:
    return json.loads((at.folder.adapter / "result.json").read_bytes())


def said(rows: list[Row]) -> list[str]:
    return [str(row.messages[-1].content) for row in rows]


def right(question: str, sample: int) -> str:
    return str(int(question.split("+")[0]) + 1)


def test_the_student_learns_the_right_answers_and_nothing_else(tmp_path: Path) -> None:
    scripted = Scripted(lambda question, sample: right(question, 0) if question[0] != "3" else "wrong")
    student = Student()
    made = bench(tmp_path, scripted, questions(5))
    run(made, RIGHT, student)
    assert said(student.rows) == ["1", "2", "3", "5"]
    assert [message.role for message in student.rows[0].messages] == ["system", "user", "assistant"]
    assert all(message.role != "assistant" for request in scripted.asked for message in request.messages)
    found = figures(made)
    assert (found["kept"], found["left_out"], found["score"]["mean"]) == (4, {"wrong": 1}, 0.8)
    assert (found["calls"], found["cost_micros"], found["cost_per_kept_micros"]) == (5, 100, 25)
    assert (made.folder.adapter / "weights").exists()


def test_the_teacher_is_let_go_before_the_student_learns(tmp_path: Path) -> None:
    order: list[str] = []
    scripted = Scripted(lambda question, sample: order.append("asked") or right(question, sample))
    made = replace(bench(tmp_path, scripted, questions(2)), rest=lambda: order.append("let go"))

    def student(bench: Bench, given: Mapping[str, Any]) -> None:
        order.append("learns")

    run(made, RIGHT, student)
    assert order == ["asked", "asked", "let go", "learns"]


def test_without_a_scorer_enough_answers_must_agree(tmp_path: Path) -> None:
    replies = {"0+1": ["1", " 1 ", "one"], "1+1": ["2", "3", "4"], "2+1": ["3", "3", "3"]}
    scripted = Scripted(lambda question, sample: replies[question][sample])
    student = Student()
    made = bench(tmp_path, scripted, questions(3), rewards={})
    run(made, Settings(teacher="big/teacher", samples=3, temperature=0.8, agreement=0.6), student)
    assert said(student.rows) == ["1", "3"]
    assert figures(made)["left_out"] == {"disagreed": 4}
    assert figures(made)["score"] is None


def test_answers_that_are_cut_off_empty_or_of_another_form_are_not_kept(tmp_path: Path) -> None:
    cut = Completion(text='{"a": 1', finish_reason="length", usage=Usage(tokens_in=1, tokens_out=1))
    replies: list[str | Completion] = [cut, "", "not json", '{"a": 1}']
    scripted = Scripted(lambda question, sample: replies[int(question[0])])
    student = Student()
    made = bench(tmp_path, scripted, questions(4), rewards={})
    run(made, Settings(teacher="big/teacher", form="json"), student)
    assert said(student.rows) == ['{"a": 1}']
    assert figures(made)["left_out"] == {"cut": 1, "empty": 1, "form": 1}
    assert all(request.response_format is not None for request in scripted.asked)


def test_several_good_answers_are_kept_if_they_differ(tmp_path: Path) -> None:
    scripted = Scripted(lambda question, sample: ["yes", "YES ", "it is so", "no"][sample])
    rewards = {"task": lambda row, said: 0.0 if said == "no" else 0.9}
    student = Student()
    made = bench(tmp_path, scripted, questions(1), rewards=rewards)
    run(made, Settings(teacher="big/teacher", samples=4, keep=3, accept=0.5), student)
    assert said(student.rows) == ["yes", "it is so"]


def test_the_teacher_may_see_an_instruction_that_the_student_never_does(tmp_path: Path) -> None:
    scripted = Scripted(right)
    student = Student()
    run(
        bench(tmp_path, scripted, questions(2)),
        Settings(teacher="big/teacher", instruction="Think first."),
        student,
    )
    assert [str(request.messages[0].content) for request in scripted.asked] == ["Think first."] * 2
    assert [str(row.messages[0].content) for row in student.rows] == ["Add."] * 2


def test_what_the_scorer_cannot_judge_is_neither_right_nor_wrong(tmp_path: Path) -> None:
    def judge(row: Row, answer: str) -> float:
        if answer == "1":
            raise ScorerError("tune.no_reward", scorer="s", reason="no reference")
        return 1.0

    student = Student()
    made = bench(tmp_path, Scripted(right), questions(2), rewards={"task": judge})
    run(made, RIGHT, student)
    assert figures(made)["left_out"] == {"unjudged": 1}
    assert figures(made)["score"]["units"] == 1


def test_calls_and_money_end_the_asking_and_what_is_kept_is_learnt(tmp_path: Path) -> None:
    for number, settings in enumerate(
        (
            Settings(teacher="big/teacher", calls=7, at_once=2),
            Settings(teacher="big/teacher", max_cost=0.00012, at_once=2),
        )
    ):
        scripted, student = Scripted(right), Student()
        made = bench(tmp_path / str(number), scripted, questions(20))
        run(made, settings, student)
        assert 6 <= len(scripted.asked) <= 8
        assert len(student.rows) == len(scripted.asked)
        codes = [event.get("code") for _, event in made.folder.events() if event["kind"] == "notice"]
        assert codes == [f"out_of_{'calls' if number == 0 else 'money'}", "kept"]


def test_a_killed_job_asks_no_question_twice(tmp_path: Path) -> None:
    def broken(question: str, sample: int) -> str:
        if question == "9+1":
            raise KeyboardInterrupt
        return right(question, sample)

    rows = questions(12)
    first = Scripted(broken)
    with pytest.raises(KeyboardInterrupt):
        run(bench(tmp_path, first, rows), replace_settings(at_once=1), Student())
    second, student = Scripted(right), Student()
    run(bench(tmp_path, second, rows), replace_settings(at_once=1), student)
    assert len(student.rows) == 12
    assert len(second.asked) <= 12 - 8
    third = Scripted(right)
    run(bench(tmp_path, third, rows), replace_settings(at_once=1), student)
    assert third.asked == []  # it was the student that was killed


def replace_settings(**changes: Any) -> Settings:
    return Settings(**{"teacher": "big/teacher", **changes})


def test_a_wish_is_heard_between_questions(tmp_path: Path) -> None:
    scripted, student = Scripted(right), Student()
    made = bench(tmp_path, scripted, questions(5))
    made.folder.wish("cancel")
    run(made, RIGHT, student)
    assert (scripted.asked, student.rows) == ([], [])
    assert [event["kind"] for _, event in made.folder.events()][-1] == "cancelled"


@pytest.mark.parametrize(
    ("who", "key"),
    [
        (teacher(data_class="confidential"), "distill.confidential"),
        (teacher(outside="deny"), "distill.policy"),
        (teacher(outside="public_only"), "distill.policy"),
        (teacher("competing"), "distill.terms_competing"),
        (teacher("forbidden"), "distill.terms_forbidden"),
        (teacher("unknown"), "distill.terms_unknown"),
    ],
)
def test_a_teacher_that_may_not_teach_is_never_asked(tmp_path: Path, who: Teacher, key: str) -> None:
    scripted = Scripted(right)
    with pytest.raises(UsageError) as caught:
        run(bench(tmp_path, scripted, questions(2), teacher=who), RIGHT, Student())
    assert caught.value.key == key
    assert "big/teacher" in str(caught.value)
    assert caught.value.hint
    assert scripted.asked == []


@pytest.mark.parametrize("training", ["competing", "forbidden", "unknown"])
def test_who_has_read_the_terms_may_accept_them_but_not_the_policy(training: Training) -> None:
    permitted(teacher(training), accept_terms=True)
    with pytest.raises(UsageError):
        permitted(teacher(training, data_class="confidential"), accept_terms=True)


def test_inside_the_walls_confidential_work_may_be_taught() -> None:
    permitted(teacher(inside=True, data_class="confidential", outside="deny"), accept_terms=False)
    permitted(teacher("conditions"), accept_terms=False)
    permitted(teacher(outside="public_only", data_class="public"), accept_terms=False)


def test_conditions_of_the_teacher_are_told_and_kept_with_the_result(tmp_path: Path) -> None:
    made = bench(tmp_path, Scripted(right), questions(2), teacher=teacher("conditions"))
    run(made, RIGHT, Student())
    assert any(
        event.get("code") == "terms" and "said so" in event["message"] for _, event in made.folder.events()
    )
    assert figures(made)["terms"]["source"] == "https://example.org"


def test_when_nothing_is_kept_the_reasons_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="3 below the least score"):
        run(bench(tmp_path, Scripted(lambda *_: "wrong"), questions(3)), RIGHT, Student())
    with pytest.raises(UsageError, match="needs a teacher"):
        run(bench(tmp_path / "other", Scripted(right), questions(3)), Settings(), Student())


def test_the_dial_decides_how_often_each_question_is_asked() -> None:
    facts = Facts(rows=100, tokens=0, longest=0)
    small, large = planned("small", facts, {"teacher": "a/b"}), planned("large", facts, {})
    assert (small.samples, small.temperature, small.calls) == (1, 0.0, 100)
    assert large.samples > 1 and large.temperature > 0 and large.calls == 100 * large.samples
    assert planned("small", facts, {"samples": 5}).temperature > 0


def test_answers_that_say_the_same_are_one() -> None:
    assert folded('{"a": 1, "b": 2}') == folded('{ "b":2, "a":1 }')
    assert folded("Yes,  it is") == folded("yes, it IS\n")
    assert folded('"1"') != folded("1")


def test_the_student_is_tuned_for_real(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from tests.tuning.base import tiny_base

    base = tiny_base(tmp_path / "base")
    made = replace(
        bench(tmp_path / "job", Scripted(right), questions(8)), base=base, device="cpu", cache=tmp_path / "c"
    )
    run(made, replace_settings(student={"max_steps": 2, "n_epochs": 1.0, "precision": "f32"}))
    assert (made.folder.adapter / "adapter_config.json").is_file()
    assert figures(made)["kept"] == 8
    assert [event["kind"] for _, event in made.folder.events()][-1] == "done"
