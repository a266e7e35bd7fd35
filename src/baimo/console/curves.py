"""Curves over the steps of a job, as SVG whose colours the style sheet fills in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from baimo.console.figures import short
from baimo.console.visit import words
from baimo.evals.report.svg import Scale, drawing, label, tag, ticks, title, widened

WIDTH, HEIGHT = 460.0, 200.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 14.0, 10.0, 28.0

MOST_MARKS = 40


class Curve(NamedTuple):
    """One figure over the steps."""

    name: str
    points: Sequence[tuple[float, float]]
    """(step, value), by step."""


def curves(
    name: str, description: str, found: Sequence[Curve], steps: int, marks: Sequence[int] = ()
) -> Markup:
    """Curves with one scale; empty = there is nothing to draw.

    Args:
        name: of the picture, for those who do not see it.
        description: what it shows, likewise.
        found: at most four; each has a colour by its place.
        steps: of the whole job: the right end.
        marks: steps of checkpoints.
    """
    values = [value for curve in found for _, value in curve.points]
    if not values:
        return Markup()
    low, high = widened(min(values), max(values), min(0.0, *values), max(1e9, *values))
    across = Scale(low=0, high=max(steps, 1), start=LEFT, end=WIDTH - RIGHT)
    up = Scale(low=low, high=high, start=HEIGHT - BOTTOM, end=TOP)
    parts = _grid(across, up, max(steps, 1), low, high)
    for mark in marks if len(marks) <= MOST_MARKS else ():
        x = across(mark)
        place = {"x1": x, "x2": x, "y1": HEIGHT - BOTTOM, "y2": HEIGHT - BOTTOM + 5}
        parts.append(tag("line", title(f"{mark}"), class_="mark", **place))
    for place, curve in enumerate(found):
        drawn = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in curve.points)
        if len(curve.points) == 1:
            x, y = curve.points[0]
            parts.append(tag("circle", cx=across(x), cy=up(y), r=3.0, class_=f"dot c{place}"))
        parts.append(tag("polyline", title(curve.name), points=drawn, class_=f"curve c{place}"))
    return Markup(drawing(name, description, WIDTH, HEIGHT, parts))  # its parts escape every text


def _grid(across: Scale, up: Scale, steps: int, low: float, high: float) -> list[str]:
    parts: list[str] = []
    for value in ticks(low, high, 4):
        y = up(value)
        parts.append(tag("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y))
        parts.append(label(LEFT - 6, y + 4, f"{value:.4g}", "tick end", "end"))
    for value in ticks(0, steps, 6):
        parts.append(label(across(value), HEIGHT - 8, short(value), "tick", "middle"))
    return parts


def spoken(found: Sequence[Curve]) -> str:
    """What curves show, in words: where each begins and ends."""
    return " ".join(
        words(
            "console_tune.curve",
            name=curve.name,
            first=f"{curve.points[0][1]:.4g}",
            last=f"{curve.points[-1][1]:.4g}",
        )
        for curve in found
        if curve.points
    )
