"""What is written is read back as the same rows, and OpenAI's own rules have nothing against it."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.message import Part, Tool, ToolCall
from baimo.core.tuning import Row
from baimo.errors import DataError
from baimo.tuning.data import lineage
from baimo.tuning.data.export import openai_row, write
from baimo.tuning.data.formats import read
from baimo.tuning.data.openai import file_faults
from tests.tuning.data.rows import calling, row, said

CALL = ToolCall(id="c1", name="f", arguments='{"a": 1}')
TALK = (
    said("system", "s"),
    said("user", "q"),
    said("assistant", tool_calls=(CALL,)),
    said("tool", "4", tool_call_id="c1"),
    said("assistant", "a"),
)
TOOL = Tool(name="f", description="d", parameters={"type": "object"}, strict=True)
SEEN = said("user", (Part(kind="text", data="x"), Part(kind="image_url", data="data:y")))  # type: ignore[arg-type]
LATER = (*TALK, said("user", "and?"), said("assistant", "b"))
EVERY = [
    row(),
    Row(messages=TALK, trained=(4,), tools=(TOOL,), group="g"),
    Row(messages=TALK[:2], item={"reference": [1, {"a": None}]}),
    replace(row(), rejected=(said("assistant", "no"),)),
    Row(messages=LATER, trained=(6,), rejected=(said("assistant", "c"),), tools=(TOOL,)),
    Row(text="once upon a time", group="book"),
    Row(messages=(SEEN, said("assistant", "z"))),
    calling("{broken"),
]


def bare(one: Row) -> Row:
    return replace(one, line=None, file="")


@pytest.mark.parametrize("one", EVERY)
def test_a_row_is_read_back_as_it_was(one: Row, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    assert write(path, [one]) == 1
    assert [bare(made) for made in read(path).rows] == [bare(one)]


def test_what_openai_knows_is_written_as_openai_takes_it(tmp_path: Path) -> None:
    plain, pair = replace(EVERY[1], group=None), EVERY[3]
    for method, one in (("supervised", plain), ("dpo", pair), ("reinforcement", EVERY[2])):
        path = tmp_path / f"{method}.jsonl"
        write(path, [one] * 10)
        assert file_faults(path, method) == []  # type: ignore[arg-type]


def test_calls_without_words_have_null_content() -> None:
    assert openai_row(calling())["messages"][1]["content"] is None


words = st.text(max_size=10)
answers = st.builds(lambda content: said("assistant", content), words)
rows = st.builds(row, words, words, group=st.none() | st.just("g"), rejected=st.just(()) | st.tuples(answers))


def test_rows_of_several_kinds_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    write(path, EVERY)
    assert [bare(made) for made in read(path).rows] == [bare(one) for one in EVERY]


@given(st.lists(rows, min_size=1, max_size=5))
def test_any_text_survives(some: list[Row]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.jsonl"
        write(path, some)
        assert [bare(made) for made in read(path).rows] == [bare(one) for one in some]


def test_an_existing_file_is_replaced_on_purpose_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.jsonl"
    write(path, [row("a")])
    with pytest.raises(DataError, match="exists"):
        write(path, [row("b")])
    write(path, [row("b")], force=True)
    assert "b" in path.read_text(encoding="utf-8")
    assert [one.name for one in path.parent.iterdir()] == ["out.jsonl"]
    with pytest.raises(DataError, match="written"):
        write(path / "under-a-file.jsonl", [row()], force=True)


def test_steps_are_known_as_long_as_the_file_is_as_they_left_it(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    write(path, [row()])
    assert lineage.noted(path) == ()
    lineage.note(path, [{"step": "trim", "removed": 0}])
    assert lineage.noted(path) == ({"step": "trim", "removed": 0},)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(openai_row(row("more"))) + "\n")
    assert lineage.noted(path) == ()
    assert lineage.noted(tmp_path / "none") == ()
