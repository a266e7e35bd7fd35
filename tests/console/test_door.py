"""Signing in and out; what opens to nobody, and what one may see."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from starlette.routing import Mount, Route

from baimo.console.app import PAGES, console
from tests.console.browser import Browser
from tests.server.served import Served, served

OPEN = {"/sign-in", "/enter/{link}", "/prefer"}
"""Routes for those who have not signed in."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("house")) as endpoint:
        yield endpoint


@pytest.fixture
def browser(house: Served) -> Browser:
    return Browser(house)


def doors() -> list[tuple[str, str]]:
    """Method and path of every route for those who have signed in."""
    mount = console()
    assert isinstance(mount, Mount)
    return [
        (method, f"/console{re.sub(r'{.*?}', 'x', route.path)}")
        for route in mount.routes
        if isinstance(route, Route) and route.path not in OPEN
        for method in sorted((route.methods or set()) - {"HEAD"})
    ]


@pytest.mark.parametrize("cookie", ["", "none", "unknown", "revoked", "ended"])
def test_no_page_opens_without_a_session_that_lasts(house: Served, browser: Browser, cookie: str) -> None:
    key = house.key(role="admin")
    sessions = house.state["service"].sessions
    begun = sessions.begin(key[3:15], 60_000)
    values = {
        "none": "x",
        "unknown": f"bm-{'0' * 12}-{'0' * 48}",
        "revoked": begun.credential.written(),
        "ended": sessions.begin(key[3:15], 0).credential.written(),
    }
    if cookie == "revoked":
        house.workspace.accounts.revoke(key[3:15])
    house.settled()
    if cookie:
        browser.cookies["baimo_session"] = values[cookie]
    assert len(doors()) > 15
    for method, path in doors():
        shown = browser.get(path) if method == "GET" else browser.post(path)
        assert (shown.status, shown.path.partition("?")[0]) == (200, "/console/sign-in"), path


def test_a_key_opens_the_console_and_stays_out_of_the_browser(house: Served, browser: Browser) -> None:
    key = house.key(role="viewer", label="mine")
    shown = browser.get("/console/usage?span=7d")
    assert 'name="next" value="/usage"' in shown.html  # back to where one wanted to go
    shown = browser.sign_in(key)
    assert (shown.status, shown.path) == (200, "/console/") and "mine" in shown.html
    assert key not in str(browser.cookies)
    flags = browser.flags["baimo_session"].lower()
    assert "httponly" in flags and "samesite=strict" in flags and "path=/console" in flags


def test_a_wrong_key_is_told_so_in_the_readers_language(house: Served) -> None:
    for language, words in (("en", "there is no key"), ("zh-CN,zh;q=0.9", "没有密钥")):
        browser = Browser(house, language)
        shown = browser.sign_in(f"bm-{'1' * 12}-{'1' * 48}")
        assert shown.status == 401 and words in shown.html and not browser.cookies


def test_a_session_ends_when_one_signs_out(house: Served, browser: Browser) -> None:
    browser.sign_in(house.key(role="viewer"))
    credential = browser.cookies["baimo_session"]
    assert house.call("GET", "/api/me", credential).status == 200
    assert browser.post("/console/sign-out").path == "/console/sign-in"
    assert house.call("GET", "/api/me", credential).status == 401
    assert "baimo_session" not in browser.cookies


@pytest.mark.parametrize("origin", ["", "http://elsewhere.example", "null"])
def test_a_form_of_another_origin_does_nothing(house: Served, browser: Browser, origin: str) -> None:
    browser.sign_in(house.key(role="admin"))
    before = house.workspace.accounts.revision()
    for method, path in [*doors(), ("POST", "/console/sign-in"), ("POST", "/console/prefer")]:
        if method == "POST":
            assert browser.post(path, origin=origin).status == 403, path
    assert house.workspace.accounts.revision() == before


@pytest.mark.parametrize(
    "there", ["https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere.example"]
)
def test_nobody_is_sent_elsewhere_after_signing_in(house: Served, browser: Browser, there: str) -> None:
    shown = browser.post("/console/sign-in", key=house.key(role="viewer"), next=there, follow=False)
    assert shown.headers["location"] == "/console/"


def test_a_link_opens_once_and_not_by_being_looked_at(house: Served) -> None:
    key = house.key(role="admin")
    link = house.state["service"].sessions.begin(key[3:15], 900_000).credential.written()
    house.settled()
    first, second = Browser(house), Browser(house)
    for browser in (first, second):
        assert browser.get(f"/console/enter/{link}").status == 200
    assert first.post(f"/console/enter/{link}").path == "/console/"
    assert second.post(f"/console/enter/{link}").status == 401
    assert first.get("/console/keys").status == 200 and "baimo_session" not in second.cookies


def test_every_page_allows_nothing_from_elsewhere(house: Served, browser: Browser) -> None:
    browser.sign_in(house.key(role="admin"))
    for page in PAGES:
        shown = browser.get(f"/console{page.path}")
        policy = shown.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', shown.html)
        assert " style=" not in shown.html and "<style" not in shown.html and "onclick" not in shown.html


def test_language_and_theme_are_kept_for_this_browser(house: Served, browser: Browser) -> None:
    browser.sign_in(house.key(role="viewer"))
    assert 'lang="en"' in browser.get("/console/").html
    shown = browser.post("/console/prefer", lang="zh", theme="dark", next="/console/usage?span=7d")
    assert shown.path == "/console/usage?span=7d"
    assert 'lang="zh-CN"' in shown.html and 'data-theme="dark"' in shown.html and "用量" in shown.html
    browser.post("/console/prefer", lang="xx", theme="pink", next="/")
    assert (browser.cookies["baimo_lang"], browser.cookies["baimo_theme"]) == ("zh", "dark")


def test_the_menu_holds_what_one_may_see(house: Served) -> None:
    for role, has_keys in (("app", False), ("viewer", True)):
        browser = Browser(house)
        shown = browser.sign_in(house.key(role=role))
        assert ('href="/console/keys"' in shown.html) == has_keys
        assert browser.get("/console/keys").status == (200 if has_keys else 403)
