"""Rows of files: what can be read is read as it is, and what cannot is named with file and line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from baimo.errors import TaskError
from baimo.evals.tasks.folder import load_task, read_task
from baimo.evals.tasks.formats.columns import Columns
from baimo.evals.tasks.formats.recognise import read_file
from baimo.evals.tasks.formats.rows import container, encoding_guess
from baimo.evals.tasks.notes import Notebook


def _file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _error(path: Path, columns: Columns | None = None) -> TaskError:
    with pytest.raises(TaskError) as caught:
        load_task(path, columns=columns)
    assert str(caught.value) and str(path.name) in str(caught.value)
    return caught.value


def test_json_lines_give_examples_with_their_lines(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.jsonl", '\ufeff{"input": "x", "target": "1", "lang": "zh"}\n\n{"input": "y"}\n')
    first, second = load_task(path, columns=Columns(metadata=("lang",))).examples
    assert (first.id, first.line, first.target, first.metadata) == ("1", 1, "1", {"lang": "zh"})
    assert (second.id, second.line, second.target, second.metadata) == ("3", 3, None, {"lang": None})
    assert first.fields == {"input": "x", "lang": "zh"}


def test_a_json_array_keeps_the_line_of_every_object(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.json", '[\n {"input": "x"},\n\n {"input":\n "y"}, {"input": "z"}]')
    assert [example.line for example in load_task(path).examples] == [2, 4, 5]


def test_a_json_lines_file_that_is_called_json_is_read_as_lines(tmp_path: Path) -> None:
    assert len(load_task(_file(tmp_path, "a.json", '{"input": "x"}\n{"input": "y"}\n')).examples) == 2


def test_gzip_is_unpacked_and_a_cut_off_one_is_an_error(tmp_path: Path) -> None:
    packed = gzip.compress(b"".join(b'{"input": "%d"}\n' % number for number in range(5000)))
    assert len(load_task(_file(tmp_path, "a.jsonl.gz", packed)).examples) == 5000
    assert _error(_file(tmp_path, "b.jsonl.gz", packed[: len(packed) // 2])).key == "tasks.unreadable"


def test_csv_cells_may_hold_line_breaks_and_rows_know_where_they_begin(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.csv", 'question;answer\n"one\ntwo";1\n\nthree;2\n')
    first, second = load_task(path).examples
    assert (first.fields["input"], first.target, first.line) == ("one\ntwo", "1", 2)
    assert (second.fields["input"], second.line) == ("three", 5)


def test_tab_separated_files_need_no_option(tmp_path: Path) -> None:
    assert load_task(_file(tmp_path, "a.tsv", "text\tlabel\na, b\tx\n")).examples[0].fields["input"] == "a, b"


def test_json_in_a_csv_cell_becomes_data_when_asked_for(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.csv", 'input,target\nx,"{""a"": 1}"\n')
    assert load_task(path, columns=Columns(json=("target",))).examples[0].target == {"a": 1}
    assert load_task(path).examples[0].target == '{"a": 1}'


def test_parquet_gives_the_same_as_json_lines(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="extra parquet")
    from pyarrow import parquet

    rows = [{"input": "é", "target": ["a", "b"], "n": 1}, {"input": "二", "target": [], "n": None}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    examples = load_task(tmp_path / "a.parquet").examples
    assert [example.target for example in examples] == [["a", "b"], []]
    assert [example.fields for example in examples] == [{"input": "é", "n": 1}, {"input": "二", "n": None}]
    broken = _file(tmp_path, "b.parquet", b"PAR1" + b"\x07" * 40 + b"PAR1")
    assert _error(broken).key == "tasks.bad_parquet"


def test_columns_can_be_nested_and_several_make_one_reference(tmp_path: Path) -> None:
    path = _file(
        tmp_path, "a.jsonl", '{"q": {"text": "x"}, "intent": "on", "slots": {"n": 1}, "m": {"lang": "zh"}}\n'
    )
    columns = Columns(input="q.text", target=("intent", "slots"), metadata=("m.lang",))
    example = load_task(path, columns=columns).examples[0]
    assert example.fields["input"] == "x"
    assert example.target == {"intent": "on", "slots": {"n": 1}}
    assert example.metadata == {"m.lang": "zh"}
    assert "intent" not in example.fields  # a prompt must not show the answer by accident


def test_a_column_that_only_later_rows_have_is_not_lost(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.jsonl", '{"input": "x"}\n{"input": "y", "group": "g", "label": "z"}\n')
    assert [(one.group, one.target) for one in load_task(path).examples] == [(None, None), ("g", "z")]


def test_what_was_guessed_is_told(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.jsonl", '{"question": "2+2", "answer": "4"}\n')
    notes = {note.kind: note.facts for note in read_task(path).notes}
    assert notes == {
        "assumed_input": {"column": "question"},
        "assumed_target": {"column": "answer"},
        "assumed_scorer": {"scorer": "numeric"},
    }
    assert all(note.assumption and note.detail for note in read_task(path).notes)


def test_a_misspelt_column_is_named_with_the_nearest(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.jsonl", '{"input": "x", "label": "y"}\n')
    error = _error(path, Columns(target="lable"))
    assert (error.key, error.facts["near"], error.facts["line"]) == ("tasks.no_column_near", "label", 1)
    assert "label" in error.hint


@pytest.mark.parametrize(
    ("name", "content", "key", "line"),
    [
        ("a.jsonl", b"", "tasks.empty_file", None),
        ("a.jsonl", b"\n \n", "tasks.empty_file", None),
        ("a.csv", b"", "tasks.empty_file", None),
        ("a.csv", b"input,target\n", "tasks.empty_file", None),
        ("a.json", b"[]", "tasks.empty_file", None),
        ("a.jsonl", b'{"input": "x"}\n{"input": \n', "tasks.bad_json", 2),
        ("a.jsonl", b'{"input": "x", "target": NaN}\n', "tasks.bad_json", 1),
        ("a.jsonl", b'{"input": "\\ud800"}\n', "tasks.bad_json", 1),
        ("a.jsonl", b'{"input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "tasks.bad_json", 1),
        ("a.jsonl", b'{"input": "x"}\n[1]\n', "tasks.not_an_object", 2),
        ("a.json", b'[{"input": "x"},\n 3]', "tasks.not_an_object", 2),
        ("a.json", b'[{"input": "x"},\n {]', "tasks.bad_json", 2),
        ("a.json", b'{"input": "x", "other": 1}', "tasks.one_object", None),
        ("a.jsonl", b'{"other": "x"}\n', "tasks.no_input_column", 1),
        ("a.jsonl", b'{"input": "x"}\n{"other": "x"}\n', "tasks.no_column", 2),
        ("a.jsonl", b'{"id": 7, "input": "x"}\n\n{"id": "7", "input": "y"}\n', "tasks.double_id", 3),
        ("a.jsonl", b'{"id": 7, "input": "x"}\n{"input": "y"}\n', "tasks.no_id", 2),
        ("a.csv", b"input,target\nx,y\nx\n", "tasks.ragged", 3),
        ("a.csv", b"input,target\nx,y,z\n", "tasks.ragged", 2),
        ("a.csv", b"input,input\nx,y\n", "tasks.header_double", 1),
        ("a.csv", b"input,\nx,y\n", "tasks.header_empty", 1),
        ("a.csv", b'input,target\nx,"y\n', "tasks.bad_csv", 2),
        ("a.txt", b"hello", "tasks.unknown_container", None),
        ("a.jsonl", '{"input": "中文的数据"}\n'.encode("gb18030"), "tasks.encoding", 1),
        ("a.csv", "input,target\nx,中文的数据\n".encode("gb18030"), "tasks.encoding", 2),
        ("a.jsonl", '{"input": "x"}\n'.encode("utf-16"), "tasks.encoding", 1),
        ("a.csv", "input,target\nx,y\n".encode("utf-16-le"), "tasks.encoding", 1),
        ("a.yaml", b"tests: [\n", "tasks.bad_yaml", 2),
    ],
)
def test_every_flaw_is_named_with_its_line(
    tmp_path: Path, name: str, content: bytes, key: str, line: int | None
) -> None:
    error = _error(_file(tmp_path, name, content))
    assert (error.key, error.facts.get("line")) == (key, line)


def test_unknown_columns_are_told_with_the_command_that_names_them(tmp_path: Path) -> None:
    error = _error(_file(tmp_path, "a.jsonl", b'{"q": "x"}\n'))
    assert f"baimo tasks import {tmp_path / 'a.jsonl'} FOLDER --input" in error.hint


@pytest.mark.parametrize(
    ("text", "codec", "guess"),
    [
        ("这是一个测试文件", "gb18030", "GBK / GB18030"),
        ("這是一個測試檔案", "big5", "Big5"),
        ("これはテストです", "shift_jis", "Shift-JIS"),
        ("input,target\r\n问题 0: 好,坏", "gb2312", "GBK / GB18030"),
        ("même fête, Noël", "cp1252", "Windows-1252 / Latin-1"),
        ("déjà vu, où ça?", "cp1252", "Windows-1252 / Latin-1"),
        ("hello", "utf-16", "UTF-16"),
    ],
)
def test_the_likely_encoding_is_named(text: str, codec: str, guess: str) -> None:
    assert encoding_guess(text.encode(codec)) == guess


def test_a_missing_file_comes_with_its_neighbours(tmp_path: Path) -> None:
    _file(tmp_path, "examples.jsonl", "{}")
    error = _error(tmp_path / "exmples.jsonl")
    assert (error.key, error.facts["near"]) == ("tasks.missing_file_near", "examples.jsonl")


def test_messages_are_in_the_readers_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = _error(_file(tmp_path, "a.csv", "input,target\nx\n"))
    monkeypatch.setenv("BAIMO_LANG", "zh")
    assert "单元格" in str(error) and "分隔符" in error.hint


def test_names_decide_only_where_content_does_not(tmp_path: Path) -> None:
    assert container(_file(tmp_path, "data", '  [{"input": "x"}]')) == "json"
    assert container(_file(tmp_path, "data2", '{"input": "x"}')) == "jsonl"
    assert container(_file(tmp_path, "x.csv.gz", gzip.compress(b"a,b\n"))) == "csv"


def test_records_that_begin_on_one_line_have_ids_of_their_own(tmp_path: Path) -> None:
    source = '[{"input": "a"}, {"input": "b"},\n{"input": "c"}, {"input":\n"d"}, {"input": "e"}]'
    found = [(one.id, one.line) for one in load_task(_file(tmp_path, "one.json", source)).examples]
    assert found == [("1", 1), ("1.2", 1), ("2", 2), ("2.2", 2), ("3", 3)]
    alpaca = '[{"instruction": "a", "output": "b"}, {"instruction": "c", "output": "d"}]'
    assert len(load_task(_file(tmp_path, "alpaca.json", alpaca)).examples) == 2


def test_an_id_that_is_given_twice_on_one_line_is_still_an_error(tmp_path: Path) -> None:
    error = _error(_file(tmp_path, "one.json", '[{"id": "1", "input": "a"}, {"id": "1", "input": "b"}]'))
    assert error.key == "tasks.double_id"


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("a.csv", 'id,input,target\n1,a,x\n2,b\n3,c,"y"z\n4,d,x\n,e,x\n4,f,x\n', [3, 4, 6, 7]),
        ("a.jsonl", '{"input": "a"}\n{broken\n[1]\n\n{"other": 1}\n{"input": "d"}\n', [2, 3, 5]),
        ("a.json", '[{"input": "a"},\n 7,\n {"input": "d"}]', [2]),
        ("c.jsonl", '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
                    '{"messages": [{"role": "nobody", "content": "a"}]}\n'
                    '{"messages": [{"role": "user", "content": "d"}]}\n', [2]),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_used_are_told_one_by_one_and_the_others_are_read(
    tmp_path: Path, name: str, text: str, lines: list[int]
) -> None:
    path, refused = tmp_path / name, list[TaskError]()
    path.write_text(text, encoding="utf-8")
    found = read_file(path, Notebook(file=name), refused=refused.append)
    assert [example.fields["input"] for example in found.examples] == ["a", "d"]
    assert sorted(error.facts["line"] for error in refused) == lines  # type: ignore[type-var]
    with pytest.raises(TaskError):
        read_file(path, Notebook(file=name))


def test_a_file_of_another_encoding_is_refused_as_a_whole(tmp_path: Path) -> None:
    path, refused = tmp_path / "a.csv", list[TaskError]()
    path.write_bytes("input,target\na,b\n你好,再见\n".encode("gb18030"))
    with pytest.raises(TaskError, match="not UTF-8"):
        read_file(path, Notebook(file="a.csv"), refused=refused.append)
    assert refused == []
