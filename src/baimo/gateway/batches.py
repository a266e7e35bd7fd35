"""Answers batches beside everything else: takes those that nobody works on, a few at a time, and gives them back.

Prevents the failure of a batch that is forgotten: whatever a process was doing when it ended, the next one that looks
(the same one after a restart, or another worker) goes on with it.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from baimo.errors import BaimoError, StoreError
from baimo.gateway.batch_work import Tools, Work
from baimo.store.batches import Batch
from baimo.text import text

LOOK_S = 1.0
"""How often it is looked whether a batch waits."""
AT_ONCE = 8
"""Batches of one process; their lines share the room that there is."""
REST_S = 30.0
"""After database or disk have refused, a batch is left alone for so long."""

log = logging.getLogger("baimo.serve")


class Runner:
    """Works on batches. Belongs to one event loop."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._working: dict[str, tuple[Work, asyncio.Task[None]]] = {}
        self._resting: dict[str, float] = {}
        self._news = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look for batches."""
        self._looking = asyncio.create_task(self._look(), name="baimo-batches")

    def nudge(self) -> None:
        """There is a new one, or one is to be cancelled."""
        self._news.set()

    async def stop(self, patience_s: float) -> None:
        """Begin no line any more, wait for those in flight, give every batch back.

        Args:
            patience_s: after that, lines in flight are broken off.
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
                while len(self._working) < AT_ONCE and (batch := await self._claimed()) is not None:
                    work = Work(self._tools, batch)
                    task = asyncio.create_task(self._worked(work), name=f"baimo-{batch.id}")
                    self._working[batch.id] = (work, task)
            except BaimoError as error:
                log.warning(text("batches.paused", id="–", problem=error))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), LOOK_S)
            self._news.clear()

    async def _claimed(self) -> Batch | None:
        now = asyncio.get_running_loop().time()
        self._resting = {id: until for id, until in self._resting.items() if until > now}
        return await asyncio.to_thread(self._tools.batches.claim, self._tools.holder, self._wanted)

    def _wanted(self, batch: Batch) -> bool:
        """Whether it can be worked on here: its file may lie on another machine."""
        if batch.id in self._resting or batch.id in self._working:
            return False
        files = self._tools.files
        gone = files.get(batch.tenant, batch.input_file) is None
        return gone or files.path(batch.tenant, batch.input_file).exists()

    async def _worked(self, work: Work) -> None:
        batch = work.batch
        try:
            await work.done()
        except StoreError as error:
            log.warning(text("batches.paused", id=batch.id, problem=error))
            self._resting[batch.id] = asyncio.get_running_loop().time() + REST_S
        except Exception:
            log.exception(text("batches.faulty", id=batch.id))
            self._resting[batch.id] = asyncio.get_running_loop().time() + REST_S
        finally:
            self._working.pop(batch.id, None)
            with suppress(StoreError):  # its holder is gone when this process is
                await asyncio.to_thread(self._tools.batches.release, self._tools.holder, batch)
            self.nudge()
