"""What people saved from OpenAI's Evals becomes tasks that judge as before, and nothing is dropped in silence."""

from __future__ import annotations

import asyncio
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as tried
from hypothesis import strategies as st
from openai.types import EvalRetrieveResponse
from openai.types.evals import RunRetrieveResponse
from openai.types.evals.runs import OutputItemRetrieveResponse

from baimo.core.call import Completion
from baimo.core.task import Example, Task
from baimo.errors import ConfigError, TaskError, UsageError
from baimo.evals.scorers.registry import scorer
from baimo.evals.tasks.candidates import candidates
from baimo.evals.tasks.folder import load_task
from baimo.evals.tasks.prompts import Renderer
from baimo.workspace.importing.openai_evals import RESULTS, imported_tasks
from baimo.workspace.importing.reading import imported_tasks as imported_by_name
from baimo.workspace.importing.tasks import ImportedTask, folder_name, kept_tasks
from tests.workspace.importing.accounted import spelled, steps

FIXTURES = Path(__file__).parent / "fixtures"
EXPORT = FIXTURES / "openai-evals"


def saved(folder: Path, *objects: Any) -> Path:
    path = folder / "export.json"
    path.write_text(json.dumps(list(objects)), encoding="utf-8")
    return path


def task_of(made: ImportedTask, folder: Path) -> Task:
    (place,) = kept_tasks([made], folder / "task", force=True)
    return load_task(place)


def criterion(**more: Any) -> dict[str, Any]:
    return {"type": "string_check", "name": "same", "input": "{{sample.output_text}}", "reference": "{{item.a}}",
            "operation": "eq", **more}  # fmt: skip


def an_eval(*criteria: dict[str, Any], id: str = "eval_1") -> dict[str, Any]:
    config = {"type": "custom", "schema": {}}
    return {"object": "eval", "id": id, "name": f"Eval {id}", "created_at": 1, "data_source_config": config,
            "testing_criteria": list(criteria)}  # fmt: skip


def a_run(*items: Any, id: str = "run_1", eval_id: str = "eval_1", **source: Any) -> dict[str, Any]:
    content = {"type": "file_content", "content": [{"item": item} for item in items]}
    return {"object": "eval.run", "id": id, "eval_id": eval_id,
            "data_source": {"type": "completions", "source": content, **source}}  # fmt: skip


def template(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"type": "template", "template": [{"role": role, "content": content} for role, content in turns]}


def weights(made: ImportedTask) -> dict[str, str]:
    return {note.path: note.weight for note in made.carried.notes}


def test_the_fixture_is_what_the_sdk_returns() -> None:
    for one in json.loads((EXPORT / "export.json").read_text())["data"]:
        EvalRetrieveResponse.model_validate(one)
    for name, model in (("runs", RunRetrieveResponse), ("output_items", OutputItemRetrieveResponse)):
        for line in (EXPORT / f"{name}.jsonl").read_text().splitlines():
            model.model_validate_json(line)


def test_rows_prompts_models_and_graders_come_along(tmp_path: Path) -> None:
    (made,) = imported_tasks(EXPORT)
    task = task_of(made, tmp_path)
    assert (made.name, task.name, task.description) == ("it-tickets", "IT tickets", "Which queue")
    assert [example.target for example in task.examples] == ["Hardware", "Software", "Other"]
    first, second = candidates(task)
    assert (first.model, first.sampling.temperature, first.sampling.max_tokens) == ("openai/gpt-4.1", 0.2, 20)
    asked = Renderer(first.prompt).messages(task.examples[0])
    assert [message.content for message in asked] == [
        'Classify {the} ticket: ["Hardware", "Software"]',
        "My monitor won't turn on!",
    ]
    assert Renderer(second.prompt).messages(task.examples[0])[0].content == "My monitor won't turn on! -> ?"
    assert [part["grader"]["type"] for part in task.scorers[0].args["scorers"]] == [
        "string_check",
        "label_model",
        "python",
    ]


def test_old_answers_and_grades_are_kept_beside_the_rows(tmp_path: Path) -> None:
    (made,) = imported_tasks(EXPORT)
    (line,) = made.files[RESULTS].splitlines()
    kept = json.loads(line)
    assert kept["output"][0]["content"] == "Hardware"
    assert kept["results"][0]["passed"] is True


def test_what_is_different_here_or_left_behind_is_named() -> None:
    (made,) = imported_tasks(EXPORT)
    found = weights(made)
    assert found["eval.testing_criteria[1].model"] == "changed"
    assert found["eval.testing_criteria[2].source"] == "changed"
    assert found["eval.testing_criteria[3]"] == "lost"  # cosine
    assert found["runs[0].data_source.sampling_params.reasoning_effort"] == "lost"
    assert found["runs[1].data_source.model"] == "changed"  # no temperature
    assert not made.carried.whole


def test_a_simple_evaluation_comes_over_whole_and_judges_as_before(tmp_path: Path) -> None:
    run = a_run(
        {"q": "1+1", "a": "2"},
        model="gpt-4.1",
        input_messages=template(("user", "{{item.q}}?")),
        sampling_params={"temperature": 0},
    )
    (made,) = imported_tasks(saved(tmp_path, an_eval(criterion()), run))
    assert made.carried.whole
    task = task_of(made, tmp_path)
    judge = scorer(task.scorers[0], folder=tmp_path)
    example = task.examples[0]
    for said, score in (("2", 1.0), ("two", 0.0)):
        assert asyncio.run(judge.score(example, Completion(text=said))).lenient == score


def test_every_criterion_must_pass_as_at_openai(tmp_path: Path) -> None:
    both = an_eval(criterion(), criterion(name="b", reference="{{item.b}}", operation="ilike"))
    (made,) = imported_tasks(saved(tmp_path, both, a_run({"a": "yes sir", "b": "SIR"})))
    task = task_of(made, tmp_path)
    judge = scorer(task.scorers[0], folder=tmp_path)
    for said, score in (("yes sir", 1.0), ("no sir", 0.0), ("yes", 0.0)):
        assert asyncio.run(judge.score(task.examples[0], Completion(text=said))).lenient == score


def test_a_conversation_template_is_filled_row_by_row(tmp_path: Path) -> None:
    turns = template(
        ("developer", "Be {{item.mood}}."), ("user", "hi"), ("assistant", "hello"), ("user", "{{item.q}}")
    )
    run = a_run({"q": "why?", "mood": "kind", "a": "x"}, model="gpt-4.1", input_messages=turns)
    (made,) = imported_tasks(saved(tmp_path, an_eval(criterion()), run))
    (example,) = task_of(made, tmp_path).examples
    assert [(message.role, message.content) for message in example.messages] == [
        ("system", "Be kind."), ("user", "hi"), ("assistant", "hello"), ("user", "why?"),
    ]  # fmt: skip


def test_an_items_own_conversation_is_asked(tmp_path: Path) -> None:
    item = {"talk": [{"role": "user", "content": "hi"}], "a": "x"}
    reference = {"type": "item_reference", "item_reference": "item.talk"}
    run = a_run(item, model="gpt-4.1", input_messages=reference)
    (made,) = imported_tasks(saved(tmp_path, an_eval(criterion()), run))
    (example,) = task_of(made, tmp_path).examples
    assert [message.content for message in example.messages] == ["hi"]


def test_rows_out_of_stored_completions_are_asked_as_they_were(tmp_path: Path) -> None:
    stored = {"input": [{"role": "user", "content": "hi"}], "output": "hello"}
    item = {"object": "eval.run.output_item", "eval_id": "eval_1", "datasource_item": stored}
    (made,) = imported_tasks(saved(tmp_path, an_eval(criterion(reference="{{item.output}}")), item))
    (example,) = task_of(made, tmp_path).examples
    assert ([turn.content for turn in example.messages], example.target) == (["hi"], "hello")
    assert weights(made)["eval.name"] == "changed"


def test_output_items_alone_are_enough_for_the_rows(tmp_path: Path) -> None:
    items = [
        {
            "object": "eval.run.output_item",
            "id": f"o{number}",
            "run_id": run,
            "datasource_item": {"q": "x", "a": "y"},
        }
        for number, run in enumerate(("run_1", "run_2"))
    ]
    (made,) = imported_tasks(
        saved(tmp_path, {**an_eval(criterion()), "runs": {"object": "list", "data": []}}, *items)
    )
    assert made.examples == 1  # the same row of two runs is one


def test_rows_that_are_not_in_the_export_are_missed_aloud(tmp_path: Path) -> None:
    run = {"object": "eval.run", "id": "r", "eval_id": "eval_1",
           "data_source": {"type": "jsonl", "source": {"type": "file_id", "id": "file-gone"}}}  # fmt: skip
    (made,) = imported_tasks(saved(tmp_path, an_eval(criterion()), run, a_run({"a": "x"})))
    assert weights(made)["runs[0].data_source.source.id"] == "lost"


def test_runs_without_their_evaluation_still_bring_rows_and_prompts(tmp_path: Path) -> None:
    run = a_run(
        {"q": "x"}, eval_id="eval_9", model="gpt-4.1", input_messages=template(("user", "{{item.q}}"))
    )
    (made,) = imported_tasks(saved(tmp_path, run))
    assert (made.name, made.examples) == ("eval_9", 1)


def test_several_evaluations_get_folders_of_their_own_and_names_can_be_chosen(tmp_path: Path) -> None:
    path = saved(
        tmp_path,
        *(an_eval(criterion(), id=f"eval_{number}") for number in (1, 2)),
        *(a_run({"a": "x"}, id=f"run_{number}", eval_id=f"eval_{number}") for number in (1, 2)),
    )
    made = imported_tasks(path)
    places = kept_tasks(made, tmp_path / "out", force=False)
    assert [place.name for place in places] == ["eval-eval_1", "eval-eval_2"]
    assert [load_task(place).name for place in places] == ["Eval eval_1", "Eval eval_2"]
    (second,) = imported_by_name("openai-evals", path, ("eval-eval_2",))
    assert second.name == "eval-eval_2"
    with pytest.raises(ConfigError, match="no evaluation called gone"):
        imported_by_name("openai-evals", path, ("gone",))


def test_a_task_that_is_there_is_not_overwritten_unasked(tmp_path: Path) -> None:
    made = imported_tasks(EXPORT)
    kept_tasks(made, tmp_path / "out", force=False)
    with pytest.raises(UsageError, match="exists already"):
        kept_tasks(made, tmp_path / "out", force=False)
    kept_tasks(made, tmp_path / "out", force=True)


@pytest.mark.parametrize("words", ["{}", "[]", '{"object": "list", "data": []}', '{"object": "model"}'])
def test_a_file_without_evaluations_is_refused(tmp_path: Path, words: str) -> None:
    (tmp_path / "x.json").write_text(words)
    with pytest.raises(ConfigError, match="holds no evaluation") as caught:
        imported_tasks(tmp_path / "x.json")
    assert caught.value.hint
    with pytest.raises(ConfigError, match="cannot be read"):
        imported_tasks(tmp_path / "gone.json")


def test_broken_json_is_named_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "runs.jsonl").write_text('{"object": "eval"}\n{"object": \n')
    with pytest.raises(TaskError, match=r"runs\.jsonl"):
        imported_tasks(tmp_path)


def test_a_registry_of_the_open_source_evals_becomes_tasks(tmp_path: Path) -> None:
    by_name = {made.name: made for made in imported_tasks(FIXTURES / "openai-registry")}
    assert set(by_name) == {"capitals", "places", "graded"}
    task = task_of(by_name["capitals"], tmp_path)
    assert [spec.name for spec in task.scorers] == ["exact", "contains"]
    assert [example.target for example in task.examples] == ["Paris", ["Beijing", "北京"]]
    assert [message.role for message in task.examples[0].messages] == ["system", "user"]
    assert weights(by_name["capitals"])["eval.class"] == "changed"
    assert weights(by_name["capitals"])["eval.args.few_shot_jsonl"] == "lost"
    assert [spec["name"] for spec in tomllib.loads(by_name["places"].carried.settings)["scorers"]] == [
        "icontains"
    ]
    assert weights(by_name["graded"])["eval.class"] == "lost"


def test_a_folder_name_is_one_that_every_file_system_takes() -> None:
    assert folder_name("IT: Tickets / 2026!") == "it-tickets-2026"
    assert folder_name("客服 评测") == "客服-评测"
    assert folder_name("../..") == "task"
    assert len(folder_name("x" * 500)) <= 60


JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=8), st.just("{{item.q}}")),
    lambda one: st.lists(one, max_size=2) | st.dictionaries(st.text(max_size=5), one, max_size=2),
    max_leaves=4,
)


def filled(known: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of the known names, each rightly or wrongly filled, and sometimes another one."""
    table = st.fixed_dictionaries({}, optional={name: one | JUNK for name, one in known.items()})
    return st.builds(
        lambda one, other: {**other, **one}, table, st.dictionaries(st.text(max_size=5), JUNK, max_size=1)
    )


TEXT = st.sampled_from(
    ["{{item.q}}", "{{ item.a }} x", "{% raw %}", "{{item['a b']}}", "{{sample.output_text}}", "{{x"]
)
CONTENT = TEXT | st.just({"type": "input_text", "text": "{{item.q}}"}) | st.just([{"type": "input_image"}])
TURNS = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "developer"]), "content": CONTENT}
    ),
    max_size=3,
)
GRADERS = filled({
    "type": st.sampled_from(["string_check", "text_similarity", "score_model", "label_model", "python", "multi"]),
    "name": st.just("g"), "input": TEXT | TURNS, "reference": TEXT, "operation": st.sampled_from(["eq", "like"]),
    "evaluation_metric": st.sampled_from(["cosine", "fuzzy_match"]), "pass_threshold": st.just(0.5),
    "model": st.just("gpt-4.1"), "labels": st.just(["a", "b"]), "passing_labels": st.just(["a"]),
    "source": st.just("def grade(sample, item):\n    return 1.0"), "range": st.just([0, 5]),
})  # fmt: skip
EVALS = filled({
    "name": st.just("E"), "created_at": st.just(1), "metadata": st.just({"description": "d", "k": "v"}),
    "data_source_config": filled({"type": st.just("custom"), "schema": st.just({"a": 1}), "metadata": JUNK}),
    "testing_criteria": st.lists(GRADERS, max_size=2),
})  # fmt: skip
ROWS = [{"item": {"q": "x", "a": "y"}}, {"item": {"id": 1}, "sample": {"a": 1}}]
RUNS = filled({
    "status": st.just("completed"), "model": st.just("gpt-4.1"), "report_url": st.just("https://x"),
    "data_source": filled({
        "type": st.sampled_from(["jsonl", "completions", "responses"]), "model": st.just("gpt-4.1"),
        "source": st.sampled_from([
            {"type": "file_content", "content": ROWS},
            {"type": "file_id", "id": "file-1"}, {"type": "stored_completions", "model": "gpt-4.1"},
        ]),
        "input_messages": st.builds(lambda turns: {"type": "template", "template": turns}, TURNS)
        | st.just({"type": "item_reference", "item_reference": "item.q"}),
        "sampling_params": filled({
            "temperature": st.just(0.5), "top_p": st.just(1.0), "seed": st.just(3), "max_completion_tokens": st.just(5),
            "reasoning_effort": st.just("low"), "tools": st.just([{"type": "function", "function": {"name": "f"}}]),
            "response_format": st.sampled_from([
                {"type": "text"}, {"type": "json_object"},
                {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
            ]),
        }),
    }),
})  # fmt: skip


@tried(max_examples=150, suppress_health_check=list(HealthCheck))
@given(one=EVALS, runs=st.lists(RUNS, max_size=2))
def test_every_value_is_in_the_task_or_in_a_note(
    one: dict[str, Any], runs: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("evals")
    one = {**one, "object": "eval", "id": "eval_1"}
    runs = [{**run, "object": "eval.run", "eval_id": "eval_1", "id": f"r{n}"} for n, run in enumerate(runs)]
    (made,) = imported_tasks(saved(folder, one, *runs))
    places, noted = dict(made.carried.places), {note.path for note in made.carried.notes}
    for path, value in steps({"eval": one, "runs": [_settings_of(run) for run in runs]}):
        around = spelled(path)
        assert around[-1] in places or noted & set(around), f"dropped in silence: {around[-1]} = {value!r}"
    if made.examples:
        task = task_of(made, folder)
        assert [example.id for example in task.examples] == sorted(
            {e.id for e in task.examples}, key=_order(task)
        )


def _order(task: Task) -> Any:
    known = [example.id for example in task.examples]
    return known.index


def _settings_of(run: dict[str, Any]) -> dict[str, Any]:
    """A run without its rows, which are data; the type of their source is still looked for."""
    data = run.get("data_source")
    source = data.get("source") if isinstance(data, dict) else None
    if not isinstance(source, dict) or not isinstance(source.get("content"), list):
        return run
    return {
        **run,
        "data_source": {**data, "source": {name: one for name, one in source.items() if name != "content"}},
    }  # type: ignore[dict-item]


def test_rows_of_examples_keep_every_field_whatever_it_is_called(tmp_path: Path) -> None:
    item = {"id": "7", "target": "t", "input": "i", "a": "x", "messages": "m", "n": None}
    (made,) = imported_tasks(saved(tmp_path, an_eval(criterion()), a_run(item)))
    (example,) = task_of(made, tmp_path).examples
    assert isinstance(example, Example)
    assert (example.id, example.target, dict(example.fields)) == ("7", "x", item)
