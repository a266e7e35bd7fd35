"""Confidential data stays inside on every road that remembers: conversations, batches, files."""

from __future__ import annotations

import json
from collections.abc import Iterator

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
