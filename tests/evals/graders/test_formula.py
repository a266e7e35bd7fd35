"""The arithmetic of multi graders."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.errors import ScorerError
from baimo.evals.graders.formula import DEEPEST, LONGEST, formula

SCORES = {"a": 0.5, "b": 2.0, "format": 1.0}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a", 0.5),
        ("(a + b) / 2", 1.25),
        ("0.5 * a + 0.5*b", 1.25),
        ("a - b - 1", -2.5),
        ("8 / 2 / 2", 2.0),
        ("2 ^ 3 ^ 2", 512.0),
        ("-2 ^ 2", -4.0),
        ("2 ^ -1", 0.5),
        ("2 * -b", -4.0),
        ("- - a", 0.5),
        ("+a", 0.5),
        ("min(a, b, format)", 0.5),
        ("max(a)", 0.5),
        ("abs(a - b) + floor(1.5) + ceil(1.5)", 4.5),
        ("exp(0) + sqrt(4) + log(1)", 3.0),
        ("(100 - abs(format - a)) / 100", 0.995),
        ("1e-1 + .5", 0.6),
        ("a\n+\tb", 2.5),
    ],
)
def test_a_formula_is_worth_what_mathematics_says(source: str, expected: float) -> None:
    assert formula(source, SCORES).value(SCORES) == pytest.approx(expected)


@pytest.mark.parametrize(
    "source",
    ["", " ", "a b", "a +", "* a", "(a", "a)", "f(a)", "abs(a, b)", "min()", "a ** b", "a.b", "__import__('os')",
     "a if b else a", "1 2", "min", "a;b", "[a]", "abs", "(" * (DEEPEST + 1) + "a", "1" * (LONGEST + 1)],
)  # fmt: skip
def test_what_is_no_formula_cannot_be_read(source: str) -> None:
    with pytest.raises(ScorerError) as caught:
        formula(source, SCORES)
    assert caught.value.key in ("graders.formula_unreadable", "graders.formula_unknown")


def test_a_name_that_is_no_grader_is_told_with_those_that_are() -> None:
    with pytest.raises(ScorerError, match=r"“c”.*a, b, format"):
        formula("a + c", SCORES)
    assert formula("a + b", SCORES).names == {"a", "b"}


@pytest.mark.parametrize(
    "source", ["1 / 0", "log(0)", "sqrt(-1)", "exp(1000)", "10 ^ 400", "(-8) ^ (1/3)", "0 ^ -1"]
)
def test_a_number_that_is_none_is_an_error_and_not_infinity(source: str) -> None:
    with pytest.raises(ScorerError) as caught:
        formula(source, SCORES).value(SCORES)
    assert caught.value.key == "graders.formula_failed"


@st.composite
def expressions(draw: st.DrawFn, depth: int = 3) -> tuple[str, float]:
    """A formula in full parentheses, and what Python makes of it."""
    if depth == 0 or draw(st.booleans()):
        number = draw(st.floats(0.1, 4.0).map(lambda value: round(value, 2)))
        return str(number), number
    (left, one), (right, other) = draw(expressions(depth - 1)), draw(expressions(depth - 1))
    sign = draw(st.sampled_from("+-*"))
    value = {"+": one + other, "-": one - other, "*": one * other}[sign]
    return f"({left} {sign} {right})", value


@given(expressions())
def test_formulas_agree_with_python(pair: tuple[str, float]) -> None:
    source, value = pair
    assert math.isclose(formula(source, ()).value({}), value, abs_tol=1e-9)


@given(st.text(alphabet="ab+-*/^(), 019.e", max_size=30))
def test_no_text_does_anything_but_give_a_number_or_an_error(source: str) -> None:
    try:
        assert math.isfinite(formula(source, SCORES).value(SCORES))
    except ScorerError:
        return
