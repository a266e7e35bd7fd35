"""A Record as one line of the ledger: the columns in their fixed order, and the bytes that the chain covers.

Prevents the failure where a line that nobody touched no longer matches its hash: a column is a number, a string or
None, floats are finite, text is what both databases can hold, and MessagePack has one form for each of them.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
from msgspec.structs import astuple
from sqlalchemy import RowMapping

from baimo.core.call import Usage
from baimo.core.record import Record
from baimo.store.entry import Entry
from baimo.typed import json_decoder

# fmt: off
COLUMNS = (
    "id", "at_ms", "surface", "model", "model_used", "run", "tenant", "key", "status", "tokens_in", "tokens_out",
    "tokens_cached", "tokens_reasoning", "estimated", "cost_micros", "currency", "latency_ms", "attempts",
    "request_hash", "config_hash", "tags", "began_ms", "asked", "route", "http_status", "streamed", "queue_ms",
    "first_byte_ms", "tokens_cache_write", "cost_rest", "price_in", "price_out", "price_cached",
    "price_cache_write", "price_call", "charged_micros", "charged_tokens", "unsure", "conversation", "limits",
    "charges", "content_hash",
)
# fmt: on
"""Columns of a line, in the order in which its hash covers them; `seq` and `chain` follow from the line's place."""
PLACE = {name: place for place, name in enumerate(COLUMNS)}

Row = tuple[Any, ...]

LONGEST = 200
"""Characters that are kept of names which come from outside."""

_USAGE = ("tokens_in", "tokens_out", "tokens_cached", "tokens_reasoning", "tokens_cache_write", "estimated")
_TRUTHS = ("estimated", "streamed")
_FLOATS = ("latency_ms", "queue_ms", "first_byte_ms")
_NEVER_NULL = (
    *("at_ms", "estimated", "attempts", "streamed", "charged_micros", "charged_tokens", "unsure", "limits"),
)
_NUMBERS = (
    *_NEVER_NULL,
    *("tokens_in", "tokens_out", "tokens_cached", "tokens_reasoning", "tokens_cache_write", "began_ms"),
    *(
        "cost_micros",
        "cost_rest",
        "http_status",
        "price_in",
        "price_out",
        "price_cached",
        "price_cache_write",
    ),
    "price_call",
)
_WIDTH = len(COLUMNS)
_LATENCY, _QUEUE, _FIRST = (PLACE[name] for name in _FLOATS)
_ESTIMATED, _STREAMED = (PLACE[name] for name in _TRUTHS)
_encode = msgspec.msgpack.Encoder().encode
_MOST = 1 << 53
"""Far beyond any amount, and a thousand of them add up without an overflow."""
_LAST_MS = 253_402_300_799_999
"""The end of the year 9999."""
_MASKS = (1 << 60) - 1
_RANGES = {"at_ms": (0, _LAST_MS), "began_ms": (0, _LAST_MS), "limits": (0, _MASKS)}
_ABSENT = type(None)


def _types_of(column: str) -> frozenset[type]:
    if column in _FLOATS:
        return frozenset({float, _ABSENT})
    if column in _NEVER_NULL:
        return frozenset({int})
    return frozenset({int, _ABSENT}) if column in _NUMBERS else frozenset({str})


_TYPES = tuple(map(_types_of, COLUMNS))
_fitting: set[tuple[type, ...]] = set()
"""Types of rows that fit: rows differ in few of them, and a ledger has millions."""
_AT, _BEGAN, _LIMITS, _CHARGES = (PLACE[name] for name in ("at_ms", "began_ms", "limits", "charges"))
charges_of = json_decoder(list[tuple[str, int]])
"""Buckets and amounts of `Record.charges`."""


def row_of(entry: Entry) -> Row:
    """The columns of an entry."""
    if len(entry.model_used) > LONGEST:
        entry.model_used = entry.model_used[:LONGEST]
    row = astuple(entry)[:_WIDTH]
    if (
        row[_LATENCY].__class__ is int
        or row[_QUEUE].__class__ is int
        or row[_FIRST].__class__ is int
        or row[_ESTIMATED].__class__ is bool
        or row[_STREAMED].__class__ is bool
    ):
        values: list[Any] = list(row)
        for place in (_LATENCY, _QUEUE, _FIRST):
            values[place] = None if values[place] is None else values[place] + 0.0
        for place in (_ESTIMATED, _STREAMED):
            values[place] = int(values[place])
        return tuple(values)
    return row


def row_of_record(record: Record) -> Row:
    """The columns of a finished Record."""
    values = {name: getattr(record.usage if name in _USAGE else record, name) for name in COLUMNS}
    values["tags"] = msgspec.json.encode(dict(record.tags)).decode()
    values |= {name: int(values[name]) for name in _TRUTHS}
    values |= {name: None if values[name] is None else float(values[name]) for name in _FLOATS}
    return clean(tuple(values.values()))


def record_of(row: RowMapping) -> Record:
    """The Record that a database row holds."""
    values: dict[str, Any] = {name: row[name] for name in COLUMNS}
    values |= {name: bool(values[name]) for name in _TRUTHS}
    usage = Usage(**{name: values.pop(name) for name in _USAGE})
    values["tags"] = msgspec.json.decode(row["tags"], type=dict[str, str])
    return Record(**values, usage=usage)


def line_of(row: Row) -> bytes:
    """The canonical bytes of a line: MessagePack of its columns.

    Raises:
        UnicodeEncodeError, OverflowError: it holds what no database takes; `clean` it first.
    """
    return _encode(row)


def misfit(row: Row) -> str:
    """The first column of a kept line whose value no line can have; empty = nobody can stumble over any."""
    shape = tuple(map(type, row))
    if shape not in _fitting:
        for name, kind, types in zip(COLUMNS, shape, _TYPES, strict=True):
            if kind not in types:
                return name
        if len(_fitting) > 10_000:
            _fitting.clear()
        _fitting.add(shape)
    if not 0 <= row[_AT] <= _LAST_MS:
        return "at_ms"
    if not 0 <= row[_LIMITS] <= _MASKS:
        return "limits"
    began_ms = row[_BEGAN]
    if row[_LIMITS] if began_ms is None else not 0 <= began_ms <= _LAST_MS:
        return "began_ms"
    if row[_CHARGES]:
        try:
            charges_of(row[_CHARGES])
        except msgspec.MsgspecError:
            return "charges"
    return ""


def clean(row: Row) -> Row:
    """The row with everything replaced that a database would refuse or change: no line is lost for its form."""
    return tuple([_clean(name, value) for name, value in zip(COLUMNS, row, strict=True)])


def _clean(name: str, value: Any) -> Any:
    if name in _FLOATS:
        return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
    if name in _NUMBERS:
        if isinstance(value, (int, float)) and math.isfinite(value):
            lowest, highest = _RANGES.get(name, (-_MOST, _MOST))
            return max(lowest, min(highest, int(value)))
        return 0 if name in _NEVER_NULL else None
    tidy = str(value).replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
    return "\ufffd" if tidy == "\x02" else tidy
