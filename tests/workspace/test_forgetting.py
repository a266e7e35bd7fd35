"""A tenant is forgotten with everything that was tuned from what it said; the other tenant notices nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from baimo.core.message import Message
from baimo.core.record import Record
from baimo.core.registry import Spec
from baimo.core.tuning import JobStatus, Row, TuneJob, TuneSpec
from baimo.store.evaluations import Evaluation, Evaluations
from baimo.tuning.folder import JobFolder
from baimo.workspace.account_options import TenantOptions
from baimo.workspace.forgetting import stopped
from baimo.workspace.workspace import Workspace
from tests.evals.doubles import made_run
from tests.workspace.test_adapting import adapting, folder_of, job_of
from tests.workspace.test_queue import SCRIPTED, until

SECRET = "the password is swordfish"
ROWS = [Row(messages=(Message(role="user", content=SECRET), Message(role="assistant", content="no")))]


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    (tmp_path / "baimo.toml").write_text("")
    with Workspace(tmp_path) as made:
        made.tuning.queue.launch = lambda _: SCRIPTED
        for tenant in ("acme", "globex"):
            made.accounting.create_tenant(TenantOptions(id=tenant))
        yield made
        made.tuning.queue.close()
        for path in (made.path / "tuning").glob("ftjob-*"):
            if pid := JobFolder(path).pid:
                os.killpg(pid, signal.SIGKILL)


def submitted(workspace: Workspace, tenant: str, **args: object) -> TuneJob:
    queue = workspace.tuning.queue
    spec = TuneSpec(id=queue.jobs.new_id(), recipe=Spec(name="scripted", args=args), base="b", tenant=tenant)
    return queue.submit(spec, ROWS)


def test_a_tenant_is_forgotten_with_its_jobs_and_models_and_the_other_s_stay(
    workspace: Workspace, tmp_path: Path
) -> None:
    queue, house = workspace.tuning.queue, adapting(workspace, "ready", differs="")
    queue.at_once = 2
    jobs, models = {}, {}
    for tenant in ("acme", "globex"):
        jobs[tenant] = submitted(workspace, tenant, steps=10_000)
        models[tenant] = house.found(house.adopted(job_of(tenant), folder_of(tmp_path / tenant)).model)
        (workspace.path / "served").mkdir(exist_ok=True)
        (workspace.path / "served" / f"{models[tenant].id}-1-f16.gguf").write_text("merged")
        store = Evaluations(workspace.store.database)
        store.add(
            Evaluation(
                id=store.new_id(), tenant=tenant, name="", source={}, criteria=(), created_ms=1, updated_ms=1
            )
        )
        workspace.store.settle(Record(id=f"rec_{tenant}", at_ms=1, surface="chat", model="m", tenant=tenant))
    until(lambda: all(queue.at(job.spec.id).alive for job in jobs.values()), queue)
    queue.close()  # as if the server had died
    gone = workspace.accounting.forget_tenant("acme")
    assert (gone["jobs"], gone["adapters"], gone["evaluations"]) == (1, 1, 1)
    assert gone["job_events"] >= 2

    queue.step()
    hers, his = (jobs[tenant].spec.id for tenant in ("acme", "globex"))
    assert queue.jobs.page("acme", limit=9) == [] and queue.jobs.events(hers, limit=9) == []
    assert not (workspace.path / "tuning" / hers).exists()
    assert house.page("acme") == [] and not house.at(models["acme"]).exists()
    assert queue.at(his).alive and queue.jobs.events(his, limit=9)
    assert house.page("globex") == [models["globex"]] and house.at(models["globex"]).exists()
    assert [path.name for path in (workspace.path / "served").iterdir()] == [
        f"{models['globex'].id}-1-f16.gguf"
    ]
    assert len(Evaluations(workspace.store.database).page("globex", limit=9)) == 1
    assert workspace.bookkeeping.verify().ok
    assert sorted(record.tenant for record in workspace.store.records()) == ["acme", "globex"]


def test_reports_of_comparisons_go_with_them(workspace: Workspace) -> None:
    (workspace.path / "reports").mkdir()
    for id, tenant in (("run_a", "acme"), ("run_b", "globex")):
        workspace.store.begin(replace(made_run(id), tenant=tenant))
        (workspace.path / "reports" / f"{id}.html").write_text(SECRET)
    workspace.accounting.forget_tenant("acme")
    assert [path.name for path in (workspace.path / "reports").iterdir()] == ["run_b.html"]


def test_a_child_that_does_not_listen_is_ended_and_a_job_that_was_only_forecast_is_removed(
    workspace: Workspace,
) -> None:
    queue = workspace.tuning.queue
    deaf = submitted(workspace, "acme", steps=10_000, deaf=True)
    spec = replace(deaf.spec, id=queue.jobs.new_id(), recipe=Spec(name="scripted"))
    queue.at(spec.id).write(spec, ROWS)
    others = replace(spec, id=queue.jobs.new_id(), tenant="globex")
    queue.at(others.id).write(others, ROWS)
    pid = until(lambda: queue.at(deaf.spec.id).pid, queue)
    assert pid
    assert stopped(queue, "acme", patience_s=0.2) == 1
    assert not (workspace.path / "tuning" / deaf.spec.id).exists()
    with pytest.raises(ProcessLookupError):
        until(lambda: os.kill(pid, 0))  # until it is reaped
    found = {path.name for path in (workspace.path / "tuning").glob("ftjob-*")}
    assert found == {others.id}
    now = queue.jobs.get("acme", deaf.spec.id)
    assert now is not None and now.status is JobStatus.CANCELLED


def test_rows_that_were_being_read_while_their_tenant_was_forgotten_are_not_left_behind(
    workspace: Workspace,
) -> None:
    queue = workspace.tuning.queue
    spec = TuneSpec(id=queue.jobs.new_id(), recipe=Spec(name="sft"), base="b", tenant="acme")
    job = queue.submit(spec, (), status=JobStatus.VALIDATING)
    workspace.accounting.forget_tenant("acme")
    assert queue.queued(job, spec, ROWS) is None
    files = [path for path in workspace.path.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if SECRET in path.read_text("utf-8", "replace")] == []
