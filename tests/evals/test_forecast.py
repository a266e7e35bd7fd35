from __future__ import annotations

from typing import Any

import pytest

from baimo.core.verdict import Forecast, Interval
from baimo.evals.forecast import calls_until_certain, forecast

QUESTION: dict[str, Any] = {
    "epsilon": 0.01,
    "delta": 0.05,
    "assurance": "guaranteed",
    "decision": "best",
    "target": "set",
    "seed": 0,
}


def made(**more: Any) -> Forecast:
    facts: dict[str, Any] = {
        "calls": Interval(100, 200),
        "calls_exhaustive": 1000,
        "stored": 0,
        "prices_micros": [10.0, 30.0],
        "latencies_s": [1.0, 1.0],
        "at_once": 10,
        "currency": "USD",
        "unpriced": (),
    }
    return forecast(**{**facts, **more})


def test_calls_lie_between_one_and_everything() -> None:
    calls = calls_until_certain(4, 50, **QUESTION)
    assert 4 <= calls.low <= calls.high <= 200


def test_one_candidate_or_an_exhaustive_run_takes_everything() -> None:
    assert calls_until_certain(1, 50, **QUESTION) == Interval(50, 50)
    assert calls_until_certain(4, 50, exhaustive=True, **QUESTION) == Interval(200, 200)


def test_a_forecast_is_a_function_of_its_seed() -> None:
    assert calls_until_certain(3, 40, **QUESTION) == calls_until_certain(3, 40, **QUESTION)


def test_an_unknown_price_makes_money_unknown_and_not_nothing() -> None:
    found = made(prices_micros=[10.0, None], unpriced=("vendor/model",))
    assert (found.cost_micros, found.cost_exhaustive_micros) == (None, None)


def test_money_is_calls_times_prices() -> None:
    found = made()
    assert found.cost_micros is not None
    assert found.cost_micros.high == pytest.approx(200 * 20)
    assert found.cost_exhaustive_micros == 20_000


def test_what_is_stored_costs_neither_money_nor_time() -> None:
    found = made(stored=1000)
    assert found.cost_micros == Interval(0, 0)
    assert found.minutes == Interval(0, 0)


def test_a_latency_that_was_never_seen_makes_the_time_less_certain() -> None:
    seen, unseen = made(latencies_s=[2.0, 2.0]), made(latencies_s=[None, None])
    assert unseen.minutes.low < seen.minutes.low
    assert unseen.minutes.high > seen.minutes.high


def test_nothing_to_compare_on_takes_nothing() -> None:
    assert made(calls=Interval(0, 0), calls_exhaustive=0).minutes == Interval(0, 0)
