"""The queue: whose turn it is, children that outlive their keepers, wishes that are not lost."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from baimo.core.registry import Spec
from baimo.core.tuning import JobStatus, Range, TuneForecast, TuneJob, TuneSpec
from baimo.errors import ConfigError, Conflict, NotFound, StoreError
from baimo.store.engine import Database
from baimo.store.jobs import Jobs
from baimo.tuning.folder import JobFolder
from baimo.tuning.launch import Launch
from baimo.workspace.queue import Queue
from tests import waiting
from tests.waiting import Found

ROOT = Path(__file__).parents[2]
SCRIPTED = Launch(command=(sys.executable, "-m", "tests.tuning.scripted"), directory=ROOT)


class House:
    """A database and a folder, and the queues of the processes that share them."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(str(folder / "baimo.db"))
        self.jobs = Jobs(self.database)
        self.folder = folder / "tuning"
        self.queues: list[Queue] = []

    def queue(self, **given: object) -> Queue:
        made = Queue(jobs=self.jobs, folder=self.folder, launch=lambda _: SCRIPTED, **given)  # type: ignore[arg-type]
        self.queues.append(made)
        return made

    def job(self, **args: object) -> TuneJob:
        spec = TuneSpec(
            id=self.jobs.new_id(), recipe=Spec(name="scripted", args=args), base="b", tenant="acme"
        )
        return self.queue().submit(spec, [])

    def now(self, job: TuneJob) -> TuneJob:
        found = self.jobs.get("acme", job.spec.id)
        assert found is not None
        return found

    def kinds(self, job: TuneJob) -> list[str]:
        return [event.kind for event in reversed(self.jobs.events(job.spec.id, limit=999))]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    for queue in house.queues:
        queue.close()
    for path in house.folder.glob("ftjob-*"):
        if pid := JobFolder(path).pid:
            os.killpg(pid, signal.SIGKILL)
    house.database.close()


def until(what: Callable[[], Found], *queues: Queue) -> Found:
    """Let the queues look after their jobs until something is so."""

    def stepped() -> Found:
        for queue in queues:
            queue.step()
        return what()

    return waiting.until(stepped)


def test_a_job_runs_to_its_end_and_everything_it_said_is_entered_once(house: House) -> None:
    job, queue = house.job(steps=4), house.queue()
    until(lambda: house.now(job).status.ended, queue)
    now = house.now(job)
    assert now.status is JobStatus.SUCCEEDED and now.started_ms and now.ended_ms
    assert now.progress is not None and (now.progress.step, now.progress.steps) == (4, 4)
    kinds = house.kinds(job)
    assert kinds[:3] == ["created", "started", "plan"] and kinds[-2:] == ["done", "succeeded"]
    assert kinds.count("progress") == 4 and kinds.count("checkpoint") == 2
    assert not queue.step()


def test_what_a_job_has_learnt_is_adopted_under_a_name(house: House) -> None:
    def adopt(job: TuneJob, folder: JobFolder) -> TuneJob:
        return replace(job, adapter="ad_1", model=f"ft:b:local::{(folder.adapter / 'loss').read_text()[:3]}")

    job, queue = house.job(steps=1), house.queue(adopt=adopt)
    until(lambda: house.now(job).status.ended, queue)
    assert (house.now(job).adapter, house.now(job).model) == ("ad_1", "ft:b:local::0.9")


def test_a_result_that_cannot_be_adopted_fails_the_job_and_says_why(house: House) -> None:
    def adopt(job: TuneJob, folder: JobFolder) -> TuneJob:
        raise StoreError("store.newer", step="0099")

    job, queue = house.job(steps=1), house.queue(adopt=adopt)
    until(lambda: house.now(job).status.ended, queue)
    error = house.now(job).error
    assert house.now(job).status is JobStatus.FAILED and error is not None and "0099" in error["message"]


def test_a_job_that_says_what_is_wrong_has_failed_with_these_words(house: House) -> None:
    job, queue = house.job(fail=True), house.queue()
    until(lambda: house.now(job).status.ended, queue)
    error = {"code": "bad_base", "message": "this base cannot be tuned", "param": None}
    assert house.now(job).error == error
    assert house.kinds(job).count("started") == 1


def test_a_child_outlives_its_keeper_and_the_next_keeper_takes_it_over(house: House) -> None:
    job, first, second = house.job(steps=40, pause_s=0.1), house.queue(), house.queue()
    until(lambda: house.now(job).progress, first)
    assert not second.step()
    pid = house.queue().at(job.spec.id).pid
    first.close()
    until(lambda: house.now(job).status.ended, second)
    assert house.now(job).status is JobStatus.SUCCEEDED
    kinds = house.kinds(job)
    assert kinds.count("started") == 1 and kinds.count("progress") == 40 and pid is not None


def test_a_job_that_ended_while_nobody_looked_is_adopted_by_who_comes_next(house: House) -> None:
    job, first, second = house.job(steps=3), house.queue(), house.queue()
    until(lambda: first.at(job.spec.id).alive, first)
    first.close()
    until(lambda: not first.at(job.spec.id).alive)
    assert house.now(job).status is JobStatus.RUNNING
    until(lambda: house.now(job).status.ended, second)
    assert house.now(job).status is JobStatus.SUCCEEDED and house.kinds(job).count("started") == 1


def test_a_killed_child_goes_on_from_its_last_checkpoint_to_the_same_end(house: House) -> None:
    calm, job, queue = house.job(steps=9), house.job(steps=9, die_at=5), house.queue()
    until(lambda: not house.jobs.unended(), queue)
    assert house.kinds(job).count("started") == 2
    losses = [(queue.at(one.spec.id).adapter / "loss").read_text() for one in (calm, job)]
    assert losses[0] == losses[1]


def test_a_child_that_always_dies_at_the_same_place_fails_with_its_log(house: House) -> None:
    job, queue = house.job(steps=9, die_at=5, once=False), house.queue()
    until(lambda: house.now(job).status.ended, queue)
    error = house.now(job).error
    assert error is not None and error["code"] == "job_died" and "SIGKILL" in error["message"]
    assert str(queue.at(job.spec.id).path / "log") in error["message"]
    assert (
        house.kinds(job).count("started") == 4
    )  # the second start reached a checkpoint, and the next two did not


def test_only_so_many_jobs_run_at_once_and_the_oldest_goes_first(house: House) -> None:
    jobs = [house.job(steps=3) for _ in range(3)]
    queues = [house.queue(), house.queue()]
    running: list[int] = []

    def ended() -> bool:
        folders = [queues[0].at(job.spec.id) for job in jobs]
        running.append(sum(folder.alive for folder in folders))
        return all(house.now(job).status.ended for job in jobs)

    until(ended, *queues)
    assert max(running) == 1
    began = [house.now(job).started_ms or 0 for job in jobs]
    assert began == sorted(began)


def test_a_process_that_wants_its_own_job_only_waits_for_a_place_but_not_for_orphans(house: House) -> None:
    orphan, own = house.job(steps=3), house.job(steps=3)
    queue = house.queue(only={own.spec.id})
    until(lambda: house.now(own).status.ended, queue)
    assert house.now(orphan).status is JobStatus.QUEUED


def test_a_paused_job_stops_and_goes_on_where_it_was(house: House) -> None:
    job, queue = house.job(steps=60), house.queue()
    until(lambda: house.now(job).progress, queue)
    assert queue.pause("acme", job.spec.id).status is JobStatus.PAUSED
    until(lambda: not queue.step())
    at = house.now(job).progress
    assert at is not None and at.step < 60 and not queue.at(job.spec.id).alive
    assert queue.resume("acme", job.spec.id).status is JobStatus.QUEUED
    until(lambda: house.now(job).status.ended, queue)
    steps = [
        event.facts["progress"]["step"]
        for event in house.jobs.events(job.spec.id, limit=999)
        if event.kind == "progress"
    ]
    assert steps == list(range(60, 0, -1))


def test_a_job_resumed_while_it_still_stops_goes_on(house: House) -> None:
    job, queue = house.job(steps=30, pause_s=0.05), house.queue()
    until(lambda: house.now(job).progress, queue)
    queue.pause("acme", job.spec.id)
    queue.resume("acme", job.spec.id)
    until(lambda: house.now(job).status.ended, queue)
    assert house.now(job).status is JobStatus.SUCCEEDED


def test_a_cancelled_job_ends_although_its_keeper_is_gone(house: House) -> None:
    job, queue = house.job(steps=3000), house.queue()
    until(lambda: house.now(job).progress, queue)
    queue.close()
    assert house.queue().cancel("acme", job.spec.id).status is JobStatus.CANCELLED
    until(lambda: not queue.at(job.spec.id).alive)
    assert house.now(job).status is JobStatus.CANCELLED


def test_a_queue_that_was_closed_looks_after_the_next_job(house: House) -> None:
    queue = house.queue()
    queue.close()
    job = house.job(steps=2)
    until(lambda: house.now(job).status.ended, queue)
    assert house.now(job).status is JobStatus.SUCCEEDED


def test_a_child_that_does_not_listen_is_ended_by_signals(house: House) -> None:
    job, queue = house.job(steps=3000, deaf=True), house.queue(grace_s=0.05)
    until(lambda: house.now(job).progress, queue)
    queue.cancel("acme", job.spec.id)
    until(lambda: not queue.step())
    assert not queue.at(job.spec.id).alive and house.now(job).status is JobStatus.CANCELLED


def test_a_cancelled_child_without_keeper_that_does_not_listen_is_found_at_the_next_start(
    house: House,
) -> None:
    job, queue = house.job(steps=3000, deaf=True), house.queue()
    until(lambda: house.now(job).progress, queue)
    queue.close()
    queue.cancel("acme", job.spec.id)
    after = house.queue(grace_s=0.05)
    assert not after.step()
    after.find_stragglers()
    until(lambda: not after.step())
    assert not after.at(job.spec.id).alive


def test_wishes_that_make_no_sense_are_refused(house: House) -> None:
    job, queue = house.job(), house.queue()
    with pytest.raises(NotFound):
        queue.pause("other", job.spec.id)
    with pytest.raises(Conflict):
        queue.resume("acme", job.spec.id)
    with pytest.raises(Conflict):
        queue.remove("acme", job.spec.id)
    queue.cancel("acme", job.spec.id)
    with pytest.raises(Conflict, match="cancelled"):
        queue.cancel("acme", job.spec.id)
    queue.remove("acme", job.spec.id)
    assert house.jobs.find(job.spec.id) is None and not queue.at(job.spec.id).path.exists()


def test_a_job_whose_files_are_still_checked_waits_until_they_are(house: House) -> None:
    queue = house.queue()
    spec = TuneSpec(
        id=house.jobs.new_id(), recipe=Spec(name="scripted", args={"steps": 1}), base="b", tenant="acme"
    )
    job = queue.submit(spec, [], status=JobStatus.VALIDATING)
    assert not queue.step()
    assert queue.queued(job, replace(spec, data_hash="d"), []) is not None
    until(lambda: house.now(job).status.ended, queue)
    assert house.now(job).spec.data_hash == "d" and house.now(job).status is JobStatus.SUCCEEDED


def test_a_job_that_is_to_ask_first_stops_with_a_forecast_and_goes_on_when_it_may(house: House) -> None:
    said = TuneForecast(
        minutes=Range(middle=1, low=1, high=2), memory_mb=Range(middle=9, low=9, high=9), tokens=5
    )
    seen: list[int] = []

    def forecast(job: TuneJob, events: Iterable[Mapping[str, Any]]) -> TuneForecast:
        seen.append(sum(1 for event in events if event["kind"] == "progress"))
        return said

    queue = house.queue(forecast=forecast)
    spec = TuneSpec(
        id=house.jobs.new_id(), recipe=Spec(name="scripted", args={"steps": 60}), base="b", tenant="acme"
    )
    job = queue.submit(spec, [], asked={"ask_first": True, "task": "home"})
    until(lambda: house.now(job).status is JobStatus.PAUSED, queue)
    until(lambda: not queue.at(spec.id).alive, queue)
    now = house.now(job)
    assert now.forecast == said and now.progress is not None and now.progress.step < 60
    queue.resume("acme", spec.id)
    assert house.now(job).asked == {"task": "home"}
    until(lambda: house.now(job).status is JobStatus.SUCCEEDED, queue)
    assert len(seen) == 1


def test_a_job_that_is_to_ask_first_does_so_also_when_its_child_was_through_before_anybody_looked(
    house: House,
) -> None:
    asking = replace(SCRIPTED, bench={"calibrating": True})
    spec = TuneSpec(
        id=house.jobs.new_id(), recipe=Spec(name="scripted", args={"steps": 2}), base="b", tenant="acme"
    )
    queue = house.queue()
    queue.launch = lambda job: asking if job.forecast is None and job.asked.get("ask_first") else SCRIPTED
    job = queue.submit(spec, [], asked={"ask_first": True})
    queue.step()
    until(lambda: [line for _, line in queue.at(spec.id).events() if line["kind"] == "done"])
    until(lambda: house.now(job).status is JobStatus.PAUSED, queue)
    queue.resume("acme", spec.id)
    until(lambda: house.now(job).status is JobStatus.SUCCEEDED, queue)
    assert house.kinds(job).count("started") == 1


def test_a_job_that_does_not_fit_fails_instead_of_asking(house: House) -> None:
    def refused(job: TuneJob, events: object) -> TuneForecast:
        raise ConfigError("tune.memory_free", needs=9, most=1)

    queue = house.queue(forecast=refused)
    spec = TuneSpec(
        id=house.jobs.new_id(), recipe=Spec(name="scripted", args={"steps": 60}), base="b", tenant="acme"
    )
    job = queue.submit(spec, [], asked={"ask_first": True})
    until(lambda: house.now(job).status is JobStatus.FAILED, queue)
    assert (house.now(job).error or {})["code"] == "tune_memory_free"
