"""The arithmetic of the gateway benchmark: a wrong median there would be a wrong claim in the README."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from benchmarks.gateway.figures import (
    Arrival,
    excess_ms,
    medians,
    quantile,
    ratio,
    ratios,
    schedule,
    slope,
    table,
)
from hypothesis import given
from hypothesis import strategies as st

START = datetime(2023, 11, 16, 18, 15, tzinfo=UTC)


def test_a_ratio_is_taken_within_each_round_so_that_a_slow_round_spoils_neither_side() -> None:
    ours = [{"requests_per_s": 10.0}, {"requests_per_s": 100.0}, {"requests_per_s": 12.0}]
    theirs = [{"requests_per_s": 5.0}, {"requests_per_s": 50.0}, {"requests_per_s": 6.0}]
    assert ratio(ours, theirs, "requests_per_s") == 2.0


def test_a_figure_that_nobody_could_take_is_left_out_of_medians_and_ratios() -> None:
    rounds = [{"p99_ms": None}, {"p99_ms": 3.0}, {"p99_ms": 5.0}]
    assert medians(rounds) == {"p99_ms": 4.0}
    assert ratio(rounds, [{"p99_ms": 1.0}, {"p99_ms": None}, {"p99_ms": 2.0}], "p99_ms") == 2.5
    assert ratio(rounds, [{}, {}, {}], "p99_ms") is None


def test_ratios_name_only_peers_that_were_measured_and_never_the_mock_itself() -> None:
    rounds = {
        "direct": [{"requests_per_s": 80.0}],
        "nginx": [{"requests_per_s": 50.0}],
        "baimo": [{"requests_per_s": 20.0, "chunks_per_s": 7.0}],
    }
    assert ratios(rounds, ["nginx", "LiteLLM"]) == {"baimo": {"nginx": {"requests_per_s": 0.4}}}


def test_the_table_shows_a_dash_where_there_is_no_figure() -> None:
    lines = table({"baimo": [{"requests_per_s": 20000.0, "p99_ms": None}]}).splitlines()
    assert len(lines) == 3
    assert lines[2] == "| baimo | – | 20,000 | – | – | – | – | – |"


@given(st.floats(-100, 100), st.floats(-1e6, 1e6), st.sets(st.integers(0, 10**6), min_size=2, max_size=30))
def test_the_slope_of_a_line_is_its_slope(rise: float, base: float, places: set[int]) -> None:
    assert slope([(x, base + rise * x) for x in places]) == pytest.approx(rise, abs=1e-3)


def test_one_point_has_no_slope() -> None:
    with pytest.raises(ValueError, match="two different"):
        slope([(1, 2.0), (1, 3.0)])


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_quantile_is_one_of_the_values_and_leaves_its_share_below(
    values: list[float], share: float
) -> None:
    found = quantile(values, share)
    assert found in values
    assert sum(value < found for value in values) <= share * len(values)


def test_nothing_has_no_quantile() -> None:
    assert quantile([], 0.99) is None


def test_a_schedule_keeps_its_bursts_and_meets_the_mean_rate() -> None:
    gaps = [0, 1, 1, 1, 97, 100]  # seconds after the first: a burst, then calm
    rows = [(START + timedelta(seconds=gap), 10, 20) for gap in gaps]
    found = schedule(rows, rate=50, count=6)
    assert [arrival.offset_us for arrival in found] == [0, 1000, 1000, 1000, 97000, 100000]
    assert found[0] == Arrival(offset_us=0, prompt_chars=40, tokens=20)


def test_a_schedule_of_one_moment_is_refused() -> None:
    with pytest.raises(ValueError, match="two different times"):
        schedule([(START, 1, 1), (START, 1, 1)], rate=1, count=2)


def test_what_is_added_is_what_goes_beyond_the_models_own_time_and_failures_do_not_count() -> None:
    arrivals = [Arrival(0, 4, 10), Arrival(5, 4, 100), Arrival(9, 4, 1)]
    took = [221_000.0, 402_500.0, -1.0]
    assert excess_ms(arrivals, took, first_us=200_000, token_us=2_000) == [1.0, 2.5]
