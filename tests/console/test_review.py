"""The Review pages: an expert judges by keyboard alone; a fix is stored; those who only look see the figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from baimo.console.pages.review import reading_of
from tests.console.browser import Browser
from tests.server.admin.reviewed import compared
from tests.server.served import Served, served

FITS = """(one) => {
    const pen = document.createElement("canvas").getContext("2d"), style = getComputedStyle(one);
    pen.font = style.font;
    const arrow = 16, room = one.clientWidth - arrow - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    return [...one.options].every((option) => pen.measureText(option.text).width <= room);
}"""
"""Whether a choice shows all of each of its words."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("house")) as endpoint:
        compared(endpoint)
        yield endpoint


def test_an_expert_fills_the_queue_and_judges_it_by_keyboard_alone(house: Served, people: Any) -> None:
    page = people(house, "reviewer")
    page.goto("/console/review")
    for _ in range(60):  # to the first form that fills the queue
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Put on the queue":
            break
    page.keyboard.press("Enter")
    page.get_by_role("status").wait_for()
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Begin with the first":
            break
    page.keyboard.press("Enter")
    main = page.locator("main")
    main.get_by_text("this decides the verdict").wait_for()
    assert main.get_by_text("I want my money back").is_visible()
    assert "Given by" not in main.inner_text()  # nobody tells which model it was
    page.wait_for_load_state("load")  # keys are heard from then on
    page.keyboard.press("?")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    seen = []
    for key in "ar":
        seen.append(page.url)
        page.keyboard.press(key)
        page.wait_for_url(lambda url, last=page.url: url != last)
    # the right answer is written, and stored
    while "Is it open?" not in main.inner_text():
        here = page.url
        page.keyboard.press("a")
        page.wait_for_url(lambda url, last=here: url != last)
    page.keyboard.press("f")
    page.keyboard.type("Until six.")
    for _ in range(2):  # over the note, to the box
        page.keyboard.press("Tab")
    page.keyboard.press("Space")
    here = page.url
    page.keyboard.press("f")
    page.wait_for_url(lambda url: url != here)
    for key in "jara":  # the next one waits; three more are judged
        here = page.url
        page.keyboard.press(key)
        page.wait_for_url(lambda url, last=here: url != last)
    kept = house.workspace.tasks.kept("mail").task
    assert [one.target for one in kept.examples if one.id == "e3"] == ["Until six."]
    said = [judgement.said for _, all in house.workspace.reviewing.kept.said("") for judgement in all]
    assert (len(said), sorted(set(said))) == (6, ["agree", "fix", "reject"])
    page.keyboard.press("k")
    page.get_by_role("heading", name="Agreement").wait_for()
    table = page.get_by_role("region", name="Agreement")
    assert "expert and scorer" in table.inner_text() and "chance" in table.inner_text()
    page.locator("select[name=state]").select_option("all")
    page.get_by_role("button", name="Show").click()
    page.get_by_role("link", name="When").click()
    page.locator("th[aria-sort=ascending]").wait_for()
    with page.expect_download() as file:
        page.get_by_role("link", name="Export JSONL").click()
    assert "Until six." in file.value.path().read_text(encoding="utf-8")
    # nothing of the filter is cut off
    assert page.locator("select[name=state]").evaluate(FITS)


def test_an_agreement_says_what_its_interval_allows_and_no_more() -> None:
    def reading(*interval: float) -> str:
        return reading_of({"kappa_interval": list(interval) or None})

    said = [reading(), reading(0.61, 0.9), reading(0.1, 0.9), reading(-0.2, 0.9), reading(-0.9, -0.1)]
    assert said == ["none", "good", "some", "open", "against"]


def test_whoever_only_looks_sees_figures_and_no_answers(house: Served) -> None:
    viewer, reviewer = Browser(house), Browser(house, "zh-CN")
    viewer.sign_in(house.key(role="viewer"))
    reviewer.sign_in(house.key(role="reviewer"))
    assert "加入队列" in reviewer.post("/console/review", run="run_1", sample="3", second="50").html
    shown = viewer.get("/console/review")
    assert shown.status == 200 and "Agreement" in shown.html and "/console/review/" not in shown.html
    waiting = house.workspace.reviewing.kept.page("", "nobody", limit=1)[0].review.id
    assert viewer.get(f"/console/review/{waiting}").status == 403
    refused = reviewer.post(f"/console/review/{waiting}", said="fix", correction="", note="hm")
    assert refused.status == 400 and "正确答案" in refused.html and "hm" in refused.html
    assert reviewer.post(f"/console/review/{waiting}", said="reject", note="hm").status == 200
    again = reviewer.get(f"/console/review/{waiting}").html
    assert "撤回判断" in again and 'value="hm"' in again
    assert "撤回判断" not in reviewer.post(f"/console/review/{waiting}", said="retract").html
    assert reviewer.post("/console/review", run="run_none").status == 404
