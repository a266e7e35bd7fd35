"""From an evaluation to a task with a verdict, and no model asked again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from baimo.config import settings
from baimo.core.tenant import DataClass
from baimo.errors import NotFound, UsageError
from baimo.evals.options import CompareOptions
from baimo.evals.tasks.folder import load_task
from baimo.store.evaluation_runs import EvalRun, OutputItem, Source
from baimo.store.evaluations import Evaluation
from baimo.workspace.evaluating import REPLIES, Evaluating
from baimo.workspace.workspace import Workspace

CHECK = {
    "type": "string_check",
    "name": "right",
    "input": "{{sample.output_text}}",
    "reference": "{{item.town}}",
    "operation": "eq",
}
TOWNS = [{"question": f"Capital of country {number}?", "town": f"town {number}"} for number in range(40)]
ASKED: dict[str, Any] = {
    "type": "completions",
    "source": {"type": "file_id", "id": "file-1"},
    "input_messages": {"type": "template", "template": [{"role": "user", "content": "{{item.question}}"}]},
    "sampling_params": {"temperature": 0},
}
TOML = """
[providers.acme]
protocol = "fake"
inside = true
[models."acme/good"]
[models."acme/poor"]
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "baimo.toml").write_text(TOML)
    return Workspace(tmp_path, given=settings(tmp_path))


def evaluated(
    evaluating: Evaluating, right: dict[str, int], criteria: Any = (CHECK,), data: DataClass = "public"
) -> Evaluation:
    """An evaluation with a run for each model, of which so many rows are right."""
    evaluation = Evaluation(
        id=evaluating.evaluations.new_id(),
        tenant="",
        name="towns",
        source={"type": "custom", "item_schema": {"type": "object"}},
        criteria=tuple(criteria),
        created_ms=1,
        updated_ms=1,
    )
    evaluating.evaluations.add(evaluation)
    for model, many in right.items():
        run = EvalRun(
            id=evaluating.runs.new_id(),
            tenant="",
            key="k",
            evaluation=evaluation.id,
            name=f"run of {model}",
            model=model,
            data_class=data,
            status="completed",
            created_ms=1,
        )
        evaluating.runs.add(run, {**ASKED, "model": model})
        evaluating.runs.enter(run, (Source(place, {"item": town}) for place, town in enumerate(TOWNS)))
        done = [judged(run, place, town, place < many) for place, town in enumerate(TOWNS)]
        evaluating.runs.finish(run, done)
    return evaluation


def judged(run: EvalRun, place: int, town: dict[str, str], good: bool) -> OutputItem:
    said = town["town"] if good else "nowhere"
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12, "cached_tokens": 0}
    sample = {"output": [{"role": "assistant", "content": said}], "usage": usage, "model": run.model}
    return OutputItem(
        run=run.id,
        position=place,
        status="pass" if good else "fail",
        row={"item": town},
        output={"sample": sample, "results": [], "created_ms": 1},
    )


def test_an_evaluation_becomes_a_task_with_its_rows_prompts_graders_and_models(
    workspace: Workspace, tmp_path: Path
) -> None:
    with workspace:
        evaluating = workspace.evaluating
        evaluation = evaluated(evaluating, {"acme/good": 40, "acme/poor": 4})
        made = evaluating.task(evaluation.id, tmp_path / "task")
        task = load_task(made.folder)
        assert [example.fields["question"] for example in task.examples] == [
            town["question"] for town in TOWNS
        ]
        assert task.examples[3].target == "town 3"
        assert task.scorers[0].name == "grader"
        assert [candidate["model"] for candidate in task.candidates] == ["acme/good", "acme/poor"]
        assert "{{ question" in task.prompts[0].user
        assert set(made.models) == {"replay/acme/good", "replay/acme/poor"}
        assert len((made.folder / REPLIES).read_text().splitlines()) == 80
        with pytest.raises(UsageError):
            evaluating.task(evaluation.id, tmp_path / "task")
        assert evaluating.task(evaluation.id, tmp_path / "task", force=True).folder == made.folder


def test_the_task_of_a_confidential_run_is_confidential(workspace: Workspace, tmp_path: Path) -> None:
    with workspace:
        evaluating = workspace.evaluating
        for number, data in enumerate(("public", "confidential")):
            evaluation = evaluated(evaluating, {"acme/good": 40, "acme/poor": 4}, data=data)
            made = evaluating.task(evaluation.id, tmp_path / data)
            assert load_task(made.folder).data_class == ("internal", "confidential")[number]
        assert evaluating.verdict(made, CompareOptions(task="", exhaustive=True)).winner == "replay/acme/good"


def test_a_verdict_over_the_runs_asks_no_model(workspace: Workspace, tmp_path: Path) -> None:
    with workspace:
        evaluating = workspace.evaluating
        evaluation = evaluated(evaluating, {"acme/poor": 4, "acme/good": 38})
        made = evaluating.task(evaluation.id, tmp_path / "task")
        verdict = evaluating.verdict(made, CompareOptions(task="", exhaustive=True))
    standings = {one.candidate: one for one in verdict.standings}
    assert verdict.winner == "replay/acme/good"
    assert standings["replay/acme/good"].score == pytest.approx(38 / 40)
    assert standings["replay/acme/poor"].score == pytest.approx(4 / 40)


def test_runs_of_one_model_are_told_apart(workspace: Workspace, tmp_path: Path) -> None:
    with workspace:
        evaluating = workspace.evaluating
        evaluation = evaluated(evaluating, {"acme/good": 40})
        (run,) = evaluating.runs.page("", evaluation.id, limit=9)
        made = evaluating.task(evaluation.id, tmp_path / "task", runs=[run.id, run.id])
        assert made.models == ("replay/acme/good", "replay/acme/good 2")


def test_what_is_not_there_or_not_judged_is_told(workspace: Workspace, tmp_path: Path) -> None:
    with workspace:
        evaluating = workspace.evaluating
        evaluation = evaluated(evaluating, {})
        with pytest.raises(UsageError, match=evaluation.id):
            evaluating.task(evaluation.id, tmp_path / "task")
        with pytest.raises(NotFound):
            evaluating.task("eval_none", tmp_path / "task")
        with pytest.raises(NotFound):
            evaluating.task(evaluation.id, tmp_path / "task", tenant="other")
        with pytest.raises(NotFound):
            evaluating.task(evaluation.id, tmp_path / "task", runs=["evalrun_none"])
