"""Runs that were stopped, killed or starved go on where they were, and pay for nothing twice."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from baimo.core.verdict import Verdict
from baimo.errors import ProviderError, UsageError
from baimo.evals.options import CompareOptions
from baimo.workspace.workspace import Workspace
from tests.e2e.scripted import (
    Behaviour,
    Listener,
    Server,
    priced,
    sent,
    skilled,
    started,
    write_settings,
    write_task,
)
from tests.waiting import PATIENCE_S, until

MODELS: dict[str, Behaviour] = {
    "good": skilled(0.9, "good"),
    "fair": skilled(0.75, "fair"),
    "poor": skilled(0.5, "poor"),
    "bad": skilled(0.2, "bad"),
}
NAMES = tuple(f"board/{name}" for name in MODELS)
PRICES = priced(*NAMES)
COMMAND = ("compare", "task", "--json", "-q", *(word for name in NAMES for word in ("--model", name)))
RESUME = ("compare", "--resume", "last", "--json", "-q")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_task(tmp_path / "task")
    return tmp_path


def options(place: Path, **more: Any) -> CompareOptions:
    return CompareOptions(**{"task": str(place / "task"), "model": NAMES, **more})


def essence(verdict: Verdict) -> dict[str, Any]:
    """What must not depend on how often the run was stopped."""
    return {
        "winner": verdict.winner,
        "stopped": verdict.stopped,
        "calls": verdict.calls,
        "paid": (verdict.calls_paid, verdict.cost_micros, verdict.cost_exhaustive_micros),
        "slices": verdict.slices,
        "lines": [
            (line.candidate, line.tier, line.score, line.interval, line.right, line.cost_micros, line.calls)
            for line in verdict.standings
        ],
    }


def uninterrupted(place: Path, server: Server, **more: Any) -> dict[str, Any]:
    """What a run says that nothing happens to, in a workspace of its own."""
    write_settings(place / "whole", ("board", server, "retries = 0"), prices=PRICES)
    with Workspace(place / "whole") as workspace:
        return essence(workspace.compare(options(place, **more)))


@pytest.fixture
def server(place: Path) -> Iterator[Server]:
    with Server(MODELS) as running:
        write_settings(place, ("board", running, "retries = 0"), prices=PRICES)
        yield running


def test_ctrl_c_gives_a_verdict_and_resume_the_whole_one(place: Path, server: Server) -> None:
    wanted = uninterrupted(place, server, exhaustive=True)
    server.latency_s = 0.05
    before = server.requests
    process = started(place, *COMMAND, "--exhaustive")
    until(lambda: server.requests - before > 100)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    stopped = json.loads(out)
    assert stopped["stopped"] == "interrupted"
    assert 0 < stopped["calls"] < 240
    with Workspace(place) as workspace:
        assert workspace.run("last").status == "stopped"
        assert sent(workspace) == server.requests - before
        server.latency_s = 0.0
        verdict = workspace.compare(CompareOptions(task="", resume="last"))
        assert verdict.run == stopped["run"]["id"]
        assert workspace.run("last").status == "done"
        assert len(workspace.store.samples(verdict.run)) == 240
        assert sent(workspace) == server.requests - before
    found = essence(verdict)
    # the calls that were given up stay on the bill; everything else is as if nothing had happened
    assert found.pop("paid")[0] >= wanted.pop("paid")[0]
    assert found == wanted


@pytest.mark.parametrize("again", [COMMAND, RESUME])
def test_after_kill_9_only_calls_under_way_are_made_again(
    place: Path, server: Server, again: tuple[str, ...]
) -> None:
    wanted = uninterrupted(place, server)
    server.answered.clear()
    server.attempts.clear()
    server.latency_s = 0.05
    process = started(place, *COMMAND)
    until(lambda: server.requests > 40)
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    with Workspace(place) as workspace:
        stored = sum(record.status == "ok" for record in workspace.store.records())
    until(lambda: server.answered.total() == server.requests)  # it answers into the void
    lost = server.requests - stored
    assert lost <= 16
    server.latency_s = 0.0
    process = started(place, *again)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert sum(count - 1 for count in server.answered.values()) <= lost
    assert server.requests == wanted["calls"] + lost
    with Workspace(place) as workspace:
        verdict = workspace.store.verdict(json.loads(out)["run"]["id"])
    assert verdict is not None
    found = essence(verdict)
    if again == COMMAND:  # a run of its own, which has paid for the rest only
        assert found["paid"][0] == wanted["calls"] - stored
        for part in (found, wanted):
            part["paid"] = None
            part["lines"] = [line[:5] + line[6:] for line in part["lines"]]
    assert found == wanted


def test_a_server_that_dies_is_told_and_the_run_goes_on_when_it_is_back(place: Path, server: Server) -> None:
    wanted = uninterrupted(place, server)
    server.answered.clear()
    server.attempts.clear()
    server.dies_after = 30
    with Workspace(place) as workspace:
        with pytest.raises(ProviderError) as caught:
            workspace.compare(options(place))
        assert workspace.run("last").id in caught.value.hint
        assert sent(workspace) == server.requests
        server.dies_after = None
        verdict = workspace.compare(CompareOptions(task="", resume="last"))
        assert sent(workspace) == server.requests
    found = essence(verdict)
    assert found.pop("paid")[0] > wanted.pop("paid")[0]  # failed calls stay on the bill
    assert found == wanted
    assert max(server.answered.values()) == 1


def test_a_run_out_of_calls_goes_on_with_a_higher_limit(place: Path, server: Server) -> None:
    wanted = uninterrupted(place, server)
    with Workspace(place) as workspace:
        first = workspace.compare(options(place, max_calls=20))
        assert (first.stopped, first.calls_paid) == ("max_calls", 20)
        same = workspace.compare(CompareOptions(task="", resume="last"))
        assert essence(same) == essence(first)
        more = workspace.compare(CompareOptions(task="", resume=first.run, max_calls=45))
        assert (more.stopped, more.calls_paid) == ("max_calls", 45)
        verdict = workspace.compare(CompareOptions(task="", resume=first.run, max_calls=10_000))
    assert (verdict.winner, verdict.stopped) == (wanted["winner"], "certain")
    assert max(server.answered.values()) <= 2  # once for each workspace


def test_a_run_out_of_money_goes_on_with_more_and_never_overruns_it(place: Path, server: Server) -> None:
    with Workspace(place) as workspace:
        first = workspace.compare(options(place, max_cost=6.0, exhaustive=True))
        assert first.stopped == "max_cost"
        assert first.cost_micros is not None
        assert first.cost_micros <= 6_000_000
        same = workspace.compare(CompareOptions(task="", resume="last"))
        assert essence(same) == essence(first)
        more = workspace.compare(CompareOptions(task="", resume="last", max_cost=12.0))
        assert more.cost_micros is not None
        assert first.cost_micros < more.cost_micros <= 12_000_000
        assert more.cost_micros == sum(record.cost_micros or 0 for record in workspace.store.records())
    assert max(server.answered.values()) == 1


def test_a_finished_run_that_is_resumed_says_the_same_and_asks_nothing(place: Path, server: Server) -> None:
    with Workspace(place) as workspace:
        verdict = workspace.compare(options(place))
        asked = server.requests
        assert essence(workspace.compare(CompareOptions(task="", resume="last"))) == essence(verdict)
    assert server.requests == asked


def test_a_run_goes_on_with_the_task_as_it_was_and_says_that_it_has_changed(
    place: Path, server: Server
) -> None:
    wanted = uninterrupted(place, server)
    listener = Listener()
    with Workspace(place) as workspace:
        workspace.compare(options(place, max_calls=20))
        write_task(place / "task", examples=7)
        limits = {"max_calls": 10_000}
        verdict = workspace.compare(CompareOptions(task="", resume="last", **limits), listener)
        assert verdict.examples == 60
        assert verdict.winner == wanted["winner"]
        assert any("changed" in notice for notice in listener.notices)
        (place / "task" / "task.toml").unlink()
        assert workspace.compare(CompareOptions(task="", resume="last", **limits)).winner == verdict.winner


def test_a_run_goes_on_with_the_candidates_that_it_had(place: Path, server: Server) -> None:
    with Workspace(place) as workspace:
        workspace.compare(options(place, max_calls=20, model=("board/*",)))
    write_settings(place, ("board", server, ""), prices=PRICES + priced("board/newcomer"))
    with Workspace(place) as workspace:
        verdict = workspace.compare(CompareOptions(task="", resume="last", max_calls=10_000))
    assert {line.candidate for line in verdict.standings} == set(NAMES)


def test_there_is_nothing_to_resume_in_an_empty_workspace(place: Path, server: Server) -> None:
    with Workspace(place) as workspace, pytest.raises(UsageError, match="last"):
        workspace.compare(CompareOptions(task="", resume="last"))
    assert server.requests == 0


def test_a_second_comparison_of_the_same_task_costs_nothing(place: Path, server: Server) -> None:
    with Workspace(place) as workspace:
        first = workspace.compare(options(place))
        asked = server.requests
        second = workspace.compare(options(place))
    assert server.requests == asked
    assert (second.calls_paid, second.cost_micros) == (0, 0)
    assert second.calls == first.calls
    assert second.cost_exhaustive_micros == first.cost_exhaustive_micros
