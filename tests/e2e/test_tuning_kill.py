"""A job that is killed, and a keeper that is: the same model comes out, and nothing is computed twice.

Tolerance: the final loss of a job that was killed and resumed is within 1e-4 of the uninterrupted one. A resumed job
computes the same sums in the same order; what differs is how many rows a kernel takes at once after memory was short,
and that moves the last digits of a float.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from baimo.core.registry import Spec
from baimo.core.tuning import JobStatus, TuneJob, TuneSpec
from baimo.settings import Settings, TuneSettings, WorkspaceSettings
from baimo.workspace.queue import Queue, unadopted
from baimo.workspace.tuning import Tuning
from baimo.workspace.workspace import Workspace

pytest.importorskip("torch")
pytest.importorskip("transformers")
from tests import waiting
from tests.tuning.base import answers, tiny_base

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("tuning")]

TOLERANCE = 1e-4
STEPS = 60
ROOT = Path(__file__).parents[2]
KEEPER = """
import sys, time
sys.path.insert(0, {root!r})
from tests.e2e.test_tuning_kill import queue_of
from pathlib import Path
queue = queue_of(Path(sys.argv[1]))
while True:
    queue.step()
    time.sleep(0.05)
"""


def queue_of(folder: Path) -> Queue:
    # a checkpoint every few steps: what is lost in a kill is what is between two of them
    tune = TuneSettings(threads=1, device="cpu", checkpoint_minutes=0.0001)
    given = Settings(workspace=WorkspaceSettings(path=str(folder / "memory")), tune=tune)
    return Tuning(Workspace(folder, given=given), adopt=unadopted).queue


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tuning")
    tiny_base(made / "base")
    return made


@pytest.fixture
def queue(folder: Path) -> Iterator[Queue]:
    made = queue_of(folder)
    yield made
    made.close()
    ended(made)


def ended(queue: Queue) -> None:
    """Leave no child behind."""
    for path in queue.folder.glob("ftjob-*"):
        if pid := queue.at(path.name).pid:
            os.killpg(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def orphan(folder: Path) -> TuneJob:
    """A job whose keeper was killed, and which has gone on alone for a while; its child was never interrupted."""
    queue = queue_of(folder)
    job = ordered(queue, folder)
    keeper = subprocess.Popen([sys.executable, "-c", KEEPER.format(root=str(ROOT)), str(folder)], cwd=ROOT)
    try:
        until(None, lambda: len(told(queue, job, "progress")) >= 3)
    finally:
        keeper.send_signal(signal.SIGKILL)
        keeper.wait()
    alone = len(told(queue, job, "progress"))
    assert queue.at(job.spec.id).alive and not queue.at(job.spec.id).kept
    until(None, lambda: len(told(queue, job, "progress")) > alone)
    assert now(queue, job).status is JobStatus.RUNNING
    until(queue, lambda: now(queue, job).status.ended)
    queue.close()
    return job


def ordered(queue: Queue, folder: Path) -> TuneJob:
    args = {"n_epochs": 3, "batch_size": 2, "precision": "f32", "dropout": 0.1}
    spec = TuneSpec(
        id=queue.jobs.new_id(),
        recipe=Spec(name="sft", args=args),
        base=str(folder / "base"),
        valid="valid.jsonl",
    )
    return queue.submit(spec, answers(40), answers(6))


def until(queue: Queue | None, what: Callable[[], object]) -> None:
    def stepped() -> object:
        if queue is not None:
            queue.step()
        return what()

    waiting.until(stepped, within_s=240)


def now(queue: Queue, job: TuneJob) -> TuneJob:
    found = queue.jobs.find(job.spec.id)
    assert found is not None
    return found


def told(queue: Queue, job: TuneJob, kind: str) -> list[int]:
    lines = (event for _, event in queue.at(job.spec.id).events())
    return [int(event.get("progress", event).get("step", 0)) for event in lines if event["kind"] == kind]


def loss(job: TuneJob) -> tuple[float, float]:
    assert job.progress is not None and job.progress.valid_loss is not None, job.error
    return job.progress.loss, job.progress.valid_loss


def test_a_job_whose_keeper_is_killed_goes_on_is_adopted_and_succeeds(queue: Queue, orphan: TuneJob) -> None:
    assert now(queue, orphan).status is JobStatus.SUCCEEDED, now(queue, orphan).error
    assert told(queue, orphan, "progress") == list(range(1, STEPS + 1)), "a step was taken twice"
    assert len(told(queue, orphan, "started")) == 1
    entered = queue.jobs.events(orphan.spec.id, limit=999)
    assert sum(event.kind == "progress" for event in entered) == STEPS


def test_a_job_killed_at_five_random_moments_ends_with_the_same_loss(
    queue: Queue, folder: Path, orphan: TuneJob
) -> None:
    chance = random.Random(20261122)
    job = ordered(queue, folder)
    killed_at: list[int] = []
    for number in range(5):
        wanted = len(told(queue, job, "progress")) + 1 + chance.randrange(STEPS // 5 - 3)
        until(queue, lambda wanted=wanted: len(told(queue, job, "progress")) >= wanted)  # type: ignore[misc]
        pid = queue.at(job.spec.id).pid
        assert pid is not None, "the job ended before it was killed often enough"
        os.killpg(pid, signal.SIGKILL)
        killed_at.append(told(queue, job, "progress")[-1])
        until(queue, lambda number=number: len(told(queue, job, "started")) > number + 1)  # type: ignore[misc]
    until(queue, lambda: now(queue, job).status.ended)
    assert now(queue, job).status is JobStatus.SUCCEEDED, now(queue, job).error
    assert len(told(queue, job, "started")) == 6 and len(set(killed_at)) >= 3
    for one, other in zip(loss(now(queue, orphan)), loss(now(queue, job)), strict=True):
        assert abs(one - other) <= TOLERANCE
