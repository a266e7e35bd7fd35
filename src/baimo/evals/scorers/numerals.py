"""Numbers as people write them, in digits, in Chinese and in English words, as exact fractions.

Prevents the failure where `1,234`, `$1234.00`, `1.234×10^3`, 一千二百三十四 and １２３４ are five different answers.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from typing import NamedTuple

_LONGEST = 400  # digits and decimal exponents beyond this are no answer but an attack on the scorer's time

_DIGITS = {
    **dict(zip("〇零一二三四五六七八九两俩幺", (0, *range(10), 2, 2, 1), strict=True)),
    **dict(zip("壹贰叁肆伍陆柒捌玖貳參陸", (*range(1, 10), 2, 3, 6), strict=True)),
}
_TENS = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000}
_MYRIADS = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8, "兆": 10**12}
_CHINESE = "".join((*_DIGITS, *_TENS, *_MYRIADS))

_WORDS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
    "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50,
    "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}

_PLAIN = r"\d{1,3}(?:,\d{2,3}){0,9},\d{3}(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+"
_POWER = r"(?:[eE][-+]?\d+(?![\w.])|\s*(?:[×*x]|\\times|\\cdot)\s*10\s*(?:\^|\*\*)\s*\{?\s*[-+]?\d+\s*\}?)"
_SCALE = r"(?:\s*(?:thousand|million|billion|trillion)\b|[kK](?![A-Za-z0-9])|\s*[十百千万萬亿億]+)"
_NUMBER = re.compile(
    rf"(?P<sign>(?<![\w)\].%])[-+](?=[$€£¥\d.\\])[$€£¥]?\s*|)(?<![\w.])(?:"
    rf"\\[dt]?frac\s*\{{\s*(?P<top>-?\d+)\s*\}}\s*\{{\s*(?P<bottom>\d+)\s*\}}|"
    rf"(?:(?P<whole>\d+)\s+)?(?P<over>\d+)\s*/\s*(?P<under>\d+)(?![\d/])|"
    rf"10\s*(?:\^|\*\*)\s*\{{?\s*(?P<ten>[-+]?\d+)\s*\}}?|"
    rf"(?P<plain>{_PLAIN})(?P<power>{_POWER})?(?P<scale>{_SCALE})?)"
    r"(?P<percent>\s*(?:\\?%|percent\b|per cent\b))?"
)
_CHINESE_NUMBER = re.compile(
    rf"(?P<sign>负|負)?(?:(?P<percent>百分之)(?P<rate>[{_CHINESE}点點]+)|(?P<bottom>[{_CHINESE}]+)分之(?P<top>[{_CHINESE}]+)|"
    rf"(?P<plain>[{_CHINESE}]+(?:[点點][{_CHINESE}]+)?))"
)
_word = "|".join((*_WORDS, *_SCALES))
_ENGLISH_NUMBER = re.compile(
    rf"\b(?P<sign>minus |negative )?(?P<plain>(?:{_word})(?:(?:-|\s+and\s+|\s+)(?:{_word}))*)\b",
    re.IGNORECASE,
)


class Number(NamedTuple):
    """One number in a text."""

    value: Fraction
    """Its value; of `25 %` a quarter."""
    percent: bool
    """Whether it was written as a percentage."""
    start: int
    """Where it begins."""
    end: int
    """Where it ends."""

    @property
    def readings(self) -> tuple[Fraction, ...]:
        """What it may mean: a percentage is also read as the bare figure."""
        return (self.value, self.value * 100) if self.percent else (self.value,)


def folded(text: str) -> str:
    """Full-width and other decimal digits, signs and vulgar fractions in their ASCII form."""
    # NFKC would glue `1½` into `11/2`.
    text = re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", text)
    text = re.sub(r"(?<=\d)[\u00a0\u2009\u202f'’_](?=\d{3}(?!\d))", ",", text)
    text = unicodedata.normalize("NFKC", text).replace("⁄", "/").replace("−", "-").replace("–", "-")
    return re.sub(r"[^\x00-\x7f]", lambda match: _ascii_digit(match[0]), text)


def _ascii_digit(character: str) -> str:
    return str(unicodedata.decimal(character)) if character.isdecimal() else character


def digits(text: str, *, decimal_comma: bool = False) -> list[Number]:
    """Numbers written in digits, in their order; `text` as `folded` returns it."""
    if decimal_comma:
        text = text.translate(str.maketrans(".,", ",."))
    return [number for match in _NUMBER.finditer(text) if (number := _from_digits(match))]


def words(text: str) -> list[Number]:
    """Numbers written in Chinese or English words, in their order."""
    read = [_from_chinese(match) for match in _CHINESE_NUMBER.finditer(text)]
    read += [_from_english(match) for match in _ENGLISH_NUMBER.finditer(text)]
    return sorted((number for number in read if number), key=lambda number: number.start)


def _from_digits(match: re.Match[str]) -> Number | None:
    top, bottom = match["top"] or match["over"], match["bottom"] or match["under"]
    if len(match[0]) > _LONGEST:  # also below the limit of 4,300 digits at which int() refuses
        return None
    if top and bottom:
        if not int(bottom):
            return None
        value = Fraction(int(top), int(bottom)) + int(match["whole"] or 0)
    else:
        exponent = int(re.findall(r"[-+]?\d+", match["ten"] or match["power"] or "0")[-1])
        if abs(exponent) > _LONGEST:
            return None
        value = Fraction((match["plain"] or "1").replace(",", "")) * Fraction(10) ** exponent
        for unit in _scale_units(match["scale"] or ""):
            value *= unit
    if match["sign"].startswith("-"):
        value = -value
    percent = bool(match["percent"])
    return Number(value / 100 if percent else value, percent, match.start(), match.end())


def _scale_units(scale: str) -> list[int]:
    scale = scale.strip().lower()
    if scale == "k":
        return [1000]
    return [_SCALES[scale]] if scale in _SCALES else [(_TENS | _MYRIADS)[character] for character in scale]


def _from_chinese(match: re.Match[str]) -> Number | None:
    if len(match[0]) > _LONGEST:
        return None
    if match["rate"]:
        value = _chinese(match["rate"])
        value = None if value is None else value / 100
    elif match["bottom"]:
        top, bottom = _chinese(match["top"]), _chinese(match["bottom"])
        value = top / bottom if top is not None and bottom else None
    else:
        value = _chinese(match["plain"])
    if value is None:
        return None
    return Number(-value if match["sign"] else value, bool(match["percent"]), match.start(), match.end())


def _chinese(numeral: str) -> Fraction | None:
    """The value of 三万五千, 二〇二四, 一百零五 or 三点一四; None when the characters make no number."""
    integer, _, decimals = numeral.replace("點", "点").partition("点")
    if decimals:
        if any(character not in _DIGITS for character in decimals):
            return None
        fraction = Fraction(
            int("".join(str(_DIGITS[character]) for character in decimals)), 10 ** len(decimals)
        )
        whole = _chinese(integer)
        return None if whole is None else whole + fraction
    if not integer:
        return None
    if all(character in _DIGITS for character in integer):
        return Fraction(int("".join(str(_DIGITS[character]) for character in integer)))
    return Fraction(_by_units(integer))


def _by_units(numeral: str) -> int:
    """二十三万 and the like: each unit multiplies what stands before it."""
    total = section = digit = 0
    last = 1
    zero = False
    for character in numeral:
        if character in _DIGITS:
            digit, zero = _DIGITS[character], _DIGITS[character] == 0
        elif character in _TENS:
            last = _TENS[character]
            section += (digit or 1) * last
            digit = 0
        else:
            last = _MYRIADS[character]
            total = (total + section + digit) * last if last > total else total + (section + digit) * last
            section = digit = 0
    if digit and last >= 100 and numeral[-2:-1] and numeral[-2] not in _DIGITS and not zero:
        digit *= last // 10  # 两千五 is 2500, 三万五 is 35000
    return total + section + digit


def _from_english(match: re.Match[str]) -> Number | None:
    if len(match[0]) > _LONGEST:
        return None
    total = section = 0
    for word in re.findall(r"[a-z]+", match["plain"].lower()):
        if word in _WORDS:
            section += _WORDS[word]
        elif word == "hundred":
            section = (section or 1) * 100
        elif word in _SCALES:
            total += (section or 1) * _SCALES[word]
            section = 0
    value = Fraction(total + section)
    return Number(-value if match["sign"] else value, False, match.start(), match.end())
