"""Telephone numbers: Chinese mobiles, E.164, and the national forms of some countries.

A national form counts by itself only where its grouping is unmistakable; any other row of digits counts only right
after a word such as 电话 or "phone".
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from baimo.pii.context import is_reference, said_before
from baimo.pii.finding import Hit

_EDGE = r"(?<![0-9A-Za-z_.+])(?<![0-9A-Za-z][\-/])"
_END = r"(?![0-9A-Za-z])(?![.\-/][0-9])"
_MOBILE = re.compile(
    r"1[3-9][0-9](?:([ \-.]?)[0-9]{4}\1[0-9]{4}|([ \-])[0-9]{3}\2[0-9]{5})"
    r"(?![0-9A-Za-z])(?!\.[0-9])"
)
_CHINA = re.compile(r"(?<![0-9A-Za-z.+])(?:\((?:\+|00)?86\)|(?:\+|00)?86)[ \-]?$")
_APART = re.compile(r"(?:^|[^0-9A-Za-z.+\-/_]|[^0-9][.\-/]|[^0-9A-Za-z]_|tel|phone|mobile)$", re.IGNORECASE)
_DIGITS = re.compile(r"[0-9(+][0-9 ().\-/+]{6,}")
_INTERNATIONAL = re.compile(
    r"(?<![0-9A-Za-z+.])(?:\+|00(?=[1-9][0-9]{0,2}[ \-]))[1-9](?:[ \-.()/]{0,2}[0-9]){6,14}(?![0-9A-Za-z])"
)
_LENGTHS = {
    "1": (11, 11), "7": (11, 11), "20": (11, 12), "27": (11, 11), "30": (12, 12), "31": (11, 11), "32": (10, 11),
    "33": (11, 11), "34": (11, 11), "36": (10, 11), "39": (8, 13), "41": (11, 11), "43": (8, 14), "44": (11, 12),
    "45": (10, 10), "46": (9, 12), "47": (10, 10), "48": (11, 11), "49": (8, 14), "52": (12, 13), "54": (11, 13),
    "55": (12, 13), "60": (10, 12), "61": (11, 11), "62": (10, 14), "63": (11, 12), "64": (9, 12), "65": (10, 10),
    "66": (10, 11), "81": (11, 12), "82": (10, 12), "84": (11, 12), "86": (12, 13), "90": (12, 12), "91": (12, 12),
    "92": (11, 12), "852": (11, 11), "853": (11, 11), "886": (10, 12), "971": (11, 12), "972": (11, 12),
}  # fmt: skip
"""Country code → fewest and most digits with it (ITU-T E.164, national numbering plans); others 8 to 15."""
_NATIONAL = re.compile(
    _EDGE
    + r"(?:"
    + "|".join(
        (
            r"\(0(?:10|2[0-9]|[3-9][0-9]{2})\) ?[1-9][0-9]{2,3}[ \-]?[0-9]{4}",  # China, landline
            r"0(?:10|2[0-9])[\- ][1-9][0-9]{3}[ \-]?[0-9]{4}|0[3-9][0-9]{2}[\- ][1-9][0-9]{6,7}",
            r"(?:1[ .\-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}([.\- ]))[2-9][0-9]{2}[.\- ][0-9]{4}",  # North America
            r"07[0-9]{3} ?[0-9]{6}|0[12][0-9]{2,3} [0-9]{3} ?[0-9]{3,4}|02[0-9] [0-9]{4} [0-9]{4}",  # Britain
            r"0[1-9](?:([ .])[0-9]{2})(?:\2[0-9]{2}){3}",  # France
            r"0[1-9][0-9]{1,4}/[0-9]{5,9}",  # Germany
            r"0[789]0-[0-9]{4}-[0-9]{4}|0[1-9]-[0-9]{4}-[0-9]{4}",  # Japan
            r"01[016789]-[0-9]{3,4}-[0-9]{4}|02-[0-9]{3,4}-[0-9]{4}",  # Korea
            r"04[0-9]{2} [0-9]{3} [0-9]{3}|\(0[2378]\) [0-9]{4} [0-9]{4}",  # Australia
            r"09[0-9]{2}-[0-9]{3}-[0-9]{3}",  # Taiwan
            r"\([1-9][0-9]\) 9[0-9]{4}-[0-9]{4}",  # Brazil
        )
    )
    + r")"
    + _END
)
_ANY = re.compile(_EDGE + r"(?:\([0-9]{2,5}\)|[0-9])[0-9 .()\-/]{5,17}[0-9]" + _END)
_WORDS = re.compile(
    r"(?:电话|手机|座机|传真|热线|致电|拨打|联系方式|(?<![a-z])(?:tel|telephone|phone|mobile|cell|fax|call|ring|dial|"
    r"whatsapp|sms|my number)s?(?![a-z_]))[^0-9\n,;!?，。；！？]{0,16}$",
    re.IGNORECASE,
)


def mobiles(text: str) -> Iterator[Hit]:
    """手机号: 1[3-9] and nine digits (MIIT numbering plan), with or without +86, as 3-4-4 or 3-3-5."""
    for match in _MOBILE.finditer(text):
        start = match.start()
        if (china := _CHINA.search(text, max(0, start - 9), start)) is not None:
            start = china.start()
        elif not _APART.search(text, max(0, start - 6), start):
            continue
        spoken = said_before(text, start, _WORDS)
        if spoken or not (is_reference(text, start) or text.startswith("元", match.end())):
            yield Hit("cn_phone", start, match.end(), 0.95 if spoken else 0.91)


def phones(text: str) -> Iterator[Hit]:
    """All other telephone numbers."""
    for row in _DIGITS.finditer(text):
        # two characters more, so that a pattern sees what follows the last digit
        yield from _in_row(text, row.start(), row.end() + 2)


def _in_row(text: str, first: int, last: int) -> Iterator[Hit]:
    for match in _INTERNATIONAL.finditer(text, first, last):
        if (end := _international_end(match[0])) > 0:
            yield Hit("phone", match.start(), match.start() + end, 0.9)
    for match in _NATIONAL.finditer(text, first, last):
        if not is_reference(text, match.start()):
            yield Hit("phone", match.start(), match.end(), 0.85)
    for match in _ANY.finditer(text, first, last):
        digits = sum(character.isdigit() for character in match[0])
        if 7 <= digits <= 12 and said_before(text, match.start(), _WORDS):
            yield Hit("phone", match.start(), match.end(), 0.7)


def _international_end(number: str) -> int:
    """How much of `number` is a telephone number of its country; 0 = nothing."""
    digits = re.sub("[^0-9]", "", number.removeprefix("00").replace("(0)", ""))
    fewest, most = next((_LENGTHS[digits[:size]] for size in (1, 2, 3) if digits[:size] in _LENGTHS), (8, 15))
    if digits[0] == "1" and (len(digits) < 5 or digits[1] in "01" or digits[4] in "01"):
        return 0
    return len(number) if fewest <= len(digits) <= most else 0
