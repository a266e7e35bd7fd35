"""Foreign JSON taken by shape: an object where one is expected, a list where one is expected, nothing otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast


def as_map(value: Any) -> Mapping[str, Any]:
    """`value` if it is an object, else an empty one."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def as_items(value: Any) -> list[Any]:
    """`value` if it is a list, nothing for None, else a list of it alone."""
    return cast("list[Any]", value) if isinstance(value, list) else [] if value is None else [value]


def is_map(value: Any) -> bool:
    """Whether `value` is an object."""
    return isinstance(value, Mapping)


def is_number(value: Any) -> bool:
    """Whether `value` is a JSON number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def kind_of(value: Any) -> str:
    """The JSON name of a value's type, for messages."""
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(cast("type[Any]", type(value)), "number")
