"""The C tools under the gateway benchmark: what they count must be what happened."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import PATIENCE_S

SOURCES = Path(__file__).parents[2] / "benchmarks" / "gateway"

pytestmark = pytest.mark.skipif(
    not (SOURCES.is_dir() and shutil.which("gcc") and shutil.which("make")),
    reason="needs the benchmarks, gcc and make",
)


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tools")
    subprocess.run(["make", "--silent", "-C", str(SOURCES), f"BUILD={folder}"], check=True)
    return folder


@contextmanager
def upstream(tools: Path, *options: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen([tools / "upstream", "--port", str(port), *options]) as process:
        for _ in range(5000):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        try:
            yield port, process
        finally:
            process.kill()


def load(tools: Path, port: int, *options: str | Path) -> dict[str, Any]:
    command = [tools / "load", "--port", str(port), *options]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    return json.loads(done.stdout.splitlines()[-1])


def asked(port: int) -> dict[str, int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/count", timeout=10) as reply:
        return json.load(reply)


def test_the_client_counts_the_answers_that_the_mock_gave(tools: Path) -> None:
    with upstream(tools) as (port, _):
        found = load(tools, port, "--body", SOURCES / "body.json", "--concurrency", "8", "--requests", "500")
        assert 500 <= found["answered"] <= asked(port)["answers"] <= found["answered"] + 8
        assert found["errors"] == found["without_usage"] == found["chunks"] == 0


@pytest.mark.parametrize("group", ["1", "3", "64"])
def test_events_of_a_stream_are_counted_however_they_are_cut(tools: Path, group: str) -> None:
    with upstream(tools, "--group", group) as (port, _):
        body = SOURCES / "body_stream.json"
        found = load(tools, port, "--stream", "--body", body, "--concurrency", "4", "--requests", "200")
        assert found["chunks_per_answer"] == 65  # 64 and [DONE]
        assert found["errors"] == found["without_usage"] == found["without_done"] == 0


def test_a_mock_with_a_models_pace_takes_the_time_that_the_tokens_take(tools: Path, tmp_path: Path) -> None:
    arrivals, took = tmp_path / "arrivals", tmp_path / "took"
    arrivals.write_text("0 40000 10\n1000 10 100\n2000 10 1\n")
    with upstream(tools, "--first-us", "20000", "--token-us", "1000") as (port, _):
        found = load(tools, port, "--arrivals", arrivals, "--each", took)
        whole = [float(line.split()[0]) for line in took.read_text().splitlines()]
        assert found["errors"] == 0
        assert whole[0] >= 30_000
        assert whole[1] >= 120_000
        assert whole[2] >= 21_000
        streamed = load(tools, port, "--stream", "--arrivals", arrivals, "--each", took)
        first, last = (float(part) for part in took.read_text().splitlines()[1].split()[::-1])
        assert first >= 20_000
        assert last >= max(first, 120_000)  # what is read late may be read together
        assert streamed["chunks"] == (10 + 100 + 1) + 3 * 4  # role, finish, usage and [DONE] of each
        assert streamed["without_done"] == 0


def test_what_a_stalled_server_kept_waiting_is_not_omitted(tools: Path, tmp_path: Path) -> None:
    arrivals = tmp_path / "arrivals"
    arrivals.write_text("".join(f"{number * 5000} 10 1\n" for number in range(300)))  # one and a half seconds
    with upstream(tools) as (port, process):
        command = [tools / "load", "--port", str(port), "--arrivals", arrivals]
        with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as client:
            while asked(port)["answers"] < 20:
                time.sleep(0.01)
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.4)
            process.send_signal(signal.SIGCONT)
            assert client.stdout
            found = json.loads(client.stdout.read())
    assert found["answered"] == 300
    assert found["max_us"] >= 300_000
    assert (
        found["p90_us"] >= 100_000
    )  # some eighty requests fell due meanwhile: one slow answer would not show here


def test_silent_connections_are_counted_while_others_are_served(tools: Path) -> None:
    with upstream(tools) as (port, _):
        found = load(tools, port, "--body", SOURCES / "body.json", "--requests", "100", "--idle", "200")
        assert (found["idle_opened"], found["idle_open_at_end"], found["errors"]) == (200, 200, 0)


def test_a_refusal_is_an_error_and_says_what_came_back(tools: Path) -> None:
    with upstream(tools) as (port, process):
        process.kill()
        process.wait()
        found = load(tools, port, "--body", SOURCES / "body.json", "--seconds", "0.2")
    assert found["answered"] == 0
    assert found["errors"] > 0
    assert "cannot connect" in found["first_error"]
