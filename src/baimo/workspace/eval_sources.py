"""The rows of data of a run: out of the request, a file, stored completions or stored responses.

Prevents the failure where a row without the field that everything is about runs through an evaluation and is called a
wrong answer: each is held against the evaluation's schema first, and the error names its line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from baimo.core.tenant import DataClass
from baimo.errors import CallRefused
from baimo.evals.scorers.base import is_object
from baimo.providers.openai_reply import count, fields, items
from baimo.store.completions import StoredCompletions
from baimo.store.evaluation_runs import EvalRun, Source
from baimo.store.evaluations import Evaluation
from baimo.store.files import Files
from baimo.store.responses import KeptResponse, Responses
from baimo.workspace.eval_sampling import sample_of_chat, sample_of_response

MOST_ROWS = 1_000_000
_MOST_ERRORS = 10
_Classed = tuple[dict[str, Any], DataClass]
"""A row, and the class that is known of it alone."""


class Kept(NamedTuple):
    """Where rows may come from."""

    files: Files
    completions: StoredCompletions
    responses: Responses
    written: Callable[[], object]
    """Moves what this process has just answered to where stored completions are looked for."""


class Schema:
    """The schema that items must satisfy."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """
        Args:
            config: data_source_config of the evaluation; only `custom` says what an item looks like.
        """
        from jsonschema import Draft202012Validator

        self._validator: Any = None
        if config.get("type") == "custom":
            self._validator = Draft202012Validator(config.get("item_schema") or {})

    def problem(self, row: object) -> str:
        """What is wrong with a row; empty = nothing."""
        if not is_object(row) or not is_object(row.get("item")):
            return "item: object expected"
        if "sample" in row and row["sample"] is not None and not is_object(row["sample"]):
            return "sample: object expected"
        if self._validator is None:
            return ""
        error = next(iter(self._validator.iter_errors(row["item"])), None)
        if error is None:
            return ""
        place = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in error.absolute_path)
        return f"item{place}: {str(error.message)[:200]}"


def check_schema(schema: object, field: str) -> None:
    """Refuse a schema that is none.

    Raises:
        CallRefused: says where it is wrong.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)  # type: ignore[arg-type]
    except SchemaError as error:
        place = ".".join(map(str, error.absolute_path))
        raise CallRefused(
            "evaluations.schema_wrong_value", field=field, place=place or "–", problem=error.message[:200]
        ) from None


def check_content(content: list[Mapping[str, Any]], schema: Schema, field: str) -> None:
    """Refuse rows of a request that do not fit the schema.

    Raises:
        CallRefused: names the first ones by their number.
    """
    wrong = ((number, schema.problem(row)) for number, row in enumerate(content, 1))
    _refuse(islice(((number, problem) for number, problem in wrong if problem), _MOST_ERRORS), field)


def sources(run: EvalRun, evaluation: Evaluation, asked: Mapping[str, Any], kept: Kept) -> Iterator[Source]:
    """The rows of a run.

    Raises:
        CallRefused: they cannot be had, or do not fit the schema; names lines.
    """
    source = fields(asked.get("source"))
    kind = source.get("type")
    rows: Iterator[_Classed]
    if kind == "file_content":
        rows = ((_shaped(row), "public") for row in items(source.get("content")))
    elif kind == "file_id":
        lines = _lines(run, str(source.get("id", "")), Schema(evaluation.source), kept.files)
        rows = ((row, "public") for row in lines)
    elif kind == "stored_completions":
        kept.written()  # a client that has its answer counts it among the stored ones
        rows = _completions(run, evaluation, source, kept.completions)
    else:
        rows = _responses(run, source, kept.responses)
    for position, (row, data_class) in enumerate(rows):
        if position >= MOST_ROWS:
            raise CallRefused("evaluations.too_many", limit=MOST_ROWS)
        yield Source(position, row, data_class)


def _shaped(row: object) -> dict[str, Any]:
    """Only what a row may hold."""
    given = fields(row)
    found: dict[str, Any] = {"item": dict(fields(given.get("item")))}
    if given.get("sample") is not None:
        found["sample"] = dict(fields(given["sample"]))
    return found


def _lines(run: EvalRun, id: str, schema: Schema, files: Files) -> Iterator[dict[str, Any]]:
    path: Path | None = files.path(run.tenant, id) if files.get(run.tenant, id) is not None else None
    if path is None or not path.exists():
        raise CallRefused("evaluations.no_file", field="data_source.source.id", id=id)
    wrong = list(islice(_wrong_lines(path, schema), _MOST_ERRORS))
    _refuse(iter(wrong), "data_source.source.id")
    with path.open(encoding="utf-8-sig") as file:
        for line in file:
            if line.strip():
                yield _shaped(json.loads(line))


def _wrong_lines(path: Path, schema: Schema) -> Iterator[tuple[int, str]]:
    """Lines that cannot be used. The whole file is looked through before a call is paid for."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                problem = schema.problem(json.loads(line)) if line.strip() else ""
            except (ValueError, RecursionError) as error:
                problem = f"no JSON: {error}"
            if problem:
                yield number, problem


def _refuse(wrong: Iterator[tuple[int, str]], field: str) -> None:
    found = list(wrong)
    if found:
        shown = "; ".join(f"{number}: {problem}" for number, problem in found)
        raise CallRefused("evaluations.rows_wrong_value", field=field, line=found[0][0], problems=shown)


def _completions(
    run: EvalRun, evaluation: Evaluation, source: Mapping[str, Any], kept: StoredCompletions
) -> Iterator[_Classed]:
    labels = {**fields(evaluation.source.get("metadata")), **fields(source.get("metadata"))}
    found = kept.walk(
        run.tenant,
        model=str(source.get("model") or ""),
        labels={name: str(value) for name, value in labels.items()},
        after_s=count(source.get("created_after")),
        before_s=count(source.get("created_before")),
    )
    for one in islice(found, count(source.get("limit"))):
        sample = sample_of_chat(one.answer)
        item = {
            "input": one.request.get("messages"),
            "output": sample["output_text"],
            "model": one.model,
            "metadata": dict(one.labels),
            "created_at": one.created_ms // 1000,
        }
        yield {"item": item, "sample": sample}, one.data_class


def _responses(run: EvalRun, source: Mapping[str, Any], kept: Responses) -> Iterator[_Classed]:
    for one in kept.walk(
        run.tenant, after_s=count(source.get("created_after")), before_s=count(source.get("created_before"))
    ):
        data = fields(json.loads(one.response))
        if _fits(data, source, one):
            item: dict[str, Any] = {
                "input": json.loads(one.given),
                "instructions": data.get("instructions"),
                "model": data.get("model"),
                "metadata": data.get("metadata") or {},
                "created_at": one.created_ms // 1000,
            }
            yield {"item": item, "sample": sample_of_response(data)}, one.data_class


def _fits(data: Mapping[str, Any], source: Mapping[str, Any], one: KeptResponse) -> bool:
    """Whether a stored response is one of those that the source asks for."""
    for name in ("model", "temperature", "top_p"):
        if source.get(name) is not None and data.get(name) != source[name]:
            return False
    effort = source.get("reasoning_effort")
    if effort is not None and fields(data.get("reasoning")).get("effort") != effort:
        return False
    labels = fields(data.get("metadata"))
    if any(labels.get(name) != value for name, value in fields(source.get("metadata")).items()):
        return False
    words = source.get("instructions_search")
    if words and str(words).casefold() not in str(data.get("instructions") or "").casefold():
        return False
    if source.get("users") and data.get("user") not in items(source["users"]):
        return False
    tools = {str(fields(tool).get("name") or fields(tool).get("type")) for tool in items(data.get("tools"))}
    return not source.get("tools") or bool(tools & {str(name) for name in items(source["tools"])})
