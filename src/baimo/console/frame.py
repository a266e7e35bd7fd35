"""The frame of a chart that is as wide as its place and whose text has the same size on a phone as at a desk.

Nothing in it is scaled: what lies across is written in per cent of the width, what lies upwards in CSS pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from baimo.evals.report.svg import Scale, label, tag

HEIGHT, TOP, BOTTOM = 168.0, 10.0, 24.0
"""CSS pixels: of the whole, above what is drawn, and of the line of words below it."""
SHARP = {"vector_effect": "non-scaling-stroke"}
"""Of lines in `stretched`: as thick as anywhere."""
GRAIN = 1000.0
"""The width of `stretched` in its own units."""


class Mark(NamedTuple):
    """A word on an axis."""

    place: float
    """Across: share of the width; upwards: the figure that it names."""
    shown: str


def upwards(low: float, high: float) -> Scale:
    """From figures to CSS pixels."""
    return Scale(low=low, high=high, start=HEIGHT - BOTTOM, end=TOP)


def part(share: float) -> str:
    """A place across, for an attribute."""
    return f"{100 * share:.2f}%"


def framed(
    up: Scale, left: Sequence[Mark], below: Sequence[Mark], drawn: Sequence[str], **told: object
) -> Markup:
    """The chart.

    Args:
        up: from `upwards`.
        left: figures with a line across.
        below: words along the bottom.
        drawn: markup with every text escaped: what the chart shows.
        told: further attributes, for those who do not see it.
    """
    parts: list[str] = []
    for mark in left:
        y = up(mark.place)
        parts.append(tag("line", class_="grid", x1="0", x2="100%", y1=y, y2=y))
        parts.append(label(-6, y + 4, mark.shown, "tick end", "end"))
    for mark in below:
        at = {"x": part(mark.place), "y": HEIGHT - 6, "text_anchor": "middle"}
        parts.append(tag("text", Markup.escape(mark.shown), class_="tick", **at))
    return Markup(tag("svg", *parts, *drawn, class_="chart", height=HEIGHT, role="img", **told))


def stretched(*drawn: str) -> str:
    """What cannot be written in per cent, as lines of many points: across from 0 to `GRAIN`."""
    box = {"viewBox": f"0 0 {GRAIN:.0f} {HEIGHT:.0f}", "preserveAspectRatio": "none"}
    return tag("svg", *drawn, width="100%", height=HEIGHT, overflow="visible", **box)
