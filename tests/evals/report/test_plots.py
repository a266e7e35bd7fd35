from __future__ import annotations

import re
from collections.abc import Callable
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baimo.core.verdict import Interval, Standing
from baimo.evals.report import plots
from baimo.evals.report.report import Report
from baimo.evals.report.svg import Scale, log_ticks, ticks
from tests.evals.report.reports import full, many, report, standing

SVG = "{http://www.w3.org/2000/svg}"
WIDTHS = (960.0, 320.0)

DRAW: dict[str, Callable[[Report, float], str]] = {
    "intervals": lambda made, width: plots.intervals(
        made.verdict.standings, made.verdict.winner, width=width
    ),
    "quality_cost": lambda made, width: plots.quality_cost(
        made.pareto(), made.verdict.standings, width=width
    ),
    "calls": lambda made, width: plots.calls(made.timelines(), made.verdict.standings, width=width),
    "outcomes": lambda made, width: plots.outcomes(made.verdict.standings, width=width),
}


def drawn(svg: str) -> list[str]:
    return [
        node.attrib["data-candidate"]
        for node in ElementTree.fromstring(svg).iter()
        if "data-candidate" in node.attrib
    ]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("plot", sorted(DRAW))
@pytest.mark.parametrize("made", [full(), many(300), many(2)], ids=["four", "three hundred", "two"])
def test_every_candidate_is_drawn_once_with_a_title_and_the_picture_has_a_name(
    plot: str, width: float, made: Report
) -> None:
    svg = DRAW[plot](made, width)
    root = ElementTree.fromstring(svg)
    expected = {line.candidate for line in made.verdict.standings}
    if plot == "quality_cost":
        expected = {point.candidate for point in made.pareto().points}
    assert sorted(drawn(svg)) == sorted(expected)
    assert root.attrib["role"] == "img" and root.attrib["aria-label"]
    assert root.find(f"{SVG}title") is not None and root.find(f"{SVG}desc") is not None
    for node in root.iter():
        if "data-candidate" in node.attrib:
            assert node.find(f"{SVG}title") is not None


@pytest.mark.parametrize("plot", sorted(DRAW))
def test_a_hostile_name_stays_text(plot: str) -> None:
    hostile = '"/><script>alert(1)</script>\x00\x1b'
    made = many(3)
    lines = [standing(hostile, 0.9), *made.verdict.standings]
    cells = [
        *made.samples,
        *(
            sample.__class__(candidate=hostile, example=sample.example, request_hash="h", score=sample.score)
            for sample in made.samples[:3]
        ),
    ]
    root = ElementTree.fromstring(DRAW[plot](report(lines, cells), 960))
    assert not [node for node in root.iter() if node.tag.endswith("script")]


score = st.floats(0, 1)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(score, score, score, st.booleans()), min_size=1, max_size=40), st.sampled_from(WIDTHS)
)
def test_intervals_and_scores_stay_inside_the_axis(
    rows: list[tuple[float, float, float, bool]], width: float
) -> None:
    lines: list[Standing] = []
    for place, (*ends, judged) in enumerate(rows):
        low, middle, high = sorted(ends)
        lines.append(
            standing(
                f"m{place}", middle if judged else None, tier=1 + place // 3, interval=Interval(low, high)
            )
        )
    svg = plots.intervals(lines, "m0", width=width)
    root = ElementTree.fromstring(svg)
    grid = [
        float(node.attrib["x1"]) for node in root.iter(f"{SVG}line") if node.attrib.get("class") == "grid"
    ]
    assert grid
    for group in root.iter(f"{SVG}g"):
        bars, dots = group.findall(f"{SVG}line"), group.findall(f"{SVG}circle")
        assert len(bars) == len(dots) == int(rows[int(group.attrib["data-candidate"][1:])][3])
        for bar, dot in zip(bars, dots, strict=True):
            x1, x, x2 = float(bar.attrib["x1"]), float(dot.attrib["cx"]), float(bar.attrib["x2"])
            assert 0 <= x1 <= x + 0.1 and x <= x2 + 0.1 and x2 <= width


def test_nothing_is_drawn_below_the_picture() -> None:
    for plot in DRAW.values():
        for width in WIDTHS:
            root = ElementTree.fromstring(plot(full(), width))
            height = float(root.attrib["viewBox"].split()[3])
            heights = [
                float(value)
                for node in root.iter()
                for key, value in node.attrib.items()
                if key in ("y", "y1", "y2", "cy")
            ]
            assert max(heights) <= height and min(heights) >= 0


def test_three_hundred_candidates_take_little_more_room_than_fifty() -> None:
    heights = [
        float(ElementTree.fromstring(DRAW["intervals"](many(count), 960)).attrib["viewBox"].split()[3])
        for count in (50, 300)
    ]
    assert heights[1] < 1.6 * heights[0]


def test_a_free_candidate_has_a_place_of_its_own_on_the_logarithmic_axis() -> None:
    made = full()
    root = ElementTree.fromstring(plots.quality_cost(made.pareto(), made.verdict.standings))
    spots = {node.attrib["data-candidate"]: float(node.attrib["cx"]) for node in root.iter(f"{SVG}circle")}
    assert spots["local/open"] < spots["acme/small"] < spots["acme/large"]
    assert "free" in "".join(root.itertext())


def test_one_point_and_only_free_candidates_are_drawn_too() -> None:
    for cost in (0, 5_000_000):
        made = report([standing("a", 1.0, cost_per_1000_micros=cost, interval=Interval(1, 1))])
        assert drawn(plots.quality_cost(made.pareto(), made.verdict.standings)) == ["a"]
        ElementTree.fromstring(plots.intervals(made.verdict.standings, "a"))


def test_shares_of_outcomes_fill_the_bar_and_no_more() -> None:
    root = ElementTree.fromstring(plots.outcomes(full().verdict.standings))
    for group in root.iter(f"{SVG}g"):
        bars = [(float(bar.attrib["x"]), float(bar.attrib["width"])) for bar in group.findall(f"{SVG}rect")]
        assert all(x + size <= 884.1 for x, size in bars)
        assert bars[-1][0] + bars[-1][1] == pytest.approx(884, abs=1.2)


@given(st.floats(0, 1000), st.floats(0.001, 1000))
def test_ticks_are_round_rising_and_inside(low: float, spread: float) -> None:
    found = ticks(low, low + spread)
    assert found == sorted(found) and 1 <= len(found) <= 8
    assert all(low - spread * 1e-6 <= tick <= low + spread * (1 + 1e-6) for tick in found)


@given(st.floats(1e-6, 1e3), st.floats(2, 1e6))
def test_logarithmic_ticks_are_few_and_inside(low: float, times: float) -> None:
    found = log_ticks(low, low * times)
    assert len(found) <= 6 and all(low * 0.99 <= tick <= low * times * 1.01 for tick in found)


def test_a_scale_keeps_what_lies_outside_on_its_edge() -> None:
    scale = Scale(low=1, high=100, start=0, end=200, log=True)
    assert [scale(value) for value in (0.0, 1, 10, 100, 1e9)] == pytest.approx([0, 0, 100, 200, 200])


def test_no_drawing_asks_for_anything_or_carries_a_style_of_its_own() -> None:
    for plot in DRAW.values():
        svg = plot(full(), 960)
        assert not re.search(r"\bstyle=|href|url\(|<style|on\w+=", svg)
