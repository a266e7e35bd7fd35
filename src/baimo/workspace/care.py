"""One tuning job while this process looks after it: its child, what it says, how it ends.

Prevents three failures: a child that dies of its appetite and is started again with the same one, one that dies at
the same place for ever, and a job that has learnt everything and is lost because its keeper died before it said so
(what the child said last stands in the folder, and is read again).
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any

import msgspec

from baimo.core.tuning import JobStatus, TuneJob, TuneProgress
from baimo.errors import BaimoError, Conflict, Forbidden, Unauthenticated
from baimo.store.jobs import JobEvent, line_event
from baimo.text import text
from baimo.tuning.folder import JobFolder
from baimo.tuning.forecast import enough, worked_minutes
from baimo.tuning.launch import Child, killed_for_memory, last_lines
from baimo.typed import converted

if TYPE_CHECKING:
    from baimo.workspace.queue import Queue

RETRIES = 2
"""How often a child is started again that died without having reached another checkpoint."""
ASK_FIRST = "ask_first"
"""Member of what was asked: pause after the first steps, so that a person sees what the job will take."""
MICRO = "micro_tokens"
"""Setting of recipes that bounds their memory, and nothing else."""
MOST_EVENTS = 500
"""Events that are entered in one transaction."""
Adopt = Callable[[TuneJob, JobFolder], TuneJob]
"""Makes a model of what a job has learnt: registers the adapter, judges parity; returns the job with its names."""

log = logging.getLogger("baimo.tune")


class Care:
    """What this process knows of a job whose keeper it is."""

    def __init__(self, queue: Queue, job: TuneJob, folder: JobFolder, hold: contextlib.ExitStack) -> None:
        self.job = job
        self._queue, self._folder, self._hold = queue, folder, hold
        self._child = Child(folder) if folder.alive else None
        self._place: IO[str] | None = None
        self._entered = queue.jobs.read_to(job.spec.id)
        self._byte = 0
        self._tries = 0
        self._ending: Mapping[str, Any] | None = None
        self._progress: TuneProgress | None = None
        self._micro_tokens = 0
        self._killed: int | None = None
        self._since: float | None = None
        self._outcome: list[TuneJob | BaseException] | None = None
        self._foretold = job.forecast is not None

    def step(self, turn: Callable[[TuneJob], IO[str] | None]) -> bool:
        """Look once; whether there is something left to look after."""
        alive = self._child is not None and self._child.alive
        if not self._read():
            return False
        if alive:
            self._check()
            self._foretell()
            self._converge()
            return True
        if self._outcome is not None:
            return not self._outcome or self._settle(self._outcome[0])
        ending = (self._ending or {}).get("kind")
        if ending in ("paused", "done"):
            self._foretell(stopped=True)
        status = self.job.status
        if status.ended:
            return False
        if ending == "done":
            self._begin_adopting()
            return True
        if ending == "failed":
            return self._fail(_error_of(self._ending or {}))
        if status is JobStatus.QUEUED:
            return self._start(turn)
        return status is JobStatus.RUNNING and self._revive()

    def close(self) -> None:
        """Let another process look after it; its child works on."""
        if self._place is not None:
            self._place.close()
        self._hold.close()

    # what the child says

    def _read(self) -> bool:
        """Enter what is new; whether the job is still there."""
        while True:
            events: list[JobEvent] = []
            for behind, line in self._folder.events(self._byte):
                self._byte = behind
                event = line_event(self.job.spec.id, behind, line)
                self._fold(event)
                if behind > self._entered:
                    if event.kind == "record":
                        self._queue.record(self.job, event.facts)
                        event = replace(event, facts={"id": event.facts.get("id")})
                    events.append(event)
                if len(events) == MOST_EVENTS:
                    break
            if not events:
                break
            if not self._change(lambda one: replace(one, progress=self._progress or one.progress), events):
                return False
            self._entered = self._byte
        now = self._queue.jobs.get(self.job.spec.tenant, self.job.spec.id)
        self.job = now or self.job
        return now is not None

    def _fold(self, event: JobEvent) -> None:
        match event.kind:
            case "started":
                self._tries += 1
                self._ending = None
            case "plan":
                settings: Mapping[str, Any] = event.facts.get("settings") or {}
                self._micro_tokens = int(settings.get(MICRO) or 0)
            case "checkpoint":
                self._tries = 0
            case "progress":
                with contextlib.suppress(msgspec.ValidationError):  # a loss that is no number
                    self._progress = converted(event.facts.get("progress"), TuneProgress)
            case "done" | "failed" | "paused" | "cancelled":
                self._ending = {"kind": event.kind, **event.facts}
                self._tries = 0 if event.kind == "paused" else self._tries
            case _:
                pass

    def _foretell(self, *, stopped: bool = False) -> None:
        """Forecast a job that nobody forecast before it began, from its first steps; one that does not fit fails.

        Args:
            stopped: its child has stopped by itself, as a job's does that is to ask first.
        """
        seen, asks = self._progress, bool(self.job.asked.get(ASK_FIRST))
        if self._foretold or self.job.status is not JobStatus.RUNNING or (stopped and not asks):
            return
        if not stopped and (seen is None or not enough(seen.step, seen.elapsed_s, seen.eta_s or 0.0)):
            return
        self._foretold = True
        try:
            said = self._queue.forecast(self.job, (event for _, event in self._folder.events()))
        except BaimoError as error:
            self._fail(_told(error))
            return
        self._change(lambda one: replace(one, forecast=said))
        if asks:
            with contextlib.suppress(Conflict):  # it was cancelled just now
                self.job = self._queue.pause(self.job.spec.tenant, self.job.spec.id)

    def _check(self) -> None:
        """End a job whose child may not ask any more."""
        if self.job.status is JobStatus.RUNNING:
            try:
                self._queue.check(self.job)
            except (Unauthenticated, Forbidden) as error:
                self._fail(_told(error))

    # what the child is to do

    def _converge(self) -> None:
        """Make a child stop that is not wanted any more: by a wish, then by signals."""
        status = self.job.status
        if status is JobStatus.RUNNING or self._child is None:
            self._since = None
            return
        now, grace_s = time.monotonic(), self._queue.grace_s
        if self._since is None:
            self._since = now
            self._folder.wish("cancel" if status.ended else "pause")
        elif now - self._since > 2 * grace_s:
            self._child.signalled(signal.SIGKILL)
        elif now - self._since > grace_s:
            self._child.signalled(signal.SIGTERM)

    def _start(self, turn: Callable[[TuneJob], IO[str] | None]) -> bool:
        self._place = self._place or turn(self.job)
        if self._place is None:
            return True
        begun_ms = self._queue.jobs.now_ms()
        started = self._change(
            lambda one: replace(one, status=JobStatus.RUNNING, started_ms=one.started_ms or begun_ms),
            when=(JobStatus.QUEUED, JobStatus.RUNNING),
        )
        if not started:  # it was cancelled just now
            return True
        self._folder.wish("")
        self._folder.tell("started", attempt=self._tries + 1, overrides=self._folder.overrides())
        self._killed, self._since, self._ending = killed_for_memory(), None, None
        try:
            self._child = self._queue.launch(self.job).started(self._folder, slot=self._place.fileno())
        except (BaimoError, OSError) as error:
            return self._fail({"code": "not_started", "message": text("tune.not_started", problem=error)})
        return True

    def _revive(self) -> bool:
        """Start a child again that is gone although its work is wanted; whether it is worth it."""
        died = (self._ending or {}).get("kind") is None
        if died and self._tries > RETRIES:
            where, said = self._folder.path / "log", last_lines(self._folder)
            message = text("tune.died", how=self._how(), log=where, lines=said)
            return self._fail({"code": "job_died", "message": message})
        if died and self._tries and self._child is not None and self._memory_suspected():
            self._shrink()
        self._child = None
        return self._start(lambda job: self._queue.place())

    def _memory_suspected(self) -> bool:
        """Whether the kernel may have killed it because memory ran out."""
        now = killed_for_memory()
        if now is not None and self._killed is not None:
            return now > self._killed
        return self._child is not None and self._child.code == -signal.SIGKILL

    def _shrink(self) -> None:
        if self._micro_tokens > 1:
            tokens = self._micro_tokens // 2
            self._folder.override(**{MICRO: tokens})
            self._folder.tell("notice", code="shrunk", message=text("tune.shrunk", tokens=tokens))

    def _how(self) -> str:
        code = None if self._child is None else self._child.code
        if code is None:
            return text("tune.died_unseen")
        return (
            text("tune.died_signal", signal=signal.Signals(-code).name)
            if code < 0
            else text("tune.died_code", code=code)
        )

    # how it ends

    def _begin_adopting(self) -> None:
        outcome: list[TuneJob | BaseException] = []

        def adopted() -> None:
            try:
                outcome.append(self._queue.adopt(self.job, self._folder))
            except Exception as error:
                if not isinstance(error, BaimoError):
                    log.exception("%s", self.job.spec.id)
                outcome.append(error)

        self._outcome = outcome
        threading.Thread(target=adopted, name=f"adopt-{self.job.spec.id}", daemon=True).start()

    def _settle(self, outcome: TuneJob | BaseException) -> bool:
        if isinstance(outcome, BaseException):
            return self._fail({"code": "not_adopted", "message": str(outcome)})
        ended_ms = self._queue.jobs.now_ms()
        names = {name: getattr(outcome, name) for name in ("adapter", "model", "files")}
        minutes = worked_minutes(event for _, event in self._folder.events())
        told = JobEvent(
            job=self.job.spec.id, at_ms=ended_ms, kind="succeeded", facts={"model": outcome.model}
        )
        self._change(
            lambda one: replace(one, status=JobStatus.SUCCEEDED, ended_ms=ended_ms, minutes=minutes, **names),
            [told],
            when=(JobStatus.RUNNING, JobStatus.PAUSED, JobStatus.QUEUED),
        )
        return False

    def _fail(self, error: Mapping[str, Any]) -> bool:
        ended_ms = self._queue.jobs.now_ms()
        error = {"param": None, **error}
        told = JobEvent(job=self.job.spec.id, at_ms=ended_ms, kind="ended", facts=error)
        self._change(
            lambda one: replace(one, status=JobStatus.FAILED, ended_ms=ended_ms, error=error),
            [told],
            when=(JobStatus.RUNNING, JobStatus.PAUSED, JobStatus.QUEUED),
        )
        return False

    def _change(
        self,
        changed: Callable[[TuneJob], TuneJob],
        events: list[JobEvent] | None = None,
        *,
        when: tuple[JobStatus, ...] | None = None,
    ) -> bool:
        after = self._queue.jobs.change(
            self.job.spec.tenant,
            self.job.spec.id,
            changed,
            when=when,
            holder=self._queue.holder,
            events=events or (),
        )
        self.job = after or self.job
        return after is not None


def _told(error: BaimoError) -> dict[str, Any]:
    message = " → ".join(filter(None, (str(error), error.hint)))
    return {"code": error.key.replace(".", "_"), "message": message}


def _error_of(failed: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "code": failed.get("code") or "job_failed",
        "message": str(failed.get("message") or ""),
        "param": failed.get("param"),
    }
