"""The report as data with a stable schema, for programs: docs/reference/verdict-json.md describes every key.

Prevents the failure where a consumer reads an unknown price as 0 or chokes on NaN: unknown is null, and
every number is finite. Money is in integer micro-units of `currency`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, cast

from baimo.core.ids import plain
from baimo.evals.report.command import command
from baimo.evals.report.report import Difference, Differences, Report, Slicing
from baimo.evals.report.sentences import account

SCHEMA = "baimo.verdict/1"
"""Name and version; keys may be added within a version, never removed or given another meaning."""


def data(report: Report) -> dict[str, Any]:
    """The report as JSON-ready data."""
    verdict, run = report.verdict, report.run
    told = account(verdict)
    figures = {field.name: getattr(verdict, field.name) for field in dataclasses.fields(verdict)}
    left_out = ("standings", "forecast", "slices", "run", "task")
    return _finite(
        {
            "schema": SCHEMA,
            "task": verdict.task,
            "headline": told.headline,
            "sentences": list(told.body),
            "warnings": list(told.warnings),
            **{key: value for key, value in figures.items() if key not in left_out},
            "forecast": _fields(verdict.forecast),
            "standings": [_fields(line) for line in verdict.standings],
            "pareto": [point.candidate for point in report.pareto().front],
            "slices": [_slicing(each) for each in report.slices()],
            "differences": _differences(report.differences()),
            "run": {
                "id": run.id,
                "task_hash": run.task_hash,
                "config_hash": run.config_hash,
                "seed": run.seed,
                "started_ms": run.started_ms,
                "ended_ms": run.ended_ms,
                "status": run.status,
                "version": run.version,
                "options": plain(run.options),
                "candidates": plain(run.candidates),
                "command": command(run),
            },
        }
    )


def _fields(value: Any) -> Any:
    """Every field of a dataclass, defaults included: a key that comes and goes is no schema."""
    if value is None:
        return None
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _slicing(each: Slicing) -> dict[str, Any]:
    rows = [
        {
            "value": row.value,
            "examples": row.examples,
            "means": {
                candidate: {"score": mean.score, "n": mean.n, "small": mean.small}
                for candidate, mean in row.means.items()
            },
        }
        for row in each.slices
    ]
    return {"name": each.name, "hidden": each.hidden, "values": rows}


def _differences(found: Differences) -> dict[str, Any]:
    return {
        "total": found.total,
        "compared": found.compared,
        "examples": [_difference(each) for each in found.shown],
    }


def _difference(each: Difference) -> dict[str, Any]:
    scores = {answer.candidate: answer.score for answer in each.answers}
    return {"example": each.example.id, "spread": each.spread, "scores": scores}


def _finite(value: Any) -> Any:
    """JSON-ready: tuples and intervals to lists, dataclasses to objects, NaN and infinities to null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _finite(_fields(value))
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in cast("list[Any]", value)]
    return value
