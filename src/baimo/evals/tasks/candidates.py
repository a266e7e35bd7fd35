"""[[candidates]] of a task as Candidates: what a table leaves out is the task's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from baimo.core.call import Sampling
from baimo.core.task import Candidate, FewShot, Prompt, Task
from baimo.errors import TaskError
from baimo.evals.tasks.folder import prompt_of, response_format
from baimo.evals.tasks.manifest import PromptTable
from baimo.typed import converted


def candidates(task: Task) -> tuple[Candidate, ...]:
    """Every candidate that the task names, under unique names.

    Raises:
        TaskError: two candidates have one name, or a prompt does not exist.
    """
    found = tuple(candidate(task, table) for table in task.candidates)
    names = [one.name for one in found]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise TaskError("tasks.double_candidate", name=double, path=task.folder)
    return found


def candidate(task: Task, table: Mapping[str, Any]) -> Candidate:
    """One candidate from a table as `Task.candidates` holds it; `{"model": "vendor/name"}` is enough."""
    prompt = _prompt(task, table.get("prompt") or "")
    wanted = table.get("few_shot")
    if wanted is not None:
        block = prompt.few_shot or FewShot(count=0)
        block = replace(block, count=int(wanted), by=table.get("by") or block.by)
        block = replace(block, select=table.get("select") or block.select)
        prompt = replace(prompt, few_shot=block if block.count > 0 else None)
    if table.get("system") is not None:
        prompt = replace(prompt, system=str(table["system"]))
    constrained = response_format(table["json_schema"]) if "json_schema" in table else task.response_format
    told_apart = len(task.prompts) > 1 or isinstance(table.get("prompt"), Mapping)
    suffix = f" {prompt.name}" if told_apart else ""
    return Candidate(
        name=str(table.get("name") or f"{table['model']}{suffix}"),
        model=str(table["model"]),
        prompt=prompt,
        sampling=_sampling(task.sampling, table.get("sampling") or {}),
        response_format=constrained,
    )


def _prompt(task: Task, name: str | Mapping[str, Any]) -> Prompt:
    if isinstance(name, Mapping):
        return prompt_of(converted(name, PromptTable))
    if not name:
        return task.prompts[0]
    for prompt in task.prompts:
        if prompt.name == name:
            return prompt
    known = ", ".join(prompt.name for prompt in task.prompts)
    raise TaskError("tasks.unknown_prompt", path=task.folder, line=1, name=name, known=known)


def _sampling(base: Sampling, given: Mapping[str, Any]) -> Sampling:
    changes = {**given, "stop": tuple(given["stop"])} if "stop" in given else dict(given)
    return replace(base, **changes)
