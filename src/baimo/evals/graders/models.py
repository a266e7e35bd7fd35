"""Graders that ask a model: a number on a range, or one of several labels.

The answer is wanted in the form that OpenAI's own graders ask for: `{"result", "steps"}`. Prevents the failure where a
judge that cannot be reached, refuses or talks past the question counts as a wrong answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from baimo.core.call import Completion, JsonFormat, Request, Sampling, Usage
from baimo.errors import BaimoError, BudgetExceeded, ScorerError
from baimo.evals.graders.grade import GradingError
from baimo.evals.graders.kinds import LabelModel, ScoreModel
from baimo.evals.graders.messages import messages
from baimo.evals.scorers.base import Ask, is_object, short, visible
from baimo.evals.scorers.loose_json import read

_STEPS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"description": {"type": "string"}, "conclusion": {"type": "string"}},
        "required": ["description", "conclusion"],
        "additionalProperties": False,
    },
}


class Judgement(NamedTuple):
    """What a model made of it."""

    score: float
    model: str
    usage: Usage
    details: Mapping[str, Any]


async def scored(grader: ScoreModel, names: Mapping[str, Any], ask: Ask | None) -> Judgement:
    """The number that a model gives, cut to the grader's range.

    Raises:
        GradingError: it could not be asked, refused, or gave no number.
        ScorerError: a template cannot be filled.
    """
    form = _form({"type": "number"}, "score")
    answer = await _asked(grader, names, ask, form)
    reading = _reading(answer)
    result = reading.get("result")
    if isinstance(result, str):
        result = _number(result)
    if isinstance(result, bool) or not isinstance(result, (int, float)) or not math.isfinite(result):
        raise _unreadable(grader.model, answer)
    score = min(max(float(result), grader.low), grader.high)
    return Judgement(score, answer.model or grader.model, answer.usage, dict(reading))


async def labelled(grader: LabelModel, names: Mapping[str, Any], ask: Ask | None) -> Judgement:
    """1 where the model gives one of the passing labels, else 0.

    Raises:
        GradingError: it could not be asked, refused, or gave none of the labels.
        ScorerError: a template cannot be filled.
    """
    form = _form({"type": "string", "enum": grader.labels}, "label")
    answer = await _asked(grader, names, ask, form)
    reading = _reading(answer)
    label = reading.get("result", reading.get("label", visible(answer.text).strip()))
    if label not in grader.labels:
        raise _unreadable(grader.model, answer)
    details = {**reading, "result": label}
    return Judgement(
        float(label in grader.passing_labels), answer.model or grader.model, answer.usage, details
    )


async def _asked(
    grader: ScoreModel | LabelModel, names: Mapping[str, Any], ask: Ask | None, form: JsonFormat
) -> Completion:
    conversation = messages(grader.input, names)
    if ask is None:
        raise GradingError(ScorerError("graders.no_ask", name=grader.name), kind="no_model")
    given = grader.sampling_params if isinstance(grader, ScoreModel) else None
    sampling, extra = Sampling(), None
    if given is not None:
        sampling = Sampling(
            temperature=given.temperature,
            top_p=given.top_p,
            max_tokens=given.max_completions_tokens,
            seed=given.seed,
        )
        extra = {"reasoning_effort": given.reasoning_effort} if given.reasoning_effort else None
    request = Request(
        model=grader.model, messages=conversation, sampling=sampling, response_format=form, extra=extra
    )
    try:
        answer = await ask(request)
    except BudgetExceeded:
        raise
    except BaimoError as error:
        kind = error.key.rpartition(".")[2]
        failed = ScorerError("graders.model_failed", model=grader.model, problem=error)
        raise GradingError(failed, kind=kind, model=grader.model) from error
    if answer.finish_reason == "content_filter":
        refused = ScorerError("graders.model_refused", model=grader.model)
        raise GradingError(refused, model=answer.model, usage={grader.model: answer.usage})
    return answer


def _form(result: Mapping[str, Any], name: str) -> JsonFormat:
    schema = {
        "type": "object",
        "properties": {"result": result, "steps": _STEPS},
        "required": ["result", "steps"],
        "additionalProperties": False,
    }
    return JsonFormat(schema=schema, name=name)


def _reading(answer: Completion) -> Mapping[str, Any]:
    reading = read(
        visible(answer.text), lambda value: is_object(value) and bool({"result", "label"} & set(value))
    )
    return reading.value if reading and is_object(reading.value) else {}


def _unreadable(model: str, answer: Completion) -> GradingError:
    error = ScorerError("graders.model_unreadable", model=model, found=short(answer.text))
    return GradingError(error, model=answer.model, usage={model: answer.usage})


def _number(words: str) -> float | None:
    try:
        return float(words)
    except ValueError:
        return None
