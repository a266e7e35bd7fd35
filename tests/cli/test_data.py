"""`baimo data`: findings with their lines, files without what was taken out, and exit codes to rely on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from baimo.cli import data
from baimo.store.votes import Votes
from baimo.tuning.data.clean import STEPS, USUAL
from baimo.tuning.data.formats import NAMES
from baimo.workspace.workspace import Workspace
from tests.cli.runner import baimo, has_chinese
from tests.tuning.data.rows import file_of


def pair(question: str, answer: str = "yes") -> dict[str, Any]:
    return {"prompt": question, "completion": answer}


def written(*lines: Any, name: str = "rows.jsonl") -> str:
    return str(file_of(Path(), *lines, name=name))


def read(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def test_the_names_in_the_help_are_those_that_there_are() -> None:
    assert data.FORMATS.split(", ") == list(NAMES)
    assert data.STEPS.split(", ") == list(STEPS)
    assert data.USUAL.split(",") == list(USUAL)


def test_a_check_names_file_line_and_advice_and_ends_with_one(folder: Path, lang: str) -> None:
    ended = baimo("data", "check", written(pair("a"), pair("b", ""), "{"))
    assert ended.code == 1
    for place in ("rows.jsonl:2", "rows.jsonl:3", "drop_empty"):
        assert place in ended.out
    assert has_chinese(ended.out) == (lang == "zh")


def test_a_check_without_errors_ends_with_zero(folder: Path) -> None:
    ended = baimo(
        "data",
        "check",
        written(*(pair(f"what is the number {number}?", str(number)) for number in range(60))),
    )
    assert (ended.code, ended.out) == (0, "60 rows for sft; en 60\n")
    assert "nothing to complain about" in ended.err


def test_a_check_is_json_and_nothing_else(folder: Path) -> None:
    ended = baimo("data", "check", written(pair("a"), pair("a"), pair("b", "")), "--json")
    assert (ended.code, ended.err) == (1, "")
    assert (ended.data["rows"], ended.data["errors"]) == (3, 1)
    found = {one["kind"]: one for one in ended.data["findings"]}
    assert found["duplicate"]["places"][1] == {"file": "rows.jsonl", "line": 2, "turn": None}
    assert found["empty_answer"]["places"] == [{"file": "rows.jsonl", "line": 3, "turn": 2}]


def test_many_findings_of_a_kind_are_cut_short_and_counted(folder: Path) -> None:
    rows = [pair(f"{number}{letter}" * 4) for number in range(20) for letter in "aa"]
    ended = baimo("data", "check", written(*rows), "--no-near")
    assert ended.out.count("rows teach the same") == data.SHOWN
    assert "12" in ended.out.splitlines()[-1]


def test_cleaning_writes_the_rest_and_tells_each_step(folder: Path) -> None:
    source = written(pair("mail li.wei@example.com"), pair("a"), pair("a"), pair("b", ""))
    steps = "drop_duplicates, mask_pii,drop_empty"
    ended = baimo("data", "clean", source, "-o", "out/clean.jsonl", "--steps", steps)
    assert (ended.code, ended.out) == (0, "out/clean.jsonl\n")
    assert "drop_duplicates: 1 removed, 0 changed, 2 left" in ended.err
    turns = [row["messages"][0]["content"] for row in read("out/clean.jsonl")]
    assert turns == ["mail <EMAIL_1>", "a"]
    again = baimo("data", "clean", "out/clean.jsonl", "-o", "again.jsonl", "--json")
    (made,) = again.data
    assert [step["step"] for step in made["steps"][:3]] == ["mask_pii", "drop_empty", "drop_duplicates"]
    assert read("again.jsonl") == read("out/clean.jsonl")


def test_splitting_writes_both_sides(folder: Path) -> None:
    rows = [{**pair(f"q{number}"), "group": f"g{number // 2}"} for number in range(20)]
    ended = baimo("data", "split", written(*rows), "--valid", "0.2", "-o", "parts", "--no-near", "--json")
    train, valid = ended.data
    assert (train["rows"], valid["rows"]) == (16, 4)
    sides = [{row["group"] for row in read(made["path"])} for made in (train, valid)]
    assert not sides[0] & sides[1]


def test_collecting_where_nothing_is_kept_writes_nothing_and_says_how_to_keep(folder: Path) -> None:
    ended = baimo("data", "collect", "-o", "kept.jsonl")
    assert (ended.code, ended.out) == (2, "") and "--keep-contents on" in ended.err
    assert not Path("kept.jsonl").exists()


def test_votes_are_collected_as_preferences_and_what_they_do_not_have_is_refused(folder: Path) -> None:
    with Workspace() as workspace:
        votes = Votes(workspace.store.database)
        for choice, words in (("A", True), ("tie", True), ("B", False)):
            begun = votes.begin("", "mine", ("acme/a", "acme/b"))
            for one in begun.answers:
                kept: dict[str, Any] = {"asked": b'[{"role":"user","content":"Which?"}]', "answer": one.place}
                votes.answered(begun, one.place, "rec_1", **(kept if words else {}))
            votes.cast("", "mine", begun.id, choice)
    ended = baimo("data", "collect", "--votes", "-o", "votes.jsonl")
    assert (ended.code, ended.out) == (0, "votes.jsonl\n")
    assert "nobody was preferred" in ended.err and "not kept" in ended.err
    (row,) = read("votes.jsonl")
    assert row["preferred_output"][0]["content"] == "A" and row["non_preferred_output"][0]["content"] == "B"
    assert baimo("data", "check", "votes.jsonl", "--use", "dpo", "--json").data["use"] == "dpo"
    old = baimo("data", "collect", "--votes", "--until", "2020-01-01", "-o", "old.jsonl")
    assert old.code == 2 and "no vote" in old.err and not Path("old.jsonl").exists()
    refused = baimo("data", "collect", "--votes", "--surface", "chat", "-o", "x.jsonl")
    assert refused.code == 2 and "--surface" in refused.err


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("check",), "FILE"),
        (("check", "gone.jsonl"), "gone.jsonl"),
        (("check", "rows.jsonl", "--format", "sharegtp"), "sharegpt"),
        (("check", "rows.jsonl", "--use", "rlhf"), "grpo"),
        (("check", "rows.jsonl", "--task", "gone"), "gone"),
        (("check", "rows.jsonl", "--model", "openai/gpt-4o"), "openai/gpt-4o"),
        (("check", "rows.jsonl", "--input", "gone"), "gone"),
        (("clean", "rows.jsonl"), "--output"),
        (("clean", "rows.jsonl", "-o", "rows.jsonl"), "--force"),
        (("clean", "rows.jsonl", "-o", "x.jsonl", "--steps", "drop_dupes"), "drop_duplicates"),
        (("clean", "rows.jsonl", "-o", "x.jsonl", "--steps", "drop_too_long"), "--model"),
        (("clean", "broken.jsonl", "-o", "x.jsonl"), "--skip-unreadable"),
        (("split", "rows.jsonl", "-o", "x", "--valid", "2"), "--valid"),
        (("split", "rows.jsonl", "-o", "x", "--valid", "much"), "much"),
        (("split", "one.jsonl", "-o", "x"), "1"),
        (("collect", "-o", "x.jsonl", "--key", "nobody"), "nobody"),
        (("collect", "-o", "x.jsonl", "--since", "yesterdayish"), "yesterdayish"),
        (("chekc", "x"), "check"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_is_named_and_says_what_to_do(
    arguments: tuple[str, ...], names: str, folder: Path, lang: str
) -> None:
    written(pair("a"), pair("b"))
    written(pair("a"), name="one.jsonl")
    written(pair("a"), "{", name="broken.jsonl")
    ended = baimo("data", *arguments)
    if arguments[-1] == "gone" and "--input" in arguments:
        assert ended.code == 1  # a finding: the file itself can be read
        assert names in ended.out
        return
    assert (ended.code, ended.out) == (2, "")
    assert names in ended.err
    assert "Traceback" not in ended.err
    assert has_chinese(ended.err) == (lang == "zh")
