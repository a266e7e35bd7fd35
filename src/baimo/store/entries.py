"""What the journal holds of a call: enough at its beginning to charge it if its process dies, all of it at its end."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import msgspec

from baimo.core.record import INTERRUPTED
from baimo.store.buckets import parsed, written
from baimo.store.entry import Charge, Entry
from baimo.store.lines import Row, clean, line_of, row_of
from baimo.typed import msgpack_decoder

_OPENED = (
    *("id", "surface", "model", "tenant", "key", "asked", "route", "began_ms", "run", "streamed", "currency"),
    *("charged_micros", "charged_tokens", "request_hash", "conversation", "config_hash", "tags"),
)
_opening = attrgetter(*_OPENED)
_LENGTHS = struct.Struct("<II")
_pack = _LENGTHS.pack
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_decode_charges = msgpack_decoder(tuple[Charge, ...])
_decode_row = msgspec.msgpack.Decoder(tuple[Any, ...]).decode


class Ended(msgspec.Struct, frozen=True, gc=False):
    """An ended call on its way into the database."""

    row: Row
    line: bytes
    charged: Sequence[Charge]
    content: bytes
    """Empty = none."""


def opening(entry: Entry) -> bytes:
    """A beginning, for the journal."""
    try:
        return _encode((_opening(entry), entry.reserved))
    except (UnicodeEncodeError, OverflowError):
        return _encode((_tidied(_opening(entry)), entry.reserved))


def ended(entry: Entry, charged: Sequence[Charge]) -> tuple[Row, bytes]:
    """The line of an ended call, and its canonical bytes; says in the entry what it was charged to."""
    entry.limits, entry.charges = written(entry, charged) if charged else (0, "")
    row = row_of(entry)
    try:
        return row, line_of(row)
    except (UnicodeEncodeError, OverflowError):
        row = clean(row)
        return row, line_of(row)


def ending(line: bytes, charged: Sequence[Charge]) -> bytes:
    """An ending, for the journal; its content may follow."""
    charges = _encode(charged) if charged else b""
    return _pack(len(line), len(charges)) + line + charges


def read_ending(payload: bytes) -> Ended:
    """What `ending` wrote, and the content that followed."""
    line_length, charges_length = _LENGTHS.unpack_from(payload)
    start = _LENGTHS.size
    line = payload[start : start + line_length]
    charges = payload[start + line_length : start + line_length + charges_length]
    content = payload[start + line_length + charges_length :]
    return Ended(_decode_row(line), line, _decode_charges(charges) if charges else (), content)


def read_opening(payload: bytes, now_ms: int) -> Ended:
    """The line of a call whose process died: nobody knows what it cost, so its limits are charged the most."""
    values, reserved = _decode(payload)
    entry = Entry(**dict(zip(_OPENED, values, strict=True)))
    charged: list[Charge] = []
    for name, limit, amount in reserved:
        counts = parsed(name).counts
        charged.append(Charge(name, limit, 0 if counts == "concurrency" else amount))
        if counts == "cost":
            entry.charged_micros = max(entry.charged_micros, amount)
        elif counts == "tokens":
            entry.charged_tokens = max(entry.charged_tokens, amount)
    entry.at_ms = max(now_ms, entry.began_ms)
    entry.status, entry.attempts, entry.unsure = INTERRUPTED, 1, 1
    row, line = ended(entry, charged)
    return Ended(row, line, charged, b"")


def _tidied(values: Sequence[Any]) -> list[Any]:
    return [
        value.encode("utf-8", "replace").decode() if isinstance(value, str) else value for value in values
    ]
