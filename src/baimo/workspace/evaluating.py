"""From an evaluation of the evals API to a task of ours: the same rows, prompts and graders, ready to be compared.

Prevents two failures: a pass rate that is taken for a decision (the task's comparison says which model is better, and
how sure that is), and answers that are paid for twice (what the runs were answered lies beside the task as a
recording, so that a verdict over runs that there are asks no model).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from baimo.core.ids import digest
from baimo.core.tenant import DataClass
from baimo.core.verdict import Verdict
from baimo.errors import NotFound, UnknownModel, UsageError
from baimo.evals.graders.kinds import parts_of
from baimo.evals.options import CompareOptions
from baimo.evals.tasks.folder import load_task
from baimo.gateway.policy import strictest
from baimo.models.catalogue import Catalogue
from baimo.providers.openai_reply import count, fields, items
from baimo.settings import ProviderSettings
from baimo.store.evaluation_runs import EvalRun, EvalRuns, OutputItem
from baimo.store.evaluations import Evaluation, Evaluations
from baimo.workspace.eval_rows import evaluation_row, item_row, run_row
from baimo.workspace.importing.openai_evals import tasks_of
from baimo.workspace.importing.openai_export import Export
from baimo.workspace.importing.tasks import ImportedTask, kept_tasks

if TYPE_CHECKING:
    from baimo.workspace.workspace import Workspace

REPLIES = "replies.jsonl"
"""Recording of what the runs were answered; the format of the provider `replay`."""


class RunOf(NamedTuple):
    """A run with everything that came of it."""

    run: EvalRun
    asked: Mapping[str, Any]
    items: Sequence[OutputItem]

    @property
    def name(self) -> str:
        """What answered: the model, or the run where the data brought their answers."""
        return self.run.model or self.run.name


class TaskOfEval(NamedTuple):
    """A task folder that was written."""

    folder: Path
    models: tuple[str, ...]
    """The runs as candidates that ask nobody: `replay/…`, in the order of the runs."""
    imported: ImportedTask
    """What became of what."""


def task_of_eval(
    evaluation: Evaluation, runs: Sequence[RunOf], folder: Path, catalogue: Catalogue, *, force: bool = False
) -> TaskOfEval:
    """Write the task of an evaluation, with the recording of its runs.

    Args:
        evaluation: its graders become scorers, all of which must pass. The task is as strict as it and its runs.
        runs: their rows become the examples, their prompts its prompts, their models its candidates.
        folder: where the task is written.
        catalogue: knows the models that aliases stand for.
        force: write over a task that is there.

    Raises:
        UsageError: there is a task already, it cannot be written, or no row was judged yet.
    """
    if not any(one.items for one in runs):
        raise UsageError("evaluations.no_rows", id=evaluation.id)
    export = Export(
        evals=[_named(evaluation_row(evaluation), catalogue)],
        runs=[_run_object(one, catalogue) for one in runs],
        items=[item_row(one.run, item) for one in runs for item in one.items],
    )
    classes: list[DataClass] = [evaluation.data_class, *(one.run.data_class for one in runs)]
    (task,) = tasks_of(export, strictest("internal", *classes))
    names = _names(runs)
    (place,) = kept_tasks([task], folder, force=force)
    # rows are one example each in the order in which they first come, as the importer has it
    examples = [example.id for example in load_task(place).examples]
    order: dict[str, str] = {}
    for one in runs:
        for item in one.items:
            key = digest(item.row.get("item", {}))
            if key not in order:
                order[key] = examples[len(order)]
    lines = [
        json.dumps(_reply(name, order[digest(item.row.get("item", {}))], item), ensure_ascii=False)
        for name, one in zip(names, runs, strict=True)
        for item in one.items
        if item.output.get("sample", {}).get("output")
    ]
    (place / REPLIES).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return TaskOfEval(place, tuple(f"replay/{name}" for name in names), task)


class Evaluating:
    """Evaluations of one workspace, as the console and the command line ask for them."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.evaluations = Evaluations(workspace.store.database)
        self.runs = EvalRuns(workspace.store.database)

    def task(
        self, id: str, folder: Path, *, runs: Sequence[str] = (), tenant: str = "", force: bool = False
    ) -> TaskOfEval:
        """Write an evaluation as a task.

        Args:
            id: Evaluation.id.
            folder: where.
            runs: ids of the runs that count; empty = all that have ended.
            tenant: whose.
            force: write over a task that is there.

        Raises:
            NotFound: there is no such evaluation or run.
            UsageError: it cannot be written, or no row was judged yet.
        """
        evaluation = self.evaluations.get(tenant, id)
        if evaluation is None:
            raise NotFound("evaluations.unknown", id=id)
        found = [self._run(tenant, id, one) for one in runs] or [
            one for one in self._all(tenant, id) if not one.active
        ]
        whole = [RunOf(one, self.runs.asked(tenant, one.id), list(self.runs.done(one))) for one in found]
        whole = [one for one in whole if one.items]
        return task_of_eval(evaluation, whole, folder, self.workspace.catalogue, force=force)

    def verdict(self, task: TaskOfEval, options: CompareOptions | None = None) -> Verdict:
        """Compare the runs of an evaluation by what they were answered; judges are asked anew, models are not.

        Args:
            task: of `task`.
            options: what else the comparison heeds; its task and models are the runs'.

        Raises:
            BaimoError: as `Workspace.compare`.
        """
        from baimo.workspace.workspace import Workspace

        settings = self.workspace.settings
        replay = ProviderSettings(
            protocol="replay", options={"file": str((task.folder / REPLIES).absolute())}
        )
        given = msgspec.structs.replace(settings, providers={**settings.providers, "replay": replay})
        wanted = replace(
            options or CompareOptions(task=""), task=str(task.folder), model=task.models, only=()
        )
        with Workspace(self.workspace.folder, given=given) as comparing:
            return comparing.compare(wanted)

    def _run(self, tenant: str, evaluation: str, id: str) -> EvalRun:
        run = self.runs.get(tenant, id)
        if run is None or run.evaluation != evaluation:
            raise NotFound("evaluations.unknown_run", id=id)
        return run

    def _all(self, tenant: str, evaluation: str) -> list[EvalRun]:
        found: list[EvalRun] = []
        while page := self.runs.page(tenant, evaluation, limit=100, after=found[-1].id if found else ""):
            found += page
        return found


def _names(runs: Sequence[RunOf]) -> list[str]:
    """A name for each run; of two that are called alike the later one is numbered."""
    names: list[str] = []
    for one in runs:
        name, number = one.name, 2
        while name in names:
            name, number = f"{one.name} {number}", number + 1
        names.append(name)
    return names


def _run_object(one: RunOf, catalogue: Catalogue) -> dict[str, Any]:
    """The run without its rows: those are taken from what came of them."""
    asked = {**one.asked, "source": {"type": "file_id", "id": one.run.id}}
    if one.run.model:
        asked["model"] = _resolved(one.run.model, catalogue)
    return run_row(one.run, asked, "")


def _named(row: dict[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    """The evaluation with its judges by the names that the catalogue knows."""
    return {**row, "testing_criteria": [_grader(one, catalogue) for one in row["testing_criteria"]]}


def _grader(row: Mapping[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    made = dict(row)
    if isinstance(made.get("model"), str):
        made["model"] = _resolved(made["model"], catalogue)
    if made.get("type") == "multi":
        parts = parts_of(fields(made.get("graders")))
        made["graders"] = {name: _grader(fields(part), catalogue) for name, part in parts.items()}
    return made


def _resolved(name: str, catalogue: Catalogue) -> str:
    with suppress(UnknownModel):
        return catalogue.model(name).name
    return name


def _reply(name: str, example: str, item: OutputItem) -> dict[str, Any]:
    sample = fields(item.output.get("sample"))
    answer = fields(items(sample.get("output"))[0])
    usage = fields(sample.get("usage"))
    calls = [fields(call) for call in items(answer.get("tool_calls"))]
    tokens = {
        "tokens_in": count(usage.get("prompt_tokens")) or None,
        "tokens_out": count(usage.get("completion_tokens")) or None,
    }
    return {
        "model": name,
        "id": example,
        "reply": str(answer.get("content") or ""),
        "tool_calls": [
            {
                "id": str(call.get("id") or ""),
                "name": str(fields(call.get("function")).get("name") or ""),
                "arguments": str(fields(call.get("function")).get("arguments") or ""),
            }
            for call in calls
        ],
        "usage": {name: value for name, value in tokens.items() if value is not None},
    }
