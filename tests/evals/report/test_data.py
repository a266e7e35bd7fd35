from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from baimo.core.verdict import Interval
from baimo.evals.report.data import SCHEMA, data
from tests.evals.report.reports import forecast, full, many, report, standing

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "verdict-json.md"


def test_every_key_is_documented_and_every_documented_key_is_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    parts = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    documented = {part.split("\n")[0].split(":")[0].strip("`[] "): keys(part) for part in parts}
    made: dict[str, Any] = json.loads(json.dumps(data(full())))
    assert documented["Top level"] == set(made)
    assert documented["forecast"] == set(made["forecast"])
    assert documented["standings"] == set(made["standings"][0])
    assert documented["slices"] == set(made["slices"][0])
    assert documented["differences"] == set(made["differences"])
    assert documented["run"] == set(made["run"])
    assert SCHEMA in page


def keys(part: str) -> set[str]:
    cells = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    return {key for cell in cells for key in re.findall(r"`(\w+)`", cell)}


def test_unknown_is_null_and_every_number_is_finite() -> None:
    line = standing("a", None, interval=Interval(math.nan, math.inf), cost_per_1000_micros=None)
    made = data(report([line], cost_micros=None, error_bound=math.nan))
    text = json.dumps(made, allow_nan=False)
    assert json.loads(text)["standings"][0]["interval"] == [None, None]
    assert made["cost_micros"] is None and made["error_bound"] is None


def test_money_stays_in_whole_micros_and_intervals_are_pairs() -> None:
    made = json.loads(json.dumps(data(report([standing("a"), standing("b")], forecast=forecast()))))
    assert made["cost_micros"] == 1_710_000
    assert made["forecast"]["cost_micros"] == [1_000_000, 4_000_000]


def test_the_command_repeats_the_options_quoted_and_says_the_seed() -> None:
    made = data(report([standing("a")]))
    assert made["run"]["command"] == "baimo compare tasks/smart-home --seed 7"


def test_three_hundred_candidates_are_all_there() -> None:
    assert len(data(many(300))["standings"]) == 300
