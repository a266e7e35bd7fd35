"""Pages that show work under way, in a real browser: told at once, and not put out by a lost connection or server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from baimo.server.admin.news import News
from tests.console.browser import Browser
from tests.console.conftest import People
from tests.console.relay import Relay, relayed
from tests.server.served import Served, served
from tests.server.test_tuning_api import order, reached
from tests.server.tuned import tuned
from tests.waiting import until

OFFLINE = ("Failed to load resource",)
POLLED_NEVER = """
for (const one of document.querySelectorAll("[data-live]")) one.dataset.live = one.dataset.also = 9999;
"""
"""Without events, nothing would be drawn anew."""

REFUSED = """
window.theirs = window.fetch;
window.refused = 0;
window.fetch = async () => (window.refused++, new Response("", { status: 503 }));
"""
"""From now on, no page can be had."""


class Reached:
    """An endpoint as a browser behind a relay reaches it."""

    def __init__(self, house: Served, relay: Relay) -> None:
        self._house = house
        self.port = relay.port

    def key(self, **rights: Any) -> str:
        return self._house.key(**rights)


def step(page: Any) -> float:
    return float(page.locator("progress").first.get_attribute("value") or 0)


def goes_on(page: Any) -> None:
    """The page shows a later step than it does now, without a reload."""
    before = step(page)
    page.wait_for_function("before => Number(document.querySelector('progress')?.value) > before", arg=before)
    assert page.evaluate("window.mark") == 1


def streams(house: Served) -> int:
    return News.of(house.state["service"]).watching


def test_a_page_follows_a_job_through_a_cut_line_and_another_server(tmp_path: Path, people: People) -> None:
    with relayed() as relay:
        with tuned(tmp_path) as house:
            relay.mend(house.port)
            key = house.key(role="engineer")
            job = order(house, key, overrides={"steps": 2000, "pause_s": 0.05}, start=True)
            reached(house, key, job, "running")
            page = people(Reached(house, relay), key=key, expected=OFFLINE)
            page.goto(f"/console/tune/{job}")
            page.locator("progress").wait_for()
            page.evaluate("window.mark = 1")
            page.evaluate(POLLED_NEVER)
            page.get_by_text("Everything about this job").click()
            goes_on(page)
            until(lambda: streams(house) == 1)
            # what the reader has done stays: focus, what is unfolded, also when something of its kind comes before it
            page.get_by_text("Checkpoints (").wait_for()
            assert page.evaluate("document.activeElement.nodeName") == "SUMMARY"
            assert page.get_by_text("Order another one like it").is_visible()

            # the list and the first page are told, too; nobody looks on = nothing is asked
            other = people(Reached(house, relay), key=key, expected=OFFLINE)
            for path in ("/console/tune", "/console/"):
                other.goto(path)
                other.locator("progress").wait_for()
                other.evaluate("window.mark = 1")
                other.evaluate(POLLED_NEVER)
                goes_on(other)
            hide(other, hidden=True)
            until(lambda: streams(house) == 1)
            hide(other, hidden=False)
            goes_on(other)
            other.context.close()

            # the line is cut: the page says so, and goes on when it can
            relay.cut()
            page.locator(".lost").get_by_text("No connection").wait_for()
            relay.mend(house.port)
            page.locator(".lost").wait_for(state="hidden")
            goes_on(page)
            folder = house.state["service"].tuning.queue.at(job)
            relay.cut()
        page.locator(".lost").get_by_text("No connection").wait_for()
        with tuned(tmp_path) as house:  # the job has worked on meanwhile
            relay.mend(house.port)
            page.locator(".lost").wait_for(state="hidden")
            goes_on(page)
            until(lambda: streams(house) == 1)
            page.evaluate(POLLED_NEVER)

            # the last that happened could not be shown: the page tries again, although nothing more happens
            page.evaluate(REFUSED)
            house.call("POST", f"/api/tuning/jobs/{job}/cancel", key, {})
            reached(house, key, job, "cancelled")
            until(lambda: folder.pid is None)
            before = page.evaluate("window.refused")
            page.wait_for_function("before => window.refused > before + 1", arg=before)
            page.evaluate("window.fetch = window.theirs")
            page.locator(".phase-cancelled").wait_for()
            until(lambda: streams(house) == 0)  # there will be nothing new
            assert page.evaluate("window.mark") == 1


def hide(page: Any, *, hidden: bool) -> None:
    """As if the tab were put behind another, or back in front."""
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


GROWN = """
async ([before, after]) => {
    const { grow } = await import("/console/static/live.js");
    const made = (html) => Object.assign(document.createElement("div"), { innerHTML: html });
    const now = made(before);
    document.body.append(now);
    now.querySelector("summary").focus();
    now.querySelector("details").open = true;
    grow(now, made(after));
    const kept = [document.activeElement.nodeName, now.querySelector("[data-key=all]").open, now.innerHTML];
    now.remove();
    return kept;
}
"""
"""Makes a part of a page like another while its reader is at the summary of the only `details` in it."""
ALL = '<details data-key="all"{}><summary>All</summary></details>'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<p>a</p> {} ", '<p>b</p> <details data-key="some"><summary>Some</summary></details> {} '),
        ("<p>a</p>{}<p>c</p>", '<p>a</p><p>b</p><ul class="new"></ul> {}<p>c</p>'),
        ("{}<ul></ul>text", "text<ul></ul>{}<ul></ul>"),
        ("<p>a</p> <ul></ul> {}", " {}"),
    ],
)
def test_what_a_reader_has_unfolded_is_not_made_anew_for_what_comes_before_it(
    tmp_path: Path, people: People, before: str, after: str
) -> None:
    with served(tmp_path) as house:
        page = people(house)
        page.goto("/console/")
        focus, unfolded, html = page.evaluate(
            GROWN, [before.format(ALL.format("")), after.format(ALL.format(""))]
        )
    assert (focus, unfolded, html) == ("SUMMARY", True, after.format(ALL.format(' open=""')))


def test_a_page_says_what_would_tell_it_to_be_drawn_anew(tmp_path: Path) -> None:
    with tuned(tmp_path) as house:
        key = house.key(role="viewer")
        browser = Browser(house)
        browser.sign_in(key)
        shown = browser.get("/console/tune").html
        address = shown.partition('data-events="')[2].partition('"')[0].replace("&amp;", "&")
        assert address.startswith("/console/live?about=tuning&after=")
        now = browser.get(address)  # who does not ask for a stream gets a word
        assert now.headers["content-type"] == "application/json"
        assert address.endswith(now.html.partition('"now":"')[2].partition('"')[0])
        browser.sign_in(house.key(role="app"))
        assert "data-events" not in browser.get("/console/").html
        assert browser.get("/console/live").status == 403
