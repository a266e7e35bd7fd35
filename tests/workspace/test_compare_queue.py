"""Comparisons of machines that share a database and no folder: each is looked after where it was begun."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from baimo.core.ids import canonical
from baimo.core.run import Run
from baimo.workspace.compare_queue import CompareQueue
from baimo.workspace.compared import ordered
from baimo.workspace.workspace import Workspace
from tests.server.test_comparisons import TOML, written


class Machine:
    """A workspace, and the runs that it would begin."""

    def __init__(self, folder: Path, url: str) -> None:
        written(folder / ".baimo" / "tasks")
        (folder / "baimo.toml").write_text(f'{TOML}\n[workspace]\ndatabase = "{url}"\n')
        self.workspace = Workspace(folder)
        self.queue = CompareQueue(self.workspace)
        self.seen: list[str] = []
        self.queue._look_after = lambda run: self.seen.append(run.id)  # type: ignore[method-assign]

    def enter(self) -> str:
        """Enter a comparison, as a client's order does."""
        task = str((self.workspace.path / "tasks" / "moods").absolute())
        order: dict[str, Any] = {
            "workspace": str(self.workspace.folder),
            "flags": {},
            "tenant": "",
            "key": "",
        }
        order |= {"name": "moods", "enter": True, "options": {"task": task, "model": ["acme/*"]}}
        return str(ordered(canonical(order))["run"])


@pytest.fixture
def machines(database_url: str, tmp_path: Path) -> Iterator[list[Machine]]:
    with ExitStack() as stack:
        made = [Machine(tmp_path / name, database_url) for name in ("one", "two")]
        for machine in made:
            stack.enter_context(machine.workspace)
        yield made


def test_a_comparison_is_looked_after_where_it_was_begun(machines: list[Machine]) -> None:
    one, two = machines
    run = one.enter()
    assert one.queue.step() and one.seen == [run]
    if one.workspace.store.database.dialect == "postgresql":
        assert not two.queue.step() and two.seen == []


def test_what_was_entered_without_an_order_is_looked_after_where_there_is_one_machine(
    machines: list[Machine],
) -> None:
    one, _ = machines
    run = Run(
        id="run_1",
        task="moods",
        task_hash="0",
        task_blob="0",
        options={},
        candidates=(),
        config_hash="0",
        seed=0,
        started_ms=1,
        version="0",
        status="queued",
    )
    one.workspace.store.begin(run)
    assert one.queue.step() == (one.workspace.store.database.dialect == "sqlite")
