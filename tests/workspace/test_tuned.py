"""The child process: plans, lends, and says what went wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from baimo.core.message import Message
from baimo.core.registry import Spec
from baimo.core.tuning import Row, TuneSpec
from baimo.tuning.folder import JobFolder
from baimo.tuning.launch import TAKEN

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from baimo.workspace.tuned import main
sys.exit(main(sys.argv[1:], {name: "tests.tuning.counting" for name in ("sft", "grpo", "prompt")}))
"""
TASK = """
name = "sums"
[[scorers]]
name = "exact"
[[prompts]]
name = "plain"
user = "{{ input }} = ?"
"""
TOML = """
[providers.echo]
protocol = "fake"
inside = true
[providers.far]
protocol = "fake"
[models."echo/echo"]
input_per_million = 1.0
output_per_million = 2.0
[models."far/echo"]
input_per_million = 1.0
"""


class Place:
    """A workspace's folder with a job in it."""

    def __init__(self, folder: Path) -> None:
        self.here = folder
        (folder / "baimo.toml").write_text(TOML)
        self.folder = JobFolder(folder / "job")
        self.bench: dict[str, Any] = {"workspace": str(folder), "device": "cpu"}

    def task(self, data_class: str = "internal") -> str:
        task = self.here / "sums"
        task.mkdir()
        (task / "task.toml").write_text(
            TASK.replace('name = "sums"', f'name = "sums"\ndata_class = "{data_class}"')
        )
        for split in ("train", "test"):
            (task / f"{split}.jsonl").write_text('{"id": "a", "input": "2 + 2", "target": "4"}\n')
        return str(task)

    def run(self, recipe: str = "sft", *, task: str = "", **args: object) -> int:
        spec = TuneSpec(
            id="ftjob-1", recipe=Spec(name=recipe, args=args), base="echo/echo", task=task, tenant="acme"
        )
        row = Row(messages=(Message(role="user", content="2 + 2 = ?"),), item={"id": "a", "target": "4"})
        self.folder.write(spec, [row])
        (self.folder.path / "bench.json").write_text(json.dumps(self.bench))
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(self.folder.path)], cwd=ROOT, check=False, capture_output=True
        )
        self.log = done.stderr.decode()
        return done.returncode

    def told(self, kind: str) -> dict[str, Any]:
        return next(event for _, event in self.folder.events() if event["kind"] == kind)

    @property
    def found(self) -> dict[str, Any]:
        return json.loads((self.folder.adapter / "found.json").read_bytes())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_job_is_planned_told_and_run(place: Place) -> None:
    assert place.run(micro_tokens=32) == 0, place.log
    plan = place.told("plan")
    assert plan["recipe"] == "sft" and plan["version"] == "7"
    assert plan["settings"]["micro_tokens"] == 32 and plan["facts"]["rows"] == 1
    assert place.found == {"rows": 1, "rewards": {}, "work": None}


def test_what_was_made_smaller_after_a_death_is_stronger_than_what_was_asked(place: Place) -> None:
    place.folder.path.mkdir()
    place.folder.override(micro_tokens=16, unknown_here=1)
    assert place.run(micro_tokens=32) == 0, place.log
    assert place.told("plan")["settings"]["micro_tokens"] == 16


def test_what_a_person_can_mend_is_told_without_a_traceback(place: Place) -> None:
    assert place.run(fail="user") == 1
    failed = place.told("failed")
    assert failed["code"] == "tune_no_train" and failed["type"] == "TaskError"
    assert "no train split" in failed["message"] and "train.jsonl" in failed["message"]
    assert "Traceback" not in place.log


def test_a_fault_of_ours_is_told_and_its_traceback_is_in_the_log(place: Place) -> None:
    assert place.run(fail="fault") == 1
    assert place.told("failed")["code"] == "internal_error" and "of ours" in place.told("failed")["message"]
    assert "ZeroDivisionError" in place.log


@pytest.mark.parametrize("args", [{"micro_tokens": "many"}, {"n_epoch": 3}])
def test_a_setting_that_does_not_exist_or_fit_is_told(place: Place, args: dict[str, Any]) -> None:
    assert place.run(**args) == 1
    assert place.told("failed")["type"] == "ConfigError"


def test_a_recipe_that_does_not_exist_is_told(place: Place) -> None:
    assert place.run("sfd") == 1
    assert "sft" in place.told("failed")["message"]


def test_the_second_child_leaves_without_a_word(place: Place) -> None:
    place.folder.path.mkdir()
    with place.folder.held() as mine:
        assert mine and place.run() == TAKEN
    assert list(place.folder.events()) == []


def test_a_call_is_answered_and_leaves_its_record(place: Place) -> None:
    assert place.run("grpo", ask="echo/echo") == 0, place.log
    assert place.found["said"]
    record = place.told("record")["record"]
    assert (record["surface"], record["model"], record["run"], record["tenant"]) == (
        "tune",
        "echo/echo",
        "ftjob-1",
        "acme",
    )
    assert record["cost_micros"] > 0 and place.told("record")["id"] == record["id"]


def test_the_tasks_scorer_and_the_jobs_grader_are_lent_as_rewards(place: Place) -> None:
    place.bench["grader"] = {
        "type": "string_check",
        "name": "same",
        "operation": "eq",
        "input": "{{sample.output_text}}",
        "reference": "{{item.target}}",
    }
    assert place.run("grpo", task=place.task()) == 0, place.log
    assert place.found["rewards"] == {"task": 1.0, "exact": 1.0, "grader": 1.0}
    assert place.found["work"]["name"] == "plain"


def test_an_answer_that_is_not_the_json_that_a_grader_reads_is_worth_nothing(place: Place) -> None:
    place.bench["grader"] = {
        "type": "string_check",
        "name": "same",
        "operation": "ne",
        "input": "{{sample.output_json.town}}",
        "reference": "",
    }
    assert place.run("grpo", task=place.task()) == 0, place.log
    assert place.found["rewards"]["grader"] == 0.0


def test_confidential_work_is_not_sent_outside(place: Place) -> None:
    task = place.task("confidential")
    assert place.run("grpo", task=task, ask="far/echo") == 1
    assert place.told("failed")["code"] == "compare_confidential"
    assert place.run("grpo", task=task, ask="echo/echo") == 0, place.log


def test_a_machine_that_is_shut_down_pauses_the_job(place: Place) -> None:
    program = "import os, signal, sys; from pathlib import Path; from baimo.workspace import tuned\n"
    program += "from baimo.tuning.folder import JobFolder\n"
    program += "def work(folder, recipes): os.kill(os.getpid(), signal.SIGTERM); print(folder.wished())\n"
    program += "tuned.work = work; sys.exit(tuned.main(sys.argv[1:]))"
    place.folder.write(TuneSpec(id="ftjob-1", recipe=Spec(name="sft"), base="b"), [])
    (place.folder.path / "bench.json").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-c", program, str(place.folder.path)], check=True, capture_output=True
    )
    assert done.stdout == b"pause\n"
