"""Routes and aliases as a picture: a name, and lines to the models behind it, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from baimo.console.visit import words
from baimo.core.tuned_name import brief
from baimo.evals.report.svg import drawing, extent, fitted, label, tag, title

WIDTH, ROW, BOX = 620.0, 34.0, 26.0
NAME, TARGET = 170.0, 290.0
"""Widths of the boxes."""


def picture(route: Mapping[str, Any]) -> Markup:
    """One route of the API's `routes_list`: its name, its models in their order, and what each gets."""
    released: str | None = route.get("released")
    targets = [released] if released else list(route["models"])
    shares = [words("console_models.released")] if released else _shares(route)
    height = 8 + ROW * len(targets)
    middle = height / 2
    parts = [_box(4, middle - BOX / 2, NAME, str(route["name"]), "box name")]
    for at, (target, share) in enumerate(zip(targets, shares, strict=True)):
        y = 4 + ROW * (at + 0.5)
        left = WIDTH - TARGET - 4
        bend = (4 + NAME + left) / 2
        path = f"M {4 + NAME} {middle:.1f} C {bend} {middle:.1f}, {bend} {y:.1f}, {left} {y:.1f}"
        parts.append(tag("path", d=path, class_="edge first" if at == 0 else "edge"))
        if share:
            wide = extent(share) + 8
            x = left - wide - 6
            parts.append(tag("rect", x=x, y=y - 9, width=wide, height=18.0, rx=9, class_="pill"))
            parts.append(label(x + wide / 2, y + 4, share, "share", "middle"))
        parts.append(_box(left, y - BOX / 2, TARGET, str(target), "box"))
    arrows = " ".join(f"→ {target} {share}".rstrip() for target, share in zip(targets, shares, strict=True))
    return Markup(drawing(str(route["name"]), arrows, WIDTH, height, parts))  # its parts escape every text


def _box(x: float, y: float, width: float, shown: str, kind: str) -> str:
    inside = [
        title(shown),
        tag("rect", x=x, y=y, width=width, height=BOX, rx=6, class_=kind),
        label(x + 10, y + BOX / 2 + 4, fitted(brief(shown), width - 40), "label"),
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
