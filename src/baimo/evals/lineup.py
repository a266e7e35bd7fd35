"""Who competes on what: from the task, the options and the catalogue to candidates and examples, and back from a run.

Prevents the failure where a run that goes on meets other candidates than it began with, because the catalogue grew.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import random
from collections.abc import Callable
from typing import Any

import msgspec

from baimo.core.ids import plain
from baimo.core.model import Model
from baimo.core.run import Run
from baimo.core.task import Candidate, Task
from baimo.errors import TaskError, UnknownModel, UsageError
from baimo.evals.compare import Contender
from baimo.evals.options import CompareOptions
from baimo.evals.tasks.candidates import candidate, candidates
from baimo.models.catalogue import TUNED, Catalogue
from baimo.text import text
from baimo.typed import converted

EMBEDDED = "local/smollm2-135m-instruct"
"""The model that answers when nothing is configured."""
NEED_REFERENCES = frozenset({"exact", "choice", "numeric", "json", "tool_calls"})
"""Scorers that have nothing to say without a reference."""


def lineup(
    task: Task, options: CompareOptions, catalogue: Catalogue, notice: Callable[[str], None]
) -> tuple[Candidate, ...]:
    """The candidates of a run that begins now.

    Raises:
        TaskError: the task's candidates cannot be used.
        UnknownModel: no model of that name, or none that fits a pattern.
        UsageError: `only` keeps nobody, or `also` names a prompt that the task does not have.
    """
    if options.model:
        names = [name for pattern in options.model for name in _matching(pattern, catalogue)]
        tables = [{"model": name, "prompt": prompt.name} for name in names for prompt in task.prompts]
        chosen = tuple(candidate(task, table) for table in tables)
    else:
        chosen = candidates(task)
    joining = tuple(candidate(task, _joining(one, task, catalogue)) for one in options.also)
    if not chosen and not joining:
        notice(text("compare.embedded", model=EMBEDDED))
        chosen = (candidate(task, {"model": EMBEDDED}),)
    if options.only:
        known = ", ".join(one.name for one in chosen)
        chosen = tuple(
            one for one in chosen if any(fnmatch.fnmatchcase(one.name, each) for each in options.only)
        )
        if not chosen:
            raise UsageError("compare.nobody_left", patterns=", ".join(options.only), known=known)
    # a model that was named twice is one candidate
    return tuple({one.name: one for one in (*chosen, *joining)}.values())


def _joining(wish: str, task: Task, catalogue: Catalogue) -> dict[str, str]:
    """`vendor/model@prompt`; a name may hold an @ of its own, but only one that is listed says so without a prompt."""
    name, at, prompt = wish.rpartition("@")
    if at and any(one.name == prompt for one in task.prompts):
        return {"model": catalogue.model(name).name, "prompt": prompt}
    model = catalogue.model(wish)
    if at and not wish.startswith(TUNED) and model not in catalogue.models(model.vendor):
        known = ", ".join(one.name for one in task.prompts)
        raise UsageError(
            "compare.no_prompt", model=name, name=prompt, wish=wish, known=known, first=task.prompts[0].name
        )
    return {"model": model.name}


def _matching(pattern: str, catalogue: Catalogue) -> list[str]:
    if not any(sign in pattern for sign in "*?["):
        return [catalogue.model(pattern).name]
    vendor = pattern.partition("/")[0]
    listed = catalogue.models(None if any(sign in vendor for sign in "*?[") else vendor)
    found = [model.name for model in listed if fnmatch.fnmatchcase(model.name, pattern)]
    if not found:
        raise UnknownModel("compare.no_match", pattern=pattern)
    return found


def lineup_of(run: Run) -> tuple[Candidate, ...]:
    """The candidates that a run began with; none when it begins now."""
    fields = {field.name for field in dataclasses.fields(Candidate)}
    return tuple(
        converted({name: value for name, value in row.items() if name in fields}, Candidate)
        for row in run.candidates
    )


def described(contender: Contender) -> dict[str, Any]:
    """A contender as a Run keeps it; `lineup_of` reads it again."""
    model = contender.route.model
    return {
        **plain(contender.candidate),
        "provider": plain(contender.route.spec),
        "price": None if model.price is None else msgspec.to_builtins(model.price),
    }


def judgeable(task: Task) -> Task:
    """`task`, unless it is certain before the first call that no answer to it can be judged.

    Raises:
        TaskError: its scorer compares with references, and there are none.
    """
    scorer = task.scorers[0].name
    if scorer in NEED_REFERENCES and all(example.target is None for example in task.examples):
        raise TaskError("compare.no_references", task=task.name, scorer=scorer, path=task.folder)
    return task


def subset(task: Task, options: CompareOptions) -> Task:
    """The task on as many random examples as the options ask for."""
    if options.examples is None or options.examples >= len(task.examples):
        return task
    kept = sorted(random.Random(options.seed).sample(range(len(task.examples)), options.examples))
    return dataclasses.replace(task, examples=tuple(task.examples[index] for index in kept))


def is_unpriced(model: Model) -> bool:
    """Whether a call of it has a cost that nobody knows."""
    price = model.price
    return price is None or price.input_per_million is None or price.output_per_million is None
