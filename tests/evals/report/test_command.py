from __future__ import annotations

import shlex

from baimo.evals.report.command import command
from tests.evals.report.reports import run


def test_options_come_back_as_they_were_given() -> None:
    made = run(
        ["a"],
        models=("vendor/x", "vendor/y z"),
        epsilon=0.02,
        exhaustive=True,
        max_cost=None,
        json=True,
        max_calls=0,
    )
    assert shlex.split(command(made)) == [
        "baimo",
        "compare",
        "tasks/smart-home",
        "--model",
        "vendor/x",
        "--model",
        "vendor/y z",
        "--epsilon",
        "0.02",
        "--exhaustive",
        "--max-calls",
        "0",
        "--seed",
        "7",
    ]


def test_a_hostile_option_stays_one_word_on_one_line() -> None:
    shown = command(run(["a"], model=["x; rm -rf /\n"]))
    assert "\n" not in shown and "'x; rm -rf / '" in shown
