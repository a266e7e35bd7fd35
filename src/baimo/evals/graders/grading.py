"""One grader, one item, one sample → a Grade."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from baimo.core.call import Completion, Usage
from baimo.core.message import ToolCall
from baimo.errors import BaimoError, BudgetExceeded, ScorerError
from baimo.evals.graders import code, models
from baimo.evals.graders.formula import formula
from baimo.evals.graders.grade import Grade, GradingError
from baimo.evals.graders.kinds import (
    Grader,
    LabelModel,
    Multi,
    Python,
    ScoreModel,
    StringCheck,
    TextSimilarity,
    threshold,
    type_of,
)
from baimo.evals.graders.similarity import cosine, similarity
from baimo.evals.graders.template import filled
from baimo.evals.scorers.base import Ask
from baimo.evals.scorers.loose_json import parse


class Embedded(NamedTuple):
    """Vectors of texts, and who made them."""

    vectors: Sequence[Sequence[float]]
    model: str
    usage: Usage = Usage()


Embed = Callable[[Sequence[str]], Awaitable[Embedded]]
"""How texts are embedded, for `cosine`."""


class Helpers(NamedTuple):
    """What graders need from outside."""

    ask: Ask | None = None
    """Calls a judge by the name that the grader gives; None = there is none."""
    embed: Embed | None = None
    """None = there is none."""


def sample_of(
    text: str, tools: Sequence[ToolCall] = (), *, finish_reason: str = "stop", model: str = ""
) -> dict[str, Any]:
    """The namespace `sample` of an answer: output_text, output_json where it is JSON, output_tools, choices.

    Args:
        text: what was said.
        tools: functions that were asked for.
        finish_reason: why it ended.
        model: that answered.
    """
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in tools
    ]
    message = {"role": "assistant", "content": text, "tool_calls": calls or None, "refusal": None}
    choices = [{"index": 0, "message": message, "finish_reason": finish_reason}]
    sample: dict[str, Any] = {"output_text": text, "output_tools": calls, "choices": choices, "model": model}
    return with_json(sample)


def sample_of_completion(completion: Completion) -> dict[str, Any]:
    """The same of a Completion."""
    reason = completion.finish_reason
    return sample_of(
        completion.text,
        completion.tool_calls,
        finish_reason="stop" if reason == "unknown" else reason,
        model=completion.model,
    )


def with_json(sample: Mapping[str, Any]) -> dict[str, Any]:
    """A sample with output_json where its output_text is JSON and it has none yet."""
    text = sample.get("output_text")
    if "output_json" in sample or not isinstance(text, str):
        return dict(sample)
    try:
        return {**sample, "output_json": parse(text)}
    except ValueError:
        return dict(sample)


async def grade(
    grader: Grader, item: Mapping[str, Any], sample: Mapping[str, Any], helpers: Helpers = Helpers()
) -> Grade:
    """What a grader makes of a sample. What goes wrong is in the Grade.

    Args:
        grader: of `grader_of`.
        item: the row of data.
        sample: of `sample_of`, or as a client gives it.
        helpers: how models are asked.

    Raises:
        BudgetExceeded: a judge may not be paid any more.
    """
    began = time.perf_counter()
    grader_type = type_of(grader)
    name = grader.name or grader_type
    try:
        made = await _graded(grader, {"item": item, "sample": sample}, helpers)
        made = replace(made, name=name, type=grader_type)
    except GradingError as error:
        made = _failed(name, grader_type, error.error)
        made = replace(made, error_type=error.kind, model=error.model, usage=error.usage)
    except BudgetExceeded:
        raise
    except ScorerError as error:
        made = _failed(name, grader_type, error)
    passed = not made.error and made.score >= threshold(grader)
    return replace(made, passed=passed, seconds=time.perf_counter() - began)


def _failed(name: str, grader_type: str, error: BaimoError) -> Grade:
    return Grade(name=name, type=grader_type, score=0.0, error=error.key, problem=str(error))


async def _graded(grader: Grader, names: Mapping[str, Any], helpers: Helpers) -> Grade:
    match grader:
        case StringCheck():
            return _made(float(string_check(grader, names)))
        case TextSimilarity():
            return await _similarity(grader, names, helpers.embed)
        case ScoreModel():
            return _judged(grader.model, await models.scored(grader, names, helpers.ask))
        case LabelModel():
            return _judged(grader.model, await models.labelled(grader, names, helpers.ask))
        case Python():
            return _made(await code.graded(grader, names))
        case Multi():
            return await _combined(grader, names, helpers)


def _made(score: float, **facts: Any) -> Grade:
    return Grade(name="", type="", score=score, **facts)


def _judged(asked: str, judgement: models.Judgement) -> Grade:
    return _made(
        judgement.score, model=judgement.model, usage={asked: judgement.usage}, details=judgement.details
    )


def string_check(grader: StringCheck, names: Mapping[str, Any]) -> bool:
    """Whether the texts stand in the relation that the grader names."""
    given, reference = filled(grader.input, names), filled(grader.reference, names)
    match grader.operation:
        case "eq":
            return given == reference
        case "ne":
            return given != reference
        case "like":
            return reference in given
        case "ilike":
            return reference.casefold() in given.casefold()


async def _similarity(grader: TextSimilarity, names: Mapping[str, Any], embed: Embed | None) -> Grade:
    texts = filled(grader.input, names), filled(grader.reference, names)
    if grader.evaluation_metric != "cosine":
        # a long text takes a while, and others wait for this loop
        return _made(await asyncio.to_thread(similarity, grader.evaluation_metric, *texts))
    if embed is None:
        raise GradingError(ScorerError("graders.no_embed"), kind="no_model")
    try:
        made = await embed(texts)
    except BudgetExceeded:
        raise
    except BaimoError as error:
        failed = ScorerError("graders.model_failed", model="text-embedding-3-large", problem=error)
        raise GradingError(failed, kind=error.key.rpartition(".")[2]) from error
    one, other = made.vectors
    return _made(max(0.0, cosine(one, other)), model=made.model, usage={made.model: made.usage})


async def _combined(grader: Multi, names: Mapping[str, Any], helpers: Helpers) -> Grade:
    parts = grader.parts
    made = await asyncio.gather(
        *(grade(part, names["item"], names["sample"], helpers) for part in parts.values())
    )
    usage: dict[str, Usage] = {}
    for one in made:
        for model, tokens in one.usage.items():
            usage[model] = Usage.sum((usage[model], tokens)) if model in usage else tokens
    grades = dict(zip(parts, made, strict=True))
    try:
        score = formula(grader.calculate_output, parts).value(
            {name: one.score for name, one in grades.items()}
        )
    except ScorerError as error:
        return _made(0.0, error=error.key, problem=str(error), parts=grades, usage=usage)
    # a part that the sample broke has 0 in the formula; one that could not judge leaves no judgement of the whole
    broken = next((one for one in made if one.failed), None) or Grade(name="", type="", score=0.0)
    return _made(
        score,
        parts=grades,
        usage=usage,
        error=broken.error,
        problem=broken.problem,
        error_type=broken.error_type,
    )
