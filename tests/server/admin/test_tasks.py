"""Tasks over HTTP: found, imported with a preview, edited, split, labelled, and taken back."""

from __future__ import annotations

import base64
import csv
import io
import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.server.served import Said, Served

CSV = """id,question,answer,tone
1,Where is my parcel?,parcel,calm
2,broken
3,Refund!,refund,angry
4,a,b,c,d
3,x,y,z
5,Hi,other,calm
"""


@pytest.fixture(scope="module")
def engineer(house: Served) -> str:
    return house.key(role="engineer")


def uploaded(house: Served, key: str, content: str = CSV, **wanted: Any) -> dict[str, Any]:
    said = house.call("POST", "/api/task-uploads", key, {"name": "mail.csv", "content": content, **wanted})
    assert said.status == 201, said.body
    return said.data


def made(house: Served, key: str, name: str, **wanted: Any) -> Any:
    upload = uploaded(house, key, label=["tone"])["upload"]
    said = house.call("POST", "/api/tasks", key, {"name": name, "upload": upload, **wanted})
    assert said.status == 201, said.body
    return said.data


def ids(said: Said) -> list[str]:
    return [f"{one['split']}:{one['id']}" for one in said.data["data"]]


def test_a_file_is_looked_at_before_anything_is_stored(house: Served, engineer: str) -> None:
    seen = uploaded(house, engineer)
    assert [(one["line"], one["code"]) for one in seen["left_out"]] == [
        (3, "tasks.ragged"),
        (5, "tasks.ragged"),
        (6, "tasks.double_id"),
    ]
    assert (seen["good"], seen["bad"], seen["columns"]) == (3, 3, ["id", "question", "answer", "tone"])
    assert seen["data"][0]["input"] == "Where is my parcel?" and seen["data"][0]["labels"] == {}
    path = f"/api/task-uploads/{seen['upload']}"
    other = house.call("PATCH", path, engineer, {"input": "answer", "target": ["tone"]}).data
    assert other["data"][0]["input"] == "parcel" and other["reading"]["target"] == ["tone"]
    wrong = house.call("PATCH", path, engineer, {"input": "qestion"})
    assert (wrong.status, wrong.data["good"]) == (200, 0) and "mail.csv" in wrong.data["problem"]["message"]
    assert wrong.data["columns"] == ["id", "question", "answer", "tone"]
    assert (
        house.call("POST", "/api/tasks", engineer, {"name": "none", "upload": seen["upload"]}).status == 400
    )
    assert str(house.folder) not in wrong.body.decode()
    assert house.call("DELETE", path, engineer).status == 200
    assert house.call("GET", path, engineer).status == 404
    assert house.call("GET", "/api/tasks", engineer).data["data"] == []


def test_a_task_is_made_of_the_good_rows_and_those_left_out_are_named(house: Served, engineer: str) -> None:
    task = made(house, engineer, "mail", description="Sorts mail", scorer="choice")
    assert [one["line"] for one in task["left_out"]] == [3, 5, 6]
    assert (task["test"], task["scorers"], task["version"], task["own"]) == (3, ["choice"], 1, True)
    shown = house.call("GET", "/api/tasks/mail", engineer).data
    assert shown["labels"]["tone"][0] == {"value": "calm", "test": 2, "train": 0}
    assert shown["asked"][0]["user"] == "{{ input }}" and shown["judged"][0]["args"]["labels"]
    assert house.call("POST", "/api/tasks", engineer, {"name": "mail", "kind": "qa"}).status == 409
    found = house.call("GET", "/api/tasks/mail/findings", engineer).data["data"]
    assert "few_examples" in {one["kind"] for one in found}
    assert house.call("GET", "/api/tasks?text=sorts", engineer).data["data"][0]["name"] == "mail"


def test_more_rows_go_into_a_task_beside_those_there_are(house: Served, engineer: str) -> None:
    made(house, engineer, "more")
    more = "id,question,answer\n3,Refund now!,refund\n9,Bye,other\n"
    seen = uploaded(house, engineer, more, task="more")
    assert (seen["good"], seen["left_out"][0]["code"]) == (1, "tasks.id_taken")
    asked = {"upload": seen["upload"], "doubles": "replace", "split": "test"}
    stored = house.call("POST", "/api/tasks/more/imports", engineer, asked).data
    assert (stored["added"], stored["replaced"], stored["bad"], stored["act"]) == (1, 1, 0, "import")
    again = house.call("POST", "/api/tasks/more/imports", engineer, asked)
    assert again.status == 404  # it is used up


def test_a_file_in_another_character_set_comes_as_bytes(house: Served, engineer: str) -> None:
    data = base64.b64encode("问题,答案\n退款,售后\n".encode("gb18030")).decode()
    wanted: dict[str, Any] = {"name": "a.csv", "base64": data, "input": "问题", "target": ["答案"]}
    refused = house.call("POST", "/api/task-uploads", engineer, wanted)
    assert (refused.status, refused.data["error"]["code"]) == (400, "tasks.encoding")
    seen = house.call("POST", "/api/task-uploads", engineer, {**wanted, "charset": "gb18030"})
    assert seen.data["data"][0]["input"] == "退款"


def test_examples_are_found_page_by_page_and_each_once(house: Served, engineer: str) -> None:
    rows = "".join(json.dumps({"input": f"q{at:02}", "target": "ab"[at % 2]}) + "\n" for at in range(23))
    upload = uploaded(house, engineer, rows, name="many.jsonl")["upload"]
    house.call("POST", "/api/tasks", engineer, {"name": "many", "upload": upload})
    seen, cursor = list[str](), ""
    while True:
        page = house.call("GET", f"/api/tasks/many/examples?limit=5&expected=b&sort=-input{cursor}", engineer)
        seen += [one["input"] for one in page.data["data"]]
        assert page.data["count"] == 11
        if page.data["next"] is None:
            break
        cursor = f"&cursor={quote(page.data['next'])}"
    assert seen == [f"q{at:02}" for at in range(21, 0, -2)]
    one = house.call("GET", "/api/tasks/many/examples/2", engineer).data
    assert (one["before"], one["after"], one["fields"]) == ("test:1", "test:3", {"input": "q01"})
    assert house.call("GET", "/api/tasks/many/examples?sort=other", engineer).status == 400
    assert house.call("GET", "/api/tasks/many/examples/none", engineer).status == 404


def test_examples_are_added_edited_moved_and_deleted_and_everything_can_be_taken_back(
    house: Served, engineer: str
) -> None:
    made(house, engineer, "edits")
    path = "/api/tasks/edits/examples"
    talk = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Who?"},
    ]
    new = {"messages": talk, "expected": "baimo", "labels": {"tone": "calm"}, "source": "chat"}
    added = house.call("POST", path, engineer, new)
    assert added.status == 201
    shown = house.call("GET", f"{path}/{added.data['id']}", engineer).data
    assert (shown["input"], shown["turns"], shown["expected"]) == ("Who?", 3, "baimo")
    assert shown["labels"] == {"tone": "calm", "source": "chat"} and shown["messages"] == talk
    changed = house.call(
        "PATCH", f"{path}/3", engineer, {"input": "Money back!", "labels": {"tone": None}, "to": "train"}
    )
    assert (changed.data["act"], changed.data["train"]) == ("split", 1)
    assert ids(house.call("GET", f"{path}?split=train", engineer)) == ["train:3"]
    several = {"examples": ["test:1", "test:5"], "labels": {"checked": True}}
    assert house.call("POST", "/api/tasks/edits/changes", engineer, several).data["act"] == "label"
    assert len(ids(house.call("GET", f"{path}?label=checked", engineer))) == 2
    assert house.call("DELETE", f"{path}/1?split=test", engineer).data["test"] == 2
    history = house.call("GET", "/api/tasks/edits/history", engineer).data["data"]
    assert [one["act"] for one in history] == ["delete", "label", "split", "edit", "add", "create"]
    what = house.call("GET", "/api/tasks/edits/history/3", engineer).data["changes"][0]
    before, after = json.loads(what["before"]), json.loads(what["after"])
    assert (before["input"], after["input"], after["question"]) == ("Refund!", "Money back!", "Money back!")
    restored = house.call("POST", "/api/tasks/edits/restore", engineer, {"version": 1}).data
    assert (restored["version"], restored["act"], restored["test"], restored["train"]) == (7, "restore", 3, 0)
    assert restored["hash"] == history[-1]["hash"]
    export = house.call("GET", "/api/tasks/edits/export", engineer)
    assert [json.loads(line)["id"] for line in export.body.splitlines()] == ["1", "3", "5"]


def test_a_change_that_cannot_be_is_told_and_changes_nothing(house: Served, engineer: str) -> None:
    made(house, engineer, "firm")
    path = "/api/tasks/firm"
    for method, where, body, code in (
        ("POST", f"{path}/examples", {}, "tasks.nothing_to_ask"),
        ("POST", f"{path}/examples", {"input": "x", "id": "1"}, "tasks.example_exists"),
        ("POST", f"{path}/examples", {"messages": [{"role": "nobody"}]}, "tasks.bad_role"),
        ("POST", f"{path}/changes", {"examples": ["test:1", "test:3", "test:5"], "delete": True}, "tasks.last_example"),
        ("POST", f"{path}/changes", {"examples": ["test:7"], "to": "train"}, "tasks.no_example"),
        ("POST", f"{path}/restore", {"version": 4}, "tasks.no_version"),
        ("POST", f"{path}/split", {"share": 1.0}, "tasks.last_example"),
        ("POST", f"{path}/copy", {"name": "../x"}, "tasks.bad_name"),
        ("PATCH", f"{path}/examples/1", {"clear": ["id"]}, "admin.bad_value"),
        ("POST", "/api/tasks", {"name": "none"}, "admin.missing"),
        ("POST", "/api/tasks", {"name": "firm2", "kind": "qa", "scorer": "python"}, "admin.bad_value"),
    ):  # fmt: skip
        said = house.call(method, where, engineer, body)
        assert said.data["error"]["code"] == code, said.body
        assert said.status in (400, 404, 409)
    assert house.call("GET", path, engineer).data["version"] == 1
    near = house.call("GET", "/api/tasks/firn", engineer).data["error"]
    assert near["code"] == "admin.no_task_near" and "firm" in near["hint"]


def test_a_reviewer_labels_and_adds_but_neither_rewrites_nor_deletes(house: Served, engineer: str) -> None:
    made(house, engineer, "judged")
    reviewer, path = house.key(role="reviewer"), "/api/tasks/judged"
    assert (
        house.call(
            "PATCH", f"{path}/examples/1", reviewer, {"expected": "post", "labels": {"ok": "yes"}}
        ).status
        == 200
    )
    assert house.call("POST", f"{path}/examples", reviewer, {"input": "x", "expected": "y"}).status == 201
    assert (
        house.call(
            "POST", f"{path}/changes", reviewer, {"examples": ["test:1"], "labels": {"ok": "no"}}
        ).status
        == 200
    )
    for method, where, body in (
        ("PATCH", f"{path}/examples/1", {"input": "other"}),
        ("PATCH", f"{path}/examples/1", {"to": "train"}),
        ("PATCH", f"{path}/examples/1", {"clear": ["messages"]}),
        ("POST", f"{path}/changes", {"examples": ["test:1"], "delete": True}),
        ("POST", f"{path}/changes", {"examples": ["test:1"], "to": "train"}),
        ("DELETE", f"{path}/examples/1", None),
    ):
        said = house.call(method, where, reviewer, body)
        assert (said.status, said.data["error"]["code"]) == (403, "serve.role")


def test_a_task_of_another_tenant_is_not_there_whatever_is_asked_of_it(house: Served, engineer: str) -> None:
    house.tenant("red")
    house.tenant("blue")
    red, blue = (house.key(tenant=name, role="admin") for name in ("red", "blue"))
    made(house, red, "secret")
    made(house, blue, "own")
    upload = uploaded(house, red)["upload"]
    for method, path, body in (
        ("GET", "/api/tasks/secret", None),
        ("GET", "/api/tasks/secret/examples", None),
        ("GET", "/api/tasks/secret/export", None),
        ("POST", "/api/tasks/secret/copy", {"name": "mine"}),
        ("POST", "/api/tasks/secret/restore", {"version": 1}),
        ("GET", f"/api/task-uploads/{upload}", None),
        ("POST", "/api/tasks", {"name": "stolen", "upload": upload}),
        ("POST", "/api/tasks/own/imports", {"upload": upload}),
        ("GET", "/api/tasks?tenant=red", None),
        ("GET", "/api/tasks/secret?tenant=red", None),
    ):
        assert house.call(method, path, blue, body).status == 404, path
    assert [one["name"] for one in house.call("GET", "/api/tasks", blue).data["data"]] == ["own"]
    assert house.call("GET", "/api/tasks/secret", engineer).status == 404
    assert house.call("GET", "/api/tasks/secret?tenant=red", engineer).status == 200
    acts = house.call("GET", "/api/audit?limit=1000", blue).data["data"]
    assert {act["subject"] for act in acts if act["act"].startswith("task.")} == {"task:own"}


def test_a_task_can_begin_with_one_example_or_one_to_learn_from(house: Served, engineer: str) -> None:
    first = {"name": "first", "example": {"input": "1+1?", "expected": "2", "labels": {"source": "chat"}}}
    assert house.call("POST", "/api/tasks", engineer, first).data["test"] == 1
    learned = house.call("POST", "/api/tasks", engineer, {"name": "learned", "kind": "classify"})
    assert learned.status == 201 and learned.data["test"] > 1
    assert (
        house.call("PATCH", "/api/tasks/learned", engineer, {"rubric": "Be kind."}).data["act"] == "describe"
    )
    assert house.call("GET", "/api/tasks/learned", engineer).data["rubric"] == "Be kind.\n"
    split = house.call("POST", "/api/tasks/learned/split", engineer, {"share": 0.5, "seed": 3}).data
    assert split["test"] and split["train"]


def test_the_list_is_sorted_filtered_paged_and_taken_along(house: Served) -> None:
    house.tenant("shelf")
    key = house.key(tenant="shelf", role="engineer")
    for name, rows in (("b", 3), ("A", 1), ("c", 2)):
        content = "".join(json.dumps({"input": f"q{at}", "target": "x"}) + "\n" for at in range(rows))
        upload = uploaded(house, key, content, name="r.jsonl")["upload"]
        scorer = "contains" if name == "c" else "exact"
        body = {"name": name, "upload": upload, "description": f"=of {rows}", "scorer": scorer}
        assert house.call("POST", "/api/tasks", key, body).status == 201
    (house.workspace.tasks.tasks.home("shelf") / "c" / "task.toml").write_text("oops")

    def names(query: str) -> list[str]:
        return [one["name"] for one in house.call("GET", f"/api/tasks?{query}", key).data["data"]]

    assert names("sort=name") == ["A", "b", "c"] and names("sort=-test") == ["b", "A", "c"]
    assert names("standing=broken") == ["c"] and names("standing=own&scorer=exact") == ["A", "b"]
    assert names("standing=read_only") == [] and names("text=OF%203") == ["b"]
    first = house.call("GET", "/api/tasks?sort=-name&limit=2", key).data
    rest = house.call("GET", f"/api/tasks?sort=-name&limit=2&cursor={first['next']}", key).data
    assert [one["name"] for one in [*first["data"], *rest["data"]]] == ["c", "b", "A"] and rest[
        "next"
    ] is None
    table = house.call("GET", "/api/task-export?sort=name&standing=own", key)
    rows = list(csv.DictReader(io.StringIO(table.body.decode())))
    assert [(row["name"], row["test"], row["scorers"]) for row in rows] == [
        ("A", "1", "exact"),
        ("b", "3", "exact"),
    ]
    assert rows[0]["description"] == "'=of 1"  # no spreadsheet runs it
    lines = house.call("GET", "/api/task-export?format=jsonl", key).body.splitlines()
    assert {json.loads(line)["name"] for line in lines} == {"A", "b", "c"}
