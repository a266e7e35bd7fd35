from __future__ import annotations

import math
import subprocess
import sys
from bisect import bisect_left
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from baimo.core.money import Price
from baimo.core.tenant import Limit
from baimo.errors import Overloaded
from baimo.server import scrape
from baimo.server.metrics import LONG_S, MOST_PROVEN, QUICK_S, TABLE, Histogram, Labels, Metrics, add
from baimo.server.snapshots import Snapshot, Snapshots, Sum
from baimo.store.entry import Entry
from tests.gateway.doubles import House, Script, answer, asking, key, model, stream
from tests.server.served import Served, served


def listed(name: str) -> bool:
    return name.startswith(("acme/", "bolt/"))


def counted(metrics: Metrics) -> dict[Labels, Any]:
    return {labels: value for labels, value in metrics.counters().items() if value}


def entry(**facts: Any) -> Entry:
    given = {
        "id": "r",
        "surface": "chat",
        "model": "acme/one",
        "route": "direct",
        "attempts": 1,
        "latency_ms": 1.0,
    }
    usual = {"tokens_in": 3, "tokens_out": 2, "cost_micros": 7, "cost_rest": 0, "http_status": 200}
    return Entry(**{**given, **usual, **facts})


def test_a_call_is_counted_with_its_tokens_its_exact_cost_and_its_times() -> None:
    metrics = Metrics(listed)
    house = House(Script(body=answer(tokens_in=10, tokens_out=5)), observer=metrics)
    for _ in range(3):
        house.ask()
    assert counted(metrics) == {
        ("baimo_requests_total", "chat", "acme/one", "ok"): 3,
        ("baimo_routed_total", "direct"): 3,
        ("baimo_tokens_total", "input", "acme/one"): 30,
        ("baimo_tokens_total", "output", "acme/one"): 15,
        ("baimo_cost_micros_total", "acme/one", "USD"): 3 * (10 * 1 + 5 * 2),
    }
    times = metrics.histograms()
    assert sum(times["baimo_request_seconds", "chat", "acme/one"].counts) == 3
    assert sum(times["baimo_gateway_overhead_seconds", "chat"].counts) == 3
    assert sum(times["baimo_ttft_seconds", "chat", "acme/one"].counts) == 0  # no stream, no first piece


def test_costs_below_a_micro_unit_add_up_exactly() -> None:
    metrics, house = Metrics(listed), House()
    grant: Any = house  # only odd calls look at it
    for _ in range(1000):
        metrics.settled(house.call(), grant, entry(cost_micros=0, cost_rest=16_200), 0.0)
    assert metrics.counters()["baimo_cost_micros_total", "acme/one", "USD"] == 16.2


def test_a_streams_first_piece_is_timed() -> None:
    metrics = Metrics(listed)
    House(stream("a", "b"), observer=metrics).ask(asking(stream=True))
    assert sum(metrics.histograms()["baimo_ttft_seconds", "chat", "acme/one"].counts) == 1


def test_what_went_wrong_on_the_way_is_counted() -> None:
    metrics = Metrics(listed)
    house = House(
        by_model={"one": Script(status=500, body=b"x"), "three": Script(body=answer())},
        config={"routes": {"best": {"models": ["acme/one", "bolt/three"]}}, "serve": {"breaker_failures": 1}},
        observer=metrics,
    )
    house.ask(asking("best"))
    found = counted(metrics)
    assert found["baimo_fallbacks_total", "error"] == 1
    assert found["baimo_failed_attempts_total", "acme/one", "error"] == 1
    assert found[("baimo_retries_total",)] == 1
    assert found["baimo_upstream_opened_total", "acme/one"] == 1
    assert found["baimo_requests_total", "chat", "bolt/three", "ok"] == 1
    assert metrics.troubled == {"acme/one"}


def test_an_unknown_price_and_a_missing_usage_are_counted_and_never_as_zero() -> None:
    metrics = Metrics(listed)
    House(Script(body=answer()), observer=metrics).ask(asking("acme/unpriced"))
    found = counted(metrics)
    assert found["baimo_unpriced_requests_total", "acme/unpriced"] == 1
    assert found["baimo_tokens_total", "input", "acme/unpriced"] == 10
    assert not found.get(("baimo_cost_micros_total", "acme/unpriced", "USD"))
    metrics = Metrics(listed)
    House(Script(body=answer(usage=None)), observer=metrics).ask()
    found = counted(metrics)
    assert found["baimo_uncounted_requests_total", "acme/one"] == 1
    assert not found.get(("baimo_unpriced_requests_total", "acme/one"))


def test_where_only_calls_are_billed_the_cost_counts_and_the_tokens_are_unknown() -> None:
    price = Price(input_per_million=Decimal(0), output_per_million=Decimal(0), per_call=Decimal("0.01"))
    metrics = Metrics(listed)
    House(
        Script(body=answer(usage=None)),
        observer=metrics,
        more_models=[model("acme/counted", price=price)],
    ).ask(asking("acme/counted"))
    found = counted(metrics)
    assert found["baimo_cost_micros_total", "acme/counted", "USD"] == 10_000
    assert found["baimo_uncounted_requests_total", "acme/counted"] == 1
    assert not found.get(("baimo_unpriced_requests_total", "acme/counted"))


def test_cache_hits_are_counted_by_kind() -> None:
    metrics = Metrics(listed)
    house = House(Script(body=answer()), config={"policy": {"cache": "on"}}, observer=metrics)
    house.ask(asking(temperature=0))
    house.ask(asking(temperature=0))
    found = counted(metrics)
    assert found["baimo_cache_hits_total", "exact"] == 1
    assert found["baimo_routed_total", "cache"] == 1
    assert found["baimo_tokens_total", "input", "acme/one"] == 10


def test_refused_calls_are_counted_by_reason() -> None:
    metrics = Metrics(listed)
    house = House(Script(body=answer()), observer=metrics)
    house.ask(asking("nobody/nothing"))
    metrics.refused(Overloaded("gateway.full", limit=1), "chat", key(), house.tenant, house.call())
    found = counted(metrics)
    assert found["baimo_refused_total", "chat", "gateway.unknown"] == 1
    assert found["baimo_refused_total", "chat", "gateway.full"] == 1


def test_names_that_clients_make_up_never_become_labels() -> None:
    metrics, house = Metrics(listed), House()
    grant: Any = house
    for number in range(3000):
        made_up = entry(model=f"ollama/{number}", status="providers.refused", http_status=404)
        metrics.settled(house.call(), grant, made_up, 0.0)
        metrics.breaker(f"ollama/{number}", "open")
    found = counted(metrics)
    assert found["baimo_requests_total", "chat", "ollama/other", "providers.refused"] == 3000
    assert found["baimo_upstream_opened_total", "ollama/other"] == 3000
    assert not [
        labels
        for labels in found
        if any(one.startswith("ollama/") and one != "ollama/other" for one in labels)
    ]
    assert not metrics.troubled


def test_a_model_that_is_in_no_list_becomes_a_label_once_it_has_answered_but_not_without_end() -> None:
    metrics, house = Metrics(listed), House()
    grant: Any = house
    for number in range(MOST_PROVEN + 50):
        metrics.settled(house.call(), grant, entry(model=f"ollama/{number}"), 0.0)
    found = counted(metrics)
    assert found["baimo_requests_total", "chat", "ollama/0", "ok"] == 1
    assert found["baimo_requests_total", "chat", "ollama/other", "ok"] == 50


@given(st.lists(st.floats(0, 1000), max_size=50))
def test_every_time_is_in_the_bucket_of_its_bound_and_in_all_above(times: list[float]) -> None:
    histogram = Histogram(LONG_S)
    for one in times:
        histogram.counts[bisect_left(LONG_S, one)] += 1
    buckets = dict(scrape._cumulated(LONG_S, histogram))
    for bound in LONG_S:
        assert buckets[str(bound)] == sum(one <= bound for one in times)
    assert buckets["+Inf"] == len(times)


def test_buckets_of_another_version_are_left_out() -> None:
    found: dict[Labels, Histogram] = {}
    labels = ("baimo_gateway_overhead_seconds", "chat")
    add(found, labels, [1] * (len(QUICK_S) + 1), 2.0)
    add(found, labels, [1, 1, 1], 2.0)
    assert found[labels].total_s == 2.0


# several workers


def said(id: str, count: int, in_flight: int = 0, lag: float = 0.0) -> Snapshot:
    return Snapshot(
        id,
        1,
        [(("baimo_requests_total", "chat", "acme/one", "ok"), count), (("baimo_gone_total",), 5)],
        [(("baimo_request_seconds", "chat", "acme/one"), [count] + [0] * len(LONG_S), float(count))],
        [(("baimo_in_flight",), in_flight), (("baimo_ledger_lag_seconds",), lag)],
    )


REQUESTS: Labels = ("baimo_requests_total", "chat", "acme/one", "ok")


def test_whichever_worker_is_asked_it_tells_the_sum_of_all(tmp_path: Path) -> None:
    first, second = Snapshots(tmp_path, pid=11), Snapshots(tmp_path, pid=12)
    second.write(said(second.id, 5, in_flight=2, lag=0.5))
    found = first.sum(said(first.id, 3, in_flight=1, lag=2.0))
    assert found.counters == {REQUESTS: 8}  # a metric of another version is not told
    assert found.gauges == {("baimo_in_flight",): 3, ("baimo_ledger_lag_seconds",): 2.0}
    assert found.histograms["baimo_request_seconds", "chat", "acme/one"].total_s == 8.0
    # what one has shown, another does not take back
    assert second.sum(said(second.id, 5)).counters == {REQUESTS: 8}


def test_what_a_worker_counted_outlives_it_and_is_taken_once(tmp_path: Path) -> None:
    first, second = Snapshots(tmp_path, pid=11), Snapshots(tmp_path, pid=12)
    second.write(said(second.id, 5, in_flight=2))
    second.close()
    for _ in range(3):
        found = first.sum(said(first.id, 3))
        assert found.counters == {REQUESTS: 8}
        assert found.gauges["baimo_in_flight",] == 0
    again = Snapshots(tmp_path, pid=12)  # a process id comes again
    assert again.sum(said(again.id, 1)).counters == {REQUESTS: 9}
    for one in (first, again):
        one.close()
    assert Snapshots(tmp_path, pid=13).sum(said("x", 0)).counters == {REQUESTS: 9}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "metrics-13.bin",
        "metrics-13.lock",
        "metrics-past.bin",
        "metrics.lock",
    ]


def test_a_death_between_taking_and_removing_is_not_counted_twice(tmp_path: Path) -> None:
    first, second = Snapshots(tmp_path, pid=11), Snapshots(tmp_path, pid=12)
    second.write(said(second.id, 5))
    file = tmp_path / "metrics-12.bin"
    kept = file.read_bytes()
    second.close()
    file.write_bytes(kept)  # as if its removal had not happened
    (tmp_path / "metrics-12.lock").touch()
    assert first.sum(said(first.id, 3)).counters == {REQUESTS: 8}


def test_a_file_that_cannot_be_read_counts_for_nothing(tmp_path: Path) -> None:
    first = Snapshots(tmp_path, pid=11)
    (tmp_path / "metrics-12.bin").write_bytes(b"\x93 torn")
    (tmp_path / "metrics-past.bin").write_bytes(b"")
    assert first.sum(said(first.id, 3)).counters == {REQUESTS: 3}


WORKER = """
import os, sys
from pathlib import Path
from baimo.server.snapshots import Snapshot, Snapshots
mine = Snapshots(Path(sys.argv[1]))
for count in range(1, 1001):
    mine.write(Snapshot(mine.id, mine.pid, [(("baimo_requests_total", "chat", "acme/one", "ok"), count)]))
print(count, flush=True)
sys.stdin.read()
"""


def test_counters_never_go_back_when_a_process_is_killed(tmp_path: Path) -> None:
    first = Snapshots(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    seen = [0]
    try:
        while seen[-1] < 1000:
            seen.append(int(first.sum(said(first.id, 0)).counters[REQUESTS]))
            assert process.poll() is None
        assert process.stdout is not None and process.stdout.readline() == "1000\n"
    finally:
        process.kill()
        process.communicate()
    seen += [int(first.sum(said(first.id, 0)).counters[REQUESTS]) for _ in range(3)]
    assert seen == sorted(seen)
    assert seen[-1] == 1000
    assert not (tmp_path / f"metrics-{process.pid}.bin").exists()


# the page


def test_the_lag_is_the_age_of_the_oldest_call_that_is_not_in_the_database() -> None:
    lag = scrape.Lag()
    assert lag.seen(0.0, 0, 0) == 0.0
    assert lag.seen(1.0, 10, 0) == 0.0
    assert lag.seen(2.0, 20, 10) == 0.0
    assert lag.seen(3.0, 25, 15) == 1.0
    assert lag.seen(9.0, 25, 5) == 6.0
    assert lag.seen(10.0, 25, 0) == 0.0


def families(body: bytes) -> dict[str, list[Any]]:
    return {one.name: one.samples for one in text_string_to_metric_families(body.decode())}


def test_the_page_is_one_that_prometheus_reads_with_every_metric_of_the_table() -> None:
    found = Sum()
    found.add(said("x", 4, in_flight=1), gauges=True)
    body, content_type = scrape.rendered(found, {("baimo_budget_remaining_micros", "k", "month"): 5}, "")
    assert content_type.startswith("text/plain")
    read = families(body)
    assert set(read) == {metric.name.removesuffix("_total") for metric in TABLE}
    assert [sample.value for sample in read["baimo_requests"]] == [4]
    assert read["baimo_request_seconds"][-1].value == 4.0
    infinite = next(one for one in read["baimo_request_seconds"] if one.labels.get("le") == "+Inf")
    assert infinite.value == 4
    assert read["baimo_build_info"][0].labels["version"]
    openmetrics, content_type = scrape.rendered(found, {}, "application/openmetrics-text; version=1.0.0")
    assert openmetrics.endswith(b"# EOF\n") and "openmetrics" in content_type


def test_every_metric_has_a_meaning_and_names_that_prometheus_takes() -> None:
    assert len({metric.name for metric in TABLE}) == len(TABLE)
    for metric in TABLE:
        assert metric.name.startswith("baimo_") and metric.means.endswith(".")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert bool(metric.bounds) == (metric.kind == "histogram")
        assert list(metric.bounds) == sorted(metric.bounds) and all(map(math.isfinite, metric.bounds))


def scraped(house: Served, key: str | None = None) -> dict[str, list[Any]]:
    said = house.call("GET", "/metrics", key or house.key(role="viewer"))
    assert said.status == 200
    return families(said.body)


def test_a_served_endpoint_tells_its_calls_and_what_is_left_of_budgets(tmp_path: Path) -> None:
    with served(tmp_path) as house:
        rich = house.key(limits=(Limit(counts="cost", amount=1_000_000, window="month"),))
        assert house.chat(rich).status == 200
        assert house.chat("bm-nobodynobody-" + "x" * 48).status == 401
        house.recorded(1)
        found = scraped(house)
        (budget,) = found["baimo_budget_remaining_micros"]
        (cost,) = found["baimo_cost_micros"]
        assert budget.labels == {"key": rich.split("-")[1], "window": "month"}
        assert cost.value > 0
        assert 1_000_000 - budget.value == math.ceil(cost.value)
        (requests,) = found["baimo_requests"]
        assert (requests.labels["model"], requests.value) == ("acme/small", 1)
        reasons = {one.labels["reason"]: one.value for one in found["baimo_refused"]}
        assert reasons == {"gateway.unknown_key": 1}
        assert found["baimo_ledger_ok"][0].value == 1
        assert found["baimo_journal_bytes"][0].value > 0
        page = house.call("GET", "/metrics", house.key(role="viewer")).body.decode()
        assert rich.split("-")[2] not in page


def test_what_cannot_be_read_as_a_request_is_counted(tmp_path: Path) -> None:
    with served(tmp_path) as house:
        house.raw(b"GET / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n")
        (one,) = scraped(house)["baimo_rejected"]
        assert (one.labels, one.value) == ({"reason": "lane.not_http"}, 1)


@pytest.mark.parametrize("role", ["app", "viewer"])
def test_where_metrics_want_a_key_it_is_one_of_the_workspace_itself(tmp_path: Path, role: Any) -> None:
    with served(tmp_path) as house:
        house.tenant("sales")
        ours, theirs = house.key(role=role), house.key(role=role, tenant="sales")
        assert house.call("GET", "/metrics").status == 401
        assert house.call("GET", "/metrics", theirs).status == 403
        assert house.call("GET", "/metrics", ours).status == (200 if role == "viewer" else 403)
