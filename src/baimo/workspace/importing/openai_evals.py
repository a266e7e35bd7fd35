"""Evaluations of OpenAI's Evals API as task folders: data, prompts, graders, models.

Prevents the failure of a hurried move on a deadline: graders that are rewritten by hand and judge something else. A
grader becomes a scorer that is that grader (`[[scorers]] name = "grader"`), and whatever has no counterpart is
named. Shapes: openai/types/eval_*.py, evals/run_*.py, graders/*.py of the official SDK.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from baimo.core.ids import canonical, digest
from baimo.core.registry import Spec
from baimo.core.task import Example, Task
from baimo.core.tenant import DataClass
from baimo.errors import BaimoError
from baimo.evals.graders.kinds import grader_of, parts_of
from baimo.evals.graders.template import variables
from baimo.evals.tasks.formats.messages import tools_of
from baimo.evals.tasks.formats.rows import json_lines
from baimo.evals.tasks.manifest import FILE_NAME
from baimo.evals.tasks.scaffold import texts_of
from baimo.workspace.importing import openai_prompts
from baimo.workspace.importing.carried import Draft
from baimo.workspace.importing.carried import Path as Place
from baimo.workspace.importing.openai_export import Export, Object, read_export
from baimo.workspace.importing.openai_registry import registry_tasks
from baimo.workspace.importing.tasks import ImportedTask, folder_name

RESULTS = "openai-results.jsonl"
"""What models had answered and graders had said at OpenAI, row by row."""
_IDENTITY = (
    "object",
    "created_at",
    "modified_at",
    "created_by",
    "updated_at",
    "is_public",
    "shared_with_openai",
)
_OUTCOME = (
    "status", "result_counts", "per_model_usage", "per_testing_criteria_results", "report_url", "error",
    "metadata", "name", "shared_with_openai",
)  # fmt: skip


def imported_tasks(path: Path) -> list[ImportedTask]:
    """Every evaluation of an export as a task.

    Args:
        path: a file or a folder of what was saved; see `openai_export`.

    Raises:
        ConfigError: it cannot be read, or holds no evaluation.
        TaskError: a file cannot be used; names file and line.
    """
    return tasks_of(read_export(path))


def tasks_of(export: Export, data_class: DataClass = "internal") -> list[ImportedTask]:
    """Every evaluation of an export as a task of this class."""
    known = {str(one.get("id")) for one in export.evals}
    orphans = {str(run.get("eval_id")) for run in export.runs} - known
    evals = [*export.evals, *({"id": id, "name": id, "object": "eval"} for id in sorted(orphans))]
    made = [_task(one, export, data_class, alone=len(evals) == 1) for one in evals]
    return _named_apart([*made, *registry_tasks(export)])


def _named_apart(tasks: Iterable[ImportedTask]) -> list[ImportedTask]:
    taken: set[str] = set()
    made: list[ImportedTask] = []
    for task in tasks:
        name, number = task.name, 1
        while name in taken:
            number += 1
            name = f"{task.name}-{number}"
        taken.add(name)
        made.append(replace(task, name=name))
    return made


def _task(one: Object, export: Export, data_class: DataClass, *, alone: bool) -> ImportedTask:
    id = str(one.get("id"))
    runs = [run for run in export.runs if run.get("eval_id") == id or (alone and not run.get("eval_id"))]
    ids = {run.get("id") for run in runs}
    items = [item for item in export.items if item.get("eval_id") == id or item.get("run_id") in ids or alone]
    draft = Draft({"eval": one, "runs": [_without_rows(run) for run in runs]})
    name = draft.words(("eval", "name")) or id
    draft.reflected(("name",), ("eval", "name"))
    rows = list(_rows(runs, items, export, draft))
    scorers, target = _scorers(draft)
    asking = openai_prompts.asking(draft, [row for row, _ in rows])
    examples = tuple(_examples(rows, target, asking, draft))
    task = Task(
        name=name,
        examples=examples,
        scorers=scorers,
        prompts=asking.prompts,
        candidates=tuple(openai_prompts.candidates(draft, asking)),
        description=openai_prompts.described(draft),
        data_class=data_class,
    )
    _rest(draft, runs)
    files = texts_of(task)
    if items:
        files[RESULTS] = "".join(json.dumps(_said(item), ensure_ascii=False) + "\n" for item in items)
    return ImportedTask(
        name=folder_name(name),
        files=files,
        examples=len(examples),
        carried=replace(draft.finished(name), settings=files[FILE_NAME]),
    )


def _without_rows(run: Object) -> Object:
    """A run without its rows of data, which are not settings; what is left of them is their number."""
    source = openai_prompts.table(openai_prompts.table(run.get("data_source")).get("source"))
    if not isinstance(source.get("content"), list):
        return run
    count = len(cast("list[Any]", source["content"]))
    data = {**openai_prompts.table(run["data_source"]), "source": {**source, "content": f"{count} rows"}}
    return {**run, "data_source": data}


def _rows(
    runs: list[Object], items: list[Object], export: Export, draft: Draft
) -> Iterator[tuple[Object, Place | None]]:
    """Every different item, with the place of the source that it reflects."""
    seen: set[str] = set()

    def fresh(item: Any) -> bool:
        if not isinstance(item, dict):
            return False
        key = digest(_jsonable(item))
        new = key not in seen
        seen.add(key)
        return new

    for number, run in enumerate(runs):
        at: Place = ("runs", number, "data_source", "source")
        source = openai_prompts.table(openai_prompts.table(run.get("data_source")).get("source"))
        listed = source.get("content")
        content = [
            openai_prompts.table(row) for row in cast("list[Any]", listed if isinstance(listed, list) else [])
        ]
        file = export.rows.get(str(source.get("id"))) if source.get("type") == "file_id" else None
        if file is not None:
            content += [dict(row.value) for row in json_lines(file)]
        if content:
            draft.reflected(("data", "test"), at)
        if any(row.get("sample") for row in content):
            draft.note((*at, "type"), "evals_samples", "changed")
        yield from ((cast("Object", row["item"]), at) for row in content if fresh(row.get("item")))
    for item in items:
        if fresh(item.get("datasource_item")):
            yield cast("Object", item["datasource_item"]), None
    for number, run in enumerate(runs):
        at = ("runs", number, "data_source", "source")
        mine = [item for item in items if item.get("run_id") == run.get("id")]
        if mine:
            draft.reflected(("data", "test"), at)
        else:
            draft.otherwise(at, "evals_rows")


def _examples(
    rows: list[tuple[Object, Place | None]], target: str, asking: openai_prompts.Asking, draft: Draft
) -> Iterator[Example]:
    names: set[str] = set()
    for number, (item, _) in enumerate(rows, start=1):
        name = item.get("id")
        id = str(name) if isinstance(name, (str, int)) and str(name) not in names else f"row-{number}"
        names.add(id)
        fields = cast("Object", _jsonable(item))
        messages = openai_prompts.conversation(asking, fields, draft)
        yield Example(
            id=id,
            fields=fields,
            target=openai_prompts.reached(fields, target) if target else None,
            messages=messages,
            tools=tools_of(asking.tools, Path(FILE_NAME), 1) if asking.tools else (),
        )


# graders


def _scorers(draft: Draft) -> tuple[tuple[Spec, ...], str]:
    """The criteria as scorers, and the field of the item that they compare with; all must pass, as at OpenAI."""
    made: list[Spec] = []
    target = ""
    for number in range(draft.length(("eval", "testing_criteria"))):
        at: Place = ("eval", "testing_criteria", number)
        grader = _grader(draft, at)
        if grader is None:
            continue
        made.append(Spec(name="grader", args={"grader": grader}))
        draft.reflected(("scorers", str(number)), at)
        target = target or _target(grader)
    if len(made) > 1:
        parts = [{"name": "grader", **spec.args} for spec in made]
        made = [Spec(name="all", args={"scorers": parts})]
    return tuple(made), target


def _grader(draft: Draft, at: Place) -> Object | None:
    """One criterion as our graders read it, with notes on what is different here; None where it cannot grade."""
    grader = cast("Object", _without_null(draft.table(at)))
    for name in ("id", "created_at"):
        if name in grader:
            draft.note((*at, name), "evals_identity", "needless")
            del grader[name]
    for one in _parts(grader):
        where = at if one is grader else (*at, "graders")
        if one.get("type") in ("score_model", "label_model") and isinstance(one.get("model"), str):
            if "/" not in one["model"]:
                one["model"] = f"openai/{one['model']}"
            draft.note(
                (*where, "model") if one is grader else where, "evals_judge", "changed", model=one["model"]
            )
        if one.get("type") == "python":
            draft.note((*where, "source") if one is grader else where, "evals_code", "changed")
        if one.get("evaluation_metric") == "cosine":
            draft.note(at, "evals_cosine")
            return None
    try:
        grader_of(grader)
    except BaimoError as error:
        draft.note(at, "evals_grader", problem=error)
        return None
    return grader


def _parts(grader: Object) -> list[Object]:
    """The grader and those that it is made of; the same objects, so that they can be changed."""
    inner = parts_of(openai_prompts.table(grader.get("graders")))
    return [grader, *(openai_prompts.table(one) for one in inner.values())]


def _target(grader: Object) -> str:
    """The field that a grader compares with, where its reference is nothing but that field."""
    for one in _parts(grader):
        reference = one.get("reference")
        if not isinstance(reference, str) or one.get("operation") == "ne":
            continue
        found = list(variables(reference))
        whole = reference.strip()
        if (
            len(found) == 1
            and whole.startswith("{{")
            and whole.endswith("}}")
            and found[0].steps[0] == "item"
        ):
            steps = found[0].steps[1:]
            if len(steps) == 1 and isinstance(steps[0], str):
                return steps[0]
    return ""


# what is left


def _rest(draft: Draft, runs: list[Object]) -> None:
    for name in ("id", *_IDENTITY):
        draft.note(("eval", name), "evals_identity", "needless")
    draft.note(("eval", "data_source_config", "schema"), "evals_schema", "needless")
    draft.note(("eval", "data_source_config", "item_schema"), "evals_schema", "needless")
    draft.note(("eval", "data_source_config", "include_sample_schema"), "evals_schema", "needless")
    draft.note(("eval", "data_source_config", "type"), "evals_source", "needless")
    draft.note(("eval", "data_source_config", "metadata"), "evals_stored")
    draft.otherwise(("eval", "metadata"), "evals_metadata")
    for number in range(len(runs)):
        for name in ("id", "eval_id", "model", *_IDENTITY):
            draft.note(("runs", number, name), "evals_identity", "needless")
        for name in _OUTCOME:
            draft.note(("runs", number, name), "evals_outcome", "needless")
        draft.note(("runs", number, "data_source", "type"), "evals_source", "needless")


def _said(item: Object) -> Object:
    """What was answered and judged at OpenAI."""
    sample = openai_prompts.table(item.get("sample"))
    kept = {"item": item.get("datasource_item"), "run": item.get("run_id"), "model": sample.get("model")}
    kept |= {"output": sample.get("output"), "usage": sample.get("usage"), "error": sample.get("error")}
    return {
        name: value for name, value in {**kept, "results": item.get("results")}.items() if value is not None
    }


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        table = cast("Object", value)
        return {name: _without_null(one) for name, one in table.items() if one is not None}
    if isinstance(value, list):
        return [_without_null(one) for one in cast("list[Any]", value)]
    return value


def _jsonable(value: Any) -> Any:
    return json.loads(canonical(value))
