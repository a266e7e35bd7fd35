"""The form of a comparison, made from the dataclass that the command line is made from."""

from __future__ import annotations

import functools
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl

from baimo.evals.options import CompareOptions
from baimo.text import text

FIRST = ("decision", "epsilon", "delta", "assurance", "max_cost", "max_calls", "max_minutes")
"""Fields that are shown at once; the rest is folded away."""
ELSEWHERE = frozenset({"task", "model", "resume", "forecast", "require"})
"""Fields with a place of their own, or for the command line."""
PATTERNS = "patterns"
"""Name of the box for models that the catalogue does not list, or lists too many of."""


class Field(NamedTuple):
    """One field."""

    name: str
    kind: Literal["choice", "truth", "number", "lines"]
    whole: bool
    """Of a number: whether it has no fraction."""
    choices: tuple[str, ...]
    """Of a choice; empty text = as configured."""
    default: str
    first: bool
    """Whether it is shown at once."""

    @property
    def hint(self) -> str:
        """What the command line says of it."""
        return text(f"options.compare_{self.name}")


@functools.cache
def form_fields() -> tuple[Field, ...]:
    """The fields, those that are shown at once in the order of `FIRST`."""
    hints = typing.get_type_hints(CompareOptions)
    found = {
        one.name: _field(one.name, hints[one.name], one.default)
        for one in fields(CompareOptions)
        if one.name not in ELSEWHERE
    }
    return tuple(found[name] for name in (*FIRST, *(name for name in found if name not in FIRST)))


def _field(name: str, hint: Any, default: Any) -> Field:
    kinds = [one for one in typing.get_args(hint) or (hint,) if one is not type(None)]
    optional = len(kinds) < len(typing.get_args(hint))
    shown, first = "" if default is None else str(default), name in FIRST
    literal = hint if typing.get_origin(hint) is Literal else kinds[0]
    if typing.get_origin(literal) is Literal:
        choices = (*(("",) if optional else ()), *typing.get_args(literal))
        return Field(name, "choice", False, choices, shown, first)
    if typing.get_origin(hint) is tuple:
        return Field(name, "lines", False, (), "", first)
    if hint is bool:
        return Field(name, "truth", False, (), "", first)
    return Field(name, "number", kinds[0] is int, (), shown, first)


Form = Mapping[str, Sequence[str]]
"""Name → everything that was sent under it."""


def sent(body: bytes) -> dict[str, list[str]]:
    """A form as it was sent, with names that occur more than once."""
    found: dict[str, list[str]] = {}
    for name, value in parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True):
        found.setdefault(name, []).append(value.strip())
    return found


def asked(form: Form) -> dict[str, Any]:
    """What a form asks for, as the API takes it; what is left empty is left to the settings.

    A number that is none is passed on, so that the API says what is wrong with it.
    """
    found: dict[str, Any] = {"task": "".join(form.get("task", ())[:1])}
    models = [*form.get("model", ()), *_lines(form, PATTERNS)]
    if models:
        found["model"] = list(dict.fromkeys(models))
    for field in form_fields():
        value = "".join(form.get(field.name, ())[:1])
        if field.kind == "lines":
            if lines := _lines(form, field.name):
                found[field.name] = lines
        elif field.kind == "truth":
            if value:
                found[field.name] = True
        elif value:
            found[field.name] = _number(value, whole=field.whole) if field.kind == "number" else value
    return found


def filled(options: Mapping[str, Any], listed: Sequence[str]) -> dict[str, list[str]]:
    """The form that asks for these options.

    Args:
        options: of an earlier comparison.
        listed: models with a box of their own.
    """
    form: dict[str, list[str]] = {}
    for name, value in options.items():
        if isinstance(value, (list, tuple)):
            form[name] = [str(one) for one in typing.cast("Sequence[Any]", value)]
        elif value is not None and value is not False:
            form[name] = ["on" if value is True else str(value)]
    named = form.pop("model", [])
    form["model"] = [one for one in named if one in listed]
    form[PATTERNS] = ["\n".join(one for one in named if one not in listed)]
    for field in form_fields():
        if field.kind == "lines" and field.name in form:
            form[field.name] = ["\n".join(form[field.name])]
    return form


def _lines(form: Form, name: str) -> list[str]:
    return [line.strip() for value in form.get(name, ()) for line in value.splitlines() if line.strip()]


def _number(value: str, *, whole: bool) -> Any:
    try:
        return int(value) if whole else float(value)
    except ValueError:
        return value
