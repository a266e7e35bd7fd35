"""Curves over the steps of a job, as SVG whose colours the style sheet fills in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from baimo.console.figures import short
from baimo.console.frame import BOTTOM, GRAIN, HEIGHT, SHARP, Mark, framed, part, stretched, upwards
from baimo.console.visit import words
from baimo.evals.report.svg import tag, ticks, title, widened

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
    up, steps, floor = upwards(low, high), max(steps, 1), HEIGHT - BOTTOM
    drawn: list[str] = []
    for mark in marks if len(marks) <= MOST_MARKS else ():
        place = {"x1": part(mark / steps), "x2": part(mark / steps), "y1": floor, "y2": floor + 5}
        drawn.append(tag("line", title(f"{mark}"), class_="mark", **place))
    for place, curve in enumerate(found):
        if len(curve.points) == 1:
            x, y = curve.points[0]
            drawn.append(tag("circle", cx=part(x / steps), cy=up(y), r=3.0, class_=f"dot c{place}"))
        points = " ".join(f"{GRAIN * x / steps:.1f},{up(y):.1f}" for x, y in curve.points)
        line = tag("polyline", title(curve.name), points=points, class_=f"curve c{place}", **SHARP)
        drawn.append(stretched(line))
    left = [Mark(value, f"{value:.4g}") for value in ticks(low, high, 4)]
    below = [Mark(value / steps, short(value)) for value in ticks(0, steps, 6) if value == int(value)]
    return framed(up, left, below, drawn, aria_label=f"{name}. {description}")


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
