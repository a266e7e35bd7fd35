"""Evaluations over HTTP: their life, what is refused, and that tenants do not see each other's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from openai.types import (
    EvalCreateResponse,
    EvalDeleteResponse,
    EvalListResponse,
    EvalRetrieveResponse,
    EvalUpdateResponse,
)

from tests.server.evaluated import (
    CHECK,
    CUSTOM,
    ITEM,
    TOML,
    completions,
    ended,
    items,
    made,
    ordered,
    refused,
    strictly,
)
from tests.server.served import Served, served

SCORE = {
    "type": "score_model",
    "name": "judge",
    "model": "acme/judge",
    "input": [{"role": "user", "content": "{{sample.output_text}}"}],
    "pass_threshold": 0.4,
}
LABEL = {
    **SCORE,
    "type": "label_model",
    "name": "label",
    "labels": ["good", "bad"],
    "passing_labels": ["good"],
}
del LABEL["pass_threshold"]
LIKE = {
    "type": "text_similarity",
    "name": "like",
    "input": "{{sample.output_text}}",
    "reference": "{{item.a}}",
    "evaluation_metric": "rouge_l",
    "pass_threshold": 0.5,
}
CODE = {
    "type": "python",
    "name": "code",
    "source": "def grade(sample, item):\n    return 1.0",
    "pass_threshold": 1,
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    patch = pytest.MonkeyPatch()
    patch.setenv("BAIMO_LANG", "en")
    with served(tmp_path_factory.mktemp("evals"), TOML) as endpoint:
        yield endpoint
    patch.undo()


@pytest.fixture(scope="module")
def key(house: Served) -> str:
    return house.key(role="app")


def test_an_evaluation_lives_as_the_sdk_knows_it(house: Served, key: str) -> None:
    body = {
        "name": "all kinds",
        "data_source_config": CUSTOM,
        "testing_criteria": [CHECK, LIKE, CODE, SCORE, LABEL],
        "metadata": {"team": "search"},
    }
    said = house.call("POST", "/v1/evals", key, body)
    assert said.status == 201
    created = strictly(EvalCreateResponse, said)
    assert [one.type for one in created.testing_criteria] == [
        "string_check", "text_similarity", "python", "score_model", "label_model",
    ]  # fmt: skip
    schema = said.data["data_source_config"]["schema"]
    assert schema["properties"]["item"] == ITEM and schema["required"] == ["item", "sample"]
    path = f"/v1/evals/{created.id}"
    assert strictly(EvalRetrieveResponse, house.call("GET", path, key)).metadata == {"team": "search"}
    renamed = strictly(EvalUpdateResponse, house.call("POST", path, key, {"name": "other"}))
    assert (renamed.name, renamed.metadata) == ("other", {"team": "search"})
    cleared = strictly(EvalUpdateResponse, house.call("POST", path, key, {"metadata": {}}))
    assert (cleared.name, cleared.metadata) == ("other", {})
    listed = house.call("GET", "/v1/evals?limit=100", key).data
    assert created.id in [strictly(EvalListResponse, row).id for row in listed["data"]]
    gone = strictly(EvalDeleteResponse, house.call("DELETE", path, key))
    assert (gone.deleted, gone.eval_id, gone.object) == (True, created.id, "eval.deleted")
    refused(house.call("GET", path, key), 404, None, created.id)


def test_logs_and_stored_completions_are_configurations_with_labels(house: Served, key: str) -> None:
    for kind in ("logs", "stored_completions"):
        config = {"type": kind, "metadata": {"usecase": "chatbot"}}
        said = house.call(
            "POST", "/v1/evals", key, {"data_source_config": config, "testing_criteria": [CHECK]}
        )
        shown = strictly(EvalCreateResponse, said).data_source_config
        assert shown.type == kind and shown.metadata == {"usecase": "chatbot"}  # type: ignore[union-attr]


def test_graders_of_one_name_are_told_apart(house: Served, key: str) -> None:
    evaluation = made(house, key, [CHECK, CHECK, {**CHECK, "name": None}])
    rows = house.call("GET", f"/v1/evals/{evaluation}", key).data["testing_criteria"]
    assert [row["name"] for row in rows] == ["right", "right-2", "string_check"]


@pytest.mark.parametrize(
    ("change", "param", "word"),
    [
        ({"data_source_config": None}, "data_source_config", ""),
        ({"data_source_config": {"type": "tables"}}, "data_source_config.type", ""),
        ({"data_source_config": {"type": "custom"}}, "data_source_config.item_schema", ""),
        ({"data_source_config": {**CUSTOM, "schema": {}}}, "data_source_config.schema", ""),
        (
            {"data_source_config": {"type": "custom", "item_schema": {"type": "objekt"}}},
            "data_source_config.item_schema",
            "objekt",
        ),
        ({"testing_criteria": None}, "testing_criteria", ""),
        ({"testing_criteria": []}, "testing_criteria", ""),
        ({"testing_criteria": [CHECK, {"type": "regex"}]}, "testing_criteria[1].type", "string_check"),
        ({"testing_criteria": [{**CHECK, "operation": "is"}]}, "testing_criteria[0].operation", ""),
        ({"testing_criteria": [{**CHECK, "input": "{{ x }}"}]}, "testing_criteria[0].input", "'x'"),
        ({"testing_criteria": [{**LIKE, "pass_threshold": None}]}, "testing_criteria[0].pass_threshold", ""),
        ({"testing_criteria": [CHECK] * 101}, "testing_criteria", "100"),
        ({"metadata": {"k": "v" * 513}}, "metadata", ""),
        ({"name": 5}, "name", ""),
        ({"name": "x" * 300}, "name", ""),
    ],
)
def test_what_could_not_be_evaluated_is_refused_in_openais_words(
    house: Served, key: str, change: dict[str, Any], param: str, word: str
) -> None:
    body = {"name": "n", "data_source_config": CUSTOM, "testing_criteria": [CHECK], **change}
    said = house.call("POST", "/v1/evals", key, {name: one for name, one in body.items() if one is not None})
    refused(said, 400, param, word)
    assert said.data["error"]["type"] == "invalid_request_error"


def test_a_judge_that_nobody_knows_is_refused_at_once(house: Served, key: str) -> None:
    body = {"data_source_config": CUSTOM, "testing_criteria": [{**SCORE, "model": "gpt-9"}]}
    said = house.call("POST", "/v1/evals", key, body)
    refused(said, 404, "model", "gpt-9")
    assert said.data["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("source", "param"),
    [
        ({"type": "table"}, "data_source.type"),
        ({"type": "jsonl"}, "data_source.source"),
        ({"type": "jsonl", "source": {"type": "stored_completions"}}, "data_source.source.type"),
        ({"type": "jsonl", "source": {"type": "file_content", "content": []}}, "data_source.source.content"),
        ({"type": "jsonl", "source": {"type": "file_id"}}, "data_source.source.id"),
        ({"type": "jsonl", "model": "m", "source": {"type": "file_id", "id": "x"}}, "data_source.model"),
        ({**completions([{"q": "x"}]), "model": None}, "data_source.model"),
        ({**completions([{"q": "x"}]), "input_messages": None}, "data_source.input_messages"),
        (
            completions([{"q": "x"}], input_messages={"type": "template", "template": []}),
            "data_source.input_messages.template",
        ),
        (
            completions([{"q": "x"}], input_messages={"type": "item_reference", "item_reference": "rows"}),
            "data_source.input_messages.item_reference",
        ),
        (
            completions([{"q": "x"}], sampling_params={"temperature": "hot"}),
            "data_source.sampling_params.temperature",
        ),
        (completions([{"q": "x"}, {"a": "no q"}, {"q": 5}]), "data_source.source.content"),
        (
            {"type": "responses", "source": {"type": "responses", "created_after": "x"}},
            "data_source.source.created_after",
        ),
    ],
)
def test_a_run_over_nothing_is_refused_in_openais_words(
    house: Served, key: str, source: dict[str, Any], param: str
) -> None:
    evaluation = made(house, key)
    source = {name: one for name, one in source.items() if one is not None}
    said = house.call("POST", f"/v1/evals/{evaluation}/runs", key, {"data_source": source})
    refused(said, 400, param)


def test_rows_that_miss_the_schema_are_named_with_their_lines(house: Served, key: str) -> None:
    evaluation = made(house, key)
    rows = completions([{"q": "x"}, {"a": "no q"}, {"q": 5}])
    said = house.call("POST", f"/v1/evals/{evaluation}/runs", key, {"data_source": rows})
    refused(said, 400, "data_source.source.content", "line 2", "'q' is a required property", "3: item.q")


def test_a_run_names_a_model_and_a_file_that_there_are(house: Served, key: str) -> None:
    path = f"/v1/evals/{made(house, key)}/runs"
    unknown = house.call("POST", path, key, {"data_source": completions([{"q": "x"}], model="gpt-9")})
    refused(unknown, 404, "model", "gpt-9")
    source = {"type": "jsonl", "source": {"type": "file_id", "id": "file-none"}}
    refused(house.call("POST", path, key, {"data_source": source}), 404, None, "file-none")


def test_lists_come_in_pages_both_ways(house: Served) -> None:
    house.tenant("pages")
    key = house.key(tenant="pages")
    ids = [made(house, key, name=f"e{number}") for number in range(3)]
    ids = sorted(ids)
    first = house.call("GET", "/v1/evals?limit=2", key).data
    assert ([row["id"] for row in first["data"]], first["has_more"]) == (ids[:2], True)
    assert (first["first_id"], first["last_id"], first["object"]) == (ids[0], ids[1], "list")
    rest = house.call("GET", f"/v1/evals?limit=2&after={ids[1]}", key).data
    assert ([row["id"] for row in rest["data"]], rest["has_more"]) == (ids[2:], False)
    down = house.call("GET", "/v1/evals?order=desc&order_by=updated_at", key).data
    assert len(down["data"]) == 3
    for query in ("after=nope", "limit=0", "limit=x", "order=up", "order_by=name"):
        refused(house.call("GET", f"/v1/evals?{query}", key), 400, query.partition("=")[0])


def test_a_key_without_the_right_opens_no_evaluation(house: Served, key: str) -> None:
    chat = house.key(surfaces=("chat",))
    evals = house.key(surfaces=("evals",))
    evaluation = made(house, key)
    for path in ("/v1/evals", f"/v1/evals/{evaluation}"):
        assert house.call("GET", path, chat).status == 403
        assert house.call("GET", path, evals).status == 200
    run = ordered(house, evals, evaluation, completions([{"q": "say x", "a": "x"}]))
    assert ended(house, evals, evaluation, run)["result_counts"]["passed"] == 1


def test_two_tenants_never_see_each_others_evaluations(house: Served) -> None:
    house.tenant("garnet")
    house.tenant("topaz")
    mine, other = house.key(tenant="garnet"), house.key(tenant="topaz", role="admin")
    evaluation = made(house, mine, name="garnet secrets")
    run = ordered(house, mine, evaluation, completions([{"q": "garnet"}]))
    ended(house, mine, evaluation, run)
    item = items(house, mine, evaluation, run)[0]["id"]
    own = made(house, other)
    root = f"/v1/evals/{evaluation}"
    for method, path in (
        *(("GET", root), ("POST", root), ("DELETE", root), ("GET", f"{root}/runs"), ("POST", f"{root}/runs")),
        *((method, f"{root}/runs/{run}") for method in ("GET", "POST", "DELETE")),
        *(("POST", f"{root}/runs/{run}/cancel"), ("GET", f"{root}/runs/{run}/output_items")),
        ("GET", f"{root}/runs/{run}/output_items/{item}"),
        # another's run under one's own evaluation
        *(("GET", f"/v1/evals/{own}/runs/{run}"), ("GET", f"/v1/evals/{own}/runs/{run}/output_items/{item}")),
        ("DELETE", f"/v1/evals/{own}/runs/{run}"),
    ):
        said = house.call(method, path, other, {} if method == "POST" else None)
        assert said.status == 404, (method, path, said.body)
        assert b"garnet" not in said.body
    assert [row["id"] for row in house.call("GET", "/v1/evals", other).data["data"]] == [own]
    assert house.call("GET", f"{root}/runs/{run}/output_items/{item}", mine).status == 200
