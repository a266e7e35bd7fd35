"""`calculate_output` of a multi grader: arithmetic over the scores of its parts, and nothing else.

Prevents the failure of every formula that is given to `eval`: a grader that comes with a training job runs code.
Source: "Combined graders" in developers.openai.com/api/docs/guides/graders: + - * / ^, min max abs floor ceil exp sqrt
log.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from baimo.errors import ScorerError

LONGEST = 4096
"""Characters of a formula."""
DEEPEST = 60
"""Parentheses, signs and powers inside one another."""
_TOKEN = re.compile(
    r"\s*(?:(\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)|([^\W\d]\w*)|(.))", re.DOTALL
)
_POWER = 3
_BINDING = {"+": 1, "-": 1, "*": 2, "/": 2, "^": _POWER}

Node = Callable[[Mapping[str, float]], float]
FUNCTIONS: Mapping[str, tuple[int, Callable[..., Any]]] = {
    "min": (0, min),
    "max": (0, max),
    "abs": (1, abs),
    "floor": (1, math.floor),
    "ceil": (1, math.ceil),
    "exp": (1, math.exp),
    "sqrt": (1, math.sqrt),
    "log": (1, math.log),
}
"""Function → how many arguments it takes (0 = one or more), and what it does; `log` is the natural one."""
_OPERATIONS: Mapping[str, Callable[[float, float], float]] = {
    "+": lambda one, other: one + other,
    "-": lambda one, other: one - other,
    "*": lambda one, other: one * other,
    "/": lambda one, other: one / other,
    "^": math.pow,
}


class Formula(NamedTuple):
    """A formula that was read."""

    source: str
    names: frozenset[str]
    """The variables that it needs."""
    node: Node

    def value(self, scores: Mapping[str, float]) -> float:
        """What it comes to.

        Raises:
            ScorerError: there is no such number: a division by zero, a logarithm of a negative number, too large …
        """
        try:
            result = float(self.node(scores))
        except (ArithmeticError, ValueError, KeyError) as error:
            raise ScorerError("graders.formula_failed", formula=self.source, problem=error) from error
        if not math.isfinite(result):
            raise ScorerError("graders.formula_failed", formula=self.source, problem=result)
        return result


def formula(source: str, known: Iterable[str]) -> Formula:
    """Read a formula.

    Args:
        source: its text.
        known: names of the parts.

    Raises:
        ScorerError: it cannot be read (`graders.formula_unreadable`), or names something that is not there
            (`graders.formula_unknown`).
    """
    reading = _Reading(source)
    node = reading.whole()
    names = frozenset(reading.names)
    if unknown := sorted(names - set(known)):
        raise ScorerError("graders.formula_unknown", name=unknown[0], known=", ".join(sorted(known)))
    return Formula(source, names, node)


class _Reading:
    """Precedence climbing over the tokens of one formula."""

    def __init__(self, source: str) -> None:
        self.names: set[str] = set()
        self._source = source
        self._tokens = [match.groups() for match in _TOKEN.finditer(source[: LONGEST + 1].rstrip())]
        self._at = 0
        self._depth = 0
        if len(source) > LONGEST:
            raise self._wrong()

    def whole(self) -> Node:
        node = self._expression(0)
        if self._at < len(self._tokens):
            raise self._wrong()
        return node

    def _expression(self, least: int) -> Node:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._wrong()
        left = self._operand()
        while (sign := self._sign()) in _BINDING and _BINDING[sign] >= least:
            self._at += 1
            # a power holds its right side first: 2^3^2 is 2^(3^2)
            right = self._expression(_BINDING[sign] + (sign != "^"))
            left = _applied(_OPERATIONS[sign], left, right)
        self._depth -= 1
        return left

    def _operand(self) -> Node:
        if self._at >= len(self._tokens):
            raise self._wrong()
        number, name, sign = self._tokens[self._at]
        self._at += 1
        if number is not None:
            constant = float(number)
            return lambda _: constant
        if name is not None:
            return self._call(name) if self._sign() == "(" else self._variable(name)
        if sign == "(":
            node = self._expression(0)
            self._expect(")")
            return node
        if sign in "+-":
            node = self._expression(_POWER)  # a sign holds less than a power: -2^2 is -4
            return node if sign == "+" else lambda scores: -node(scores)
        raise self._wrong(self._at - 1)

    def _variable(self, name: str) -> Node:
        self.names.add(name)
        return lambda scores: scores[name]

    def _call(self, name: str) -> Node:
        if name not in FUNCTIONS:
            raise self._wrong(self._at - 1)
        count, function = FUNCTIONS[name]
        self._expect("(")
        arguments = [self._expression(0)]
        while self._sign() == ",":
            self._at += 1
            arguments.append(self._expression(0))
        self._expect(")")
        if count and len(arguments) != count:
            raise self._wrong(self._at - 1)
        return _called(function, arguments, several=not count)

    def _sign(self) -> str:
        return (self._tokens[self._at][2] or "") if self._at < len(self._tokens) else ""

    def _expect(self, sign: str) -> None:
        if self._sign() != sign:
            raise self._wrong()
        self._at += 1

    def _wrong(self, at: int | None = None) -> ScorerError:
        place = self._at if at is None else at
        token = next(filter(None, self._tokens[place]), "") if place < len(self._tokens) else ""
        return ScorerError("graders.formula_unreadable", formula=self._source[:200], token=token or "–")


def _applied(operation: Callable[[float, float], float], left: Node, right: Node) -> Node:
    return lambda scores: operation(left(scores), right(scores))


def _called(function: Callable[..., float], arguments: Sequence[Node], *, several: bool) -> Node:
    if several:
        return lambda scores: function([argument(scores) for argument in arguments])
    only = arguments[0]
    return lambda scores: function(only(scores))
