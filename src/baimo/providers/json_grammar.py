"""A JSON Schema as a grammar of compact JSON, `{"a": 1, "b": [true, null]}`, as `json.dumps` writes it.

Prevents an answer that never ends: grammars made from a JSON Schema by the engines allow white space without
bound, and a small model that has begun a line of spaces may go on until max_tokens (5 of 24 greedy answers of
SmolLM2-135M did). With the form fixed, the same answers end, in about a quarter fewer tokens.

Notation: the EBNF of XGrammar, https://xgrammar.mlc.ai/docs/tutorials/ebnf_guided_generation.html
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

_ANNOTATIONS = frozenset(
    ("$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "examples")
)
_BASE = {
    "value": "object | array | string | number | boolean | null",
    "object": '"{" (string ": " value (", " string ": " value)*)? "}"',
    "array": '"[" (value (", " value)*)? "]"',
    "string": '"\\"" char* "\\""',
    "char": r'[^"\\\x00-\x1f] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})',
    "integer": '"-"? ("0" | [1-9] [0-9]{0,15})',
    "number": 'integer ("." [0-9]{1,15})? ([eE] [+-]? [0-9]{1,2})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
}
_MOST_INTEGERS = 256  # a bounded integer becomes a list of numbers up to here


class _Unsupported(Exception):
    pass


def closed(schema: Any) -> Any:
    """The schema with every object limited to its named properties unless it says otherwise, as `grammar` has it."""
    if isinstance(schema, list):
        return [closed(item) for item in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    fields = cast("dict[str, Any]", schema)
    result = {name: value if name in ("enum", "const") else closed(value) for name, value in fields.items()}
    if isinstance(fields.get("properties"), dict) and fields.get("type") == "object":
        result.setdefault("additionalProperties", False)
    return result


@functools.lru_cache(maxsize=256)
def grammar(schema: str) -> str | None:
    """The grammar of a schema; None when it uses something that has no place here (patterns, bounds of numbers …).

    Args:
        schema: JSON Schema as JSON. Properties come in its order; those that it does not name are left out.
    """
    source = json.loads(schema)
    writer = _Writer(source)
    try:
        root = writer.expression(source)
    except (_Unsupported, RecursionError):
        return None
    rules = {"root": root, **writer.rules, **_BASE}
    return "".join(f"{name} ::= {body}\n" for name, body in rules.items())


class _Writer:
    def __init__(self, source: Any) -> None:
        self.source = source
        self.rules: dict[str, str] = {}
        self._references: dict[str, str] = {}

    def expression(self, schema: Any) -> str:
        if schema is True:
            return "value"
        if not isinstance(schema, dict):
            raise _Unsupported
        keys = {
            name: value for name, value in cast("dict[str, Any]", schema).items() if name not in _ANNOTATIONS
        }
        if not keys:
            return "value"
        for name, write in (("$ref", self._reference), ("const", self._const), ("enum", self._enum)):
            if name in keys:
                _only(keys, name, "type")
                return write(keys[name])
        for name in ("anyOf", "oneOf"):
            if name in keys:
                _only(keys, name)
                return _either(self.expression(option) for option in keys[name])
        kind = keys.pop("type", None)
        if isinstance(kind, list):
            return _either(self._typed(one, keys) for one in cast("list[Any]", kind))
        return self._typed(kind, keys)

    def _typed(self, kind: Any, keys: Mapping[str, Any]) -> str:
        match kind:
            case "object":
                return self._object(keys)
            case "array":
                return self._array(keys)
            case "string":
                _only(keys, "minLength", "maxLength")
                return (
                    f'"\\"" char{_times(keys.get("minLength", 0), keys.get("maxLength"))} "\\""'
                    if keys
                    else kind
                )
            case "integer":
                return self._integer(keys)
            case "number" | "boolean" | "null":
                _only(keys)
                return kind
            case _:
                raise _Unsupported

    def _object(self, keys: Mapping[str, Any]) -> str:
        _only(keys, "properties", "required", "additionalProperties")
        properties: dict[str, Any] = keys.get("properties", {})
        required: list[str] = keys.get("required", [])
        if not set(required) <= set(properties):
            raise _Unsupported
        if not properties:
            return '"{}"' if keys.get("additionalProperties") is False else "object"
        pairs = [
            f"{_literal(_text(name) + ': ')} {self.expression(body)}" for name, body in properties.items()
        ]
        return f'"{{" {self._members(pairs, [name in required for name in properties])} "}}"'

    def _members(self, pairs: list[str], required: list[bool]) -> str:
        """Members in order, optional ones left out or not; one rule per position, with and without a comma."""
        following = {True: '""', False: '""'}  # by whether nothing has been written yet
        for pair, needed in zip(reversed(pairs), reversed(required), strict=True):
            named = self._rule(pair)
            after = self._rule(following[False])
            with_comma, first = f'", " {named} {after}', f"{named} {after}"
            if needed:
                following = {True: first, False: with_comma}
            else:
                following = {
                    True: _either([first, self._rule(following[True])]),
                    False: _either([with_comma, after]),
                }
        return following[True]

    def _array(self, keys: Mapping[str, Any]) -> str:
        _only(keys, "items", "minItems", "maxItems")
        item = self._rule(self.expression(keys.get("items", True)))
        least, most = keys.get("minItems", 0), keys.get("maxItems")
        if most == 0:
            return '"[]"'
        more = f'{item} (", " {item}){_times(max(least - 1, 0), None if most is None else most - 1)}'
        return f'"[" {more} "]"' if least else f'"[" ({more})? "]"'

    def _integer(self, keys: Mapping[str, Any]) -> str:
        if not keys:
            return "integer"
        _only(keys, "minimum", "maximum")
        low, high = keys.get("minimum"), keys.get("maximum")
        if not isinstance(low, int) or not isinstance(high, int) or not 0 <= high - low < _MOST_INTEGERS:
            raise _Unsupported
        return self._enum(range(low, high + 1))

    def _const(self, value: Any) -> str:
        return _literal(_text(value))

    def _enum(self, values: Iterable[Any]) -> str:
        return _either(_literal(_text(value)) for value in values)

    def _reference(self, target: str) -> str:
        if target not in self._references:
            if not target.startswith("#"):
                raise _Unsupported
            found = self.source
            for step in filter(None, target[1:].split("/")):
                if not isinstance(found, dict) or step not in found:
                    raise _Unsupported
                found = cast("dict[str, Any]", found)[step]
            name = self._references[target] = f"ref{len(self._references)}"  # first: it may refer to itself
            self.rules[name] = self.expression(found)
        return self._references[target]

    def _rule(self, body: str) -> str:
        name = f"r{len(self.rules)}"
        self.rules[name] = body
        return name


def _only(keys: Mapping[str, Any], *allowed: str) -> None:
    if not set(keys) <= set(allowed):
        raise _Unsupported


def _either(options: Iterable[str]) -> str:
    return "(" + " | ".join(options) + ")"


def _times(least: int, most: int | None) -> str:
    if most is None:
        return "*" if least == 0 else f"{{{least},}}"
    return f"{{{least},{most}}}"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _literal(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
