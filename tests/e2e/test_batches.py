"""Files and batches as the official SDK uses them, on a real server that is stopped and killed on the way."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Batch

from tests.e2e.test_counting import NAME as LOCAL
from tests.e2e.test_counting import config as local_config
from tests.serving import Endpoint, serving
from tests.upstream import TOKENS_IN, TOKENS_OUT, Upstream, upstream
from tests.waiting import until

ENDED = ("completed", "failed", "expired", "cancelled")
FULL_PRICE = TOKENS_IN + 2 * TOKENS_OUT
"""Micro-units of one call."""


def config(model: Upstream) -> str:
    return f"""
[providers.acme]
protocol = "openai"
base_url = "{model.address}"
concurrency = 8
[models."acme/one"]
input_per_million = 1
output_per_million = 2
max_output = {TOKENS_OUT}
[models."acme/half"]
input_per_million = 1
output_per_million = 2
batch_discount = 0.5
"""


@pytest.fixture(scope="module")
def model() -> Iterator[Upstream]:
    with upstream() as running:
        yield running


@pytest.fixture(scope="module")
def endpoint(model: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with serving(tmp_path_factory.mktemp("batches"), config(model)) as running:
        yield running


def client(endpoint: Endpoint, key: str = "") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{endpoint.address}/v1", api_key=key or endpoint.key, max_retries=0)


def line(number: int, said: str = "", model: str = "acme/one", **facts: Any) -> str:
    row = {
        "custom_id": f"line-{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": model, "messages": [{"role": "user", "content": said or f"number {number}"}]},
    }
    return json.dumps({**row, **facts}) + "\n"


def ordered(sdk: openai.OpenAI, lines: str) -> Batch:
    file = sdk.files.create(file=("in.jsonl", lines.encode()), purpose="batch")
    return sdk.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")


def ended(sdk: openai.OpenAI, batch: Batch) -> Batch:
    until(lambda: sdk.batches.retrieve(batch.id).status in ENDED)
    return sdk.batches.retrieve(batch.id)


def results(sdk: openai.OpenAI, file: str | None) -> dict[str, Any]:
    """Lines of a result file by custom_id, each of which is there once."""
    rows = [json.loads(row) for row in sdk.files.content(file).text.splitlines()] if file else []
    found = {row["custom_id"]: row for row in rows}
    assert len(found) == len(rows)
    return found


def asked(model: Upstream) -> Counter[str]:
    return Counter(body["messages"][-1]["content"] for body in model.bodies)


def counts(batch: Batch) -> tuple[int, int, int]:
    given = batch.request_counts
    assert given is not None
    return given.total, given.completed, given.failed


def test_a_batch_is_answered_and_each_line_has_one_record_that_names_it(
    endpoint: Endpoint, model: Upstream
) -> None:
    with client(endpoint) as sdk:
        file = sdk.files.create(
            file=("in.jsonl", "".join(line(number) for number in range(40)).encode()),
            purpose="batch",
            expires_after={"anchor": "created_at", "seconds": 7200},
        )
        assert file.expires_at is not None and file.expires_at - file.created_at == 7200
        assert sdk.files.retrieve(file.id) == file and len(sdk.files.content(file.id).content) == file.bytes
        batch = sdk.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"night": "1"},
            output_expires_after={"anchor": "created_at", "seconds": 3600},
        )
        done = ended(sdk, batch)
        assert (done.status, done.model, done.metadata) == ("completed", "acme/one", {"night": "1"})
        assert counts(done) == (40, 40, 0) and done.error_file_id is None
        assert done.usage is not None and done.usage.total_tokens == 40 * (TOKENS_IN + TOKENS_OUT)
        found = results(sdk, done.output_file_id)
        assert set(found) == {f"line-{number}" for number in range(40)}
        one = found["line-7"]
        assert one["error"] is None and one["response"]["status_code"] == 200
        assert one["response"]["body"]["choices"][0]["message"]["content"] == "echo: number 7"
        assert one["response"]["request_id"] == one["id"]
        output = sdk.files.retrieve(done.output_file_id or "")
        assert output.purpose == "batch_output" and output.expires_at == output.created_at + 3600
    records = endpoint.settled(40, f"run = '{batch.id}'")
    assert len(records) == 40 and {row["status"] for row in records} == {"ok"}
    assert {row["cost_micros"] for row in records} == {FULL_PRICE}


def test_lines_are_paid_at_the_price_of_batches_and_interactive_calls_are_not(endpoint: Endpoint) -> None:
    with client(endpoint) as sdk:
        batch = ended(sdk, ordered(sdk, line(1, model="acme/half")))
        sdk.chat.completions.create(model="acme/half", messages=[{"role": "user", "content": "now"}])
    records = endpoint.settled(2, "model = 'acme/half'")
    by_run = {row["run"]: row["cost_micros"] for row in records}
    assert by_run == {batch.id: FULL_PRICE // 2, "": FULL_PRICE}


def test_a_file_that_is_wrong_fails_with_the_line_and_the_field_and_costs_nothing(endpoint: Endpoint) -> None:
    lines = (
        line(1) + "no json\n" + line(1) + line(2, method="GET") + line(3, url="/v1/embeddings") + "\n"
    ) + line(4, custom_id=5)
    with client(endpoint) as sdk:
        done = ended(sdk, ordered(sdk, lines))
        assert done.status == "failed" and done.failed_at and done.errors is not None
        said = [(one.line, one.code, one.param) for one in done.errors.data or ()]
        assert said == [
            (2, "invalid_json_line", None),
            (3, "duplicate_custom_id", "custom_id"),
            (4, "invalid_method", "method"),
            (5, "mismatched_url", "url"),
            (7, "invalid_type", "custom_id"),
        ]
        assert done.output_file_id is None
    assert endpoint.records(f"run = '{done.id}'") == []


def test_refused_lines_go_to_the_error_file_and_the_others_are_answered(endpoint: Endpoint) -> None:
    lines = line(1) + line(2, "status 400") + line(3, model="acme/none-such", said="hello") + line(4)
    with client(endpoint) as sdk:
        done = ended(sdk, ordered(sdk, lines))
        assert done.status == "completed" and done.model is None
        answered, refused = results(sdk, done.output_file_id), results(sdk, done.error_file_id)
        assert "line-1" in answered and "line-4" in answered and "line-2" in refused
        assert refused["line-2"]["response"]["status_code"] == 400
        assert "error" in refused["line-2"]["response"]["body"]
        assert counts(done) == (4, len(answered), len(refused))


def test_pages_of_files_and_batches_hold_everything_once(endpoint: Endpoint) -> None:
    key = endpoint.new_key("--label", "pages")
    with client(endpoint, key) as sdk:
        made = [ordered(sdk, line(number)) for number in range(5)]
        for batch in made:
            ended(sdk, batch)
        ids = [batch.id for batch in sdk.batches.list(limit=2)]
        assert set(ids) >= {batch.id for batch in made} and len(ids) == len(set(ids))
        first = sdk.files.list(limit=3, purpose="batch", order="asc")
        assert first.has_more and len(first.data) == 3
        files = [file.id for file in sdk.files.list(limit=3, purpose="batch", order="asc")]
        assert {batch.input_file_id for batch in made} <= set(files) and len(files) == len(set(files))
        created = [file.created_at for file in sdk.files.list(limit=100)]
        assert created == sorted(created, reverse=True)


def test_errors_are_the_exceptions_that_the_sdk_knows(endpoint: Endpoint) -> None:
    with client(endpoint) as sdk:
        with pytest.raises(openai.NotFoundError):
            sdk.files.retrieve("file-none")
        with pytest.raises(openai.NotFoundError):
            sdk.files.content("file-none")
        with pytest.raises(openai.NotFoundError):
            sdk.batches.retrieve("batch_none")
        with pytest.raises(openai.NotFoundError):
            sdk.batches.create(
                input_file_id="file-none", endpoint="/v1/chat/completions", completion_window="24h"
            )
        with pytest.raises(openai.BadRequestError) as wrong:
            sdk.files.create(file=("in.jsonl", b"x"), purpose="assistants")
        assert wrong.value.param == "purpose"
        file = sdk.files.create(file=("in.jsonl", line(1).encode()), purpose="batch")
        with pytest.raises(openai.BadRequestError) as wrong:
            sdk.batches.create(input_file_id=file.id, endpoint="/v1/videos", completion_window="24h")
        assert wrong.value.param == "endpoint"
        done = ended(sdk, ordered(sdk, line(1)))
        with pytest.raises(openai.ConflictError):
            sdk.batches.cancel(done.id)
        with pytest.raises(openai.BadRequestError):
            sdk.batches.create(
                input_file_id=done.output_file_id or "",
                endpoint="/v1/chat/completions",
                completion_window="24h",
            )
    with client(endpoint, "bm-000000000000-" + "0" * 48) as sdk, pytest.raises(openai.AuthenticationError):
        sdk.files.list()
    chatty = endpoint.new_key("--label", "chatty", "--surface", "chat")
    with client(endpoint, chatty) as sdk:
        with pytest.raises(openai.PermissionDeniedError):
            sdk.files.list()
        with pytest.raises(openai.PermissionDeniedError):
            sdk.batches.list()


def test_a_file_longer_than_other_bodies_may_be_goes_in_and_out_in_pieces(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    path = tmp_path / "long.jsonl"
    path.write_bytes(b"x" * (80 << 20))
    with client(endpoint) as sdk:
        file = sdk.files.create(file=path, purpose="batch")
        assert file.bytes == 80 << 20
        with sdk.files.with_streaming_response.content(file.id) as answer:
            assert sum(map(len, answer.iter_bytes(1 << 20))) == 80 << 20
        sdk.files.delete(file.id)
        with pytest.raises(openai.NotFoundError):
            sdk.files.retrieve(file.id)
    left = [
        path.name for path in (endpoint.folder / ".baimo/files").rglob("*") if path.stat().st_size > 1 << 20
    ]
    assert left == []


def test_tenants_never_see_each_others_files_and_batches(endpoint: Endpoint) -> None:
    endpoint.baimo("tenants", "create", "other")
    theirs = endpoint.new_key("--label", "theirs", "--tenant", "other")
    with client(endpoint) as sdk, client(endpoint, theirs) as stranger:
        done = ended(sdk, ordered(sdk, line(1)))
        assert list(stranger.batches.list()) == [] and list(stranger.files.list()) == []
        for refused in (
            lambda: stranger.batches.retrieve(done.id),
            lambda: stranger.batches.cancel(done.id),
            lambda: stranger.files.retrieve(done.input_file_id),
            lambda: stranger.files.content(done.output_file_id or ""),
            lambda: stranger.files.delete(done.input_file_id),
            lambda: stranger.batches.create(
                input_file_id=done.input_file_id, endpoint="/v1/chat/completions", completion_window="24h"
            ),
        ):
            with pytest.raises(openai.NotFoundError):
                refused()
        own = ended(stranger, ordered(stranger, line(1)))
    assert {row["tenant"] for row in endpoint.settled(1, f"run = '{own.id}'")} == {"other"}
    folder = endpoint.folder / ".baimo/files"
    assert len(list((folder / "other").iterdir())) == 2
    endpoint.baimo("tenants", "forget", "other", "--yes")
    assert not (folder / "other").exists()


def test_when_the_budget_runs_out_the_other_lines_say_so_and_not_a_cent_more_is_spent(
    endpoint: Endpoint,
) -> None:
    key = endpoint.new_key("--label", "poor", "--limit", "cost=0.001")
    with client(endpoint, key) as sdk:
        done = ended(sdk, ordered(sdk, "".join(line(number) for number in range(40))))
        assert done.status == "completed"
        answered, refused = results(sdk, done.output_file_id), results(sdk, done.error_file_id)
        assert len(answered) + len(refused) == 40 and 1 <= len(answered) <= 1000 // FULL_PRICE
        assert all(row["response"]["status_code"] == 429 for row in refused.values())
        error = next(iter(refused.values()))["response"]["body"]["error"]
        assert error["code"] == "insufficient_quota" and "0.001" in error["message"]
    records = endpoint.settled(len(answered), f"run = '{done.id}'")
    assert len(records) == len(answered) and sum(row["charged_micros"] for row in records) <= 1000


def test_cancelled_lines_in_flight_end_and_the_rest_is_not_begun(endpoint: Endpoint, model: Upstream) -> None:
    model.delay_s = 0.2
    try:
        with client(endpoint) as sdk:
            batch = ordered(sdk, "".join(line(number, f"cancel {number}") for number in range(200)))
            until(lambda: counts(sdk.batches.retrieve(batch.id))[1] >= 4)
            with pytest.raises(openai.ConflictError):
                sdk.files.delete(batch.input_file_id)
            assert sdk.batches.cancel(batch.id).status == "cancelling"
            done = ended(sdk, batch)
            assert done.status == "cancelled" and done.cancelled_at and done.cancelling_at
            answered, left = results(sdk, done.output_file_id), results(sdk, done.error_file_id)
            assert counts(done) == (200, len(answered), len(left)) and len(answered) < 200
            assert {row["error"]["code"] for row in left.values()} == {"batch_cancelled"}
            assert len(left) + len(answered) == 200
    finally:
        model.delay_s = 0.0
    assert sum(1 for said in asked(model) if said.startswith("cancel")) == len(answered)
    assert {row["status"] for row in endpoint.settled(len(answered), f"run = '{batch.id}'")} == {"ok"}


@pytest.mark.parametrize("killed", [False, True])
def test_a_batch_goes_on_after_a_stop_in_the_middle_and_no_answered_line_is_asked_again(
    tmp_path: Path, killed: bool
) -> None:
    with upstream(delay_s=0.1) as model:
        with serving(tmp_path, config(model)) as endpoint, client(endpoint) as sdk:
            batch = ordered(sdk, "".join(line(number) for number in range(80)))
            until(lambda: counts(sdk.batches.retrieve(batch.id))[1] >= 4)
            key = endpoint.key
            if killed:
                endpoint.kill()
        files = tmp_path / ".baimo/files/_"
        before = {
            json.loads(row)["custom_id"]
            for path in files.iterdir()
            for row in path.read_text().splitlines(keepends=True)
            if '"response":{' in row and row.endswith("\n")
        }
        assert 4 <= len(before) < 80
        model.delay_s = 0.0
        with serving(tmp_path, config(model)) as endpoint, client(endpoint, key) as sdk:
            done = ended(sdk, batch)
            assert done.status == "completed" and counts(done) == (80, 80, 0)
            assert set(results(sdk, done.output_file_id)) == {f"line-{number}" for number in range(80)}
            assert done.usage is not None and done.usage.input_tokens == 80 * TOKENS_IN
            times = asked(model)
            twice = {f"line-{said.split()[1]}" for said, often in times.items() if often > 1}
            assert not twice & before and max(times.values()) <= 2
            records = endpoint.settled(80 + len(twice), f"run = '{batch.id}'")
            statuses = Counter(row["status"] for row in records)
            assert statuses == Counter({"ok": 80, "gateway.interrupted": len(twice)} if twice else {"ok": 80})
            assert killed or not twice, "a stop waits for the lines in flight"


def test_of_two_workers_one_works_on_a_batch(tmp_path: Path) -> None:
    with (
        upstream(delay_s=0.02) as model,
        serving(tmp_path, config(model), "--workers", "2") as endpoint,
        client(endpoint) as sdk,
    ):
        batches = [
            ordered(sdk, "".join(line(number, f"{which} {number}") for number in range(20)))
            for which in "abc"
        ]
        for batch in batches:
            assert counts(ended(sdk, batch)) == (20, 20, 0)
        assert set(asked(model).values()) == {1} and len(asked(model)) == 60


@pytest.mark.local
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_model_of_this_machine_answers_a_batch_beside_a_caller(tmp_path: Path, workers: str) -> None:
    with (
        serving(tmp_path / "w", local_config(tmp_path), "--workers", workers) as endpoint,
        client(endpoint) as sdk,
    ):
        body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "model": LOCAL}
        batch = ordered(sdk, "".join(line(number, body=body) for number in range(12)))
        sdk.chat.completions.create(**body)  # type: ignore[call-overload]
        assert counts(ended(sdk, batch)) == (12, 12, 0)
        records = endpoint.settled(13)
    assert Counter(row["run"] for row in records) == {batch.id: 12, "": 1}
    assert {(row["status"], row["cost_micros"]) for row in records} == {("ok", 0)}
