"""Usage: sums that lead to their Records, how long answers took, and an invoice against the ledger."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from baimo.core.call import Usage
from baimo.core.record import Record
from baimo.store.filters import Filters
from baimo.store.latency import latencies
from tests.console.browser import Browser, Shown
from tests.server.served import Served, served

DAY_S = 86_400


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("house")) as endpoint:
        endpoint.tenant("red")
        for number in range(3):
            endpoint.chat(
                endpoint.key(label=f"k{number}", tags=(("scenario", "search" if number else "mail"),))
            )
        endpoint.chat(endpoint.key(tenant="red"))
        endpoint.recorded(4)
        store = endpoint.workspace.store
        for number in range(100):  # of an earlier year: in no span
            store.settle(
                Record(
                    id=f"rec_{number:03}",
                    at_ms=1_600_000_000_000 + number,
                    surface="chat",
                    model="acme/past",
                    status="ok" if number % 10 else "gateway.timeout",
                    usage=Usage(tokens_in=1, tokens_out=1),
                    latency_ms=float(number + 1),
                    first_byte_ms=None if number % 2 else 5.0,
                )
            )
        yield endpoint


@pytest.fixture
def browser(house: Served) -> Browser:
    browser = Browser(house)
    browser.sign_in(house.key(role="viewer"))
    return browser


def rows(html: str) -> list[list[str]]:
    """The cells of every row of a page's tables."""
    return [
        [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S)]
        for row in re.findall(r"<tr>(.*?)</tr>", html, re.S)
    ]


def test_sums_are_told_apart_by_scenario_and_lead_to_their_records(browser: Browser) -> None:
    shown = browser.get("/console/usage?by=tag:scenario&sort=calls").html
    assert [row[:2] for row in rows(shown)[1:]] == [["search", "2"], ["–", "1"], ["mail", "1"]]
    link = re.search(r'href="(/console/usage/records\?[^"]*tag=scenario%3Dsearch[^"]*)"', shown)
    assert link is not None and "since=" in link[1]
    records = browser.get(link[1].replace("&amp;", "&")).html
    assert len(rows(records)) == 3
    assert rows(browser.get("/console/usage?label=scenario").html)[0][0] == "Scenario"


@pytest.mark.parametrize(
    ("by", "first"), [("model", "acme/small"), ("surface", "chat"), ("status", "ok"), ("route", "direct")]
)
def test_every_group_leads_to_as_many_records_as_it_counts(browser: Browser, by: str, first: str) -> None:
    shown = browser.get(f"/console/usage?by={by}").html
    assert rows(shown)[1][:2] == [first, "4"]
    link = re.findall(r'<th scope="row"><a href="([^"]+)"', shown)[0]
    assert len(rows(browser.get(link.replace("&amp;", "&")).html)) == 1 + 4


def test_a_day_leads_to_its_records_and_rows_are_sorted_as_asked(browser: Browser) -> None:
    shown = browser.get("/console/usage?by=day&sort=group").html
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert rows(shown)[1][0] == today and f"since={today}" in shown and 'aria-sort="ascending"' in shown
    by_key = browser.get("/console/usage?by=key&sort=calls").html
    assert [row[1] for row in rows(by_key)[1:]] == ["1"] * 4


def test_percentiles_are_those_of_the_calls_that_were_asked_for(house: Served, browser: Browser) -> None:
    found = latencies(house.workspace.store.database, "model", Filters(model="acme/past"))
    one = found.groups[0]
    assert one == ("acme/past", 100, 50.0, 90.0, 99.0, 5.0, 5.0)
    assert (found.looked_at, found.all) == (100, True)
    some = latencies(house.workspace.store.database, "model", Filters(model="acme/past"), newest=10)
    assert (some.groups[0].p50, some.looked_at, some.all) == (95.0, 10, False)
    database, past = house.workspace.store.database, Filters(model="acme/past")
    for together in (1, 7, 1000):  # however many lines are read at once
        assert latencies(database, "model", past, newest=10, together=together) == some
        assert latencies(database, "model", past, together=together) == found
    near = latencies(house.workspace.store.database, "model", Filters(model="acme/past"), within=30)
    assert (near.looked_at, near.all) == (30, False)
    since = latencies(
        house.workspace.store.database, "model", Filters(since_ms=1_700_000_000_000), within=102
    )
    assert (since.looked_at, since.all) == (2, False)  # two of the four lie further back than one looks
    failed = latencies(house.workspace.store.database, "route", Filters(status="gateway.timeout"))
    assert failed.groups[0].calls == 10
    shown = browser.get("/console/usage/latency?span=1d").html
    assert [row[:2] for row in rows(shown)[1:]] == [["acme/small", "4"]] and "From all 4 calls" in shown
    assert browser.get("/console/usage/latency?model=nobody/x").html.count("<table") == 0


def uploaded(house: Served, browser: Browser, name: str, data: bytes, **fields: str) -> Shown:
    """The form with a file, as browsers send it."""
    parts = [f'name="{field}"\r\n\r\n{value}'.encode() for field, value in fields.items()]
    parts.append(f'name="file"; filename="{name}"\r\nContent-Type: text/plain\r\n\r\n'.encode() + data)
    body = b"".join(b"--cut\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts)
    headers = {
        "cookie": "; ".join(f"{one}={value}" for one, value in browser.cookies.items()),
        "origin": browser.origin,
        "content-type": "multipart/form-data; boundary=cut",
        "accept-language": "en",
    }
    said = house.call("POST", "/console/usage/reconcile", None, body + b"--cut--\r\n", headers)
    return Shown(said.status, "", dict(said.headers), said.body.decode())


def statement(calls: int) -> bytes:
    """An export of usage that says so many calls were made today."""
    day = int(datetime.now(UTC).timestamp()) // DAY_S * DAY_S
    result = {
        "object": "organization.usage.completions.result",
        "model": "small",
        "num_model_requests": calls,
        "input_tokens": 4 * calls,
        "output_tokens": 3 * calls,
        "input_cached_tokens": 0,
    }
    bucket = {"object": "bucket", "start_time": day, "end_time": day + DAY_S, "results": [result]}
    return json.dumps({"object": "page", "data": [bucket], "has_more": False, "next_page": None}).encode()


def test_an_invoice_is_compared_line_by_line_and_not_kept(house: Served, browser: Browser) -> None:
    agrees = uploaded(house, browser, "november.json", statement(4), vendor="acme", all="1")
    assert agrees.status == 200 and "november.json" in agrees.html and "agrees with the ledger" in agrees.html
    assert ["generated tokens", "12", "12", "+0"] in [row[2:] for row in rows(agrees.html)]
    differs = uploaded(house, browser, "november.json", statement(5), vendor="acme")
    assert "differs from the ledger" in differs.html
    pasted = browser.post("/console/usage/reconcile", vendor="acme", statement=statement(4).decode())
    assert "agrees with the ledger" in pasted.html
    assert browser.post("/console/usage/reconcile").status == 400
    assert ["generated tokens", "15", "12", "-3"] in [row[2:] for row in rows(differs.html)]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "wrong.csv"),
        (b"\xff\xfe", "no text in UTF-8"),
        (b"a,b\n1,2\n", "wrong.csv"),
        (b"{", "wrong.csv"),
    ],
)
def test_a_file_that_is_no_statement_is_told_so_by_its_name(
    house: Served, browser: Browser, data: bytes, told: str
) -> None:
    shown = uploaded(house, browser, "wrong.csv", data)
    assert shown.status == 400 and told in shown.html and "/tmp" not in shown.html


def test_only_who_sees_the_whole_ledger_reconciles(house: Served) -> None:
    red = Browser(house)
    red.sign_in(house.key(tenant="red", role="admin"))
    assert "/usage/reconcile" not in red.get("/console/usage").html
    assert red.get("/console/usage/reconcile").status == 403
    assert rows(red.get("/console/usage").html)[1][:2] == ["acme/small", "1"]
    assert len(rows(red.get("/console/usage/latency").html)) == 2


def test_money_of_which_nothing_is_known_is_no_zero(tmp_path: Path) -> None:
    with served(tmp_path) as endpoint:
        endpoint.workspace.store.settle(
            Record(
                id="rec_dark",
                at_ms=int(datetime.now(UTC).timestamp() * 1000),
                surface="chat",
                model="house/dark",
                usage=Usage(tokens_in=1, tokens_out=1),
            )
        )
        browser = Browser(endpoint)
        browser.sign_in(endpoint.key(role="viewer"))
        shown = browser.get("/console/usage?by=model&sort=cost").html
        assert rows(shown)[1][-2:] == ["–", "1"]
        assert '<p class="figure">–</p>' in shown
        assert "$0.00" not in shown + browser.get("/console").html
