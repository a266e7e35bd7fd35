"""The few parts that every plot is drawn from: elements, scales and ticks.

Text is escaped here and nowhere else, so no plot can let a model's name become markup. Colours are classes
that the page's style sheet fills in, so one drawing serves light, dark and print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from baimo.evals.report.figures import clean, columns, shortened

EM = 6.6
"""Pixels that one column of the plots' 12-pixel type takes, on average."""


def tag(element: str, *children: str, **attributes: object) -> str:
    """One element; `class_` is written class, other underscores become hyphens; children are markup."""
    written = "".join(
        f" {'class' if key == 'class_' else key.replace('_', '-')}={quoteattr(_attribute(value))}"
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{element}{written}>{''.join(children)}</{element}>" if children else f"<{element}{written}/>"


def _attribute(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else clean(str(value))


def label(x: float, y: float, shown: str, class_: str = "label", anchor: str = "start") -> str:
    """A text with its baseline at y."""
    return tag("text", escape(clean(shown)), x=x, y=y, class_=class_, text_anchor=anchor)


def title(shown: str) -> str:
    """What a pointer or a screen reader is told of the element that it stands in."""
    return tag("title", escape(clean(shown)))


def fitted(shown: str, pixels: float) -> str:
    """The text, cut in the middle to about so many pixels."""
    return shortened(shown, max(3, int(pixels / EM)))


def extent(shown: str) -> float:
    """About how many pixels a text takes."""
    return columns(shown) * EM


def drawing(name: str, description: str, width: float, height: float, parts: Sequence[str]) -> str:
    """The whole picture, with a name and a description for those who do not see it."""
    return tag(
        "svg",
        title(name),
        tag("desc", escape(clean(description))),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:.0f} {math.ceil(height)}",
        role="img",
        aria_label=f"{clean(name)}. {clean(description)}",
        class_="plot",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """From figures to pixels, linear or logarithmic; what lies outside is drawn on the edge."""

    low: float
    high: float
    start: float
    """Pixel of `low`."""
    end: float
    """Pixel of `high`; may be less than `start`."""
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (
            math.log(v) if self.log else v for v in (self.low, self.high, max(value, self.low))
        )
        place = min(1.0, (value - low) / (high - low))
        return self.start + place * (self.end - self.start)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from `low` to `high`, both included where round: steps of 1, 2 or 5 times a power of ten."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= most)
    first = math.ceil(low / step - 1e-9)
    return [round(place * step, 10) for place in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """1, 2 and 5 times powers of ten between, thinned to powers of ten, then to every other one."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [
            f * 10.0**power
            for power in powers
            for f in factors
            if low * 0.999 <= f * 10.0**power <= high * 1.001
        ]
        if len(found) <= most:
            return found
    return found[:: math.ceil(len(found) / most)]


def widened(low: float, high: float, floor: float, ceiling: float) -> tuple[float, float]:
    """The range of an axis: a little added on both sides, at least 0.02 wide, inside floor and ceiling."""
    spread = max(high - low, 0.02)
    low, high = max(floor, low - 0.06 * spread), min(ceiling, high + 0.06 * spread)
    return (low, high) if high - low >= 0.02 else (max(floor, high - 0.02), max(high, floor + 0.02))
