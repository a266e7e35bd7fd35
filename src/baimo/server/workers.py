"""The processes that share the port, as uvicorn keeps them.

Prevents the failure where a worker that cannot start is started again and again, and whoever started the server takes
it for a running one.
"""

from __future__ import annotations

import logging
from socket import socket

from uvicorn.config import Config
from uvicorn.supervisors.multiprocess import Multiprocess

from baimo.text import text

log = logging.getLogger("baimo.serve")


class Workers(Multiprocess):
    """uvicorn's supervisor; a worker that ends before it has served a first time ends them all."""

    def __init__(self, config: Config, sockets: list[socket]) -> None:
        super().__init__(config, sockets)
        self.failed = False
        """Whether a worker could not start."""
        self._served: set[int | None] = set()

    def keep_subprocess_alive(self) -> None:
        """Called twice a second; starts those again that ended or hang once all have started."""
        for process in self.processes:
            if process.pid in self._served:
                continue
            if process.is_ready():
                self._served.add(process.pid)
            elif not process.process.is_alive():
                log.error(text("serve.worker_ended", code=process.exitcode))
                self.failed = True
                self.should_exit.set()
                return
        if all(process.pid in self._served for process in self.processes):
            super().keep_subprocess_alive()
