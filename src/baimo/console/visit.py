"""One request of one person: who it is, what they may, in which language, and how an answer is drawn."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import parse_qsl

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from baimo.console import figures
from baimo.console.api import Api, Refused
from baimo.core.rights import OWNER_NAME
from baimo.text import language, text

NAMES = {"en": "English", "zh": "中文"}
"""Languages as their speakers call them."""
THEMES = ("auto", "light", "dark")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of every page: nothing from elsewhere, nothing inline."""
STANDING = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}


class Visit:
    """Belongs to one request."""

    def __init__(self, request: Request, api: Api, me: Mapping[str, Any]) -> None:
        """
        Args:
            request: the browser's.
            api: with the visitor's rights.
            me: GET /api/me; empty = nobody has signed in.
        """
        self.request = request
        self.api = api
        self.me = me

    @property
    def theme(self) -> str:
        """auto, light or dark."""
        wish = self.request.cookies.get("baimo_theme", "auto")
        return wish if wish in THEMES else "auto"

    def may(self, *operations: str) -> bool:
        """Whether the visitor may use all of these operations of the API."""
        return bool(self.me) and set(operations) <= set(self.me["may"])

    def must(self, *operations: str) -> None:
        """For forms, which ask the API only when they are sent.

        Raises:
            Refused: the visitor may not use one of these operations.
        """
        if not self.may(*operations):
            raise Refused(403, {"message": words("not_for_role"), "hint": words("not_for_role_what")})

    @property
    def role(self) -> str:
        """Of the key that signed in."""
        return str(self.me["key"]["role"]) if self.me else ""

    @property
    def owner(self) -> bool:
        """Whether the visitor sees every tenant."""
        return bool(self.me) and self.me["tenant"]["id"] == OWNER_NAME

    def asked(self, filters: Collection[str], sorts: Collection[str]) -> dict[str, str]:
        """What the page's address says of these filters, and the order if it is one of `sorts`."""
        given = self.request.query_params
        found = {name: given[name] for name in filters if given.get(name)}
        return found | ({"sort": given["sort"]} if given.get("sort", "").removeprefix("-") in sorts else {})

    async def form(self) -> dict[str, str]:
        """The fields of a sent form, without spaces around them."""
        sent = (await self.request.body()).decode("utf-8", "replace")
        return {name: value.strip() for name, value in parse_qsl(sent, keep_blank_values=True)}

    def shown(self, template: str, status: int = 200, /, **facts: Any) -> Response:
        """A page."""
        body = environment().get_template(template).render(visit=self, lang=language(), **facts)
        return Response(body, status, STANDING, media_type="text/html")

    def gone_to(self, path: str) -> Response:
        """Look there now; a form that was sent is not sent again by a reload."""
        return RedirectResponse(f"/console{path}", 303, STANDING)


@functools.cache
def environment() -> Environment:
    """Templates: everything from outside is escaped."""
    made = Environment(
        loader=PackageLoader("baimo.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(t=words, languages=NAMES, themes=THEMES)  # pyright: ignore[reportArgumentType]
    made.filters.update(figures.FILTERS)
    return made


def words(key: str, /, **facts: object) -> str:
    """A message of this room; with a full key, one of a file of its own."""
    return text(key if "." in key else f"console.{key}", **facts)
