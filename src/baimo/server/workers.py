"""The processes that share the port, as uvicorn keeps them.

Prevents the failure where a worker that cannot start is started again and again, and whoever started the server takes
it for a running one.
"""

from __future__ import annotations

import logging
import signal
from socket import socket

from uvicorn.config import Config
from uvicorn.supervisors.multiprocess import Multiprocess

from baimo.text import text

PATIENCE = 3
"""Workers in a row that may be killed while they start, as the system does when memory is short."""
log = logging.getLogger("baimo.serve")


class Workers(Multiprocess):
    """uvicorn's supervisor; a worker that ends by itself before it can serve ends them all."""

    def __init__(self, config: Config, sockets: list[socket]) -> None:
        super().__init__(config, sockets)
        self.failed = False
        """Whether a worker could not start."""
        self._served: set[int | None] = set()
        self._killed: set[int | None] = set()

    def keep_subprocess_alive(self) -> None:
        """Called twice a second; starts those again that ended or hang, and lets alone those that start."""
        if self.should_exit.is_set():
            return
        places: list[int] = []  # of those that do not start
        for place, process in enumerate(self.processes):
            if process.pid not in self._served:
                if process.process.is_alive():
                    if not process.is_ready(timeout=1):
                        continue
                    self._served.add(process.pid)
                    self._killed.clear()
                else:
                    self._killed.add(process.pid)
                    if process.exitcode != -signal.SIGKILL or len(self._killed) > PATIENCE:
                        log.error(text("serve.worker_ended", code=process.exitcode))
                        self.failed = True
                        self.should_exit.set()
                        return
            places.append(place)
        workers = self.processes
        self.processes = [workers[place] for place in places]
        super().keep_subprocess_alive()
        for place, process in zip(places, self.processes, strict=True):
            workers[place] = process
        self.processes = workers
        self.failed = self.should_exit.is_set()
