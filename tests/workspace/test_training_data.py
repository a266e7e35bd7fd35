"""Files, a task's held-out split, a model's tokenizer and kept calls come together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from baimo.core.record import Record
from baimo.core.tuning import Row
from baimo.errors import DataError, TaskError, UnknownModel, UsageError
from baimo.store.contents import Kept, put, sealed
from baimo.tuning.data.formats import Columns, read
from baimo.workspace.ledger_options import LedgerOptions
from baimo.workspace.training_data import Looking, Source, TrainingData, held_out
from baimo.workspace.workspace import Workspace
from tests.tuning.data.rows import file_of

NOW = 1_800_000_000_000
CHAT = {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}


@pytest.fixture
def work(tmp_path: Path) -> Iterator[TrainingData]:
    with Workspace(tmp_path) as workspace:
        yield TrainingData(workspace)


def task(folder: Path) -> str:
    """A task whose prompt shows more than the question."""
    made = folder / "task"
    made.mkdir()
    (made / "task.toml").write_text(
        'name = "t"\n[data]\ntest = "test.jsonl"\n[prompt]\nuser = "Answer in one word: {{ input }}"\n'
        '[[scorers]]\nname = "exact"\n',
        encoding="utf-8",
    )
    file_of(made, {"id": "1", "input": "Which colour is the sky?", "target": "blue"}, name="test.jsonl")
    return str(made)


def test_several_files_are_one_and_findings_name_each(work: TrainingData, tmp_path: Path) -> None:
    one = file_of(tmp_path, CHAT, "{", name="a.jsonl")
    other = file_of(tmp_path, CHAT, name="b.jsonl")
    report = work.check(Source(files=[str(one), str(other)]), Looking())
    assert report.rows == 2
    spots = {finding.kind: [str(spot) for spot in finding.spots] for finding in report.findings}
    assert spots["unreadable"] == [f"{one}:2"]
    assert spots["duplicate"] == [f"{one}:1", f"{other}:1"]
    assert not (tmp_path / ".baimo").exists()


def test_questions_of_a_task_are_found_bare_and_as_its_prompt_asks_them(
    work: TrainingData, tmp_path: Path
) -> None:
    folder = task(tmp_path)
    assert held_out(folder) == ("Which colour is the sky?", "Answer in one word: Which colour is the sky?")
    asked = (
        "which colour is the sky",
        "Answer in one word: Which colour is the sky?",
        "Which colour is grass?",
    )
    path = file_of(tmp_path, *({"prompt": one, "completion": "blue"} for one in asked))
    report = work.check(Source(files=[str(path)]), Looking(task=folder))
    leaks = [finding for finding in report.findings if finding.kind.startswith("leak")]
    assert [[spot.line for spot in finding.spots] for finding in leaks] == [[1, 2]]
    with pytest.raises(TaskError):
        work.check(Source(files=[str(path)]), Looking(task=str(tmp_path / "none")))


def test_cleaning_is_noted_beside_the_file_and_known_when_it_is_split(
    work: TrainingData, tmp_path: Path
) -> None:
    rows = [
        {"prompt": f"question {number} {'x' * number}", "completion": str(number)} for number in range(10)
    ]
    path = file_of(tmp_path, *rows, rows[0], "{")
    source = Source(files=[str(path)], skip_unreadable=True)
    cleaned = work.clean(source, Looking(), ["drop_duplicates"], tmp_path / "clean.jsonl")
    assert cleaned.rows == 10
    train, valid = work.split(Source(files=[str(cleaned.path)]), Looking(near=False), tmp_path / "out", 0.2)
    assert (train.rows, valid.rows) == (8, 2)
    assert [step["step"] for step in train.steps] == ["skip_unreadable", "drop_duplicates", "split"]
    assert [step["removed"] for step in train.steps] == [1, 1, 2]
    questions = [one.messages[0] for made in (train, valid) for one in read(made.path).rows]
    assert len(set(questions)) == 10


def test_lines_are_left_out_on_purpose_only(work: TrainingData, tmp_path: Path) -> None:
    source = Source(files=[str(file_of(tmp_path, CHAT, "{"))])
    with pytest.raises(DataError, match=r"rows\.jsonl, line 2") as caught:
        work.clean(source, Looking(), [], tmp_path / "out.jsonl")
    assert "--skip-unreadable" in caught.value.hint
    assert not (tmp_path / "out.jsonl").exists()


def test_a_list_of_words_and_columns_are_taken_from_the_options(work: TrainingData, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("# not these\ndarn\n\n", encoding="utf-8")
    path = file_of(tmp_path, {"frage": "darn it", "antwort": "no"}, {"frage": "hello", "antwort": "hi"})
    source = Source(files=[str(path)], columns=Columns(input="frage", target="antwort"))
    made = work.clean(source, Looking(words=str(words)), ["drop_unwanted"], tmp_path / "out.jsonl")
    assert [one.messages[0].content for one in read(made.path).rows] == ["hello"]
    with pytest.raises(DataError, match=r"none\.txt"):
        work.clean(source, Looking(words=str(tmp_path / "none.txt")), [], tmp_path / "x.jsonl")


@pytest.mark.parametrize("share", [0, 1, -1, 1.5])
def test_a_share_lies_between_nothing_and_all(share: float, work: TrainingData, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="share"):
        work.split(Source(files=[]), Looking(), tmp_path, share)


def test_tokens_are_counted_by_models_on_this_machine_only(work: TrainingData) -> None:
    with pytest.raises(UsageError, match="openai"):
        work.aids(Looking(model="openai/gpt-4o"))
    with pytest.raises(UnknownModel):
        work.aids(Looking(model="local/none"))


@pytest.mark.local
def test_tokens_of_a_row_are_those_that_the_model_sees(work: TrainingData) -> None:
    pytest.importorskip("tokenizers")
    aids = work.aids(Looking(model="local/smollm2-135m-instruct"))
    assert aids.count is not None
    assert aids.longest >= 2048
    assert aids.count(Row(text="The capital of France is Paris.")) == 7
    assert 10 < aids.count(Row(messages=read_row().messages)) < 60


def read_row() -> Row:
    from tests.tuning.data.rows import row

    return row("The capital of France?", "Paris.", system="Be brief.")


def keep(
    workspace: Workspace, id: str, answer: Any, *, status: str = "ok", cut: bool = False, **facts: Any
) -> None:
    """A call with what was said, as the gateway keeps it."""
    body = json.dumps({"messages": CHAT["messages"][:1]}).encode()
    content = {"surface": "chat", "request": body, "answer": json.dumps(answer).encode(), "cut": cut}
    kept = sealed(msgspec.msgpack.encode(content))
    known = {"surface": "chat", "model": "v/m", "conversation": f"talk-{id}", **facts}
    workspace.store.settle(Record(id=id, at_ms=NOW, status=status, content_hash=kept.hash, **known))
    with workspace.store.database.writing() as connection:
        put(connection, [Kept(id, str(known.get("tenant", "")), NOW, kept.hash, kept.stored)])


def answer(text: str, finish: str = "stop") -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish}]}


def test_kept_answers_are_collected_by_model_and_tag_and_the_others_are_counted(tmp_path: Path) -> None:
    with Workspace(tmp_path) as workspace:
        keep(workspace, "rec_1", answer("4"), tags={"team": "a"})
        keep(workspace, "rec_2", answer("four"), tags={"team": "b"})
        keep(workspace, "rec_3", answer("4", "length"))
        keep(workspace, "rec_4", answer("4"), cut=True)
        keep(workspace, "rec_5", answer(""), status="providers.failed")
        keep(workspace, "rec_6", answer("other"), model="v/other")
        workspace.store.settle(Record(id="rec_7", at_ms=NOW, surface="chat", model="v/m"))
        work = TrainingData(workspace)
        found = work.collected(LedgerOptions(model="v/m"))
        assert [one.messages[-1].content for one in found.rows] == ["4", "four"]
        assert [one.group for one in found.rows] == ["talk-rec_1", "talk-rec_2"]
        assert found.skipped == {"unfinished": 1, "cut": 1, "failed": 1}
        assert len(work.collected(LedgerOptions(tag=("team=b",))).rows) == 1
        made, skipped = work.collect(LedgerOptions(), tmp_path / "kept.jsonl")
        assert (made.rows, skipped) == (3, found.skipped)
        assert made.steps[0]["skipped"] == found.skipped
        assert len(read(made.path).rows) == 3
