"""Reviews over HTTP: what decides most comes first, a second reader does not see the first, fixes become examples."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from tests.server.admin import reviewed
from tests.server.served import Served


@pytest.fixture(scope="module")
def ann(house: Served) -> str:
    reviewed.compared(house)
    return house.key(role="reviewer", label="ann")


@pytest.fixture(scope="module")
def bob(house: Served) -> str:
    return house.key(role="reviewer", label="bob")


def queue(house: Served, key: str, **asked: Any) -> list[dict[str, Any]]:
    query = "&".join(f"{name}={value}" for name, value in asked.items())
    found: list[dict[str, Any]] = house.call("GET", f"/api/reviews?limit=100&{query}", key).data["data"]
    return found


def judge(house: Served, key: str, review: str, said: str, **more: Any) -> Any:
    return house.call("POST", f"/api/reviews/{review}/judgement", key, {"said": said, **more})


def test_answers_on_which_the_leaders_differ_come_first_and_say_why(house: Served, ann: str) -> None:
    asked = {"run": "run_1", "sample": 2, "second": 1.0}
    assert house.call("POST", "/api/reviews", ann, asked).data["new"] >= 5
    assert house.call("POST", "/api/reviews", ann, asked).data["new"] == 0  # they are on it already
    found = queue(house, ann)
    assert [(one["reason"], one["example"]) for one in found[:2]] == [("leaders_differ", "e1")] * 2
    reasons = [one["reason"] for one in found]
    assert reasons == sorted(reasons, key=["leaders_differ", "unscored", "sample"].index)
    assert reasons.count("unscored") == 3 and {one["task"] for one in found} == {"mail"}
    figures = house.call("GET", "/api/review-figures", house.key(role="viewer")).data
    assert figures["tasks"] == [{"task": "mail", "open": len(found), "done": 0, "all": len(found)}]
    assert figures["runs"][0]["run"] == "run_1" and figures["agreement"][0]["kappa"] is None


def test_a_second_reader_judges_without_knowing_what_the_first_said(
    house: Served, ann: str, bob: str
) -> None:
    house.call("POST", "/api/reviews", ann, {"run": "run_1", "sample": 2, "second": 1.0})
    first = queue(house, ann)[0]["review"]
    shown = house.call("GET", f"/api/reviews/{first}", ann).data
    assert shown["messages"][-1]["content"] == "I want my money back" and shown["expected"] == "refund"
    assert (shown["candidates"], shown["outcome"], shown["judgements"]) == ([], None, [])
    after = judge(house, ann, first, "agree", note="as it should be").data
    assert after["mine"]["said"] == "agree" and after["judgements"] == [] and after["candidates"] == []
    seen = house.call("GET", f"/api/reviews/{first}", bob)
    assert (
        seen.data["mine"] is None
        and b"as it should be" not in seen.body
        and ann[3:15].encode() not in seen.body
    )
    assert first not in {one["review"] for one in queue(house, ann)}
    assert first in {one["review"] for one in queue(house, bob)}
    done = judge(house, bob, first, "reject").data
    assert [one["said"] for one in done["judgements"]] == ["agree", "reject"] and done["candidates"]
    third = house.key(role="reviewer")
    late = judge(house, third, first, "agree")
    assert (late.status, late.data["error"]["code"]) == (409, "reviews.all_read")
    assert [one["review"] for one in queue(house, bob, state="done")] == [first]
    assert house.call("DELETE", f"/api/reviews/{first}/judgement", bob).status == 200
    assert house.call("DELETE", f"/api/reviews/{first}/judgement", bob).status == 404
    assert house.call("GET", f"/api/reviews/{first}", ann).data["candidates"] == []


def test_the_queue_is_a_table_that_is_sorted_filtered_and_taken_along(house: Served) -> None:
    house.tenant("gold")
    reviewed.compared(house, "gold", name="letters", run="run_gold")
    eve, eva = (house.key(role="reviewer", tenant="gold") for _ in range(2))
    house.call("POST", "/api/reviews", eve, {"run": "run_gold", "sample": 2, "second": 1.0})
    first, *rest = queue(house, eve)
    judge(house, eve, first["review"], "fix", correction="=1+1", note="so it is")

    asks = queue(house, eve, text="MONEY")
    assert {one["question"] for one in asks} == {"I want my money back"} and len(asks) < len(rest)
    assert {one["reason"] for one in queue(house, eve, reason="unscored")} == {"unscored"}
    rising = [one["review"] for one in queue(house, eve, sort="rank")]
    assert [one["reason"] for one in queue(house, eve, sort="rank")][-1] == "leaders_differ"
    cursor, paged = "", list[str]()
    while cursor is not None:
        page = house.call("GET", f"/api/reviews?sort=rank&limit=2&cursor={cursor}", eve).data
        paged += [one["review"] for one in page["data"]]
        cursor = page["next"]
    assert paged == rising

    def taken(who: str, form: str = "jsonl", **asked: str) -> Any:
        query = "&".join(f"{name}={value}" for name, value in asked.items())
        return house.call("GET", f"/api/review-export?state=all&format={form}&{query}", who)

    def line_of(who: str) -> dict[str, Any]:
        lines = [json.loads(line) for line in taken(who).body.splitlines()]
        return next(line for line in lines if line["review"] == first["review"])

    one, other = line_of(eve), line_of(eva)
    assert one["mine"]["correction"] == "=1+1" and one["answer"] in ("parcel", "refund")
    assert (one["said"], one["candidates"], one["outcome"]) == ([], [], None)  # the second has not read it
    assert other["mine"] is None and "so it is" not in json.dumps(other)
    judge(house, eva, first["review"], "agree")
    told = line_of(eva)
    assert told["said"] == ["fix", "agree"] and told["corrections"] == ["=1+1"] and told["candidates"]
    rows = list(csv.DictReader(io.StringIO(taken(eve, "csv", text="money").body.decode())))
    assert {row["question"] for row in rows} == {"I want my money back"}
    assert [row["mine.correction"] for row in rows if row["mine.said"]] == ["'=1+1"]  # no formula


def test_a_fix_becomes_the_reference_of_its_example_with_its_lineage(house: Served, ann: str) -> None:
    house.call("POST", "/api/reviews", ann, {"run": "run_1", "sample": 2, "second": 1.0})
    open = next(one["review"] for one in queue(house, ann) if one["example"] == "e3")
    for said, more, code in (
        ("fix", {}, "reviews.no_correction"),
        ("reject", {"store": True}, "reviews.nothing_right"),
    ):
        assert judge(house, ann, open, said, **more).data["error"]["code"] == code
    after = judge(house, ann, open, "fix", correction="Until six.", store=True).data
    assert after["mine"]["stored"] == "test:e3"
    example = house.call("GET", "/api/tasks/mail/examples/e3", ann).data
    assert (example["expected"], example["labels"]) == ("Until six.", {"review": open})
    history = house.call("GET", "/api/tasks/mail/history", ann).data["data"]
    assert (history[0]["act"], history[0]["key"]) == ("review", ann[3:15])
    assert judge(house, ann, "review_none", "agree").status == 404


def test_how_far_those_who_judge_agree_is_told_with_intervals(house: Served, ann: str, bob: str) -> None:
    house.call("POST", "/api/reviews", ann, {"run": "run_1", "sample": 8, "second": 1.0})
    for line in queue(house, ann, state="all"):
        one = house.call("GET", f"/api/reviews/{line['review']}", ann).data
        said = "agree" if one["answer"] in (one["expected"], "Yes.") else "reject"
        for reader in (ann, bob):
            judge(house, reader, line["review"], said)
    found = house.call("GET", "/api/review-figures?task=mail", ann).data["agreement"]
    readers, scorer = found[0], found[1]
    assert (
        readers["pairs"] == len(queue(house, ann, state="done")) and readers["raw"] == readers["kappa"] == 1
    )
    assert readers["kappa_interval"][0] < 0.8  # a handful of pairs proves little
    assert scorer["pairs"] < readers["pairs"]  # what the scorer did not judge has no pair
    assert house.call("GET", "/api/review-figures?task=other", ann).data["agreement"][0]["pairs"] == 0


def test_calls_whose_contents_are_kept_are_judged_and_stored_as_examples(house: Served) -> None:
    house.tenant("kept", keep_contents=True)
    house.tenant("silent")
    caller, expert = house.key(tenant="kept"), house.key(tenant="kept", role="engineer")
    before = house.records
    assert house.chat(caller, "What time is it?").status == 200
    assert house.chat(house.key(tenant="silent")).status == 200
    house.recorded(before + 2)
    house.call("POST", "/api/tasks", expert, {"name": "time", "example": {"input": "x", "expected": "y"}})
    queued = house.call("POST", "/api/reviews", expert, {"records": True, "task": "time", "since": "1d"})
    assert queued.data == {"new": 1}
    line = queue(house, expert)[0]
    shown = house.call("GET", f"/api/reviews/{line['review']}", expert).data
    assert (shown["reason"], shown["answer"], shown["expected"]) == ("call", "It is noon.", None)
    stored = judge(house, expert, line["review"], "agree", store=True).data["mine"]["stored"]
    example = house.call("GET", f"/api/tasks/time/examples/{stored.partition(':')[2]}", expert).data
    assert example["messages"] == [{"role": "user", "content": "What time is it?"}]
    assert example["expected"] == "It is noon." and example["labels"]["record"] == line["record"]
    admin = house.key(role="admin")
    assert house.call("DELETE", "/api/tenants/kept/contents", admin).status == 200
    assert (
        queue(house, expert) == []
        and house.call("GET", f"/api/reviews/{line['review']}", expert).status == 404
    )
    assert house.call("GET", "/api/tasks/time", expert).status == 404  # it held what was said


def test_a_task_becomes_as_strict_as_a_call_that_is_stored_in_it(house: Served) -> None:
    house.tenant("strict", keep_contents=True)
    caller, expert = house.key(tenant="strict"), house.key(tenant="strict", role="engineer")
    before = house.records
    body = {"model": "acme/small", "messages": [{"role": "user", "content": "What time is it?"}]}
    said = house.call("POST", "/v1/chat/completions", caller, body, {"x-baimo-data-class": "confidential"})
    assert said.status == 200
    house.recorded(before + 1)
    house.call("POST", "/api/tasks", expert, {"name": "time", "example": {"input": "x", "expected": "y"}})
    house.call("POST", "/api/reviews", expert, {"records": True, "task": "time", "since": "1d"})
    assert house.call("GET", "/api/tasks/time", expert).data["data_class"] == "internal"
    judge(house, expert, queue(house, expert)[0]["review"], "agree", store=True)
    assert house.call("GET", "/api/tasks/time", expert).data["data_class"] == "confidential"


def test_another_tenants_comparison_and_task_are_not_there(house: Served, ann: str) -> None:
    house.tenant("rose")
    theirs = house.key(tenant="rose", role="admin")
    for asked in ({"run": "run_1"}, {"records": True, "task": "mail"}):
        assert house.call("POST", "/api/reviews", theirs, asked).status == 404
    assert house.call("POST", "/api/reviews", theirs, {}).status == 400
    assert queue(house, theirs, state="all") == []
    assert house.call("GET", "/api/review-figures", theirs).data["runs"] == []
