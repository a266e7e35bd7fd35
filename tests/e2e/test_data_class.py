"""Confidential data stays inside on every road that remembers: conversations, batches, files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from tests.e2e.test_batches import client, ended, line, ordered, results
from tests.serving import Endpoint, serving
from tests.upstream import Upstream, upstream
from tests.waiting import until

CONFIDENTIAL = {"x-baimo-data-class": "confidential"}


@pytest.fixture(scope="module")
def model() -> Iterator[Upstream]:
    with upstream() as running:
        yield running


@pytest.fixture(scope="module")
def endpoint(model: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    config = "".join(
        f'[providers.{name}]\nprotocol = "openai"\nbase_url = "{model.address}"\ninside = {inside}\n'
        for name, inside in (("home", "true"), ("acme", "false"))
    )
    with serving(tmp_path_factory.mktemp("classes"), config) as running:
        yield running


def heard(model: Upstream, words: str) -> bool:
    return any(words in json.dumps(body) for body in model.bodies)


def test_a_confidential_conversation_goes_on_inside_only(endpoint: Endpoint, model: Upstream) -> None:
    with client(endpoint) as sdk:
        first = sdk.responses.create(model="home/one", input="the first secret", extra_headers=CONFIDENTIAL)
        second = sdk.responses.create(model="home/one", input="go on", previous_response_id=first.id)
        asked = len(model.bodies)
        for before in (first.id, second.id):
            with pytest.raises(openai.PermissionDeniedError):
                sdk.responses.create(model="acme/one", input="tell", previous_response_id=before)
        item = first.output[0].id
        with pytest.raises(openai.PermissionDeniedError):
            sdk.responses.create(model="acme/one", input=[{"type": "item_reference", "id": item or ""}])
        assert len(model.bodies) == asked
        assert sdk.responses.create(model="acme/one", input="in the open").output_text


def test_a_confidential_batch_is_not_answered_outside(endpoint: Endpoint, model: Upstream) -> None:
    with client(endpoint) as sdk:
        file = sdk.files.create(
            file=("in.jsonl", (line(1, "an ordered secret") + line(2, "told at home", "home/one")).encode()),
            purpose="batch",
        )
        batch = sdk.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            extra_headers=CONFIDENTIAL,
        )
        done = ended(sdk, batch)
        assert results(sdk, done.error_file_id)["line-1"]["response"]["status_code"] == 403
        assert results(sdk, done.output_file_id)["line-2"]["response"]["status_code"] == 200
    assert heard(model, "told at home") and not heard(model, "an ordered secret")


def test_what_a_confidential_key_uploads_stays_confidential(endpoint: Endpoint, model: Upstream) -> None:
    strict = endpoint.new_key("--data-class", "confidential")
    with client(endpoint, strict) as theirs, client(endpoint) as ours:
        file = theirs.files.create(file=("in.jsonl", line(1, "an uploaded secret").encode()), purpose="batch")
        batch = ours.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        assert set(results(ours, ended(ours, batch).error_file_id)) == {"line-1"}
        assert ended(ours, ordered(ours, line(1, "an open word"))).request_counts
    assert heard(model, "an open word") and not heard(model, "an uploaded secret")


def test_a_confidential_batch_of_messages_is_not_answered_outside(
    endpoint: Endpoint, model: Upstream
) -> None:
    with anthropic.Anthropic(base_url=endpoint.address, api_key=endpoint.key, max_retries=0) as sdk:
        asking = {
            "model": "acme/one",
            "max_tokens": 9,
            "messages": [{"role": "user", "content": "a message's secret"}],
        }
        batch = sdk.messages.batches.create(
            requests=[{"custom_id": "m", "params": asking}],  # type: ignore[typeddict-item]
            extra_headers=CONFIDENTIAL,
        )
        until(lambda: sdk.messages.batches.retrieve(batch.id).processing_status == "ended")
        assert [one.result.type for one in sdk.messages.batches.results(batch.id)] == ["errored"]
    assert not heard(model, "a message's secret")


def test_what_is_uploaded_as_confidential_stays_so(endpoint: Endpoint, model: Upstream) -> None:
    with client(endpoint) as sdk:
        whole = sdk.files.create(
            file=("in.jsonl", line(1, "a marked secret").encode()),
            purpose="batch",
            extra_headers=CONFIDENTIAL,
        )
        parted: list[Any] = []
        for marked, other in (({}, CONFIDENTIAL), (CONFIDENTIAL, {})):
            data = line(1, "a secret in parts").encode()
            upload = sdk.uploads.create(
                filename="in.jsonl", purpose="batch", mime_type="application/jsonl", bytes=len(data)
            )
            part = sdk.uploads.parts.create(upload.id, data=data, extra_headers=marked)
            parted.append(sdk.uploads.complete(upload.id, part_ids=[part.id], extra_headers=other).file)
        for file in (whole, *parted):
            assert file is not None
            batch = sdk.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            done = ended(sdk, batch)
            assert results(sdk, done.error_file_id)["line-1"]["response"]["status_code"] == 403
    assert not heard(model, "a marked secret") and not heard(model, "a secret in parts")


CHECK = {"type": "string_check", "name": "c", "input": "x", "reference": "x", "operation": "eq"}
JUDGE = {
    "type": "score_model",
    "name": "j",
    "model": "acme/one",
    "input": [{"role": "user", "content": "Judge: {{sample.output_text}} of {{item}}"}],
}
ITEMS = {"type": "custom", "item_schema": {"type": "object"}, "include_sample_schema": True}


def judged(sdk: openai.OpenAI, evaluation: Any, source: Any, **more: Any) -> Any:
    """A run, once it has ended."""
    run = sdk.evals.runs.create(evaluation.id, data_source=source, **more)
    until(lambda: sdk.evals.runs.retrieve(run.id, eval_id=evaluation.id).status in ("completed", "failed"))
    return sdk.evals.runs.retrieve(run.id, eval_id=evaluation.id)


def test_confidential_rows_are_neither_answered_nor_judged_outside(
    endpoint: Endpoint, model: Upstream
) -> None:
    with client(endpoint) as sdk:
        evaluation = sdk.evals.create(data_source_config=ITEMS, testing_criteria=[CHECK])  # type: ignore[arg-type]
        rows = '{"item": {"q": "a secret row"}}\n'
        file = sdk.files.create(file=("r.jsonl", rows.encode()), purpose="evals", extra_headers=CONFIDENTIAL)
        asked = [{"role": "user", "content": "Answer: {{item.q}}"}]
        said = {"type": "template", "template": asked}
        source = {"type": "completions", "model": "acme/one", "input_messages": said}
        told = {"type": "file_content", "content": [{"item": {"q": "a told secret"}}]}
        one = judged(sdk, evaluation, {**source, "source": {"type": "file_id", "id": file.id}})
        two = judged(sdk, evaluation, {**source, "source": told}, extra_headers=CONFIDENTIAL)
        open_ = judged(sdk, evaluation, {**source, "source": told | {"content": [{"item": {"q": "open"}}]}})
        assert [run.result_counts.errored for run in (one, two, open_)] == [1, 1, 0]
        graded = sdk.fine_tuning.alpha.graders.run(
            grader=JUDGE,  # type: ignore[arg-type]
            model_sample="a secret sample",
            extra_headers=CONFIDENTIAL,
        )
        assert graded.metadata.errors.model_grader_server_error
    assert heard(model, "Answer: open")
    assert not any(heard(model, f"a {what}") for what in ("secret row", "told secret", "secret sample"))


def test_what_a_confidential_evaluation_asks_is_not_judged_outside(
    endpoint: Endpoint, model: Upstream
) -> None:
    judge: Any = JUDGE | {"input": [{"role": "user", "content": "a judge's secret"}]}
    source = {"type": "jsonl", "source": {"type": "file_content", "content": [{"item": {}, "sample": {}}]}}
    with (
        client(endpoint, endpoint.new_key("--data-class", "confidential")) as theirs,
        client(endpoint) as ours,
    ):
        ordered = (
            theirs.evals.create(data_source_config=ITEMS, testing_criteria=[judge]),  # type: ignore[arg-type]
            ours.evals.create(
                data_source_config=ITEMS,  # type: ignore[arg-type]
                testing_criteria=[judge],
                extra_headers=CONFIDENTIAL,
            ),
        )
        for evaluation in ordered:
            assert judged(ours, evaluation, source).result_counts.errored == 1
    assert not heard(model, "a judge's secret")


def test_what_was_answered_inside_is_not_judged_outside_afterwards(
    endpoint: Endpoint, model: Upstream
) -> None:
    endpoint.baimo("tenants", "create", "keeping", "--keep-contents", "on")
    with client(endpoint, endpoint.new_key("--tenant", "keeping")) as sdk:
        sdk.chat.completions.create(
            model="home/one",
            messages=[{"role": "user", "content": "a stored question"}],
            store=True,
            extra_headers=CONFIDENTIAL,
        )
        sdk.responses.create(model="home/one", input="a response's question", extra_headers=CONFIDENTIAL)
        stored: Any = {"type": "stored_completions"}
        logs = sdk.evals.create(data_source_config=stored, testing_criteria=[JUDGE])  # type: ignore[list-item]
        for kind, source in (("completions", stored), ("responses", {"type": "responses"})):
            run = judged(sdk, logs, {"type": kind, "source": source})
            assert (run.result_counts.total, run.result_counts.errored) == (1, 1), kind
    assert not heard(model, "Judge: ")


def test_a_job_is_not_judged_by_whom_its_key_may_not_ask(endpoint: Endpoint) -> None:
    data = "".join(
        json.dumps({"messages": [{"role": "user", "content": f"Say {one}"}]}) + "\n" for one in range(10)
    )
    small = endpoint.new_key("--limit", "cost=5/month")
    other = endpoint.new_key("--model", "home/*", "--model", "local/*")
    for credential, headers, words in (
        (endpoint.key, CONFIDENTIAL, "may not go there"),
        (other, {}, "may not use acme/one"),
        (small, {}, "Money is limited"),
    ):
        with client(endpoint, credential) as sdk:
            file = sdk.files.create(file=("t.jsonl", data.encode()), purpose="fine-tune")
            with pytest.raises(openai.PermissionDeniedError, match=words):
                sdk.fine_tuning.jobs.create(
                    model="local/smollm2-135m-instruct",
                    training_file=file.id,
                    method={"type": "reinforcement", "reinforcement": {"grader": JUDGE}},  # type: ignore[typeddict-item]
                    extra_headers=headers,
                )
