"""Check digits that tell a number from a number that only looks like one."""

from __future__ import annotations

import datetime

_WEIGHTS = tuple(pow(2, 17 - place, 11) for place in range(17))
_CHECKS = "10X98765432"
_USCC = {character: value for value, character in enumerate("0123456789ABCDEFGHJKLMNPQRTUWXY")}
_ORGANISATION_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)
# GB/T 2260, first two digits; 81 to 83 stand on the residence permits of Hong Kong, Macao and Taiwan residents
_PROVINCES = frozenset(
    (
        *range(11, 16),
        *range(21, 24),
        *range(31, 38),
        *range(41, 47),
        *range(50, 55),
        *range(61, 66),
        71,
        81,
        82,
        83,
    )
)
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B; a row of one repeated digit is no number."""
    total = sum(map(int, digits[-1::-2])) + sum(_DOUBLED[int(digit)] for digit in digits[-2::-2])
    return total % 10 == 0 and len(set(digits)) > 1


def is_region(code: str) -> bool:
    """Whether a division code of GB/T 2260 begins with a province; counties come and go and are not checked."""
    return int(code[:2]) in _PROVINCES


def is_birthday(eight_digits: str) -> bool:
    """Whether YYYYMMDD is a day from 1850 to tomorrow's century."""
    try:
        day = datetime.date(int(eight_digits[:4]), int(eight_digits[4:6]), int(eight_digits[6:]))
    except ValueError:
        return False
    return 1850 <= day.year < 2100


def cn_id(number: str) -> bool:
    """GB 11643: division, day of birth, and ISO 7064 MOD 11-2 over 17 digits. Permits begin with 8 or 9 instead."""
    if not (is_birthday(number[6:14]) and (number[0] == "9" or is_region(number))):
        return False
    total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, number, strict=False))
    return _CHECKS[total % 11] == number[17].upper()


def cn_uscc(code: str) -> bool:
    """GB 32100: modulo 31 with powers of three. A code of digits alone must also pass GB 11714 inside (modulo 11)."""
    code = code.upper()
    try:
        total = sum(_USCC[character] * pow(3, place, 31) for place, character in enumerate(code[:17]))
        if _USCC[code[17]] != -total % 31 or (not is_region(code[2:]) and code[2:8] != "100000"):
            return False
    except KeyError:
        return False
    if not code.isdigit():
        return True
    inner = sum(weight * int(digit) for weight, digit in zip(_ORGANISATION_WEIGHTS, code[8:16], strict=True))
    return "0123456789X0"[11 - inner % 11] == code[16]


def iban(code: str) -> bool:
    """ISO 13616: modulo 97 is one, letters counted from ten."""
    return int("".join(str(int(character, 36)) for character in code[4:] + code[:4])) % 97 == 1
