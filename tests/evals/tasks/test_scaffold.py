"""Tasks that are written: they run as they are, and an import reads back as the same task."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.task import Example, Task
from baimo.errors import TaskError
from baimo.evals.tasks.candidates import candidates
from baimo.evals.tasks.check import check
from baimo.evals.tasks.folder import load_task, read_task
from baimo.evals.tasks.prompts import Renderer
from baimo.evals.tasks.scaffold import KINDS, import_task, new_task
from baimo.evals.tasks.toml import assignment


def _same(one: Example, other: Example) -> bool:
    keep = ("id", "fields", "target", "messages", "tools", "group", "metadata")
    return all(getattr(one, name) == getattr(other, name) for name in keep)


def _same_task(one: Task, other: Task) -> bool:
    splits = ((one.examples, other.examples), (one.train, other.train))
    rest = (
        "scorers",
        "prompts",
        "sampling",
        "response_format",
        "candidates",
        "data_class",
        "description",
        "hash",
    )
    return all(all(map(_same, *split)) for split in splits) and all(
        getattr(one, name) == getattr(other, name) for name in rest
    )


@pytest.mark.parametrize("locale", ["en", "zh"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_task_runs_as_it_is(tmp_path: Path, kind: str, locale: str) -> None:
    files = new_task(tmp_path / "my task", kind, locale=locale)
    reading = read_task(tmp_path / "my task")
    assert reading.task.name == "my task" and all(file.is_file() for file in files)
    assert [note.kind for note in reading.notes if note.kind != "assumed_no_target"] == []
    assert {finding.kind for finding in check(reading.task)} <= {"few_examples", "no_reference"}
    for one in candidates(reading.task):
        renderer = Renderer(one.prompt, reading.task.train)
        assert all(renderer.messages(example)[-1].role == "user" for example in reading.task.examples)
    assert "#" in (tmp_path / "my task" / "task.toml").read_text(encoding="utf-8")


def test_both_languages_offer_the_same(tmp_path: Path) -> None:
    for kind in KINDS:
        tasks = []
        for locale in ("en", "zh"):
            new_task(tmp_path / locale / kind, kind, locale=locale)
            tasks.append(load_task(tmp_path / locale / kind))
        english, chinese = tasks
        assert len(english.examples) == len(chinese.examples) and len(english.train) == len(chinese.train)
        assert [spec.name for spec in english.scorers] == [spec.name for spec in chinese.scorers]
        assert len(english.candidates) == len(chinese.candidates)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    new_task(tmp_path, "qa")
    before = (tmp_path / "task.toml").read_bytes()
    with pytest.raises(TaskError, match=r"already holds"):
        new_task(tmp_path, "classify")
    assert (tmp_path / "task.toml").read_bytes() == before
    assert not (tmp_path / "train.jsonl").exists()


def test_an_unknown_kind_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(TaskError) as caught:
        new_task(tmp_path, "clasify")
    assert "classify" in caught.value.hint


def test_an_imported_folder_reads_back_as_the_same_task(tmp_path: Path) -> None:
    new_task(tmp_path / "a", "extract-json")
    imported = import_task(tmp_path / "a", tmp_path / "b")
    assert _same_task(load_task(tmp_path / "a"), load_task(tmp_path / "b"))
    assert (imported.examples, imported.format) == (8, "rows")
    assert {file.name for file in imported.files} == {
        "task.toml",
        "test.jsonl",
        "train.jsonl",
        "json-1.schema.json",
    }


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
SOURCES: dict[str, Any] = {
    "chat.jsonl": [
        {
            "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [CALL]}],
            "tools": [{"name": "f"}],
        },
        {
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": "q2"},
                {"role": "assistant", "content": "a"},
            ]
        },
    ],
    "evals.jsonl": [{"input": [{"role": "user", "content": "x"}], "ideal": ["a", "b"]}],
    "sharegpt.jsonl": [
        {"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}], "id": 5}
    ],
    "alpaca.jsonl": [{"instruction": "x", "input": "", "output": "y"}],
    "rows.jsonl": [
        {"question": "x", "answer": {"k": None}, "group": 3, "metadata": {"l": "zh"}, "fields": "text"}
    ],
    "clash.jsonl": [
        {"vars": {"target": "t", "messages": "m", "id": 1}, "assert": [{"type": "contains", "value": "x"}]}
    ],
    "bare.jsonl": [{"vars": {}, "assert": [{"type": "is-json"}]}],
}


@pytest.mark.parametrize("name", SOURCES)
def test_whatever_was_read_survives_the_import(tmp_path: Path, name: str) -> None:
    source = tmp_path / name
    source.write_text("".join(json.dumps(row) + "\n" for row in SOURCES[name]))
    imported = import_task(source, tmp_path / "out")
    assert _same_task(load_task(source), load_task(tmp_path / "out"))
    assert imported.format == read_task(source).format
    assert import_task(tmp_path / "out", tmp_path / "again").notes == ()


def test_an_import_lists_what_stayed_behind(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "providers: [x]\nprompts: ['{{q}}', 'B {{q}}']\n"
        "tests:\n- vars: {q: 1}\n  assert: [{type: javascript, value: x}]\n"
    )
    notes = import_task(tmp_path / "p.yaml", tmp_path / "out").notes
    assert {note.kind for note in notes} == {"left_providers", "left_assert_type", "assumed_no_scorer"}
    assert [prompt.user for prompt in load_task(tmp_path / "out").prompts] == ["{{q}}", "B {{q}}"]


def test_an_import_that_cannot_be_read_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{")
    with pytest.raises(TaskError):
        import_task(tmp_path / "a.jsonl", tmp_path / "out")
    assert not (tmp_path / "out").exists()


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    TEXTS | st.booleans() | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(key=TEXTS, value=VALUES)
def test_what_is_written_as_toml_is_read_back(key: str, value: Any) -> None:
    assert tomllib.loads(assignment(key, value)) == {key: value}
