"""Check digits for invented values, written from the standards and not from the code under test."""

from __future__ import annotations

GB_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"


def with_luhn_digit(digits: str) -> str:
    """ISO/IEC 7812-1: the digit that makes the Luhn sum a multiple of ten; separators stay."""
    for last in "0123456789":
        plain = [int(character) for character in digits + last if character.isdigit()]
        doubled = [2 * digit - 9 if digit > 4 else 2 * digit for digit in plain[-2::-2]]
        if (sum(doubled) + sum(plain[-1::-2])) % 10 == 0:
            return digits + last
    raise AssertionError(digits)


def cn_id(region: str, birth: str, order: str) -> str:
    """GB 11643: 17 digits and their check character."""
    digits = region + birth + order
    total = sum(weight * int(digit) for weight, digit in zip(GB_WEIGHTS, digits, strict=True))
    return digits + "10X98765432"[total % 11]


def cn_id_that_ends_in_x(region: str, birth: str) -> str:
    """The first order number whose check character is X."""
    return next(card for order in range(1000) if (card := cn_id(region, birth, f"{order:03}"))[-1] == "X")


def uscc(first_17: str) -> str:
    """GB 32100: weights are powers of three modulo 31."""
    total = sum(USCC_ALPHABET.index(c) * pow(3, i, 31) for i, c in enumerate(first_17))
    return first_17 + USCC_ALPHABET[-total % 31]


def iban(country: str, account: str) -> str:
    """ISO 13616: two check digits from modulo 97; spaces in the account stay where they are."""
    plain = account.replace(" ", "") + country + "00"
    check = 98 - int("".join(str(int(character, 36)) for character in plain)) % 97
    return f"{country}{check:02}{' ' if ' ' in account else ''}{account}"
