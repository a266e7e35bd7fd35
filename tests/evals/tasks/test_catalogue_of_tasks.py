"""Messages of the room: the same in both languages, every one used, and every one that is used is there."""

from __future__ import annotations

import re
import string
from pathlib import Path

import baimo
from baimo.text import LANGUAGES, room

PACKAGE = Path(baimo.__file__).parent


def _placeholders(message: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(message) if name}


def test_both_languages_have_the_same_messages_with_the_same_facts() -> None:
    english, chinese = (room("tasks", language) for language in LANGUAGES)
    assert english.keys() == chinese.keys()
    assert [key for key in english if _placeholders(english[key]) != _placeholders(chinese[key])] == []


def test_every_message_is_used_and_every_used_message_exists() -> None:
    everywhere, source = (
        "\n".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.py"))
        for folder in (PACKAGE, PACKAGE / "evals" / "tasks")
    )
    used = set(re.findall(r'"tasks\.(?!html")(\w+)"', everywhere)) | set(
        re.findall(r'"((?:left|assumed)_\w+)"', source)
    )
    used |= {f"check_{kind}" for kind in re.findall(r'Finding\(\s*kind="(\w+)"', source)}
    used |= {f"check_{kind}" for kind in re.findall(r'_finding\(\s*"(\w+)"', source)}
    used |= {f"check_{kind}" for kind in re.findall(r'Leak\(\s*"(\w+)"', source)}
    known = {key for key in room("tasks", "en") if not key.endswith("_hint")}
    assert (used - known - {"assumed_"}, known - used) == (set(), set())
    hints = {key.removesuffix("_hint") for key in room("tasks", "en") if key.endswith("_hint")}
    assert hints <= known
