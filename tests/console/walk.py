"""A walk through the console: from the first page along its links, once to every kind of page."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import Mount, Route

from baimo.console.app import console
from tests.console.browser import Browser, Shown
from tests.console.reading import Reading

NOWHERE = "/{rest:path}"
"""The last route: what no page has."""


def routes() -> Sequence[Route]:
    """Every address of the console but its style sheet, scripts and pictures."""
    mount = console()
    assert isinstance(mount, Mount)
    return [route for route in mount.routes if isinstance(route, Route) and route.path != NOWHERE]


def kind(path: str) -> str | None:
    """The route that an address leads to: `/keys/{key}`; None = nowhere."""
    for route in routes():
        if "GET" in (route.methods or ()) and route.path_regex.match(path):
            return route.path
    return None


def walked(browser: Browser, *, each: int = 2) -> dict[str, Shown]:
    """Address → what was shown there, for at most `each` addresses of a kind."""
    found: dict[str, Shown] = {}
    count: dict[str, int] = {}
    waiting = ["/console/"]
    while waiting:
        address = waiting.pop(0)
        path = address.removeprefix("/console").partition("?")[0]
        reached = kind(path)
        assert reached is not None, f"{address} leads nowhere"
        if address in found or count.get(reached, 0) >= each:
            continue
        count[reached] = count.get(reached, 0) + 1
        shown = found[address] = browser.get(address)
        if "html" in shown.headers["content-type"]:
            links = [link.partition("#")[0] for link in Reading(shown.html).links]
            here = address.partition("?")[0]
            waiting += [
                one if one.startswith("/") else here + one
                for one in links
                if one.startswith(("/console/", "?"))
            ]
    return found
