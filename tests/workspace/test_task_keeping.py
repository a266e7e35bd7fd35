"""Examples are changed as versions, each with its way back; what somebody wrote by hand stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baimo.core.task import Example, Task
from baimo.errors import Conflict, NotFound, TaskError, UsageError
from baimo.evals.tasks.editing import with_data, with_value
from baimo.evals.tasks.folder import load_task
from baimo.evals.tasks.formats.columns import Columns
from baimo.store import audit
from baimo.store.audit import Actor
from baimo.workspace.task_history import FOLDER, History, Made, Measured, Texts
from baimo.workspace.task_imports import TaskImports, Upload
from baimo.workspace.task_keeping import (
    Placed,
    TaskKeeping,
    placed_of,
    split_by_chance,
    with_examples,
)
from baimo.workspace.task_search import Filter, searched
from baimo.workspace.workspace import Workspace

ME = Actor("", "me0000000000")


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[TaskKeeping]:
    (tmp_path / "baimo.toml").write_text("")
    with Workspace(tmp_path) as workspace:
        yield TaskKeeping(workspace)


def task(count: int = 6, **facts: Any) -> Task:
    examples = tuple(
        Example(id=f"e{at}", fields={"input": f"question {at}"}, target="yes" if at % 2 else "no")
        for at in range(count)
    )
    return Task(**{"name": "mail", "examples": examples, "scorers": (), **facts})


def dropped(*ids: str) -> Any:
    def changed(task: Task) -> tuple[Task, dict[str, Any]]:
        return with_examples(task, (one for one in placed_of(task) if one.example.id not in ids)), {
            "ids": ids
        }

    return changed


def test_every_change_is_a_version_with_its_way_back(keeping: TaskKeeping) -> None:
    first = keeping.create(task(), "", ME)
    second = keeping.change("mail", "", ME, "delete", dropped("e1", "e4"))
    assert second is not None and (first.version, second.version, second.test) == (1, 2, 4)
    assert [one.id for one in keeping.kept("mail").task.examples] == ["e0", "e2", "e3", "e5"]
    third = keeping.restored("mail", "", 1, ME)
    assert third is not None and (third.act, third.facts, third.hash) == (
        "restore",
        {"version": 1},
        first.hash,
    )
    assert load_task(keeping.tasks.folder("mail")).hash == first.hash
    assert keeping.restored("mail", "", 1, ME) is None  # nothing differs
    assert [(one.version, one.act, one.key) for one in keeping.versions("mail", "")] == [
        (1, "create", ME.key),
        (2, "delete", ME.key),
        (3, "restore", ME.key),
    ]
    cut = keeping.history("mail", "").changed(2)["test.jsonl"].cuts[0]
    assert [json.loads(line)["id"] for line in cut.old if line not in cut.new] == ["e1", "e4"]
    acts = [(act.act, act.subject) for act in audit.acts(keeping.workspace.store.database)]
    assert acts == [("task.restore", "task:mail"), ("task.delete", "task:mail"), ("task.create", "task:mail")]
    with pytest.raises(NotFound):
        keeping.restored("mail", "", 9, ME)


def test_what_was_written_by_hand_stays_and_is_a_version_too(keeping: TaskKeeping) -> None:
    folder = keeping.tasks.home() / "mail"
    folder.mkdir(parents=True)
    manifest = (
        '# ours\ndescription = "x"\n\n[data]\ntest = "rows.csv"\ninput = "frage"  # German\n\n# the judge\n'
    )
    manifest += '[[scorers]]\nname = "exact"\n'
    (folder / "task.toml").write_text(manifest)
    (folder / "rows.csv").write_text("frage,answer\nwer,ich\nwas,das\n")
    keeping.change("mail", "", ME, "delete", dropped("2"))
    written = (folder / "task.toml").read_text()
    assert "# ours" in written and "[[scorers]]" in written and 'test = "test.jsonl"' in written
    assert [one.fields["input"] for one in load_task(folder).examples] == ["was"]
    (folder / "test.jsonl").write_text('{"id": "7", "input": "wo", "target": "da"}\n')
    keeping.change(
        "mail", "", ME, "add", lambda one: (replace(one, examples=(*one.examples, task(1).examples[0])), {})
    )
    assert [one.act for one in keeping.versions("mail", "")] == ["found", "delete", "outside", "add"]
    keeping.restored("mail", "", 1, ME)
    assert (folder / "task.toml").read_text() == manifest and not (folder / "test.jsonl").exists()
    assert len(keeping.kept("mail").task.examples) == 2


def test_a_change_that_leaves_nothing_to_evaluate_changes_nothing(keeping: TaskKeeping) -> None:
    keeping.create(task(1), "", ME)
    with pytest.raises(UsageError, match="nothing would be left"):
        keeping.change("mail", "", ME, "delete", dropped("e0"))
    assert len(keeping.versions("mail", "")) == 1
    with pytest.raises(Conflict):
        keeping.create(task(), "", ME)
    with pytest.raises(UsageError):
        keeping.create(task(0, name="other"), "", ME)


def test_tasks_elsewhere_are_read_and_copied_but_not_changed(keeping: TaskKeeping, tmp_path: Path) -> None:
    from tests.workspace.test_known_tasks import ran

    (tmp_path / "rows.jsonl").write_text('{"input": "a", "target": "b"}\n')
    ran(keeping.workspace, tmp_path / "rows.jsonl")
    with pytest.raises(Conflict):
        keeping.change("rows", "", ME, "delete", dropped("1"))
    keeping.copied("rows", "mine", "", ME)
    assert keeping.kept("mine").task.hash == keeping.kept("rows").task.hash
    keeping.described("mine", "", ME, rubric="Be fair.\r\n", description="ours")
    assert (keeping.rubric(keeping.kept("mine")), keeping.kept("mine").task.description) == (
        "Be fair.\n",
        "ours",
    )


def test_a_change_by_somebody_else_is_waited_for_and_seen(keeping: TaskKeeping) -> None:
    keeping.create(task(), "", ME)
    other = TaskKeeping(keeping.workspace)
    assert len(other.kept("mail").task.examples) == 6
    keeping.change("mail", "", ME, "delete", dropped("e0"))
    other.change("mail", "", ME, "delete", dropped("e1"))
    assert [one.id for one in keeping.kept("mail").task.examples] == ["e2", "e3", "e4", "e5"]


@settings(max_examples=30)
@given(
    seed=st.integers(0, 1000),
    share=st.floats(0, 1),
    groups=st.lists(st.sampled_from("abc"), min_size=1, max_size=12),
)
def test_a_split_by_chance_keeps_every_example_once_and_groups_together(
    seed: int, share: float, groups: list[str]
) -> None:
    examples = [Example(id=str(at), fields={"input": "x"}, group=group) for at, group in enumerate(groups)]
    before = Task(name="t", examples=tuple(examples), scorers=())
    after = split_by_chance(before, share, seed)
    assert sorted(one.example.id for one in placed_of(after)) == sorted(one.id for one in examples)
    assert not {one.group for one in after.examples} & {one.group for one in after.train}
    assert split_by_chance(after, share, seed) == split_by_chance(before, share, seed) or share


_TEXTS = st.dictionaries(
    st.sampled_from(["a", "b"]), st.none() | st.text(alphabet="xy\n\u2028", max_size=8), min_size=1
)


@settings(max_examples=60)
@given(steps=st.lists(_TEXTS, min_size=1, max_size=5))
def test_every_version_can_be_had_again(tmp_path_factory: pytest.TempPathFactory, steps: list[Texts]) -> None:
    folder = tmp_path_factory.mktemp("task")
    history, now, seen = (
        History(folder, list, Measured),
        dict[str, str | None](),
        list[dict[str, str | None]](),
    )
    for step in steps:
        if history.change(ME, "edit", lambda step=step: Made(step), 1) is not None:
            now = {**now, **step}
            seen.append(now)
    for version, texts in enumerate(seen, 1):
        found = history.at(version)
        assert {name: text for name, text in found.items() if text is not None} == {
            name: text for name, text in texts.items() if text is not None
        }
    on_disk = {path.name: path.read_bytes().decode() for path in folder.iterdir() if path.name != FOLDER}
    assert on_disk == {name: text for name, text in now.items() if text is not None}


def test_only_the_table_of_data_changes_in_a_manifest() -> None:
    data = {"format": "rows", "test": "test.jsonl"}
    for source in (
        "",
        'name = "x"\n',
        "[data]",
        '[data]\ntest = "a"\n[[scorers]]\nname = "exact"',
        "a = 1\n[b]\n",
    ):
        assert with_data(source, data) is not None
    assert with_data('name = """\n[data]\n"""\n', data) is None  # not the table that it looks like
    assert with_value("", "description", 'a "b"') == 'description = "a \\"b\\""\n'
    assert (
        with_value('x = 1\ndescription = "old" # y\n', "description", "new") == 'x = 1\ndescription = "new"\n'
    )


# filters


def test_examples_are_found_by_text_split_label_reference_and_language(keeping: TaskKeeping) -> None:
    examples = (
        Example(id="1", fields={"input": "Where is my parcel?"}, target="parcel", metadata={"tone": "calm"}),
        Example(id="2", fields={"input": "退款"}, target="refund"),
        Example(
            id="3", fields={"input": "Refund!"}, target="refund", metadata={"language": "en", "tone": "angry"}
        ),
    )
    keeping.create(replace(task(), examples=examples[:2], train=examples[2:]), "", ME)
    kept = keeping.kept("mail")

    def ids(**wanted: str) -> list[str]:
        return [one.example.id for one in searched(kept.examples, Filter(**wanted))]

    assert ids() == ["1", "2", "3"] and ids(split="train") == ["3"]
    assert ids(text="REFUND") == ["2", "3"] and ids(text="退款") == ["2"]
    assert ids(expected="refund", split="test") == ["2"]
    assert ids(label="tone") == ["1", "3"] and ids(label="tone=angry") == ["3"]
    assert ids(language="Han") == ["2"] and ids(language="en") == ["3"]
    assert ids(sort="input") == ["3", "1", "2"] and ids(sort="-id") == ["3", "2", "1"]


# imports


def imported(keeping: TaskKeeping, name: str, data: bytes, **wanted: Any) -> tuple[TaskImports, Any]:
    imports = TaskImports(keeping)
    charset = wanted.pop("charset", "utf-8")
    upload = imports.add(data, Upload(id="", name=name, bytes=0, created_ms=0, **wanted), "", charset=charset)
    return imports, imports.looked(upload.id, "")


def test_bad_rows_are_told_with_their_lines_and_the_others_are_stored(keeping: TaskKeeping) -> None:
    data = "id,question,answer\n1,a,x\n2,b\n3,c,y,z\n1,d,x\n4,e,y\n"
    imports, looked = imported(keeping, "../up/rows.csv", data.encode())
    assert (looked.upload.name, looked.columns) == ("_up_rows.csv", ("id", "question", "answer"))
    assert [(one.line, one.error.key) for one in looked.left_out] == [
        (3, "tasks.ragged"),
        (4, "tasks.ragged"),
        (5, "tasks.double_id"),
    ]
    assert str(looked.left_out[0].error).startswith("_up_rows.csv, line 3")
    arranged = imports.arranged(looked, imports.fresh(looked, name="mail"), "test", "leave_out")
    assert (arranged.added, len(arranged.left_out)) == (2, 3)
    findings = imports.findings(looked, arranged.task, fresh=True)
    assert "few_examples" in {one.kind for one in findings}
    keeping.create(arranged.task, "", ME)
    assert [one.fields["input"] for one in keeping.kept("mail").task.examples] == ["a", "e"]


def test_rows_whose_id_is_there_already_are_left_out_or_replace_it(keeping: TaskKeeping) -> None:
    keeping.create(task(2), "", ME)
    there = keeping.kept("mail").task
    imports, looked = imported(keeping, "a.jsonl", b'{"id": "e1", "input": "new", "target": "x"}\n')
    left = imports.arranged(looked, there, "test", "leave_out")
    assert (left.added, left.left_out[0].error.key) == (0, "tasks.id_taken")
    placed = imports.arranged(looked, there, "test", "replace")
    assert placed.replaced == 1 and [one.fields["input"] for one in placed.task.examples] == [
        "question 0",
        "new",
    ]
    assert imports.arranged(looked, there, "train", "leave_out").added == 1  # another split


def test_rows_without_ids_get_new_ones_where_their_lines_are_taken(keeping: TaskKeeping) -> None:
    imports, looked = imported(keeping, "a.jsonl", b'{"input": "a", "target": "x"}\n')
    once = imports.arranged(looked, imports.fresh(looked, name="mail"), "test", "leave_out").task
    twice = imports.arranged(looked, once, "test", "leave_out").task
    assert [one.id for one in imports.arranged(looked, twice, "test", "leave_out").task.examples] == [
        "1",
        "a-1",
        "a-1-2",
    ]


def test_a_file_can_be_read_another_way_and_in_another_character_set(keeping: TaskKeeping) -> None:
    data = "内容,类别,质量\n退款,售后,好\n".encode("gb18030")
    with pytest.raises(TaskError, match="not UTF-8"):
        imported(keeping, "a.csv", data)
    with pytest.raises(UsageError):
        imported(keeping, "a.csv", b"\xff\xfe\xff", charset="shift_jis")
    imports = TaskImports(keeping)
    upload = imports.add(data, Upload(id="", name="a.csv", bytes=0, created_ms=0), "", charset="gb18030")
    with pytest.raises(TaskError, match="no column for the input"):
        imports.looked(upload.id, "")
    columns = Columns(input="内容", target="类别", metadata=("质量",))
    imports.change(replace(upload, columns=columns), "")
    example = imports.looked(upload.id, "").contents.examples[0]
    assert (example.fields["input"], example.target, example.metadata) == ("退款", "售后", {"质量": "好"})


def test_a_configuration_that_could_name_files_of_this_machine_is_no_upload(keeping: TaskKeeping) -> None:
    for name, data in (
        ("a.yaml", b"tests: file:///etc/hostname\n"),
        ("a.json", b'{"prompts": ["x"], "tests": []}'),
    ):
        with pytest.raises(TaskError, match="configuration"):
            imported(keeping, name, data)
    _, looked = imported(keeping, "a.csv", b"input,__expected\na,file:///etc/hostname\n")
    assert looked.contents.examples[0].fields["__expected"] == "file:///etc/hostname"


def test_a_file_of_another_tenant_is_not_there(keeping: TaskKeeping) -> None:
    imports, looked = imported(keeping, "a.jsonl", b'{"input": "a"}\n')
    for id, tenant in ((looked.upload.id, "shop"), ("up_none", ""), ("../tasks", "")):
        with pytest.raises(NotFound):
            imports.get(id, tenant)
    imports.remove(looked.upload.id, "")
    with pytest.raises(NotFound):
        imports.get(looked.upload.id, "")
    assert Placed("test", task().examples[0]).id == "test:e0"
