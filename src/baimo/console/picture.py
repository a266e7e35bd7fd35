"""Routes and aliases as a picture: a name, and lines to the models behind it, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from baimo.console.visit import words
from baimo.core.tuned_name import brief
from baimo.evals.report.svg import drawing, extent, fitted, label, tag, title

WIDTH, NARROW, ROW, BOX = 596.0, 312.0, 34.0, 26.0
"""CSS pixels, about as many as there are at a desk and on a phone: text is as large as it is drawn."""
NAME, TARGET, INDENT = 170.0, 290.0, 74.0
"""Widths of the boxes; how far the models stand in on a phone."""


class Drawn(NamedTuple):
    """The same picture twice; the style sheet shows the one that fits."""

    wide: Markup
    narrow: Markup


def picture(route: Mapping[str, Any]) -> Drawn:
    """One route of the API's `routes_list`: its name, its models in their order, and what each gets."""
    released: str | None = route.get("released")
    targets = [released] if released else [str(one) for one in route["models"]]
    shares = [words("console_models.released")] if released else _shares(route)
    name = str(route["name"])
    arrows = " ".join(f"→ {target} {share}".rstrip() for target, share in zip(targets, shares, strict=True))
    wide = drawing(name, arrows, WIDTH, 8 + ROW * len(targets), _beside(name, targets, shares))
    narrow = drawing(name, arrows, NARROW, 8 + ROW * (len(targets) + 1), _below(name, targets, shares))
    return Drawn(Markup(wide), Markup(narrow))  # their parts escape every text


def _beside(name: str, targets: Sequence[str], shares: Sequence[str]) -> list[str]:
    middle, left = 4 + ROW * len(targets) / 2, WIDTH - TARGET - 4
    parts = [_box(4, middle - BOX / 2, NAME, name, "box name")]
    for at, (target, share) in enumerate(zip(targets, shares, strict=True)):
        y = 4 + ROW * (at + 0.5)
        bend = (4 + NAME + left) / 2
        path = f"M {4 + NAME} {middle:.1f} C {bend} {middle:.1f}, {bend} {y:.1f}, {left} {y:.1f}"
        parts += _leading(path, left, y, share, at)
        parts.append(_box(left, y - BOX / 2, TARGET, target, "box"))
    return parts


def _below(name: str, targets: Sequence[str], shares: Sequence[str]) -> list[str]:
    parts = list[str]()
    for at, (target, share) in reversed(
        list(enumerate(zip(targets, shares, strict=True)))
    ):  # the first on top
        y = 4 + ROW * (at + 1.5)
        parts += _leading(f"M 16 {4 + ROW - 4} V {y:.1f} H {INDENT}", INDENT, y, share, at)
        parts.append(_box(INDENT, y - BOX / 2, NARROW - INDENT - 4, target, "box"))
    return [_box(4, 4 + (ROW - BOX) / 2, NARROW - 8, name, "box name"), *parts]


def _leading(path: str, left: float, y: float, share: str, at: int) -> list[str]:
    """The line to a model, and on it what the model gets."""
    parts = [tag("path", d=path, class_="edge first" if at == 0 else "edge")]
    if share:
        wide = extent(share) + 8
        x = left - wide - 6
        parts.append(tag("rect", x=x, y=y - 9, width=wide, height=18.0, rx=9, class_="pill"))
        parts.append(label(x + wide / 2, y + 4, share, "share", "middle"))
    return parts


def _box(x: float, y: float, width: float, shown: str, kind: str) -> str:
    inside = [
        title(shown),
        tag("rect", x=x, y=y, width=width, height=BOX, rx=6, class_=kind),
        label(x + 10, y + BOX / 2 + 4, fitted(brief(shown), width - 20), "label"),
    ]
    return tag("g", *inside)


def _shares(route: Mapping[str, Any]) -> Sequence[str]:
    """What each model gets: its share, or its place among the fallbacks."""
    models: Sequence[str] = route["models"]
    if len(models) == 1:
        return [""]
    match route["strategy"]:
        case "weighted":
            whole = sum(route["weights"]) or 1.0
            return [f"{100 * weight / whole:.3g} %" for weight in route["weights"]]
        case "canary":
            rest = len(models) - 1
            share = float(route["share"])
            return [
                *(f"{100 * (1 - share):.3g} %" if at == 0 else "" for at in range(rest)),
                f"{100 * share:.3g} %",
            ]
        case "fallback":
            return [f"{place}." for place in range(1, len(models) + 1)]
        case _:
            return [""] * len(models)
