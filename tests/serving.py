"""A real `baimo serve` for tests: processes of its own, a folder of its own, a port that was free."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import chdir, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cli.runner import Ended, baimo
from tests.waiting import PATIENCE_S, until

"""Longest wait for something that must happen; no test measures time."""


@dataclass
class Endpoint:
    """A server that answers."""

    folder: Path
    address: str
    """`http://127.0.0.1:PORT`."""
    key: str
    """Of role admin."""
    process: subprocess.Popen[str]
    log: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def baimo(self, *arguments: str) -> Any:
        """What a command of the same workspace prints with --json, run in this process."""
        return self.ran(*arguments, "--json").data

    def ran(self, *arguments: str) -> Ended:
        """How a command of the same workspace ended: well."""
        mine = dict(os.environ)
        try:
            os.environ.clear()
            os.environ.update(self.environment)
            with chdir(self.folder):
                done = baimo(*arguments)
        finally:
            os.environ.clear()
            os.environ.update(mine)
        assert done.code == 0, done.all
        return done

    def new_key(self, *arguments: str) -> str:
        """The credential of a key made with these options of `baimo keys create`; known to every worker."""
        made = self.baimo("keys", "create", *arguments)
        credential = found(r"bm-[0-9A-Za-z]{12}-[0-9A-Za-z]{48}", json.dumps(made))
        workers = 8  # connections that may each reach another worker
        until(lambda: all(self.status("/v1/models", credential) == 200 for _ in range(workers)))
        return credential

    def status(self, path: str, credential: str = "") -> int:
        """HTTP status of a GET."""
        request = urllib.request.Request(self.address + path)
        if credential:
            request.add_header("authorization", f"Bearer {credential}")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of the workspace's SQLite database."""
        with closing(self._ledger()) as connection:
            return connection.execute(query).fetchall()

    def records(self, where: str = "1") -> list[dict[str, Any]]:
        """Ledger lines in the order in which they were written."""
        with closing(self._ledger()) as connection:
            connection.row_factory = sqlite3.Row
            rows = connection.execute(f"SELECT * FROM records WHERE {where} ORDER BY seq").fetchall()
            return [dict(row) for row in rows]

    def _ledger(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.folder}/.baimo/baimo.db?mode=ro", uri=True)

    def settled(self, count: int, where: str = "1") -> list[dict[str, Any]]:
        """The Records, once there are `count` of them."""
        until(lambda: len(self.records(where)) >= count)
        return self.records(where)

    def kill(self) -> None:
        """End it and its workers as a power cut would: no process gets to do anything."""
        for pid in (*children(self.process.pid), self.process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(PATIENCE_S)


@contextmanager
def serving(
    folder: Path, config: str = "", *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[Endpoint]:
    """Start `baimo serve` with this baimo.toml; stop it at the end.

    Args:
        folder: workspace; may hold one from before.
        config: text of baimo.toml.
        arguments: further options of the command.
        environment: further variables.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "baimo.toml").write_text(config, encoding="utf-8")
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", str(folder)),
        "BAIMO_LANG": "en",
        **{name: value for name, value in os.environ.items() if name.startswith(("XDG_", "LD_", "PYTHON"))},
        **(environment or {}),
    }
    log = folder / "serve.log"
    started_at = log.stat().st_size if log.exists() else 0
    with log.open("a") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "baimo", "serve", "--port", "0", *arguments],
            cwd=folder,
            env=variables,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:

        def said() -> str:
            with log.open() as file:
                file.seek(started_at)
                text = file.read()
            assert process.poll() is None, text
            return text

        until(lambda: "listens on" in said())
        address = found(r"http://[0-9.]+:\d+", said())
        endpoint = Endpoint(folder, address, "", process, log, variables)
        until(lambda: _answers(endpoint))
        whole = log.read_text()
        if match := re.search(r"bm-[0-9A-Za-z]{12}-[0-9A-Za-z]{48}", whole):
            endpoint.key = match[0]
        yield endpoint
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def found(pattern: str, text: str) -> str:
    """The first match."""
    match = re.search(pattern, text)
    assert match is not None, text
    return match[0]


def children(pid: int) -> list[int]:
    """Processes that `pid` started, and those that they started."""
    try:
        direct = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [one for child in direct for one in (*children(child), child)]


def _answers(endpoint: Endpoint) -> bool:
    assert endpoint.process.poll() is None, endpoint.log.read_text()
    try:
        return endpoint.status("/healthz") == 200
    except OSError:
        return False
