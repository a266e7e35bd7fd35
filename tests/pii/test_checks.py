"""Check digits against an implementation written from the standards alone."""

from __future__ import annotations

import datetime

from hypothesis import given
from hypothesis import strategies as st

from baimo.pii import checks
from tests.pii import values

DIGITS = st.text("0123456789", min_size=12, max_size=18)
BIRTHDAYS = st.dates(datetime.date(1900, 1, 1), datetime.date(2030, 12, 31)).map(lambda day: f"{day:%Y%m%d}")
REGIONS = st.sampled_from(["110105", "310104", "440308", "510107", "650102", "810000", "830000"])
ORDERS = st.integers(0, 999).map(lambda order: f"{order:03}")
CODES = st.builds(
    lambda head, region, rest: head + region + rest,
    st.sampled_from(["91", "92", "12", "51", "93", "A1", "N2", "Y1"]),
    st.sampled_from(["110105", "310115", "440300", "100000"]),
    st.text(values.USCC_ALPHABET, min_size=9, max_size=9).filter(lambda text: not text.isdigit()),
)


@given(DIGITS)
def test_luhn_takes_the_right_digit_and_no_other(digits: str) -> None:
    number = values.with_luhn_digit(digits)
    same = [digits + last for last in "0123456789" if checks.luhn(digits + last)]
    assert same == ([number] if len(set(number)) > 1 else [])


@given(REGIONS, BIRTHDAYS, ORDERS, st.integers(0, 16), st.integers(1, 9))
def test_an_identity_number_with_one_wrong_digit_is_none(
    region: str, birth: str, order: str, place: int, shift: int
) -> None:
    number = values.cn_id(region, birth, order)
    assert checks.cn_id(number)
    wrong = number[:place] + str((int(number[place]) + shift) % 10) + number[place + 1 :]
    assert not checks.cn_id(wrong)


def test_the_day_and_the_province_must_exist() -> None:
    assert not checks.cn_id(values.cn_id("110105", "19900230", "002"))
    assert not checks.cn_id(values.cn_id("110105", "17900207", "002"))
    assert not checks.cn_id(values.cn_id("180105", "19900207", "002"))
    assert checks.cn_id(values.cn_id("110105", "19920229", "002"))


@given(CODES, st.integers(0, 17), st.integers(1, 30))
def test_a_credit_code_with_one_wrong_character_is_none(first_17: str, place: int, shift: int) -> None:
    code = values.uscc(first_17)
    assert checks.cn_uscc(code)
    assert checks.cn_uscc(code.lower())
    alphabet = values.USCC_ALPHABET
    other = alphabet[(alphabet.index(code[place]) + shift) % 31]
    assert not checks.cn_uscc(code[:place] + other + code[place + 1 :])


@given(
    st.sampled_from(["DE", "FR", "GB"]), st.text("0123456789", min_size=18, max_size=18), st.integers(4, 21)
)
def test_an_iban_with_one_wrong_digit_is_none(country: str, account: str, place: int) -> None:
    code = values.iban(country, account)
    assert checks.iban(code)
    wrong = code[:place] + str((int(code[place]) + 1) % 10) + code[place + 1 :]
    assert not checks.iban(wrong)
