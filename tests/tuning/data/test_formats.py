"""Files of every format become Rows; what cannot be read is named with its line, and the rest is read."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.message import Tool
from baimo.core.tuning import Row
from baimo.errors import DataError, MissingExtra, UsageError
from baimo.tuning.data.formats import FORMATS, PIECE, Columns, read
from tests.tuning.data.rows import file_of, said

ASKED = {"role": "user", "content": "2 + 2?"}
ANSWERED = {"role": "assistant", "content": "4"}
TURNS = (said("user", "2 + 2?"), said("assistant", "4"))
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
TOOL = {
    "type": "function",
    "function": {"name": "add", "description": "sum", "parameters": {"type": "object"}},
}


def only(folder: Path, record: Any, **options: Any) -> Row:
    """The one row of a file with one record."""
    reading = read(file_of(folder, record), **options)
    assert reading.problems == []
    (made,) = reading.rows
    assert (made.line, made.file) == (1, str(folder / "rows.jsonl"))
    return made


@pytest.mark.parametrize(
    ("format", "record"),
    [
        ("chat", {"messages": [ASKED, ANSWERED]}),
        ("pairs", {"prompt": "2 + 2?", "completion": "4"}),
        ("pairs", {"prompt": [ASKED], "completion": [ANSWERED]}),
        ("pairs", {"question": "2 + 2?", "answer": "4"}),
        (
            "sharegpt",
            {"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]},
        ),
        ("alpaca", {"instruction": "2 + 2?", "input": "", "output": "4"}),
        ("alpaca", {"instruction": "2 + 2?", "output": 4}),
    ],
)
def test_a_question_and_its_answer_are_the_same_row_in_every_format(
    format: str, record: Any, tmp_path: Path
) -> None:
    assert read(file_of(tmp_path, record)).format == format
    made = only(tmp_path, record)
    assert (made.messages, made.trained, made.item) == (TURNS, None, {})


@pytest.mark.parametrize(
    "record",
    [
        {
            "input": {"messages": [ASKED]},
            "preferred_output": [ANSWERED],
            "non_preferred_output": [{**ANSWERED, "content": "5"}],
        },
        {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"},
        {"prompt": [ASKED], "chosen": [ANSWERED], "rejected": [{**ANSWERED, "content": "5"}]},
        {"chosen": [ASKED, ANSWERED], "rejected": [ASKED, {**ANSWERED, "content": "5"}]},
        {"messages": [ASKED, ANSWERED], "rejected_response": "5"},
        {"instruction": "2 + 2?", "chosen": "4", "rejected": "5"},
        {
            "conversations": [{"from": "human", "value": "2 + 2?"}],
            "chosen": {"from": "gpt", "value": "4"},
            "rejected": {"from": "gpt", "value": "5"},
        },
    ],
)  # fmt: skip
def test_a_preference_is_the_same_row_in_every_spelling(record: Any, tmp_path: Path) -> None:
    made = only(tmp_path, record)
    assert (made.messages, made.rejected, made.item) == (TURNS, (said("assistant", "5"),), {})


def test_chat_rows_keep_weights_tools_and_calls(tmp_path: Path) -> None:
    turns = [
        {"role": "developer", "content": "be brief"},
        ASKED,
        {"role": "assistant", "content": None, "tool_calls": [CALL], "weight": 0},
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
        {**ANSWERED, "weight": 1},
    ]
    made = only(tmp_path, {"messages": turns, "tools": [TOOL], "parallel_tool_calls": False})
    assert [one.role for one in made.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert made.trained == (4,)
    assert made.messages[2].tool_calls[0].arguments == '{"a": 2}'
    assert made.messages[3].tool_call_id == "c1"
    assert made.tools == (Tool(name="add", description="sum", parameters={"type": "object"}),)


def test_weights_of_one_everywhere_say_nothing(tmp_path: Path) -> None:
    assert only(tmp_path, {"messages": [ASKED, {**ANSWERED, "weight": 1}]}).trained is None


def test_older_function_calls_are_paired_with_their_results_in_order(tmp_path: Path) -> None:
    turns = [
        ASKED,
        {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": "{}"}},
        {"role": "function", "name": "add", "content": "4"},
        ANSWERED,
    ]
    made = only(tmp_path, {"messages": turns, "functions": [TOOL["function"]]})
    assert made.messages[1].tool_calls[0].id == made.messages[2].tool_call_id
    assert made.tools[0].name == "add"


def test_sharegpt_calls_and_observations_become_tool_turns(tmp_path: Path) -> None:
    turns = [
        {"from": "human", "value": "2 + 2?"},
        {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 2}}'},
        {"from": "observation", "value": "4"},
        {"from": "gpt", "value": "4"},
    ]
    made = only(tmp_path, {"conversations": turns, "system": "brief", "tools": json.dumps([TOOL])})
    assert [one.role for one in made.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert made.messages[2].tool_calls[0].arguments == '{"a": 2}'
    assert made.messages[2].tool_calls[0].id == made.messages[3].tool_call_id
    assert made.tools[0].name == "add"


def test_alpaca_history_and_context_become_turns(tmp_path: Path) -> None:
    record = {
        "instruction": "Translate",
        "input": "猫",
        "output": "cat",
        "history": [["Hi", "Hello"]],
        "system": "s",
    }
    made = only(tmp_path, record)
    assert [one.content for one in made.messages] == ["s", "Hi", "Hello", "Translate\n\n猫", "cat"]


def test_what_graders_compare_with_stays_beside_a_question(tmp_path: Path) -> None:
    made = only(tmp_path, {"messages": [ASKED], "reference": "4", "level": 1, "group": "sums"})
    assert (made.messages, made.item, made.group) == (TURNS[:1], {"reference": "4", "level": 1}, "sums")


def test_a_prompt_of_turns_is_not_learnt(tmp_path: Path) -> None:
    made = only(tmp_path, {"prompt": [ASKED, ANSWERED, ASKED], "completion": "still 4"})
    assert made.trained == (3,)


def test_columns_may_be_named(tmp_path: Path) -> None:
    path = tmp_path / "faq.csv"
    path.write_text('id,frage,antwort,topic\n1,"Wie\nviel?",4,sums\n', encoding="utf-8")
    (made,) = read(path, columns=Columns(input="frage", target="antwort", group="topic")).rows
    assert [one.content for one in made.messages] == ["Wie\nviel?", "4"]
    assert (made.group, made.line) == ("sums", 2)


def test_a_picture_stays_a_part_and_text_parts_become_text(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "data:x"}}]
    made = only(
        tmp_path, {"messages": [{"role": "user", "content": parts}, {**ANSWERED, "content": parts[:1]}]}
    )
    assert [part.kind for part in made.messages[0].content] == ["text", "image_url"]  # type: ignore[union-attr]
    assert made.messages[1].content == "see"


def test_parts_that_cannot_be_learnt_are_told(tmp_path: Path) -> None:
    turn = {**ANSWERED, "reasoning_content": "hm", "audio": None}
    reading = read(file_of(tmp_path, {"messages": [ASKED, turn]}, {"messages": [ASKED, turn]}))
    assert reading.left == {"reasoning_content": 2, "audio": 2}


@pytest.mark.parametrize("suffix", ["jsonl", "json", "jsonl.gz", "json.gz"])
def test_lines_arrays_and_packed_files_hold_the_same_rows(suffix: str, tmp_path: Path) -> None:
    records = [{"prompt": f"q{number}", "completion": "a"} for number in range(3)]
    array = suffix.startswith("json.") or suffix == "json"
    words = json.dumps(records, indent=1) if array else "\n".join(map(json.dumps, records))
    path = tmp_path / f"rows.{suffix}"
    data = words.encode()
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    reading = read(path)
    assert [made.messages[0].content for made in reading.rows] == ["q0", "q1", "q2"]
    assert [made.line for made in reading.rows] == ([2, 6, 10] if array else [1, 2, 3])


def test_a_table_in_parquet_is_read_by_its_columns(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pytest.importorskip("pyarrow").table({"prompt": ["a", "b"], "completion": ["c", None]})
    parquet.write_table(table, tmp_path / "rows.parquet")
    reading = read(tmp_path / "rows.parquet")
    assert [made.line for made in reading.rows] == [1]
    assert [problem.facts["line"] for problem in reading.problems] == [2]


def test_plain_text_is_cut_at_blank_lines_only_and_loses_nothing(tmp_path: Path) -> None:
    paragraphs = [f"{number} " + "word " * 500 for number in range(20)]
    path = tmp_path / "book.txt"
    path.write_text("\n\n".join(paragraphs), encoding="utf-8")
    rows = read(path).rows
    assert len(rows) == 5
    assert "\n\n".join(made.text for made in rows).split() == "\n\n".join(paragraphs).split()
    assert all(len(made.text) < PIECE + len(paragraphs[0]) + 2 for made in rows)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert all(made.text.startswith(lines[(made.line or 0) - 1]) for made in rows)
    assert [made.text for made in read(file_of(tmp_path, {"text": "a"}, {"text": "b"})).rows] == ["a", "b"]


BROKEN: list[tuple[Any, str]] = [
    ("{", "data.bad_json"),
    ("[1]", "data.no_object"),
    ('{"messages": NaN}', "data.bad_json"),
    ({"prompt": "x"}, "data.without"),
    ({"messages": []}, "data.no_messages"),
    ({"messages": "hi"}, "data.bad_messages"),
    ({"messages": ["hi"]}, "data.bad_message"),
    ({"messages": [{"role": "boss", "content": "x"}]}, "data.bad_role"),
    ({"messages": [{"content": "x"}]}, "data.bad_role"),
    ({"messages": [{**ASKED, "content": {"a": 1}}]}, "data.bad_content"),
    ({"messages": [{**ASKED, "content": 5}, ANSWERED]}, "data.bad_content"),
    ({"messages": [{**ASKED, "content": [{"type": "video"}]}]}, "data.bad_part"),
    ({"messages": [ASKED, {**ANSWERED, "weight": 0.5}]}, "data.bad_weight"),
    ({"messages": [ASKED, {"role": "assistant", "tool_calls": [{}]}]}, "data.bad_tool_call"),
    ({"messages": [ASKED], "tools": [{}]}, "data.bad_tool"),
    ({"messages": [ASKED], "tools": "f"}, "data.bad_tools"),
]


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize(("line", "key"), BROKEN)
def test_a_broken_line_is_named_and_the_others_are_read(
    line: Any, key: str, lang: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAIMO_LANG", lang)
    whole = {"messages": [ASKED, ANSWERED]}
    path = file_of(tmp_path, whole, line, whole)
    reading = read(path)
    assert [made.line for made in reading.rows] == [1, 3]
    (problem,) = reading.problems
    assert (problem.key, problem.facts["line"]) == (key, 2)
    assert str(path) in str(problem)
    assert problem.hint


@pytest.mark.parametrize(
    ("name", "data", "key"),
    [
        ("none.jsonl", None, "data.unreadable"),
        ("e.jsonl", b" \n", "data.empty_file"),
        ("x.bin", b"hello", "data.unknown_container"),
        ("x.jsonl", b'{"prompt": "\xff"}', "data.encoding"),
        ("x.jsonl.gz", b"\x1f\x8bnonsense", "data.unreadable"),
        ("x.json", b'[{"a": 1},\n}', "data.bad_json"),
        ("x.jsonl", b'{"a": 1}', "data.unknown_rows"),
        ("x.csv", b"a,a\n1,2", "data.bad_header"),
    ],
)
def test_a_file_that_cannot_be_read_at_all_is_one_error(
    name: str, data: bytes | None, key: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read(path)
    assert caught.value.key == key
    assert str(path) in str(caught.value)


def test_a_ragged_line_of_a_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("prompt,completion\na,b\nc\n\nd,e\n", encoding="utf-8")
    reading = read(path)
    assert ([made.line for made in reading.rows], [one.facts["line"] for one in reading.problems]) == (
        [2, 5],
        [3],
    )


def test_an_unknown_format_is_answered_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="sharegpt"):
        read(tmp_path / "x", format="sharegtp")


keys = st.sampled_from(
    ["messages", "conversations", "prompt", "completion", "chosen", "rejected", "instruction", "output", "history",
     "input", "text", "tools", "role", "from", "content", "value", "tool_calls", "function_call", "function", "name",
     "arguments", "weight", "type", "preferred_output", "non_preferred_output", "system", "group", "id", "image_url"]
)  # fmt: skip
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
words = st.text(max_size=8) | st.sampled_from(
    ["user", "assistant", "system", "tool", "function_call", "text", "[]", "[1"]
)
anything = st.recursive(
    leaves | words,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(keys | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    st.lists(st.dictionaries(keys, anything, max_size=5) | anything, min_size=1, max_size=4),
    st.sampled_from(["", *FORMATS]),
)
def test_no_json_crashes_a_reader_and_every_problem_names_its_line(records: list[Any], format: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = file_of(Path(folder), *(json.dumps(record) for record in records))
        try:
            reading = read(path, format=format)
        except DataError as error:
            assert isinstance(error.facts["line"], int)
            assert str(error)
            return
        for problem in reading.problems:
            assert 1 <= int(str(problem.facts["line"])) <= len(records)
            assert str(problem)
            assert problem.hint
        if len(records) > 1:  # a single list is an array of rows
            assert len(reading.rows) + len(reading.problems) == len(records)
        for made in reading.rows:
            assert made.hash
            assert made.messages or made.text is not None


@given(st.binary(max_size=200), st.sampled_from(["x.jsonl", "x.json", "x.csv", "x.txt", "x", "x.parquet"]))
def test_no_bytes_crash_a_reader(data: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        try:
            read(path)
        except (DataError, MissingExtra) as error:
            assert str(error)
