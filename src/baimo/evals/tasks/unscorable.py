"""References that their scorer cannot use: the reference itself, handed in as the reply, has to get full marks.

Prevents the failure where every model gets a row wrong because its reference is no number, not among the labels,
outside of the schema, or a pattern that does not compile; and the scorer that cannot be built at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from baimo.core.call import Completion, Request
from baimo.core.registry import Spec
from baimo.core.run import Score, Scorer
from baimo.core.task import Example, Task
from baimo.errors import BaimoError
from baimo.evals.tasks.formats.asserts import base_type
from baimo.evals.tasks.formats.shapes import as_items, is_map
from baimo.text import text

SELF_JUDGED = frozenset({"exact", "choice", "numeric", "contains", "icontains", "json"})
"""Scorers that answer at once and give their own reference full marks."""


class Problem(NamedTuple):
    """Something that a scorer cannot use."""

    example: Example | None
    """The row; None = the scorer itself."""
    reason: str
    """Why, in the reader's language."""


Find = Callable[[str], object]
"""Looks a model up; raises UnknownModel."""


def unscorable(spec: Spec, task: Task, find: Find | None = None) -> Iterator[Problem]:
    """What `spec` cannot judge of the test split. Every scorer is built; those that call a model or run code are
    not tried, and code is not run.

    Args:
        spec: the scorer.
        task: what is to be judged.
        find: looks the models of judges up; None = they are not looked up.
    """
    from baimo.evals.scorers.registry import scorer

    try:
        built = scorer(spec, folder=Path(task.folder), ask=_nobody, runs=False)
        if find is not None:
            for model in _judges(spec.name, spec.args):
                find(model)
    except BaimoError as error:
        yield Problem(None, str(error))
        return
    if spec.name == "asserts":
        yield from _asserts(spec, task)
    if spec.name not in SELF_JUDGED | {"regex", "tool_calls"}:
        return
    for example in task.examples:
        if example.target is not None and (reason := _reason(spec, built, example)):
            yield Problem(example, reason)


async def _nobody(request: Request) -> Completion:
    raise AssertionError(f"{request.model} is asked while a task is checked")


def _judges(name: str, args: Mapping[str, Any]) -> Iterator[str]:
    """The models that a scorer, which could be built, asks."""
    if name in {"judge", "pairwise"}:
        yield args["model"]
    elif name == "asserts" and args.get("judge"):
        yield args["judge"]
    elif name == "grader":
        from baimo.evals.graders.kinds import grader_of, models_of

        yield from sorted(models_of(grader_of(args["grader"])))
    elif name in {"all", "any"}:
        for part in args["scorers"]:
            yield from _judges(part["name"], part)


def _reason(spec: Spec, scorer: Scorer, example: Example) -> str:
    if spec.name == "regex":
        patterns: list[Any] = [] if spec.args.get("pattern") else as_items(example.target)
        problems = [_pattern(pattern) for pattern in patterns]
        return next((problem for problem in problems if problem), "")
    if spec.name == "tool_calls":
        return _calls(example)
    reply = _reply(spec, example.target)
    try:
        score = _at_once(scorer.score(example, Completion(text=reply)))
    except BaimoError as error:
        return str(error)
    outside = spec.name == "json" and spec.args.get("schema") is not None and score.strict == 0
    if score.lenient is not None and score.lenient >= 1 and not outside:
        return ""
    return score.explanation or text("tasks.not_full_marks", reply=reply[:60])


def _reply(spec: Spec, target: Any) -> str:
    """The reference as the perfect reply."""
    if spec.name != "json":
        from baimo.evals.scorers.base import accepted

        texts = accepted(target)
        return texts[0] if texts else ""
    value = target
    for step in reversed([step for step in str(spec.args.get("answer") or "").split(".") if step]):
        value = {step: value}
    return json.dumps(value, ensure_ascii=False)


def _at_once(judging: Coroutine[Any, Any, Score]) -> Score:
    """The result of a coroutine that never waits; `check` may itself be called from within an event loop."""
    try:
        judging.send(None)
    except StopIteration as stop:
        return cast("Score", stop.value)
    judging.close()
    return Score.of(1.0)  # it waits for something outside, so there is nothing to say about the reference


def _calls(example: Example) -> str:
    from baimo.evals.scorers.tool_calls import expected_calls

    wanted = expected_calls(example.target)
    if wanted is None:
        return text("tasks.not_calls")
    offered = {tool.name for tool in example.tools}
    missing = sorted({call.name for call in wanted} - offered) if offered else []
    return text("tasks.call_not_offered", names=", ".join(missing)) if missing else ""


def _asserts(spec: Spec, task: Task) -> Iterator[Problem]:
    shared = as_items(spec.args.get("asserts"))
    for example in task.examples:
        own = example.metadata.get("asserts", example.metadata.get("assert"))
        reasons = (_assertion(spec, each) for each in [*shared, *as_items(own)] if is_map(each))
        yield from (Problem(example, reason) for reason in dict.fromkeys(reasons) if reason)


def _assertion(spec: Spec, assertion: Mapping[str, Any]) -> str:
    kind, value = base_type(str(assertion.get("type"))), assertion.get("value")
    if kind == "regex":
        return _pattern(value)
    if kind in {"is-json", "contains-json"} and isinstance(value, Mapping):
        return _schema(cast("Mapping[str, Any]", value))
    return text("scorers.asserts_judge") if kind == "llm-rubric" and not spec.args.get("judge") else ""


def _pattern(value: Any) -> str:
    from baimo.evals.scorers.pattern import compiled

    try:
        compiled(str(value), False, True)
    except ValueError as error:
        return text("tasks.bad_pattern", pattern=str(value)[:60], problem=error)
    return ""


def _schema(value: Mapping[str, Any]) -> str:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(value)
    except SchemaError as error:
        return text("tasks.bad_assert_schema", problem=error.message)
    return ""
