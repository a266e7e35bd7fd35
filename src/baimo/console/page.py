"""What a page of the console is: an entry of the menu, what the API must allow for it, and its views."""

from __future__ import annotations

from dataclasses import dataclass, field

from starlette.routing import BaseRoute, Route

from baimo.console.door import View, inside
from baimo.console.visit import Visit


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One entry of the menu."""

    name: str
    """Of its message `console.page_<name>`, and of the menu's entry that is marked."""
    path: str
    """Below /console."""
    needs: tuple[str, ...] = ()
    """Operations of the API without which there is nothing to see."""
    views: tuple[tuple[str, str, View], ...] = field(default=())
    """(method, path below /console, view), its own first."""

    def routes(self) -> list[BaseRoute]:
        """Of all its views; who may not see the page is told so by the API."""
        return [Route(path, inside(view), methods=[method]) for method, path, view in self.views]

    def open_to(self, visit: Visit) -> bool:
        """Whether it is in this visitor's menu."""
        return visit.may(*self.needs)
