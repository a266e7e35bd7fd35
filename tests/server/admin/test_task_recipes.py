"""The recipe of a task over HTTP: changed by part or as text, tried before it is stored, never to reach outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.server.served import Said, Served

HAND = """# written by hand
name = ""
license = "CC0-1.0"  # ours to give

[data]
test = "rows.csv"
train = "more.csv"

[prompt]  # how it is asked
system = "Sort."
user = "{{ input }}"

[sampling]
max_tokens = 8  # one word

# the judge
[[scorers]]
name = "choice"
labels = ["parcel", "refund"]  # departments

[[candidates]]
model = "acme/small"  # the cheap one
"""
ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}"
ROWS = "id,input,tone,target\n1,Where is it?,calm,parcel\n2,Money back,angry,refund\n"


@pytest.fixture(scope="module")
def key(house: Served) -> str:
    return house.key(role="engineer")


def written(house: Served, name: str, manifest: str = HAND) -> Path:
    folder = house.workspace.tasks.tasks.home() / name
    folder.mkdir(parents=True)
    (folder / "task.toml").write_text(manifest)
    (folder / "rows.csv").write_text(ROWS)
    (folder / "more.csv").write_text(ROWS.replace("Where is it?", "Where?").replace("Money back", "Money!"))
    return folder


def patched(house: Served, key: str, name: str, **parts: Any) -> Said:
    return house.call("PATCH", f"/api/tasks/{name}/recipe", key, parts)


def test_parts_change_and_comments_stay_and_it_can_be_taken_back(house: Served, key: str) -> None:
    folder = written(house, "mail")
    shown = house.call("GET", "/api/tasks/mail/recipe", key).data
    assert (shown["manifest"], shown["problem"], shown["own"]) == (HAND, None, True)
    assert set(shown["variables"]) >= {"input", "tone"}
    assert shown["sampling"]["max_tokens"] == 8 and shown["sampling"]["temperature"] is None
    assert shown["scorers"] == [{"name": "choice", "args": {"labels": ["parcel", "refund"]}}]
    first = shown["prompts"][0]
    prompts = [
        {**first, "user": "{{ input }} ({{ tone }})", "few_shot": {"count": 1}},
        {**first, "name": "b"},
    ]
    made = patched(
        house,
        key,
        "mail",
        prompts=prompts,
        sampling={**shown["sampling"], "temperature": 0.5},
        scorers=[*shown["scorers"], {"name": "exact", "args": {"case": True}}],
        candidates=[*shown["candidates"], {"model": "acme/small", "name": "second", "prompt": "b"}],
        before=shown["hash"],
    )
    assert (made.status, made.data["act"], made.data["version"]) == (200, "recipe", 2)
    assert made.data["facts"] == {"changed": "prompt, sampling, scorers, candidates, prompts"}
    text = (folder / "task.toml").read_text()
    for line in HAND.splitlines():
        assert line.replace("[prompt]", "[[prompts]]") in text or line == 'user = "{{ input }}"', line
    again = house.call("GET", "/api/tasks/mail/recipe", key).data
    assert [one["user"] for one in again["prompts"]] == ["{{ input }} ({{ tone }})", "{{ input }}"]
    assert again["prompts"][0]["few_shot"]["count"] == 1
    assert again["scorers"][1] == {"name": "exact", "args": {"case": True}}
    late = patched(house, key, "mail", sampling={}, before=shown["hash"])
    assert (late.status, late.data["error"]["code"]) == (409, "tasks.changed_meanwhile")
    assert patched(house, key, "mail", scorers=again["scorers"]).data["version"] == 0  # nothing differs
    assert house.call("POST", "/api/tasks/mail/restore", key, {"version": 1}).status == 200
    assert (folder / "task.toml").read_text() == HAND
    acts = house.call("GET", "/api/audit?limit=100", house.key(role="admin")).data["data"]
    told = next(one for one in acts if one["act"] == "task.recipe")
    assert told["subject"] == "task:mail" and "prompts" in told["facts"]["changed"]
    assert not list(folder.glob(".draft*"))


def test_a_mistake_is_told_of_its_field_and_nothing_is_stored(house: Served, key: str) -> None:
    folder = written(house, "firm")
    one = {"name": "default", "user": "{{ input }}"}
    for parts, code, field in (
        ({"prompts": [{**one, "user": "{{ inptu }}"}]}, "tasks.template_near", "/prompts/0/user"),
        ({"prompts": [one, {**one, "name": "b", "system": "{% if %}"}]}, "tasks.template_syntax", "/prompts/1/system"),
        ({"prompts": [one, one]}, "tasks.double_prompt", "/prompts"),
        ({"prompts": [{**one, "few_shot": {"count": "3"}}]}, "admin.bad_value", "/prompts/0/few_shot/count"),
        ({"scorers": [{"name": "exakt"}]}, "scorers.unknown", "/scorers/0/name"),
        ({"scorers": [{"name": "exact"}, {"name": "choice", "args": {"label": ["a"]}}]}, "scorers.unknown_argument",
         "/scorers/1/args/label"),
        ({"scorers": [{"name": "regex", "args": {"pattern": "("}}]}, None, "/scorers/0"),
        ({"scorers": [{"name": "judge", "args": {}}]}, "scorers.missing_argument", "/scorers/0/args/model"),
        ({"scorers": [{"name": "python", "args": {"file": "rubric.md"}}]}, "tasks.scorer_by_hand", "/scorers/0"),
        ({"scorers": [{"name": "any", "args": {"scorers": [{"name": "code"}]}}]}, "tasks.scorer_by_hand",
         "/scorers/0/args/scorers/0"),
        ({"scorers": [{"name": "json", "args": {"schema": "/etc/hostname"}}]}, "tasks.outside_folder",
         "/scorers/0/schema"),
        ({"scorers": [{"name": "json", "args": {"schema": {"enum": [None]}}}]}, "tasks.no_null", ""),
        ({"candidates": [{"model": "a/b", "prompt": "../../x/prompt.toml"}]}, "tasks.outside_folder",
         "/candidates/0/prompt"),
        ({"candidates": [{"model": "a/b", "prompt": "none"}]}, "tasks.unknown_prompt", "/candidates"),
        ({"candidates": [{"model": "a/b"}, {"model": "a/b"}]}, "tasks.double_candidate", "/candidates"),
        ({"manifest": HAND + "oops"}, "tasks.bad_toml", "/manifest"),
        ({"manifest": HAND.replace("[sampling]", "[sampling]\ntemperatur = 1")}, "tasks.unknown_key_near",
         "/sampling/temperatur"),
        ({"manifest": HAND.replace("rows.csv", "../mail/rows.csv")}, "tasks.outside_folder", "/data/test"),
    ):  # fmt: skip
        said = patched(house, key, "firm", **parts)
        assert said.status == 400, (parts, said.body)
        error = said.data["error"]
        assert (code in (None, error["code"]), (error["field"] or "").startswith(field)) == (True, True), (
            error
        )
        assert str(house.folder) not in said.body.decode() and ".draft" not in said.body.decode()
    assert (folder / "task.toml").read_text() == HAND and not list(folder.glob(".draft*"))


def test_what_was_written_at_the_machine_may_stay_but_not_be_turned(house: Served, key: str) -> None:
    hand = HAND + '\n[[scorers]]\nname = "python"  # ours\nfile = "scorer.py"\n'
    folder = written(house, "ours", hand)
    (folder / "scorer.py").write_text("raise SystemExit('this must not run here')\n")
    shown = house.call("GET", "/api/tasks/ours/recipe", key).data
    turned = [*shown["scorers"][:1], {"name": "python", "args": {"file": "rubric.md"}}]
    assert patched(house, key, "ours", scorers=turned).data["error"]["code"] == "tasks.scorer_by_hand"
    assert patched(house, key, "ours", scorers=shown["scorers"][::-1]).status == 200
    assert 'name = "python"  # ours' in (folder / "task.toml").read_text()


def test_prompts_are_filled_in_before_they_are_stored(house: Served, key: str) -> None:
    folder = written(house, "tried")
    before = (folder / "task.toml").read_text()
    asked = {
        "prompts": [
            {"name": "a", "system": "Be {{ tone }}.", "few_shot": {"count": 1}},
            {"name": "b", "user": "{{ non }}"},
            {"name": "c", "user": ENDLESS},
        ],
        "example": "2",
    }
    seen = house.call("POST", "/api/tasks/tried/preview", key, asked).data
    assert (seen["example"], seen["split"]) == ("2", "test")
    good, bad, endless = seen["data"]
    assert "would take too long" in endless["problem"] and "fewer things" in endless["hint"]
    assert [one["role"] for one in good["messages"]] == ["system", "user", "assistant", "user"]
    assert good["messages"][0]["content"] == "Be angry." and good["messages"][-1]["content"] == "Money back"
    assert bad["messages"] == [] and "non" in bad["problem"]
    stored = house.call("POST", "/api/tasks/tried/preview", key, {}).data
    assert stored["data"][0]["messages"][0]["content"] == "Sort."
    assert (folder / "task.toml").read_text() == before


def test_a_task_that_cannot_be_read_is_mended_as_text(house: Served, key: str) -> None:
    folder = written(house, "broken")
    patched(house, key, "broken", sampling={"seed": 1})
    (folder / "task.toml").write_text("name = \n")
    shown = house.call("GET", "/api/tasks/broken/recipe", key).data
    assert shown["manifest"] == "name = \n" and "line 1" in shown["problem"] and shown["prompts"] == []
    mended = patched(house, key, "broken", manifest=HAND.replace("\n", "\r\n"), before=shown["hash"])
    assert (mended.status, mended.data["test"]) == (200, 2)
    assert (folder / "task.toml").read_text() == HAND
    history = house.call("GET", "/api/tasks/broken/history", key).data["data"]
    assert [one["act"] for one in history] == ["recipe", "outside", "recipe", "found"]


def test_every_scorer_is_listed_with_options_that_say_how_they_are_written(house: Served, key: str) -> None:
    kinds = {one["name"]: one for one in house.call("GET", "/api/scorers", key).data["data"]}
    assert kinds["python"]["by_hand"] and kinds["judge"]["asks"] and not kinds["exact"]["by_hand"]
    options = {one["name"]: one for one in kinds["json"]["options"]}
    assert options["mode"]["choices"] == ["all", "fields"] and options["tolerance"]["kind"] == "number"
    assert {one["name"]: one["needed"] for one in kinds["judge"]["options"]}["model"]
    assert "folder" not in options and "ask" not in {one["name"] for one in kinds["judge"]["options"]}
