"""Small drawings, as SVG whose colours the style sheet fills in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from baimo.console.figures import short
from baimo.evals.report.svg import ticks

WIDTH, HEIGHT, LEFT, BOTTOM = 720.0, 180.0, 56.0, 22.0


class Bar(NamedTuple):
    """One bar."""

    label: str
    value: float


def bars(series: Sequence[Bar], unit: str = "") -> Markup:
    """A bar for each of a series, with a scale; the table beside it says the same to those who do not see it."""
    most = max((bar.value for bar in series), default=0.0) or 1.0
    room, tall = WIDTH - LEFT, HEIGHT - BOTTOM - 8
    step = room / max(1, len(series))
    parts: list[str] = []
    for value in ticks(0, most, 4):
        y = 8 + tall * (1 - value / most)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick end" x="{LEFT - 6}" y="{y + 4:.1f}">{escape(short(value))}</text>')
    every = max(1, len(series) // 6)
    for at, bar in enumerate(series):
        x, tall_bar = LEFT + at * step, tall * bar.value / most
        tip = f"{bar.label}: {bar.value:,.6g} {unit}".rstrip()
        parts.append(
            f'<rect class="bar" x="{x + step * 0.1:.1f}" y="{8 + tall - tall_bar:.1f}" '
            f'width="{max(1.0, step * 0.8):.1f}" height="{tall_bar:.1f}"><title>{escape(tip)}</title></rect>'
        )
        if at % every == 0:
            parts.append(
                f'<text class="tick" x="{x + step / 2:.1f}" y="{HEIGHT - 6}">{escape(bar.label[5:])}</text>'
            )
    return Markup(  # every text in it was escaped above
        f'<svg class="plot" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" aria-hidden="true">{"".join(parts)}</svg>'
    )
