"""Anthropic's Message Batches as its SDK uses them, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic.types.messages import MessageBatch

from tests.e2e.test_batches import config
from tests.serving import Endpoint, serving
from tests.upstream import TOKENS_IN, Upstream, upstream
from tests.waiting import until


@pytest.fixture(scope="module")
def model() -> Iterator[Upstream]:
    with upstream() as running:
        yield running


@pytest.fixture(scope="module")
def endpoint(model: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with serving(tmp_path_factory.mktemp("messages"), config(model)) as running:
        yield running


def client(endpoint: Endpoint, key: str = "") -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=endpoint.address, api_key=key or endpoint.key, max_retries=0)


def asking(number: int, said: str = "", **facts: Any) -> Any:
    message = {"role": "user", "content": said or f"number {number}"}
    params = {"model": "acme/one", "max_tokens": 20, "messages": [message], **facts}
    return {"custom_id": f"m-{number}", "params": params}


def ended(sdk: anthropic.Anthropic, batch: MessageBatch) -> MessageBatch:
    until(lambda: sdk.messages.batches.retrieve(batch.id).processing_status == "ended")
    return sdk.messages.batches.retrieve(batch.id)


def test_a_batch_of_messages_is_answered_refused_read_and_deleted(endpoint: Endpoint) -> None:
    with client(endpoint) as sdk:
        batch = sdk.messages.batches.create(
            requests=[*(asking(number) for number in range(5)), asking(9, "status 400")]
        )
        assert batch.request_counts.processing == 6 and batch.results_url is None
        done = ended(sdk, batch)
        counts = done.request_counts
        assert (counts.processing, counts.succeeded, counts.errored) == (
            0,
            5,
            1,
        ) and done.ended_at is not None
        results = {one.custom_id: one.result for one in sdk.messages.batches.results(batch.id)}
        assert len(results) == 6
        answered, refused = results["m-3"], results["m-9"]
        assert answered.type == "succeeded" and answered.message.content[0].type == "text"
        assert answered.message.content[0].text == "echo: number 3"
        assert answered.message.usage.input_tokens == TOKENS_IN
        assert refused.type == "errored" and refused.error.error.type == "invalid_request_error"
        assert sdk.messages.batches.delete(batch.id).type == "message_batch_deleted"
        with pytest.raises(anthropic.NotFoundError):
            sdk.messages.batches.retrieve(batch.id)
    records = endpoint.settled(6, f"run = '{batch.id}'")
    assert {row["surface"] for row in records} == {"messages"} and len(records) == 6


def test_a_cancelled_batch_tells_what_was_never_begun(endpoint: Endpoint, model: Upstream) -> None:
    model.delay_s = 0.2
    try:
        with client(endpoint) as sdk:
            batch = sdk.messages.batches.create(requests=[asking(number) for number in range(100)])
            with pytest.raises(anthropic.NotFoundError):
                list(sdk.messages.batches.results("msgbatch_none"))
            with pytest.raises(anthropic.ConflictError):
                sdk.messages.batches.delete(batch.id)
            assert sdk.messages.batches.cancel(batch.id).processing_status == "canceling"
            counts = ended(sdk, batch).request_counts
            assert counts.canceled > 0 and counts.errored == counts.expired == 0
            assert counts.succeeded + counts.canceled == 100
            kinds = [one.result.type for one in sdk.messages.batches.results(batch.id)]
            assert kinds.count("canceled") == counts.canceled and len(kinds) == 100
    finally:
        model.delay_s = 0.0


def test_pages_go_both_ways_and_hold_only_message_batches_of_the_tenant(endpoint: Endpoint) -> None:
    endpoint.baimo("tenants", "create", "pages")
    key = endpoint.new_key("--label", "pages", "--tenant", "pages")
    with client(endpoint, key) as sdk:
        made = [sdk.messages.batches.create(requests=[asking(1)]).id for _ in range(5)][::-1]
        assert [batch.id for batch in sdk.messages.batches.list(limit=2)] == made
        page = sdk.messages.batches.list(limit=2, before_id=made[3])
        assert [batch.id for batch in page.data] == made[1:3] and page.has_more
        for id in made:
            ended(sdk, sdk.messages.batches.retrieve(id))
    with client(endpoint) as stranger, pytest.raises(anthropic.NotFoundError):
        stranger.messages.batches.retrieve(made[0])


@pytest.mark.parametrize(
    "requests",
    [
        [],
        [asking(1), asking(1)],
        [asking(1, stream=True)],
        [{**asking(1), "custom_id": "x" * 65}],
        [{"custom_id": "a"}],
    ],
)
def test_what_cannot_be_a_batch_is_refused_at_once(endpoint: Endpoint, requests: Any) -> None:
    with client(endpoint) as sdk, pytest.raises(anthropic.BadRequestError):
        sdk.messages.batches.create(requests=requests)
