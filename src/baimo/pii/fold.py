"""Text as the rules read it: one width, one kind of dash and space, nothing invisible.

Prevents the failure where １３８… in full-width digits, or a number with a zero-width space inside, leaves unmasked.
Rules see the folded text; findings are mapped back, so what is replaced is exactly what stood in the original.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Sequence
from typing import NamedTuple

_INVISIBLE = frozenset(
    map(chr, (0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF))
)
_ESCAPE = re.compile(r"\\(?:[nrt]|(\"))")  # inside JSON text: a line end is no letter, a quote closes a value


def _table() -> dict[str, str]:
    # ，；！？ stay wide: a value ends there, while their narrow forms may be part of a password
    table = {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F) if chr(code) not in "，；！？"}
    for first in (0x0660, 0x06F0):  # Arabic-Indic digits
        table.update({chr(first + digit): str(digit) for digit in range(10)})
    for group, narrow in (
        ("\u3000\u00a0\u202f" + "".join(map(chr, range(0x2000, 0x200B))), " "),
        ("‐‑‒–—―−﹘﹣", "-"),
        ("•・･‧", "·"),
        ("‘’′", "'"),
        ("“”", '"'),
    ):
        table.update(dict.fromkeys(group, narrow))
    return table


_NARROW = _table()


class Folded(NamedTuple):
    """The folded text and the way back."""

    plain: str
    """What the rules read."""
    gaps: Sequence[int]
    """Places in `plain` before which a character was dropped, as often as one was."""

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The span in the original text, without invisible characters at its ends."""
        if not self.gaps:
            return start, end
        return start + bisect.bisect(self.gaps, start), end + bisect.bisect(self.gaps, end - 1)


def folded(text: str) -> Folded:
    """`text` with full-width forms made narrow (character by character) and invisible characters dropped."""
    plain, rare = text, set[str]() if text.isascii() else set(text)
    for wide in rare & _NARROW.keys():
        plain = plain.replace(wide, _NARROW[wide])
    if "\\" in plain:
        plain = _ESCAPE.sub(lambda match: ' "' if match[1] else "  ", plain)
    hidden = rare & _INVISIBLE
    if not hidden:
        return Folded(plain, ())
    dropped = [match.start() for match in re.finditer(f"[{''.join(hidden)}]", plain)]
    for character in hidden:
        plain = plain.replace(character, "")
    return Folded(plain, [place - before for before, place in enumerate(dropped)])
