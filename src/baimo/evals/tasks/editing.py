"""The files of a task whose examples were changed.

Prevents the failure where an edit of one example rewrites what somebody wrote by hand: of task.toml only the table
[data] changes, where it names files of another form, and the data class; whatever that would not keep is written anew
as a whole.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

from baimo.core.task import Task
from baimo.errors import UsageError
from baimo.evals.tasks.manifest import FILE_NAME
from baimo.evals.tasks.scaffold import texts_of
from baimo.evals.tasks.toml import assignment

TEST, TRAIN = "test.jsonl", "train.jsonl"
_HOUSE = {"format": "rows", "test": TEST, "target": "target", "id": "id"}


def texts_after(task: Task, manifest: str) -> dict[str, str | None]:
    """The files to write, by name; None = there is no such file any more.

    Args:
        task: as it is to be.
        manifest: its task.toml as it was.

    Raises:
        UsageError: nothing would be left to evaluate, or a prompt shows examples of a train split that is empty.
    """
    if not task.examples:
        raise UsageError("tasks.last_example")
    shown = [prompt.few_shot for prompt in task.prompts if prompt.few_shot and prompt.few_shot.count]
    if not task.train and (shown or any(one.get("few_shot") for one in task.candidates)):
        raise UsageError("tasks.train_needed")
    texts: dict[str, str | None] = {**texts_of(task)}
    kept = with_data(manifest, _HOUSE | ({"train": TRAIN} if task.train else {}))
    if kept is not None and tomllib.loads(kept).get("data_class", "internal") != task.data_class:
        kept = with_value(kept, "data_class", task.data_class)
    if kept is not None:
        texts = {name: texts[name] for name in (TEST, TRAIN) if name in texts} | {FILE_NAME: kept}
    return texts if task.train else {**texts, TRAIN: None}


def with_data(manifest: str, data: Mapping[str, Any]) -> str | None:
    """A task.toml with another table [data]; None where that cannot be done without losing something."""
    before = tomllib.loads(manifest)
    if before.get("data") == data:
        return manifest
    table = "\n".join(["[data]", *(assignment(key, value) for key, value in data.items())]) + "\n\n"
    found = re.search(r"^\[data\][^\n]*(?:\n|\Z)(?:(?!\[)[^\n]*(?:\n|\Z))*", manifest, re.MULTILINE)
    if found:
        changed = manifest[: found.start()] + table + manifest[found.end() :]
    else:
        first = re.search(r"^\[", manifest, re.MULTILINE)
        place = first.start() if first else len(manifest)
        changed = f"{manifest[:place].rstrip()}\n\n{table}{manifest[place:]}"
    try:
        after = tomllib.loads(changed)
    except tomllib.TOMLDecodeError:
        return None
    return changed if after == {**before, "data": dict(data)} else None


def with_value(manifest: str, key: str, value: str) -> str | None:
    """A task.toml with another value of a key of the top; None where that cannot be done without losing something."""
    before = tomllib.loads(manifest)
    line = assignment(key, value) + "\n"
    changed, count = re.subn(
        rf"^{re.escape(key)}\s*=[^\n]*\n?", lambda _: line, manifest, count=1, flags=re.MULTILINE
    )
    changed = changed if count else line + manifest
    try:
        after = tomllib.loads(changed)
    except tomllib.TOMLDecodeError:
        return None
    return changed if after == {**before, key: value} else None
