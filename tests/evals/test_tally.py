from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.run import Sample, Score
from baimo.core.verdict import Interval, Standing
from baimo.evals.tally import Tally


def sample(score: Score, **more: object) -> Sample:
    facts = {"price_micros": 10, "cost_micros": 10, "latency_ms": 1.0, **more}
    return Sample(candidate="c", example="e", request_hash="h", score=score, **facts)  # type: ignore[arg-type]


def line(tally: Tally) -> Standing:
    return tally.standing(tier=1, score=None, interval=Interval(0.0, 1.0))


def test_wrong_malformed_failed_and_unscored_are_counted_apart() -> None:
    tally = Tally(candidate="c")
    outcomes = (
        Score.of(1.0),
        Score.of(0.5),
        Score.of(0.0),
        Score.of(1.0, 0.0),
        Score.unscored("judge asleep"),
        Score.failed("no answer"),
    )
    for score in outcomes:
        tally.add(sample(score))
    found = line(tally)
    assert (found.right, found.partial, found.wrong, found.malformed) == (1, 1, 1, 1)
    assert (found.unscored, found.failed, found.calls, found.judged) == (1, 1, 6, 4)
    assert found.lenient == pytest.approx(2.5 / 4)
    assert found.strict == pytest.approx(1.5 / 4)


def test_nobody_asked_is_no_figure_at_all() -> None:
    found = line(Tally(candidate="c"))
    assert (found.lenient, found.strict, found.latency_ms_median, found.cost_per_1000_micros) == (None,) * 4
    assert found.cost_micros == 0


def test_one_unknown_price_makes_the_cost_unknown() -> None:
    tally = Tally(candidate="c")
    tally.add(sample(Score.of(1.0)))
    assert line(tally).cost_per_1000_micros == 10_000
    tally.add(sample(Score.of(1.0), price_micros=None, cost_micros=None))
    assert (line(tally).cost_micros, line(tally).cost_per_1000_micros, tally.price_micros) == (
        None,
        None,
        None,
    )


def test_failures_in_a_row_begin_anew_with_an_answer() -> None:
    tally = Tally(candidate="c")
    for score in (Score.failed(""), Score.failed(""), Score.of(0.0), Score.failed("")):
        tally.add(sample(score))
    assert tally.failures_in_a_row == 1


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40))
def test_the_median_of_latencies_is_the_median(latencies: list[float]) -> None:
    tally = Tally(candidate="c")
    for latency_ms in latencies:
        tally.add(sample(Score.of(1.0), latency_ms=latency_ms))
    assert line(tally).latency_ms_median == pytest.approx(statistics.median(latencies))
