"""When a worker that could not start ends them all; that it does is in tests/e2e/test_serve.py."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import pytest

from baimo.server.workers import PATIENCE, Workers


class Worker(NamedTuple):
    """As uvicorn's supervisor sees one."""

    pid: int
    exitcode: int | None = None
    ready: bool = False

    @property
    def process(self) -> Any:
        return self

    def is_alive(self, timeout: float = 5) -> bool:
        return self.exitcode is None

    def is_ready(self) -> bool:
        return self.ready


class Kept(Workers):
    """Nothing is started."""

    def __init__(self) -> None:
        self.failed = False
        self.should_exit = threading.Event()
        self._served, self._killed = set(), set()

    def look(self, *workers: Worker) -> None:
        self.processes: list[Any] = [*workers]
        self.keep_subprocess_alive()


STARTING = Worker(1)


@pytest.mark.parametrize("code", [0, 1, 3, -11])
def test_a_worker_that_ends_by_itself_while_it_starts_ends_them_all(code: int) -> None:
    kept = Kept()
    kept.look(STARTING, Worker(2))
    assert not kept.should_exit.is_set()
    kept.look(STARTING, Worker(2, code))
    assert kept.failed
    assert kept.should_exit.is_set()


def test_workers_that_are_killed_while_they_start_are_not_started_for_ever() -> None:
    kept = Kept()
    for pid in range(PATIENCE):
        for _ in range(5):
            kept.look(STARTING, Worker(10 + pid, -9))
        assert not kept.failed
    kept.look(STARTING, Worker(20, None, ready=True))  # one that serves: whatever it was is over
    for pid in range(PATIENCE):
        kept.look(STARTING, Worker(30 + pid, -9))
        assert not kept.failed
    kept.look(STARTING, Worker(40, -9))
    assert kept.failed
