"""YAML documents as JSON-ready data that remembers on which line each item of a list begins."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple, cast

from baimo.errors import TaskError
from baimo.evals.tasks.formats.rows import content

MOST_NODES = 5_000_000
"""Bounds what aliases may expand to: a page of YAML can otherwise stand for more data than the memory holds."""

_HALF = re.compile("[\ud800-\udfff]")
_PASSED_THROUGH = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What PyYAML's constructors of numbers, dates and tags raise on odd scalars, and lets pass through."""


class Document(NamedTuple):
    """A YAML file."""

    value: Any
    """Its data: only what JSON knows."""
    lines: dict[str, list[int]]
    """For every top-level key that holds a list: the lines on which its items begin. "" = the document itself."""


def read_yaml(path: Path) -> Document:
    """Read one YAML document without running anything that it names.

    Raises:
        TaskError: no YAML, something that JSON cannot hold, or aliases that expand without bound.
    """
    import yaml

    text = content(path)
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        value: Any = None if node is None else cast("Any", loader.construct_document(node))
        return Document(_plain(value, [MOST_NODES]), _item_lines(node))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise TaskError(
            "tasks.bad_yaml", path=path, line=line, problem=error.problem or error.context
        ) from error
    # PyYAML lets what its number, date and tag constructors raise pass through
    except (
        yaml.YAMLError,
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise TaskError("tasks.bad_yaml", path=path, line=1, problem=error) from error


def _plain(value: Any, left: list[int]) -> Any:
    left[0] -= 1
    if left[0] < 0:
        raise ValueError("the aliases expand to too much data")
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return _paired(value)
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {
            _paired(str(key)): _plain(item, left) for key, item in cast("Mapping[Any, Any]", value).items()
        }
    if isinstance(value, (list, tuple)):
        return [_plain(item, left) for item in cast("list[Any]", value)]
    raise ValueError(f"{value!r:.60} has no JSON form")


def _paired(words: str) -> str:
    """Text in which the halves of an emoji that is escaped as in JSON are one letter; a lone half is an error."""
    return words.encode("utf-16", "surrogatepass").decode("utf-16") if _HALF.search(words) else words


def _item_lines(node: Any) -> dict[str, list[int]]:
    def starts(items: Any) -> list[int]:
        return [item.start_mark.line + 1 for item in items.value]

    if node is None or node.id == "scalar":
        return {}
    if node.id == "sequence":
        return {"": starts(node)}
    return {str(key.value): starts(item) for key, item in node.value if item.id == "sequence"}
