"""OpenAI's evals with its own unmodified library against a real `baimo serve`: on the embedded model, and killed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.evals import RunCreateResponse, RunRetrieveResponse
from pydantic import BaseModel

from tests.e2e.test_counting import NAME as LOCAL
from tests.e2e.test_counting import config as local_config
from tests.serving import Endpoint, serving
from tests.upstream import TOKENS_IN, TOKENS_OUT, upstream
from tests.waiting import until

ITEM = {
    "type": "object",
    "properties": {"question": {"type": "string"}, "town": {"type": "string"}},
    "required": ["question", "town"],
}
TOWN: Any = {
    "type": "string_check",
    "name": "names the town",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.town }}",
    "operation": "ilike",
}
ENDED = ("completed", "failed", "canceled")


def client(endpoint: Endpoint, key: str = "") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{endpoint.address}/v1", api_key=key or endpoint.key, max_retries=0)


def ended(sdk: openai.OpenAI, run: RunCreateResponse) -> RunRetrieveResponse:
    until(lambda: sdk.evals.runs.retrieve(run.id, eval_id=run.eval_id).status in ENDED)
    return sdk.evals.runs.retrieve(run.id, eval_id=run.eval_id)


def exact(answer: BaseModel) -> None:
    """Nothing in it is missing or of another type than the library says."""
    type(answer).model_validate_json(answer.to_json(), strict=True)


@pytest.mark.local
@pytest.mark.slow
def test_an_evaluation_from_its_making_to_its_end_on_the_embedded_model(tmp_path: Path) -> None:
    rows = [
        {"question": "What is the capital of France?", "town": "Paris"},
        {"question": "What is the capital of Germany?", "town": "Berlin"},
        {"question": "Say hello.", "town": "Timbuktu"},
    ]
    with serving(tmp_path, local_config(tmp_path)) as endpoint, client(endpoint) as sdk:
        evaluation = sdk.evals.create(
            name="capitals",
            data_source_config={"type": "custom", "item_schema": ITEM, "include_sample_schema": True},
            testing_criteria=[
                TOWN,
                {
                    "type": "python",
                    "name": "says something",
                    "source": "def grade(sample, item):\n    return float(len(sample['output_text']) > 0)",
                    "pass_threshold": 1,
                },
            ],
            metadata={"from": "tests"},
        )
        exact(evaluation)
        lines = "".join(json.dumps({"item": row}) + "\n" for row in rows).encode()
        file = sdk.files.create(file=("capitals.jsonl", lines), purpose="evals")
        run = sdk.evals.runs.create(
            evaluation.id,
            name="smollm2",
            data_source={
                "type": "completions",
                "model": LOCAL,
                "source": {"type": "file_id", "id": file.id},
                "input_messages": {
                    "type": "template",
                    "template": [{"role": "user", "content": "{{ item.question }}"}],
                },
                "sampling_params": {"temperature": 0, "max_completion_tokens": 16, "seed": 7},
            },
        )
        assert run.status == "queued"
        done = ended(sdk, run)
        exact(done)
        assert done.status == "completed", done.error
        assert (done.result_counts.total, done.result_counts.errored) == (3, 0)
        assert done.result_counts.passed >= 1 and done.result_counts.failed >= 1
        assert done.per_model_usage[0].run_model_name == LOCAL and done.per_model_usage[0].prompt_tokens > 20
        items = list(sdk.evals.runs.output_items.list(run.id, eval_id=evaluation.id, limit=2))
        assert [item.datasource_item_id for item in items] == [0, 1, 2]
        for item, row in zip(items, rows, strict=True):
            said = item.sample.output[0].content or ""
            assert (item.status == "pass") == (row["town"].lower() in said.lower()), said
            exact(item)
            exact(sdk.evals.runs.output_items.retrieve(item.id, eval_id=evaluation.id, run_id=run.id))
        failed = sdk.evals.runs.output_items.list(run.id, eval_id=evaluation.id, status="fail")
        assert items[2].id in [item.id for item in failed]
        graded = sdk.fine_tuning.alpha.graders.run(grader=TOWN, model_sample="That is PARIS.", item=rows[0])
        exact(graded)
        assert graded.reward == 1
        judged = sdk.fine_tuning.alpha.graders.run(
            grader={
                "type": "score_model",
                "name": "judge",
                "model": LOCAL,
                "input": [{"role": "user", "content": "Rate this: {{ sample.output_text }}"}],
                "sampling_params": {"temperature": 0, "max_completions_tokens": 24},
            },
            model_sample="Paris.",
        )
        exact(judged)
        assert 0 <= judged.reward <= 1 and not judged.metadata.errors.api_model_grader_server_error
        assert list(judged.api_model_grader_token_usage_per_model) == [LOCAL]
        assert sdk.evals.update(evaluation.id, name="towns").name == "towns"
        assert [one.id for one in sdk.evals.list()] == [evaluation.id]
        assert sdk.evals.runs.delete(run.id, eval_id=evaluation.id).deleted
        assert sdk.evals.delete(evaluation.id).deleted
        with pytest.raises(openai.NotFoundError):
            sdk.evals.retrieve(evaluation.id)
        records = endpoint.settled(4, "surface = 'evals'")
        assert Counter(row["run"] for row in records) == {run.id: 3, "": 1}
        assert {row["status"] for row in records} == {"ok"}


def config(address: str) -> str:
    return f"""
[providers.acme]
protocol = "openai"
base_url = "{address}"
concurrency = 8
[models."acme/one"]
input_per_million = 1
output_per_million = 2
max_output = {TOKENS_OUT}
[models."acme/vectors"]
input_per_million = 1
[routes."text-embedding-3-large"]
models = ["acme/vectors"]
"""


def rows_of(count: int) -> list[Any]:
    return [{"item": {"question": f"number {number}", "town": f"number {number}"}} for number in range(count)]


def source(rows: list[Any]) -> Any:
    return {
        "type": "completions",
        "model": "acme/one",
        "source": {"type": "file_content", "content": rows},
        "input_messages": {
            "type": "template",
            "template": [{"role": "user", "content": "{{item.question}}"}],
        },
    }


@pytest.mark.slow
def test_a_run_outlives_the_server_that_was_killed_and_no_judged_row_is_asked_again(tmp_path: Path) -> None:
    with upstream(delay_s=0.05) as model:
        with serving(tmp_path, config(model.address)) as endpoint:
            with client(endpoint) as sdk:
                evaluation = sdk.evals.create(
                    data_source_config={"type": "custom", "item_schema": ITEM}, testing_criteria=[TOWN]
                )
                run = sdk.evals.runs.create(evaluation.id, data_source=source(rows_of(60)))
                until(lambda: len(endpoint.rows(judged(run.id))) >= 8)
            endpoint.kill()
            kept = {position for (position,) in endpoint.rows(judged(run.id))}
            before = Counter(body["messages"][-1]["content"] for body in model.bodies)
        with serving(tmp_path, config(model.address)) as endpoint, client(endpoint) as sdk:
            done = ended(sdk, run)
            assert done.status == "completed"
            assert (done.result_counts.total, done.result_counts.passed) == (60, 60)
            items = list(sdk.evals.runs.output_items.list(run.id, eval_id=evaluation.id))
            assert [item.datasource_item_id for item in items] == list(range(60))
            again = Counter(body["messages"][-1]["content"] for body in model.bodies) - before
            assert not {f"number {position}" for position in kept} & set(again)
            assert 8 <= len(kept) < 60
            records = endpoint.settled(60, f"run = '{run.id}' AND status = 'ok'")
            assert {row["cost_micros"] for row in records} == {TOKENS_IN + 2 * TOKENS_OUT}


def judged(run: str) -> str:
    return f"SELECT position FROM evaluation_items WHERE run = '{run}' AND status <> 'queued'"


def test_a_budget_ends_an_evaluation_in_errors_and_refusals_are_the_librarys_own(tmp_path: Path) -> None:
    price = TOKENS_IN + 2 * TOKENS_OUT
    with upstream() as model, serving(tmp_path, config(model.address)) as endpoint:
        refusals(endpoint)
        poor = endpoint.new_key("--label", "poor", "--limit", "requests=5")
        with client(endpoint, poor) as sdk:
            evaluation = sdk.evals.create(
                data_source_config={"type": "custom", "item_schema": ITEM}, testing_criteria=[TOWN]
            )
            done = ended(sdk, sdk.evals.runs.create(evaluation.id, data_source=source(rows_of(9))))
            counts = done.result_counts
            assert (counts.passed, counts.failed, counts.errored) == (5, 0, 4)
            items = list(sdk.evals.runs.output_items.list(done.id, eval_id=evaluation.id))
            assert {item.sample.error.code for item in items} == {"", "rate_limit_exceeded"}
        assert sum(model.served.values()) == 5
        assert [row["cost_micros"] for row in endpoint.settled(5, f"run = '{done.id}'")] == [price] * 5
        stored(endpoint)
        cosine(endpoint)


def cosine(endpoint: Endpoint) -> None:
    """Texts are compared by the model that is called as OpenAI's, and that is paid for."""
    likeness: Any = {
        "type": "text_similarity",
        "name": "alike",
        "input": "{{ sample.output_text }}",
        "reference": "a town",
        "evaluation_metric": "cosine",
    }
    with client(endpoint) as sdk:
        graded = sdk.fine_tuning.alpha.graders.run(grader=likeness, model_sample="a city")
        exact(graded)
        assert graded.reward == pytest.approx(1) and list(graded.api_model_grader_token_usage_per_model) == [
            "text-embedding-3-large"
        ]
    (record,) = endpoint.settled(1, "model = 'acme/vectors'")
    assert (record["surface"], record["status"], record["tokens_out"]) == ("evals", "ok", 0)


def stored(endpoint: Endpoint) -> None:
    """Stored completions as the library lists, labels and forgets them."""
    endpoint.baimo("tenants", "create", "keeper", "--keep-contents", "on")
    with client(endpoint, endpoint.new_key("--tenant", "keeper")) as sdk:
        asked: Any = [{"role": "user", "content": "number 1"}]
        labels = {"case": "a"}
        made = sdk.chat.completions.create(model="acme/one", messages=asked, store=True, metadata=labels)
        sdk.chat.completions.create(model="acme/one", messages=asked, store=True)
        # the server behind it gives every answer the same id; both are there all the same
        ids = [one.id for one in sdk.chat.completions.list()]
        assert ids[0] == made.id and ids[1].startswith(f"{made.id}-") and len(ids) == 2
        assert [one.id for one in sdk.chat.completions.list(metadata=labels)] == [made.id]
        assert sdk.chat.completions.retrieve(made.id).choices == made.choices
        assert [turn.content for turn in sdk.chat.completions.messages.list(made.id)] == ["number 1"]
        changed = sdk.chat.completions.update(made.id, metadata={"case": "b"})
        assert changed.to_dict()["metadata"] == {"case": "b"}
        assert sdk.chat.completions.delete(made.id).deleted
        with pytest.raises(openai.NotFoundError):
            sdk.chat.completions.retrieve(made.id)


def refusals(endpoint: Endpoint) -> None:
    with client(endpoint) as sdk:
        with pytest.raises(openai.BadRequestError) as wrong:
            sdk.evals.create(data_source_config={"type": "custom", "item_schema": ITEM}, testing_criteria=[])
        assert (wrong.value.param, wrong.value.code) == ("testing_criteria", "missing_required_parameter")
        with pytest.raises(openai.BadRequestError) as wrong:
            sdk.fine_tuning.alpha.graders.validate(grader={**TOWN, "operation": "similar"})
        assert wrong.value.param == "grader.operation"
        with pytest.raises(openai.NotFoundError):
            sdk.evals.retrieve("eval_none")
        with pytest.raises(openai.NotFoundError):
            sdk.evals.runs.list("eval_none")
        assert list(sdk.evals.list()) == [] and list(sdk.chat.completions.list()) == []
