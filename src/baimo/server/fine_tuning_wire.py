"""Fine-tuning jobs, their events and checkpoints as OpenAI writes them.

Prevents the failure where a client waits for a member that never comes: every answer has all the members that the
official library knows, and what is ours stands apart, under `baimo`.
Source: developers.openai.com/api/reference/resources/fine_tuning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast, get_args

import msgspec

from baimo.core.ids import plain
from baimo.core.tuning import Adapter, Effort, JobStatus, TuneJob
from baimo.errors import CallRefused
from baimo.evals.graders.kinds import grader_of
from baimo.server.batches import metadata
from baimo.server.surfaces.given import Given
from baimo.store.jobs import JobEvent
from baimo.text import has, text
from baimo.workspace.fine_tuning_order import RECIPES, Order

AUTO = "auto"
SHARED: Mapping[str, tuple[type, float]] = {
    "n_epochs": (int, 50),
    "batch_size": (int, 256),
    "learning_rate_multiplier": (float, 1000.0),
}
"""Hyperparameters that every method has: type, and the most that is taken."""
OWN: Mapping[str, Mapping[str, tuple[type, float]]] = {
    "supervised": {},
    "dpo": {"beta": (float, 1000.0)},
    "reinforcement": {
        "compute_multiplier": (float, 1000.0),
        "eval_interval": (int, 1_000_000),
        "eval_samples": (int, 1_000_000),
    },
}
"""Those of one method."""
EFFORTS = get_args(Effort)
REASONING = ("default", "low", "medium", "high")
MOST_INTEGRATIONS = 5
LARGEST_SEED = 2**31 - 1
OURS = "baimo"
"""Member of a request (`extra_body`) and of an answer that holds what OpenAI does not know."""
_SUFFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def ordered(body: bytes) -> Order:
    """What a request asks for.

    Raises:
        CallRefused: something is missing, or cannot be used.
    """
    given = Given.body(body)
    method, parameters, grader = _method(given)
    ours, labels = _ours(given), metadata(given)
    recipe = ours.text("recipe") or labels.get("baimo.recipe") or RECIPES[method]
    effort = cast("Effort", ours.word("effort", *EFFORTS) or _effort(labels) or "small")
    overrides = ours.object("overrides")
    suffix = given.text("suffix") or ""
    if suffix and not _SUFFIX.fullmatch(suffix):
        raise CallRefused("finetuning.suffix", field="suffix")
    seed = given.whole("seed")
    if seed is not None and seed > LARGEST_SEED:
        raise given.wrong("seed", f"integer <= {LARGEST_SEED}")
    return Order(
        model=given.needed("model"),
        training_file=given.needed("training_file"),
        validation_file=given.text("validation_file") or "",
        method=method,
        recipe=recipe,
        hyperparameters=parameters,
        grader=grader,
        overrides=_overrides(labels) if overrides is None else dict(overrides.row),
        effort=effort,
        suffix=suffix,
        seed=seed,
        integrations=_integrations(given),
        asked=dict(given.row),
    )


def _method(given: Given) -> tuple[str, dict[str, Any], Mapping[str, Any] | None]:
    """Its name, its hyperparameters, its grader."""
    method = given.object("method")
    if method is None:
        return "supervised", _parameters(given.object("hyperparameters"), "supervised"), None
    if given.has("hyperparameters"):
        raise CallRefused("finetuning.both", field="hyperparameters")
    name = method.needed("type")
    if name not in RECIPES:
        raise method.wrong("type", " | ".join(RECIPES))
    inner = method.object(name)
    parameters = _parameters(None if inner is None else inner.object("hyperparameters"), name)
    if name != "reinforcement":
        return name, parameters, None
    if inner is None:
        raise method.wrong(name, "object")
    grader = inner.must("grader")
    grader_of(grader.row, grader.path)
    return name, parameters, grader.row


def _parameters(given: Given | None, method: str) -> dict[str, Any]:
    """The hyperparameters that are set."""
    found: dict[str, Any] = {}
    if given is None:
        return found
    known = {**SHARED, **OWN[method]}
    for name in given.row:
        if not given.has(name) or given.row[name] == AUTO:
            continue
        if name == "reasoning_effort" and method == "reinforcement":
            found[name] = given.word(name, *REASONING)
            continue
        if name not in known:
            raise CallRefused("finetuning.unknown_parameter", field=given.at(name), known=", ".join(known))
        kind, most = known[name]
        value = given.whole(name, 1) if kind is int else given.number(name)
        if value is None or not 0 < value <= most:
            raise given.wrong(name, f"auto | {'1' if kind is int else '0'} … {most:g}")
        found[name] = value
    return found


def _ours(given: Given) -> Given:
    return given.object(OURS) or Given({}, OURS)


def _effort(labels: Mapping[str, str]) -> str | None:
    return Given(labels, "metadata").word("baimo.effort", *EFFORTS)


def _overrides(labels: Mapping[str, str]) -> dict[str, Any]:
    said = labels.get("baimo.overrides", "{}")
    try:
        return msgspec.json.decode(said, type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError):
        raise Given(labels, "metadata").wrong("baimo.overrides", "object") from None


def _integrations(given: Given) -> int:
    integrations = given.objects("integrations")
    if len(integrations) > MOST_INTEGRATIONS:
        raise given.wrong("integrations", f"array of at most {MOST_INTEGRATIONS}")
    for one in integrations:
        one.word("type", "wandb")
        one.must("wandb").needed("project")
    return len(integrations)


def job_row(job: TuneJob, organization: str) -> dict[str, Any]:
    """A job as OpenAI describes it."""
    asked, ended = job.asked, job.status.ended
    method = _method_name(asked)
    parameters = _shown_parameters(job, method)
    inner: dict[str, Any] = {"hyperparameters": parameters}
    if method == "reinforcement":
        inner["grader"] = asked["method"]["reinforcement"]["grader"]
    finished = job.status is JobStatus.SUCCEEDED and job.progress is not None
    return {
        "id": job.spec.id,
        "object": "fine_tuning.job",
        "model": job.spec.base,
        "created_at": job.created_ms // 1000,
        "finished_at": job.ended_ms // 1000 if ended and job.ended_ms is not None else None,
        "fine_tuned_model": job.model or None,
        "organization_id": f"org-{organization}",
        "result_files": list(job.files),
        "status": job.status.value,
        "validation_file": asked.get("validation_file"),
        "training_file": str(asked.get("training_file") or ""),
        "hyperparameters": {name: parameters[name] for name in SHARED},
        "method": {"type": method, method: inner},
        "trained_tokens": job.progress.tokens if finished and job.progress is not None else None,
        "error": None if job.error is None else _error(job.error),
        "user_provided_suffix": job.spec.suffix or None,
        "seed": job.spec.seed,
        "estimated_finish": _estimated(job),
        "integrations": list(asked.get("integrations") or ()),
        "metadata": asked.get("metadata"),
        OURS: _described(job),
    }


def _method_name(asked: Mapping[str, Any]) -> str:
    """OpenAI's method of a job, also of one that was asked for otherwise."""
    method: Mapping[str, Any] = asked.get("method") or {}
    return str(method.get("type", "supervised"))


def _shown_parameters(job: TuneJob, method: str) -> dict[str, Any]:
    """Hyperparameters as they were set; as they were planned, once they were."""
    planned: Mapping[str, Any] = job.asked.get("planned") or {}
    known = {**SHARED, **OWN[method]}
    said = {name: planned.get(name, job.spec.recipe.args.get(name, AUTO)) for name in known}
    if method == "reinforcement":
        said["reasoning_effort"] = planned.get("reasoning_effort") or job.spec.recipe.args.get(
            "reasoning_effort", REASONING[0]
        )
    whole = [name for name, (kind, _) in known.items() if kind is int and isinstance(said[name], float)]
    return {**said, **{name: max(1, round(said[name])) for name in whole}}


def _error(error: Mapping[str, Any]) -> dict[str, Any]:
    param = error.get("param")
    code, message = str(error.get("code") or "server_error"), str(error.get("message") or "")
    return {"code": code, "message": message, "param": None if param is None else str(param)}


def _estimated(job: TuneJob) -> int | None:
    if job.status is not JobStatus.RUNNING or job.started_ms is None:
        return None
    if job.progress is not None and job.progress.eta_s is not None:
        left_s = job.progress.elapsed_s + job.progress.eta_s
    elif job.forecast is not None:
        left_s = job.forecast.minutes.middle * 60
    else:
        return None
    return int(job.started_ms / 1000 + left_s)


def _described(job: TuneJob) -> dict[str, Any]:
    return {
        "recipe": job.spec.recipe.name,
        "effort": job.spec.effort,
        "progress": None if job.progress is None else plain(job.progress),
        "forecast": None if job.forecast is None else plain(job.forecast),
        "adapter": job.adapter or None,
    }


METRICS: Mapping[str, tuple[str, ...]] = {
    "loss": ("train_loss",),
    "accuracy": ("train_mean_token_accuracy",),
    # the whole validation file is measured, and not a batch of it
    "valid_loss": ("valid_loss", "full_valid_loss"),
    "valid_accuracy": ("valid_mean_token_accuracy", "full_valid_mean_token_accuracy"),
    "reward": ("train_reward_mean",),
}
"""Field of `TuneProgress` → OpenAI's names of it."""
_LEVELS: Mapping[str, str] = {
    "failed": "error",
    "ended": "error",
    "notice": "warn",
    "ignored_integrations": "warn",
    "personal_data": "warn",
}


def event_row(event: JobEvent, job: TuneJob) -> dict[str, Any]:
    """Something that happened to a job."""
    metrics = event.kind == "progress"
    figures: Mapping[str, Any] = event.facts.get("progress") or {}
    return {
        "id": event.id,
        "object": "fine_tuning.job.event",
        "created_at": event.at_ms // 1000,
        "level": str(event.facts.get("level") or _LEVELS.get(event.kind, "info")),
        "message": _step_message(figures) if metrics else _message(event, job),
        "type": "metrics" if metrics else "message",
        "data": metrics_row(figures) if metrics else dict(event.facts),
    }


def metrics_row(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a step under OpenAI's names; what was not measured is not there."""
    found: dict[str, Any] = {"step": facts.get("step"), "total_steps": facts.get("steps")}
    for name, names in METRICS.items():
        if facts.get(name) is not None:
            found |= dict.fromkeys(names, facts[name])
    return {name: value for name, value in found.items() if value is not None}


def _step_message(facts: Mapping[str, Any]) -> str:
    figures = [
        text(f"finetuning.figure_{name}", value=f"{facts[name]:.2f}")
        for name in ("loss", "valid_loss", "reward")
        if isinstance(facts.get(name), (int, float))
    ]
    step, steps = facts.get("step", "?"), facts.get("steps", "?")
    return text("finetuning.event_step", step=step, steps=steps, figures=", ".join(figures))


def _message(event: JobEvent, job: TuneJob) -> str:
    facts = {
        "id": event.job,
        "model": job.model,
        "step": "?",
        "training": "",
        "validation": "",
        **event.facts,
    }
    if facts.get("message"):
        return str(facts["message"])
    inner: Mapping[str, Any] = event.facts.get("facts") or {}
    said = str(event.facts.get("key") or f"finetuning.event_{event.kind}")
    if not has(said):
        return event.kind
    try:
        return text(said, **{**facts, **inner})
    except (KeyError, IndexError):  # told by another release
        return event.kind


def checkpoint_row(adapter: Adapter, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """A model as it was after some step.

    Args:
        adapter: of a checkpoint.
        metrics: figures of that step, the fields of `TuneProgress`.
    """
    step = adapter.step or 0
    return {
        "id": checkpoint_id(adapter),
        "object": "fine_tuning.job.checkpoint",
        "created_at": adapter.created_ms // 1000,
        "fine_tuned_model_checkpoint": adapter.name,
        "fine_tuning_job_id": adapter.job,
        "metrics": {"step": step, **metrics_row(dict(metrics) | {"steps": None})},
        "step_number": step,
    }


def checkpoint_id(adapter: Adapter) -> str:
    """ftckpt_… of an adapter."""
    return f"ftckpt_{adapter.id.partition('_')[2]}"
