"""The word lists that the name and address rules stand on, read once from `data/`."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources


@cache
def words(language: str, name: str) -> frozenset[str]:
    """A list of `data/<language>.toml` whose entries are parted by white space."""
    return frozenset(_lists(language)[name].split())


@cache
def characters(language: str, name: str) -> frozenset[str]:
    """A list of `data/<language>.toml` of single characters."""
    return frozenset(_lists(language)[name]) - {"\n", " "}


@cache
def either(language: str, name: str) -> str:
    """The same list as alternatives of a regular expression, the longest first."""
    return "|".join(sorted(words(language, name), key=lambda word: (-len(word), word)))


@cache
def _lists(language: str) -> dict[str, str]:
    return tomllib.loads((resources.files("baimo.pii") / "data" / f"{language}.toml").read_text("utf-8"))
