"""`Workspace.tune`: rows, the first steps, a forecast that may be refused, the queue, a model."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from baimo.core.message import Message
from baimo.core.registry import Spec
from baimo.core.tenant import Key, Limit, Tenant
from baimo.core.tuning import Adapter, JobStatus, Row, TuneJob, TuneSpec
from baimo.errors import (
    ConfigError,
    DataError,
    NotFound,
    TaskError,
    Unauthenticated,
    UnknownModel,
    UsageError,
)
from baimo.settings import Settings, TuneSettings, WorkspaceSettings
from baimo.store.jobs import JobEvent
from baimo.tuning.adapters.card import lineage_of, write_card
from baimo.tuning.bench import Facts
from baimo.tuning.data.lineage import note
from baimo.tuning.folder import JobFolder
from baimo.tuning.launch import Launch
from baimo.tuning.options import TuneOptions
from baimo.tuning.plans.sft import planned
from baimo.typed import converted
from baimo.workspace.permit import Permit
from baimo.workspace.queue import unadopted
from baimo.workspace.spread import _join  # pyright: ignore[reportPrivateUsage]
from baimo.workspace.training import task_rows, training
from baimo.workspace.tuning import Planned, Tuning, base_hash, recipe_version
from baimo.workspace.workspace import Workspace

ROOT = Path(__file__).parents[2]
TASK = """
name = "sums"
[data]
test = "test.jsonl"
train = "train.jsonl"
[[scorers]]
name = "exact"
[[prompts]]
name = "shown"
user = "{{ input }} = ?"
few_shot = { count = 1 }
[[prompts]]
name = "plain"
system = "Add."
user = "{{ input }} = ?"
assistant = "= {{ target }}"
"""


class Scripted(Tuning):
    """Tuning whose children only count; what they count with stands in `args`."""

    def __init__(self, workspace: Workspace, **given: Any) -> None:
        super().__init__(workspace, **{"adopt": unadopted, **given})
        self.command = (sys.executable, "-m", "tests.tuning.scripted")

    def launch(self, job: TuneJob) -> Launch:
        return replace(super().launch(job), command=self.command, directory=ROOT)


class Onlooker:
    """Agrees, or not, and remembers."""

    def __init__(self, *, agrees: bool = True) -> None:
        self.agrees = agrees
        self.plan: Planned | None = None
        self.kinds: list[str] = []
        self.notices: list[str] = []

    def notice(self, message: str) -> None:
        self.notices.append(message)

    def planned(self, planned: Planned) -> bool:
        self.plan = planned
        return self.agrees

    def happened(self, job: TuneJob, events: list[JobEvent]) -> None:
        self.kinds += [event.kind for event in events]


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model.safetensors").write_bytes(b"weights")
    lines = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}] * 3
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    given = Settings(
        workspace=WorkspaceSettings(path=str(tmp_path / "memory")),
        tune=TuneSettings(memory_gib=0.2, hourly_rate=6.0),
    )
    with Workspace(tmp_path, given=given) as made:
        yield made


def options(workspace: Workspace, **given: Any) -> TuneOptions:
    settings = ("steps=12", "pause_s=0", *given.pop("set", ()))
    base = str(workspace.folder / "base")
    return TuneOptions(
        **{"source": str(workspace.folder / "data.jsonl"), "model": base, "set": settings, **given}
    )


def no() -> bool:
    return False


def test_a_job_is_planned_forecast_run_and_adopted(workspace: Workspace) -> None:
    def adopt(job: TuneJob, folder: JobFolder) -> TuneJob:
        return replace(job, model=f"ft:base:local:{job.spec.suffix}:1")

    onlooker = Onlooker()
    job = Scripted(workspace, adopt=adopt).tune(options(workspace, suffix="mine"), onlooker, no)
    assert job is not None and job.status is JobStatus.SUCCEEDED and job.model == "ft:base:local:mine:1"
    plan = onlooker.plan
    assert plan is not None and plan.rows == 3 and plan.settings["micro_tokens"] == 8
    assert plan.overridden == ("steps", "pause_s") and plan.forecast is not None
    assert job.forecast == plan.forecast and job.minutes is not None
    assert job.spec.base_hash == base_hash(workspace.folder / "base") and job.spec.data_hash
    # three steps of six seconds each were seen: eleven more of them, one again, and two starts
    assert 9 * 6 / 60 < plan.forecast.raw_minutes < 9 * 6 / 60 + 0.5
    cost = plan.forecast.cost_micros
    assert cost is not None and cost.middle == pytest.approx(plan.forecast.minutes.middle * 100_000)
    assert onlooker.kinds.count("progress") == 12 and onlooker.kinds[-1] == "succeeded"
    assert onlooker.kinds.count("started") == 2  # the first steps, and the rest: nothing is computed twice


def ordered(tuning: Tuning, recipe: str = "sft", key: str = "key", **args: Any) -> TuneJob:
    """A job as a client of the endpoint orders it: nobody has forecast it."""
    spec = TuneSpec(
        id=tuning.queue.jobs.new_id(),
        recipe=Spec(name=recipe, args={"steps": 200, "pause_s": 0.02, **args}),
        base=str(tuning.workspace.folder / "base"),
    )
    row = Row(messages=(Message(role="user", content="a"), Message(role="assistant", content="b")))
    return tuning.queue.submit(spec, [row], key=key)


def test_a_job_of_the_endpoint_is_forecast_by_its_own_first_steps_and_goes_on(workspace: Workspace) -> None:
    tuning, seen = Scripted(workspace), Onlooker()
    job = ordered(tuning, steps=200)
    done = tuning.settled(job.spec.id, seen, no)
    assert done.status is JobStatus.SUCCEEDED and done.forecast is not None
    # six seconds a step; the others are yet to come: most of them, however late the first were looked at
    assert 50 * 6 / 60 < done.forecast.raw_minutes < 200 * 6 / 60
    assert done.forecast.raw_memory_mb == 100.0 and done.forecast.cost_micros is not None
    assert seen.kinds.count("started") == 1


def test_a_job_of_the_endpoint_that_does_not_fit_is_ended_and_says_so(workspace: Workspace) -> None:
    tuning = Scripted(workspace)
    tuning.settings = msgspec.structs.replace(tuning.settings, tune=TuneSettings(memory_gib=0.05))
    job = ordered(tuning)
    done = tuning.settled(job.spec.id, Onlooker(), no)
    assert done.status is JobStatus.FAILED and done.error is not None
    assert done.error["code"] == "tune_memory_limit" and "51" in done.error["message"]
    assert not tuning.queue.at(job.spec.id).alive and not tuning.queue.at(job.spec.id).adapter.exists()


@pytest.mark.parametrize("how", ["revoked", "disabled"])
def test_a_job_that_asks_models_ends_with_the_rights_of_its_key(workspace: Workspace, how: str) -> None:
    tuning, accounts = Scripted(workspace), workspace.accounts
    accounts.create_tenant(Tenant(id="acme"))
    key = accounts.create_key(Key(tenant="acme")).key.public
    job = ordered(tuning, "grpo", key, steps=10_000)

    def seen() -> bool:
        if any(event.kind == "progress" for event in tuning.queue.jobs.events(job.spec.id, limit=99)):
            if how == "revoked":
                accounts.revoke(key)
            else:
                accounts.change_tenant("acme", {"disabled": True})
        return False

    done = tuning.settled(job.spec.id, Onlooker(), seen)
    assert done.status is JobStatus.FAILED and done.error is not None
    assert how in done.error["message"] and not tuning.queue.at(job.spec.id).alive


def test_preferences_are_not_imitated_unless_they_are_told_apart(workspace: Workspace) -> None:
    ending = [{"role": "assistant", "content": "b"}]
    row = {
        "input": {"messages": [{"role": "user", "content": "a"}]},
        "preferred_output": ending,
        "non_preferred_output": ending,
    }
    (workspace.folder / "data.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(UsageError) as caught:
        Scripted(workspace).tune(options(workspace), Onlooker(), no)
    assert "1 of 1 rows" in str(caught.value) and "--recipe dpo" in caught.value.hint
    assert training(workspace.folder / "data.jsonl", "dpo", valid=None, task=None, prompt=None).train


def test_what_the_check_calls_an_error_is_said_before_the_first_steps(workspace: Workspace) -> None:
    said = Onlooker(agrees=False)
    with (workspace.folder / "data.jsonl").open("a") as file:
        file.write('{"text": "raw"}\n')
    Scripted(workspace).tune(options(workspace), said, no)
    (problem,) = [notice for notice in said.notices if "data.jsonl:4" in notice]
    assert said.notices.index(problem) == 1 and "file of their own" in problem


def test_who_only_wants_the_forecast_leaves_nothing_behind(workspace: Workspace) -> None:
    tuning, onlooker = Scripted(workspace), Onlooker()
    assert tuning.tune(options(workspace, forecast=True), onlooker, no) is None
    assert onlooker.plan is not None and onlooker.plan.forecast is not None
    assert list(tuning.queue.folder.glob("ftjob-*")) == [] and tuning.queue.jobs.page(None, limit=9) == []


def test_a_plan_that_is_refused_leaves_nothing_behind(workspace: Workspace) -> None:
    tuning = Scripted(workspace)
    assert tuning.tune(options(workspace), Onlooker(agrees=False), no) is None
    assert list(tuning.queue.folder.glob("ftjob-*")) == []


def test_what_the_child_says_is_wrong_is_said_before_anything_is_queued(workspace: Workspace) -> None:
    tuning = Scripted(workspace)
    with pytest.raises(ConfigError, match="this base cannot be tuned"):
        tuning.tune(options(workspace, set=("fail=true",)), Onlooker(), no)
    assert list(tuning.queue.folder.glob("ftjob-*")) == [] and tuning.queue.jobs.page(None, limit=9) == []


def test_first_steps_that_are_killed_are_told_to_be_too_large(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="memory ran out"):
        Scripted(workspace).tune(options(workspace, set=("die_at=1",)), Onlooker(), no)


def test_a_job_that_does_not_fit_is_refused_with_what_to_change(tmp_path: Path, workspace: Workspace) -> None:
    given = Settings(
        workspace=WorkspaceSettings(path=str(tmp_path / "memory")), tune=TuneSettings(memory_gib=0.05)
    )
    with Workspace(tmp_path, given=given) as small, pytest.raises(ConfigError, match="51 MiB") as caught:
        Scripted(small).tune(options(workspace), Onlooker(), no)
    assert "micro_tokens" in caught.value.hint


def test_a_job_that_is_to_pause_is_resumed_later(workspace: Workspace) -> None:
    tuning, onlooker = Scripted(workspace), Onlooker()
    steps = ("steps=400", "pause_s=0.01")
    halted = lambda: "progress" in onlooker.kinds  # noqa: E731
    job = tuning.tune(options(workspace, set=steps), onlooker, halted)
    assert job is not None and job.status is JobStatus.PAUSED
    after = Onlooker()
    done = Scripted(workspace).resumed(job.spec.id, after, no)
    assert done.status is JobStatus.SUCCEEDED and onlooker.kinds[-1] != "succeeded"
    with pytest.raises(NotFound):
        tuning.resumed("ftjob-none", after, no)


def test_past_jobs_make_the_next_forecast_better(workspace: Workspace) -> None:
    tuning = Scripted(workspace)
    for _ in range(3):
        tuning.tune(options(workspace), Onlooker(), no)
    onlooker = Onlooker()
    tuning.tune(options(workspace, forecast=True), onlooker, no)
    said = onlooker.plan.forecast if onlooker.plan else None
    assert said is not None and said.based_on == "both"
    # the scripted child says six seconds a step and takes none: past jobs know
    assert said.minutes.middle < said.raw_minutes / 3 and said.memory_mb.middle == pytest.approx(100)


def test_a_call_of_a_child_is_entered_into_the_ledger_once(workspace: Workspace) -> None:
    tuning = Scripted(workspace)
    job = tuning.tune(options(workspace), Onlooker(), no)
    assert job is not None
    record = {
        "id": "rec_1",
        "at_ms": 5,
        "surface": "tune",
        "model": "a/b",
        "run": job.spec.id,
        "cost_micros": 7,
    }
    key = workspace.accounts.create_key(Key(tags=(("team", "search"),))).key.public
    for _ in range(2):
        tuning.queue.record(replace(job, key=key), {"id": "rec_1", "record": record})
    (entered,) = workspace.store.records(run=job.spec.id)
    assert entered.id == "rec_1" and entered.cost_micros == 7 and entered.key == key
    assert entered.tags == {"team": "search"}


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"source": "nowhere.jsonl"}, UsageError),
        ({"recipe": "sfd"}, UsageError),
        ({"model": "local/smolm"}, UnknownModel),
        ({"model": "openai/gpt-4o"}, UsageError),
    ],
)
def test_what_cannot_be_is_refused_before_a_child_starts(
    workspace: Workspace, given: dict[str, Any], error: type[Exception]
) -> None:
    onlooker = Onlooker()
    with pytest.raises(error):
        Scripted(workspace).tune(options(workspace, **given), onlooker, no)
    assert onlooker.notices == []


def test_a_cluster_that_does_not_answer_is_no_fault_of_ours() -> None:
    class Ray:
        def init(self, **given: object) -> None:
            raise ConnectionError("ray client connection timeout")

    with pytest.raises(ConfigError, match="ray://x:1"):
        _join(Ray(), "ray://x:1")


def test_a_setting_that_there_is_not_is_told_with_the_nearest_or_all() -> None:
    for name, key, named in (
        ("n_epoch", "fit.unknown_setting", "did you mean n_epochs?"),
        ("zzz", "fit.no_such_setting", "n_epochs, "),
    ):
        with pytest.raises(ConfigError) as caught:
            planned("medium", Facts(rows=1, tokens=1, longest=1), {name: 3})
        assert caught.value.key == key and named in caught.value.hint


@pytest.mark.parametrize("given", [{"suffix": "a b"}, {"set": ("n_epochs",)}, {"gpus": 0}])
def test_options_that_make_no_sense_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        TuneOptions(source="x", **given)


def test_values_are_json_or_else_text() -> None:
    given = TuneOptions(source="x", set=("n-epochs=3", "method=full", "on=true", "path=a=b"))
    assert given.settings() == {"n_epochs": 3, "method": "full", "on": True, "path": "a=b"}


def test_the_version_of_a_recipe_is_read_without_its_libraries() -> None:
    assert recipe_version("sft") and "torch" not in recipe_version("sft")


# what is learnt


@pytest.fixture
def task(tmp_path: Path) -> Path:
    folder = tmp_path / "sums"
    folder.mkdir()
    (folder / "task.toml").write_text(TASK)
    train = [{"id": "a", "input": "2 + 2", "target": "4", "group": "g"}, {"id": "b", "input": "1 + 1"}]
    test = [{"id": "t", "input": "3 + 3", "target": "6"}]
    (folder / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in train))
    (folder / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in test))
    return folder


def said(messages: Any) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in messages]


def test_of_a_task_the_train_split_is_learnt_as_its_prompt_asks_and_never_the_test_split(task: Path) -> None:
    found = training(task, "sft", valid=None, task=None, prompt=None)
    (row,) = found.train
    assert said(row.messages) == [("system", "Add."), ("user", "2 + 2 = ?"), ("assistant", "= 4")]
    assert row.group == "g" and row.item["target"] == "4" and found.task is not None
    assert found.prompt is not None and found.prompt.name == "plain"
    assert "3 + 3" not in repr(found.train)


def test_a_prompt_with_solved_examples_is_learnt_without_them(task: Path) -> None:
    found = training(task, "sft", valid=None, task=None, prompt="shown")
    assert said(found.train[0].messages) == [("user", "2 + 2 = ?"), ("assistant", "4")]
    with pytest.raises(UsageError, match="shown, plain"):
        training(task, "sft", valid=None, task=None, prompt="other")


def test_a_prompt_that_is_named_for_a_file_must_be_one_of_the_task_beside_it(
    task: Path, workspace: Workspace
) -> None:
    path = workspace.folder / "data.jsonl"
    found = training(path, "sft", valid=None, task=str(task), prompt="plain")
    assert found.prompt is not None and found.prompt.name == "plain"
    with pytest.raises(UsageError, match="shown, plain"):
        training(path, "sft", valid=None, task=str(task), prompt="other")
    with pytest.raises(UsageError, match="no task"):
        training(path, "sft", valid=None, task=None, prompt="plain")


def test_the_prompt_that_was_named_is_in_the_spec_and_decides_its_hash(
    task: Path, workspace: Workspace
) -> None:
    tuning, hashes = Scripted(workspace), set()
    for name in (None, "shown", "plain"):
        job = tuning.tune(options(workspace, source=str(task), prompt=name), Onlooker(), no)
        assert job is not None and job.spec.prompt == (name or "")
        hashes.add(replace(job.spec, data_hash="").hash)
    assert len(hashes) == 3


def test_recipes_that_get_answers_are_given_questions_only(task: Path) -> None:
    found = training(task, "grpo", valid=None, task=None, prompt=None)
    assert [said(row.messages)[-1][0] for row in found.train] == ["user", "user"]


def test_a_task_without_solved_examples_teaches_nothing(task: Path) -> None:
    found = training(task, "sft", valid=None, task=None, prompt=None)
    assert found.task is not None and found.prompt is not None
    with pytest.raises(TaskError, match="no train split"):
        task_rows(replace(found.task, train=()), found.prompt, "sft")


@pytest.mark.parametrize("of_a_task", [False, True])
def test_what_was_cleaned_out_of_a_file_is_in_the_lineage_and_on_the_card(
    workspace: Workspace, task: Path, tmp_path: Path, of_a_task: bool
) -> None:
    path = task / "train.jsonl" if of_a_task else workspace.folder / "data.jsonl"
    step = {"step": "drop_duplicates", "removed": 7, "changed": 0, "kept": 3}
    note(path, [step])
    (tmp_path / "learnt").mkdir()

    def adopt(job: TuneJob, folder: JobFolder) -> TuneJob:
        adapter = Adapter(
            id="ad_1",
            name="ft:base:local::1",
            tenant="",
            base=job.spec.base,
            base_hash="",
            folder="",
            created_ms=1,
            lineage=lineage_of(job),
        )
        write_card(tmp_path / "learnt", adapter)
        return job

    source = str(task if of_a_task else path)
    job = Scripted(workspace, adopt=adopt).tune(options(workspace, source=source), Onlooker(), no)
    assert job is not None and job.spec.cleaned == (step,) and job.status is JobStatus.SUCCEEDED
    lineage = json.loads((tmp_path / "learnt" / "lineage.json").read_text())["lineage"]
    assert lineage["data"]["cleaned"] == [step]
    assert "drop_duplicates" in (tmp_path / "learnt" / "README.md").read_text()


def test_a_line_that_cannot_be_read_stops_everything_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "a"}]}\nnonsense\n')
    with pytest.raises(DataError, match="2"):
        training(path, "sft", valid=None, task=None, prompt=None)


def test_a_child_is_told_whom_its_job_may_ask(workspace: Workspace) -> None:
    tuning = Tuning(workspace)
    workspace.accounts.create_tenant(Tenant(id="acme", data_class="confidential"))
    key = workspace.accounts.create_key(Key(tenant="acme", models=("local/*",), limits=(COST,))).key

    def told(recipe: str, **facts: Any) -> Permit | None:
        spec = TuneSpec(id="ftjob-1", recipe=Spec(name=recipe), base=str(workspace.folder / "base"))
        job = TuneJob(spec=spec, status=JobStatus.QUEUED, created_ms=0, **facts)
        permit = tuning.launch(job).bench.get("permit")
        return None if permit is None else converted(permit, Permit)

    assert told("sft", key=key.public) is None  # it asks nobody
    assert told("grpo") == Permit(data_class="internal")
    ours = Permit(
        key=key.public,
        tenant="acme",
        models=("local/*",),
        data_class="confidential",
        limited=True,
    )
    assert told("grpo", key=key.public) == ours
    open_ = workspace.accounts.create_key(Key()).key
    strict = told("distill", key=open_.public, data_class="confidential")
    assert strict == Permit(key=open_.public, data_class="confidential")
    workspace.accounts.revoke(key.public)
    with pytest.raises(Unauthenticated):
        told("prompt", key=key.public)


COST = Limit(counts="cost", amount=5_000_000, window="month")
