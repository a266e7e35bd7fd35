"""Small drawings, as SVG whose colours the style sheet fills in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from baimo.console.figures import short
from baimo.console.frame import BOTTOM, HEIGHT, Mark, framed, part, upwards
from baimo.evals.report.svg import tag, ticks, title

MOST_WORDS = 6
"""Below the bars: as many as a phone has room for."""


class Bar(NamedTuple):
    """One bar."""

    label: str
    value: float


def bars(series: Sequence[Bar], unit: str = "") -> Markup:
    """A bar for each of a series, with a scale; the table beside it says the same to those who do not see it."""
    most = max((bar.value for bar in series), default=0.0) or 1.0
    whole = all(bar.value.is_integer() for bar in series)
    up, step = upwards(0, most), 1 / max(1, len(series))
    left = [Mark(value, short(value)) for value in ticks(0, most, 4) if not whole or value == int(value)]
    every = -(-len(series) // MOST_WORDS) or 1
    below = [Mark((at + 0.5) * step, bar.label[5:]) for at, bar in enumerate(series) if at % every == 0]
    drawn: list[str] = []
    for at, bar in enumerate(series):
        tip, y = f"{bar.label}: {bar.value:,.6g} {unit}".rstrip(), up(bar.value)
        size = {"y": y, "width": part(0.8 * step), "height": HEIGHT - BOTTOM - y}
        drawn.append(tag("rect", title(tip), class_="bar", x=part((at + 0.1) * step), **size))
    return framed(up, left, below, drawn, aria_hidden="true")
