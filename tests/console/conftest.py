"""A real browser for the console's tests, and what nobody may meet in it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from baimo.core.tenant import OWNER
from tests.console.browser import Browser
from tests.server.served import Served
from tests.waiting import PATIENCE_S

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)
TOLD = """document.addEventListener("securitypolicyviolation",
  (event) => console.error(`content security policy: ${event.violatedDirective} ${event.blockedURI}`));"""
"""In every page: what its policy refused is an error, whether or not anybody notices."""


@pytest.fixture(scope="session")
def chrome() -> Iterator[tuple[Any, asyncio.AbstractEventLoop]]:
    """The machine's own browser, one for each process of the tests, and the loop that talks to it.

    Between two calls of Playwright that loop counts as running in this thread, and asyncio.run in any later test would
    refuse: so it is taken away whenever no test uses the browser.
    """
    program = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no browser found: apt-get install chromium (looked for {', '.join(PROGRAMS)})")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=list(FLAGS))
        loop = asyncio.get_running_loop()
        asyncio._set_running_loop(None)
        yield browser, loop
        asyncio._set_running_loop(loop)
        browser.close()


class People:
    """Opens pages for people, and notes what none of them may meet."""

    def __init__(self, chrome: Any) -> None:
        self._chrome = chrome
        self._contexts: list[Any] = []
        self.complaints: list[str] = []
        """Requests to elsewhere, errors of scripts, refusals by the policy."""

    def __call__(
        self,
        house: Served,
        role: str = "admin",
        *,
        tenant: str = OWNER,
        key: str | None = None,
        language: str = "en",
        theme: str = "light",
        width: int = 1280,
        height: int = 900,
        expected: tuple[str, ...] = (),
        **options: Any,
    ) -> Any:
        """A Playwright page of somebody with a browser of their own; addresses are relative to the house.

        Args:
            house: where.
            role: of a new key; empty = somebody who has not signed in.
            tenant: whose key.
            key: an existing credential instead of a new key.
            language: en or zh.
            theme: light or dark.
            width, height: of the window, in CSS pixels.
            expected: parts of console errors that the test brings about, as the status of a refusal.
            options: of Playwright's new_context.
        """
        origin = f"http://127.0.0.1:{house.port}"
        context = self._chrome.new_context(
            base_url=origin,
            locale="zh-CN" if language == "zh" else "en-GB",
            timezone_id="Asia/Shanghai",
            color_scheme=theme,
            viewport={"width": width, "height": height},
            reduced_motion="reduce",
            **options,
        )
        self._contexts.append(context)
        context.set_default_timeout(PATIENCE_S * 1000)
        context.add_init_script(TOLD)
        self._watched(context, origin, expected)
        cookies = {"baimo_lang": language, "baimo_theme": theme}
        if role or key:
            browser = Browser(house, language)
            assert browser.sign_in(key or house.key(role=role, tenant=tenant, label=role)).status == 200
            cookies |= browser.cookies
        context.add_cookies(
            [
                {"name": name, "value": value, "domain": "127.0.0.1", "path": "/console"}
                for name, value in cookies.items()
            ]
        )
        return context.new_page()

    def _watched(self, context: Any, origin: str, expected: tuple[str, ...]) -> None:
        def asked(request: Any) -> None:
            if not request.url.startswith((f"{origin}/", "data:", "blob:", "about:")):
                self.complaints.append(f"asked elsewhere: {request.url}")

        def said(message: Any) -> None:
            if message.type == "error" and not any(part in message.text for part in expected):
                self.complaints.append(f"{message.text} ({message.location.get('url')})")

        context.on("request", asked)
        context.on("console", said)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))

    def close(self) -> None:
        for context in self._contexts:
            context.close()


@pytest.fixture
def people(chrome: tuple[Any, asyncio.AbstractEventLoop]) -> Iterator[People]:
    """`people(house, "viewer")` is a page of somebody who has signed in; see `People`."""
    browser, loop = chrome
    asyncio._set_running_loop(loop)
    made = People(browser)
    try:
        yield made
        assert made.complaints == []
    finally:
        made.close()
        asyncio._set_running_loop(None)
