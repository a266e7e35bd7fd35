"""Comparisons of a tenant that nobody works on, for tests that are about who may touch them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from baimo.core.registry import Spec
from baimo.core.run import Run
from baimo.core.task import Example, Task
from baimo.evals.options import CompareOptions
from baimo.store.audit import Actor
from baimo.store.comparisons import Comparisons
from baimo.workspace.comparing import Comparing, Silent
from baimo.workspace.task_keeping import TaskKeeping
from tests.server.served import Served

TWO = (Example(id="1", fields={"input": "a"}, target="b"), Example(id="2", fields={"input": "c"}, target="d"))
STATUS = {"comparisons_stop": "queued", "comparisons_resume": "stopped"}
"""Operation → how a comparison stands that it can be tried on; others want one that has ended."""


def idle(house: Served) -> None:
    """No comparison of this endpoint is begun, and none is looked at in a process of its own."""
    queue = house.state["service"].comparisons

    def ordered(order: Mapping[str, Any]) -> Mapping[str, Any]:
        run = compared(house, order["tenant"])
        return {"run": run, "task": "t", "forecast": None, "fetches": [], "notices": [], "candidates": []}

    queue.at_once, queue.ask = 0, ordered


@functools.cache
def compared(house: Served, tenant: str) -> str:
    """A comparison that has a verdict."""
    name = f"{tenant or 'owner'}-compared"
    task = Task(name=name, examples=TWO, scorers=(Spec(name="exact"),))
    keeping = TaskKeeping(house.workspace)
    keeping.create(task, tenant, Actor(tenant))
    folder = keeping.tasks.folder(name, tenant)
    options = CompareOptions(task=str(folder), model=("acme/small",))
    ordering = Comparing(house.workspace).ordered(
        options, Silent(), tenant=tenant, key="", name=name, enter=True
    )
    run = asyncio.run(ordering).run.id
    house.workspace.compare(CompareOptions(task="", resume=run))
    return run


def run_for(house: Served, operation: str, tenant: str) -> str:
    """A comparison that an operation can be tried on."""
    done = compared(house, tenant)
    status = STATUS.get(operation)
    if status is None:
        return done
    runs = Comparisons(house.workspace.store.database)
    found = runs.get(None, done)
    assert found is not None
    return _copied(house, found.run, status)


def _copied(house: Served, run: Run, status: str) -> str:
    _copied_so_far.append(status)
    copy = replace(run, id=f"{run.id[:-4]}{len(_copied_so_far):04d}", status=status)
    house.workspace.store.begin(copy)
    return copy.id


_copied_so_far: list[str] = []


def body(house: Served, credential: str) -> dict[str, Any]:
    """What begins a comparison of this key's tenant."""
    tenant = house.workspace.accounts.key(credential[3:15]).tenant
    compared(house, tenant)
    return {"task": f"{tenant or 'owner'}-compared"}
