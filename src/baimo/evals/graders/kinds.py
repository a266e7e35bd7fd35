"""The six kinds of graders as clients describe them, checked as a whole before anything is asked.

Prevents the failure where a training job or an evaluation is paid for and then turns out to be graded by nothing: an
unknown field, a template of no namespace, code without `grade`, a formula over parts that are not there.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Mapping
from typing import Any, Literal, cast

import msgspec

from baimo.errors import CallRefused, ScorerError
from baimo.evals.graders.formula import formula
from baimo.evals.graders.messages import input_templates
from baimo.evals.graders.similarity import Metric
from baimo.evals.graders.template import checked
from baimo.typed import converted

LONGEST_CODE = 256 * 1000
"""Bytes of a Python grader, as OpenAI has it."""
THRESHOLD = 0.5
"""Share of the range that is a pass where a grader names no `pass_threshold`."""


class _Kind(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    name: str = ""


class StringCheck(_Kind, frozen=True, kw_only=True, tag="string_check"):
    """1 where two texts stand in a relation, else 0."""

    input: str
    reference: str
    operation: Literal["eq", "ne", "like", "ilike"]
    """eq, ne: the same or not, case counts; like, ilike: `input` contains `reference`, case counts or not."""


class TextSimilarity(_Kind, frozen=True, kw_only=True, tag="text_similarity"):
    """How alike two texts are."""

    input: str
    reference: str
    evaluation_metric: Metric
    pass_threshold: float | None = None
    """Least score that passes; the evals API wants it."""


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a judge decodes."""

    max_completions_tokens: int | None = None
    """As OpenAI spells it here."""
    reasoning_effort: str | None = None
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None


class ScoreModel(_Kind, frozen=True, kw_only=True, tag="score_model"):
    """A model gives a number."""

    input: list[dict[str, Any]]
    """Messages with templates."""
    model: str
    range: list[float] | None = None
    """Least and greatest score; None = 0 to 1."""
    sampling_params: SamplingParams | None = None
    pass_threshold: float | None = None

    @property
    def low(self) -> float:
        """Least score."""
        return self.range[0] if self.range else 0.0

    @property
    def high(self) -> float:
        """Greatest score."""
        return self.range[1] if self.range else 1.0


class LabelModel(_Kind, frozen=True, kw_only=True, tag="label_model"):
    """A model gives one of several labels."""

    input: list[dict[str, Any]]
    model: str
    labels: list[str]
    passing_labels: list[str]


class Python(_Kind, frozen=True, kw_only=True, tag="python"):
    """`def grade(sample, item) -> float`, run apart from everything else."""

    source: str
    image_tag: str | None = None
    """Named OpenAI's set of libraries; here there are those of this installation."""
    pass_threshold: float | None = None


class Multi(_Kind, frozen=True, kw_only=True, tag="multi"):
    """Several graders and a formula."""

    graders: dict[str, Any]
    """Name in the formula → grader; or, as the SDK's types have it, one grader, called by its own name."""
    calculate_output: str
    pass_threshold: float | None = None

    @property
    def parts(self) -> Mapping[str, Grader]:
        """The graders by their names in the formula."""
        return {name: _convert(row, name) for name, row in parts_of(self.graders).items()}


Grader = StringCheck | TextSimilarity | ScoreModel | LabelModel | Python | Multi
KINDS: Mapping[str, type[Grader]] = {
    "string_check": StringCheck,
    "text_similarity": TextSimilarity,
    "score_model": ScoreModel,
    "label_model": LabelModel,
    "python": Python,
    "multi": Multi,
}
_UNKNOWN = re.compile(r"unknown field `([^`]+)`")
_MISSING = re.compile(r"missing required field `([^`]+)`")
_PLACE = re.compile(r" - at `\$\.?([^`]*)`")


def type_of(grader: Grader) -> str:
    """`type` of a grader."""
    return str(type(grader).__struct_config__.tag)


def grader_of(row: object, field: str = "grader") -> Grader:
    """The grader that a request describes.

    Args:
        row: JSON object.
        field: where it stands in the request, for messages.

    Raises:
        CallRefused: it could not grade; says which of its members is wrong, and how.
    """
    grader = _convert(row, field)
    _check(grader, field)
    if isinstance(grader, Multi):
        parts = parts_of(grader.graders)
        if not parts:
            raise CallRefused("graders.missing", field=f"{field}.graders")
        for name, part in parts.items():
            place = f"{field}.graders" if part is grader.graders else f"{field}.graders.{name}"
            if isinstance(grader_of(part, place), Multi):
                raise CallRefused("graders.nested_wrong_value", field=place)
        try:
            formula(grader.calculate_output, parts)
        except ScorerError as error:
            raise CallRefused(
                "graders.formula_wrong_value", field=f"{field}.calculate_output", problem=error
            ) from error
    return grader


def parts_of(graders: Mapping[str, Any]) -> dict[str, Any]:
    """`graders` of a multi grader by name, in both of the forms that it has."""
    if isinstance(graders.get("type"), str):
        return {str(graders.get("name") or graders["type"]): graders}
    return dict(graders)


def threshold(grader: Grader) -> float:
    """Least score that passes."""
    if isinstance(grader, (StringCheck, LabelModel)):
        return 1.0
    if grader.pass_threshold is not None:
        return grader.pass_threshold
    if isinstance(grader, ScoreModel):
        return grader.low + THRESHOLD * (grader.high - grader.low)
    return THRESHOLD


def models_of(grader: Grader) -> set[str]:
    """Names of the models that judge."""
    if isinstance(grader, Multi):
        return set[str]().union(*(models_of(part) for part in grader.parts.values()))
    return {grader.model} if isinstance(grader, (ScoreModel, LabelModel)) else set()


def runs_code(grader: Grader) -> bool:
    """Whether it brings Python code with it."""
    if isinstance(grader, Multi):
        return any(runs_code(part) for part in grader.parts.values())
    return isinstance(grader, Python)


def _convert(row: object, field: str) -> Grader:
    if not isinstance(row, Mapping):
        raise CallRefused("graders.wrong_type", field=field, expected="object")
    given = cast("Mapping[str, Any]", row)
    name = given.get("type")
    if not name:
        raise CallRefused("graders.missing", field=f"{field}.type")
    if not isinstance(name, str) or name not in KINDS:
        known = ", ".join(KINDS)
        raise CallRefused("graders.wrong_value", field=f"{field}.type", got=str(name)[:40], expected=known)
    # null stands for a member that is not there
    try:
        return converted({name: one for name, one in given.items() if one is not None}, KINDS[name])
    except msgspec.ValidationError as error:
        raise _misfit(str(error), field) from error


def _misfit(problem: str, field: str) -> CallRefused:
    place = match[1] if (match := _PLACE.search(problem)) else ""
    inner = f"{field}.{place}" if place else field
    if match := _UNKNOWN.search(problem):
        return CallRefused("graders.unknown_wrong_value", field=f"{inner}.{match[1]}")
    if match := _MISSING.search(problem):
        return CallRefused("graders.missing", field=f"{inner}.{match[1]}")
    said = problem.partition(" - at ")[0]
    return CallRefused("graders.misfit_wrong_type", field=inner, problem=said)


def _check(grader: Grader, field: str) -> None:
    if isinstance(grader, (StringCheck, TextSimilarity)):
        checked(grader.input, f"{field}.input")
        checked(grader.reference, f"{field}.reference")
    elif isinstance(grader, (ScoreModel, LabelModel)):
        if not grader.input:
            raise CallRefused("graders.missing", field=f"{field}.input")
        for template, place in input_templates(grader.input, f"{field}.input"):
            checked(template, place)
        if not grader.model:
            raise CallRefused("graders.missing", field=f"{field}.model")
    if isinstance(grader, ScoreModel):
        _check_range(grader, field)
    elif isinstance(grader, LabelModel):
        _check_labels(grader, field)
    elif isinstance(grader, Python):
        _check_code(grader.source, f"{field}.source")


def _check_range(grader: ScoreModel, field: str) -> None:
    if grader.range is not None and (len(grader.range) != 2 or grader.low >= grader.high):
        raise CallRefused(
            "graders.wrong_value", field=f"{field}.range", got=str(grader.range)[:40], expected="[low, high]"
        )
    least = grader.pass_threshold
    if least is not None and not grader.low <= least <= grader.high:
        expected = f"{grader.low:g} … {grader.high:g}"
        raise CallRefused(
            "graders.wrong_value", field=f"{field}.pass_threshold", got=f"{least:g}", expected=expected
        )


def _check_labels(grader: LabelModel, field: str) -> None:
    for name, labels in (("labels", grader.labels), ("passing_labels", grader.passing_labels)):
        if not labels:
            raise CallRefused("graders.missing", field=f"{field}.{name}")
    for label in grader.passing_labels:
        if label not in grader.labels:
            known = ", ".join(grader.labels)[:200]
            raise CallRefused(
                "graders.wrong_value", field=f"{field}.passing_labels", got=label[:40], expected=known
            )


def _check_code(source: str, field: str) -> None:
    """Refuse code that cannot be a grader; nothing of it is run."""
    if len(source.encode()) >= LONGEST_CODE:
        raise CallRefused("graders.code_long_wrong_value", field=field, limit=LONGEST_CODE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = error.lineno if isinstance(error, SyntaxError) else None
        raise CallRefused(
            "graders.code_wrong_value", field=field, line=line or "?", problem=getattr(error, "msg", error)
        ) from None
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == "grade":
            arguments = node.args
            count = len(arguments.posonlyargs) + len(arguments.args)
            fits = count - len(arguments.defaults) <= 2 <= count or arguments.vararg is not None
            if isinstance(node, ast.AsyncFunctionDef) or not fits:
                raise CallRefused("graders.code_grade_wrong_value", field=field)
            return
    named = {one.id for node in tree.body for one in ast.walk(node) if isinstance(one, ast.Name)}
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, (ast.ImportFrom, ast.Import))
        for alias in node.names
    }
    if "grade" not in named | imported:
        raise CallRefused("graders.code_grade_wrong_value", field=field)
