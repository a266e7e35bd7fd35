"""The processes in which the endpoint's comparisons are prepared and run.

`python -m baimo.workspace.compared FOLDER` goes on with the run of a folder; with `--order` it says, given an order on
its standard input, what a comparison would take, and enters it if it is to be.

Prevents three failures: calls of models that wait while a large task is read (that happens here, not in the server), a
comparison that ends with the server that began it, and a failure that nobody hears of (whatever goes wrong is in the
run and in the folder's events).
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from baimo.errors import BaimoError
from baimo.evals.options import CompareOptions
from baimo.store.comparisons import WAITING, Comparisons
from baimo.tuning.folder import JobFolder, read_json
from baimo.tuning.launch import TAKEN
from baimo.typed import converted, from_json
from baimo.workspace.bridge import bridged
from baimo.workspace.compare_folder import full
from baimo.workspace.comparing import Comparing, Silent
from baimo.workspace.workspace import Workspace

NICE = 5
"""Calls that are served here come first."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a client of the endpoint asks for."""

    workspace: str
    flags: dict[str, str]
    options: CompareOptions
    """`task` is where it lies."""
    tenant: str
    key: str
    name: str
    """What the client calls the task."""
    enter: bool
    """Whether it is to be begun, or only forecast."""


class _Noticing(Silent):
    """Keeps what a person should know."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, message: str) -> None:
        self.notices.append(message)


def ordered(said: bytes) -> dict[str, Any]:
    """What an order would take, or why it cannot be: `{error: {type, key, facts}}`."""
    order = from_json(said, Order)
    watcher = _Noticing()
    try:
        with Workspace(order.workspace, flags=order.flags) as workspace:
            found = bridged(
                Comparing(workspace).ordered(
                    order.options,
                    watcher,
                    tenant=order.tenant,
                    key=order.key,
                    name=order.name,
                    enter=order.enter,
                )
            )
    except BaimoError as error:
        facts = {
            name: fact if isinstance(fact, (int, float)) else str(fact) for name, fact in error.facts.items()
        }
        return {"error": {"type": type(error).__name__, "key": error.key, "facts": facts}}
    return {
        "run": found.run.id,
        "task": found.run.task,
        "forecast": None if found.forecast is None else full(found.forecast),
        "fetches": list(found.fetches),
        "notices": watcher.notices,
        "candidates": [str(one["name"]) for one in found.run.candidates],
    }


def run(path: Path) -> int:
    """Go on with the run of a folder; its exit code."""
    folder, bench = JobFolder(path), read_json(path / "bench.json")
    given = converted(read_json(path / "order.json"), CompareOptions)
    with Workspace(bench["workspace"], flags=bench["flags"]) as workspace:
        try:
            workspace.compare(given)
        except BaimoError as error:
            if error.key == "compare.under_way":
                return TAKEN
            ended_ms = time.time_ns() // 1_000_000
            problem = " ".join(filter(None, (str(error), error.hint)))
            runs = Comparisons(workspace.store.database)
            runs.change(path.name, (*WAITING, "failed"), status="failed", ended_ms=ended_ms, problem=problem)
            if not any(event["kind"] == "failed" for _, event in folder.events()):
                folder.tell("failed", message=str(error), hint=error.hint)
            return 1
    return 0


def main(arguments: list[str]) -> int:
    """See the module."""
    with suppress(OSError):
        os.nice(NICE)
    if arguments == ["--order"]:
        sys.stdout.buffer.write(msgspec.json.encode(ordered(sys.stdin.buffer.read())))
        return 0
    return run(Path(arguments[0]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
