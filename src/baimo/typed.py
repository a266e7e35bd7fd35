"""Decoding into types, safe for threads.

Prevents a crash of the whole process: msgspec 0.22 learns a type (a dataclass, struct, enum …) when it first meets it,
and meanwhile other threads see it half learned and follow its null pointers. Here types are learned one at a time, and
used only then. Types without classes of ours (`dict[str, Any]`, `msgspec.Raw`) have nothing to be learned.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

Kind = TypeVar("Kind")
_learning = threading.RLock()
_learned: dict[Any, Callable[[bytes | str], Any]] = {}


def json_decoder(kind: type[Kind]) -> Callable[[bytes | str], Kind]:
    """What makes a `kind` of JSON; it raises `msgspec.DecodeError`."""
    decode = _learned.get(kind)
    if decode is None:
        with _learning:
            decode = _learned[kind] = msgspec.json.Decoder(kind).decode
    return decode


def from_json(data: bytes | str, kind: type[Kind]) -> Kind:
    """A `kind` of JSON.

    Raises:
        msgspec.DecodeError: it is no JSON, or (ValidationError) no such thing; says where.
    """
    return json_decoder(kind)(data)


def msgpack_decoder(kind: type[Kind]) -> Callable[[bytes], Kind]:
    """What makes a `kind` of MessagePack, for whoever makes many; it raises `msgspec.DecodeError`."""
    json_decoder(kind)
    return msgspec.msgpack.Decoder(kind).decode


def from_msgpack(data: bytes, kind: type[Kind]) -> Kind:
    """A `kind` of MessagePack; raises what `from_json` raises."""
    json_decoder(kind)
    return msgspec.msgpack.decode(data, type=kind)


def converted(value: Any, kind: type[Kind], *, strict: bool = True) -> Kind:
    """A `kind` of dicts, lists and scalars.

    Args:
        value: as a JSON or TOML parser gives it.
        kind: what it becomes.
        strict: False = numbers and truths may be written as texts.

    Raises:
        msgspec.ValidationError: it is no such thing; says where.
    """
    json_decoder(kind)
    return msgspec.convert(value, kind, strict=strict)


def choices(kind: Any, steps: Sequence[str | int]) -> list[str]:
    """The words that may stand at a place of a `kind`; none where other things may stand there.

    Args:
        kind: of structs and dataclasses, lists, tuples, tables.
        steps: to the place, as msgspec tells it: names of fields and numbers.
    """
    kinds = [kind]
    for step in steps:
        kinds = [inner for one in kinds for option in _options(one) for inner in _inner(option, str(step))]
    options = [option for one in kinds for option in _options(one) if option is not type(None)]
    closed = all(get_origin(option) is Literal for option in options)
    return [str(word) for option in options for word in get_args(option)] if closed else []


def _options(kind: Any) -> Iterator[Any]:
    """The parts of a union, without remarks."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, UnionType):
        for one in get_args(kind):
            yield from _options(one)
    else:
        yield kind


def _inner(kind: Any, step: str) -> list[Any]:
    """What stands at one step below; nothing where that is not known."""
    if get_origin(kind) in (list, tuple, dict):
        return [get_args(kind)[-1 if get_origin(kind) is dict else 0]]
    hints = get_type_hints(kind, include_extras=True) if isinstance(kind, type) else {}
    return [hints[step]] if step in hints else []
