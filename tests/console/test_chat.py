"""Chat: over HTTP what it shows and to whom, and in a real browser whole conversations."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.console.browser import Browser
from tests.console.conftest import People
from tests.console.talking import ANSWERS, SETTINGS, Talking, talking
from tests.server.admin.talks import vote
from tests.server.admin.tasked import task
from tests.server.served import TOML, Served, served
from tests.waiting import PATIENCE_S

SAID = {
    "models": ["up/heron"],
    "system": "Be brief.",
    "rounds": [
        {
            "text": "What <b>is</b> it?",
            "answers": [{"model": "up/heron", "text": "A bird & no more", "note": ""}],
        }
    ],
}
HEARD = """window.heard = [];
const ask = window.fetch;
window.fetch = async (...asked) => {
  const answer = await ask(...asked);
  if (String(asked[0]).includes("/api/votes/")) {
    answer.clone().text().then((text) => window.heard.push(text + JSON.stringify([...answer.headers])));
  }
  return answer;
};"""
"""Keeps all that the page's scripts hear of a vote."""
TWO = "/console/chat?model=up/heron&model=up/plover"


@pytest.fixture(scope="module")
def up() -> Iterator[Talking]:
    with talking() as server:
        yield server


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, up: Talking) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("house"), TOML + SETTINGS.format(port=up.port)) as endpoint:
        endpoint.tenant("red", keep_contents=True)
        endpoint.tenant("blue", keep_contents=True)
        endpoint.tenant("shy")
        yield endpoint


def kept(house: Served, key: str, title: str = "About birds") -> dict[str, Any]:
    """A conversation that this key shares."""
    made = house.call("POST", "/api/conversations", key, {"title": title, "content": SAID}).data
    return house.call("PATCH", f"/api/conversations/{made['conversation']}", key, {"share": True}).data


def visitor(house: Served, key: str, language: str = "en") -> Browser:
    browser = Browser(house, language)
    browser.sign_in(key)
    return browser


# over HTTP


def test_history_lists_finds_shares_and_deletes_ones_own(house: Served) -> None:
    key = house.key(tenant="red")
    browser = visitor(house, key)
    made = kept(house, key, "About <birds>")
    kept(house, house.key(tenant="red"), "of somebody else")
    shown = browser.get("/console/chat/history").html
    assert "About &lt;birds&gt;" in shown and "of somebody else" not in shown
    assert "About" in browser.get("/console/chat/history?text=no+more").html  # words of an answer
    assert "No conversation has these words" in browser.get("/console/chat/history?text=penguin").html
    id = made["conversation"]
    stopped = browser.post("/console/chat/history", conversation=id, act="unshare").html
    assert made["share"] not in stopped
    assert browser.get(f"/console/chat/shared/{made['share']}").status == 404
    assert "birds" not in browser.post("/console/chat/history", conversation=id, act="delete").html
    assert browser.get(f"/console/chat/{id}").status == 404


def test_what_is_shared_is_read_inside_the_tenant_without_a_script_and_nowhere_else(house: Served) -> None:
    made = kept(house, house.key(tenant="red"))
    reader = visitor(house, house.key(tenant="red"))
    shown = reader.get(f"/console/chat/shared/{made['share']}")
    assert shown.status == 200 and "A bird &amp; no more" in shown.html
    assert "What &lt;b&gt;is&lt;/b&gt; it?" in shown.html and "Be brief." in shown.html
    assert f"?share={made['share']}" in shown.html
    assert reader.get(f"/console/chat/{made['conversation']}").status == 404
    for tenant in ("blue", ""):  # not even who administers the endpoint
        stranger = visitor(house, house.key(tenant=tenant, role="admin"))
        for path in (f"/shared/{made['share']}", f"/{made['conversation']}", f"?share={made['share']}"):
            assert stranger.get(f"/console/chat{path}").status == 404


def test_a_tenant_that_keeps_nothing_is_told_so_and_its_administrator_can_change_it(house: Served) -> None:
    key = house.key(tenant="shy", role="app")
    refused = house.call("POST", "/api/conversations", key, {"title": "x", "content": {}})
    assert (refused.status, refused.data["error"]["code"]) == (409, "conversations.not_kept")
    shown = visitor(house, key).get("/console/chat/history").html
    assert "does not keep what is said" in shown and "/console/chat/keeping" not in shown
    admin = visitor(house, house.key(tenant="shy", role="admin"))
    assert 'id="chat-keep"' not in admin.get("/console/chat").html
    assert "No conversation is kept" in admin.post("/console/chat/keeping").html
    assert house.workspace.accounts.tenant("shy").keep_contents is True
    assert 'id="chat-keep"' in admin.get("/console/chat").html


@pytest.mark.parametrize(("role", "sees"), [("app", False), ("viewer", True)])
def test_standings_are_for_those_who_may_see_them(house: Served, role: str, sees: bool) -> None:
    house.tenant(f"votes-{role}", keep_contents=True)
    key = house.key(tenant=f"votes-{role}", role=role)
    vote(house, key, choice="A")
    browser = visitor(house, key, "zh")
    assert ("/console/chat/votes" in browser.get("/console/chat").html) is sees
    shown = browser.get("/console/chat/votes")
    assert shown.status == (200 if sees else 403)
    if sees:
        assert "acme/small" in shown.html and "100.0 %" in shown.html and "Wilson" in shown.html
        assert "/votes/export" not in shown.html  # words are for reviewers


# in a real browser


def said(page: Any) -> list[str]:
    """The answers of the last question, as they are read."""
    return page.locator("section.round").last.locator(".answer .said").all_inner_texts()


def settled(page: Any, rounds: int) -> None:
    """Wait until so many questions have all their answers."""
    expect(page.locator("section.round")).to_have_count(rounds)
    expect(page.locator("[aria-busy]")).to_have_count(0)


def sent(page: Any, words: str) -> None:
    page.fill("#chat-text", words)
    page.keyboard.press("Enter")


def test_an_answer_streams_is_stopped_by_esc_asked_again_and_edited(
    house: Served, up: Talking, people: People
) -> None:
    page = people(house, "viewer", tenant="red")
    page.goto("/console/chat?model=up/slow")
    page.click("#chat-settings summary")
    page.fill("#chat-system", "Never stop.")
    page.fill("#chat-seed", "5")
    sent(page, "Tell me a story")
    expect(page.locator(".answer .said")).to_have_text("This goes on and")
    assert page.locator(".answer[aria-busy]").count() == 1 and page.inner_text("#chat-told").endswith(
        "is answering"
    )
    page.keyboard.press("Escape")
    page.wait_for_selector("text=stopped")
    assert up.left.wait(PATIENCE_S)  # the model's server is not left writing
    assert said(page) == ["This goes on and"]
    assert [up.bodies[-1][name] for name in ("seed", "messages")] == [
        5,
        [{"role": "system", "content": "Never stop."}, {"role": "user", "content": "Tell me a story"}],
    ]
    up.go_on.set()
    page.get_by_role("button", name="Answer again: up/slow").click()
    page.wait_for_selector("text=/11 \\+ 10 tokens .* USD/")
    assert said(page) == [ANSWERS["slow"]]
    assert page.inner_text("#chat-told") == f"up/slow: {ANSWERS['slow']}"  # heard once, when it is whole
    sent(page, "And then?")
    settled(page, 2)
    assert [one["role"] for one in up.bodies[-1]["messages"]] == ["system", "user", "assistant", "user"]
    page.get_by_role("button", name="Edit: Tell me a story").click()
    page.fill(".asked textarea", "Tell me another")
    page.keyboard.press("Enter")
    settled(page, 1)
    assert up.bodies[-1]["messages"][-1]["content"] == "Tell me another"
    page.reload()
    assert page.locator(".asked .said").all_inner_texts() == ["Tell me another"]


def test_two_answer_blind_the_vote_tells_who_and_becomes_data(
    house: Served, up: Talking, people: People, tmp_path: Path
) -> None:
    key = house.key(tenant="red", role="engineer")
    task(house, "red", "birds")
    page = people(house, key=key)
    page.add_init_script(HEARD)
    page.goto(TWO)
    page.check("#chat-blind")
    sent(page, "Which bird?")
    page.wait_for_selector("#chat-vote:not([hidden])")
    assert sorted(said(page)) == sorted(ANSWERS[name] for name in ("heron", "plover"))
    assert page.locator(".answer h2").all_inner_texts() == ["Answer A", "Answer B"]
    heard = page.evaluate("window.heard")
    assert len(heard) == 2 and not re.search("heron|plover|rec_", "".join(heard))
    assert page.evaluate("document.activeElement.id") == "chat-vote-title"
    better = "AB"[said(page).index(ANSWERS["heron"])]
    page.keyboard.press("Tab")
    if better == "B":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"text={better} · up/heron")
    page.wait_for_selector("text=/0.0027 USD/")
    page.click("#chat-example")
    page.wait_for_selector("#chat-example-form[open]")
    assert page.input_value("#chat-example-answer") == ANSWERS["heron"]
    page.fill("#chat-example-answer", "A heron.")
    page.click("#chat-example-save")
    page.wait_for_selector("#chat-example-form", state="hidden")
    examples = house.call("GET", "/api/tasks/birds/examples?text=bird%3F", key).data["data"]
    assert [(one["expected"], one["labels"]) for one in examples] == [("A heron.", {"source": "chat"})]
    row = json.loads(house.call("GET", "/api/votes/export", key).body)
    assert row["input"]["messages"] == [{"role": "user", "content": "Which bird?"}]
    assert row["preferred_output"][0]["content"] == ANSWERS["heron"]
    sent(page, "Are you sure?")  # both go on from the better answer
    page.wait_for_selector("#chat-vote:not([hidden])")
    asked = [body["messages"] for body in up.bodies[-2:]]
    assert asked[0] == asked[1] and asked[0][1] == {"role": "assistant", "content": ANSWERS["heron"]}
    page.click("#chat-vote button:has-text('Equally good')")
    page.wait_for_selector("#chat-vote", state="hidden")
    page.goto("/console/chat/votes")
    heron = page.locator("tr", has_text="up/heron").first
    assert "20.7 % – 100.0 %" in heron.inner_text()
    with page.expect_download() as file:
        page.click("text=Export preferences")
    file.value.save_as(tmp_path / "votes.jsonl")
    assert json.loads((tmp_path / "votes.jsonl").read_text(encoding="utf-8")) == row


def test_a_conversation_is_kept_found_again_shared_and_taken_up_on_a_phone(
    house: Served, up: Talking, people: People
) -> None:
    page = people(house, "reviewer", tenant="red", language="zh", theme="dark", width=375, height=760)
    page.goto("/console/chat?model=up/heron")
    (path := Path(house.folder) / "notes.txt").write_text("Seen at dawn.", encoding="utf-8")
    page.set_input_files("#chat-files", str(path))
    page.wait_for_selector("#chat-attached li")
    sent(page, "这是什么鸟?")
    page.wait_for_selector("text=USD")
    assert "Seen at dawn." in up.bodies[-1]["messages"][-1]["content"]
    page.click("#chat-keep")
    page.wait_for_url("**/console/chat/conv_*")
    page.click("#chat-share")
    expect(page.locator("#chat-link")).to_be_visible()
    link = page.locator("#chat-link a").inner_text()
    sent(page, "还有呢?")
    expect(page.locator(".answer .hint")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.goto("/console/chat/history?text=wading")
    page.click("text=这是什么鸟?")
    settled(page, 2)
    other = people(house, "app", tenant="red")
    other.goto(link)
    assert other.locator(".answer .said").all_inner_texts() == [ANSWERS["heron"]] * 2
    other.click("text=Go on from here")
    settled(other, 2)
    sent(other, "Thanks")
    settled(other, 3)
    assert len(up.bodies[-1]["messages"]) == 5
    other.wait_for_selector("text=11 + 8 tokens")
    page.reload()  # it is somebody else's now: what was shared has not changed
    settled(page, 2)
    page.goto("/console/chat/history")
    page.get_by_role("button", name="删除").first.click()
    page.locator("dialog button.danger").click()
    page.wait_for_selector(".empty")
    assert house.call("GET", f"/api/shares/{link.rpartition('/')[2]}", house.key(tenant="red")).status == 404
