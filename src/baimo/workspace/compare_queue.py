"""Comparisons that clients of the endpoint begin, looked after by whichever process is there.

Prevents four failures: a comparison that ends with the server (each runs in a process with a session of its own, and
one that dies is begun again from the stored answers), a machine that runs more of them at once than it has room for
(each holds one of a few locks as long as it lives), one that dies at the same place for ever, and a server whose calls
wait while a task is read (that, too, is done elsewhere).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from baimo import errors
from baimo.core.ids import canonical, plain
from baimo.core.moments import wall_ms
from baimo.core.run import Run
from baimo.core.tenant import Key
from baimo.core.verdict import Forecast
from baimo.errors import BaimoError, Conflict, Overloaded
from baimo.evals.options import LIMITS, CompareOptions
from baimo.store.comparisons import WAITING, Comparisons
from baimo.text import language, text
from baimo.tuning.folder import JobFolder
from baimo.tuning.launch import Child, Launch, last_lines
from baimo.typed import converted
from baimo.workspace.compare_folder import FOLDER, order, run_folder
from baimo.workspace.known_tasks import KnownTasks
from baimo.workspace.queue import free_place

if TYPE_CHECKING:
    from baimo.workspace.workspace import Workspace

STEP_S, IDLE_S = 0.5, 2.0
"""How often runs are looked at, while there are some and while there are none."""
AT_ONCE = 2
"""Orders that one process prepares at once; others are asked to come again."""
PATIENCE_S = 120.0
"""Longest time for preparing one."""
RETRIES = 2
"""How often a process is started again that died without having got any further."""
GRACE_S = 60.0
"""How long a comparison that is to stop may take before it is killed."""
_ENDED = ("stopped", "failed", "running")
"""Statuses from which a run can go on; of `running` only if nobody runs it."""

log = logging.getLogger("baimo.compare")


class Prepared(NamedTuple):
    """What a comparison would take."""

    run: str
    """Its id, if it was entered."""
    task: str
    forecast: Forecast | None
    """None = weights must be fetched first."""
    fetches: list[str]
    """Models whose weights are not here yet."""
    notices: list[str]
    candidates: list[str]


class CompareQueue:
    """This process's part in it. `step` blocks for a moment; call it again and again."""

    def __init__(self, workspace: Workspace) -> None:
        self.runs = Comparisons(workspace.store.database)
        self.at_once = workspace.settings.compare.jobs
        """Comparisons at once on this machine."""
        self.folder = workspace.path.absolute() / FOLDER
        self.ask: Callable[[Mapping[str, Any]], Mapping[str, Any]] = self._asked
        """What a process says to an order; blocks."""
        self._workspace = workspace
        self._preparing = 0
        self._lock, self._closed = threading.Lock(), False
        self._children: dict[str, tuple[Child, contextlib.ExitStack]] = {}

    # what people ask for

    async def prepared(self, options: CompareOptions, key: Key, *, enter: bool) -> Prepared:
        """Look what a comparison would take, and begin it if it is to be entered.

        Args:
            options: what is asked; `task` is the name of one that the key's tenant knows.
            key: asks, and pays.
            enter: put it into the queue.

        Raises:
            BaimoError: it cannot be begun.
            Overloaded: too many are being prepared.
        """
        folder = await asyncio.to_thread(KnownTasks(self._workspace).folder, options.task, key.tenant)
        if self._preparing >= AT_ONCE:
            raise Overloaded("compare.preparing", limit=AT_ONCE, retry_after_s=2.0)
        self._preparing += 1
        try:
            said = await asyncio.to_thread(
                self.ask,
                {
                    "workspace": str(self._workspace.folder.absolute()),
                    "flags": self._flags(),
                    "options": plain(replace(options, task=str(folder), resume=None, forecast=False)),
                    "tenant": key.tenant,
                    "key": key.public,
                    "name": options.task,
                    "enter": enter,
                },
            )
        finally:
            self._preparing -= 1
        if failure := said.get("error"):
            kind: type[BaimoError] = getattr(errors, failure["type"], BaimoError)
            raise kind(failure["key"], **failure["facts"])
        return _prepared(said)

    def stop(self, run: Run) -> Run:
        """End a comparison with a verdict on what is known.

        Raises:
            Conflict: it has ended.
        """
        folder = self._at(run)
        if run.status not in WAITING:
            raise Conflict("compare.has_ended", run=run.id)
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.wish("cancel")
        if run.status == "queued" and not folder.alive:
            stopped = self.runs.change(run.id, ("queued",), status="stopped", ended_ms=wall_ms())
            if stopped is not None:
                folder.tell("stopped")
            return stopped or run
        return run

    def resume(self, run: Run, limits: Mapping[str, float | int | None], key: Key) -> Run:
        """Put a comparison that has stopped, failed or died into the queue again; its answers are there.

        Args:
            run: goes on as it was begun.
            limits: of money, calls and minutes, instead of those that it had; None = as before.
            key: asks, and pays from now on. One of the owner lets a tenant's run go on as its own key had begun it.

        Raises:
            Conflict: it runs, or there is nothing left to do.
        """
        folder = self._at(run)
        if run.status not in _ENDED or folder.alive:
            why = "compare.all_done" if run.status == "done" else "compare.under_way"
            raise Conflict(why, run=run.id)
        order(folder, {name: most for name, most in limits.items() if name in LIMITS and most is not None})
        folder.wish("")
        folder.tell("queued")
        payer = key.public if key.tenant == run.tenant else run.key
        queued = self.runs.change(run.id, _ENDED, status="queued", ended_ms=None, problem="", key=payer)
        return queued or run

    def standing(self, run: Run) -> str:
        """Its status; `interrupted` = it was running, and its process is gone for good."""
        if run.status != "running":
            return run.status
        folder = self._at(run)
        alive = folder.path.exists() and (self._is_ours(run) or folder.alive)
        return "running" if alive else "interrupted"

    def unended(self) -> list[Run]:
        """Those that still read their task: one that ran when its process died reads nothing any more."""
        return [run for run in self.runs.waiting() if self.standing(run) in ("queued", "running")]

    def forget(self, tenant: str) -> None:
        """End the comparisons of a tenant, and remove their folders and reports; their rows go with everything else."""
        for run in self.runs.waiting():
            if run.tenant == tenant:
                with contextlib.suppress(Conflict):
                    self.stop(run)
                self.runs.change(run.id, WAITING, status="stopped", ended_ms=wall_ms())
        after, gone = None, list[str]()
        while page := self.runs.page(tenant, limit=200, after=after):
            gone += [one.run.id for one in page]
            after = gone[-1]
        for id in gone:
            (self._workspace.path / "reports" / f"{id}.html").unlink(missing_ok=True)  # of the command line
            folder = run_folder(self._workspace.path, id)
            if folder.path.exists():
                Child(folder).signalled(signal.SIGKILL)
                while folder.alive:
                    time.sleep(STEP_S / 10)
                shutil.rmtree(folder.path, ignore_errors=True)

    # looking after

    def step(self) -> bool:
        """See to every comparison that is waited for; whether there is one.

        Raises:
            StoreError: the database does not answer; nothing is lost.
        """
        with self._lock:
            if self._closed:
                return False
            for id, (child, hold) in list(self._children.items()):
                if not child.alive or not child.folder.path.exists() or child.folder.alive:
                    hold.close()  # from here on its own lock says that somebody works on it
                if not child.alive:
                    del self._children[id]
            waiting = [run for run in self.runs.waiting() if self._is_ours(run)]
            for run in waiting:
                if run.id in self._children:
                    self._converge(self._at(run))
                else:
                    self._look_after(run)
            return bool(waiting)

    def close(self) -> None:
        """Look after nothing any more; children work on."""
        with self._lock:  # a step may be under way in another thread, or yet to come there
            self._closed = True
            for _, hold in self._children.values():
                hold.close()
            self._children.clear()

    def _look_after(self, run: Run) -> None:
        folder = self._at(run)
        if folder.alive:
            self._converge(folder)
            return
        hold = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            mine = stack.enter_context(folder.keeper())
            if not mine or folder.alive:
                return
            if folder.wished():  # it was killed before it could obey
                self._end(run, "stopped")
                return
            tries = _tries(folder)
            if tries > RETRIES:
                self._end(run, "failed", text("compare.died", lines=last_lines(folder)))
                return
            self.folder.mkdir(parents=True, exist_ok=True)
            place = free_place(self.folder, self.at_once)
            if place is None:
                return
            stack.enter_context(place)
            if not self._order_of(run).exists():
                order(folder, {})
            folder.tell("launched")
            child = self._launch().started(folder, slot=place.fileno())
            hold.push(stack.pop_all())
        self._children[run.id] = child, hold

    def _converge(self, folder: JobFolder) -> None:
        """Kill what has been told to stop and does not."""
        if folder.wished() and time.time() - (folder.path / "control").stat().st_mtime > GRACE_S:
            Child(folder).signalled(signal.SIGKILL)

    def _end(self, run: Run, status: str, problem: str = "") -> None:
        ended = self.runs.change(run.id, WAITING, status=status, ended_ms=wall_ms(), problem=problem)
        if ended is not None:
            self._at(run).tell(status, message=problem)
        self._at(run).wish("")

    # small things

    def _at(self, run: Run) -> JobFolder:
        return run_folder(self._workspace.path, run.id)

    def _order_of(self, run: Run) -> Path:
        return self._at(run).path / "order.json"

    def _is_ours(self, run: Run) -> bool:
        """Whether a client of the endpoint began it, and here: who begins one on the command line also sees to it, and
        so do other machines that share the database and not the folder."""
        alone = self._workspace.store.database.dialect == "sqlite"
        return (alone and run.status == "queued") or self._order_of(run).exists()

    def _launch(self) -> Launch:
        workspace = self._workspace
        return Launch(
            command=(sys.executable, "-m", "baimo.workspace.compared"),
            directory=workspace.folder.absolute(),
            secrets=tuple(os.environ),  # it asks providers and writes the database, as the command line does
            bench={"workspace": str(workspace.folder.absolute()), "flags": self._flags()},
        )

    def _flags(self) -> dict[str, str]:
        workspace = self._workspace
        return {"workspace.path": str(workspace.path.absolute()), "workspace.models": str(workspace.models)}

    def _asked(self, order: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "baimo.workspace.compared", "--order"],
                cwd=self._workspace.folder.absolute(),
                env={**os.environ, "BAIMO_LANG": language()},
                input=canonical(order),
                capture_output=True,
                check=False,
                timeout=PATIENCE_S,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise BaimoError("compare.not_prepared", problem=f"> {PATIENCE_S:g} s") from None
        if done.returncode:
            lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
            log.error("%s", "\n".join(lines))
            raise BaimoError("compare.not_prepared", problem=lines[-1] if lines else done.returncode)
        return msgspec.json.decode(done.stdout)


async def tended(queue: CompareQueue, nudged: asyncio.Event) -> None:
    """Look after comparisons until cancelled; whatever goes wrong is logged, and tried again."""
    while True:
        busy = False
        try:
            busy = await asyncio.to_thread(queue.step)
        except (BaimoError, OSError) as error:
            log.warning(text("compare.not_tended", problem=error))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STEP_S if busy else IDLE_S):
                await nudged.wait()
        nudged.clear()


def _prepared(said: Mapping[str, Any]) -> Prepared:
    forecast = said["forecast"]
    return Prepared(
        run=str(said["run"]),
        task=str(said["task"]),
        forecast=None if forecast is None else converted(forecast, Forecast),
        fetches=list(said["fetches"]),
        notices=list(said["notices"]),
        candidates=list(said["candidates"]),
    )


def _tries(folder: JobFolder) -> int:
    """How often it was begun since it last got any further."""
    tries = 0
    for _, event in folder.events():
        if event["kind"] == "launched":
            tries += 1
        elif event["kind"] in ("progress", "queued"):
            tries = 0
    return tries
