"""A page as its reader has it: what is written on it, what it links to, what it sends."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import NamedTuple

SPOKEN = ("aria-label", "title", "placeholder", "alt", "data-confirm", "data-cancel", "data-copy-word")
"""Attributes that people hear or read."""
VOID = {"meta", "link", "input", "img", "br", "hr", "source"}
CODE = {"code", "pre", "script", "style", "datalist", "textarea"}


class Words(NamedTuple):
    """A piece of text."""

    text: str
    place: str
    """Elements around it, innermost last."""
    code: bool
    """It is typed or returned as it is, in every language."""
    language: str
    """As the nearest element says."""


class Reading(HTMLParser):
    """What is on a page."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.words: list[Words] = []
        self.links: list[str] = []
        self._open: list[tuple[str, str]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._open.append((tag, given.get("lang", self.language)))
        for name, value in given.items():
            if name in SPOKEN or (name.startswith("data-") and " " in value):
                self._said(value, f"@{name}")
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in VOID:
            self._open.pop()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Parts of a drawing."""
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        self._said(data, "")

    @property
    def language(self) -> str:
        return self._open[-1][1] if self._open else ""

    @property
    def text(self) -> str:
        return "\n".join(one.text for one in self.words)

    def _said(self, data: str, where: str) -> None:
        text = re.sub(r"\s+", " ", data).strip()
        tags = [tag for tag, _ in self._open]
        if text and not {"script", "style"} & set(tags):
            code = bool(CODE & set(tags)) and not where
            self.words.append(Words(text, "/".join(tags[2:]) + where, code, self.language))
