"""Comparing in the console: from a form to a verdict; what happens when the browser or the server goes away."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from baimo.console.pages.compare_form import ELSEWHERE, PATTERNS, asked, filled, form_fields
from baimo.evals.options import CompareOptions
from baimo.workspace.compare_folder import run_folder
from tests.console.browser import Browser, Shown
from tests.console.conftest import People
from tests.console.reading import Reading
from tests.providers.local_model import smollm2 as smollm2
from tests.server.served import Served, served
from tests.server.test_comparisons import TASK, TOML, ended, prepares_here, written
from tests.serving import children, serving
from tests.waiting import PATIENCE_S, until


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    patch = pytest.MonkeyPatch()
    patch.setenv("BAIMO_LANG", "en")
    folder = tmp_path_factory.mktemp("house")
    written(folder / ".baimo" / "tasks")
    with served(folder, TOML) as endpoint:
        prepares_here(endpoint)
        yield endpoint
    patch.undo()


@pytest.fixture(scope="module")
def key(house: Served) -> str:
    return house.key(role="engineer")


@pytest.fixture
def browser(house: Served, key: str) -> Browser:
    browser = Browser(house)
    browser.sign_in(key)
    return browser


def run_of(shown: Shown) -> str:
    assert shown.status == 200 and shown.path.startswith("/console/compare/run_"), Reading(shown.html).text
    return shown.path.rpartition("/")[2]


def test_where_nothing_was_compared_yet_one_learns_how(browser: Browser) -> None:
    shown = browser.get("/console/compare").html
    assert "baimo compare moods" in shown and 'href="/console/compare/new?task=moods"' in shown


def test_the_form_has_a_field_for_everything_that_the_command_line_takes() -> None:
    names = [field.name for field in form_fields()]
    assert len(set(names)) == len(names)
    assert {*names, *ELSEWHERE} == {field.name for field in dataclasses.fields(CompareOptions)}


def test_a_form_asks_for_what_the_run_was_that_filled_it() -> None:
    options = {
        "task": "moods",
        "model": ["acme/small", "deepseek/*"],
        "also": ["acme/large@plain", "nay/sayer"],
        "decision": "cheapest",
        "epsilon": 0.02,
        "max_calls": 7,
        "exhaustive": True,
    }
    form = filled(options, ["acme/small"])
    assert form["model"] == ["acme/small"] and form[PATTERNS] == ["deepseek/*"]
    assert asked(form) == options
    assert asked({"task": ["x"], "batch": ["many"]}) == {"task": "x", "batch": "many"}


def test_from_the_form_over_the_forecast_to_a_verdict_that_can_be_exported(
    house: Served, browser: Browser, key: str
) -> None:
    form = {"task": "moods", "patterns": "acme/small\nnay/sayer", "epsilon": "0.02", "exhaustive": "on"}
    wrong = browser.post("/console/compare/new", **form | {"epsilon": "2", "act": "forecast"})
    assert wrong.status == 400 and 'aria-invalid="true"' in wrong.html
    planned = browser.post("/console/compare/new", **form, act="forecast")
    words = Reading(planned.html).text
    assert "80 to ask everything" in words and "acme/small" in words and "nay/sayer" in words
    assert 'type="hidden" name="patterns"' in planned.html  # what was forecast is what is begun
    begun = browser.post("/console/compare/new", **form, act="start")
    run = run_of(begun)
    detail = ended(house, key, run)
    shown = browser.get(f"/console/compare/{run}").html
    text = Reading(shown).text
    assert 'data-live="0"' in shown  # nothing will change any more
    for part in ("tiers", "cost", "outcomes", "slices", "differences", "flags", "method"):
        assert f'id="{part}"' in shown, part
    assert detail["verdict"]["winner"] == "acme/small" and 'class="headline"' in shown
    assert "no, certainly not" in text and "moods 1" in text
    assert '<table class="heat">' in shown and 'class="drawn"' in shown
    more = browser.get(f"/console/compare/{run}?from=10").html
    assert Reading(more).text != text and 'id="differences"' in more
    for name, part in (("json", '"schema"'), ("markdown", "acme/small"), ("html", "<!doctype html>")):
        answer = browser.get(f"/console/compare/{run}/export?format={name}")
        assert answer.status == 200 and part in answer.html
        assert "attachment" in answer.headers["content-disposition"]
    again = browser.get(f"/console/compare/new?again={run}").html
    assert 'value="0.02"' in again and 'value="nay/sayer" checked' in again
    found = browser.get("/console/compare?task=moods&status=done&text=SMALL&sort=-cost").html
    assert "acme/small" in found and 'aria-sort="descending"><a href="?text=SMALL&amp;task=moods' in found
    table = browser.get("/console/compare/export?task=moods&sort=-cost").html.splitlines()
    assert table[0].startswith("id,task,tenant") and run in "".join(table)


def test_one_that_runs_is_watched_stopped_and_gone_on_with(house: Served, browser: Browser, key: str) -> None:
    form = {"task": "moods", "patterns": "slow/*", "exhaustive": "on", "batch": "2", "act": "start"}
    run = run_of(browser.post("/console/compare/new", **form))
    path = f"/console/compare/{run}"
    page = until(lambda: 'class="drawn"' in (found := browser.get(path).html) and found)
    assert 'data-live="2"' in page and "<progress" in page
    assert "Money spent" in page and "To ask everything: 80" in page
    assert 'data-live="3"' in browser.get("/console/compare").html
    reader = Browser(house)
    reader.sign_in(house.key(role="viewer"))
    assert f"{path}/stop" not in reader.get(path).html
    assert reader.post(f"{path}/stop").status == 403
    browser.post(f"{path}/stop")
    ended(house, key, run)
    assert f"{path}/resume" in browser.get(path).html
    browser.post(f"{path}/resume", max_minutes="3")
    assert ended(house, key, run)["verdict"]["calls"] == 80


LOCAL = """
[models."local/smollm2-135m-instruct"]
input_per_million = 0.1
output_per_million = 0.2
"""


def small_task(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    rows = [
        {"input": f"The number is {n}. Even or odd?", "target": ("even", "odd")[n % 2]} for n in range(count)
    ]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompts = '\n[[prompts]]\nname = "curt"\nsystem = "One word."\nuser = "{{ input }}"\n[sampling]\nmax_tokens = 6\n'
    (folder / "task.toml").write_text(TASK + prompts)


@pytest.mark.local
def test_a_comparison_on_the_embedded_model_outlives_reloads_and_the_server(
    tmp_path: Path, people: People, smollm2: Path
) -> None:
    folder = tmp_path / "w"
    small_task(folder / ".baimo" / "tasks" / "parity", 36)
    offline = ("Failed to load resource",)
    with serving(folder, LOCAL) as endpoint:
        credential = endpoint.new_key("--role", "engineer")
        page = people(endpoint, key=credential, expected=offline)
        page.goto("/console/compare")
        page.get_by_role("link", name="Compare on parity").click()
        page.get_by_role("checkbox", name="local/smollm2-135m-instruct").check()
        page.get_by_text("More settings").click()
        page.get_by_label("Ask everything").check()
        page.get_by_label("Calls at once").fill("2")
        page.get_by_role("button", name="Forecast").click()
        page.get_by_role("heading", name="What it would take").wait_for()
        assert page.get_by_text("72 to ask everything").is_visible()
        page.get_by_role("button", name="Start").click()
        page.wait_for_url("**/compare/run_*")
        run = page.url.rpartition("/")[2]

        # it is watched without a reload, and a reload loses nothing
        page.locator("svg.drawn").first.wait_for()
        page.reload()
        assert page.locator("h1 .badge").inner_text() == "running"
        assert page.locator("progress").is_visible() and page.locator("svg.drawn").first.is_visible()
        page.close()

        # the server is killed, and what compares goes on
        job = run_folder(folder / ".baimo", run)
        works_on = job.pid
        assert works_on is not None
        for pid in (endpoint.process.pid, *children(endpoint.process.pid)):
            if pid != works_on:
                os.kill(pid, signal.SIGKILL)
        endpoint.process.wait(PATIENCE_S)
        before = heard(job)
        until(lambda: heard(job) > before)
    with serving(folder, LOCAL) as endpoint:
        page = people(endpoint, key=credential, expected=offline)
        page.goto(f"/console/compare/{run}")
        page.locator(".headline").wait_for()  # drawn when it is there, without a reload
        assert page.locator("h1 .badge").inner_text() == "done"
        assert page.get_by_role("heading", name="Tiers").is_visible()
        ok = endpoint.rows(f"SELECT count(*) FROM records WHERE run = '{run}' AND status = 'ok'")
        assert ok == [(72,)]  # nothing was paid twice
        assert [event["kind"] for _, event in job.events()].count("launched") == 1


def heard(job: Any) -> int:
    """How often it has said how far it is."""
    return sum(event["kind"] == "progress" for _, event in job.events())
