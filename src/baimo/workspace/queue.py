"""Whose turn it is: the tuning jobs of one machine, looked after by whichever process is there.

Prevents three failures: a job that nobody goes on with because the process that started it is gone (a lock in its
folder says whether somebody looks after it, and the kernel lets go of it when that process dies), a machine that
computes more jobs at once than it has room for (a child holds one of a few locks as long as it lives), and a wish that
gets lost (the status in the database is the wish; whoever looks after the job sees to it that the child agrees).

What a job's status asks of its child: running = work, paused and cancelled = stop at the next step.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from baimo.core.ids import plain
from baimo.core.tenant import DataClass
from baimo.core.tuning import JobStatus, Row, TuneForecast, TuneJob, TuneSpec
from baimo.errors import BaimoError, Conflict, NotFound
from baimo.store.jobs import JobEvent, Jobs
from baimo.text import text
from baimo.tuning.folder import JobFolder
from baimo.tuning.launch import Launch
from baimo.workspace.care import ASK_FIRST, Adopt, Care

STEP_S = 0.5
"""How often a job that somebody looks after is looked at."""
IDLE_S = 2.0
"""How often it is looked whether there is one."""

log = logging.getLogger("baimo.tune")


def unadopted(job: TuneJob, folder: JobFolder) -> TuneJob:
    """For workspaces that take no adapters: the result stays in the job's folder."""
    return job


@dataclass(kw_only=True)
class Queue:
    """This process's part in the queue. `step` blocks for a moment; call it again and again, from one thread."""

    jobs: Jobs
    """The workspace's."""
    folder: Path
    """Of the jobs' folders: `<workspace>/tuning`."""
    at_once: int = 1
    """[tune].jobs: children at once on this machine."""
    launch: Callable[[TuneJob], Launch] = lambda job: Launch()
    """How children are started."""
    adopt: Adopt = unadopted
    """Makes a model of what a job has learnt; may be called again if this process dies over it."""
    record: Callable[[TuneJob, Mapping[str, Any]], None] = lambda job, record: None
    """Enters a call of the child into the ledger, given the Record as JSON; after a kill perhaps twice."""
    forecast: Callable[[TuneJob, Iterable[Mapping[str, Any]]], TuneForecast | None] = lambda job, events: None
    """What a job will take, given the events of its first steps; raises BaimoError where it does not fit."""
    check: Callable[[TuneJob], None] = lambda job: None
    """Raises Unauthenticated or Forbidden when a job that runs may not go on."""
    only: Collection[str] | None = None
    """Jobs to look after; None = all."""
    grace_s: float = 60.0
    """How long a child that is to stop may take before it gets SIGTERM, and again before it gets SIGKILL."""

    def __post_init__(self) -> None:
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"
        self._cares: dict[str, Care] = {}
        self._lock = threading.Lock()

    # what people ask for

    def at(self, job: str) -> JobFolder:
        """The folder of a job."""
        return JobFolder(self.folder / job)

    def submit(
        self,
        spec: TuneSpec,
        train: Iterable[Row],
        valid: Iterable[Row] = (),
        *,
        asked: Mapping[str, Any] | None = None,
        forecast: TuneForecast | None = None,
        key: str = "",
        data_class: DataClass = "public",
        status: JobStatus = JobStatus.QUEUED,
        written: bool = False,
    ) -> TuneJob:
        """Enter a new job.

        Args:
            spec: what is asked; `id` is of `Jobs.new_id`.
            train: rows to learn from.
            valid: rows to measure; only where `spec.valid` names a file.
            asked: the request as the client sent it.
            forecast: what it will take.
            key: public part of the key that asks.
            data_class: of the files that it learns from.
            status: queued, or validating_files if the rows are written later (`queued`).
            written: spec and rows are in the job's folder already.
        """
        job = TuneJob(
            spec=spec,
            status=status,
            created_ms=self.jobs.now_ms(),
            key=key,
            data_class=data_class,
            forecast=forecast,
            asked=dict(asked or {}),
        )
        if status is JobStatus.QUEUED and not written:
            self.at(spec.id).write(spec, train, valid)
        self.jobs.put(job)
        return job

    def queued(
        self, job: TuneJob, spec: TuneSpec, train: Iterable[Row], valid: Iterable[Row] = ()
    ) -> TuneJob | None:
        """Put a job whose files were being validated into the queue; None = it was cancelled meanwhile."""
        self.at(spec.id).write(spec, train, valid)
        queued = self._changed(job, JobStatus.QUEUED, (JobStatus.VALIDATING,), spec=spec)
        if queued is None and self.jobs.find(spec.id) is None:  # its tenant is forgotten, and so are its rows
            shutil.rmtree(self.at(spec.id).path, ignore_errors=True)
        return queued

    def refused(
        self, job: TuneJob, error: BaimoError, *, code: str = "invalid_training_file"
    ) -> TuneJob | None:
        """End a job whose files cannot be used; None = it was cancelled meanwhile."""
        said = {"code": code, "message": str(error), "param": error.facts.get("param")}
        return self._changed(job, JobStatus.FAILED, (JobStatus.VALIDATING,), error=said)

    def pause(self, tenant: str, id: str) -> TuneJob:
        """Ask a job to stop at its next step; it goes on from there.

        Raises:
            NotFound: this tenant has none such.
            Conflict: it has ended, or is paused already.
        """
        return self._wished(tenant, id, JobStatus.PAUSED, (JobStatus.QUEUED, JobStatus.RUNNING))

    def resume(self, tenant: str, id: str) -> TuneJob:
        """Put a paused job back into the queue; one that was to ask first has its answer.

        Raises:
            NotFound: this tenant has none such.
            Conflict: it is not paused.
        """
        asked = {**self._known(tenant, id).asked}
        asked.pop(ASK_FIRST, None)
        return self._wished(tenant, id, JobStatus.QUEUED, (JobStatus.PAUSED,), asked=asked)

    def cancel(self, tenant: str, id: str) -> TuneJob:
        """End a job; its checkpoints stay.

        Raises:
            NotFound: this tenant has none such.
            Conflict: it has ended already.
        """
        unended = [status for status in JobStatus if not status.ended]
        return self._wished(tenant, id, JobStatus.CANCELLED, unended)

    def remove(self, tenant: str, id: str) -> None:
        """Forget a job that has ended, with its folder.

        Raises:
            NotFound: this tenant has none such.
            Conflict: it has not ended.
        """
        job = self._known(tenant, id)
        if not job.status.ended or self.at(id).alive or not self.jobs.delete(tenant, id):
            raise Conflict("tune.not_ended", job=id, status=job.status.value)
        shutil.rmtree(self.at(id).path, ignore_errors=True)

    # looking after

    def step(self) -> bool:
        """See to every job that nobody else looks after; whether there is one.

        Raises:
            StoreError: the database does not answer; nothing is lost.
        """
        with self._lock:
            for job in self.jobs.unended():
                if self._mine(job) and job.spec.id not in self._cares:
                    self._take(job)
            for id, care in list(self._cares.items()):
                if not care.step(self._turn):
                    care.close()
                    del self._cares[id]
            return bool(self._cares)

    def find_stragglers(self) -> None:
        """Take jobs that have ended while their child works on: whoever was to end it is gone."""
        with self._lock:
            for path in self.folder.glob("ftjob-*"):
                folder = JobFolder(path)
                if folder.path.name not in self._cares and folder.alive:
                    job = self.jobs.find(folder.path.name)
                    if job is not None and job.status.ended and self._mine(job):
                        self._take(job)

    def close(self) -> None:
        """Look after nothing until the next step; children work on."""
        with self._lock:  # a step may be under way in another thread
            for care in self._cares.values():
                care.close()
            self._cares.clear()

    def _mine(self, job: TuneJob) -> bool:
        return self.only is None or job.spec.id in self.only

    def _take(self, job: TuneJob) -> None:
        folder = self.at(job.spec.id)
        if job.status is JobStatus.VALIDATING or not (folder.path / "spec.json").exists():
            return
        if job.status is JobStatus.PAUSED and not folder.alive:
            return
        hold = contextlib.ExitStack()
        if not hold.enter_context(folder.keeper()):
            return
        now = self.jobs.claim(job, self.holder)
        if now is None:
            hold.close()
            return
        self._cares[job.spec.id] = Care(self, now, folder, hold)

    def _turn(self, job: TuneJob) -> IO[str] | None:
        """One of the machine's places, if there is one and nobody who is looked after has waited longer."""
        for other in self.jobs.unended(status=(JobStatus.QUEUED,)):
            if other.spec.id == job.spec.id:
                break
            if other.spec.id in self._cares or self.at(other.spec.id).kept:
                return None
        return self.place()

    def place(self) -> IO[str] | None:
        """See `free_place`."""
        return free_place(self.folder, self.at_once)

    # small things

    def _known(self, tenant: str, id: str) -> TuneJob:
        job = self.jobs.get(tenant, id)
        if job is None:
            raise NotFound("tune.no_job", job=id)
        return job

    def _wished(
        self, tenant: str, id: str, status: JobStatus, when: Collection[JobStatus], **facts: Any
    ) -> TuneJob:
        job = self._known(tenant, id)
        changed = self._changed(job, status, when, **facts)
        if changed is None:
            job = self._known(tenant, id)
            raise Conflict(
                f"tune.cannot_{status.name.lower()}", job=id, status=text(f"tune.status_{job.status}")
            )
        folder = self.at(id)
        if status in (JobStatus.PAUSED, JobStatus.CANCELLED) and folder.path.exists():
            folder.wish("pause" if status is JobStatus.PAUSED else "cancel")
        return changed

    def _changed(
        self, job: TuneJob, status: JobStatus, when: Collection[JobStatus], **facts: Any
    ) -> TuneJob | None:
        ended_ms = self.jobs.now_ms() if status.ended else None
        told = JobEvent(
            job=job.spec.id,
            at_ms=self.jobs.now_ms(),
            kind=status.value,
            facts=plain(facts.get("error") or {}),
        )
        return self.jobs.change(
            job.spec.tenant,
            job.spec.id,
            lambda one: replace(one, status=status, ended_ms=ended_ms, **facts),
            when=when,
            events=(told,),
        )


def free_place(folder: Path, at_once: int) -> IO[str] | None:
    """One of the machine's places, held until this file is closed here and in the child that inherits it.

    Args:
        folder: of what shares the places.
        at_once: how many there are.
    """
    for number in range(at_once):
        file = (folder / f".place-{socket.gethostname()}-{number}").open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
        else:
            return file
    return None


async def tended(queue: Queue, nudged: asyncio.Event | None = None) -> None:
    """Look after the machine's jobs until cancelled; whatever goes wrong is logged, and tried again.

    Args:
        queue: whose.
        nudged: set when there is something new; then nobody waits for the next look.
    """
    first, nudged = True, nudged or asyncio.Event()
    while True:
        busy = False
        try:
            if first:
                await asyncio.to_thread(queue.find_stragglers)
            busy = await asyncio.to_thread(queue.step)
            first = False
        except (BaimoError, OSError) as error:
            log.warning(text("tune.not_tended", problem=error))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STEP_S if busy else IDLE_S):
                await nudged.wait()
        nudged.clear()


def settled(
    queue: Queue,
    tenant: str,
    id: str,
    seen: Callable[[TuneJob, list[JobEvent]], None],
    halted: Callable[[], bool] = lambda: False,
) -> TuneJob:
    """Look after a job, or watch who does, until it has ended or is paused and its child has stopped.

    Args:
        queue: looks after it if nobody else does.
        tenant: whose it is.
        id: the job's.
        seen: told of the job and of what has happened since it was last told.
        halted: whether it is to pause now; asked until it says so.

    Raises:
        NotFound: it was removed.
    """
    place, pausing = 0, False
    while True:
        queue.step()
        job = queue.jobs.get(tenant, id)
        if job is None:
            raise NotFound("tune.no_job", job=id)
        events = queue.jobs.since(id, place)
        place = events[-1].place if events else place
        if events:
            seen(job, events)
        stopped = job.status.ended or job.status is JobStatus.PAUSED
        if stopped and not events and not queue.at(id).kept and not queue.at(id).alive:
            return job
        if halted() and not pausing:
            pausing = True
            with contextlib.suppress(Conflict):  # it has just ended
                queue.pause(tenant, id)
        time.sleep(STEP_S if not events else STEP_S / 5)
