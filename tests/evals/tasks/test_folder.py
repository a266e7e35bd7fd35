"""task.toml: what it says is what is compared, and a slip of the pen is named with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from baimo.config import line_of
from baimo.core.call import JsonFormat, Sampling
from baimo.core.registry import Spec
from baimo.core.task import FewShot, Task
from baimo.errors import TaskError
from baimo.evals.tasks.candidates import candidate, candidates
from baimo.evals.tasks.folder import load_task

FULL = """
name = "smart-home"
description = "Commands to JSON"
license = "CC-BY-4.0"
data_class = "confidential"
json_schema = "schema.json"

[data]
train = "train.csv"
metadata = ["language"]

[[prompts]]
name = "short"
system = "JSON only."

[[prompts]]
name = "shots"
user = "Say: {{ input }}"
[prompts.few_shot]
count = 1
by = "language"

[sampling]
max_tokens = 64
stop = ["\\n"]

[[scorers]]
name = "json"
schema = "schema.json"
mode = "fields"

[[candidates]]
name = "zero"
model = "local/tiny"
json_schema = false

[[candidates]]
model = "local/tiny"
prompt = "shots"
few_shot = 2
select = "similar"
sampling = { temperature = 0.7, stop = [] }
"""
SCHEMA = {"type": "object", "required": ["on"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    (tmp_path / "test.jsonl").write_text(
        '{"id": "a", "input": "on", "target": {"on": 1}, "language": "en"}\n'
    )
    (tmp_path / "train.csv").write_text("input,target,language\noff,no,en\n")
    (tmp_path / "task.toml").write_text(FULL)
    return tmp_path


def _with(folder: Path, toml: str) -> Path:
    (folder / "task.toml").write_text(toml)
    return folder


def _error(folder: Path, toml: str) -> TaskError:
    with pytest.raises(TaskError) as caught:
        load_task(_with(folder, toml))
    assert str(caught.value)
    return caught.value


def test_everything_in_task_toml_reaches_the_task(folder: Path) -> None:
    task = load_task(folder)
    assert (task.name, task.license, task.data_class) == ("smart-home", "CC-BY-4.0", "confidential")
    assert task.response_format == JsonFormat(schema=SCHEMA)
    assert task.sampling == Sampling(temperature=0.0, max_tokens=64, stop=("\n",))
    assert task.scorers == (Spec(name="json", args={"schema": SCHEMA, "mode": "fields"}),)
    assert [prompt.name for prompt in task.prompts] == ["short", "shots"]
    assert task.prompts[1].few_shot == FewShot(count=1, by="language")
    assert [(one.target, one.metadata) for one in task.train] == [("no", {"language": "en"})]
    assert load_task(folder / "task.toml") == task


def test_candidates_take_from_the_task_what_they_leave_out(folder: Path) -> None:
    zero, shots = candidates(load_task(folder))
    assert (zero.name, zero.prompt.name, zero.response_format) == ("zero", "short", None)
    assert shots.name == "local/tiny shots"
    assert shots.prompt.few_shot == FewShot(count=2, by="language", select="similar")
    assert shots.sampling == Sampling(temperature=0.7, max_tokens=64)
    assert shots.response_format == JsonFormat(schema=SCHEMA)


def test_a_model_alone_is_a_candidate() -> None:
    task = Task(name="t", examples=(), scorers=())
    assert candidate(task, {"model": "a/b"}).name == "a/b"
    assert candidate(task, {"model": "a/b", "json_schema": True}).response_format == JsonFormat()
    with pytest.raises(TaskError, match="no prompt long"):
        candidate(task, {"model": "a/b", "prompt": "long"})


def test_a_candidate_may_take_its_prompt_from_a_file(folder: Path) -> None:
    (folder / "better.toml").write_text(
        '[prompt]\nname = "found"\nsystem = "Be {{ input }}."\nfew_shot = { count = 1, ids = ["1"] }\n'
    )
    (folder / "train.jsonl").write_text('{"id": "1", "input": "x", "target": "y"}\n')
    task = load_task(_with(folder, '[[candidates]]\nmodel = "a/b"\nprompt = "better.toml"\n'))
    (found,) = candidates(task)
    assert found.name == "a/b found"
    assert found.prompt.system == "Be {{ input }}."
    assert found.prompt.few_shot == FewShot(count=1, ids=("1",))


def test_settings_are_not_offered_as_a_task(tmp_path: Path) -> None:
    (tmp_path / "baimo.toml").touch()
    with pytest.raises(TaskError) as caught:
        load_task(tmp_path)
    assert caught.value.key == "tasks.no_manifest"
    (tmp_path / "tsk.toml").touch()
    with pytest.raises(TaskError, match=r"but tsk\.toml$"):
        load_task(tmp_path)


def test_two_candidates_need_two_names(folder: Path) -> None:
    task = load_task(_with(folder, '[[candidates]]\nmodel = "a/b"\n[[candidates]]\nmodel = "a/b"\n'))
    with pytest.raises(TaskError, match="two candidates are called a/b"):
        candidates(task)


def test_another_schema_is_another_task(folder: Path) -> None:
    before = load_task(folder).hash
    (folder / "schema.json").write_text('{"type": "array"}')
    assert load_task(folder).hash != before


def test_the_hash_does_not_depend_on_where_the_folder_lies(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("elsewhere") / "copy"
    other.mkdir()
    for file in folder.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    assert load_task(other).hash == load_task(folder).hash


def test_an_empty_task_toml_is_enough_beside_a_test_file(folder: Path) -> None:
    task = load_task(_with(folder, ""))
    assert (task.name, len(task.examples), task.scorers[0].name) == (folder.name, 1, "json")


@pytest.mark.parametrize(
    ("toml", "key", "line"),
    [
        ('nmae = "x"\n', "tasks.unknown_key_near", 1),
        ('name = "x"\n[data]\ntest = "test.jsonl"\ntrian = "x"\n', "tasks.unknown_key_near", 4),
        ('\n[sampling]\ntemperature = "hot"\n', "tasks.bad_value", 3),
        ('[[prompts]]\nname = "a"\n[[prompts]]\nname = "b"\nusr = "x"\n', "tasks.unknown_key_near", 5),
        ('[[prompts]]\nname = "a"\n\n[[prompts]]\nname = "a"\n', "tasks.double_prompt", 5),
        ("[prompt]\n[prompt.few_shot]\ncuont = 2\n", "tasks.unknown_key_near", 3),
        ('[prompt]\nuser = "x"\n[prompt.few_shot]\nselect = "fixed"\n', "tasks.bad_value", 3),
        ("[prompt]\nfew_shot = { count = 2 }\n", "tasks.few_shot_without_train", 2),
        ('[prompt]\nname = "a"\n[[prompts]]\nname = "b"\n', "tasks.both_prompts", 3),
        ('[[candidates]]\nmodel = "a/b"\n[[candidates]]\nname = "x"\n', "tasks.bad_value", 3),
        ('[[candidates]]\nmodel = "a/b"\nprompt = "none"\n', "tasks.unknown_prompt", 3),
        ('[[candidates]]\nmodel = "a/b"\nprompt = "gone.toml"\n', "tasks.missing_prompt", 3),
        ('[[candidates]]\nmodel = "a/b"\nfew_shot = 3\n', "tasks.few_shot_without_train", 3),
        (
            '[[candidates]]\nmodel = "a/b"\n[candidates.sampling]\ntemprature = 1\n',
            "tasks.unknown_key_near",
            4,
        ),
        ('[[scorers]]\nschema = "schema.json"\n', "tasks.scorer_name", 1),
        ('[[scorers]]\nname = "json"\nschema = "shema.json"\n', "tasks.missing_schema_near", 3),
        ('[data]\ntest = "tset.jsonl"\n', "tasks.missing_split_near", 2),
        ('[data]\ntrain = "nowhere"\n', "tasks.missing_split", 2),
        ('[data]\ndelimiter = "::"\n', "tasks.bad_delimiter", 2),
        ('data_class = "secret"\n', "tasks.bad_value", 1),
    ],
)
def test_a_slip_in_task_toml_is_named_with_its_line(folder: Path, toml: str, key: str, line: int) -> None:
    error = _error(folder, toml)
    assert (error.key, error.facts["line"]) == (key, line)
    assert f"line {line}" in str(error)


def test_near_names_are_offered(folder: Path) -> None:
    assert "train" in _error(folder, '[data]\ntrian = "x"\n').hint
    assert "test.jsonl" in _error(folder, '[data]\ntest = "tst.jsonl"\n').hint
    assert "openai-chat" in _error(folder, '[data]\nformat = "openai_chat"\n').hint


def test_a_broken_toml_or_schema_is_an_error_with_its_place(folder: Path) -> None:
    assert "line 2" in str(_error(folder, 'name = "x"\nname\n'))
    (folder / "schema.json").write_text('{"type": "objekt"}')
    assert _error(folder, 'json_schema = "schema.json"\n').key == "tasks.bad_schema"


def test_a_folder_without_a_task_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(TaskError) as caught:
        load_task(tmp_path)
    assert "baimo tasks new" in caught.value.hint
    (tmp_path / "tsk.toml").write_text("")
    with pytest.raises(TaskError, match=r"but tsk\.toml"):
        load_task(tmp_path)


@pytest.mark.parametrize(
    ("targets", "scorer"),
    [
        (["1", "2,000", "-3.5"], "numeric"),
        ([1, 2.5], "numeric"),
        (["a", "b"] * 4, "choice"),
        (["red", "green", "blue"], "exact"),
        ([["a", "b"], ["c"]], "exact"),
        (["word " * 60, "other " * 60], "text_overlap"),
        ([{"a": 1}, {"a": 2}], "json"),
        ([[{"name": "f", "arguments": {}}]], "tool_calls"),
    ],
)
def test_the_scorer_follows_from_the_references(tmp_path: Path, targets: list[object], scorer: str) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"input": f"q{number}", "target": target} for number, target in enumerate(targets)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert load_task(path).scorers[0].name == scorer


def test_lines_are_found_by_place() -> None:
    source = '[data]\n"in put" = "x"\n[[prompts]]\nname = "a"\n[prompts.few_shot]\ncount = 1\n[[prompts]]\nname = "b"\n'
    assert line_of(source, ("data", "in put")) == 2
    assert line_of(source, ("prompts", 0, "few_shot", "count")) == 6
    assert line_of(source, ("prompts", 1, "name")) == 8
    assert line_of(source, ("prompts", 1, "user")) == 7
    assert line_of(source, ("nothing",)) == 1
