"""Whether every value of a source is accounted for, judged from the outside: the document, the result, nothing else."""

from __future__ import annotations

import json
import random
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from baimo.config import settings
from baimo.gateway.routing import Router
from baimo.gateway.strategies import Latencies, Signals
from baimo.models.catalogue import Catalogue
from baimo.workspace.importing.carried import Carried

CANARY = "sk-canary-71b0c0de-never-shown"
"""Stands where keys are; no output may hold it."""


class Everything(defaultdict[str, str]):
    """An environment in which every variable is set."""

    def __init__(self) -> None:
        super().__init__(lambda: "http://127.0.0.1:1/v1")

    def get(self, key: str, default: Any = None) -> Any:
        return default

    def __contains__(self, key: object) -> bool:
        return True


def steps(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every value that says something, with its place."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from steps(value, (*path, name))
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from steps(value, (*path, number))
    elif tree is not None:
        yield path, tree


def spelled(path: tuple[Any, ...]) -> list[str]:
    """The place and all places around it, as reports write them."""
    from baimo.workspace.importing.carried import shown

    return [shown(path[:depth]) for depth in range(1, len(path) + 1)]


def check(source: dict[str, Any], carried: Carried, folder: Path) -> None:
    """Raise unless nothing was dropped, the result is valid, and no key is in it."""
    noted = {note.path for note in carried.notes}
    places = dict(carried.places)
    made = tomllib.loads(carried.settings)
    for path, value in steps(source):
        around = spelled(path)
        assert around[-1] in places or noted & set(around), f"dropped in silence: {around[-1]} = {value!r}"
        if around[-1] in places and not noted & set(around) and not POSITIONS.intersection(path):
            assert reflected(value, made), (
                f"said to be at {places[around[-1]]}, and is not: {around[-1]} = {value!r}"
            )
    for place in places.values():
        assert exists(place, made), f"no such setting: {place}"
    (folder / "baimo.toml").write_text(carried.settings, encoding="utf-8")
    valid = settings(folder, environment=Everything())
    Router(valid, Catalogue.load(valid), Signals(Latencies(lambda: 0.0), {}, "USD"), chance=random.Random(1))
    assert CANARY not in json.dumps(carried.report(), ensure_ascii=False)


def exists(place: str, tree: Any) -> bool:
    """Whether a dotted name leads to something."""
    steps_of = list(tomllib.loads(f"{place} = 1").items())
    while isinstance(tree, dict) and steps_of:
        name, rest = steps_of[0]
        if name not in tree:
            return False
        tree, steps_of = tree[name], list(rest.items()) if isinstance(rest, dict) else []
    return not steps_of


POSITIONS = {"order", "base_model", "pointer", "routing"}
"""What becomes a place in a list, or prices and no name; tests of their own look at that."""
WORDS = {
    **dict.fromkeys(("simple-shuffle", "usage-based-routing", "least-busy"), "weighted"),
    "aws_bedrock": "bedrock",
    "google_ai_studio_gemini": "gemini",
    "latency-based-routing": "latency",
    "cost-based-routing": "cheapest",
}
"""Words that have another name here."""


def reflected(value: Any, made: Any) -> bool:
    """Whether a value, or what it comes to in our units, is somewhere in the settings."""
    texts = {
        word for _, one in steps(made) if isinstance(one, str) for word in (one, one.replace("$${", "${"))
    }
    texts |= {str(step) for path, _ in steps(made) for step in path}
    if isinstance(value, bool):
        return True  # on, off, a level: no figure to look for
    if isinstance(value, (int, float)):
        return (
            figures(float(value)) & {round(one, 9) for _, one in steps(made) if type(one) in (int, float)}
            != set()
        )
    value = value.strip()
    if value.replace(".", "").replace("e-", "").isdigit():
        return reflected(float(value), made)
    word = WORDS.get(value, value).removeprefix("os.environ/").rpartition("::")[2].rstrip("/")
    word = word.removesuffix("/v1/messages").removesuffix("/v1").removesuffix("/chat/completions")
    tail = word.partition("/")[2] or word
    days = word.removesuffix("d")
    return (
        any(tail in one or word in one for one in texts)
        or (days.isdigit() and reflected(int(days), made))
        or (":" in word and reflected(float(word.rpartition(":")[2]), made))
    )


def figures(value: float) -> set[float]:
    """What a number may come to: the same, per million, seconds, one failure more, at most ten, a share of two."""
    return {
        round(one, 9)
        for one in (value, value * 1e6, value / 1000, value + 1, min(value, 10.0), 2.5 + value, 0.5)
    }
