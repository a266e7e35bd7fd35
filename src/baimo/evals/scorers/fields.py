"""The reply is a JSON value whose fields equal the target's.

Prevents two failures: content marked wrong for its wrapping (fences, prose, LaTeX backslashes), and one wrong slot of
ten hidden in a 0. Content and form are judged apart, field by field.
"""

from __future__ import annotations

import ast
import functools
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from baimo.core.call import Completion
from baimo.core.run import Score
from baimo.core.task import Example
from baimo.errors import TaskError
from baimo.evals.scorers.base import (
    Described,
    as_text,
    found,
    is_array,
    is_object,
    judged,
    no_reference,
    short,
    visible,
)
from baimo.evals.scorers.loose_json import Reading, read
from baimo.evals.scorers.text import normalised
from baimo.text import text

_ABSENT = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Json(Described):
    """The reply is JSON with the target's fields. Strict: valid JSON and nothing else; lenient: found, repaired."""

    name: ClassVar[str] = "json"
    schema: dict[str, Any] | str | None = None
    """JSON Schema that a strict reply satisfies, or a file with one; null = any JSON."""
    mode: Literal["all", "fields"] = "all"
    """all: 1 when every field is right; fields: the share of right fields."""
    strict: Literal["whole", "extracted"] = "whole"
    """What strict asks for: nothing but JSON, or valid JSON somewhere in the reply."""
    answer: str = ""
    """Dotted path of the one field that the target is compared with; empty = the whole value."""
    texts: Literal["folded", "unquoted", "literal"] = "folded"
    """How texts are compared. folded: spacing and full-width forms forgiven; unquoted: character by character,
    quotes around them forgiven; literal: Python or JSON literals in them by value, `[1,2]` equals `[1, 2]`."""
    ignore: tuple[str, ...] = ()
    """Dotted paths that are not compared."""
    extra: Literal["wrong", "ignored"] = "wrong"
    """What a field is that the target does not have; null counts as absent."""
    weights: Mapping[str, float] = field(default_factory=dict[str, float])
    """With mode fields: weight of a dotted path, 1 where none is given."""
    tolerance: float = 0.0
    """Largest difference between numbers that are still equal."""
    unordered: bool | tuple[str, ...] = False
    """Whether the order of arrays is free: everywhere, or at these dotted paths."""
    ignore_case: bool = False
    """Whether upper and lower case are the same in texts."""
    folder: Path = Path()
    """Where `schema` is looked for."""

    def __post_init__(self) -> None:
        """Read and check the schema once, so that a broken one is found before the first call is paid for."""
        self._validator()

    def sources(self) -> object:
        """The schema, when it stands in a file."""
        return self._schema_text() if isinstance(self.schema, str) else None

    async def score(self, example: Example, completion: Completion) -> Score:
        """1, 0 or the share of right fields; `details` has `parsed`, `repairs` and `fields` {path: right}."""
        if example.target is None:
            return no_reference()
        reply = visible(completion.text)
        reading = read(reply, lambda value: self._wanted(value, example.target)) or read(reply)
        if reading is None:
            why = text("scorers.json_none", reply=short(reply))
            return judged(0.0, False, why, parsed="none", repairs=[], fields={})
        invalid = self._invalid(reading.value)
        valid = not reading.repairs and invalid is None and (reading.whole or self.strict == "extracted")
        valid = valid and not (self.strict == "whole" and reply != completion.text)
        marks = self._marks(reading.value, example.target)
        content = self._content(marks)
        return judged(
            content,
            valid,
            self._explanation(reading, invalid, marks, valid),
            parsed="repaired" if reading.repairs else ("whole" if reading.whole else "extracted"),
            repairs=list(reading.repairs),
            fields=marks,
        )

    def fits(self, value: Any) -> bool:
        """Whether a JSON value satisfies the schema."""
        return self._invalid(value) is None

    def _content(self, marks: Mapping[str, bool]) -> float:
        if all(marks.values()):
            return 1.0
        if self.mode == "all":
            return 0.0
        weights = {path: _for(self.weights, path) for path in marks}
        total = sum(weights.values())
        return sum(weight for path, weight in weights.items() if marks[path]) / total if total > 0 else 0.0

    def _wanted(self, value: Any, target: Any) -> bool:
        """Whether a JSON value in the reply is the one that the task asks for."""
        if not self.answer and not is_object(target):
            return is_array(value) == is_array(target)
        names = {self.answer.partition(".")[0]} if self.answer else set(target)
        return is_object(value) and not names.isdisjoint(value)

    def _marks(self, value: Any, target: Any) -> dict[str, bool]:
        """Right or wrong for every field of the target, and for every field that it does not have."""
        if self.answer:
            has = found(value, self.answer) if is_object(value) else None
            return {self.answer: self._equal(has, target, self.answer)}
        if not is_object(target):
            return {"": self._equal(value, target, "")}
        wanted = dict(_leaves(target, ""))
        given: Mapping[str, Any] = value if is_object(value) else {}
        marks = {
            path: self._equal(_at(given, path), leaf, path)
            for path, leaf in wanted.items()
            if not self._ignored(path)
        }
        if self.extra == "wrong":
            for path, leaf in _leaves(given, ""):
                if leaf is not None and leaf != {} and not self._ignored(path) and not _covered(path, wanted):
                    marks[path] = False
        return marks

    def _ignored(self, path: str) -> bool:
        return any(path == name or path.startswith(f"{name}.") for name in self.ignore)

    def _equal(self, value: Any, target: Any, path: str, depth: int = 0) -> bool:
        if depth > 100:
            return False
        if self.texts == "literal":
            value, target = _literal(value), _literal(target)
        if target is None or value is None or value is _ABSENT:
            return (value is None or value is _ABSENT) and target is None
        if is_object(target):
            if not is_object(value):
                return False
            names = dict.fromkeys((*target, *value))
            return all(self._equal(value.get(name), target.get(name), path, depth + 1) for name in names)
        if is_array(target):
            return self._equal_arrays(value, target, path, depth)
        if isinstance(value, (dict, list, tuple, set, frozenset)):
            return value == target
        return self._equal_scalars(value, target)

    def _equal_arrays(self, value: Any, target: Sequence[Any], path: str, depth: int) -> bool:
        if not is_array(value) or (self.texts == "literal" and type(value) is not type(target)):
            return False
        items: Sequence[Any] = value
        if len(items) != len(target):
            return False
        free = self.unordered if isinstance(self.unordered, bool) else path in self.unordered
        if not free:
            return all(self._equal(a, b, path, depth + 1) for a, b in zip(items, target, strict=True))
        left = list(target)
        for item in items:
            match = next(
                (place for place, other in enumerate(left) if self._equal(item, other, path, depth + 1)), None
            )
            if match is None:
                return False
            del left[match]
        return True

    def _equal_scalars(self, value: Any, target: Any) -> bool:
        if isinstance(value, bool) or isinstance(target, bool):
            return as_text(value).lower() == as_text(target).lower()
        numbers = (_number(value), _number(target))
        if numbers[0] is not None and numbers[1] is not None:
            return numbers[0] == numbers[1] or abs(numbers[0] - numbers[1]) <= self.tolerance
        if not isinstance(value, str) or not isinstance(target, str):
            return value == target
        if self.texts == "folded":
            return self._folded(value) == self._folded(target)
        if self.texts == "unquoted":
            value, target = value.strip("'\""), target.strip("'\"")
        return value.casefold() == target.casefold() if self.ignore_case else value == target

    def _folded(self, words: str) -> str:
        return normalised(words, case=self.ignore_case, punctuation=False)

    def _invalid(self, value: Any) -> str | None:
        """What the schema has against `value`; None when it is satisfied."""
        validator = self._validator()
        if validator is None:
            return None
        try:
            error = next(validator.iter_errors(value), None)
        except RecursionError:
            return "nested too deeply"
        return None if error is None else f"{error.json_path}: {error.message}"

    def _validator(self) -> Any:
        return None if self.schema is None else _compiled(self._schema_text())

    def _schema_text(self) -> str:
        if not isinstance(self.schema, str):
            return json.dumps(self.schema, sort_keys=True)
        return _file_text(self.folder / self.schema)

    def _explanation(
        self, reading: Reading, invalid: str | None, marks: Mapping[str, bool], valid: bool
    ) -> str:
        notes: list[str] = []
        if reading.repairs:
            notes.append(text("scorers.json_repaired", repairs=", ".join(reading.repairs)))
        elif not valid and not reading.whole and self.strict == "whole":
            notes.append(text("scorers.json_wrapped"))
        if invalid:
            notes.append(text("scorers.json_invalid", problem=short(invalid)))
        if wrong := [path or "$" for path, right in marks.items() if not right]:
            notes.append(text("scorers.json_wrong", fields=short(", ".join(wrong))))
        return "; ".join(notes)


@functools.lru_cache(maxsize=64)
def _file_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError("scorers.bad_file", scorer="json", path=path, problem=error) from error


@functools.lru_cache(maxsize=64)
def _compiled(source: str) -> Any:
    """A validator that never fetches anything: remote references stay unresolved."""
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import validator_for  # pyright: ignore[reportUnknownVariableType]
    from referencing import Registry

    remote: Any = Registry  # an empty one: nothing is ever fetched
    try:
        schema = json.loads(source)
        kind: Any = validator_for(schema, default=Draft202012Validator)
        kind.check_schema(schema)
    except (ValueError, SchemaError) as error:
        problem = getattr(error, "message", None) or error
        raise TaskError("scorers.bad_schema", problem=problem) from error
    return kind(schema, registry=remote())


def _leaves(value: Mapping[str, Any], path: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Dotted path and value of everything in `value` that is not itself an object with fields."""
    for name, item in value.items():
        inner = f"{path}.{name}" if path else str(name)
        if is_object(item) and item and depth < 50:
            yield from _leaves(item, inner, depth + 1)
        else:
            yield inner, item


def _at(value: Mapping[str, Any], path: str) -> Any:
    """The leaf of `value` at a path that `_leaves` made; a name may itself contain dots."""
    if path in value:
        return value[path]
    for name, item in value.items():
        if path.startswith(f"{name}.") and is_object(item):
            inner = _at(item, path[len(name) + 1 :])
            if inner is not _ABSENT:
                return inner
    return _ABSENT


def _covered(path: str, wanted: Mapping[str, Any]) -> bool:
    """Whether a field of the target, or an object that the target has as a whole, is at or above `path`."""
    return path in wanted or any(path.startswith(f"{name}.") for name in wanted)


def _for(weights: Mapping[str, float], path: str) -> float:
    """The weight of the path, or of the nearest object above it, else 1."""
    while path:
        if path in weights:
            return weights[path]
        path = path.rpartition(".")[0]
    return 1.0


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number == number else None


def _literal(value: Any) -> Any:
    """The value of a text that is a Python or JSON literal; anything else unchanged."""
    if not isinstance(value, str) or len(value) > 20_000:
        return value
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # invalid escapes in the model's text are no concern of the reader
            return ast.literal_eval(value.strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        pass
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
