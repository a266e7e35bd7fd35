"""Examples that somebody looks for, and what of them is shown to people."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from baimo.core.task import Example
from baimo.evals.tasks.check import script_of
from baimo.evals.tasks.formats.messages import text_of
from baimo.workspace.task_keeping import Placed

LANGUAGE_NAMES = ("language", "lang", "locale")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which examples."""

    text: str = ""
    """Occurs in what is asked, what is expected, or the id; case does not matter."""
    split: str = ""
    expected: str = ""
    """Exactly this reference."""
    label: str = ""
    """`name=value` of a label, or a name alone for whoever has it."""
    language: str = ""
    """Label of that name, else the script of the text."""
    sort: str = ""
    """input, expected, id or language; `-` before it turns it round; empty = as in the files."""


def question_of(example: Example) -> str:
    """What is asked, as text for people."""
    if example.messages:
        asked = [one for one in example.messages if one.role == "user"] or list(example.messages)
        return text_of(asked[-1])
    value = example.fields.get("input", next(iter(example.fields.values()), ""))
    return value if isinstance(value, str) else _json(value)


def expected_of(example: Example) -> str:
    """What is expected, as text for people; empty = nothing."""
    target = example.target
    return "" if target is None else target if isinstance(target, str) else _json(target)


def language_of(example: Example) -> str:
    """As its label says, else the script of what is asked."""
    said = next((example.metadata[name] for name in LANGUAGE_NAMES if example.metadata.get(name)), None)
    return script_of(question_of(example)) if said is None else str(said)


def searched(examples: Sequence[Placed], wanted: Filter) -> list[Placed]:
    """The examples that a filter lets through, in its order."""
    words = wanted.text.casefold()
    name, equals, value = wanted.label.partition("=")

    def fits(one: Placed) -> bool:
        example = one.example
        has = example.metadata.get(name)
        return (
            (not wanted.split or one.split == wanted.split)
            and (not wanted.expected or expected_of(example) == wanted.expected)
            and (not name or (str(has) == value if equals else has is not None))
            and (not wanted.language or language_of(example) == wanted.language)
            and (not words or words in _words(example))
        )

    found = [one for one in examples if fits(one)]
    keys: dict[str, Callable[[Placed], str]] = {
        "input": lambda one: question_of(one.example).casefold(),
        "expected": lambda one: expected_of(one.example).casefold(),
        "id": lambda one: one.example.id,
        "language": lambda one: language_of(one.example),
    }
    by = wanted.sort.removeprefix("-")
    if by:
        found.sort(key=keys[by], reverse=wanted.sort.startswith("-"))
    return found


def _words(example: Example) -> str:
    fields = " ".join(str(value) for value in example.fields.values())
    turns = " ".join(text_of(message) for message in example.messages)
    return f"{example.id} {fields} {turns} {expected_of(example)}".casefold()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
