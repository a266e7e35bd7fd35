"""Comparisons over HTTP, from the task folder to the verdict, with a server that misbehaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from baimo.core.run import Outcome
from baimo.errors import ConfigError, ProviderError, ScorerError, UsageError
from baimo.evals.options import CompareOptions
from baimo.workspace.workspace import Workspace
from tests.e2e.scripted import (
    Listener,
    Server,
    broken,
    priced,
    sent,
    shaky,
    skilled,
    started,
    write_settings,
    write_task,
)
from tests.waiting import PATIENCE_S

MODELS = {"org/good@v1": 0.95, "fair": 0.7, "poor": 0.4, "bad": 0.1}
"""Names as vendors have them, slashes and signs included."""
NAMES = tuple(f"board/{name}" for name in MODELS)


def four(rate: float = 0.0) -> dict[str, object]:
    return {name: shaky(skilled(share, name), rate) for name, share in MODELS.items()}  # type: ignore[misc]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_task(tmp_path / "task")
    return tmp_path


def options(place: Path, **more: object) -> CompareOptions:
    given = {"task": str(place / "task"), "model": NAMES, **more}
    return CompareOptions(**given)  # type: ignore[arg-type]


def test_the_best_model_wins_and_the_ledger_has_every_request_the_server_saw(place: Path) -> None:
    with Server(four()) as server:
        write_settings(place, ("board", server, ""))
        with Workspace(place) as workspace:
            verdict = workspace.compare(options(place))
            assert verdict.winner == "board/org/good@v1"
            assert verdict.certain
            assert verdict.calls == verdict.calls_paid == sent(workspace) == server.requests
            assert verdict.calls < verdict.calls_exhaustive == 240
            assert max(server.answered.values()) == 1
            assert set(verdict.slices["parity"]) == {"even", "odd"}


def test_faults_on_the_wire_never_count_against_a_model(place: Path) -> None:
    with Server(four(rate=0.15)) as server:
        write_settings(place, ("board", server, "retries = 0"))
        with Workspace(place) as workspace:
            verdict = workspace.compare(options(place, exhaustive=True))
            assert verdict.winner == "board/org/good@v1"
            assert sent(workspace) == server.requests > verdict.calls
            samples = workspace.store.samples(verdict.run)
            assert len(samples) == 240
            for sample in samples:
                model, prompt = (
                    sample.candidate.removeprefix("board/"),
                    f"{sample.example} + {7 * int(sample.example)}?",
                )
                if sample.error:
                    assert sample.score.outcome is Outcome.FAILED
                    assert sample.score.lenient is None
                    assert server.answered[model, prompt] == 0
                else:
                    right = skilled(MODELS[model], model)(prompt, 0) == str(8 * int(sample.example))
                    assert sample.score.lenient == float(right)
            failed = sum(line.failed for line in verdict.standings)
            assert failed == sum(bool(sample.error) for sample in samples) > 0
            assert sum(line.judged for line in verdict.standings) == 240 - failed


def test_a_model_whose_key_is_refused_leaves_and_the_others_decide(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCKED_KEY", "wrong")
    with Server(four()) as server, Server({"best": skilled(1.0, "best")}, key="right") as locked:
        write_settings(place, ("board", server, ""), ("locked", locked, 'key = "env:LOCKED_KEY"'))
        listener = Listener()
        with Workspace(place) as workspace:
            verdict = workspace.compare(options(place, model=("locked/best", *NAMES)), listener)
            assert sent(workspace) == server.requests + locked.requests
    assert verdict.winner == "board/org/good@v1"
    out = next(line for line in verdict.standings if line.candidate == "locked/best")
    assert [flag.kind for flag in out.flags] == ["withdrawn"]
    assert out.score is None
    assert out.wrong == 0
    assert any("locked/best" in notice for notice in listener.notices)


def test_a_key_that_is_not_set_is_told_before_the_first_call(place: Path) -> None:
    with Server(four()) as server:
        write_settings(place, ("board", server, 'key = "env:NO_SUCH_KEY_ANYWHERE"'))
        with Workspace(place) as workspace, pytest.raises(ConfigError, match="NO_SUCH_KEY_ANYWHERE"):
            workspace.compare(options(place))
        assert server.requests == 0


@pytest.mark.parametrize("status", [500, 404, 401, None])
def test_when_nothing_answers_the_error_says_so_and_how_to_go_on(place: Path, status: int | None) -> None:
    with Server({name: broken(status) for name in MODELS}) as server:
        write_settings(place, ("board", server, "retries = 0"))
        with Workspace(place) as workspace:
            with pytest.raises(ProviderError) as caught:
                workspace.compare(options(place))
            run = workspace.run("last")
            assert run.status == "failed"
            assert run.id in caught.value.hint
            assert sent(workspace) == server.requests < 240


def test_a_model_that_is_not_there_leaves_the_others_their_contest(place: Path) -> None:
    with Server({**four(), "gone": broken(404)}) as server:  # type: ignore[dict-item]
        write_settings(place, ("board", server, "retries = 0"))
        with Workspace(place) as workspace:
            verdict = workspace.compare(options(place, model=("board/gone", *NAMES)))
    assert verdict.winner == "board/org/good@v1"
    gone = next(line for line in verdict.standings if line.candidate == "board/gone")
    assert (gone.score, gone.judged, gone.wrong) == (None, 0, 0)
    assert gone.failed > 0


@pytest.mark.parametrize("most", [1, 7, 30])
def test_a_limit_on_calls_is_never_overrun(place: Path, most: int) -> None:
    with Server(four()) as server:
        write_settings(place, ("board", server, ""))
        with Workspace(place) as workspace:
            verdict = workspace.compare(options(place, max_calls=most, epsilon=0.0))
            assert verdict.stopped == "max_calls"
            assert not verdict.certain
            assert verdict.calls_paid == server.requests == most


@pytest.mark.parametrize("money", [0.5, 3.0, 10.0])
def test_a_limit_on_money_is_never_overrun_and_is_used_up(place: Path, money: float) -> None:
    with Server(four()) as server:
        # 100 tokens in, 10 out: 0.2 a call; at most (7 to 9 bytes + 16) in and 16 out: 0.19 reserved
        write_settings(place, ("board", server, ""), prices=priced(*NAMES))
        write_task(place / "task", head="[sampling]\nmax_tokens = 60")
        with Workspace(place) as workspace:
            verdict = workspace.compare(options(place, max_cost=money, exhaustive=True))
            spent = sum(record.cost_micros or 0 for record in workspace.store.records())
    assert verdict.stopped == "max_cost"
    assert verdict.cost_micros == spent <= money * 1e6
    bound = (16 + len("59 + 413?") + 600) * 1000
    assert spent > money * 1e6 - bound - 200_000
    assert verdict.winner is None or verdict.calls > 0


def test_a_limit_on_money_needs_prices(place: Path) -> None:
    with Server(four()) as server:
        write_settings(place, ("board", server, ""))
        with Workspace(place) as workspace, pytest.raises(UsageError, match="price"):
            workspace.compare(options(place, max_cost=1.0))
        assert server.requests == 0


def test_a_limit_on_time_ends_calls_that_hang(place: Path) -> None:
    with Server(four(), latency_s=60) as server:  # type: ignore[arg-type]
        write_settings(place, ("board", server, ""))
        with Workspace(place) as workspace:
            verdict = workspace.compare(options(place, max_minutes=0.005))
            statuses = {record.status for record in workspace.store.records()}
    assert verdict.stopped == "max_minutes"
    assert verdict.winner is None
    assert statuses == {"cancelled"}


def test_exhaustive_asks_everybody_everything_and_a_subset_is_a_subset(place: Path) -> None:
    with Server(four()) as server:
        write_settings(place, ("board", server, ""))
        with Workspace(place) as workspace:
            few = workspace.compare(options(place, exhaustive=True, examples=10))
            assert (few.calls, few.examples, few.stopped) == (40, 10, "exhausted")
            assert server.requests == 40
            every = workspace.compare(options(place, exhaustive=True))
            assert (every.calls, every.calls_paid) == (240, 200)
            assert server.requests == 240
            assert every.winner == few.winner == "board/org/good@v1"


JUDGE = 'name = "judge"\nmodel = "court/judge"'


def lenient_judge(prompt: str, _: int) -> str:
    """Full marks for what is right: the reference and the answer stand in the prompt."""
    return json.dumps({"reasoning": "seen", "score": 5 if len(prompt) % 3 else 1})


def test_a_judge_on_another_server_is_paid_and_in_the_ledger(place: Path) -> None:
    write_task(place / "task", scorer=JUDGE)
    with Server(four()) as server, Server({"judge": lenient_judge}) as court:
        prices = priced(*NAMES, "court/judge")
        write_settings(place, ("board", server, ""), ("court", court, ""), prices=prices)
        with Workspace(place) as workspace:
            verdict = workspace.compare(options(place, exhaustive=True, examples=12))
            spend = {line.group: line for line in workspace.store.spend(by="surface", run=verdict.run)}
    assert spend["compare"].calls == server.requests == 48
    assert spend["judge"].calls == court.requests
    assert 0 < court.requests <= 48  # equal answers are judged once
    assert verdict.cost_micros == spend["compare"].cost_micros + spend["judge"].cost_micros
    assert verdict.calls_paid == server.requests + court.requests
    assert verdict.cost_exhaustive_micros == verdict.cost_micros


@pytest.mark.parametrize("limit", [{"max_calls": 25}, {"max_cost": 40.0}])
def test_limits_hold_for_candidates_and_their_judge_together(place: Path, limit: dict[str, float]) -> None:
    write_task(place / "task", scorer=JUDGE)
    with Server(four()) as server, Server({"judge": lenient_judge}) as court:
        prices = priced(*NAMES, "court/judge")
        write_settings(place, ("board", server, ""), ("court", court, ""), prices=prices)
        with Workspace(place) as workspace:
            verdict = workspace.compare(options(place, exhaustive=True, **limit))
            spent = sum(record.cost_micros or 0 for record in workspace.store.records())
    assert verdict.stopped == next(iter(limit))
    if "max_calls" in limit:
        assert server.requests + court.requests == verdict.calls_paid <= limit["max_calls"]
    else:
        assert spent == verdict.cost_micros <= limit["max_cost"] * 1e6
    assert all(line.unscored == 0 for line in verdict.standings)


def test_a_judge_that_nobody_can_reach_stops_the_run_instead_of_the_purse(place: Path) -> None:
    write_task(place / "task", scorer=JUDGE)
    with Server(four()) as server, Server({"judge": broken(401)}) as court:
        write_settings(place, ("board", server, ""), ("court", court, "retries = 0"))
        with Workspace(place) as workspace, pytest.raises(ScorerError) as caught:
            workspace.compare(options(place, exhaustive=True))
        assert "court/judge" in str(caught.value)
        assert server.requests < 240


def test_a_requirement_that_is_not_met_is_exit_code_6_and_the_verdict_is_printed(place: Path) -> None:
    with Server(four()) as server:
        write_settings(place, ("board", server, ""))
        models = [word for name in NAMES for word in ("--model", name)]
        process = started(place, "compare", "task", "--json", "-q", "--require", "score>=0.99", *models)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 6, err
    assert json.loads(out)["winner"] == "board/org/good@v1"
    assert "score" in err


def test_two_processes_compare_in_one_workspace_at_once(place: Path) -> None:
    with Server(four(), latency_s=0.01) as server:  # type: ignore[arg-type]
        write_settings(place, ("board", server, ""))
        models = [word for name in NAMES for word in ("--model", name)]
        command = ("compare", "task", "--json", "-q", "--exhaustive", *models)
        both = [started(place, *command), started(place, *command)]
        ended = [process.communicate(timeout=PATIENCE_S) for process in both]
        assert [process.returncode for process in both] == [0, 0], ended
        verdicts = [json.loads(out) for out, _ in ended]
        with Workspace(place) as workspace:
            assert sent(workspace) == server.requests
            assert len(workspace.store.runs()) == 2
    assert {verdict["winner"] for verdict in verdicts} == {"board/org/good@v1"}
    assert verdicts[0]["run"]["id"] != verdicts[1]["run"]["id"]
    assert verdicts[0]["standings"] is not None
    assert [line["score"] for line in verdicts[0]["standings"]] == [
        line["score"] for line in verdicts[1]["standings"]
    ]
