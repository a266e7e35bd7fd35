"""A connection between a browser and an endpoint that can be cut, and mended to another endpoint."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from tests.waiting import PATIENCE_S


class Relay:
    """Passes bytes on, from a port of its own that stays."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._target: int | None = None
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._begun(self._taken)

    def mend(self, port: int) -> None:
        """From now on everything goes there."""
        self._target = port

    def cut(self) -> None:
        """Break every connection, and refuse new ones."""
        with self._lock:
            self._target = None
            for line in self._open:
                with contextlib.suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        self._listening.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE_S)
        self._listening.close()

    def _begun(self, work: object, *given: object) -> None:
        thread = threading.Thread(target=work, args=given, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _taken(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                self._begun(self._joined, self._listening.accept()[0])

    def _joined(self, line: socket.socket) -> None:
        with contextlib.suppress(OSError), line:
            if self._target is None:
                return
            with socket.create_connection(("127.0.0.1", self._target)) as there:
                with self._lock:
                    self._open |= {line, there}
                back = threading.Thread(target=_pumped, args=(there, line), daemon=True)
                back.start()
                _pumped(line, there)
                back.join()
                with self._lock:
                    self._open -= {line, there}


def _pumped(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def relayed() -> Iterator[Relay]:
    """A relay until the end of the block."""
    relay = Relay()
    try:
        yield relay
    finally:
        relay.close()
