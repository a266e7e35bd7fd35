"""Numbers."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.run import Outcome
from baimo.evals.scorers.numeric import answer_in
from tests.evals.scorers import judge


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("18", 18), ("#### 18", 18), ("$18.00", 18), ("\\$18", 18), ("1,234", 1234), ("1,234.5", "1234.5"),
        ("1\u00a0234", 1234), ("1'234'567", 1234567), ("\\boxed{\\frac{3}{4}}", "3/4"), ("The answer is **18**.", 18),
        ("二十三", 23), ("两千", 2000), ("一百零五", 105), ("三万五千", 35000), ("一亿二千万", 120_000_000),
        ("两千五", 2500), ("三点一四", "3.14"), ("二〇二四", 2024), ("负五", -5),
        ("百分之二十五", "1/4"), ("三分之一", "1/3"),
        ("十五", 15), ("壹仟贰佰", 1200), ("１２３４", 1234), ("1½", "3/2"), ("3/4", "3/4"),
        ("1 1/2", "3/2"), ("1.2e-3", "0.0012"),
        ("1.2 × 10^3", 1200), ("$1.2 \\times 10^{3}$", 1200), ("10^3", 1000), ("2 million", 2_000_000), ("5k", 5000),
        ("2万", 20000), ("1.5亿", 150_000_000), ("-5", -5), ("−5", -5), ("-$5", -5), ("(-3)", -3),
        ("16 - 3 - 4 = 9", 9), ("She has 5 apples in 2024. The answer is 7 apples.", 7),
        ("答案是18元", 18), ("一共有二十个", 20),
        ("eighteen", 18), ("The answer is twenty-three.", 23), ("one hundred and five", 105), ("25%", "1/4"),
        ("٣٤", 34), ("So 3 + 4 = 7", 7),
    ],
)  # fmt: skip
def test_a_number_is_read_in_whatever_notation(reply: str, value: int | str) -> None:
    answer = answer_in(reply)
    assert answer is not None
    assert answer.number.value == Fraction(value)


@pytest.mark.parametrize("reply", ["", "no number", "v1.2.3", "1/0", "1e999999999", "9" * 5000])
def test_no_readable_number_is_malformed(reply: str) -> None:
    assert judge("numeric", reply, 5).outcome is Outcome.MALFORMED


@given(st.integers(-(10**15), 10**15))
def test_every_integer_is_found_with_separators_in_a_sentence(number: int) -> None:
    answer = answer_in(f"After 3 steps the answer is {number:,}.")
    assert answer is not None
    assert answer.number.value == number


@given(st.integers(0, 10**12))
def test_chinese_numerals_read_back_what_was_written(number: int) -> None:
    answer = answer_in(_chinese(number))
    assert answer is not None
    assert answer.number.value == number


def test_whole_numbers_must_be_equal_and_fractions_nearly() -> None:
    assert judge("numeric", "1000001", 1_000_000).lenient == 0
    assert judge("numeric", "0.3333333", "1/3").lenient == 1
    assert judge("numeric", "0.33", "1/3").lenient == 0
    assert judge("numeric", "0.33", "1/3", absolute=0.01).lenient == 1
    assert judge("numeric", "99", 100, relative=0.02).lenient == 1


def test_a_percentage_is_also_its_bare_figure() -> None:
    assert judge("numeric", "25%", 25).lenient == 1
    assert judge("numeric", "25%", 0.25).lenient == 1
    assert judge("numeric", "25", 0.25).lenient == 0


def test_a_decimal_comma_is_read_when_the_task_says_so() -> None:
    assert judge("numeric", "1.234,5", 1234.5, decimal_comma=True).strict == 1
    assert judge("numeric", "1.234,5", 1234.5).lenient == 0


@pytest.mark.parametrize(
    ("form", "reply", "outcome"),
    [
        ("number", "18", Outcome.RIGHT),
        ("number", "$1,800", Outcome.WRONG),
        ("number", "The answer is 18", Outcome.MALFORMED),
        ("hashes", "9 * 2 = 18\n#### 18", Outcome.RIGHT),
        ("hashes", "18", Outcome.MALFORMED),
        ("boxed", "so \\boxed{18}", Outcome.RIGHT),
        ("boxed", "18", Outcome.MALFORMED),
        ("any", "I get 18 eggs", Outcome.RIGHT),
    ],
)
def test_strict_wants_the_asked_form(form: str, reply: str, outcome: Outcome) -> None:
    assert judge("numeric", reply, 18, form=form).outcome is outcome


def test_a_target_without_a_number_is_the_task_s_fault() -> None:
    assert judge("numeric", "5", "many").outcome is Outcome.UNSCORED


def _chinese(number: int) -> str:
    """The numeral in full notation: every unit named, one 零 for each gap."""
    if number == 0:
        return "零"
    parts: list[str] = []
    for unit, size in (("亿", 10**8), ("万", 10**4), ("", 1)):
        group, number = divmod(number, size)
        if group >= 10**4:
            parts.append(_chinese(group) + unit)
        elif group:
            if parts and group < 1000:
                parts.append("零")
            parts.append(_thousands(group) + unit)
    return "".join(parts)


def _thousands(number: int) -> str:
    text, gap = "", False
    for unit, size in (("千", 1000), ("百", 100), ("十", 10), ("", 1)):
        digit, number = divmod(number, size)
        if digit:
            text += ("零" if gap and text else "") + "零一二三四五六七八九"[digit] + unit
            gap = False
        else:
            gap = True
    return text
