"""`--require 'score>=0.9'`: what must hold of a verdict before a pipeline goes on.

Prevents the failure where a gate passes because a figure is missing: an unknown figure never meets a requirement.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from baimo.core.money import MICROS
from baimo.core.verdict import Standing, Verdict
from baimo.errors import UsageError
from baimo.evals.report.figures import columns
from baimo.text import text

Value = float | bool | str

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_OF_CANDIDATE: Mapping[str, Callable[[Standing], float | None]] = {
    "score": lambda line: line.score,
    "low": lambda line: line.interval.low if line.judged else None,
    "strict": lambda line: line.strict,
    "lenient": lambda line: line.lenient,
    "cost_per_1000": lambda line: (
        None if line.cost_per_1000_micros is None else line.cost_per_1000_micros / MICROS
    ),
    "latency_ms": lambda line: line.latency_ms_median,
    "malformed_rate": lambda line: line.malformed / line.judged if line.judged else None,
    "failed_rate": lambda line: (
        line.failed / asked if (asked := line.judged + line.failed + line.unscored) else None
    ),
}
_OF_VERDICT = ("error_bound", "certain", "winner")
NAMES = (*_OF_CANDIDATE, *_OF_VERDICT)
"""Every figure that can be required."""

_NAME = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*")
_OPERATOR = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\s*(%?)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One figure, compared."""

    figure: str
    """One of NAMES."""
    candidate: str | None
    """Whose figure; None = the winner's."""
    comparison: str
    """>=, <=, ==, !=, > or <."""
    value: Value
    """What it is compared with, in the figure's own unit."""
    source: str
    """As it was written."""

    def unmet(self, verdict: Verdict) -> str | None:
        """Why it does not hold, for a person; None when it holds."""
        if self.figure == "winner":
            found = verdict.winner
            if found is None:
                return text("require.no_winner", source=self.source)
            equal = found == self.value
            met = equal if self.comparison == "==" else not equal
            return None if met else text("require.unmet", source=self.source, figure="winner", found=found)
        if self.figure == "certain":
            met = (verdict.certain == self.value) == (self.comparison == "==")
            found = "true" if verdict.certain else "false"
            return None if met else text("require.unmet", source=self.source, figure="certain", found=found)
        return self._unmet_number(verdict)

    def _unmet_number(self, verdict: Verdict) -> str | None:
        if self.figure == "error_bound":
            figure, found = self.figure, verdict.error_bound
        else:
            wanted = self.candidate or verdict.winner
            if wanted is None:
                return text("require.no_winner", source=self.source)
            line = next((line for line in verdict.standings if line.candidate == wanted), None)
            if line is None:
                names = ", ".join(each.candidate for each in verdict.standings[:5])
                return text("require.no_candidate", source=self.source, candidate=wanted, names=names)
            figure, found = f"{self.figure}[{wanted}]", _OF_CANDIDATE[self.figure](line)
        if found is None or found != found:
            return text("require.unknown_figure", source=self.source, figure=figure)
        if _OPERATORS[self.comparison](found, float(self.value)):
            return None
        return text("require.unmet", source=self.source, figure=figure, found=f"{found:.6g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """Conditions that must all hold."""

    conditions: tuple[Condition, ...]
    """At least one."""

    def unmet(self, verdict: Verdict) -> str | None:
        """Why it is not met, one line per condition that does not hold; None when all hold."""
        reasons = [reason for condition in self.conditions if (reason := condition.unmet(verdict))]
        return "\n".join(reasons) or None


def requirement(source: str) -> Requirement:
    """Read one or more conditions, separated by commas.

    Raises:
        UsageError: it cannot be read; the message points at the place.
    """
    conditions: list[Condition] = []
    position = 0
    while position <= len(source):
        condition, position = _condition(source, position)
        conditions.append(condition)
    return Requirement(conditions=tuple(conditions))


def _condition(source: str, start: int) -> tuple[Condition, int]:
    match = _NAME.match(source, start)
    if match is None:
        raise _error(source, start, "require.expected_name")
    figure, position = match[1], match.end()
    if figure not in NAMES:
        raise _error(source, match.start(1), "require.expected_name")
    candidate = None
    if source[position : position + 1] == "[":
        # a candidate's name may hold brackets and commas: it ends at the bracket that a comparison follows
        end = next((m for m in re.finditer(r"\]\s*(?=[<>=!])", source[position:])), None)
        if figure in _OF_VERDICT or end is None:
            raise _error(
                source, position, "require.no_bracket" if figure in _OF_VERDICT else "require.open_bracket"
            )
        candidate = source[position + 1 : position + end.start()].strip()
        position += end.end()
    match = _OPERATOR.match(source, position)
    if match is None:
        if figure == "certain" and source[position : position + 1] in ("", ","):
            done = Condition(figure=figure, candidate=None, comparison="==", value=True, source=figure)
            return done, position + 1
        raise _error(source, position, "require.expected_comparison")
    if figure in ("certain", "winner") and match[1] not in ("==", "!="):
        raise _error(source, match.start(1), "require.only_equality", figure=figure)
    end = source.find(",", match.end())
    end = len(source) if end < 0 else end
    written = source[match.end() : end].strip()
    return Condition(
        figure=figure,
        candidate=candidate,
        comparison=match[1],
        value=_value(figure, written, source, match.end()),
        source=source[start:end].strip(),
    ), end + 1


def _value(figure: str, written: str, source: str, position: int) -> Value:
    if figure == "winner":
        if not written:
            raise _error(source, position, "require.expected_value")
        return written.strip("'\"")
    if figure == "certain":
        if written not in ("true", "false"):
            raise _error(source, position, "require.expected_boolean")
        return written == "true"
    match = _NUMBER.match(written)
    if match is None:
        raise _error(source, position, "require.expected_number")
    return float(written.rstrip("% ")) / (100 if match[1] else 1)


def _error(source: str, position: int, problem: str, **facts: object) -> UsageError:
    pointer = " " * columns(source[:position]) + "^"
    shown = text(problem, names=", ".join(NAMES), **facts)
    return UsageError("require.unreadable", problem=shown, source=source, pointer=pointer)
