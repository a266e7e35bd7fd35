from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from baimo import Workspace
from baimo.core.verdict import Forecast, Progress
from baimo.errors import Forbidden, TaskError, UnknownModel, UsageError
from baimo.evals.options import CompareOptions
from baimo.settings import CompareSettings, PolicySettings, ProviderSettings, Settings, WorkspaceSettings
from tests.cli.tasks import ROWS, task


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """On SQLite and on PostgreSQL: two scripted providers: one knows every answer, one always says 2."""
    table = {row["input"]: row["target"] for row in ROWS}
    return Settings(
        workspace=WorkspaceSettings(path=str(tmp_path / "ws"), database=database_url),
        providers={
            "knows": ProviderSettings(protocol="fake", inside=True, options={"table": table}),
            "guesses": ProviderSettings(protocol="fake", inside=True, options={"constant": "2"}),
            "outside": ProviderSettings(protocol="fake", inside=False, options={"constant": "2"}),
        },
    )


def options(folder: Path, **more: Any) -> CompareOptions:
    return CompareOptions(**{"task": str(folder / "sums"), "model": ("knows/m", "guesses/m"), **more})


class Notes:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.forecasts: list[Forecast] = []
        self.steps: list[Progress] = []
        self.notices: list[str] = []

    def forecast(self, forecast: Forecast) -> None:
        self.forecasts.append(forecast)

    def progress(self, progress: Progress) -> None:
        self.steps.append(progress)

    def notice(self, message: str) -> None:
        self.notices.append(message)


def test_a_comparison_ends_in_a_verdict_that_the_workspace_remembers(
    tmp_path: Path, settings: Settings
) -> None:
    task(tmp_path)
    with Workspace(tmp_path, given=settings) as workspace:
        notes = Notes()
        verdict = workspace.compare(options(tmp_path), notes)
        assert (verdict.winner, verdict.certain) == ("knows/m", True)
        assert len(notes.forecasts) == 1
        assert notes.steps[-1].calls == verdict.calls
        run = workspace.run("last")
        assert (run.id, run.status, run.task) == (verdict.run, "done", "sums")
        assert run.config_hash == settings.snapshot().hash
    with Workspace(tmp_path, given=settings) as later:
        report = later.report("last")
        assert report.verdict == verdict
        assert len(report.samples) == verdict.calls
        assert report.task.hash == run.task_hash


def test_a_run_that_goes_on_refuses_what_it_was_not_asked(tmp_path: Path, settings: Settings) -> None:
    asked = options(tmp_path, max_calls=4, seed=3)
    task(tmp_path)
    with Workspace(tmp_path, given=settings) as workspace:
        workspace.compare(asked)
        for more, named in (
            ({"task": str(tmp_path / "other")}, str(tmp_path / "other")),
            ({"model": ("guesses/m",)}, "--model"),
            ({"decision": "cheapest", "seed": 4}, "--decision, --seed"),
        ):
            with pytest.raises(UsageError) as caught:
                workspace.compare(CompareOptions(**{"task": "", **more, "resume": "last"}))
            assert named in str(caught.value) and "--max-calls" in caught.value.hint
        verdict = workspace.compare(replace(asked, resume="last", max_calls=10_000, require=("score>=0.1",)))
        assert verdict.certain


def test_a_report_does_not_need_the_task_s_folder_any_more(tmp_path: Path, settings: Settings) -> None:
    task(tmp_path)
    with Workspace(tmp_path, given=settings) as workspace:
        workspace.compare(options(tmp_path))
        for path in (tmp_path / "sums").iterdir():
            path.unlink()
        assert len(workspace.report("last").task.examples) == len(ROWS)


def test_a_comparison_can_be_asked_for_inside_a_running_loop(tmp_path: Path, settings: Settings) -> None:
    task(tmp_path)

    async def notebook() -> str | None:
        with Workspace(tmp_path, given=settings) as workspace:
            return workspace.compare(options(tmp_path)).winner

    assert asyncio.run(notebook()) == "knows/m"


def test_an_error_crosses_from_inside_a_running_loop_too(tmp_path: Path, settings: Settings) -> None:
    async def notebook() -> None:
        with Workspace(tmp_path, given=settings) as workspace:
            workspace.compare(options(tmp_path))

    with pytest.raises(TaskError, match="sums does not exist"):
        asyncio.run(notebook())


def test_opening_a_workspace_touches_nothing(tmp_path: Path, settings: Settings) -> None:
    with Workspace(tmp_path, given=settings) as workspace:
        assert workspace.catalogue.model("knows/m").vendor == "knows"
    assert not (tmp_path / "ws").exists()


def test_settings_are_read_from_the_folder_and_flags_are_stronger(tmp_path: Path) -> None:
    (tmp_path / "baimo.toml").write_text("[compare]\nepsilon = 0.2\ndelta = 0.2\n", encoding="utf-8")
    with Workspace(tmp_path, flags={"compare.delta": 0.1, "workspace.path": "w"}) as workspace:
        assert (workspace.settings.compare.epsilon, workspace.settings.compare.delta) == (0.2, 0.1)
        assert workspace.path == tmp_path / "w"


def test_the_settings_defaults_reach_the_verdict_and_options_are_stronger(
    tmp_path: Path, settings: Settings
) -> None:
    task(tmp_path)
    given = Settings(
        workspace=settings.workspace,
        providers=settings.providers,
        compare=CompareSettings(epsilon=0.2, delta=0.1, assurance="guaranteed"),
    )
    with Workspace(tmp_path, given=given) as workspace:
        verdict = workspace.compare(options(tmp_path, delta=0.3))
    assert (verdict.epsilon, verdict.delta, verdict.assurance) == (0.2, 0.3, "guaranteed")


def test_a_forecast_neither_asks_nor_keeps_a_run(tmp_path: Path, settings: Settings) -> None:
    task(tmp_path)
    with Workspace(tmp_path, given=settings) as workspace:
        forecast = workspace.forecast(options(tmp_path))
        assert forecast.calls_exhaustive == 2 * len(ROWS)
        assert set(forecast.unpriced) == {"guesses/m", "knows/m"}
        assert workspace.store.runs() == []


@pytest.mark.parametrize("model", ["outside/m", "openai/gpt-4o"])
def test_confidential_work_never_leaves(model: str, tmp_path: Path, settings: Settings) -> None:
    task(tmp_path, manifest='data_class = "confidential"\nname = "sums"\n[data]\ntest = "test.jsonl"\n')
    with Workspace(tmp_path, given=settings) as workspace:
        with pytest.raises(UsageError) as caught:
            workspace.compare(options(tmp_path, model=("knows/m", model)))
        assert caught.value.key == "compare.confidential"
        assert workspace.store.runs() == []


@pytest.mark.parametrize(
    ("policy", "key"),
    [
        ({"outside": "deny"}, "compare.may_not_leave"),
        ({"outside": "public_only"}, "compare.may_not_leave"),
        ({"data_class": "confidential"}, "compare.may_not_leave"),
        ({"pii": "mask"}, "compare.masked"),
    ],
)
def test_the_policy_holds_for_comparisons_as_for_calls(
    policy: Any, key: str, tmp_path: Path, settings: Settings
) -> None:
    task(tmp_path)
    given = Settings(
        workspace=settings.workspace, providers=settings.providers, policy=PolicySettings(**policy)
    )
    with Workspace(tmp_path, given=given) as workspace:
        with pytest.raises(Forbidden) as caught:
            workspace.compare(options(tmp_path, model=("knows/m", "outside/m")))
        assert caught.value.key == key
        assert workspace.store.runs() == []
        assert workspace.compare(options(tmp_path, model=("knows/m",))).calls


def test_a_pattern_names_every_model_that_fits(tmp_path: Path, settings: Settings) -> None:
    task(tmp_path)
    with Workspace(tmp_path, given=settings) as workspace, pytest.raises(UnknownModel, match=r"knows/z\*"):
        workspace.compare(options(tmp_path, model=("knows/z*",)))


def test_a_subset_of_the_examples_is_the_same_for_the_same_seed(tmp_path: Path, settings: Settings) -> None:
    task(tmp_path)
    with Workspace(tmp_path, given=settings) as workspace:
        seen = []
        for seed in (1, 1, 2, 3):
            workspace.compare(options(tmp_path, examples=3, seed=seed, exhaustive=True))
            seen.append({sample.example for sample in workspace.report("last").samples})
    assert [len(one) for one in seen] == [3] * 4
    assert seen[0] == seen[1]
    assert len({frozenset(one) for one in seen}) > 1


def test_a_comparison_can_be_stopped_and_gone_on_with(tmp_path: Path, settings: Settings) -> None:
    task(tmp_path)
    with Workspace(tmp_path, given=settings) as workspace:
        first = workspace.compare(options(tmp_path, max_calls=4, batch=2, exhaustive=True))
        assert (first.stopped, first.calls) == ("max_calls", 4)
        assert workspace.run("last").status == "stopped"
        whole = workspace.compare(options(tmp_path, exhaustive=True))
        assert (whole.calls, whole.calls_paid) == (12, 8)


def test_no_secret_reaches_the_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = "sk-canary-5b1c0de-never-shown"
    monkeypatch.setenv("THE_KEY", canary)
    given = Settings(
        workspace=WorkspaceSettings(path=str(tmp_path / "ws")),
        providers={
            name: ProviderSettings(
                protocol="fake",
                key="env:THE_KEY",
                headers={"Authorization": f"Bearer {canary}", "X-Key": "env:THE_KEY"},
                options={"constant": "2"},
            )
            for name in ("one", "two")
        },
    )
    task(tmp_path)
    with Workspace(tmp_path, given=given) as workspace:
        workspace.compare(options(tmp_path, model=("one/m", "two/m")))
        workspace.report("last")
    kept = [path.read_bytes() for path in (tmp_path / "ws").rglob("*") if path.is_file()]
    assert kept
    assert not [data for data in kept if canary.encode() in data]
    assert canary not in json.dumps(given.snapshot().data.decode())


def test_the_cheapest_is_not_looked_for_where_no_price_is_known(tmp_path: Path, settings: Settings) -> None:
    task(tmp_path)
    with Workspace(tmp_path, given=settings) as workspace:
        with pytest.raises(UsageError, match="no candidate has a known price"):
            workspace.compare(options(tmp_path, decision="cheapest"))
        assert workspace.store.runs() == []
