"""The members of a decoded body, each knowing its path.

Prevents two failures: a client that hears "bad request" and not which of two hundred messages is wrong, and a member
of the wrong type that travels on until a model's server stumbles over it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from baimo.errors import CallRefused
from baimo.server.surfaces import wirejson

_KINDS: dict[object, str] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
}


class Given:
    """One JSON object of a body. A member that is null counts as absent. Every reader raises `CallRefused`.

    Args:
        row: the object.
        path: where it stands in the body; empty = it is the body.
    """

    __slots__ = ("path", "row")

    def __init__(self, row: Mapping[str, Any], path: str = "") -> None:
        self.row = row
        self.path = path

    @classmethod
    def body(cls, body: bytes) -> Given:
        """The whole body."""
        return cls(wirejson.read(_object, body))

    def at(self, name: str) -> str:
        """Path of one of its members."""
        return f"{self.path}.{name}" if self.path else name

    def has(self, name: str) -> bool:
        """Whether the member says something."""
        return self.row.get(name) is not None

    def text(self, name: str) -> str | None:
        """A string."""
        return self._one(name, str, "string")

    def needed(self, name: str) -> str:
        """A string that must be there."""
        value = self.text(name)
        if value is None:
            raise self.wrong(name, "string")
        return value

    def whole(self, name: str, least: int = 0) -> int | None:
        """A whole number of at least `least`."""
        value = self.row.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
            raise self.wrong(name, f"integer >= {least}")
        return value

    def number(self, name: str) -> float | None:
        """A number."""
        value = self.row.get(name)
        if value is not None and (not isinstance(value, (int, float)) or isinstance(value, bool)):
            raise self.wrong(name, "number")
        return value

    def flag(self, name: str) -> bool | None:
        """True or false."""
        return self._one(name, bool, "boolean")

    def word(self, name: str, *known: str) -> str | None:
        """One of `known`."""
        value = self.row.get(name)
        if value is not None and value not in known:
            raise self.wrong(name, " | ".join(known))
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings; empty where absent."""
        values: list[Any] = self._one(name, list, "array") or []
        if not all(isinstance(value, str) for value in values):
            raise self.wrong(name, "array of strings")
        return tuple(values)

    def object(self, name: str) -> Given | None:
        """An object."""
        value = self._one(name, dict, "object")
        return None if value is None else Given(value, self.at(name))

    def must(self, name: str) -> Given:
        """An object that must be there."""
        value = self.object(name)
        if value is None:
            raise self.wrong(name, "object")
        return value

    def objects(self, name: str) -> list[Given]:
        """A list of objects; empty where absent."""
        values: list[Any] = self._one(name, list, "array") or []
        place = self.at(name)
        for index, value in enumerate(values):
            if not isinstance(value, dict):
                raise CallRefused(
                    "surfaces.wrong_type", field=f"{place}[{index}]", expected="object", got=_kind(value)
                )
        return [Given(row, f"{place}[{index}]") for index, row in enumerate(values)]

    def some(self, name: str) -> list[Given]:
        """A list of at least one object."""
        if not self.has(name):
            raise CallRefused("surfaces.missing", field=self.at(name))
        found = self.objects(name)
        if not found:
            raise CallRefused("surfaces.empty", field=self.at(name))
        return found

    def content(self, name: str) -> str | list[Given]:
        """What APIs call content: a string or a list of objects; must be there."""
        value = self.row.get(name)
        if isinstance(value, str):
            return value
        if value is None or not isinstance(value, list):
            raise self.wrong(name, "string | array")
        return self.objects(name)

    def wrong(self, name: str, expected: str) -> CallRefused:
        """The refusal of one of its members."""
        value = self.row.get(name)
        if value is None:
            return CallRefused("surfaces.missing", field=self.at(name))
        got = repr(value)[:40] if isinstance(value, (str, int, float)) else _kind(value)
        return CallRefused("surfaces.wrong_type", field=self.at(name), expected=expected, got=got)

    def _one(self, name: str, kind: type[Any], expected: str) -> Any:
        value = self.row.get(name)
        if value is not None and not isinstance(value, kind):
            raise self.wrong(name, expected)
        return value


_object = msgspec.json.Decoder(dict[str, Any]).decode


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "null")


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects in a decoded list; nothing where it is no list."""
    values = cast("list[Any]", value) if isinstance(value, list) else []
    return [cast("dict[str, Any]", row) for row in values if isinstance(row, dict)]
