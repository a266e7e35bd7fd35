"""What an operator sees of `baimo serve` with two workers, while one of them is killed."""

from __future__ import annotations

import os
import signal
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.test_serve import CONFIG, client
from tests.serving import Endpoint, serving
from tests.upstream import TOKENS_IN, TOKENS_OUT, upstream
from tests.waiting import PATIENCE_S, until


def scraped(endpoint: Endpoint) -> dict[str, float]:
    """Counters and gauges, summed over their labels, by whichever worker takes the connection."""
    asked = urllib.request.Request(f"{endpoint.address}/metrics")
    asked.add_header("authorization", f"Bearer {endpoint.key}")
    with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:
        body = answer.read().decode()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(body):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def ask(endpoint: Endpoint, times: int) -> None:
    for _ in range(times):  # a connection of its own each time: either worker may take it
        with client(endpoint) as one:
            one.chat.completions.create(model="fast", messages=[{"role": "user", "content": "hello"}])


@pytest.mark.slow
def test_counts_of_two_workers_agree_with_the_ledger_and_outlive_one_that_is_killed(tmp_path: Path) -> None:
    with (
        upstream() as model,
        serving(
            tmp_path / "w",
            CONFIG.format(address=model.address) + '[observe]\nlog = "json"\naccess_log = true\n',
            "--workers",
            "2",
            environment={"MOCK_KEY": "sk-canary-1234567890"},
        ) as endpoint,
    ):
        until(lambda: scraped(endpoint)["baimo_workers"] == 2)
        ask(endpoint, 20)
        until(lambda: scraped(endpoint).get("baimo_requests_total") == 20)
        before = scraped(endpoint)
        assert before["baimo_tokens_total"] == 20 * (TOKENS_IN + TOKENS_OUT)
        records = endpoint.settled(20)
        exact = sum(one["cost_micros"] * 10**6 + one["cost_rest"] for one in records)
        assert before["baimo_cost_micros_total"] == pytest.approx(exact / 10**6)
        victim = next(
            int(path.stem.rpartition("-")[2])
            for path in (endpoint.folder / ".baimo" / "run").glob("metrics-[0-9]*.bin")
        )
        os.kill(victim, signal.SIGKILL)
        for _ in range(20):
            now = scraped(endpoint)
            assert now["baimo_requests_total"] == 20
            assert now["baimo_cost_micros_total"] >= before["baimo_cost_micros_total"]
        until(lambda: scraped(endpoint)["baimo_workers"] == 2)  # uvicorn starts another
        ask(endpoint, 5)
        until(lambda: scraped(endpoint)["baimo_requests_total"] == 25)
        said = endpoint.log.read_text()
        assert said.count('"message":"call"') == 25
        assert "sk-canary-1234567890" not in said and "hello" not in said
    with serving(tmp_path / "w", CONFIG.format(address="http://127.0.0.1:9/v1")) as endpoint:
        assert scraped(endpoint)["baimo_requests_total"] == 25  # a restart is no reason to go back
