"""From the bytes of a request to the dataclass that an operation takes; what does not fit is named by field.

Prevents the failure where a misspelt field is ignored in silence and the answer looks as if it had been heeded.
"""

from __future__ import annotations

import difflib
import functools
import math
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, cast

import msgspec

from baimo.config import misfit
from baimo.errors import NotFound, UsageError
from baimo.typed import converted

LONGEST_BODY = 1024 * 1024
"""Bytes."""


def taken(
    kind: type[Any], path: Mapping[str, str], query: Sequence[tuple[str, str]], body: bytes | None
) -> Any:
    """What is asked, checked.

    Args:
        kind: the operation's dataclass.
        path: values of the path's braces.
        query: names and values of the query string, in their order.
        body: JSON object; None = the fields come from the query.

    Raises:
        UsageError: a field is unknown, missing, or cannot hold its value; `field` is its JSON pointer.
        NotFound: nothing can be at this path.
    """
    if body is None:
        given = _asked(kind, query)
    elif query:
        raise UsageError("admin.no_query", field=f"/{query[0][0]}")
    else:
        given = _decoded(body)
    known = [field.name for field in fields(kind) if field.name not in path]
    for name in given:
        if name not in known:
            near = ", ".join(difflib.get_close_matches(name, known, n=3) or known)
            raise UsageError(
                "admin.unknown_field" if near else "admin.no_fields", field=f"/{name}", near=near
            )
    for name, value in path.items():
        if "\0" in value:
            raise NotFound("admin.nothing_here", field=f"/{name}")
    return _converted(kind, {**given, **path}, strict=body is not None)


@functools.cache
def hints(kind: type[Any]) -> dict[str, Any]:
    """Field → type of a dataclass, with annotations resolved."""
    return typing.get_type_hints(kind, include_extras=True)


def needed(kind: type[Any]) -> list[str]:
    """Fields without a default."""
    return [
        field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING
    ]


def several(hint: Any) -> bool:
    """Whether a field takes several values, so that its name may be repeated in a query."""
    return typing.get_origin(hint) is tuple


def _asked(kind: type[Any], query: Sequence[tuple[str, str]]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, value in query:
        hint = hints(kind).get(name)
        if value == "null" and hint is not None and str not in (hint, *typing.get_args(hint)):
            raise UsageError("admin.bad_text", field=f"/{name}")  # leave it out instead
        if several(hint):
            given.setdefault(name, []).append(value)
        elif name in given:
            raise UsageError("admin.twice", field=f"/{name}")
        else:
            given[name] = value
    return given


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        found: Any = msgspec.json.decode(body or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UsageError("admin.no_json", field="") from None
    if not isinstance(found, dict):
        raise UsageError("admin.no_object", field="")
    return cast("dict[str, Any]", found)


def _converted(kind: type[Any], given: dict[str, Any], *, strict: bool) -> Any:
    _sound(given, "")
    try:
        made = converted(given, kind, strict=strict)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at `$")
        missing = re.fullmatch(r"Object missing required field `([^`]+)`", problem)
        if missing:
            raise UsageError("admin.missing", field=f"/{missing[1]}") from None
        steps = [step for step in re.split(r"[.\[\]]+", where.rstrip("`")) if step]
        raise UsageError(
            "admin.bad_value",
            field="".join(f"/{step}" for step in steps),
            problem=misfit(problem, kind, steps),
        ) from None
    for field in fields(kind):
        value = getattr(made, field.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError("admin.bad_text", field=f"/{field.name}")
    return made


def _sound(value: Any, pointer: str) -> None:
    """No text holds NUL, which PostgreSQL does not take."""
    if isinstance(value, str):
        if "\0" in value:
            raise UsageError("admin.bad_text", field=pointer)
    elif isinstance(value, dict):
        for name, one in cast("dict[str, Any]", value).items():
            _sound(one, f"{pointer}/{name}")
    elif isinstance(value, list):
        for place, one in enumerate(cast("list[Any]", value)):
            _sound(one, f"{pointer}/{place}")
