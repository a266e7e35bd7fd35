"""What people come to the console for, in a real browser, from the first link to a key that is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from playwright.sync_api import expect

from baimo.core.tuned_name import brief
from tests.console.conftest import People
from tests.console.lived import Lived, lived
from tests.console.walk import routes
from tests.serving import serving

CONFIG = """
[providers.acme]
protocol = "fake"
inside = true
[providers.acme.options]
constant = "It is noon."
[models."acme/small"]
input_per_million = 1000.0
output_per_million = 2000.0
[serve]
default_model = "acme/small"
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lived]:
    with lived(tmp_path_factory.mktemp("house")) as house:
        yield house


def test_a_newcomer_comes_in_by_the_printed_link_and_a_key_lives_its_life(
    tmp_path: Path, people: People
) -> None:
    with serving(tmp_path / "w", CONFIG) as endpoint:
        link = re.search(r"http://\S+/console/enter/\S+", endpoint.log.read_text())
        assert link is not None
        page = people(endpoint, role="", expected=("401",))

        # in, once
        page.goto(link[0])
        page.get_by_role("button", name="Enter").click()
        page.wait_for_url("**/console/")
        assert page.get_by_role("heading", level=1).inner_text() == "Home"
        assert page.get_by_text("Three things to do next").is_visible()  # nothing was called yet
        second = people(endpoint, role="", expected=("401",))
        second.goto(link[0])
        second.get_by_role("button", name="Enter").click()
        second.get_by_role("alert").wait_for()

        # a key is made; what is printed is used by OpenAI's own SDK
        page.get_by_role("link", name="Keys & tenants").click()
        page.get_by_role("link", name="New key").click()
        page.get_by_label("Label").fill("search team")
        page.get_by_label("Limits").fill("cost=20/month")
        page.get_by_role("button", name="Create").click()
        credential = page.locator("pre code").first.inner_text()
        client = openai.OpenAI(base_url=f"{endpoint.address}/v1", api_key=credential, max_retries=0)
        asked = [{"role": "user", "content": "What time is it?"}]
        answer = client.chat.completions.create(model="acme/small", messages=asked)  # type: ignore[arg-type]
        assert answer.choices[0].message.content == "It is noon."
        endpoint.settled(1)

        # its Record and its cost are on Usage
        assert answer.usage is not None
        cost = answer.usage.prompt_tokens * 0.001 + answer.usage.completion_tokens * 0.002
        page.get_by_role("link", name="Usage", exact=True).click()
        page.goto("/console/usage?by=key")
        row = page.get_by_role("row").filter(has_text=credential[3:15])
        assert f"${cost:.4f}" in row.inner_text()
        row.get_by_role("link").first.click()
        page.locator("tbody th a").first.click()
        page.get_by_text("acme/small").first.wait_for()
        assert credential[3:15] in page.content()
        assert credential not in page.content()

        # it is revoked, after being asked whether one is sure, and refused from then on
        page.goto(f"/console/keys/{credential[3:15]}")
        page.get_by_role("button", name="Revoke").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        assert page.locator("h1 .badge").inner_text() == "valid"
        page.get_by_role("button", name="Revoke").click()
        page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        page.locator("h1 .badge.revoked").wait_for()
        with pytest.raises(openai.AuthenticationError, match="revoked"):
            client.chat.completions.create(model="acme/small", messages=asked)  # type: ignore[arg-type]
        page.goto(f"/console/keys/audit?subject={credential[3:15]}")
        acts = page.locator("tbody").inner_text()
        assert "key.create" in acts and "key.revoke" in acts


def menu(page: object) -> list[str]:
    return page.locator("header nav a").evaluate_all("links => links.map((one) => one.pathname)")  # type: ignore[attr-defined]


def test_language_and_theme_are_switched_on_every_page_of_the_menu(home: Lived, people: People) -> None:
    page = people(home.house)
    page.context.clear_cookies(name=re.compile("baimo_(lang|theme)"))
    page.goto("/console/")
    addresses = menu(page)
    assert len(addresses) >= 6 and set(addresses) <= {f"/console{route.path}" for route in routes()}
    themes = set[str]()
    for number, address in enumerate(addresses):
        page.goto(address)
        before = page.locator("header nav a[aria-current]").inner_text()
        language, switch = (("zh-CN", "中文"), ("en", "English"))[number % 2]
        page.get_by_role("banner").get_by_role("button", name=switch).click()
        page.wait_for_function("lang => document.documentElement?.lang === lang", arg=language)
        assert page.evaluate("location.pathname") == address
        assert page.locator("header nav a[aria-current]").inner_text() != before
        was = page.evaluate("document.documentElement.dataset.theme")
        page.locator("header button[name=theme]").click()
        page.wait_for_function(
            "was => ![was, undefined].includes(document.documentElement?.dataset.theme)", arg=was
        )
        themes.add(page.evaluate("document.documentElement.dataset.theme"))
        assert page.evaluate("location.pathname") == address
    assert themes == {"auto", "light", "dark"}


def test_everything_can_be_done_with_the_keyboard(home: Lived, people: People) -> None:
    page = people(home.house)
    page.goto("/console/keys/new")

    def press(key: str, count: int = 1) -> None:
        for _ in range(count):
            page.keyboard.press(key)

    # the first thing is a way past the menu
    press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    press("Enter")
    press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")

    # wherever the focus is, it is seen, and it comes to every field and back to the top
    page.goto("/console/keys/new")
    seen: list[str] = []
    for _ in range(40):
        press("Tab")
        at = page.evaluate("""() => {
            const one = document.activeElement, style = getComputedStyle(one), box = one.getBoundingClientRect();
            const visible = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
            const name = one.name || one.textContent.trim().slice(0, 20);
            return {name, visible, inside: box.left >= 0, tag: one.tagName};
        }""")
        if at["tag"] == "BODY":
            break
        assert at["visible"] and at["inside"], at
        seen.append(at["name"])
    assert {"label", "role", "model", "limit"} <= set(seen)

    # a form is filled and sent without a mouse
    page.get_by_label("Label").focus()
    page.keyboard.type("typed")
    press("Enter")
    page.locator("pre code").first.wait_for()
    assert page.get_by_role("heading", level=1).is_visible()

    # a dialog takes the focus, and gives it back
    page.goto(f"/console/keys/{home.keys['app', 'red'][3:15]}")
    page.get_by_role("button", name="Revoke").focus()
    press("Enter")
    assert page.evaluate("document.activeElement.closest('dialog') !== null")
    press("Escape")
    assert page.evaluate("document.activeElement.textContent") == "Revoke"


def test_a_phone_shows_the_menu_when_it_is_asked_for(home: Lived, people: People) -> None:
    page = people(home.house, language="zh", theme="dark", width=375, height=700)
    page.goto("/console/")
    assert not page.locator("header nav").is_visible()
    page.locator("header summary").click()
    page.locator("header nav").get_by_role("link", name="用量").click()
    page.wait_for_url("**/console/usage")
    assert page.get_by_role("heading", level=1).inner_text() == "用量"


SIZES = """() => [...document.querySelectorAll("main svg text")].filter((word) => word.getClientRects().length)
  .map((word) => parseFloat(getComputedStyle(word).fontSize) * word.getScreenCTM().a)"""
"""Of the words in charts, in CSS pixels."""


def test_the_words_of_charts_can_be_read_on_a_phone_as_at_a_desk(home: Lived, people: People) -> None:
    (run,) = home.house.workspace.store.runs(limit=1)
    for width in (1280, 375):
        page = people(home.house, width=width)
        for path in ("/usage", "/models/releases", f"/compare/{run.id}"):
            page.goto(f"/console{path}")
            sizes = page.evaluate(SIZES)
            assert len(sizes) > 3 and all(11 <= size <= 14 for size in sizes), (width, path, sizes)


def test_a_long_name_is_read_by_what_tells_it_apart_and_is_whole_where_one_writes(
    home: Lived, people: People
) -> None:
    page = people(home.house)
    page.goto("/console/chat")
    offered = page.locator("#chat-names option").evaluate_all("(all) => all.map((one) => one.value)")
    name = next(one for one in offered if one.startswith("ft:"))
    page.goto(f"/console/chat?model={name}&model=acme/small")
    field = page.locator(".picked input").first
    expect(field).to_have_value(brief(name))
    assert len(brief(name)) < len(name) == len(field.get_attribute("title"))
    field.focus()
    expect(field).to_have_value(name)
    field.fill("acme/large")
    page.locator("#chat-text").focus()
    expect(field).to_have_value("acme/large")
    field.fill(name)
    page.locator("#chat-text").focus()
    expect(field).to_have_value(brief(name))
    noted = "JSON.parse(sessionStorage.getItem('baimo-chat')).models"
    page.wait_for_function(f"{noted}[0].startsWith('ft:')")
    assert page.evaluate(noted) == [name, "acme/small"]


def test_every_page_works_without_scripts(home: Lived, people: People) -> None:
    page = people(home.house, java_script_enabled=False)
    page.goto("/console/keys/new")
    page.get_by_label("Label").fill("plain")
    page.get_by_role("button", name="Create").click()
    assert page.locator("pre code").first.inner_text().startswith("bm-")
    page.goto("/console/chat")
    assert page.locator("main").inner_text()
