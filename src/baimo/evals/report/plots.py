"""The plots of a report as SVG text: pure functions of figures, one drawing for wide and one for narrow
pages.

Every candidate that has a figure is drawn, however many there are: the best with their names, the rest as a
thin trail. Tiers are told apart by lightness and by a line, outcomes by colours that Okabe and Ito (2008)
chose for colour-blind readers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from baimo.core.verdict import Standing
from baimo.evals.report.figures import (
    amount,
    clean,
    count,
    known,
    name,
    ranked,
    say,
    score,
    share,
    span,
    tier,
)
from baimo.evals.report.report import Pareto, Timeline
from baimo.evals.report.svg import (
    Scale,
    drawing,
    extent,
    fitted,
    label,
    log_ticks,
    tag,
    ticks,
    title,
    widened,
)

NAMED = 24
"""Rows that get their name; the others are drawn as thin lines with a title."""
_NARROW = 560
_CROWD = 80  # points from which they are drawn smaller
OUTCOMES = ("right", "partial", "wrong", "malformed", "failed", "unscored")
"""In the order in which they are stacked."""


def intervals(lines: Sequence[Standing], winner: str | None, *, width: float = 960) -> str:
    """Every candidate's score with its interval, best first, tiers set apart."""
    narrow = width < _NARROW
    left = (
        8.0 if narrow else min(300.0, 28 + max((extent(name(line.candidate)) for line in lines), default=0))
    )
    right = 8.0 if narrow else 150.0
    scored = [line for line in lines if line.score is not None and _bounded(line)]
    lows = [max(0.0, min(line.interval.low, line.score or 0)) for line in scored] or [0.0]
    highs = [min(1.0, max(line.interval.high, line.score or 0)) for line in scored] or [1.0]
    low, high = widened(min(lows), max(highs), 0.0, 1.0)
    scale = Scale(low=low, high=high, start=left, end=width - right)
    top, parts, group = 14.0, list[str](), ""
    y = top
    for place, line in enumerate(lines):
        named = place < NAMED
        if tier(line) != group:
            group = tier(line)
            if named:
                parts.append(_tier_head(line, y, left, width))
                y += 26
            else:
                y += 3
        if place == NAMED:
            parts.append(label(0, y + 14, say("plot_more", n=count(len(lines) - NAMED)), "tick"))
            y += 20 if narrow else 4
        row = (40 if narrow else 27) if named else _trail(len(lines))
        parts.append(
            _interval_row(line, scale, y, row, named=named, won=line.candidate == winner, narrow=narrow)
        )
        y += row
    bottom = y + 8
    grid = [
        tag("line", x1=scale(at), x2=scale(at), y1=top, y2=bottom, class_="grid")
        + label(scale(at), bottom + 16, f"{at:g}", "tick", "middle")
        for at in ticks(low, high, 4 if narrow else 8)
    ]
    best = next((line for line in scored if line.candidate == winner), None)
    band = ""
    if best is not None:
        x1, x2 = scale(best.interval.low), scale(best.interval.high)
        band = tag("rect", x=x1, y=top, width=max(1.0, x2 - x1), height=bottom - top, class_="band")
    described = say(
        "plot_intervals_desc", n=count(len(lines)), top=len([line for line in lines if line.tier == 1])
    )
    return drawing(say("plot_intervals"), described, width, bottom + 26, [band, *grid, *parts])


def _shade(line: Standing | None) -> str:
    """The class that colours a candidate's marks by its tier."""
    return f"t{min((line.tier if line else None) or 4, 4)}"


def _trail(lines: int) -> float:
    """Height of a row without a name, so that the whole trail stays as high as a dozen named ones."""
    return max(1.2, min(4.0, 320 / max(1, lines - NAMED)))


def _bounded(line: Standing) -> bool:
    return known(line.interval.low) and known(line.interval.high)


def _tier_head(line: Standing, y: float, left: float, width: float) -> str:
    shown = say("tier_n", n=tier(line)) if ranked(line) else say("tier_none")
    start = extent(shown) + 10
    return label(0, y + 17, shown, f"tier-head {_shade(line)}") + tag(
        "line", x1=start, x2=width, y1=y + 13, y2=y + 13, class_="rule"
    )


def _interval_row(
    line: Standing, scale: Scale, y: float, height: float, *, named: bool, won: bool, narrow: bool
) -> str:
    shown = name(line.candidate)
    told = say(
        "plot_interval_row", name=shown, tier=tier(line), score=score(line.score), span=span(line.interval)
    )
    middle = y + (height - 11 if narrow and named else height / 2)
    parts = [title(told)]
    if named:
        size = scale.end - scale.start if narrow else scale.start - 24
        parts.append(
            label(
                0,
                y + 15 if narrow else middle + 4,
                fitted(shown, size - (96 if narrow else 0)),
                "name strong" if won else "name",
            )
        )
        facts = score(line.score) if narrow else f"{score(line.score)}  {span(line.interval)}"
        spot = (scale.end, y + 15, "end") if narrow else (scale.end + 14, middle + 4, "start")
        parts.append(label(spot[0], spot[1], facts, "value strong" if won else "value", spot[2]))
    if line.score is not None and _bounded(line):
        x1, x2, x = scale(line.interval.low), scale(line.interval.high), scale(line.score)
        shade = _shade(line)
        parts.append(
            tag("line", x1=x1, x2=x2, y1=middle, y2=middle, class_=f"bar {shade}{'' if named else ' thin'}")
        )
        parts.append(
            tag(
                "circle",
                cx=x,
                cy=middle,
                r=(6 if won else 4.5) if named else 1.6,
                class_=f"dot {shade}{'' if named else ' thin'}",
            )
        )
    elif named and not narrow:
        parts.append(label(scale.start, middle + 4, say("not_judged"), "tick"))
    return tag("g", *parts, class_="row", data_candidate=shown)


def quality_cost(pareto: Pareto, lines: Sequence[Standing], *, width: float = 960) -> str:
    """Score against the price of a thousand answers on a logarithmic axis, with the front of the undominated."""
    narrow = width < _NARROW
    height, left, right, top, bottom = (340.0 if narrow else 400.0), 44.0, 16.0, 16.0, 46.0
    paid = [point.cost_micros / 1e6 for point in pareto.points if point.cost_micros > 0]
    free = any(point.cost_micros <= 0 for point in pareto.points)
    gutter = (
        64.0 if free and paid else 0.0
    )  # a logarithm has no 0: free candidates stand on a shelf of their own
    low_cost, high_cost = (min(paid) / 1.4, max(paid) * 1.4) if paid else (1.0, 10.0)
    x = Scale(low=low_cost, high=high_cost, start=left + gutter, end=width - right, log=True)
    low, high = widened(min(p.score for p in pareto.points), max(p.score for p in pareto.points), 0.0, 1.0)
    y = Scale(low=low, high=high, start=height - bottom, end=top)
    parts = [
        tag("line", x1=left, x2=width - right, y1=y(at), y2=y(at), class_="grid")
        + label(left - 8, y(at) + 4, f"{at:g}", "tick", "end")
        for at in ticks(low, high, 6)
    ]
    parts += [
        label(x(at), height - bottom + 18, f"{at:g}", "tick", "middle")
        + tag("line", x1=x(at), x2=x(at), y1=height - bottom, y2=height - bottom + 5, class_="rule")
        for at in (log_ticks(low_cost, high_cost, 4 if narrow else 7) if paid else [])
    ]
    shelf = left + (gutter / 2 if paid else (width - right - left) / 2)
    if free:
        parts.append(label(shelf, height - bottom + 18, say("free"), "tick", "middle"))
    spots = {
        p.candidate: (x(p.cost_micros / 1e6) if p.cost_micros > 0 else shelf, y(p.score))
        for p in pareto.points
    }
    front = [spots[point.candidate] for point in pareto.front]
    if front:
        path = f"M{front[0][0]:.1f} {front[0][1]:.1f}" + "".join(
            f"H{px:.1f}V{py:.1f}" for px, py in front[1:]
        )
        parts.append(tag("path", d=path + f"H{width - right:.1f}", class_="front", fill="none"))
    parts += _dots(pareto, {line.candidate: line for line in lines}, spots)
    parts += _dot_names(pareto, spots, width - right, most=5 if narrow else 12)
    axis = say("axis_cost") if not narrow else say("axis_cost_short")
    parts.append(label(width - right, height - 6, axis, "tick", "end"))
    described = say("plot_cost_desc", n=count(len(pareto.points)), front=len(pareto.front))
    return drawing(say("plot_cost"), described, width, height, parts)


def _dots(pareto: Pareto, lines: dict[str, Standing], spots: dict[str, tuple[float, float]]) -> list[str]:
    chosen = {point.candidate for point in pareto.front}
    drawn: list[str] = []
    for point in sorted(pareto.points, key=lambda point: point.candidate in chosen):
        told = say(
            "plot_point", name=name(point.candidate), score=score(point.score), cost=amount(point.cost_micros)
        )
        px, py = spots[point.candidate]
        kind = f"dot {_shade(lines.get(point.candidate))}" + (" onfront" if point.candidate in chosen else "")
        radius = 5.5 if point.candidate in chosen else 4.0 if len(pareto.points) <= _CROWD else 2.4
        kind += " thin" if radius < 4 else ""
        drawn.append(
            tag(
                "circle",
                title(told),
                cx=px,
                cy=py,
                r=radius,
                class_=kind,
                data_candidate=name(point.candidate),
            )
        )
    return drawn


def _dot_names(pareto: Pareto, spots: dict[str, tuple[float, float]], edge: float, most: int) -> list[str]:
    """Names beside the points, the front's first; a name that would cover another, or a point, is left to its title."""
    placed: list[tuple[float, float, float, float]] = [
        (px - 4, py - 4, px + 4, py + 4) for px, py in spots.values()
    ]
    drawn: list[str] = []
    front = [point.candidate for point in pareto.front]
    others = sorted((p for p in pareto.points if p.candidate not in front), key=lambda point: -point.score)
    for candidate in [*reversed(front), *(point.candidate for point in others)]:
        px, py = spots[candidate]
        shown = fitted(name(candidate), 190)
        wide = extent(shown) * 1.1
        for anchor, x, rise in (
            ("start", px + 8, -7),
            ("end", px - 8, -7),
            ("start", px + 9, 14),
            ("end", px - 9, 14),
        ):
            start = x - wide if anchor == "end" else x
            box = (start, py + rise - 11, start + wide, py + rise + 3)
            if box[0] < 46 or box[2] > edge or box[1] < 0 or any(_overlap(box, other) for other in placed):
                continue
            placed.append(box)
            drawn.append(
                label(
                    x,
                    py + rise,
                    shown,
                    "name halo strong" if candidate in front else "name halo soft",
                    anchor,
                )
            )
            break
        if len(drawn) >= most:
            break
    return drawn


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def calls(timelines: Sequence[Timeline], lines: Sequence[Standing], *, width: float = 960) -> str:
    """How the calls were shared out as the comparison went on: one line per candidate, the best ones named."""
    narrow = width < _NARROW
    height, left, right, top, bottom = 320.0, 52.0, (16.0 if narrow else 210.0), 14.0, 46.0
    total = max(line.steps[-1][0] for line in timelines)
    most = max(line.steps[-1][1] for line in timelines)
    x = Scale(low=0, high=total, start=left, end=width - right)
    y = Scale(low=0, high=most, start=height - bottom, end=top)
    parts = [
        tag("line", x1=left, x2=width - right, y1=y(at), y2=y(at), class_="grid")
        + label(left - 8, y(at) + 4, count(at), "tick", "end")
        for at in ticks(0, most, 5)
        if at == int(at)
    ]
    parts += [
        label(x(at), height - bottom + 18, count(at), "tick", "middle")
        for at in ticks(0, total, 3 if narrow else 6)
        if at == int(at)
    ]
    of = {line.candidate: line for line in lines}
    for place, line in reversed(list(enumerate(timelines))):
        points = " ".join(f"{x(at):.1f},{y(own):.1f}" for at, own in line.steps)
        shade = _shade(of.get(line.candidate))
        told = say("plot_calls_row", name=name(line.candidate), calls=count(line.steps[-1][1]))
        parts.append(
            tag(
                "polyline",
                title(told),
                points=points,
                class_=f"line {shade}{' lead' if place == 0 else ''}",
                data_candidate=name(line.candidate),
            )
        )
    ends = [(line.candidate, y(line.steps[-1][1])) for line in timelines[: 1 if narrow else 8]]
    parts += _end_names(ends, x(total), (width - left) if narrow else right - 12, narrow=narrow)
    parts.append(label(width - right, height - 6, say("axis_calls"), "tick", "end"))
    described = say("plot_calls_desc", n=count(len(timelines)), total=count(total))
    return drawing(say("plot_calls"), described, width, height, parts)


def _end_names(ends: Sequence[tuple[str, float]], x: float, room: float, *, narrow: bool) -> list[str]:
    """Names where the lines end, moved a little up or down so that none covers another; one above it when narrow."""
    taken: list[float] = []
    drawn: list[str] = []
    for place, (candidate, end) in enumerate(ends):
        free = (end + rise for rise in (0, 15, -15, 30, -30))
        spot = next((at for at in free if all(abs(at - other) >= 14 for other in taken)), None)
        if spot is None:
            continue
        taken.append(spot)
        kind = "name halo strong" if place == 0 else "name halo soft"
        at, height, anchor = (x, max(12, spot - 8), "end") if narrow else (x + 8, spot + 4, "start")
        drawn.append(label(at, height, fitted(name(candidate), room), kind, anchor))
    return drawn


def outcomes(lines: Sequence[Standing], *, width: float = 960) -> str:
    """What became of every candidate's answers: shares of right, partial, wrong, malformed, failed and unscored."""
    narrow = width < _NARROW
    left = (
        8.0 if narrow else min(300.0, 28 + max((extent(name(line.candidate)) for line in lines), default=0))
    )
    right = 8.0 if narrow else 76.0
    parts, y = list[str](), 6.0
    for place, line in enumerate(lines):
        named = place < NAMED
        row = (38.0 if narrow else 26.0) if named else _trail(len(lines))
        if place == NAMED:
            parts.append(label(0, y + 14, say("plot_more", n=count(len(lines) - NAMED)), "tick"))
            y += 20 if narrow else 4
        thick = 11.0 if named else 0.75 * row
        middle = y + (row - thick - 3 if narrow and named else (row - thick) / 2)
        counts = {kind: int(getattr(line, kind)) for kind in OUTCOMES}
        whole, x = sum(counts.values()), left
        told = say("plot_outcome_row", name=name(line.candidate), parts=_listed(counts, whole))
        drawn = [title(told)]
        if named:
            drawn.append(
                label(
                    0,
                    y + 13 if narrow else middle + 10,
                    fitted(name(line.candidate), (width - 90) if narrow else left - 24),
                    "name",
                )
            )
            spot = (width - right, y + 13, "end") if narrow else (width - right + 12, middle + 10, "start")
            drawn.append(label(spot[0], spot[1], f"n={count(whole)}", "tick", spot[2]))
        for kind, number in counts.items():
            size = (width - right - left) * number / whole if whole else 0.0
            if size:
                drawn.append(
                    tag(
                        "rect",
                        x=x,
                        y=middle,
                        width=max(size - (1 if size > 3 else 0), 0.4),
                        height=thick,
                        class_=f"o-{kind}",
                    )
                )
            x += size
        parts.append(tag("g", *drawn, class_="row", data_candidate=name(line.candidate)))
        y += row
    described = say("plot_outcomes_desc", n=count(len(lines)))
    return drawing(say("plot_outcomes"), described, width, y + 6, parts)


def _listed(counts: dict[str, int], whole: int) -> str:
    parts = [f"{say(kind)} {share(number / whole)}" for kind, number in counts.items() if number]
    return clean(say("separator").join(parts)) or say("not_judged")


def strip(line: Standing, low: float, high: float, width: int) -> tuple[int, int, int] | None:
    """First, middle and last cell of an interval on a bar of `width` cells; None without a score."""
    if line.score is None or not _bounded(line) or high <= low:
        return None
    first, middle, last = (
        round((min(max(value, low), high) - low) / (high - low) * (width - 1))
        for value in (line.interval.low, line.score, line.interval.high)
    )
    return first, middle, last


def frame(lines: Sequence[Standing]) -> tuple[float, float]:
    """The range of scores that a group of intervals needs."""
    scored = [line for line in lines if line.score is not None and _bounded(line)]
    low = min((line.interval.low for line in scored), default=0.0)
    high = max((line.interval.high for line in scored), default=1.0)
    low, high = max(0.0, low), min(1.0, high)
    return (
        (low, high) if high - low >= 0.02 else (math.floor(low * 50) / 50, math.floor(low * 50) / 50 + 0.02)
    )
