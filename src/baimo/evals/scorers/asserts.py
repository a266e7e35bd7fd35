"""A list of checks per example, in the notation of promptfoo (https://www.promptfoo.dev/docs/configuration/expected-outputs/).

Prevents the failure where moving from another tool means rewriting every test: the checks that need no code of that
tool work as they are; one that is not known leaves the cell unscored, by name, and is never passed over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, cast

from baimo.core.call import Completion
from baimo.core.run import Score
from baimo.core.task import Example
from baimo.evals.scorers.base import Ask, Described, as_text, is_array, is_object, judged, short, visible
from baimo.evals.scorers.fields import Json
from baimo.evals.scorers.judge import Judge
from baimo.evals.scorers.loose_json import parse, read
from baimo.evals.scorers.overlap import overlap
from baimo.evals.scorers.pattern import TooSlow, compiled, search
from baimo.text import text


class Unscored(Exception):
    """A check could not be made; the message says why."""


class Check(NamedTuple):
    """What one check is given."""

    value: Any
    """Its `value`."""
    threshold: float | None
    """Its `threshold`."""
    reply: str
    """The model's text."""
    example: Example
    """The example."""
    completion: Completion
    """The whole answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asserts(Described):
    """Every check of `metadata.asserts` holds: {type, value, weight = 1, threshold}; `not-` before a type turns it."""

    name: ClassVar[str] = "asserts"
    asserts: tuple[Mapping[str, Any], ...] = ()
    """Checks for every example, before its own."""
    mode: Literal["all", "share"] = "all"
    """all: 1 when every check holds; share: the weighted share of checks that hold."""
    judge: str = ""
    """vendor/model that answers llm-rubric."""
    language: Literal["en", "zh"] = "en"
    """Language of the judge's prompt."""
    ask: Ask | None = None
    """How the judge is called."""

    async def score(self, example: Example, completion: Completion) -> Score:
        """1, 0 or a share; `details` lists every check with its result."""
        given = example.metadata.get("asserts", example.metadata.get("assert", ()))
        checks = [
            *self.asserts,
            *(given if is_array(given) else [given]),
        ]
        if not checks:
            return Score.unscored(text("scorers.asserts_none"))
        reply = visible(completion.text)
        results: list[dict[str, Any]] = []
        try:
            for check in checks:
                results.append(await self._result(check, reply, example, completion))
        except Unscored as reason:
            return Score.unscored(str(reason))
        total = sum(result["weight"] for result in results)
        held = sum(result["weight"] for result in results if result["held"])
        failed = [
            f"{result['type']} {short(result['value'], 60)}" for result in results if not result["held"]
        ]
        content = float(not failed) if self.mode == "all" else held / total if total > 0 else 0.0
        why = text("scorers.asserts_failed", checks=short("; ".join(failed), 400)) if failed else ""
        return judged(content, True, why, asserts=results)

    async def _result(
        self, check: Any, reply: str, example: Example, completion: Completion
    ) -> dict[str, Any]:
        if not is_object(check) or not isinstance(cast("Any", check).get("type"), str):
            raise Unscored(text("scorers.asserts_form", check=short(repr(check))))
        fields = check
        kind, value = str(fields["type"]), fields.get("value")
        try:
            weight = float(fields.get("weight", 1))
            threshold = None if fields.get("threshold") is None else float(fields["threshold"])
        except (TypeError, ValueError) as error:
            raise Unscored(text("scorers.asserts_form", check=short(repr(check)))) from error
        base = kind.removeprefix("not-")
        given = Check(value, threshold, reply, example, completion)
        if base == "llm-rubric":
            held = await self._rubric(given)
        elif base in _CHECKS:
            try:
                held = await _CHECKS[base](given)
            except (TypeError, ValueError, TooSlow) as error:
                raise Unscored(
                    text("scorers.asserts_broken", type=kind, value=short(value), problem=error)
                ) from error
        else:
            raise Unscored(
                text("scorers.asserts_unknown", type=kind, known=", ".join([*_CHECKS, "llm-rubric"]))
            )
        return {"type": kind, "value": value, "weight": weight, "held": held != (base != kind)}

    async def _rubric(self, check: Check) -> bool:
        if not self.judge or self.ask is None:
            raise Unscored(text("scorers.asserts_judge"))
        judge = Judge(model=self.judge, rubric=as_text(check.value), language=self.language, ask=self.ask)
        score = await judge.score(check.example, check.completion)
        if score.lenient is None:
            raise Unscored(score.explanation)
        return score.lenient >= (0.75 if check.threshold is None else check.threshold)


def _values(check: Check) -> list[str]:
    value = check.value
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    if not is_array(value) or not value:
        raise ValueError(text("scorers.asserts_list"))
    return [as_text(item) for item in value]


def _word(check: Check) -> str:
    if check.value is None:
        raise ValueError(text("scorers.asserts_value"))
    return as_text(check.value)


async def _equals(check: Check) -> bool:
    if isinstance(check.value, (dict, list)):
        reading = read(check.reply)
        return reading is not None and not reading.repairs and reading.value == check.value
    return check.reply.strip() == _word(check).strip()


async def _contains(check: Check) -> bool:
    return _word(check) in check.reply


async def _icontains(check: Check) -> bool:
    return _word(check).casefold() in check.reply.casefold()


async def _contains_any(check: Check) -> bool:
    return any(value in check.reply for value in _values(check))


async def _contains_all(check: Check) -> bool:
    return all(value in check.reply for value in _values(check))


async def _icontains_any(check: Check) -> bool:
    return any(value.casefold() in check.reply.casefold() for value in _values(check))


async def _icontains_all(check: Check) -> bool:
    return all(value.casefold() in check.reply.casefold() for value in _values(check))


async def _starts_with(check: Check) -> bool:
    return check.reply.startswith(_word(check))


async def _regex(check: Check) -> bool:
    return await search(compiled(_word(check), dotall=False), check.reply) is not None


async def _is_json(check: Check) -> bool:
    try:
        parse(check.reply.strip())
    except ValueError:
        return False
    return await _contains_json(check)


async def _contains_json(check: Check) -> bool:
    reading = read(check.reply, lambda value: True)
    if reading is None or reading.repairs:
        return False
    return not isinstance(check.value, dict) or Json(schema=cast("dict[str, Any]", check.value)).fits(
        reading.value
    )


async def _levenshtein(check: Check) -> bool:
    from rapidfuzz.distance import Levenshtein

    most = 5 if check.threshold is None else int(check.threshold)
    return Levenshtein.distance(check.reply, _word(check), score_cutoff=most) <= most


async def _similar(check: Check) -> bool:
    """Token overlap stands in for the embeddings that promptfoo would fetch."""
    values = [check.value] if isinstance(check.value, str) else _values(check)
    most = max(overlap("f1", check.reply, value) for value in values)
    return most >= (0.75 if check.threshold is None else check.threshold)


_CHECKS: dict[str, Callable[[Check], Awaitable[bool]]] = {
    "equals": _equals,
    "contains": _contains,
    "icontains": _icontains,
    "contains-any": _contains_any,
    "contains-all": _contains_all,
    "icontains-any": _icontains_any,
    "icontains-all": _icontains_all,
    "starts-with": _starts_with,
    "regex": _regex,
    "is-json": _is_json,
    "contains-json": _contains_json,
    "levenshtein": _levenshtein,
    "similar": _similar,
}
