"""Tuning jobs: changes that see each other, tenants that do not, events that are entered once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from baimo.core.registry import Spec
from baimo.core.tuning import JobStatus, Range, TuneForecast, TuneJob, TuneProgress, TuneSpec
from baimo.store.engine import Database
from baimo.store.jobs import Jobs, line_event
from tests.store.meeting import meanwhile
from tests.store.test_responses import Clock


@pytest.fixture
def jobs(database_url: str) -> Iterator[Jobs]:
    database = Database(database_url)
    yield Jobs(database, Clock())
    database.close()


def asked(
    jobs: Jobs, tenant: str = "acme", status: JobStatus = JobStatus.QUEUED, *, later_ms: int = 0
) -> TuneJob:
    spec = TuneSpec(id=jobs.new_id(), recipe=Spec(name="sft"), base="local/small", tenant=tenant)
    made = TuneJob(spec=spec, status=status, created_ms=jobs.now_ms() + later_ms)
    jobs.put(made)
    return made


def test_a_job_comes_back_as_it_was_kept(jobs: Jobs) -> None:
    made = asked(jobs)
    some = Range(middle=2.0, low=1.0, high=3.0)
    full = replace(
        made,
        progress=TuneProgress(step=1, steps=2, epoch=0.5, loss=1.25, accuracy=None),
        forecast=TuneForecast(minutes=some, memory_mb=some, tokens=7, cost_micros=some, currency="USD"),
        files=("file-1",),
        error={"code": "c", "message": "m", "param": None},
        asked={"method": {"type": "supervised"}, "metadata": {"a": "b"}},
    )
    assert made.spec.id.startswith("ftjob-")
    assert jobs.change("acme", made.spec.id, lambda _: full) == full == jobs.get("acme", made.spec.id)
    assert jobs.get("other", made.spec.id) is None and jobs.find(made.spec.id) == full
    assert jobs.change("other", made.spec.id, lambda one: one) is None


def test_a_change_meant_for_one_status_does_nothing_in_another(jobs: Jobs) -> None:
    made = asked(jobs)
    cancelled = jobs.change(
        "acme",
        made.spec.id,
        lambda one: replace(one, status=JobStatus.CANCELLED),
        when=(JobStatus.QUEUED, JobStatus.RUNNING),
    )
    assert cancelled is not None and cancelled.status is JobStatus.CANCELLED
    late = jobs.change(
        "acme", made.spec.id, lambda one: replace(one, status=JobStatus.RUNNING), when=(JobStatus.QUEUED,)
    )
    assert late is None and jobs.unended() == []


def test_only_the_process_that_looks_after_a_job_may_change_it_as_such(jobs: Jobs) -> None:
    made = asked(jobs)
    assert jobs.claim(made, "one") == made
    assert jobs.change("acme", made.spec.id, lambda one: one, holder="one") is not None
    jobs.claim(made, "two")
    assert jobs.change("acme", made.spec.id, lambda one: replace(one, model="m"), holder="one") is None
    assert jobs.get("acme", made.spec.id) == made


def test_pages_hold_one_tenants_jobs_newest_first(jobs: Jobs) -> None:
    made = sorted((asked(jobs).spec.id for _ in range(4)), reverse=True)
    other = asked(jobs, "other").spec.id
    assert [one.spec.id for one in jobs.page("acme", limit=3)] == made[:3]
    assert [one.spec.id for one in jobs.page("acme", limit=3, after=made[2])] == made[3:]
    assert {one.spec.id for one in jobs.page(None, limit=9)} == {*made, other}


def test_what_still_has_to_be_done_comes_oldest_first(jobs: Jobs) -> None:
    first = asked(jobs)
    asked(jobs, status=JobStatus.SUCCEEDED)
    paused = asked(jobs, "other", JobStatus.PAUSED, later_ms=1)
    assert [one.spec.id for one in jobs.unended()] == [first.spec.id, paused.spec.id]
    assert jobs.unended(status=(JobStatus.PAUSED,)) == [paused]


def test_a_line_of_the_folder_is_entered_once_however_often_it_is_read(jobs: Jobs) -> None:
    made = asked(jobs)
    id = made.spec.id
    lines = [
        (40, {"at_ms": 5, "kind": "plan", "text": "x"}),
        (90, {"at_ms": 6, "kind": "progress", "step": 1}),
    ]
    events = [line_event(id, behind, line) for behind, line in lines]
    jobs.change("acme", id, lambda one: one, events=events[:1])
    assert jobs.read_to(id) == 40
    jobs.tell(id, "notice", key="tune.x")
    assert jobs.read_to(id) == 40
    jobs.change("acme", id, lambda one: one, events=events)
    assert jobs.read_to(id) == 90
    kinds = [event.kind for event in jobs.events(id, limit=9)]
    assert kinds == ["progress", "notice", "plan", "created"]
    assert jobs.events(id, limit=1)[0].facts == {"step": 1}


def test_events_are_paged_by_the_id_of_the_last_one_seen(jobs: Jobs) -> None:
    made = asked(jobs)
    for number in range(5):
        jobs.tell(made.spec.id, "notice", number=number)
    seen = jobs.events(made.spec.id, limit=2)
    rest = jobs.events(made.spec.id, limit=9, after=seen[-1].id)
    assert [event.facts.get("number") for event in (*seen, *rest)] == [4, 3, 2, 1, 0, None]
    assert len({event.id for event in (*seen, *rest)}) == 6
    assert jobs.events(made.spec.id, limit=9, after="ftevent-nonsense!") == []
    later = jobs.since(made.spec.id, rest[0].place)
    assert [event.facts["number"] for event in later] == [3, 4]


def test_only_what_has_ended_can_be_forgotten_and_its_events_go_too(jobs: Jobs) -> None:
    made = asked(jobs)
    assert not jobs.delete("acme", made.spec.id) and not jobs.delete("other", made.spec.id)
    jobs.change("acme", made.spec.id, lambda one: replace(one, status=JobStatus.FAILED))
    assert jobs.delete("acme", made.spec.id)
    assert jobs.find(made.spec.id) is None and jobs.events(made.spec.id, limit=9) == []


def test_two_who_tell_at_once_are_both_heard(jobs: Jobs) -> None:
    job = asked(jobs).spec.id
    with meanwhile(jobs._database, "INSERT INTO job_events", lambda: jobs.tell(job, "two")) as said:
        one = jobs.tell(job, "one")
    assert said[0].place != one.place
    assert [each.kind for each in jobs.events(job, limit=9)] == ["two", "one", "created"]
