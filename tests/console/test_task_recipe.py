"""The recipe of a task on its pages: changed by form, seen as a model would be sent it, or written as text."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from baimo.console.pages.task_recipe_form import arranged, body_of, drawn, sent
from tests.console.access import barriers
from tests.console.browser import Browser
from tests.server.admin import tasked
from tests.server.admin.test_task_recipes import HAND, written
from tests.server.served import Served, served


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("house")) as endpoint:
        yield endpoint


def manifest(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "task.toml").read_text())


def test_an_engineer_changes_prompts_and_scorers_by_form_and_the_rest_as_text(
    house: Served, people: Any
) -> None:
    folder = written(house, "mail")
    page = people(house, "engineer", expected=("400 (Bad Request)",))
    page.goto("/console/tasks/mail")
    page.get_by_role("link", name="Recipe").click()
    main = page.locator("main")
    assert barriers(page) == []
    # a mistake is told at its field, and what was typed stays
    page.get_by_label("User message").fill("{{ inptu }} ")
    page.get_by_role("button", name="Show it", exact=True).click()
    page.locator("#preview", has_text="no variable inptu").wait_for()
    marked = page.locator(".field.wrong textarea")
    page.get_by_role("button", name="Save the recipe").click()
    marked.wait_for()
    assert marked.input_value() == "{{ inptu }} " and "did you mean input" in main.inner_text()
    # what a model would be sent, for another example
    page.get_by_label("User message").fill("{{ input }} ({{ tone }})")
    page.get_by_label("Example", exact=True).select_option("test:2")
    page.get_by_role("button", name="Show it", exact=True).click()
    page.locator("#preview").get_by_text("Money back (angry)").wait_for()
    # a second scorer; choosing its kind draws its options
    page.get_by_role("button", name="Add a scorer").click()
    page.locator("select[data-draw]").nth(1).select_option("regex")
    page.get_by_label("Regular expression").fill("par(cel|t)")
    page.get_by_label("A dot matches line breaks").uncheck()
    page.get_by_role("button", name="Move scorer regex up").click()
    page.get_by_role("button", name="Save the recipe").click()
    page.get_by_role("status").get_by_text("Saved as version 2").wait_for()
    said = manifest(folder)
    assert said["prompt"]["user"] == "{{ input }} ({{ tone }})"
    assert said["scorers"][0] == {"name": "regex", "pattern": "par(cel|t)", "dotall": False}
    text = (folder / "task.toml").read_text()
    for line in ("# written by hand", "# the judge", 'labels = ["parcel", "refund"]  # departments'):
        assert line in text
    # as text, with the line that is wrong
    page.get_by_role("link", name="Change task.toml as text").click()
    box = page.get_by_label("Text of task.toml")
    before = box.input_value()
    box.fill(before.replace("max_tokens = 8", "max_tokns = 8"))
    page.get_by_role("button", name="Save the recipe").click()
    page.get_by_text("max_tokns = 8  # one word", exact=True).wait_for()
    assert "sampling.max_tokns" in main.inner_text() and manifest(folder) == said
    box.fill(before.replace("max_tokens = 8", "max_tokens = 12"))
    page.get_by_role("button", name="Save the recipe").click()
    page.get_by_role("status").wait_for()
    assert manifest(folder)["sampling"] == {"max_tokens": 12}
    # taken back like every other change
    page.get_by_role("link", name="History").click()
    page.locator("main", has_text="recipe changed: sampling").wait_for()
    page.get_by_role("button", name="Restore version 1").click()
    page.get_by_text("restored version").wait_for()
    assert (folder / "task.toml").read_text() == HAND


def test_a_recipe_that_nobody_touched_is_sent_back_as_it_was(house: Served) -> None:
    key = house.key(role="engineer")
    extra = """
[[scorers]]
name = "json"
mode = "all"
weights = { a = 2 }
[[scorers]]
name = "any"
scorers = [{ name = "exact", case = true }, { name = "numeric" }]
[[candidates]]
name = "odd"
model = "acme/small"
system = ""
few_shot = 0
sampling = { stop = ["\\n", " x "], temperature = 0 }
json_schema = { type = "object" }
"""
    folder = written(
        house, "whole", HAND.replace('user = "{{ input }}"', 'user = "\\n{{ input }}\\n"') + extra
    )
    text = (folder / "task.toml").read_text()
    found = house.call("GET", "/api/tasks/whole/recipe", key).data
    kinds = {one["name"]: one for one in house.call("GET", "/api/scorers", key).data["data"]}
    draft = drawn(found, kinds)
    pairs = [
        (f"{part}.{at}.{name}", value)
        for part in ("prompt", "scorer", "candidate")
        for at, row in enumerate(getattr(draft, part))
        for name, value in row.items()
        if not (value == "" and name.startswith("opt:"))  # as a box that is not checked
    ]
    pairs += [(f"sampling.{name}", value) for name, value in draft.sampling.items()]
    body = body_of(sent(pairs, kinds), kinds)
    said = house.call("PATCH", "/api/tasks/whole/recipe", key, body)
    assert (said.status, said.data["version"]) == (200, 0), said.body
    assert (folder / "task.toml").read_text() == text
    # one that is touched sends what the form shows
    moved = arranged(sent(pairs, kinds), "up:candidate:1", kinds)
    moved = arranged(arranged(moved, "drop:scorer:2", kinds), "up:scorer:9", kinds)
    moved.scorer[1]["opt:tolerance"] = "0.5"
    again = body_of(moved, kinds)
    assert again["scorers"][1]["args"] == {"weights": {"a": 2}, "tolerance": 0.5}
    assert [one["model"] for one in again["candidates"]] == ["acme/small", "acme/small"]
    assert house.call("PATCH", "/api/tasks/whole/recipe", key, again).data["version"] == 2


def test_who_may_not_change_a_recipe_reads_it_and_a_broken_one_is_mended_as_text(house: Served) -> None:
    tasked.task(house, "", "seen")
    viewer, engineer = Browser(house, "zh-CN"), Browser(house)
    viewer.sign_in(house.key(role="viewer"))
    engineer.sign_in(house.key(role="engineer"))
    for page in ("", "/text"):
        shown = viewer.get(f"/console/tasks/seen/recipe{page}")
        assert shown.status == 200 and 'value="save"' not in shown.html and "readonly" in shown.html
        assert viewer.post(f"/console/tasks/seen/recipe{page}", act="save").status == 403
    folder = house.workspace.tasks.tasks.home() / "seen"
    (folder / "task.toml").write_text("name = [\n")
    shown = engineer.get("/console/tasks/seen/recipe")
    assert shown.path.endswith("/recipe/text") and "cannot be read now" in shown.html
    wrong = engineer.post("/console/tasks/seen/recipe/text", manifest=tasked.MANIFEST, before="0" * 16)
    assert wrong.status == 409 and "somebody has changed" in wrong.html
    mended = engineer.post("/console/tasks/seen/recipe/text", manifest=tasked.MANIFEST)
    assert mended.status == 200 and "Saved as version" in mended.html
    assert engineer.get("/console/tasks/seen/recipe").path.endswith("/recipe")
