"""Figures from raw measurements: medians over rounds, ratios, the table, a slope, a replayed schedule. No I/O.

A ratio is the median of the ratios within each round, never the ratio of two medians: rounds are minutes apart on a
machine that others use, and only figures of one round were taken in the same weather.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

COLUMNS: Mapping[str, tuple[str, str]] = {
    "added_p50_ms": ("c=1 p50 added, ms", "{:.2f}"),
    "requests_per_s": ("c=32 requests/s", "{:,.0f}"),
    "p99_ms": ("c=32 p99, ms", "{:.1f}"),
    "chunks_per_s": ("stream chunks/s, c=32", "{:,.0f}"),
    "memory_mb": ("memory after load, MB", "{:.0f}"),
    "cpu_us": ("CPU per request, µs", "{:,.0f}"),
    "stream_cpu_us": ("CPU per stream, µs", "{:,.0f}"),
}
"""Figure → heading and format, in the order of the table."""

RATIOS = ("requests_per_s", "chunks_per_s", "p99_ms", "added_p50_ms", "cpu_us", "stream_cpu_us")
"""What is compared with a peer."""

Round = Mapping[str, float | None]
"""The figures of one gateway in one round; None where the gateway could not do it."""


def median(values: Iterable[float | None]) -> float | None:
    """Median of what is known; None if nothing is."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def medians(rounds: Sequence[Round]) -> dict[str, float | None]:
    """Median of every figure over the rounds."""
    names = dict.fromkeys(name for each in rounds for name in each)
    return {name: median(each.get(name) for each in rounds) for name in names}


def ratio(ours: Sequence[Round], theirs: Sequence[Round], figure: str) -> float | None:
    """Median over the rounds of ours / theirs; None if no round has both."""
    pairs = ((a.get(figure), b.get(figure)) for a, b in zip(ours, theirs, strict=False))
    return median(a / b for a, b in pairs if a is not None and b)


def ratios(
    rounds: Mapping[str, Sequence[Round]], peers: Sequence[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """Gateway → peer → figure → ratio, for the peers that were measured."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, ours in rounds.items():
        if name == "direct":
            continue
        for peer in peers:
            if peer == name or peer not in rounds:
                continue
            compared = {figure: ratio(ours, rounds[peer], figure) for figure in RATIOS}
            known = {figure: round(value, 4) for figure, value in compared.items() if value is not None}
            if known:
                found.setdefault(name, {})[peer] = known
    return found


def table(rounds: Mapping[str, Sequence[Round]]) -> str:
    """The medians as a Markdown table; a dash where there is no figure."""
    lines = [
        "| gateway | " + " | ".join(heading for heading, _ in COLUMNS.values()) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for name, each in rounds.items():
        middle = medians(each)
        cells = [_cell(middle.get(figure), form) for figure, (_, form) in COLUMNS.items()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ratio_lines(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """One line per gateway and peer."""
    return [
        f"{name} / {peer}: " + ", ".join(f"{figure} {value:.3g}" for figure, value in figures.items())
        for name, peers in found.items()
        for peer, figures in peers.items()
    ]


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Least-squares slope of y over x.

    Raises:
        ValueError: fewer than two different x.
    """
    if len({x for x, _ in points}) < 2:
        raise ValueError("a slope needs two different points")
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def quantile(values: Iterable[float], share: float) -> float | None:
    """The value below which this share of the values lies (nearest rank); None if there are none."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None


class Arrival(NamedTuple):
    """One request of a replayed trace."""

    offset_us: int
    """When it is due, from the start."""
    prompt_chars: int
    tokens: int
    """Length of the answer."""


def schedule(rows: Sequence[tuple[datetime, int, int]], *, rate: float, count: int) -> list[Arrival]:
    """The first `count` arrivals of a trace, with time compressed so that the mean rate is `rate` per second.

    Args:
        rows: time, prompt tokens, generated tokens; sorted by time. Bursts stay bursts: only the clock is faster.
        rate: requests per second.
        count: how many; at least two.

    Raises:
        ValueError: fewer than two rows, or all at one time.
    """
    taken = rows[:count]
    if len(taken) < 2 or taken[-1][0] == taken[0][0]:
        raise ValueError("a schedule needs two different times")
    start = taken[0][0]
    speed = rate * (taken[-1][0] - start).total_seconds() / (len(taken) - 1)
    return [
        Arrival(
            offset_us=round((at - start).total_seconds() / speed * 1e6),
            prompt_chars=max(1, prompt * 4),  # about four letters a token
            tokens=max(1, generated),
        )
        for at, prompt, generated in taken
    ]


def excess_ms(
    arrivals: Sequence[Arrival], latencies_us: Sequence[float], *, first_us: int, token_us: int
) -> list[float]:
    """What each answered request took beyond the upstream's own time, milliseconds.

    Args:
        arrivals: as replayed.
        latencies_us: from the scheduled time, in the same order; negative = failed, left out.
        first_us: the mock's time to the first token.
        token_us: the mock's time for each token.
    """
    pairs = zip(arrivals, latencies_us, strict=True)
    return [(took - first_us - token_us * due.tokens) / 1000 for due, took in pairs if took >= 0]
