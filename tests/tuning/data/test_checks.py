"""Every finding names its rows by file and line and says what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from baimo.core.message import Part, ToolCall
from baimo.core.tuning import Row
from baimo.errors import DataError
from baimo.tuning.data.checks import FEW, Report, check
from baimo.tuning.data.finding import Aids, Finding
from baimo.tuning.data.structure import SEVERITY, faults, use_of
from tests.tuning.data.rows import alike, calling, row, said

CALL = ToolCall(id="c1", name="f", arguments="{}")
RESULT = said("tool", "4", tool_call_id="c1")
ASKED = said("user", "hello")


def of(report: Report, kind: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.kind == kind]


def lines(findings: Sequence[Finding]) -> list[list[int | None]]:
    return [[spot.line for spot in finding.spots] for finding in findings]


def numbered(*rows: Row) -> list[Row]:
    return [replace(one, line=number) for number, one in enumerate(rows, 1)]


def turns(*messages: Any, **more: Any) -> Row:
    return Row(messages=messages, file="f", line=1, **more)


FAULTY: Mapping[str, Row] = {
    "no_answer": turns(ASKED),
    "nothing_learnt": row(trained=()),
    "empty_answer": row(answer=" "),
    "empty_row": Row(file="f", line=1),
    "same_endings": row(rejected=(said("assistant", "hi "),)),
    "unasked": turns(ASKED, replace(RESULT, tool_call_id="c9"), said("assistant", "4")),
    "unanswered_call": turns(ASKED, said("assistant", tool_calls=(CALL,)), said("assistant", "4")),
    "twice_called": turns(ASKED, said("assistant", tool_calls=(CALL, CALL))),
    "bad_arguments": calling("{"),
    "unknown_function": calling(name="g"),
    "unsuited": Row(text="some words", file="f", line=1),
    "empty_turn": row(question=""),
    "late_system": turns(ASKED, said("system", "be brief"), said("assistant", "hi")),
    "trailing": turns(ASKED, said("assistant", "hi"), ASKED),
    "no_question": turns(said("assistant", "hi")),
    "not_text": turns(said("user", (Part(kind="image_url", data="x"),)), said("assistant", "a cat")),  # type: ignore[arg-type]
    "no_tools": calling(offered=()),
    "in_a_row": turns(ASKED, ASKED, said("assistant", "hi")),
}


def test_there_is_a_faulty_row_for_every_kind_of_fault() -> None:
    assert set(FAULTY) == set(SEVERITY)


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("kind", FAULTY)
def test_a_faulty_row_is_named_by_its_line_and_says_what_to_do(
    kind: str, lang: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAIMO_LANG", lang)
    report = check(numbered(row(), FAULTY[kind]), Aids(use="sft"))
    (finding,) = of(report, kind)
    assert (finding.severity, lines([finding])) == (SEVERITY[kind], [[2]])
    assert finding.detail
    assert finding.advice
    assert str(finding.spots[0]).startswith("f:2")


@pytest.mark.parametrize(
    "whole",
    [
        row(system="be brief"),
        turns(
            ASKED,
            said("assistant", tool_calls=(CALL,)),
            RESULT,
            said("assistant", "4"),
            tools=calling().tools,
        ),
        calling('{"a": 1}'),
        turns(ASKED, said("assistant", ""), said("user", "?"), said("assistant", "yes"), trained=(3,)),
        row(rejected=(said("assistant", "no"),)),
    ],
)
def test_a_whole_row_has_no_error(whole: Row) -> None:
    assert not [one for one in faults(whole, use_of([whole])) if SEVERITY[one.kind] == "error"]


def test_what_rows_are_for_is_told_by_most_of_them() -> None:
    pair = row(rejected=(said("assistant", "no"),))
    for some, use in ((row(), "sft"), (pair, "dpo"), (turns(ASKED), "grpo"), (Row(text="x"), "cpt")):
        assert use_of([some, some, row()]) == use
    assert check([turns(ASKED)]).errors == 0
    assert [
        finding.kind for finding in check([pair, pair, row()]).findings if finding.severity == "error"
    ] == ["unsuited"]


def test_over_long_rows_are_told_with_their_token_count() -> None:
    rows = numbered(row("a"), row("a b c d"), row("a b c"))
    report = check(rows, Aids(count=lambda one: len(str(one.messages[0].content).split()), longest=3))
    (finding,) = of(report, "long")
    assert (lines([finding]), finding.facts["tokens"]) == ([[2]], 4)
    assert "4" in finding.detail
    assert (report.tokens, report.longest) == (8, 4)
    assert check(rows).tokens is None


def test_repeats_near_repeats_and_contradictions_are_told_apart() -> None:
    rows = numbered(
        row("Turn on the kitchen light please", "on"),
        row("Turn on the kitchen light please", "on"),
        row("turn on the kitchen light, please!", "on"),
        row("Turn off the kitchen light please", "off"),
        row("turn on the kitchen light please", "dim"),
        row("Set the light to 30 percent now", "30"),
        row("Set the light to 40 percent now", "30"),
    )
    report = check(rows, Aids(near=alike))
    assert lines(of(report, "duplicate")) == [[1, 2]]
    assert lines(of(report, "contradiction")) == [[1, 2, 5]]
    assert lines(of(report, "near_duplicate")) == [[1, 3]]
    assert of(check(rows), "near_duplicate") == []


def test_rows_with_other_prompts_or_tools_do_not_repeat_each_other() -> None:
    rows = [row(system="a"), row(system="b"), row(system="a", tools=calling().tools)]
    assert {finding.kind for finding in check(rows, Aids(near=alike)).findings} == {"few"}


def test_answers_to_reward_rows_are_what_graders_compare_with() -> None:
    rows = [
        turns(ASKED, item={"id": number, "reference": reference}) for number, reference in enumerate("aab")
    ]
    kinds = [finding.kind for finding in check(rows).findings]
    assert kinds.count("duplicate") == 1
    assert kinds.count("contradiction") == 1


def test_held_out_questions_are_found_asked_nearly_asked_and_inside_longer_texts() -> None:
    rows = numbered(
        row("What does the annual travel policy of this house cover?"),
        row("context … what does the annual travel policy of this house cover? … end"),
        row("What would the annual travel policy of this house cover"),
        row("Something else, and how much it is"),
    )
    aids = Aids(held_out=["what does the ANNUAL travel policy of this house cover", "how much"], near=alike)
    report = check(rows, aids)
    kinds = ("same", "inside", "near")
    assert [lines(of(report, f"leak_{kind}")) for kind in kinds] == [[[1]], [[2]], [[3]]]
    assert {finding.severity for finding in of(report, "leak_same")} == {"error"}
    texts = [
        Row(text=f"page {number}. " + one.messages[0].content, line=number) for number, one in enumerate(rows)
    ]  # type: ignore[operator]
    assert of(check(texts, aids), "leak_inside")


def test_languages_are_counted_and_strays_told() -> None:
    rows = numbered(
        *[row(f"请打开第{number}盏灯") for number in range(98)], row("Please turn on the light"), row("是")
    )
    report = check(rows)
    assert (report.languages["zh"], report.languages["en"]) == (99, 1)
    assert lines(of(report, "stray")) == [[99]]
    assert lines(of(check(rows, Aids(languages=["zh"])), "language")) == [[99]]


def test_personal_data_is_told_by_kind_and_never_shown() -> None:
    rows = numbered(
        row(), row("write to li.wei@example.com and wang@example.com"), row(system="call +1 415 555 2671")
    )
    report = check(rows)
    found = {str(finding.facts["name"]): finding for finding in of(report, "personal")}
    assert (lines([found["email"]]), found["email"].facts["times"]) == ([[2]], 2)
    assert lines([found["phone"]]) == [[3]]
    assert "li.wei" not in str(report.plain())


def test_unwanted_words_stand_alone_in_scripts_with_spaces() -> None:
    rows = numbered(row("what a DAMN thing"), row("the damned"), row("这个笨蛋机器"))
    found = of(check(rows, Aids(words=["damn", "笨蛋"])), "unwanted")
    assert {str(finding.facts["name"]): lines([finding])[0] for finding in found} == {
        "damn": [1],
        "笨蛋": [3],
    }


def test_lines_that_cannot_be_read_and_parts_left_out_are_findings() -> None:
    problems = [DataError("data.bad_json", path="x", line=line, problem="p") for line in (3, 9)]
    report = check([row()], problems=problems, left={"audio": 2})
    assert lines(of(report, "unreadable")) == [[3, 9]]
    assert report.errors == 1
    assert of(report, "left")[0].facts == {"name": "audio", "times": 2}


def test_errors_come_first_and_few_rows_are_a_note() -> None:
    report = check([row(answer=""), *(row(str(number)) for number in range(FEW - 1))])
    assert report.findings[0].severity == "error"
    assert of(report, "few") == []
    assert of(check([row()]), "few")
    assert check([]).findings == ()


def test_a_report_is_json_ready() -> None:
    import json

    shown = json.loads(json.dumps(check(list(FAULTY.values()), Aids(near=alike)).plain()))
    assert shown["errors"] == sum(one["severity"] == "error" for one in shown["findings"])
    assert all(one["detail"] and one["advice"] for one in shown["findings"])
