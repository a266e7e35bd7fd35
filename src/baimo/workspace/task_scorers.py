"""The house's scorers and their options, as a form shows them: read from the classes, never listed a second time.

Prevents two failures: an option that a form forgets, and a client of the endpoint who has code run on this machine by
naming a file (scorers that run code are written by hand, at the machine).
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from baimo.core.ids import plain
from baimo.core.registry import resolve
from baimo.evals.scorers.base import GIVEN
from baimo.evals.scorers.registry import SCORERS

Kind = Literal["flag", "choice", "text", "whole", "number", "texts", "json"]
"""How an option is written: yes or no, one of several, a text, a number, texts one a line, JSON."""
BY_HAND = frozenset({"asserts", "code", "grader", "python"})
"""Scorers that run code, or what the examples bring along: only at the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerOption:
    """One argument of a scorer."""

    name: str
    kind: Kind
    choices: list[str]
    """Of a choice."""
    default: Any
    """null where there is none, or where it is null."""
    needed: bool
    """Whether there is no default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerKind:
    """A scorer that a task can name."""

    name: str
    by_hand: bool
    """Only whoever has the machine may write it into a task."""
    asks: bool
    """A model judges, which costs money."""
    options: list[ScorerOption]


@functools.cache
def scorer_kinds() -> Mapping[str, ScorerKind]:
    """Every scorer by its name."""
    return {name: _kind(name) for name in SCORERS}


def _kind(name: str) -> ScorerKind:
    made = resolve(SCORERS[name])
    hints = typing.get_type_hints(made)
    fields = [one for one in dataclasses.fields(made) if one.init and one.name not in GIVEN]
    return ScorerKind(
        name=name,
        by_hand=name in BY_HAND,
        asks=name in ("judge", "pairwise"),
        options=[_option(one, hints[one.name]) for one in fields],
    )


def _option(field: dataclasses.Field[Any], hint: Any) -> ScorerOption:
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    needed = default is dataclasses.MISSING
    kind = _how(hint)
    return ScorerOption(
        name=field.name,
        kind=kind,
        choices=[str(one) for one in typing.get_args(hint)] if kind == "choice" else [],
        default=None if needed else plain(default),
        needed=needed,
    )


def _how(hint: Any) -> Kind:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        left = [one for one in args if one is not type(None)]
        return _how(left[0]) if len(left) == 1 else "json"
    if origin is Literal:
        return "choice"
    if origin is tuple and args == (str, ...):
        return "texts"
    known: Mapping[Any, Kind] = {bool: "flag", int: "whole", float: "number", str: "text"}
    return known.get(hint, "json")
