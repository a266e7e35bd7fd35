"""Tasks of a key's tenant, for tests that are about who may touch them."""

from __future__ import annotations

from typing import Any

from baimo.core.task import Example, Task
from baimo.store.audit import Actor
from baimo.store.judgements import Judgement, Judgements
from baimo.workspace.task_deleted import DeletedTasks
from baimo.workspace.task_imports import TaskImports, Upload
from baimo.workspace.task_keeping import TaskKeeping
from tests.server.admin import reviewed
from tests.server.served import Served

ROW = b'{"id": "9", "input": "x", "target": "y"}\n'
MANIFEST = '[data]\nformat = "rows"\ntest = "test.jsonl"\ntarget = "target"\nid = "id"\n'
"""What makes a task of the rows that `task` writes."""
TWO = (Example(id="1", fields={"input": "a"}, target="b"), Example(id="2", fields={"input": "c"}, target="d"))


def task(house: Served, tenant: str, name: str) -> str:
    """A task of this tenant; its name."""
    TaskKeeping(house.workspace).create(Task(name=name, examples=TWO, scorers=()), tenant, Actor(tenant))
    return name


def deleted(house: Served, tenant: str, name: str) -> str:
    """A deleted task of this tenant; its id."""
    keeping = TaskKeeping(house.workspace)
    return DeletedTasks(keeping).delete(task(house, tenant, name), tenant, Actor(tenant), runs=()).id


def upload(house: Served, tenant: str, name: str = "a.jsonl") -> str:
    """A file of this tenant that waits; its id."""
    imports = TaskImports(TaskKeeping(house.workspace))
    return imports.add(ROW, Upload(id="", name=name, bytes=0, created_ms=0), tenant).id


def asked(
    house: Served, credential: str, operation: str, count: int
) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """What stands in the paths of operations on tasks, and bodies; `count` makes names of their own."""
    tenant = house.workspace.accounts.key(credential[3:15]).tenant
    if operation.startswith("reviews"):
        return _asked_of_reviews(house, credential, operation, tenant, count)
    if not operation.startswith("tasks"):
        return {}, {}
    values = {"example:path": "1", "version": "1"}
    values |= {"task": task(house, tenant, f"task-{count}"), "upload": upload(house, tenant)}
    if operation in ("tasks_bring_back", "tasks_erase"):
        values["deleted"] = deleted(house, tenant, f"gone-{count}")
    own = {"tasks_create": {"name": f"new-{count}", "upload": values["upload"]}}
    own |= {"tasks_copy": {"name": f"copy-{count}"}, "tasks_import": {"upload": values["upload"]}}
    return values, BODIES | own


def _asked_of_reviews(
    house: Served, credential: str, operation: str, tenant: str, count: int
) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    id = reviewed.review(house, tenant, count)
    if operation == "reviews_retract":
        kept, key = Judgements(house.workspace.store.database), house.workspace.accounts.key(credential[3:15])
        said = Judgement(review=id, reader=key.meter, key=key.public, said="agree", at_ms=1)
        kept.judge(tenant, said, Actor(tenant, key.public))
    return {"review": id}, BODIES


BODIES: dict[str, dict[str, Any]] = {
    "tasks_create": {"name": "new", "kind": "qa"},
    "tasks_copy": {"name": "copied"},
    "tasks_describe": {"description": "other words"},
    "tasks_example_add": {"input": "x"},
    "tasks_example_change": {"expected": "z"},
    "tasks_change": {"examples": ["test:1"], "labels": {"tone": "calm"}},
    "tasks_recipe_change": {"sampling": {"max_tokens": 9}},
    "tasks_split": {"share": 0.5},
    "tasks_restore": {"version": 1},
    "tasks_import": {"upload": "up_0"},
    "reviews_queue": {"records": True},
    "reviews_judge": {"said": "agree"},
    "tasks_upload": {"name": "a.jsonl", "content": ROW.decode()},
}
"""Bodies that work."""
