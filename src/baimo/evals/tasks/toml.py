"""Writes the TOML that a task needs: text, numbers, booleans, lists, inline tables (https://toml.io/en/v1.0.0)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, cast

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def assignment(key: str, value: Any) -> str:
    """`key = value` on one line.

    Raises:
        ValueError: the value holds null, which TOML does not know.
    """
    return f"{_key(key)} = {written(value)}"


def written(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON strings are TOML basic strings, but for DEL, which TOML wants escaped
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return "{ " + ", ".join(assignment(key, item) for key, item in items) + " }" if items else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(written(item) for item in cast("list[Any]", value)) + "]"
    raise ValueError(f"{type(value).__name__} has no form in TOML")


def has_null(value: Any) -> bool:
    """Whether a value holds null somewhere, so that TOML cannot hold it."""
    if isinstance(value, Mapping):
        return any(has_null(item) for item in cast("Mapping[str, Any]", value).values())
    if isinstance(value, (list, tuple)):
        return any(has_null(item) for item in cast("list[Any]", value))
    return value is None


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else written(name)
