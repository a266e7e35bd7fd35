"""The reply's final number is the right one.

Prevents the failure where the number that happens to stand last (a year, a list number, a check) is taken for the
answer: `#### 18`, `\\boxed{18}` and "the answer is 18" come before position.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal, NamedTuple

from baimo.core.call import Completion
from baimo.core.run import Score
from baimo.core.task import Example
from baimo.evals.scorers.base import Described, accepted, judged, no_reference, short, visible
from baimo.evals.scorers.numerals import Number, digits, folded, words
from baimo.text import text

_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
_HASHES = re.compile(r"####\s*([^\n]*)")
_STATED = re.compile(
    r"(?:answer|result|total|solution)(?:\s+(?:is|was|would be|should be|equals|comes to)|\s*[:=])\s*(?:about\s+)?"
    r"([^\n]*)|"
    r"(?:答案|结果|总共|一共|共计|合计|总计|得数|等于)\s*(?:应该|应当|应)?(?:是|为|等于|有)?\s*[:=]?\s*([^\n]*)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[。;!?]|\.(?:\s|$)|(?<=\D),\s")
_BARE = re.compile(r"[-+]?[$€£¥]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d+)?\s?%?|[-+]?\d+/\d+")


class Answer(NamedTuple):
    """The number that a reply gives as its answer."""

    number: Number
    """Its readings."""
    how: str
    """hashes, boxed, stated, whole, last: where it was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numeric(Described):
    """The reply's answer equals the target number. Strict: in the asked form; lenient: found in the text."""

    name: ClassVar[str] = "numeric"
    absolute: float = 0.0
    """Largest difference that is still right."""
    relative: float | None = None
    """Largest difference as a share of the target; None = 1e-6 for fractions, whole numbers must be equal."""
    form: Literal["number", "hashes", "boxed", "any"] = "number"
    """What strict asks for: nothing but the number, a last line `#### 18`, `\\boxed{18}`, or any readable number."""
    decimal_comma: bool = False
    """Whether 1.234,5 means one thousand two hundred thirty-four and a half."""

    async def score(self, example: Example, completion: Completion) -> Score:
        """1 within the tolerance; a reply without any number is malformed."""
        targets = [answer_in(target) for target in accepted(example.target)]
        if not targets:
            return no_reference()
        if None in targets:
            return Score.unscored(text("scorers.numeric_target", target=short(example.target)))
        reply = visible(completion.text)
        answer = answer_in(reply, decimal_comma=self.decimal_comma)
        if answer is None:
            why = text("scorers.numeric_none", expected=short(example.target), reply=short(reply))
            return judged(0.0, False, why)
        right = any(self._near(answer.number, target.number) for target in targets if target)
        value = _figure(answer.number.value)
        facts = {"expected": short(example.target), "found": value}
        why = "" if right else text("scorers.numeric_wrong", **facts)
        return judged(
            float(right), self._formed(completion.text.strip(), answer), why, value=value, how=answer.how
        )

    def _near(self, number: Number, target: Number) -> bool:
        for value in number.readings:
            for wanted in target.readings:
                relative = self.relative
                if relative is None:
                    relative = 0.0 if wanted.denominator == 1 else 1e-6
                if abs(value - wanted) <= max(Fraction(self.absolute), Fraction(relative) * abs(wanted)):
                    return True
        return False

    def _formed(self, reply: str, answer: Answer) -> bool:
        match self.form:
            case "number":
                spelt = reply.translate(str.maketrans(".,", ",.")) if self.decimal_comma else reply
                return bool(reply) and _BARE.fullmatch(spelt) is not None
            case "hashes":
                last = _HASHES.match(reply.splitlines()[-1]) if reply else None
                return last is not None and _BARE.fullmatch(last[1].strip()) is not None
            case "boxed":
                return answer.how == "boxed"
            case "any":
                return True


def answer_in(reply: str, *, decimal_comma: bool = False) -> Answer | None:
    """The number that `reply` gives as its answer: marked, else stated, else the whole reply, else the last one."""
    plain = folded(reply.replace("**", "").replace("\\$", "$"))
    for how, pattern in (("hashes", _HASHES), ("boxed", _BOXED)):
        for match in reversed(list(pattern.finditer(plain))):
            if numbers := _numbers(match[1], decimal_comma):
                return Answer(numbers[0], how)
    if not digits(plain.strip()):
        spelt = words(plain)
        whole = [number for number in spelt if number.end - number.start >= len(plain.strip(" 。.!元个\n"))]
        if whole:
            return Answer(whole[-1], "whole")
    for match in reversed(list(_STATED.finditer(plain))):
        rest = match[1] or match[2] or ""
        # the statement ends with its sentence: `the answer is clear. In 2024 …` states no number
        if numbers := _numbers(_SENTENCE_END.split(rest, maxsplit=1)[0], decimal_comma):
            # `the answer is 3 + 4 = 7` states 7
            return Answer(numbers[-1] if "=" in rest else numbers[0], "stated")
    numbers = _numbers(plain, decimal_comma)
    return Answer(numbers[-1], "last") if numbers else None


def _numbers(plain: str, decimal_comma: bool) -> list[Number]:
    """Digits when there are any, else words: 一 and `one` are too common in prose to compete with digits."""
    return digits(plain, decimal_comma=decimal_comma) or words(plain)


def _figure(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    try:
        return f"{float(value):.10g}"
    except OverflowError:
        return f"{value.numerator}/{value.denominator}"
