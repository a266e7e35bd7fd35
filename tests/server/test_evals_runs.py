"""Runs of evaluations: where their data come from, what is asked, what is counted, and how they end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openai.types.evals import (
    RunCancelResponse,
    RunCreateResponse,
    RunDeleteResponse,
    RunListResponse,
    RunRetrieveResponse,
)
from openai.types.evals.runs import OutputItemListResponse, OutputItemRetrieveResponse

from baimo.core.tenant import Key
from baimo.gateway import keyring
from baimo.store.evaluation_runs import EvalRun, EvalRuns
from baimo.workspace.eval_work import BEAT_S
from tests.server.evaluated import (
    ASKED,
    CHECK,
    HOLD,
    TOML,
    completions,
    ended,
    evaluated,
    items,
    made,
    ordered,
    refused,
    strictly,
)
from tests.server.served import Served, served
from tests.server.test_evals import CODE, LABEL, LIKE, SCORE
from tests.waiting import PATIENCE_S


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    patch = pytest.MonkeyPatch()
    patch.setenv("BAIMO_LANG", "en")
    with served(tmp_path_factory.mktemp("runs"), TOML) as endpoint:
        yield endpoint
    patch.undo()


@pytest.fixture(scope="module")
def key(house: Served) -> str:
    return house.key(role="app", label="evaluator")


def uploaded(house: Served, key: str, lines: str, purpose: str = "evals") -> str:
    form = (
        f'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n'
        '--b\r\nContent-Disposition: form-data; name="file"; filename="rows.jsonl"\r\n\r\n'
        f"{lines}\r\n--b--\r\n"
    )
    sent = {"content-type": "multipart/form-data; boundary=b"}
    said = house.call("POST", "/v1/files", key, form.encode(), sent)
    assert said.status == 200, said.body
    return str(said.data["id"])


def test_a_run_lives_as_the_sdk_knows_it(house: Served, key: str) -> None:
    evaluation = made(house, key)
    root = f"/v1/evals/{evaluation}/runs"
    rows = [{"q": "say one", "a": "one"}, {"q": "say two", "a": "2"}, {"q": "say three", "a": "three"}]
    source = completions(rows, sampling_params={"temperature": 0.5, "max_completion_tokens": 9, "seed": 3})
    body = {"name": "first", "data_source": source, "metadata": {"m": "1"}}
    created = strictly(RunCreateResponse, house.call("POST", root, key, body))
    assert (created.status, created.model, created.eval_id) == ("queued", "acme/small", evaluation)
    ended(house, key, evaluation, created.id)
    run = strictly(RunRetrieveResponse, house.call("GET", f"{root}/{created.id}", key))
    assert (run.status, run.name, run.metadata, run.error.code) == ("completed", "first", {"m": "1"}, "")
    assert (run.result_counts.total, run.result_counts.passed, run.result_counts.failed) == (3, 2, 1)
    assert [(one.testing_criteria, one.passed, one.failed) for one in run.per_testing_criteria_results] == [
        ("right", 2, 1)
    ]
    usage = run.per_model_usage[0]
    assert (usage.run_model_name, usage.invocation_count, usage.total_tokens) == ("acme/small", 3, 36)
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (30, 6, 12)
    assert run.report_url == f"http://127.0.0.1:{house.port}{root}/{run.id}"
    listed = house.call("GET", root, key).data["data"]
    assert [strictly(RunListResponse, row).id for row in listed] == [run.id]
    assert house.call("GET", f"{root}?status=failed", key).data["data"] == []
    found = items(house, key, evaluation, run.id)
    one = strictly(OutputItemListResponse, found[0])
    same = house.call("GET", f"{root}/{run.id}/output_items/{one.id}", key)
    assert strictly(OutputItemRetrieveResponse, same).id == one.id
    assert [item["status"] for item in found] == ["pass", "fail", "pass"]
    assert (one.datasource_item, one.datasource_item_id) == (rows[0], 0)
    assert [(turn.role, turn.content) for turn in one.sample.input] == [("user", "say one")]
    assert [(turn.role, turn.content) for turn in one.sample.output] == [("assistant", "one")]
    assert (one.sample.temperature, one.sample.max_completion_tokens, one.sample.seed) == (0.5, 9, 3)
    assert (one.results[0].name, one.results[0].type) == ("right", "string-check-grader")
    gone = strictly(RunDeleteResponse, house.call("DELETE", f"{root}/{run.id}", key))
    assert (gone.deleted, gone.run_id) == (True, run.id)
    refused(house.call("GET", f"{root}/{run.id}", key), 404, None, run.id)


def test_every_call_has_its_record_on_the_surface_evals_and_names_the_run(house: Served, key: str) -> None:
    before = house.records
    evaluation = made(house, key, [SCORE])
    run = ordered(house, key, evaluation, completions([{"q": "say one"}, {"q": "say two"}]))
    done = ended(house, key, evaluation, run)
    assert done["per_testing_criteria_results"] == [{"testing_criteria": "judge", "passed": 2, "failed": 0}]
    assert [one["model_name"] for one in done["per_model_usage"]] == ["acme/judge", "acme/small"]
    house.recorded(before + 4)
    records = [one for one in house.workspace.store.records() if one.run == run]
    assert len(records) == 4 and {one.surface for one in records} == {"evals"}
    assert {one.status for one in records} == {"ok"} and all(one.cost_micros is not None for one in records)
    assert {one.key for one in records} == {key[3:15]}


def test_every_kind_of_grader_judges_a_run(house: Served, key: str) -> None:
    run, found = evaluated(
        house, key, completions([{"q": "say one", "a": "one"}]), [CHECK, LIKE, CODE, SCORE, LABEL]
    )
    assert run["result_counts"] == {"total": 1, "passed": 1, "failed": 0, "errored": 0}
    results = {one["name"]: one for one in found[0]["results"]}
    assert {name: one["score"] for name, one in results.items()} == {
        "right": 1, "like": 1, "code": 1, "judge": 0.5, "label": 1,
    }  # fmt: skip
    assert results["label"]["sample"]["result"] == "good"


def test_rows_of_a_file_may_bring_their_answers(house: Served, key: str) -> None:
    lines = "".join(
        json.dumps({"item": {"q": "x", "a": "yes"}, "sample": {"output_text": said}}) + "\n"
        for said in ("yes", "no", "yes")
    )
    file = uploaded(house, key, "\ufeff" + lines + "\n")
    asked = sum(ASKED.values())
    source = {"type": "jsonl", "source": {"type": "file_id", "id": file}}
    run, found = evaluated(house, key, source)
    assert run["result_counts"] == {"total": 3, "passed": 2, "failed": 1, "errored": 0}
    assert run["model"] == "" and run["per_model_usage"] == [] and sum(ASKED.values()) == asked
    assert found[1]["sample"]["output"] == [{"role": "assistant", "content": "no"}]
    strictly(OutputItemListResponse, found[0])
    strictly(RunRetrieveResponse, run)
    assert house.call("DELETE", f"/v1/files/{file}", key).status == 200
    again = house.call("GET", f"/v1/evals/{run['eval_id']}/runs/{run['id']}", key)
    assert again.data["result_counts"]["total"] == 3


def test_a_file_with_lines_that_do_not_fit_fails_the_run_with_their_numbers(house: Served, key: str) -> None:
    lines = '{"item": {"q": "x"}}\nno json\n{"item": {"a": 1}}\n[]\n{"item": {"q": "x"}, "sample": 5}\n'
    file = uploaded(house, key, lines)
    run, found = evaluated(house, key, completions([], source={"type": "file_id", "id": file}))
    assert run["status"] == "failed" and found == []
    for word in ("line 2", "2: no JSON", "3: item: 'q'", "4: item", "5: sample"):
        assert word in run["error"]["message"], run["error"]
    assert run["error"]["code"] == "rows_wrong_value"
    strictly(RunRetrieveResponse, run)


def test_a_template_speaks_of_the_item_and_messages_may_be_in_it(house: Served, key: str) -> None:
    template = [
        {"role": "developer", "content": "Be {{item.tone}}."},
        {"type": "message", "role": "user", "content": {"type": "input_text", "text": "say {{ item.q }}"}},
    ]
    ask = {"type": "template", "template": template}
    _, found = evaluated(house, key, completions([{"q": "ça", "tone": "brief"}], input_messages=ask))
    assert found[0]["sample"]["input"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "say ça"},
    ]
    turns = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "say yes"},
    ]
    ask = {"type": "item_reference", "item_reference": "item.turns"}
    row = {"q": "", "a": "yes", "turns": turns}
    run, found = evaluated(house, key, completions([row], input_messages=ask))
    assert run["result_counts"]["passed"] == 1 and found[0]["sample"]["input"] == turns


def test_a_row_that_lacks_what_the_template_needs_is_an_error_and_the_others_go_on(
    house: Served, key: str
) -> None:
    ask = {"type": "template", "template": [{"role": "user", "content": "say {{item.a}}"}]}
    run, found = evaluated(house, key, completions([{"q": "x", "a": "b"}, {"q": "x"}], input_messages=ask))
    assert run["status"] == "completed"
    assert run["result_counts"] == {"total": 2, "passed": 1, "failed": 0, "errored": 1}
    assert found[1]["status"] == "error" and found[1]["results"] == []
    assert found[1]["sample"]["error"]["code"] == "no_variable"
    assert "item.a" in found[1]["sample"]["error"]["message"]
    strictly(OutputItemListResponse, found[1])


def test_what_could_not_be_judged_is_an_error_and_no_failure(house: Served, key: str) -> None:
    broken = {**CODE, "source": "def grade(sample, item):\n    raise KeyError('a')"}
    asks_json = {**CHECK, "name": "json", "input": "{{sample.output_json.a}}"}
    run, found = evaluated(house, key, completions([{"q": "say x", "a": "x"}]), [broken, asks_json, CHECK])
    assert run["result_counts"] == {"total": 1, "passed": 0, "failed": 0, "errored": 1}
    # the broken grader leaves the denominator; an answer that is no JSON is wrong
    assert {one["testing_criteria"]: (one["passed"], one["failed"]) for one in run["per_testing_criteria_results"]} == {
        "json": (0, 1), "right": (1, 0),
    }  # fmt: skip
    assert "KeyError" in found[0]["results"][0]["error"]["message"]


def test_functions_that_are_called_can_be_judged(house: Served, key: str) -> None:
    tools = [{"type": "function", "function": {"name": "lights", "parameters": {"type": "object"}}}]
    check = {**CHECK, "input": "{{sample.output_tools[0].function.name}}"}
    source = completions([{"q": "call it", "a": "lights"}], sampling_params={"tools": tools})
    run, found = evaluated(house, key, source, [check])
    assert run["result_counts"]["passed"] == 1
    assert found[0]["sample"]["output"][0]["tool_calls"][0]["function"]["arguments"] == '{"on": true}'


def test_responses_are_asked_through_their_own_api_and_give_the_same_sample(house: Served, key: str) -> None:
    source = {**completions([{"q": "say yes", "a": "yes"}, {"q": "call it", "a": ""}]), "type": "responses"}
    source["sampling_params"] = {
        "max_completion_tokens": 5,
        "tools": [{"type": "function", "name": "lights", "parameters": {"type": "object"}}],
    }
    calls = {
        **CHECK,
        "name": "n",
        "input": "{{sample.output_tools}}",
        "reference": "lights",
        "operation": "like",
    }
    run, found = evaluated(house, key, source, [CHECK, calls])
    assert [[one["passed"] for one in item["results"]] for item in found] == [[True, False], [True, True]]
    assert found[0]["sample"]["usage"]["prompt_tokens"] == 10
    strictly(RunRetrieveResponse, run)


def test_stored_responses_can_be_judged_without_asking_again(house: Served) -> None:
    house.tenant("amber")
    key, other = house.key(tenant="amber"), house.key()
    for tone, question, who in (
        ("kind", "say one", key),
        ("rude", "say two", key),
        ("kind", "say three", other),
    ):
        body = {
            "model": "acme/small",
            "input": question,
            "instructions": f"Be {tone}",
            "metadata": {"tone": tone},
        }
        assert house.call("POST", "/v1/responses", who, body).status == 200
    asked = sum(ASKED.values())
    source = {
        "type": "responses",
        "source": {"type": "responses", "instructions_search": "KIND", "model": "acme/small"},
    }
    _, found = evaluated(
        house, key, source, [{**CHECK, "reference": "one"}], data_source_config={"type": "logs"}
    )
    assert [item["sample"]["output"][0]["content"] for item in found] == ["one"]
    assert found[0]["datasource_item"]["metadata"] == {"tone": "kind"} and found[0]["status"] == "pass"
    assert sum(ASKED.values()) == asked


def test_a_run_that_is_cancelled_asks_nothing_more(house: Served, key: str) -> None:
    evaluation = made(house, key)
    root = f"/v1/evals/{evaluation}/runs"
    HOLD.clear()
    try:
        run = ordered(house, key, evaluation, completions([{"q": f"hold {number}"} for number in range(40)]))
        until = time.monotonic() + PATIENCE_S
        while house.call("GET", f"{root}/{run}", key).data["status"] != "in_progress":
            assert time.monotonic() < until
            time.sleep(0.01)
        cancelled = strictly(RunCancelResponse, house.call("POST", f"{root}/{run}/cancel", key))
        assert cancelled.status == "canceled"
        assert house.call("POST", f"{root}/{run}/cancel", key).status == 200
        time.sleep(2 * BEAT_S)  # by then whoever works on it has heard
        asked = sum(ASKED.values())
    finally:
        HOLD.set()
    assert ended(house, key, evaluation, run)["status"] == "canceled"
    assert len(items(house, key, evaluation, run)) < 40
    assert sum(ASKED.values()) == asked
    done = ordered(house, key, evaluation, completions([{"q": "x"}]))
    ended(house, key, evaluation, done)
    refused(house.call("POST", f"{root}/{done}/cancel", key), 409, None, "completed")


def test_a_run_whose_key_is_revoked_fails_and_says_so(house: Served) -> None:
    mine = house.key()
    evaluation = made(house, mine)
    HOLD.clear()
    try:
        run = ordered(house, mine, evaluation, completions([{"q": f"hold {number}"} for number in range(30)]))
        until = time.monotonic() + PATIENCE_S
        while not ASKED["hold 0"]:
            assert time.monotonic() < until
            time.sleep(0.01)
        house.workspace.accounts.revoke(mine[3:15])
        house.settled()
    finally:
        HOLD.set()
    other = house.key()
    done = ended(house, other, evaluation, run)
    assert (done["status"], done["error"]["code"]) == ("failed", "revoked_key")
    assert mine[3:15] in done["error"]["message"]
    assert len(items(house, other, evaluation, run)) == done["result_counts"]["total"] < 30


def test_a_run_of_a_key_that_was_just_made_in_another_process_is_worked_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "POLL_S", 3600.0)
    with served(tmp_path, TOML) as house:
        mine = house.key(role="app")
        evaluation = made(house, mine)
        other = house.workspace.accounts.create_key(Key(role="app")).key
        runs = EvalRuns(house.workspace.store.database)
        run = EvalRun(
            id=runs.new_id(),
            tenant="",
            key=other.public,
            evaluation=evaluation,
            name="x",
            model="acme/small",
            created_ms=runs.now_ms(),
        )
        runs.add(run, completions([{"q": "say yes", "a": "yes"}]))
        assert ended(house, mine, evaluation, run.id)["status"] == "completed"


def test_output_items_come_in_pages_and_by_status(house: Served, key: str) -> None:
    evaluation = made(house, key)
    rows = [{"q": f"say {number}", "a": str(number) if number % 2 else "no"} for number in range(5)]
    run = ordered(house, key, evaluation, completions(rows))
    ended(house, key, evaluation, run)
    every = items(house, key, evaluation, run)
    assert [item["datasource_item_id"] for item in every] == [0, 1, 2, 3, 4]
    page = items(house, key, evaluation, run, f"limit=2&after={every[1]['id']}")
    assert page == every[2:4]
    assert items(house, key, evaluation, run, "order=desc&limit=2") == every[:2:-1]
    for word in ("fail", "failed"):
        found = items(house, key, evaluation, run, f"status={word}")
        assert [item["datasource_item_id"] for item in found] == [0, 2, 4]
    assert [item["datasource_item_id"] for item in items(house, key, evaluation, run, "status=pass")] == [
        1,
        3,
    ]
    refused(house.call("GET", f"/v1/evals/{evaluation}/runs/{run}/output_items?status=x", key), 400, "status")
    refused(
        house.call("GET", f"/v1/evals/{evaluation}/runs/{run}/output_items/{every[0]['id']}0", key), 404, None
    )


def test_what_a_process_left_is_done_by_the_next_and_nothing_twice(house: Served, key: str) -> None:
    evaluation = made(house, key)
    runs = house.state["service"].eval_runs
    asked = ASKED.copy()
    HOLD.clear()
    try:
        run = ordered(
            house,
            key,
            evaluation,
            completions(
                [{"q": f"say left{number}", "a": f"left{number}"} for number in range(3)]
                + [{"q": "hold it", "a": "it"}]
            ),
        )
        until = time.monotonic() + PATIENCE_S
        while len(items(house, key, evaluation, run)) < 3:
            assert time.monotonic() < until
            time.sleep(0.02)
        # another process takes it over: this one notices, and lets go
        runs.change("", run, lambda one: replace(one, metadata={"taken": "over"}))
        with house.workspace.store.database.writing() as connection:
            connection.exec_driver_sql("UPDATE evaluation_runs SET holder = 'gone'")
    finally:
        HOLD.set()
    done: Any = ended(house, key, evaluation, run)
    assert done["result_counts"] == {"total": 4, "passed": 4, "failed": 0, "errored": 0}
    assert done["metadata"] == {"taken": "over"}
    new = ASKED - asked
    assert all(new[f"say left{number}"] == 1 for number in range(3)) and new["hold it"] >= 1
