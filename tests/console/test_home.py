"""Home: what goes on, what wants looking after, and what to do first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from baimo.core.rights import limit
from baimo.core.run import Run
from baimo.core.tenant import Tenant
from tests.console.browser import Browser
from tests.server.served import TOML, Served, served

SOON = f"{datetime.now(UTC).date() + timedelta(days=20)}"
SETTINGS = f"""
[models."acme/old"]
shutdown = "{SOON}"
[models."acme/free"]
[models."acme/dear"]
input_per_million = 100000.0
output_per_million = 0.0
[routes.kept]
models = ["acme/old"]
[providers.down]
protocol = "fake"
inside = true
[providers.down.options]
errors = ["500", "500", "500", "500"]
[models."down/x"]
input_per_million = 1.0
[serve]
breaker_failures = 2
retries = 0
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("house"), TOML + SETTINGS) as endpoint:
        yield endpoint


def visited(house: Served, role: str = "admin", tenant: str = "", language: str = "en") -> str:
    browser = Browser(house, language)
    return browser.sign_in(house.key(role=role, tenant=tenant)).html  # type: ignore[arg-type]


def test_a_new_workspace_is_told_three_things_that_work(house: Served) -> None:
    shown = visited(house)
    links = re.findall(r'<a class="button main" href="(/console/[^"]+)"', shown)
    assert len(links) == 3 and shown.count("<pre") == 3
    browser = Browser(house)
    browser.sign_in(house.key(role="admin"))
    for link in links:
        assert browser.get(link.replace("&amp;", "&")).status == 200, link
    model = re.search(r"&#34;model&#34;: &#34;([^&]+)&#34;", shown)
    offered = house.call("GET", "/v1/models", house.key()).data["data"]
    assert model is not None and model[1] in {one["id"] for one in offered}
    assert house.chat(house.key()).status == 200
    house.recorded(1)
    assert 'id="steps"' not in visited(house)  # and not again


def test_who_may_not_order_is_not_sent_to_a_page_that_refuses(tmp_path: Path) -> None:
    with served(tmp_path) as empty:
        shown = visited(empty, "viewer")
    assert shown.count("<pre") == 3
    assert re.findall(r'<a class="button main" href="([^"]+)"', shown) == [
        "/console/chat?model=local%2Fsmollm2-135m-instruct"
    ]


def test_what_wants_looking_after_is_named_with_a_link(house: Served) -> None:
    key, before = house.key(), house.records
    assert house.chat(key, model="acme/free").status == 200
    for number in range(3):
        house.chat(key, f"question {number}", "down/x")
    house.recorded(before + 3)
    shown = visited(house)
    for told, link in (
        ("acme/free: calls without a known price today: 1", "/usage/records?model=acme/free"),
        (f"acme/old will be switched off on {SOON}", "/models/acme/old"),
        ("down/x: its server failed again and again", "/models/down/x"),
    ):
        assert re.search(rf'href="/console{re.escape(link)}">{re.escape(told)}', shown), told
    assert "屡次失败" in visited(house, language="zh")


def test_work_under_way_is_shown_to_its_tenant_and_to_nobody_else(house: Served) -> None:
    house.tenant("red")
    begun = int(datetime.now(UTC).timestamp() * 1000)
    for id, task, status in (("run_1", "birds", "running"), ("run_2", "bees", "done")):
        run = Run(
            id=id,
            task=task,
            task_hash="x",
            status=status,
            started_ms=begun,
            candidates=(),
            options={},
            config_hash="",
            seed=0,
            version="1",
        )
        house.workspace.store.begin(run)
    shown = visited(house, "viewer")
    assert "birds" in shown and "bees" not in shown
    assert "birds" not in visited(house, "viewer", "red")


def test_money_stands_against_the_budget_of_ones_tenant(house: Served) -> None:
    house.workspace.accounts.create_tenant(Tenant(id="blue", limits=(limit("cost=100/month"),)))
    key, before = house.key(tenant="blue"), house.records
    for _ in range(3):
        assert house.chat(key, model="acme/dear").status == 200
    house.recorded(before + 3)
    shown = visited(house, "viewer", "blue")
    assert "cost=100/month" in shown
    used = re.search(r'<span class="amount" title="([\d.e-]+) / 100">([\d.]+) %', shown)
    assert used is not None and float(used[1]) == pytest.approx(1.2)
    assert float(used[2]) == pytest.approx(100 * float(used[1]) / 100, abs=0.06)
