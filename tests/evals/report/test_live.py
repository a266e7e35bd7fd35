from __future__ import annotations

import io

import pytest

from baimo.core.verdict import Progress
from baimo.evals.report.figures import columns
from baimo.evals.report.live import Live, ProgressView, line
from tests.evals.report.reports import full, many, progress, standing


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def shown(view: ProgressView, width: int, height: int = 30) -> list[str]:
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=width, height=height, no_color=True, markup=False).print(view)
    return out.getvalue().splitlines()


def test_a_pipe_gets_a_plain_line_every_ten_seconds_and_the_last_one() -> None:
    out, clock = io.StringIO(), Clock()
    with Live(out, clock=clock, environment={}) as live:
        for second in range(25):
            clock.now = float(second)
            live.update(progress([standing("a/x")], calls=second))
    lines = out.getvalue().splitlines()
    assert [text.split()[1] for text in lines] == ["0", "10", "20", "24"]
    assert "\x1b" not in out.getvalue() and "\r" not in out.getvalue()


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_a_dumb_terminal_and_no_color_get_plain_lines(environment: dict[str, str]) -> None:
    out = Terminal()
    with Live(out, clock=Clock(), environment=environment) as live:
        live.update(progress([standing("a/x")]))
    assert live.plain and "\x1b" not in out.getvalue() and out.getvalue().count("\n") == 1


def test_a_terminal_is_redrawn_and_left_clean() -> None:
    out, clock = Terminal(), Clock()
    with Live(out, clock=clock, environment={"TERM": "xterm-256color"}) as live:
        for second in range(3):
            clock.now = float(second)
            live.update(progress([standing("a/x"), standing("b/y", 0.5, tier=2)]))
    assert not live.plain and "a/x" in out.getvalue() and "\x1b[" in out.getvalue()


def test_a_plain_line_survives_a_stream_that_cannot_write_it() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    with Live(stream, clock=Clock(), environment={}) as live:
        live.update(progress([standing("厂商/模型")]))
    stream.flush()
    assert b"?" in raw.getvalue()


def test_a_line_says_spent_forecast_exhaustive_error_leader_and_time() -> None:
    text = line(progress([standing("a/x", 0.931)], waiting="rate limited"))
    for part in (
        "412 calls of 40,800",
        "about 1,900 to go",
        "0.82 USD spent",
        "3.40 USD to go",
        "41.20 USD for everything",
        "21%",
        "5%",
        "a/x leads with 0.931",
        "1 min 5 s",
        "4 min 0 s",
        "rate limited",
    ):
        assert part in text


def test_what_is_not_known_yet_is_left_out_and_never_a_zero() -> None:
    text = line(progress([standing("a", None)], calls_left=None, cost_micros=None, eta_s=None))
    assert "to go" not in text and "cost not known" in text and "leads" not in text


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize(
    "now",
    [
        progress(
            many(300).verdict.standings, waiting="正在等待:请求过于频繁,服务器要求稍候再试,请耐心等待片刻"
        ),
        progress([standing("厂商/一个名字很长很长的大语言模型-2026", 0.9), standing("b", 0.1, tier=2)]),
        progress([standing("a", None)], calls=0, calls_exhaustive=0, calls_left=0.0),
        progress([]),
    ],
    ids=["300", "chinese", "start", "nobody"],
)
def test_the_view_fits_any_width(now: Progress, width: int) -> None:
    for text in shown(ProgressView(now), width):
        assert columns(text) <= width


def test_three_hundred_candidates_show_the_top_and_count_the_eliminated() -> None:
    lines = shown(ProgressView(progress(many(300).verdict.standings)), 100)
    assert "and 284 more candidates (284 separated from the first tier)" in lines[-1]
    assert len(shown(ProgressView(progress(many(300).verdict.standings)), 100, height=14)) <= 14


def test_bars_stand_where_the_intervals_are() -> None:
    lines = [text for text in shown(ProgressView(progress(full().verdict.standings)), 100) if "●" in text]
    dots = [text.index("●") for text in lines]
    assert len(lines) == 4 and dots == sorted(dots, reverse=True)
    assert all("━●━" in text for text in lines)


def test_what_is_waited_for_is_shown() -> None:
    assert any(
        "waiting: loading a model" in text
        for text in shown(ProgressView(progress([], waiting="loading a model")), 80)
    )
