"""Every page there is, in both languages and themes, at a desk and on a phone, for everybody."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.catalogue import messages
from tests.console.access import barriers
from tests.console.browser import Browser, Shown
from tests.console.conftest import People
from tests.console.lived import Lived, lived
from tests.console.reading import Reading, Words
from tests.console.walk import kind, routes, walked

pytestmark = pytest.mark.xdist_group("pages")  # every page is drawn once for all of them
HAN = re.compile(r"[\u4e00-\u9fff]")
SENTENCE = re.compile(r"[A-Za-z']{2,},?(?: [a-z']+,?){3,}")
"""Four words of running English."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lived]:
    with lived(tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture(scope="module")
def shown(home: Lived) -> dict[str, dict[str, Shown]]:
    """Language → address → page, as the workspace's administrator meets them."""
    found: dict[str, dict[str, Shown]] = {}
    for language in ("en", "zh"):
        browser = Browser(home.house, language)
        browser.sign_in(home.keys["admin", ""])
        found[language] = walked(browser)
        stranger = Browser(home.house, language)
        found[language] |= {path: stranger.get(path) for path in ("/console/sign-in", "/console/enter/x")}
    return found


def words(shown: Shown) -> list[Words]:
    return Reading(shown.html).words if "html" in shown.headers["content-type"] else []


def test_every_page_can_be_reached_by_links(shown: dict[str, dict[str, Shown]]) -> None:
    reached = {kind(address.removeprefix("/console").partition("?")[0]) for address in shown["en"]}
    there = {route.path for route in routes() if "GET" in (route.methods or ())}
    assert there - reached == {"/live"}  # for scripts
    for pages in shown.values():
        assert {address: page.status for address, page in pages.items() if page.status != 200} == {}


def test_an_address_that_no_page_has_is_told_so_in_the_readers_language(home: Lived) -> None:
    for language, told in (("en", "There is no such page"), ("zh", "没有这个页面")):
        browser = Browser(home.house, language)
        assert browser.get("/console/gone").path.startswith("/console/sign-in")
        browser.sign_in(home.keys["viewer", "red"])
        shown = browser.get("/console/gone/further")
        assert shown.status == 404 and told in Reading(shown.html).text
        assert browser.get("/console").headers["location"].endswith("/console/")


def fragments(language: str, other: str) -> dict[str, str]:
    """Pieces of messages that no page of the other language may hold, and whose they are."""
    found: dict[str, str] = {}
    for key, message in messages(language).items():
        if message == messages(other)[key]:
            continue
        for piece in re.split(r"\{[^{}]*\}", message):
            if len(piece.split()) >= 3 and re.search(r"[a-z]{3}", piece):
                found[piece.strip()] = key
    return found


def test_no_page_says_anything_in_the_other_language(shown: dict[str, dict[str, Shown]]) -> None:
    for address, page in shown["en"].items():
        han = [one for one in words(page) if HAN.search(one.text) and not one.language.startswith("zh")]
        assert han == [], address
    english = fragments("en", "zh")
    for address, page in shown["zh"].items():
        for one in words(page):
            if not one.code:
                assert not SENTENCE.search(one.text), (address, one)
                assert not [key for piece, key in english.items() if piece in one.text], (address, one)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_page_shows_a_key_or_a_gap_of_the_catalogue(
    shown: dict[str, dict[str, Shown]], language: str
) -> None:
    rooms = "|".join({key.partition(".")[0] for key in messages("en")})
    raw = re.compile(rf"\b(?:{rooms})\.[a-z]+(?:_[a-z]+)+\b|\{{[a-z_]+\}}|\bNone\b|\bundefined\b")
    for address, page in shown[language].items():
        spoken = [
            one for one in words(page) if not one.code and "@data-" not in one.place
        ]  # scripts fill in data-
        assert not [one for one in spoken if raw.search(one.text)], address


def overflowing(page: Any) -> list[str]:
    """Elements that make the page wider than the window."""
    return list(
        page.evaluate("""() => {
            const wide = document.documentElement.clientWidth;
            if (document.documentElement.scrollWidth <= wide) return [];
            return [...document.querySelectorAll("body *")]
                .filter((one) => one.getBoundingClientRect().right > wide + 1 && !one.closest(".wide, pre"))
                .map((one) => `${one.tagName}.${one.className}`).slice(0, 5).concat("the page is too wide");
        }""")
    )


def test_every_page_is_open_to_everybody(
    home: Lived, people: People, shown: dict[str, dict[str, Shown]]
) -> None:
    """No finding of axe in either theme, and nothing to push sideways on a phone, in both languages."""
    seen = set[str | None]()
    mine = home.keys["admin", ""]  # conversations are their key's
    readers = {language: people(home.house, key=mine, language=language) for language in ("en", "zh")}
    for number, (address, page) in enumerate(shown["en"].items()):
        reached = kind(address.removeprefix("/console").partition("?")[0])
        if "html" not in page.headers["content-type"] or reached in seen:
            continue
        seen.add(reached)
        reader = readers["en" if number % 2 else "zh"]
        reader.set_viewport_size({"width": 1280, "height": 900})
        reader.goto(address)
        assert barriers(reader) == [], address
        reader.evaluate("document.documentElement.dataset.theme = 'dark'")
        assert barriers(reader, ("color-contrast",)) == [], address
        reader.set_viewport_size({"width": 375, "height": 760})
        assert overflowing(reader) == [], address
    assert len(seen) > 12


@pytest.mark.parametrize(
    "asked",
    ["by=tag:team", "by=status&status=failed", "by=route&span=7d", "by=key&model=acme/small", "by=x&span=y"],
)
def test_usage_answers_whatever_it_is_asked_by(home: Lived, asked: str) -> None:
    browser = Browser(home.house)
    browser.sign_in(home.keys["viewer", ""])
    assert browser.get(f"/console/usage?{asked}").status == 200
