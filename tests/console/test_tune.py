"""Tuning in the console: from the form to a model that answers to an alias, and back; releases and models beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest

from baimo.core.tuning import Adapter
from baimo.core.verdict import Interval
from baimo.store.adapters import Adapters
from baimo.store.audit import Actor
from baimo.workspace.releasing import Promotion
from tests.console.browser import Browser, Shown
from tests.console.conftest import People
from tests.console.reading import Reading
from tests.server.admin import compared
from tests.server.served import Served
from tests.server.test_tuning_api import TASK, ask, order, reached
from tests.server.tuned import BASE, lines, tuned
from tests.serving import Endpoint, serving
from tests.waiting import until

PASSED = {
    "prompts": 8,
    "template": True,
    "logits": True,
    "text": True,
    "identical": 7,
    "compared": 180,
    "mean_logit_difference": 0.001,
    "max_logit_difference": 0.009,
    "serving": {"engine": "openvino"},
}
DIFFERS = {
    "prompts": 8,
    "template": True,
    "logits": False,
    "text": False,
    "differs": "logits",
    "how": "token 3",
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    patch = pytest.MonkeyPatch()
    patch.setenv("BAIMO_LANG", "en")
    with tuned(tmp_path_factory.mktemp("tuned")) as endpoint:
        write_task(endpoint.workspace.path / "tasks" / "home")
        yield endpoint
    patch.undo()


def write_task(folder: Path, count: int = 9) -> None:
    folder.mkdir(parents=True)
    for name in ("train", "test"):
        rows = [{"input": f"say {number % 7}", "target": f"it is {number % 7}"} for number in range(count)]
        (folder / f"{name}.jsonl").write_bytes(lines(rows))
    (folder / "task.toml").write_text(TASK)


@pytest.fixture(scope="module")
def key(house: Served) -> str:
    return house.key(role="engineer")


@pytest.fixture(scope="module")
def browser(house: Served, key: str) -> Browser:
    made = Browser(house)
    assert made.sign_in(key).status == 200
    return made


def judged(house: Served, model: str, status: str, parity: Any) -> None:
    """As if the gate had found this."""
    adapters = Adapters(house.workspace.store.database)
    found = adapters.named(model)
    assert found is not None
    adapters.change(found.tenant, found.id, lambda one: replace(one, status=status, parity=parity))  # type: ignore[arg-type]


def shown(browser: Browser, path: str) -> str:
    """The words of a page."""
    answer: Shown = browser.get(path)
    assert answer.status == 200, answer.html
    return Reading(answer.html).text


def test_the_form_orders_a_job_that_asks_and_the_page_says_what_it_will_take(
    house: Served, browser: Browser, key: str
) -> None:
    house.state["service"].tuning.check = lambda _: None
    assert "home" in shown(browser, "/console/tune/new")
    made = browser.post(
        "/console/tune/new", act="forecast", task="home", suffix="lamp", **{"set-steps": "80"}
    )
    assert made.path.startswith("/console/tune/ftjob-"), Reading(made.html).text
    job = made.path.rpartition("/")[2]
    reached(house, key, job, "asking")
    words = shown(browser, made.path)
    assert "waits for your yes" in words and "Minutes" in words and "Start" in words
    assert "no hourly rate is set" in words and "as asked" not in words
    done = browser.post(f"{made.path}/resume")
    assert done.path == made.path
    reached(house, key, job, "succeeded")
    words = shown(browser, made.path)
    assert "Forecast and fact" in words and "Not judged yet." in words and "Loss" in words
    assert "it cannot be promoted" in words.lower()
    page = browser.get(made.path).html
    assert page.count("<polyline") == 1 and "Training loss: from 0.9 to" in page


def test_a_form_that_cannot_be_kept_keeps_what_was_written(browser: Browser) -> None:
    refused = browser.post("/console/tune/new", act="forecast", suffix="lamp", effort="large")
    words = Reading(refused.html).text
    assert refused.status == 400 and "name either a task or a training file" in words
    assert 'value="lamp"' in refused.html and '<option value="large" selected>' in refused.html


def test_the_table_of_jobs_is_sorted_by_its_heads_and_taken_along_as_it_is_shown(
    house: Served, browser: Browser, key: str
) -> None:
    for suffix, count in (("zebra", 2), ("adder", 3)):
        job = order(house, key, task="home", suffix=suffix, overrides={"steps": count}, start=True)
        reached(house, key, job, "succeeded")
    page = browser.get("/console/tune?recipe=sft&text=e")
    head = page.html.partition("<thead>")[2].partition("</thead>")[0]
    assert 'aria-sort="descending"><a href="?recipe=sft&amp;text=e&amp;sort=created"' in head.replace(
        "text=e&amp;recipe=sft", "recipe=sft&amp;text=e"
    )
    link = re.search(r'<a href="(\?[^"]*sort=name)">', head)
    assert link is not None
    sorted_so = browser.get("/console/tune" + link[1].replace("&amp;", "&")).html
    rows = sorted_so.partition("<tbody>")[2]
    assert rows.index("adder") < rows.index("zebra") and 'aria-sort="ascending"' in sorted_so
    assert 'name="sort" value="name"' in sorted_so  # and a new filter keeps it
    export = re.search(r'href="(/console/tune/export[^"]*)" download', sorted_so)
    assert export is not None
    table = browser.get(export[1].replace("&amp;", "&")).html.splitlines()
    assert table[0].startswith("job,tenant,status") and "adder" in table[1]
    assert browser.get("/console/tune?sort=nonsense&status=succeeded&base=nobody").status == 200


def test_a_judgement_is_said_in_words_and_decides_whether_there_is_a_way_to_promote(
    house: Served, browser: Browser, key: str
) -> None:
    job = order(house, key, task="home", overrides={"steps": 2}, start=True)
    model = reached(house, key, job, "succeeded")["model"]
    judged(house, model, "blocked", DIFFERS)
    words = shown(browser, f"/console/tune/{job}")
    assert "Tokens: log-probabilities of 0 tokens differ too much" in words and "token 3" in words
    refused = browser.post("/console/models/releases", alias="lamps", model=model)
    assert refused.status == 409 and "is blocked" in Reading(refused.html).text
    judged(house, model, "ready", PASSED)
    words = shown(browser, f"/console/tune/{job}")
    assert "Template: 8 conversations are rendered to the same text and tokens." in words
    assert "Answers: 7 of 8 are the same to the letter." in words and "Served by openvino" in words
    done = browser.post("/console/models/releases", alias="lamps", model=model, why="it knows the house")
    words = Reading(done.html).text
    assert done.path == "/console/models/releases" and "it knows the house" in words and "holds" in words
    assert "answers to lamps" in " ".join(shown(browser, f"/console/tune/{job}").split())
    assert model in shown(browser, "/console/tune/models")


def compared_with_its_base(house: Served, model: str, base: str) -> str:
    """A comparison in which a tuned model was better than what it was made from."""
    store = house.workspace.store
    run, verdict = (lambda id: (store.run(id), store.verdict(id)))(compared.compared(house, ""))
    assert verdict is not None
    figures = ((model, 0.9, (0.8, 0.95), 1), (base, 0.4, (0.3, 0.5), 2))
    standings = tuple(
        replace(verdict.standings[0], candidate=name, score=score, interval=Interval(*ends), tier=tier)
        for name, score, ends, tier in figures
    )
    names = tuple({**run.candidates[0], "name": name, "model": name} for name, *_ in figures)
    again = replace(run, id=f"{run.id[:-4]}base", candidates=names, status="running")
    store.begin(again)
    found = replace(verdict, run=again.id, standings=standings, winner=model)
    store.finish(replace(again, status="done"), found)
    return again.id


def test_what_came_of_a_job_is_seen_at_one_look(house: Served, browser: Browser, key: str) -> None:
    job = order(house, key, task="home", suffix="lamps", overrides={"steps": 40})
    reached(house, key, job, "asking")
    ask(house, key, "POST", f"/api/tuning/jobs/{job}/resume", {})
    model = reached(house, key, job, "succeeded")["model"]
    page = shown(browser, f"/console/tune/{job}")
    assert "Not compared with its base yet." in page and "Not judged yet." in page
    judged(house, model, "ready", PASSED)
    offered = browser.get(f"/console/tune/{job}").html
    compare = re.search(r'href="(/console/compare/new[^"]*)">Compare with its base', offered)
    assert compare is not None
    form = browser.get(compare[1].replace("&amp;", "&")).html
    assert model in form and f'value="{BASE}" checked' in form  # both are chosen
    run = compared_with_its_base(house, model, BASE)
    found = ask(house, key, "GET", f"/api/tuning/jobs/{job}")["beaten"][0]
    assert (found["before"], found["score"], found["gained"]) == (0.4, 0.9, True)
    words = " ".join(shown(browser, f"/console/tune/{job}").split())
    assert "40.0 % → 90.0 %" in words and "+50.0 points" in words
    assert "passed" in words and "forecast" in words and "Promote" in words
    assert f'href="/console/compare/{run}"' in browser.get(f"/console/tune/{job}").html

    # its name is read from what people chose, and is there in full for those who want to call it
    verdict = browser.get(f"/console/compare/{run}").html
    short = f"ft:lamps·{model[-6:]}"
    assert f'<p class="headline" dir="auto">{short}' in verdict and f'title="{model}"' in verdict
    assert f"<code>{model}</code>" in verdict and verdict.count(short) > 4
    assert short in browser.get("/console/compare").html


def test_a_release_is_rolled_back_once_however_often_its_button_is_pressed(
    house: Served, browser: Browser
) -> None:
    promote = house.workspace.releasing.promote
    promote(Promotion(alias="twice", model="acme/small"), Actor())
    newest = promote(Promotion(alias="twice", model="local/smollm2-135m-instruct"), Actor()).id
    house.state["service"].adapted.refresh()
    path = f"/console/models/releases/{newest}/roll-back"
    first, second = browser.post(path), browser.post(path)
    assert (first.status, second.status) == (200, 409)
    assert "released again meanwhile" in Reading(second.html).text
    held = {one.alias: one.model for one in house.workspace.releasing.releases.holding("")}
    assert held["twice"] == "acme/small"


def test_checkpoints_are_folded_away_behind_their_jobs_model_and_can_be_promoted(
    house: Served, browser: Browser
) -> None:
    kept, names = Adapters(house.workspace.store.database), dict[int | None, str]()
    for at, step in enumerate((10, None, 20)):
        names[step] = f"ft:small:owner:folded:abcdef{at}{f':ckpt-step-{step}' if step else ''}"
        facts: dict[str, Any] = {"base": "small", "base_hash": "", "folder": "", "parity": PASSED}
        facts |= {"id": f"ad_folded{at}", "name": names[step], "job": "ftjob-folded", "step": step}
        kept.put(Adapter(**facts, tenant="", status="ready", created_ms=at))
    html = browser.get("/console/tune/models?text=folded").html.partition("<main")[2]
    family, folded = html.partition("<details")[::2]
    assert names[None] in family and not any(names[step] in family for step in (10, 20))
    assert folded.index(names[20]) < folded.index(names[10])
    link = re.search(r'href="([^"]+model=[^"]*ckpt-step-20)#promote"', folded)
    assert link is not None
    assert f'value="{names[20]}"' in browser.get(link[1].replace("&amp;", "&")).html


def test_routes_are_a_picture_that_says_the_same_in_words(browser: Browser, house: Served) -> None:
    page = browser.get("/console/models/releases").html
    assert 'aria-label="fast. → acme/small"' in page
    assert "<path" in page and "→ local/smollm2-135m-instruct" in page


def test_a_model_is_tried_with_one_tiny_call_that_is_in_the_ledger(house: Served, browser: Browser) -> None:
    tried = browser.post("/console/models/acme/small", act="try")
    words = " ".join(Reading(tried.html).text.split())
    assert "It answers" in words and "It is noon." in words and "$0.0000" in words
    admin = house.key(role="admin")
    until(lambda: ask(house, admin, "GET", "/api/ledger/records?surface=test")["data"])


def test_a_file_from_ones_own_machine_is_looked_at_uploaded_and_chosen(
    house: Served, key: str, people: People
) -> None:
    page = people(house, key=key, expected=("400 (Bad Request)",))
    page.goto("/console/tune/new")
    page.locator("summary").get_by_text("Settings").click()
    page.get_by_label("Name", exact=True).fill("lamps")
    page.get_by_label("Effort").select_option("medium")
    page.get_by_label("Task", exact=True).select_option("home")
    mine = page.get_by_label("from this machine")
    rows = "".join(f"question {number},answer {number}\n" for number in range(12))
    sheet = {"name": "house, new.csv", "mimeType": "text/csv"}
    mine.first.set_input_files({**sheet, "buffer": f"prompt,completion\nso?,\n{rows}".encode()})
    page.get_by_role("button", name="Upload").first.click()
    told = page.locator(".faults")
    assert "Line 2:" in told.inner_text() and "empty" in told.inner_text()
    assert page.get_by_label("Effort").input_value() == "medium"
    assert page.get_by_label("Name", exact=True).input_value() == "lamps"
    assert page.get_by_label("Task", exact=True).input_value() == "home"

    # mended, with a second file to be measured, and on without another click
    mine.first.set_input_files({**sheet, "buffer": f"prompt,completion\n{rows}".encode()})
    mine.last.set_input_files({**sheet, "buffer": b"prompt,completion\nso?,yes\n", "name": "valid.csv"})
    page.get_by_role("button", name="Upload").first.click()
    page.get_by_text("house, new.csv is uploaded and chosen. Rows: 12.").wait_for()
    page.get_by_text("valid.csv is uploaded and chosen. Rows: 1.").wait_for()
    chosen = page.get_by_label("or a training file").input_value()
    assert chosen.startswith("file-") and page.get_by_label("Task", exact=True).input_value() == ""
    assert page.get_by_label("Validation file").input_value() not in ("", chosen)
    page.get_by_role("button", name="Forecast").click()
    page.wait_for_url("**/console/tune/ftjob-*")
    job = page.url.rpartition("/")[2]
    found = reached(house, key, job, "asking", "succeeded")
    assert (found["file"], found["suffix"], found["effort"]) == (chosen, "lamps", "medium")


# in a real browser, with a model that really learns


class Tiny:
    """A workspace with a base of random weights that is tuned in a second, and a task to learn."""

    def __init__(self, folder: Path) -> None:
        from baimo.providers.gguf_write import gguf_of
        from tests.tuning.adapters import tuned as tiny

        self.gguf = gguf_of(tiny.base(folder / "base"), folder / "tiny.gguf", "f16", None)
        self.folder = folder / "w"
        write_task(self.folder / ".baimo" / "tasks" / "home", count=24)

    @property
    def config(self) -> str:
        return f"""
[models."local/tiny"]
weights = "file:{self.gguf}"
context_window = 512
input_per_million = 0
output_per_million = 0
[providers.local.options]
engine = "llamacpp"
threads = 1
adapters = "lora"
[routes.smart-home]
models = ["local/tiny"]
[tune]
organization = "acme"
hourly_rate = 0.36
threads = 1
[serve]
default_model = "local/tiny"
"""


def answered_by(endpoint: Endpoint, key: str) -> str:
    """Which model answers to the alias, asked as everybody asks."""
    with openai.OpenAI(base_url=f"{endpoint.address}/v1", api_key=key, max_retries=0) as client:
        answer = client.chat.completions.with_raw_response.create(
            model="smart-home", messages=[{"role": "user", "content": "say 3"}], max_tokens=4
        )
    return str(answer.headers["x-baimo-model"])


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the libraries about each other
def test_a_model_is_tuned_from_the_form_judged_promoted_called_and_rolled_back(
    tmp_path: Path, people: People
) -> None:
    for module in ("torch", "peft", "xllamacpp"):
        pytest.importorskip(module)
    tiny = Tiny(tmp_path)
    with serving(tiny.folder, tiny.config, environment={"OMP_NUM_THREADS": "1"}) as endpoint:
        key = endpoint.new_key("--role", "engineer")
        page = people(endpoint, key=key)

        # the form: what follows from the dial, one setting otherwise, a forecast before the start
        page.goto("/console/tune")
        page.get_by_role("link", name="Tune a model").first.click()
        page.get_by_label("Task", exact=True).select_option("home")
        page.get_by_label("Base model").select_option("local/tiny")
        page.get_by_text("Settings", exact=True).last.click()
        page.get_by_role("button", name="Show what follows").click()
        assert page.get_by_label("batch_size").get_attribute("placeholder") == "4"
        page.get_by_label("max_steps").fill("40")
        page.get_by_label("Name", exact=True).fill("lamps")
        page.get_by_role("button", name="Forecast").click()
        page.wait_for_url("**/console/tune/ftjob-*")
        page.get_by_text("waits for your yes").wait_for()  # without a reload: the page follows the job
        forecast = page.get_by_role("region", name="Forecast")
        assert "$0.0" in forecast.inner_text() and "MiB" in forecast.inner_text()

        # started; a reload in mid-job loses nothing
        with page.expect_navigation():
            page.get_by_role("button", name="Start").click()
        page.reload()
        page.get_by_text("succeeded", exact=True).wait_for(timeout=300_000)
        assert page.locator("polyline").count() >= 1
        made = page.get_by_role("region", name="The tuned model")
        assert "Template: 8 conversations are rendered to the same text and tokens." in made.inner_text()
        assert "40 / 40" in page.locator("main").inner_text()
        model = made.locator("code").first.inner_text()
        assert model.startswith("ft:tiny:acme:lamps:")

        # promoted: the next call of the alias is answered by it; rolled back: no more
        assert answered_by(endpoint, key) == "local/tiny"
        page.get_by_label("Alias").fill("smart-home")
        page.get_by_label("Why").fill("it learnt the house")
        page.get_by_role("button", name="Promote").click()
        page.wait_for_url("**/console/models/releases")
        assert answered_by(endpoint, key) == model
        page.get_by_role("button", name="Roll back").click()
        page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
        page.get_by_text("rolled back").wait_for()
        assert answered_by(endpoint, key) == "local/tiny"
        acts = json.dumps(endpoint.rows("SELECT act FROM audit ORDER BY id"))
        for act in ("job.order", "job.resume", "release.promote", "release.roll_back"):
            assert act in acts
