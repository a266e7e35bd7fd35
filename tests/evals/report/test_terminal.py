from __future__ import annotations

import io
import subprocess
import sys

import pytest

from baimo.core.verdict import Flag
from baimo.evals.report.figures import columns
from baimo.evals.report.report import Report
from baimo.evals.report.terminal import layout, plain, table
from tests.evals.report.reports import full, many, report, standing, verdict

WIDTHS = (40, 60, 80, 100, 160)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "made",
    [
        full(),
        many(300),
        report([standing("厂商/一个名字很长很长的大语言模型-2026", 0.9)] * 2),
        report([]),
        report([standing("a", None)]),
    ],
    ids=["four", "300", "chinese", "nobody", "nothing judged"],
)
def test_no_line_is_wider_than_the_terminal(made: Report, width: int) -> None:
    for line in plain(made.verdict, width=width).splitlines():
        assert columns(line) <= width


@pytest.mark.parametrize("width", WIDTHS[1:])
def test_the_score_and_the_tier_survive_any_width_and_what_is_left_out_is_named(width: int) -> None:
    shown = plain(full().verdict, width=width)
    assert "0.930" in shown and "tier" in shown
    dropped = layout(full().verdict, width).dropped
    assert all(head in " ".join(shown.split()) for head in dropped)
    assert ("too narrow for" in shown) == bool(dropped)


def test_a_wide_terminal_shows_every_column() -> None:
    shown = plain(full().verdict, width=160)
    for part in (
        "tier",
        "0.890–0.960",
        "0.500 | 0.920",
        "4/4/0",
        "0.42",
        "?",
        "840 ms",
        "near-constant!",
        "USD/1000",
    ):
        assert part in shown


def test_an_unknown_cost_is_a_question_mark_in_its_column() -> None:
    (row,) = (
        line
        for line in plain(full().verdict, width=160).splitlines()
        if line.strip().startswith("3  other/base")
    )
    assert " ? " in row and " 0 " not in row


def test_three_hundred_candidates_show_the_top_and_count_the_rest() -> None:
    shown = plain(many(300).verdict)
    assert "and 280 more candidates (280 separated from the first tier)" in shown
    assert "model-19 " in shown and "model-20 " not in shown
    assert "model-299" in plain(many(300).verdict, top=None)


def test_terminal_codes_in_a_name_do_nothing() -> None:
    shown = plain(verdict([standing("a\x1b[31m[bold red]x[/]\n", 0.9), standing("b", 0.5)]), width=160)
    assert "\x1b" not in shown and "a\ufffd[31m[bold red]x[/]" in shown


def test_colour_is_rich_s_business_and_the_table_is_a_renderable() -> None:
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, force_terminal=True, width=100, color_system="truecolor").print(table(full().verdict))
    assert "\x1b[1;32m" in out.getvalue()


def test_rich_jinja_and_numpy_are_loaded_only_when_something_is_drawn() -> None:
    code = (
        "import sys, baimo.evals.report.terminal, baimo.evals.report.live, baimo.evals.require;"
        "print(sorted({'rich', 'jinja2', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_flags_are_among_the_last_to_give_way() -> None:
    flagged = standing("a-model/with-a-long-name", flags=(Flag(kind="near_constant"),))
    shown = plain(verdict([flagged, standing("other/model", 0.5, tier=2)]), width=80)
    assert "near-constant" in shown and "too narrow for: strict | lenient" in shown
