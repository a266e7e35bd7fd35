"""`{{ item.name }}` and `{{ sample.output_json.rows[0].id }}`: the two namespaces of OpenAI's graders.

Prevents two failures: a misspelt variable that is filled with nothing and makes every answer wrong (it is an error that
names the variable), and a template that runs code (there are paths and nothing else).
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from baimo.core.ids import plain
from baimo.errors import CallRefused, ScorerError
from baimo.evals.scorers.base import is_array, is_object

NAMESPACES = ("item", "sample")
_FIELD = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_STEP = re.compile(
    r"""\s*(?:\.\s*([^.\[\]"'{}]+)|\[\s*(-?\d+)\s*\]|\[\s*"([^"]*)"\s*\]|\[\s*'([^']*)'\s*\])"""
)
_NAME = re.compile(r"\s*([A-Za-z_]\w*)")


class Path(NamedTuple):
    """One variable of a template."""

    source: str
    """As it was written."""
    steps: tuple[str | int, ...]
    """Namespace, then names and places."""


def checked(source: str, field: str) -> None:
    """Refuse a template that could never be filled.

    Args:
        source: the template.
        field: where it stands in the request, for the message.

    Raises:
        CallRefused: a variable cannot be read, or is of no known namespace.
    """
    for piece in _pieces(source):
        if isinstance(piece, Path) and (not piece.steps or piece.steps[0] not in NAMESPACES):
            raise CallRefused("graders.template_wrong_value", field=field, variable=piece.source[:80])


def variables(source: str) -> Iterator[Path]:
    """The variables of a template, in order."""
    return (piece for piece in _pieces(source) if isinstance(piece, Path))


def filled(source: str, names: Mapping[str, Any]) -> str:
    """The template with its variables: text as it is, everything else as JSON.

    Args:
        source: the template.
        names: the namespaces that there are.

    Raises:
        ScorerError: a variable is not there (`graders.no_variable`), or is part of an `output_json` of a sample that is
            no JSON (`graders.sample_no_json`).
    """
    return "".join(
        as_shown(found(piece, names)) if isinstance(piece, Path) else piece for piece in _pieces(source)
    )


def path_of(reference: str) -> Path:
    """The path that a reference such as `item.input` names."""
    return _path(reference)


def found(path: Path, names: Mapping[str, Any]) -> Any:
    """The value at a path.

    Raises:
        ScorerError: there is none.
    """
    value: Any = names
    for place, step in enumerate(path.steps):
        if is_object(value) and step in value:
            value = value[str(step)]
        elif is_array(value) and isinstance(step, int) and -len(value) <= step < len(value):
            value = value[step]
        else:
            answers = path.steps[0] == "sample"
            key = "graders.no_variable"
            if answers and step == "output_json" and place == 1:
                key = "graders.sample_no_json"
            elif answers and path.steps[1:2] == ("output_json",):
                key = "graders.sample_no_field"
            raise ScorerError(key, variable=path.source[:80])
    if not path.steps:
        raise ScorerError("graders.no_variable", variable=path.source[:80])
    return value


def as_shown(value: Any) -> str:
    """A value as it stands in a filled template.

    Raises:
        ScorerError: it has no JSON form.
    """
    return value if isinstance(value, str) else as_json(value)


def as_json(value: Any) -> str:
    """A value as JSON.

    Raises:
        ScorerError: it has none.
    """
    try:
        return json.dumps(plain(value), ensure_ascii=False)
    except TypeError as error:
        raise ScorerError("graders.sample_no_form", problem=error) from error


@functools.lru_cache(maxsize=1024)
def _pieces(source: str) -> tuple[str | Path, ...]:
    pieces: list[str | Path] = []
    end = 0
    for match in _FIELD.finditer(source):
        pieces += [source[end : match.start()], _path(match[1])]
        end = match.end()
    return (*pieces, source[end:])


def _path(source: str) -> Path:
    """Empty steps = it is no path."""
    name = _NAME.match(source)
    if name is None:
        return Path(source.strip(), ())
    steps: list[str | int] = [name[1]]
    at = name.end()
    while at < len(source.rstrip()):
        step = _STEP.match(source, at)
        if step is None:
            return Path(source.strip(), ())
        dotted, place, *quoted = step.groups()
        if dotted is not None:
            steps.append(dotted.strip())
        elif place is not None:
            steps.append(int(place))
        else:
            steps.append(quoted[0] if quoted[0] is not None else quoted[1])
        at = step.end()
    return Path(source.strip(), tuple(steps))
