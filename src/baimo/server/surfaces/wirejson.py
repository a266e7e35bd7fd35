"""JSON bodies as clients send them: read as far as is needed, changed as little as possible.

Prevents three failures: a model's name that is replaced inside a prompt instead of at the top; a member that is given
twice or in another case ("MODEL") and that the gateway reads one way and a model's server another; a body that is
rebuilt with a digit of a number lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from baimo.errors import CallRefused

T = TypeVar("T")
Members = dict[str, Any]
"""The top-level members of a body; values that nobody touched keep their bytes (`msgspec.Raw`)."""

_members: Callable[[bytes], Members] = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
written: Callable[[Any], bytes] = msgspec.json.Encoder().encode
"""A value as JSON; `msgspec.Raw` in it as it came."""
NOTHING = msgspec.Raw(b"null")
"""Default of a member that is kept raw; `Raw | None` would take nothing but null."""

_PLACE = re.compile(r"(?P<problem>.*?)(?: - at `(?P<key>key in )?\$\.?(?P<field>[^`]*)`)?", re.DOTALL)
_KINDS = re.compile(r"Expected `(?P<expected>[^`]*)`, got `(?P<got>[^`]*)`")
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]*)`")
_WORDS = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}


def opened(body: bytes, known: frozenset[str]) -> Members:
    """The top-level members of a body that was read before, to be changed and `written`.

    Of a member given twice the last one counts, as it did when the body was read. A member whose name differs from one
    of `known` in case only is left out: servers written in Go match names without regard to case.
    """
    members = _members(body)
    if not known.issuperset(members):
        for name in members.keys() - known:
            if name.casefold() in known:
                del members[name]
    return members


def says(member: msgspec.Raw) -> bool:
    """Whether a raw member is there and not null."""
    return member is not NOTHING and bytes(member) != b"null"


def read(decode: Callable[[bytes], T], body: bytes) -> T:
    """`body`, decoded.

    Args:
        decode: of a `msgspec.json.Decoder`.
        body: what the client sent.

    Raises:
        CallRefused: no JSON, or a member of the wrong type; says where.
    """
    try:
        return decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise refused(error) from None


def refused(error: Exception) -> CallRefused:
    """What `msgspec` finds wrong with a body, in terms of its fields."""
    found = _PLACE.fullmatch(str(error))
    if not isinstance(error, msgspec.ValidationError) or found is None:
        return CallRefused("surfaces.not_json", problem=str(error))
    problem, field = found["problem"], found["field"] or ""
    if missing := _MISSING.fullmatch(problem):
        return CallRefused("surfaces.missing", field=f"{field}.{missing['name']}".lstrip("."))
    if kinds := _KINDS.fullmatch(problem):
        expected = " | ".join(_WORDS.get(word, word) for word in kinds["expected"].split(" | "))
        got = _WORDS.get(kinds["got"], kinds["got"])
        if not field:
            return CallRefused("surfaces.no_object", got=got)
        return CallRefused("surfaces.wrong_type", field=field, expected=expected, got=got)
    return CallRefused("surfaces.wrong_value", field=field, problem=problem)
