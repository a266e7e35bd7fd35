"""A browser without a screen: keeps cookies, follows redirects, sends forms with an Origin."""

from __future__ import annotations

import http.client
from http.cookies import SimpleCookie
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

from tests.server.served import Served
from tests.waiting import PATIENCE_S


class Shown(NamedTuple):
    """A page."""

    status: int
    path: str
    """Where it was found in the end."""
    headers: dict[str, str]
    html: str


class Browser:
    """One person's."""

    def __init__(self, house: Served, language: str = "en") -> None:
        self._house = house
        self.language = language
        self.cookies: dict[str, str] = {}
        self.flags: dict[str, str] = {}
        """Cookie → how it was set."""

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._house.port}"

    def get(self, path: str, *, follow: bool = True) -> Shown:
        return self._asked("GET", path, None, follow, "")

    def post(self, path: str, *, follow: bool = True, origin: str | None = None, **fields: str) -> Shown:
        """Send a form; `origin` is where its page came from, None = here, empty = it does not say."""
        return self._asked("POST", path, fields, follow, self.origin if origin is None else origin)

    def sign_in(self, credential: str) -> Shown:
        return self.post("/console/sign-in", key=credential, next="/")

    def _asked(
        self, method: str, path: str, fields: dict[str, str] | None, follow: bool, origin: str
    ) -> Shown:
        headers = {"accept-language": self.language}
        if self.cookies:
            headers["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        body = None
        if fields is not None:
            body = urlencode(fields)
            headers["content-type"] = "application/x-www-form-urlencoded"
        if origin:
            headers["origin"] = origin
        connection = http.client.HTTPConnection("127.0.0.1", self._house.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            html = answer.read().decode()
        finally:
            connection.close()
        for line in answer.headers.get_all("set-cookie") or ():
            for name, morsel in SimpleCookie(line).items():
                self.flags[name] = line
                if morsel.value and morsel["max-age"] != "0":
                    self.cookies[name] = morsel.value
                else:
                    self.cookies.pop(name, None)
        there = answer.getheader("location", "")
        if follow and answer.status == 303:
            assert not urlsplit(there).netloc  # nobody is sent elsewhere
            return self._asked("GET", there, None, follow, "")
        return Shown(answer.status, path, {n.lower(): v for n, v in answer.getheaders()}, html)
