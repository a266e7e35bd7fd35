"""From the dataclass of a Workspace method to command-line options: one definition per operation.

Help texts are `options.<verb>_<field>` in the message catalogue.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from typing import Any, Literal

import click

from baimo.cli.command import Number, OneOf, with_default
from baimo.text import text

_Command = Callable[..., Any]


def options_of(kind: type[Any], verb: str) -> Callable[[_Command], _Command]:
    """A decorator that gives a command one option per field of `kind`; a field without default is an argument."""
    hints = typing.get_type_hints(kind)

    def decorated(command: _Command) -> _Command:
        for field in reversed(dataclasses.fields(kind)):
            command = _parameter(field, hints[field.name], verb)(command)
        return command

    return decorated


def _parameter(field: dataclasses.Field[Any], hint: Any, verb: str) -> Callable[[_Command], _Command]:
    if field.default is dataclasses.MISSING:
        metavar = field.metadata.get("metavar", field.name.upper())
        if field.metadata.get("required"):
            return click.argument(field.name, metavar=metavar)
        return click.argument(field.name, metavar=metavar, required=False, default="")
    flag = f"--{field.name.replace('_', '-')}"
    words = text(f"options.{verb}_{field.name}")
    if hint is bool:
        return click.option(flag, is_flag=True, default=field.default, help=words)
    kind, several = _unwrapped(hint)
    if field.default not in (None, ()):
        words = with_default(words, field.default)
    return click.option(flag, type=kind, default=field.default, multiple=several, help=words)


def _unwrapped(hint: Any) -> tuple[Any, bool]:
    """The click type behind an annotation, and whether it may be given several times."""
    origin = typing.get_origin(hint)
    if origin is tuple:
        return _unwrapped(typing.get_args(hint)[0])[0], True
    if origin in (typing.Union, types.UnionType):
        return _unwrapped(next(one for one in typing.get_args(hint) if one is not type(None)))
    if origin is Literal:
        return OneOf([str(one) for one in typing.get_args(hint)]), False
    return Number(hint) if hint in (int, float) else hint, False
