"""The one catalogue of user-facing text, in English and Chinese.

Prevents two failures: a message that exists in one language only, and a sentence assembled in code that no
translator ever sees. `locales/<language>/<room>.toml` holds flat keys; `text("room.key", name=...)` fills them.
"""

from __future__ import annotations

import functools
import os
import tomllib
from contextvars import ContextVar

LANGUAGES = ("en", "zh")
# every command reads this file first: pathlib and importlib.resources would cost more than all the rest
_FOLDER = f"{os.path.dirname(__file__)}/locales"  # noqa: PTH120
_reader: ContextVar[str] = ContextVar("reader", default="")


def speak(locale: str) -> None:
    """From here on in this context (every task has its own) the reader's language is `locale`; empty = as before."""
    _reader.set(locale)


def language() -> str:
    """The reader's language: as `speak` said, else BAIMO_LANG, else the POSIX locale variables, else English."""
    if spoken := _reader.get():
        return spoken
    for variable in ("BAIMO_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(variable, "").lower()
        if value:
            return "zh" if value.startswith("zh") else "en"
    return "en"


@functools.cache
def room(name: str, locale: str) -> dict[str, str]:
    """All messages of one room in one language; empty when the room has no file."""
    try:
        with open(f"{_FOLDER}/{locale}/{name}.toml", "rb") as file:  # noqa: PTH123
            return tomllib.load(file)
    except FileNotFoundError:
        return {}


def has(key: str) -> bool:
    """Whether the catalogue knows this key."""
    name, _, rest = key.partition(".")
    return rest in room(name, "en")


def text(key: str, /, **facts: object) -> str:
    """The message `room.key` in the reader's language with its {placeholders} filled in.

    A key that is missing in Chinese falls back to English; one missing in both is a programming error.

    Raises:
        KeyError: no such message, or a placeholder without a fact.
    """
    name, _, rest = key.partition(".")
    message = room(name, language()).get(rest) or room(name, "en")[rest]
    return message.format_map(facts)
