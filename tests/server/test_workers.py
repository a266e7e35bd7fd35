"""When a worker that could not start ends them all; that it does is in tests/e2e/test_serve.py."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import multiprocess

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

    def is_ready(self, timeout: float = 5) -> bool:
        return self.ready

    def kill(self) -> None: ...

    def join(self) -> None: ...


class New(Worker):
    """One that was started in the place of another."""

    def start(self) -> None: ...


class Kept(Workers):
    """Nothing is started."""

    def __init__(self) -> None:
        self.failed = False
        self.should_exit = threading.Event()
        self._served, self._killed = set(), set()
        self.config: Any = SimpleNamespace(timeout_worker_healthcheck=5)
        self.sockets = []

    def look(self, *workers: Worker) -> list[int]:
        """The workers after a look; a new one has no pid of a script."""
        self.processes: list[Any] = [*workers]
        self.keep_subprocess_alive()
        return [one.pid for one in self.processes]


@pytest.fixture(autouse=True)
def _scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    def process(*given: Any) -> New:
        return New(99)

    monkeypatch.setattr(multiprocess, "Process", process)


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


def test_a_worker_that_hangs_while_it_starts_keeps_no_other_from_being_started_again() -> None:
    kept = Kept()
    assert kept.look(STARTING, Worker(2, ready=True)) == [1, 2]
    assert kept.look(STARTING, Worker(2, -9)) == [1, 99]
    assert not kept.failed


def test_a_server_that_is_told_to_end_did_not_fail_to_start() -> None:
    kept = Kept()
    kept.should_exit.set()
    assert kept.look(STARTING, Worker(2, 0)) == [1, 2]
    assert not kept.failed


def test_a_server_that_uvicorn_ends_because_of_a_worker_has_failed() -> None:
    kept = Kept()
    kept.look(Worker(2, ready=True))
    kept.look(Worker(2, STARTUP_FAILURE))
    assert kept.should_exit.is_set()
    assert kept.failed
