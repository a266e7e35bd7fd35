"""A task from its folder, its task.toml, or a bare file of examples.

Prevents the failure where a comparison answers another question than the one that was written down: a misspelt key, a
missing file, a prompt name that does not exist or a schema that is none stops the reading, with file and line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec

from baimo.core.call import JsonFormat, Sampling
from baimo.core.registry import Spec
from baimo.core.task import Example, FewShot, Prompt, Task
from baimo.errors import TaskError
from baimo.evals.tasks.formats.columns import Columns
from baimo.evals.tasks.formats.recognise import Contents, read_file
from baimo.evals.tasks.formats.rows import content, json_object, near_files
from baimo.evals.tasks.manifest import (
    FILE_NAME,
    CandidateTable,
    Manifest,
    PromptTable,
    SamplingTable,
    prompt_table,
)
from baimo.evals.tasks.notes import Note, Notebook

_BARE_NAMES = ("promptfooconfig.yaml", "promptfooconfig.yml", "promptfooconfig.json")
_OTHERS = ("baimo.toml", "pyproject.toml")
"""Settings that are no task: renaming them would lose them."""
_NUMBER = re.compile(r"[-+]?(\d{1,3}(,\d{3})+|\d+)(\.\d+)?")
_MOST_LABELS = 200
_SHORT_ANSWER = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A task, and what a person should know about how it was read."""

    task: Task
    """The task."""
    format: str
    """Format of the test split; see recognise.NAMES."""
    notes: tuple[Note, ...] = ()
    """What was assumed, and what could not be carried over."""


def load_task(path: Path | str, *, format: str = "", columns: Columns | None = None) -> Task:
    """The task in a folder, a task.toml or a data file; see read_task."""
    return read_task(path, format=format, columns=columns).task


def read_task(path: Path | str, *, format: str = "", columns: Columns | None = None) -> Reading:
    """The task in a folder, a task.toml or a data file, with notes.

    Args:
        path: a folder with task.toml (or a promptfoo configuration), a task.toml, or a data file in any known format.
        format: how a data file is to be read; empty = by content.
        columns: which column of a data file holds what; None = found by name.

    Raises:
        TaskError: something cannot be used; names file and line.
        MissingExtra: the data is Parquet, and pyarrow is not installed.
    """
    path = Path(path)
    if path.is_dir():
        path = _in_folder(path)
    if path.suffix == ".toml":
        return _from_manifest(Manifest(path))
    notebook = Notebook(file=str(path))
    found = read_file(path, notebook, mapping=columns, format=format)
    stem = path.name.removesuffix(".gz").partition(".")[0]
    task = Task(
        name=path.absolute().parent.name if path.name in _BARE_NAMES else stem,
        examples=found.examples,
        scorers=found.scorers or _assumed_scorers(found.examples, notebook),
        prompts=found.prompts or (Prompt(),),
        description=found.description,
        folder=str(path.parent),
    )
    return Reading(task=task, format=found.format, notes=notebook.notes())


def _in_folder(folder: Path) -> Path:
    for name in (FILE_NAME, *_BARE_NAMES):
        if (folder / name).is_file():
            return folder / name
    near = ", ".join(sorted(file.name for file in folder.glob("*.toml") if file.name not in _OTHERS))
    raise TaskError("tasks.no_manifest_near" if near else "tasks.no_manifest", path=folder, near=near)


def _from_manifest(manifest: Manifest) -> Reading:
    table, folder = manifest.task, manifest.path.parent
    notebook = Notebook(file=str(folder / table.data.test))
    test = _split(manifest, "test", notebook)
    learned = Notebook(file=str(folder / table.data.train))
    train = _split(manifest, "train", learned).examples if table.data.train else ()
    prompts = tuple(prompt_of(prompt) for prompt in manifest.prompts) or test.prompts or (Prompt(),)
    _check_prompts(manifest, prompts, has_train=bool(train))
    task = Task(
        name=table.name or folder.absolute().name,
        examples=test.examples,
        scorers=_scorers(manifest) or test.scorers or _assumed_scorers(test.examples, notebook),
        prompts=prompts,
        train=train,
        description=table.description or test.description,
        license=table.license,
        sampling=_sampling(table.sampling),
        response_format=_response_format(manifest, table.json_schema, ("json_schema",)),
        candidates=tuple(_candidate(manifest, number, one) for number, one in enumerate(manifest.candidates)),
        data_class=table.data_class,
        folder=str(folder),
    )
    return Reading(task=task, format=test.format, notes=(*notebook.notes(), *learned.notes()))


def _split(manifest: Manifest, name: str, notebook: Notebook) -> Contents:
    data = manifest.task.data
    path = manifest.path.parent / getattr(data, name)
    if not path.is_file():
        near = near_files(path)
        key = "tasks.missing_split_near" if near else "tasks.missing_split"
        line = manifest.line(("data", name))
        raise TaskError(key, path=manifest.path, line=line, split=name, file=getattr(data, name), near=near)
    columns = Columns(
        input=data.input,
        target=data.target if isinstance(data.target, str) else tuple(data.target),
        id=data.id,
        group=data.group,
        metadata=tuple(data.metadata),
        messages=data.messages,
        tools=data.tools,
        json=tuple(data.json),
    )
    if len(data.delimiter) > 1:
        line = manifest.line(("data", "delimiter"))
        raise TaskError("tasks.bad_delimiter", path=manifest.path, line=line, delimiter=data.delimiter)
    return read_file(path, notebook, mapping=columns, format=data.format, delimiter=data.delimiter)


def prompt_of(table: PromptTable) -> Prompt:
    """A prompt from its table."""
    block = table.few_shot
    shown = (
        FewShot(count=block.count, by=block.by, select=block.select, ids=tuple(block.ids)) if block else None
    )
    return Prompt(
        name=table.name, system=table.system, user=table.user, assistant=table.assistant, few_shot=shown
    )


def _prompt_file(manifest: Manifest, number: int, name: str) -> dict[str, Any]:
    """The table of a prompt.toml beside or below the task."""
    path = manifest.path.parent / name
    if not path.is_file():
        line = manifest.line(("candidates", number, "prompt"))
        facts = {"path": manifest.path, "line": line, "file": name, "near": near_files(path)}
        raise TaskError("tasks.missing_prompt", **facts)
    return cast("dict[str, Any]", msgspec.to_builtins(prompt_table(path)))


def _check_prompts(manifest: Manifest, prompts: Sequence[Prompt], *, has_train: bool) -> None:
    names = [prompt.name for prompt in prompts]
    for number, prompt in enumerate(prompts):
        if names.index(prompt.name) < number:
            line = manifest.line(("prompts", number, "name"))
            raise TaskError("tasks.double_prompt", path=manifest.path, line=line, name=prompt.name)
        if prompt.few_shot and prompt.few_shot.count > 0 and not has_train:
            place = ("prompt",) if manifest.task.prompt is not None else ("prompts", number)
            line = manifest.line((*place, "few_shot"))
            raise TaskError("tasks.few_shot_without_train", path=manifest.path, line=line, name=prompt.name)
    for number, candidate in enumerate(manifest.candidates):
        if candidate.prompt and not candidate.prompt.endswith(".toml") and candidate.prompt not in names:
            line = manifest.line(("candidates", number, "prompt"))
            facts = {"path": manifest.path, "line": line, "name": candidate.prompt, "known": ", ".join(names)}
            raise TaskError("tasks.unknown_prompt", **facts)
        if candidate.few_shot and not has_train:
            line = manifest.line(("candidates", number, "few_shot"))
            name = candidate.name or candidate.model
            raise TaskError("tasks.few_shot_without_train", path=manifest.path, line=line, name=name)


def _sampling(table: SamplingTable) -> Sampling:
    return Sampling(
        temperature=table.temperature,
        top_p=table.top_p,
        max_tokens=table.max_tokens,
        stop=tuple(table.stop),
        seed=table.seed,
    )


def _scorers(manifest: Manifest) -> tuple[Spec, ...]:
    specs: list[Spec] = []
    for number, table in enumerate(manifest.task.scorers):
        args = dict(table)
        name = args.pop("name", None)
        if not isinstance(name, str) or not name:
            raise TaskError("tasks.scorer_name", path=manifest.path, line=manifest.line(("scorers", number)))
        if isinstance(args.get("schema"), str):
            # the schema itself goes into the hash of the task: another schema is another question
            args["schema"] = _schema(manifest, args["schema"], ("scorers", number, "schema"))
        specs.append(Spec(name=name, args=_jsonable(args)))
    return tuple(specs)


def _candidate(manifest: Manifest, number: int, table: CandidateTable) -> Mapping[str, Any]:
    given = cast("dict[str, Any]", msgspec.to_builtins(table))
    kept = {name: value for name, value in given.items() if value not in (None, "", {})}
    if table.prompt.endswith(".toml"):
        kept["prompt"] = _prompt_file(manifest, number, table.prompt)
    if isinstance(table.json_schema, str):
        kept["json_schema"] = _schema(manifest, table.json_schema, ("candidates", number, "json_schema"))
    return kept


def _response_format(
    manifest: Manifest, value: str | dict[str, Any] | bool | None, place: tuple[str, ...]
) -> Any:
    if isinstance(value, str):
        return JsonFormat(schema=_schema(manifest, value, place))
    return response_format(value)


def response_format(value: Mapping[str, Any] | bool | None) -> JsonFormat | None:
    """What `json_schema` asks for: a schema, any JSON object (true), free text (false or nothing)."""
    if value is None or value is False:
        return None
    return JsonFormat() if value is True else JsonFormat(schema=value)


def _schema(manifest: Manifest, name: str, place: tuple[str | int, ...]) -> dict[str, Any]:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    path = manifest.path.parent / name
    if not path.is_file():
        facts = {"path": manifest.path, "line": manifest.line(place), "file": name, "near": near_files(path)}
        raise TaskError("tasks.missing_schema_near" if facts["near"] else "tasks.missing_schema", **facts)
    schema = json_object(content(path), path, 1)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        where = "/".join(str(step) for step in error.absolute_path) or "/"
        raise TaskError("tasks.bad_schema", path=path, place=where, problem=error.message) from error
    return schema


def _assumed_scorers(examples: Sequence[Example], notebook: Notebook) -> tuple[Spec, ...]:
    spec = assumed_scorer(examples)
    if spec is None:
        notebook.add("assumed_no_scorer")
        return ()
    notebook.add("assumed_scorer", scorer=spec.name)
    return (spec,)


def assumed_scorer(examples: Sequence[Example]) -> Spec | None:
    """The scorer that fits the references, for a task that names none; None where there are no references."""
    targets = [example.target for example in examples if example.target is not None]
    if any("asserts" in example.metadata for example in examples):
        return Spec(name="asserts")
    if not targets:
        return None
    if all(_is_calls(target) for target in targets) or all(
        example.tools and isinstance(example.target, list)
        for example in examples
        if example.target is not None
    ):
        return Spec(name="tool_calls")
    if all(isinstance(target, (int, float, str)) and _NUMBER.fullmatch(str(target)) for target in targets):
        return Spec(name="numeric")
    texts = [target for target in targets if isinstance(target, str)]
    if any(isinstance(target, dict) for target in targets):
        return Spec(name="json")
    labels = sorted(set(texts))
    if len(texts) == len(targets) and 2 <= len(labels) <= min(_MOST_LABELS, len(texts) // 4):
        return Spec(name="choice", args={"labels": labels})
    long = len(texts) == len(targets) and sum(map(len, texts)) / len(texts) > _SHORT_ANSWER
    return Spec(name="text_overlap" if long else "exact")


def _is_calls(target: Any) -> bool:
    calls = cast("list[Any]", target) if isinstance(target, list) else []
    return bool(calls) and all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls)


def _jsonable(args: dict[str, Any]) -> dict[str, Any]:
    """TOML dates become ISO 8601 text: a Spec is JSON-ready."""
    return cast("dict[str, Any]", json.loads(json.dumps(args, default=lambda value: value.isoformat())))
