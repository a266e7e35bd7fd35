"""/v1/fine_tuning with the unmodified `openai` library: jobs that end well, and what can be asked about them."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import openai
import pytest
from openai.types import FileObject, Model, ModelDeleted
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

from tests.server.served import Served
from tests.server.tuned import BASE, client, ended, example, lines, steps, tuned, until, uploaded
from tests.server.wire_schema import problems


class Done(NamedTuple):
    """A job that has ended well, and who ordered it."""

    house: Served
    key: str
    ours: openai.OpenAI
    job: FineTuningJob


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    patch = pytest.MonkeyPatch()
    patch.setenv("BAIMO_LANG", "en")
    with tuned(tmp_path_factory.mktemp("tuned")) as endpoint:
        yield endpoint
    patch.undo()


@pytest.fixture(scope="module")
def done(house: Served) -> Iterator[Done]:
    key = house.key()
    with client(house, key) as ours:
        order = ours.fine_tuning.jobs.create(
            model=BASE,
            training_file=uploaded(ours),
            validation_file=uploaded(ours, lines([example(99)])),
            suffix="lights",
            seed=7,
            method={
                "type": "supervised",
                "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": "auto"}},
            },
            integrations=[{"type": "wandb", "wandb": {"project": "p", "tags": []}}],
            metadata={"team": "home"},
            extra_body=steps(5),
        )
        assert problems(order.to_dict(), FineTuningJob) == []
        assert order.status == "validating_files" and order.fine_tuned_model is None
        yield Done(house, key, ours, ended(ours, order.id))


def test_a_job_goes_from_files_to_a_model(done: Done) -> None:
    job = done.job
    assert job.status == "succeeded", job.error
    assert problems(job.to_dict(), FineTuningJob) == []
    assert job.fine_tuned_model is not None and job.fine_tuned_model.startswith("ft:")
    assert (job.model, job.seed, job.organization_id) == (BASE, 7, "org-acme")
    assert job.finished_at is not None and job.finished_at >= job.created_at
    assert job.metadata == {"team": "home"} and job.error is None
    assert job.hyperparameters.n_epochs == 2 and job.hyperparameters.batch_size == "auto"
    assert job.method is not None and job.method.type == "supervised"
    assert job.method.supervised is not None and job.method.supervised.hyperparameters is not None
    assert job.integrations is not None and job.integrations[0].wandb.project == "p"
    assert job.to_dict()["user_provided_suffix"] == "lights"
    assert isinstance(job.trained_tokens, int)


def test_every_member_that_the_library_knows_is_there(done: Done) -> None:
    answer = done.house.call("GET", f"/v1/fine_tuning/jobs/{done.job.id}", done.key).data
    assert set(FineTuningJob.model_fields) <= set(answer)
    event = done.house.call("GET", f"/v1/fine_tuning/jobs/{done.job.id}/events", done.key).data["data"][0]
    assert set(FineTuningJobEvent.model_fields) <= set(event)


def test_events_tell_the_story_the_newest_first(done: Done) -> None:
    events = list(done.ours.fine_tuning.jobs.list_events(done.job.id, limit=3))
    assert [said for one in events for said in problems(one.to_dict(), FineTuningJobEvent)] == []
    assert len({event.id for event in events}) == len(events)
    told = [event.message for event in reversed(events)]
    wanted = [
        f"Created fine-tuning job: {done.job.id}",
        f"Validating training file: {done.job.training_file} and validation file: {done.job.validation_file}",
        "Files validated, moving job to queued state",
        "Fine-tuning job started",
        "Checkpoint created at step 2",
        f"New fine-tuned model created: {done.job.fine_tuned_model}",
        "The job has successfully completed",
    ]
    places = [told.index(one) for one in wanted]
    assert places == sorted(places)
    metrics = [event for event in events if event.type == "metrics"]
    assert len(metrics) == 5
    first = metrics[-1].data
    assert isinstance(first, dict) and (first["step"], first["total_steps"]) == (1, 5)
    assert metrics[-1].message == f"Step 1/5: training loss={first['train_loss']:.2f}"
    ignored = [event for event in events if event.level == "warn"]
    assert ["Integrations are ignored" in event.message for event in ignored] == [True]


def test_events_are_paged_without_a_gap_or_a_repeat(done: Done) -> None:
    jobs = done.ours.fine_tuning.jobs
    whole = [event.id for event in jobs.list_events(done.job.id, limit=100)]
    first = jobs.list_events(done.job.id, limit=4)
    second = jobs.list_events(done.job.id, limit=4, after=first.data[-1].id)
    assert [event.id for event in (*first.data, *second.data)] == whole[:8] and first.has_more
    for listing in (jobs.list_events, jobs.checkpoints.list):
        with pytest.raises(openai.BadRequestError, match="after is nope"):
            listing(done.job.id, after="nope")


def test_checkpoints_are_models_with_the_figures_of_their_step(done: Done) -> None:
    made = list(done.ours.fine_tuning.jobs.checkpoints.list(done.job.id, limit=1))
    assert [said for one in made for said in problems(one.to_dict(), FineTuningJobCheckpoint)] == []
    assert [one.step_number for one in made] == [4, 2]
    assert made[0].fine_tuned_model_checkpoint == f"{done.job.fine_tuned_model}:ckpt-step-4"
    assert made[0].metrics.step == 4 and made[0].metrics.train_loss is not None
    assert made[0].id.startswith("ftckpt_") and made[0].fine_tuning_job_id == done.job.id


def test_results_are_a_file_of_openais_columns(done: Done) -> None:
    (id,) = done.job.result_files
    file = done.ours.files.retrieve(id)
    assert problems(file.to_dict(), FileObject) == [] and file.purpose == "fine-tune-results"
    table = base64.b64decode(done.ours.files.content(id).read()).decode()
    rows = list(csv.DictReader(io.StringIO(table)))
    columns = ["step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy"]
    assert list(rows[0]) == columns
    told = [one.data for one in done.ours.fine_tuning.jobs.list_events(done.job.id) if one.type == "metrics"]
    figures = {str(one["step"]): f"{one['train_loss']:.5f}" for one in told if isinstance(one, dict)}
    assert {row["step"]: row["train_loss"] for row in rows} == figures and len(figures) == 5


def test_jobs_are_listed_by_page_and_by_metadata(done: Done) -> None:
    jobs, file = done.ours.fine_tuning.jobs, uploaded(done.ours)
    others = [
        jobs.create(model=BASE, training_file=file, metadata=labels, extra_body=steps(1))
        for labels in ({"team": "car", "empty": ""}, {}, {"team": "home"})
    ]
    found = [job.id for job in jobs.list(limit=2)]
    assert found[: len(others)] == [job.id for job in reversed(others)] and found[-1] == done.job.id
    assert [job.id for job in jobs.list(limit=1, metadata={"team": "home"})] == [others[2].id, done.job.id]
    assert [job.id for job in jobs.list(metadata={"empty": ""})] == [others[0].id]
    assert [job.id for job in jobs.list(extra_query={"metadata": "null"})] == [others[1].id]
    for job in others:
        assert ended(done.ours, job.id).status == "succeeded"


def test_a_job_is_paused_resumed_and_cancelled(done: Done) -> None:
    jobs = done.ours.fine_tuning.jobs
    id = jobs.create(model=BASE, training_file=uploaded(done.ours), extra_body=steps(10_000, pause_s=0.02)).id
    running = until(done.ours, id, lambda job: job.status == "running")
    assert problems(running.to_dict(), FineTuningJob) == []
    with pytest.raises(openai.BadRequestError):
        jobs.resume(id)
    assert jobs.pause(id).status == "paused"
    with pytest.raises(openai.BadRequestError):
        jobs.pause(id)
    assert jobs.resume(id).status == "queued"
    until(done.ours, id, lambda job: job.status == "running")
    assert jobs.cancel(id).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="already completed"):
        jobs.cancel(id)
    last = jobs.retrieve(id)
    assert last.finished_at is not None and last.fine_tuned_model is None and last.result_files == []


def test_a_job_that_fails_says_why(done: Done) -> None:
    jobs = done.ours.fine_tuning.jobs
    id = jobs.create(model=BASE, training_file=uploaded(done.ours), extra_body=steps(1, fail=True)).id
    job = ended(done.ours, id)
    assert job.status == "failed" and job.error is not None
    assert (job.error.code, job.error.message) == ("bad_base", "this base cannot be tuned")
    assert problems(job.to_dict(), FineTuningJob) == []
    assert "error" in [event.level for event in jobs.list_events(id)]


def test_openais_own_name_stands_for_a_local_model_where_a_route_says_so(done: Done) -> None:
    job = done.ours.fine_tuning.jobs.create(
        model="gpt-4o-mini-2024-07-18",
        training_file=uploaded(done.ours),
        hyperparameters={"n_epochs": 1, "learning_rate_multiplier": "auto"},
        extra_body=steps(1),
    )
    assert (job.model, job.hyperparameters.n_epochs) == (BASE, 1)
    assert job.method is not None and job.method.type == "supervised"
    assert ended(done.ours, job.id).status == "succeeded"


def test_a_tuned_model_can_be_tuned_further(done: Done) -> None:
    assert done.job.fine_tuned_model is not None
    job = done.ours.fine_tuning.jobs.create(
        model=done.job.fine_tuned_model, training_file=uploaded(done.ours), extra_body=steps(1)
    )
    assert job.model == done.job.fine_tuned_model
    assert ended(done.ours, job.id).status == "succeeded"


def test_preferences_and_rewards_are_methods_with_recipes_of_their_own(done: Done) -> None:
    pair = {
        "input": {"messages": [{"role": "user", "content": "Hi"}]},
        "preferred_output": [{"role": "assistant", "content": "Hello"}],
        "non_preferred_output": [{"role": "assistant", "content": "Go away"}],
    }
    grader = {
        "type": "string_check", "name": "same", "input": "{{sample.output_text}}",
        "reference": "{{item.answer}}", "operation": "eq",
    }  # fmt: skip
    asked = {"messages": [{"role": "user", "content": "2+2?"}], "answer": "4"}
    jobs = done.ours.fine_tuning.jobs
    dpo = jobs.create(
        model=BASE,
        training_file=uploaded(done.ours, lines([pair] * 10)),
        method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2}}},
        extra_body=steps(1),
    )
    reinforced = jobs.create(
        model=BASE,
        training_file=uploaded(done.ours, lines([asked] * 10)),
        method={
            "type": "reinforcement",
            "reinforcement": {"grader": grader, "hyperparameters": {"reasoning_effort": "low"}},  # type: ignore[typeddict-item]
        },
        extra_body=steps(1),
    )
    for job, recipe in ((dpo, "dpo"), (reinforced, "grpo")):
        assert problems(job.to_dict(), FineTuningJob) == []
        assert job.to_dict()["baimo"]["recipe"] == recipe  # type: ignore[index]
        assert ended(done.ours, job.id).status == "succeeded"
    assert (
        dpo.method is not None and dpo.method.dpo is not None and dpo.method.dpo.hyperparameters is not None
    )
    assert dpo.method.dpo.hyperparameters.beta == 0.2
    assert reinforced.to_dict()["method"]["reinforcement"]["grader"] == grader  # type: ignore[index]
    assert reinforced.to_dict()["method"]["reinforcement"]["hyperparameters"]["reasoning_effort"] == "low"  # type: ignore[index]


def test_what_only_baimo_has_may_stand_in_the_metadata(done: Done) -> None:
    labels = {"baimo.effort": "medium", "baimo.overrides": json.dumps({"steps": 1})}
    job = done.ours.fine_tuning.jobs.create(model=BASE, training_file=uploaded(done.ours), metadata=labels)
    assert job.to_dict()["baimo"]["effort"] == "medium"  # type: ignore[index]
    assert ended(done.ours, job.id).status == "succeeded"


def test_a_tuned_model_is_deleted_by_its_tenant_and_once(done: Done) -> None:
    id = done.ours.fine_tuning.jobs.create(
        model=BASE, training_file=uploaded(done.ours), extra_body=steps(1)
    ).id
    name = ended(done.ours, id).fine_tuned_model
    assert name is not None
    gone = done.ours.models.delete(name)
    assert problems(gone.to_dict(), ModelDeleted) == [] and gone.deleted
    with pytest.raises(openai.NotFoundError):
        done.ours.models.delete(name)
    with pytest.raises(openai.PermissionDeniedError):
        done.ours.models.delete("acme/small")


def test_a_checkpoint_is_shared_with_nobody(done: Done) -> None:
    (newest, *_) = done.ours.fine_tuning.jobs.checkpoints.list(done.job.id)
    permissions, name = done.ours.fine_tuning.checkpoints.permissions, newest.fine_tuned_model_checkpoint
    assert list(permissions.list(name)) == []
    with pytest.raises(openai.InternalServerError) as caught:
        list(permissions.create(name, project_ids=["proj_1"]))
    assert caught.value.status_code == 501
    with pytest.raises(openai.NotFoundError):
        permissions.delete("cp_1", fine_tuned_model_checkpoint=name)


def test_models_are_described_as_the_library_expects(done: Done) -> None:
    assert [said for one in done.ours.models.list() for said in problems(one.to_dict(), Model)] == []


def test_jobs_that_begin_later_begin_under_the_settings_of_then(done: Done) -> None:
    service = done.house.state["service"]
    before = service.workspace.settings
    changed = msgspec.structs.replace(before, tune=msgspec.structs.replace(before.tune, jobs=3, threads=1))
    service.adopt(changed)
    assert service.tuning.queue.at_once == 3
    assert service.workspace.tuning.settings.tune.threads == 1
    service.adopt(before)
