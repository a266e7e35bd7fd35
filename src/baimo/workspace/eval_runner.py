"""Works on runs of evaluations beside everything else, a few at a time.

Prevents the failure of a run that is forgotten: whatever a process was doing when it ended, the next one that looks
(the same one after a restart, or another worker) goes on with it.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from baimo.errors import BaimoError, StoreError
from baimo.store.evaluation_runs import EvalRun
from baimo.text import text
from baimo.workspace.eval_work import EvalWork, Tools

LOOK_S = 1.0
"""How often it is looked whether a run waits."""
AT_ONCE = 4
"""Runs of one process."""
REST_S = 30.0
"""After the database has refused, a run is left alone for so long."""
log = logging.getLogger("baimo.serve")


class EvalRunner:
    """Works on runs. Belongs to one event loop."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._working: dict[str, tuple[EvalWork, asyncio.Task[None]]] = {}
        self._resting: dict[str, float] = {}
        self._news = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look for runs."""
        self._looking = asyncio.create_task(self._look(), name="baimo-evals")

    def nudge(self) -> None:
        """There is a new one."""
        self._news.set()

    async def stop(self, patience_s: float) -> None:
        """Begin nothing any more, wait for what is in flight, give every run back.

        Args:
            patience_s: after that, what is in flight is broken off.
        """
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking
        for work, _ in self._working.values():
            work.leave()
        tasks = [task for _, task in self._working.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=patience_s)
            for work, _ in self._working.values():
                work.interrupt()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            try:
                while len(self._working) < AT_ONCE and (run := await self._claimed()) is not None:
                    work = EvalWork(self._tools, run)
                    task = asyncio.create_task(self._worked(work), name=f"baimo-{run.id}")
                    self._working[run.id] = (work, task)
            except BaimoError as error:
                log.warning(text("evaluations.paused", id="–", problem=error))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), LOOK_S)
            self._news.clear()

    async def _claimed(self) -> EvalRun | None:
        now = asyncio.get_running_loop().time()
        self._resting = {id: until for id, until in self._resting.items() if until > now}
        return await asyncio.to_thread(self._tools.runs.claim, self._tools.holder, self._wanted)

    def _wanted(self, run: EvalRun) -> bool:
        return run.id not in self._resting and run.id not in self._working

    async def _worked(self, work: EvalWork) -> None:
        run = work.run
        try:
            await work.done()
        except StoreError as error:
            log.warning(text("evaluations.paused", id=run.id, problem=error))
            self._resting[run.id] = asyncio.get_running_loop().time() + REST_S
        except Exception:
            log.exception(text("evaluations.faulty", id=run.id))
            self._resting[run.id] = asyncio.get_running_loop().time() + REST_S
        finally:
            self._working.pop(run.id, None)
            with suppress(StoreError):  # its holder is gone when this process is
                await asyncio.to_thread(self._tools.runs.release, self._tools.holder, run)
            self.nudge()
