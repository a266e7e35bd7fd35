"""Rows to learn from, out of a task or a file.

Prevents the failure that makes every figure worthless: a model that has learnt what it is then tested on. Of a task
only the train split is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from baimo.core.message import Message
from baimo.core.task import Example, Prompt, Task
from baimo.core.tuning import Row
from baimo.errors import TaskError, UsageError
from baimo.text import text
from baimo.tuning.data.lineage import noted

if TYPE_CHECKING:
    from baimo.tuning.data.finding import Use

ENDS_WITH_QUESTION = frozenset({"grpo", "distill", "prompt"})
"""Recipes that get answers from a model instead of learning those of the rows."""
_SHOWN = 5
"""Places of an error in the data that are named."""


class Training(NamedTuple):
    """What a job learns from."""

    train: Sequence[Row]
    valid: Sequence[Row]
    task: Task | None
    """The task that it is for."""
    prompt: Prompt | None
    """The task's prompt that the rows are written in, or that was named beside a file of rows."""
    cleaned: tuple[Mapping[str, Any], ...] = ()
    """What was done to the rows before, as it is noted beside their file."""


def training(
    source: Path, recipe: str, *, valid: str | None, task: str | None, prompt: str | None
) -> Training:
    """Read what a job learns from.

    Args:
        source: a task's folder or task.toml, or a file of rows.
        recipe: its name; some want rows that end with the question.
        valid: file of rows that are only measured.
        task: task whose scorers judge, where `source` is a file.
        prompt: name of the task's prompt; None = the first.

    Raises:
        TaskError: the task cannot be used, or has no train split.
        DataError: a file cannot be read; names file and line.
        UsageError: there is no such prompt, or the rows are preferences and the recipe imitates.
    """
    measured = file_rows(Path(valid)) if valid else ()
    if not (source.is_dir() or source.suffix == ".toml"):
        if not source.exists():
            raise UsageError("tune.no_source", source=source)
        judged = _task(task) if task else None
        if prompt is not None and judged is None:
            raise UsageError("tune.prompt_of_no_task", name=prompt, source=source)
        named = named_prompt(judged, prompt) if judged is not None and prompt is not None else None
        rows = file_rows(source)
        if recipe == "sft" and (pairs := sum(bool(row.rejected) for row in rows)):
            raise UsageError("tune.preferences", source=source, pairs=pairs, rows=len(rows))
        return Training(rows, measured, judged, named, noted(source))
    found = _task(str(source))
    chosen = named_prompt(found, prompt)
    files = dict.fromkeys(example.file for example in found.train if example.file)
    cleaned = tuple(line for file in files for line in noted(Path(file)))
    return Training(task_rows(found, chosen, recipe), measured, found, chosen, cleaned)


def file_rows(path: Path) -> Sequence[Row]:
    """The rows of a file in any known format.

    Raises:
        DataError: a line cannot be read, or there is none.
    """
    from baimo.tuning.data.formats import read

    reading = read(path)
    for problem in reading.problems:
        raise problem
    if not reading.rows:
        raise UsageError("tune.no_rows", source=path)
    return reading.rows


def data_errors(rows: Sequence[Row], recipe: str) -> list[str]:
    """What `data check` calls an error in rows that a recipe is to learn from, for people."""
    from baimo.tuning.data.checks import errors

    use: Use = "grpo" if recipe in ENDS_WITH_QUESTION else cast("Use", recipe)
    return [
        text(
            "tune.data_error",
            detail=finding.detail,
            places=", ".join(map(str, finding.spots[:_SHOWN])),
            advice=finding.advice,
        )
        for finding in errors(rows, use)
    ]


def task_rows(task: Task, prompt: Prompt, recipe: str) -> list[Row]:
    """The train split as conversations, asked as the prompt asks, without its solved examples.

    Raises:
        TaskError: there is no train split, or the prompt does not render.
    """
    from baimo.evals.tasks.prompts import Renderer, compiled

    renderer = Renderer(replace(prompt, few_shot=None))
    answer = compiled(prompt.assistant, f"{prompt.name}.assistant")
    rows: list[Row] = []
    for example in task.train:
        messages = renderer.messages(example)
        if recipe not in ENDS_WITH_QUESTION:
            if example.target is None:
                continue
            place = f"{example.file}:{example.line}" if example.file else example.id
            said = answer.render({**example.fields, "target": example.target}, place)
            messages = (*messages, Message(role="assistant", content=said))
        rows.append(_row(example, messages))
    if not rows:
        raise TaskError("tune.no_train", task=task.name)
    return rows


def _row(example: Example, messages: tuple[Message, ...]) -> Row:
    return Row(
        messages=messages,
        tools=example.tools,
        item={"id": example.id, **example.fields, "target": example.target},
        group=example.group,
        line=example.line,
        file=example.file,
    )


def _task(folder: str) -> Task:
    from baimo.evals.tasks.folder import load_task

    return load_task(folder)


def named_prompt(task: Task, name: str | None) -> Prompt:
    """A task's prompt by its name; None = the first one without solved examples.

    Raises:
        UsageError: there is no such prompt.
    """
    if name is None:
        return next((one for one in task.prompts if one.few_shot is None), task.prompts[0])
    for prompt in task.prompts:
        if prompt.name == name:
            return prompt
    raise UsageError(
        "tune.no_prompt", name=name, task=task.name, known=", ".join(one.name for one in task.prompts)
    )
