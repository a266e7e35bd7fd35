"""Numbers of cards, accounts, documents, companies and vehicles.

Each is a shape, then a check: digits alone would turn every order number into a card. Where the standard has no check
digit (passports, travel permits), a word for the document must stand near by.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from baimo.pii import checks
from baimo.pii.context import is_reference, lowered, said_before, said_near
from baimo.pii.finding import Hit

EDGE = r"(?<![0-9A-Za-z])(?<![0-9][.\-])"
END = r"(?![0-9A-Za-z])(?![.\-][0-9])"
_CARD = re.compile(
    EDGE + r"(?:[0-9]{4}([ \-])[0-9]{4}\1[0-9]{4}\1[0-9]{1,4}(?:\1[0-9]{1,3})?"
    r"|[0-9]{4}[ \-][0-9]{6}[ \-][0-9]{4,5}|[0-9]{6}[ \-][0-9]{13}|[0-9]{13,19})" + END
)
_ID = re.compile(EDGE + r"[1-9][0-9]{5}( ?)(?:18|19|20)[0-9]{6}\1[0-9]{3}[0-9Xx]" + END)
_OLD_ID = re.compile(EDGE + r"[1-8][0-9]{14}" + END)
_USCC = re.compile(EDGE + r"[1-9ANY][0-9A-HJ-NPQRTUWXY][0-9]{6}[0-9A-HJ-NPQRTUWXY]{10}" + END, re.IGNORECASE)
_IBAN = re.compile(EDGE + r"[A-Z]{2}[0-9]{2}(?=[ \-]?[A-Z0-9]{4})")
_IBAN_REST = re.compile(r"(?:[ \-]?[A-Z0-9]){11,34}")
_DOCUMENTS = tuple(
    (signs, re.compile("|".join(signs), re.IGNORECASE), re.compile(EDGE + shape + END), kind)
    for signs, shape, kind in (
        (
            ("护照", "passport"),
            r"(?:[EG][0-9]{8}|E[A-HJ-NP-Z][0-9]{7}|(?:DE|SE|PE|MA|[DPSK])[0-9]{7,8})",
            "cn_passport",
        ),
        (
            ("通行证", "回乡证", "港澳居民", "居住证", "travel permit", "home return permit"),
            r"(?:[HM][0-9]{10}|[HM][0-9]{8}|C[0-9A-HJ-NP-Z][0-9]{7})",
            "cn_permit",
        ),
        (("台胞证", "臺胞證", "台湾居民", "臺灣居民"), r"[0-9]{8}(?:[0-9]{2}(?:\([A-Z]\))?)?", "cn_permit"),
    )
)
_PLATE = re.compile(
    r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-HJ-NP-Z][·. \-]?"
    r"(?:[0-9]{5}[A-HJK]|[A-HJK][0-9A-HJ-NP-Z][0-9]{4}|[0-9A-HJ-NP-Z]{4}[0-9A-HJ-NP-Z挂学警港澳领])(?![0-9A-Za-z])"
)
_ID_WORDS = re.compile(r"身份证")
_BANK_WORDS = re.compile(
    r"银行卡|储蓄卡|借记卡|信用卡|卡号|账号|账户|帐号|帐户|bank|card|account", re.IGNORECASE
)
_IBAN_LENGTHS = {
    country: int(length)
    for length, countries in {
        "15": "NO", "16": "BE", "18": "DK FI FO GL NL", "19": "MK SI", "20": "AT BA EE KZ LT LU XK",
        "21": "CH HR LI LV", "22": "BG BH CR DE GB GE IE ME RS", "23": "AE GI IL IQ OM TL",
        "24": "AD CZ ES MD PK RO SA SE SK TN VG", "25": "LY PT ST", "26": "IS TR", "27": "BI DJ FR GR IT MC MR SM",
        "28": "AL AZ BY CY DO GT HU LB PL SV", "29": "BR EG PS QA UA", "30": "JO KW MU YE", "31": "MT SC",
        "32": "LC NI",
    }.items()
    for country in countries.split()
}  # fmt: skip
"""ISO 13616 registry."""


def cards(text: str) -> Iterator[Hit]:
    """Payment cards by issuer range (ISO/IEC 7812) and Luhn; UnionPay ranges are `cn_bank_card`."""
    for match in _CARD.finditer(text):
        digits = re.sub("[ -]", "", match[0])
        if not 13 <= len(digits) <= 19 or not checks.luhn(digits) or is_reference(text, match.start()):
            continue
        if digits.startswith(("62", "81", "9558")) and len(digits) >= 16:
            yield Hit("cn_bank_card", match.start(), match.end(), 0.95)
        elif _is_issued(digits):
            yield Hit("card", match.start(), match.end(), 0.95)
        elif len(digits) >= 16 and said_before(text, match.start(), _BANK_WORDS, 16):
            yield Hit("cn_bank_card", match.start(), match.end(), 0.85)


def _is_issued(digits: str) -> bool:
    """Visa, Mastercard, Amex, Discover, Diners, JCB, Maestro, Mir: prefix and length."""
    size, two, four = len(digits), int(digits[:2]), int(digits[:4])
    if digits[0] == "4":
        return size in (13, 16, 19)
    if 51 <= two <= 55 or 2221 <= four <= 2720 or 2200 <= four <= 2204:
        return size == 16
    if two in (34, 37):
        return size == 15
    if 300 <= four // 10 <= 305 or two in (36, 38, 39):
        return 14 <= size <= 19
    if 3528 <= four <= 3589 or four == 6011 or 644 <= four // 10 <= 659:
        return size >= 16
    return four in (5018, 5020, 5038, 5893, 6304, 6759, 6761, 6762, 6763) and size >= 13


def identities(text: str) -> Iterator[Hit]:
    """居民身份证 (18 digits by checksum, 15 only beside the word) and the permits that share its format."""
    for match in _ID.finditer(text):
        number = match[0].replace(" ", "")
        if checks.cn_id(number):
            kind = "cn_permit" if number[0] == "9" or number[:2] in ("81", "82", "83") else "cn_id"
            yield Hit(kind, match.start(), match.end(), 0.99)
    if "身份证" in text:
        for match in _OLD_ID.finditer(text):
            number = match[0]
            born = checks.is_region(number) and checks.is_birthday("19" + number[6:12])
            if born and said_before(text, match.start(), _ID_WORDS, 16):
                yield Hit("cn_id", match.start(), match.end(), 0.9)


def companies(text: str) -> Iterator[Hit]:
    """统一社会信用代码."""
    for match in _USCC.finditer(text):
        if checks.cn_uscc(match[0]):
            yield Hit("cn_uscc", match.start(), match.end(), 0.97)


def accounts(text: str) -> Iterator[Hit]:
    """IBAN: as many characters as its country has, then modulo 97."""
    for match in _IBAN.finditer(text):
        length = _IBAN_LENGTHS.get(match[0][:2])
        rest = _IBAN_REST.match(text, match.end())
        if length is None or rest is None:
            continue
        end, taken = match.end(), 4
        while taken < length and end < rest.end():
            taken += text[end] not in " -"
            end += 1
        code = re.sub("[ -]", "", text[match.start() : end])
        if len(code) == length and not text[end : end + 1].isalnum() and checks.iban(code):
            yield Hit("iban", match.start(), end, 0.99)


def documents(text: str) -> Iterator[Hit]:
    """Passports and travel permits: no check digit, so the document must be named near by."""
    low = lowered(text)
    for signs, words, shape, kind in _DOCUMENTS:
        if any(sign in low for sign in signs):
            for match in shape.finditer(text):
                if said_near(text, match.start(), match.end(), words):
                    yield Hit(kind, match.start(), match.end(), 0.9)


def plates(text: str) -> Iterator[Hit]:
    """车牌 of GA 36: province, office, five characters with two letters at most, or six for new energy."""
    for match in _PLATE.finditer(text):
        letters = sum("A" <= character <= "Z" for character in match[0][2:])
        if letters <= 2:
            yield Hit("cn_plate", match.start(), match.end(), 0.9)
