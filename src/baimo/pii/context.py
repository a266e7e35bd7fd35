"""What stands around a number: looked at only where a rule already has a candidate, so the cost stays linear."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator


def lowered(text: str) -> str:
    """`text` in lower case, every character in its place (some capitals have two characters below)."""
    low = text.lower()
    return low if len(low) == len(text) else re.sub("[A-Z]+", lambda match: match[0].lower(), text)


def places(low: str, signs: Iterable[str]) -> Iterator[int]:
    """Where any of `signs` begins: far faster than one pattern of alternatives, which is tried at every character."""
    for sign in signs:
        place = low.find(sign)
        while place >= 0:
            yield place
            place = low.find(sign, place + 1)


_REFERENCE = re.compile(
    r"(?:(?:订单|运单|快递|工单|货|票|件)(?:编?号|尾号)?|单号|编号|编码|流水号?|批次号?|条形?码|序列号|工号|版本号?|"
    r"\b(?:orders?|tracking|invoice|ticket|isbn|sku|serial|batch|ref|reference|case|part|model)"
    r"(?:[ _-]?(?:no|number|id|code|num))?)\.?\s?[:=#]?\s?[#\"']?$",
    re.IGNORECASE,
)


def is_reference(text: str, start: int) -> bool:
    """Whether the word just before says that this is the number of an order, a parcel, an invoice, a part."""
    return _REFERENCE.search(text[max(0, start - 24) : start]) is not None


def said_before(text: str, start: int, words: re.Pattern[str], reach: int = 30) -> bool:
    """Whether one of `words` stands on the same line, at most `reach` characters before `start`."""
    line = text[max(0, start - reach) : start].rpartition("\n")[2]
    return words.search(line) is not None


def said_near(text: str, start: int, end: int, words: re.Pattern[str]) -> bool:
    """Whether one stands within 30 characters before, also on the line above, or right after `end`."""
    return (
        words.search(text, max(0, start - 30), start) is not None
        or words.search(text, end, end + 8) is not None
    )
