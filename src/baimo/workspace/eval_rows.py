"""Evaluations, runs and output items as OpenAI describes them.

Source: the types of the official SDK 3.54 (types/evals, types/eval_*). Where a type allows no null, there is none: an
`error` that there is not has an empty code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from baimo.store.evaluation_runs import EvalRun, ModelTokens, OutputItem
from baimo.store.evaluations import Evaluation

_NO_ERROR = {"code": "", "message": ""}
_SAMPLE_SCHEMA = {
    "type": "object",
    "properties": {
        "model": {"type": "string"},
        "choices": {"type": "array", "items": {"type": "object"}},
        "output_text": {"type": "string"},
        "output_json": {},
        "output_tools": {"type": "array", "items": {"type": "object"}},
    },
    "required": ["model", "choices"],
}


def evaluation_row(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as OpenAI describes it."""
    return {
        "object": "eval",
        "id": evaluation.id,
        "data_source_config": _config_row(evaluation.source),
        "testing_criteria": [dict(row) for row in evaluation.criteria],
        "name": evaluation.name,
        "created_at": evaluation.created_ms // 1000,
        "metadata": dict(evaluation.metadata),
    }


def run_row(run: EvalRun, asked: Mapping[str, Any], address: str) -> dict[str, Any]:
    """A run as OpenAI describes it.

    Args:
        run: how far it is.
        asked: its data source.
        address: of this server, as the client reaches it.
    """
    criteria = [
        {"testing_criteria": name, "passed": passed, "failed": failed}
        for name, (passed, failed) in run.criteria.items()
    ]
    return {
        "object": "eval.run",
        "id": run.id,
        "eval_id": run.evaluation,
        "report_url": f"{address}/v1/evals/{run.evaluation}/runs/{run.id}",
        "status": run.status,
        "model": run.model,
        "name": run.name,
        "created_at": run.created_ms // 1000,
        "result_counts": {
            "total": run.passed + run.failed + run.errored,
            "errored": run.errored,
            "failed": run.failed,
            "passed": run.passed,
        },
        "per_model_usage": [_usage_row(one) for one in run.usage],
        "per_testing_criteria_results": criteria,
        "data_source": dict(asked),
        "error": {"code": run.error_code, "message": run.error},
        "metadata": dict(run.metadata),
    }


def item_row(run: EvalRun, item: OutputItem) -> dict[str, Any]:
    """What came of a row of data, as OpenAI describes it."""
    output = item.output
    sample = {**output.get("sample", {})}
    sample["error"] = sample.get("error") or _NO_ERROR
    return {
        "object": "eval.run.output_item",
        "id": item.id,
        "created_at": int(output.get("created_ms", 0)) // 1000,
        "run_id": run.id,
        "eval_id": run.evaluation,
        "status": item.status,
        "datasource_item_id": item.position,
        "datasource_item": item.row.get("item", {}),
        "results": output.get("results", []),
        "sample": sample,
    }


def _config_row(source: Mapping[str, Any]) -> dict[str, Any]:
    if source["type"] == "custom":
        sampled = bool(source.get("include_sample_schema"))
        properties = {"item": source["item_schema"]} | ({"sample": _SAMPLE_SCHEMA} if sampled else {})
        return {"type": "custom", "schema": _object(properties)}
    item = {"type": "object", "properties": {"input": {}, "metadata": {"type": "object"}}}
    schema = _object({"item": item, "sample": _SAMPLE_SCHEMA})
    return {"type": source["type"], "metadata": dict(source.get("metadata") or {}), "schema": schema}


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "required": list(properties)}


def _usage_row(one: ModelTokens) -> dict[str, Any]:
    return {
        "model_name": one.model,
        "invocation_count": one.calls,
        "prompt_tokens": one.tokens_in,
        "completion_tokens": one.tokens_out,
        "total_tokens": one.tokens_in + one.tokens_out,
        "cached_tokens": one.tokens_cached,
    }
