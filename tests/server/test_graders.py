"""The grader routes: what they take, what they give, and how they say that something went wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from openai.types.fine_tuning.alpha import GraderRunResponse, GraderValidateResponse

from tests.server.evaluated import CHECK, TOML, refused, strictly
from tests.server.served import Said, Served, served
from tests.server.test_evals import CODE, LABEL, LIKE, SCORE

ROOT = "/v1/fine_tuning/alpha/graders"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    patch = pytest.MonkeyPatch()
    patch.setenv("BAIMO_LANG", "en")
    with served(tmp_path_factory.mktemp("graders"), TOML) as endpoint:
        yield endpoint
    patch.undo()


@pytest.fixture(scope="module")
def key(house: Served) -> str:
    return house.key(role="app")


def run(house: Served, key: str, grader: Any, sample: Any = "yes", item: Any = None) -> Said:
    body = {"grader": grader, "model_sample": sample} | ({} if item is None else {"item": item})
    return house.call("POST", f"{ROOT}/run", key, body)


@pytest.mark.parametrize("grader", [CHECK, LIKE, CODE, SCORE], ids=lambda row: row["type"])
def test_a_grader_is_validated_as_it_was_sent(house: Served, key: str, grader: dict[str, Any]) -> None:
    said = house.call("POST", f"{ROOT}/validate", key, {"grader": grader})
    assert said.status == 200, said.body
    assert said.data["grader"] == grader
    strictly(GraderValidateResponse, said)


def test_several_graders_are_validated_in_both_of_their_forms(house: Served, key: str) -> None:
    named = {"type": "multi", "name": "m", "graders": {"a": CHECK, "b": LIKE}, "calculate_output": "a * b"}
    assert house.call("POST", f"{ROOT}/validate", key, {"grader": named}).data["grader"] == named
    single = {"type": "multi", "name": "m", "graders": CHECK, "calculate_output": "right"}
    strictly(GraderValidateResponse, house.call("POST", f"{ROOT}/validate", key, {"grader": single}))


@pytest.mark.parametrize(
    ("grader", "param"),
    [
        (None, "grader"),
        ({}, "grader.type"),
        ({**CHECK, "operation": "is"}, "grader.operation"),
        ({**CHECK, "colour": "red"}, "grader.colour"),
        ({**CODE, "source": "def grade(:"}, "grader.source"),
        ({"type": "multi", "graders": {"a": CHECK}, "calculate_output": "b"}, "grader.calculate_output"),
    ],
)
def test_what_is_no_grader_is_refused_by_both_routes(
    house: Served, key: str, grader: Any, param: str
) -> None:
    body = {} if grader is None else {"grader": grader}
    refused(house.call("POST", f"{ROOT}/validate", key, body), 400, param)
    refused(house.call("POST", f"{ROOT}/run", key, {**body, "model_sample": "x"}), 400, param)


def test_a_grade_comes_in_the_sdks_form(house: Served, key: str) -> None:
    said = strictly(GraderRunResponse, run(house, key, CHECK, "yes", {"a": "yes"}))
    assert (said.reward, said.metadata.name, said.metadata.type) == (1, "right", "string_check")
    assert said.metadata.scores == {"right": 1.0} and said.sub_rewards == {}
    assert not any(value for value in said.metadata.errors.model_dump().values())
    assert said.metadata.token_usage is None and said.api_model_grader_token_usage_per_model == {}


def test_a_sample_of_json_can_be_looked_into(house: Served, key: str) -> None:
    looks = {**CHECK, "input": "{{sample.output_json.town[0]}}"}
    assert run(house, key, looks, '{"town": ["Paris"]}', {"a": "Paris"}).data["reward"] == 1
    none = strictly(GraderRunResponse, run(house, key, looks, "Paris", {"a": "Paris"}))
    assert none.reward == 0 and none.metadata.errors.sample_parse_error
    missing = strictly(GraderRunResponse, run(house, key, CHECK, "x"))
    assert missing.metadata.errors.invalid_variable_error


def test_a_model_that_grades_is_paid_by_the_caller_and_recorded(house: Served, key: str) -> None:
    before = house.records
    said = strictly(GraderRunResponse, run(house, key, SCORE, "x"))
    assert (said.reward, said.metadata.token_usage) == (0.5, 12)
    usage = said.api_model_grader_token_usage_per_model["acme/judge"]
    assert usage == {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    house.recorded(before + 1)
    assert [one.surface for one in house.workspace.store.records()][-1] == "evals"
    label = run(house, key, LABEL, "x")
    assert label.data["reward"] == 1


def test_several_graders_tell_their_parts(house: Served, key: str) -> None:
    grader = {
        "type": "multi",
        "name": "m",
        "graders": {"a": CHECK, "b": SCORE},
        "calculate_output": "(a + b) / 2",
    }
    said = strictly(GraderRunResponse, run(house, key, grader, "yes", {"a": "yes"}))
    assert said.reward == 0.75 and said.sub_rewards == {"a": 1.0, "b": 0.5}
    assert list(said.api_model_grader_token_usage_per_model) == ["acme/judge"]


def test_code_that_fails_says_how(house: Served, key: str) -> None:
    grader = {**CODE, "source": "def grade(sample, item):\n    return item['nothing']"}
    said = strictly(GraderRunResponse, run(house, key, grader))
    assert said.reward == 0 and said.metadata.errors.python_grader_runtime_error
    assert "KeyError" in (said.metadata.errors.python_grader_runtime_error_details or "")
    inner = {"type": "multi", "graders": {"a": grader}, "calculate_output": "1 / a"}
    both = strictly(GraderRunResponse, run(house, key, inner))
    assert both.metadata.errors.formula_parse_error and both.metadata.errors.python_grader_runtime_error
    assert "KeyError" in (both.metadata.errors.python_grader_runtime_error_details or "")


def test_a_judge_that_nobody_knows_and_a_cosine_without_a_model_are_told(house: Served, key: str) -> None:
    refused(run(house, key, {**SCORE, "model": "gpt-9"}), 404, "model", "gpt-9")
    said = strictly(
        GraderRunResponse, run(house, key, {**LIKE, "evaluation_metric": "cosine"}, "x", {"a": "x"})
    )
    assert said.metadata.errors.other_error and said.reward == 0


@pytest.mark.parametrize(
    ("body", "param"), [({"model_sample": 5}, "model_sample"), ({"model_sample": "x", "item": []}, "item")]
)
def test_a_sample_is_text_and_an_item_is_an_object(house: Served, key: str, body: Any, param: str) -> None:
    refused(house.call("POST", f"{ROOT}/run", key, {"grader": CHECK, **body}), 400, param)


def test_a_key_without_the_right_grades_nothing(house: Served) -> None:
    key = house.key(surfaces=("chat",))
    assert run(house, key, CHECK).status == 403
    assert house.call("POST", f"{ROOT}/validate", key, {"grader": CHECK}).status == 403
