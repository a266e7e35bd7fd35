"""Group commit: one wait for the disk serves all calls that ended before it began."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from baimo.errors import StoreError

_Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class Syncer:
    """A thread that syncs for whoever waits; it starts with the first who does."""

    def __init__(self, sync: Callable[[], None]) -> None:
        """
        Args:
            sync: waits for the disk; raises StoreError.
        """
        self._sync = sync
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._waiting: list[_Waiter] = []
        self._thread: threading.Thread | None = None
        self._stopping = False

    async def synced(self) -> None:
        """Return after a sync that began after this call.

        Raises:
            StoreError: the disk does not take it.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if self._stopping:
                raise StoreError("ledger.stopped")
            self._waiting.append((loop, future))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="baimo-sync", daemon=True)
                self._thread.start()
        self._wake.set()
        await future

    def stop(self) -> None:
        """Serve those who wait, then end."""
        with self._lock:
            self._stopping = True
            thread = self._thread
        self._wake.set()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            with self._lock:
                waiting, self._waiting = self._waiting, []
                stopping = self._stopping
            error: Exception | None = None
            if waiting:
                try:
                    self._sync()
                except Exception as problem:  # those who wait must hear of it, and the thread goes on
                    error = problem
            for loop in {loop for loop, _ in waiting}:
                mine = [future for its, future in waiting if its is loop]
                try:
                    loop.call_soon_threadsafe(_tell, mine, error)
                except RuntimeError:
                    continue  # the loop is closed: nobody waits any more
            if stopping:
                return


def _tell(futures: list[asyncio.Future[None]], error: Exception | None) -> None:
    for future in futures:
        if not future.done():
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
