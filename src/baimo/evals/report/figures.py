"""Figures as a person reads them, and foreign text made safe to show.

Prevents three failures: an unknown price that reads like a free one; a table that breaks because a Chinese
character is two columns wide; a reply that moves the cursor, hides text with bidirectional controls, or is
no valid XML."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from itertools import accumulate

from baimo.core.money import MICROS
from baimo.core.verdict import Flag, Interval, Standing
from baimo.text import has, text

UNKNOWN = "?"
"""What stands for a figure that is not known."""

# C0 and C1 controls but tab and line feed, bidirectional controls, lone surrogates, and what XML 1.0 does not allow
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)

_WIDE = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"
_STOPS = "，。；：、！？）”’》】…"
_BREAKABLE = re.compile(rf"\s+|[{_WIDE}][{_STOPS}]*|[^\s{_WIDE}]+[{_STOPS}]*")


def say(key: str, /, **facts: object) -> str:
    """The message `report.<key>`."""
    return text(f"report.{key}", **facts)


def counted(key: str, number: int, /, **facts: object) -> str:
    """The message for `number` things: `report.<key>_one` for one where there is such a key; `{n}` is the number."""
    one = f"{key}_one"
    return say(one if number == 1 and has(f"report.{one}") else key, n=count(number), **facts)


def clean(foreign: str) -> str:
    """Text from elsewhere with control characters made visible as U+FFFD; line ends become line feeds."""
    return _UNSAFE.sub("\ufffd", foreign.replace("\r\n", "\n").replace("\r", "\n"))


def name(foreign: str) -> str:
    """A name from elsewhere on one line."""
    return " ".join(clean(foreign).split()) or UNKNOWN


def columns(shown: str) -> int:
    """How many terminal columns a text takes: two for wide and full-width characters, none for combining ones."""
    return sum(map(_columns, shown))


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def shortened(shown: str, most: int) -> str:
    """The text, cut in its middle to at most `most` columns: both ends of a model's name tell it from others."""
    if columns(shown) <= most:
        return shown
    if most < 3:
        return "…"[:most]
    tail = (most - 1) // 2
    return _head(shown, most - 1 - tail) + "…" + _head(shown[::-1], tail)[::-1]


def _head(shown: str, most: int) -> str:
    return shown[: sum(1 for total in accumulate(map(_columns, shown)) if total <= most)]


def wrapped(shown: str, most: int) -> list[str]:
    """The text in lines of at most `most` columns; Chinese may break between characters, but not before a stop."""
    lines, used = [""], 0
    for piece in _BREAKABLE.findall(shown):
        wide = columns(piece)
        if used + columns(piece.rstrip()) > most and lines[-1]:
            lines[-1] = lines[-1].rstrip()
            lines.append("")
            piece, used = piece.lstrip(), 0
            wide = columns(piece)
        while wide > most:
            head = _head(piece, most) or piece[0]
            lines[-1] = head
            lines.append("")
            piece = piece[len(head) :]
            wide = columns(piece)
        lines[-1] += piece
        used += wide
    return [line.rstrip() for line in lines]


def known(value: float | None) -> bool:
    """Whether it is a figure at all."""
    return value is not None and math.isfinite(value)


def score(value: float | None) -> str:
    """A score in 0..1, three decimals."""
    return f"{value:.3f}" if value is not None and math.isfinite(value) else UNKNOWN


def tier(line: Standing) -> str:
    """A candidate's tier; a dash for one of which nothing is known, or that is left out."""
    return str(line.tier) if ranked(line) else "–"


def ranked(line: Standing) -> bool:
    """Whether it is in a tier; verdicts of earlier versions gave one to those without a score, too."""
    return line.tier is not None and line.score is not None


def span(interval: Interval | None) -> str:
    """An interval of scores."""
    if interval is None or not (known(interval.low) and known(interval.high)):
        return UNKNOWN
    return f"{interval.low:.3f}–{interval.high:.3f}"


def share(value: float | None) -> str:
    """A share in 0..1 as a percentage, two significant digits, never rounded up to 100 % or down to 0 %."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    percent = 100 * value
    if 0 < percent < 0.01:
        return "<0.01%"
    if 99 <= percent < 100:
        return f"{min(percent, 99.9):.1f}%"
    return f"{percent:.0f}%" if percent >= 10 or percent == 0 else f"{percent:.2g}%"


def count(value: float | None) -> str:
    """A whole number with thousands separated."""
    return f"{round(value):,}" if value is not None and math.isfinite(value) else UNKNOWN


def about(value: float | None) -> str:
    """A forecast number: two significant digits, because more would be a pretence."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value < 10:
        return count(value)
    step = 10 ** (math.floor(math.log10(value)) - 1)
    return count(round(value / step) * step)


def amount(micros: float | None) -> str:
    """Money without its currency: two decimals from 1 on, two significant digits below; None is "?"."""
    if micros is None or not math.isfinite(micros):
        return UNKNOWN
    units = micros / MICROS
    if abs(units) >= 100:
        return f"{units:,.0f}"
    if abs(units) >= 1:
        return f"{units:,.2f}"
    if units == 0:
        return "0"
    return f"{units:.{min(6, 1 - math.floor(math.log10(abs(units))))}f}"


def money(micros: float | None, currency: str) -> str:
    """Money with its currency."""
    return f"{amount(micros)} {name(currency)}" if micros is not None else UNKNOWN


def money_span(interval: Interval | None, currency: str) -> str:
    """A range of money with its currency."""
    return f"{amount(interval.low)}–{amount(interval.high)} {name(currency)}" if interval else UNKNOWN


def latency(milliseconds: float | None) -> str:
    """The wall time of one answer."""
    if milliseconds is None or not math.isfinite(milliseconds):
        return UNKNOWN
    if milliseconds < 995:
        return f"{milliseconds:.0f} ms"
    return f"{milliseconds / 1000:.3g} s"


def duration(seconds: float | None) -> str:
    """A wall time, its two largest units."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    whole = round(seconds)
    if whole < 60:
        return say("seconds", s=f"{seconds:.1f}" if 0 < seconds < 10 else whole)
    if whole < 3600:
        return say("minutes", m=whole // 60, s=whole % 60)
    return say("hours", h=whole // 3600, m=whole % 3600 // 60)


def listed(names: Iterable[str], most: int = 5) -> str:
    """Names as an enumeration, the rest as a number."""
    all_names = [name(each) for each in names]
    shown = say("separator").join(all_names[:most])
    return shown if len(all_names) <= most else say("and_more", names=shown, n=len(all_names) - most)


def flag(found: Flag) -> str:
    """A flag in one sentence; a kind that this version does not know is named with what it carries."""
    detail = {str(key): value for key, value in found.detail.items()}
    facts: dict[str, object] = {
        "share": share(_number(detail.get("share"))),
        "explained": share(_number(detail.get("explained"))),
        "of": name(str(detail.get("of", UNKNOWN))),
        "empty": share(_number(detail.get("empty"))),
        "refusals": share(_number(detail.get("refusals"))),
        "reason": name(str(detail.get("reason", UNKNOWN))),
        "times": f"{_number(detail.get('times_median')) or math.nan:.1f}",
        "raw": share(_number(detail.get("win_rate"))),
        "controlled": share(_number(detail.get("length_controlled"))),
    }
    kind = found.kind
    if kind == "length" and "times_median" not in detail and "win_rate" in detail:
        kind = "length_wins"
    if not has(f"report.flag_{kind}"):
        listing = say("separator").join(f"{key} {value}" for key, value in detail.items())
        return say("flag_other", kind=name(kind), detail=name(listing))
    return say(f"flag_{kind}", **facts)


def flag_name(kind: str) -> str:
    """A flag in a word or two, for a table."""
    return say(f"mark_{kind}") if has(f"report.mark_{kind}") else name(kind)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
