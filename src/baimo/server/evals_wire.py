"""What clients send to order evaluations and runs, and the pages that they get.

Source: the types of the official SDK 3.54 (types/evals, types/eval_*).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from baimo.errors import CallRefused
from baimo.evals.graders.kinds import KINDS, Grader, TextSimilarity, grader_of
from baimo.evals.graders.messages import input_templates
from baimo.evals.graders.template import NAMESPACES, checked, path_of
from baimo.server.surfaces.given import Given
from baimo.store.evaluations import Evaluation
from baimo.workspace.eval_sources import Schema, check_content, check_schema

CONFIGS = ("custom", "logs", "stored_completions")
_MOST_CRITERIA = 100
_LONGEST_NAME = 256
_SOURCES: Mapping[str, tuple[str, ...]] = {
    "jsonl": ("file_content", "file_id"),
    "completions": ("file_content", "file_id", "stored_completions"),
    "responses": ("file_content", "file_id", "responses"),
}
"""Data source of a run → what its rows may come from."""

# what clients send


def config(given: Given) -> dict[str, Any]:
    """A data_source_config that can be used.

    Raises:
        CallRefused: says what is wrong with it.
    """
    inner = given.must("data_source_config")
    inner.word("type", *CONFIGS)
    kind = inner.needed("type")
    known = {"type", "item_schema", "include_sample_schema"} if kind == "custom" else {"type", "metadata"}
    _only(inner, known)
    if kind == "custom":
        check_schema(inner.must("item_schema").row, inner.at("item_schema"))
        inner.flag("include_sample_schema")
    else:
        inner.object("metadata")
    return dict(inner.row)


def criteria(given: Given) -> tuple[dict[str, Any], ...]:
    """testing_criteria that can grade, each with a name of its own.

    Raises:
        CallRefused: says which one is wrong, and how.
    """
    rows = given.objects("testing_criteria")
    if not rows:
        raise CallRefused("surfaces.missing", field="testing_criteria")
    if len(rows) > _MOST_CRITERIA:
        raise CallRefused("evaluations.too_many_criteria", field="testing_criteria", limit=_MOST_CRITERIA)
    found: list[dict[str, Any]] = []
    taken: set[str] = set()
    for row in rows:
        grader = grader_of(row.row, row.path)
        if isinstance(grader, TextSimilarity) and grader.pass_threshold is None:
            raise CallRefused("surfaces.missing", field=row.at("pass_threshold"))
        base = name = grader.name or next(kind for kind, one in KINDS.items() if isinstance(grader, one))
        number = 2
        while name in taken:
            name, number = f"{base}-{number}", number + 1
        taken.add(name)
        found.append({**row.row, "name": name})
    return tuple(found)


def graders(evaluation: Evaluation) -> list[Grader]:
    """The graders of an evaluation."""
    return [grader_of(row) for row in evaluation.criteria]


def data_source(given: Given, evaluation: Evaluation) -> dict[str, Any]:
    """The data source of a run that can be used.

    Raises:
        CallRefused: says what is wrong with it.
    """
    inner = given.must("data_source")
    inner.word("type", *_SOURCES)
    kind = inner.needed("type")
    _only(
        inner,
        {"type", "source"} | ({"model", "input_messages", "sampling_params"} if kind != "jsonl" else set()),
    )
    source = inner.must("source")
    source.word("type", *_SOURCES[kind])
    origin = source.needed("type")
    if origin == "file_content":
        rows = [row.row for row in source.objects("content")]
        if not rows:
            raise CallRefused("surfaces.missing", field=source.at("content"))
        check_content(rows, Schema(evaluation.source), source.at("content"))
    elif origin == "file_id":
        source.needed("id")
    else:
        _check_filters(source)
    if kind != "jsonl":
        _check_sampling(inner, needed=origin in ("file_content", "file_id"))
    return dict(inner.row)


def _check_filters(source: Given) -> None:
    for name in ("created_after", "created_before", "limit"):
        source.whole(name)
    source.text("model")
    source.object("metadata")


def _check_sampling(inner: Given, *, needed: bool) -> None:
    """A model is asked with messages, or not at all."""
    messages = inner.object("input_messages")
    if inner.text("model") is None:
        if needed or messages is not None:
            raise CallRefused("surfaces.missing", field=inner.at("model"))
        return
    messages = inner.must("input_messages")
    messages.word("type", "template", "item_reference")
    if messages.needed("type") == "template":
        rows = [row.row for row in messages.objects("template")]
        if not rows:
            raise CallRefused("surfaces.missing", field=messages.at("template"))
        for template, place in input_templates(rows, messages.at("template")):
            checked(template, place)
    else:
        reference = messages.needed("item_reference")
        steps = path_of(reference).steps
        if not steps or steps[0] not in NAMESPACES:
            raise CallRefused(
                "graders.template_wrong_value", field=messages.at("item_reference"), variable=reference[:80]
            )
    params = inner.object("sampling_params")
    if params is not None:
        for name in ("temperature", "top_p"):
            params.number(name)
        for name, least in (("max_completion_tokens", 1), ("seed", -(2**63))):
            params.whole(name, least)
        params.text("reasoning_effort")
        params.objects("tools")


def name(given: Given, usual: str) -> str:
    """The name of an evaluation or a run.

    Raises:
        CallRefused: it is no text, or too long.
    """
    found = given.text("name")
    if found is not None and len(found) > _LONGEST_NAME:
        raise CallRefused("evaluations.name_wrong_value", field="name", limit=_LONGEST_NAME)
    return found or usual


def _only(given: Given, known: set[str]) -> None:
    for name in given.row:
        if name not in known:
            raise CallRefused("graders.unknown_wrong_value", field=given.at(name))


def page_row(rows: Sequence[dict[str, Any]], limit: int) -> dict[str, Any]:
    """A page of rows, of which there is one more than `limit` when there are more."""
    shown = list(rows[:limit])
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else "",
        "last_id": shown[-1]["id"] if shown else "",
        "has_more": len(rows) > limit,
    }
