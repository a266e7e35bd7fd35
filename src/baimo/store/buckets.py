"""Names of limits' buckets, and which of them a Record was charged to.

Prevents the failure where nobody can tell why a budget is used up: every Record says what it was charged to, in one
integer where the charge follows from its own fields, so the use of every limit can be derived anew from the ledger.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import msgspec

from baimo.core.tenant import Limit
from baimo.store.entry import Charge, Entry

SCOPES = ("key", "tenant", "model", "route")
FIELDS = ("key", "tenant", "model", "asked")
"""The column of a Record that names each scope's owner."""
COUNTS = ("requests", "tokens", "cost")
WINDOWS = ("minute", "hour", "day", "month", "total")
FOREVER_MS = 1 << 62

_STARTS = {"minute": 16, "hour": 13, "day": 10, "month": 7, "total": 0}
"""How much of 2026-11-21T10:15 names a window's start."""
_LENGTHS_MS = {"minute": 60_000, "hour": 3_600_000, "day": 86_400_000}
_FORM = re.compile(
    r"(key|tenant|model|route):(.*):(requests|tokens|cost|concurrency):(minute|hour|day|month|total):"
    r"((?:\d{4}-\d\d(?:-\d\d(?:T\d\d(?::\d\d)?)?)?)?)",
    re.DOTALL,
)


class Bucket(msgspec.Struct, frozen=True, gc=False):
    """A bucket's name, taken apart."""

    scope: str
    """key, tenant, model or route."""
    name: str
    """Whose limit it is."""
    counts: str
    """requests, tokens, cost or concurrency."""
    window: str
    """minute, hour, day, month or total."""
    begins_ms: int
    """First millisecond of the window."""
    ends_ms: int
    """First millisecond after it."""
    bit: int
    """Its place in `Record.limits`; 0 = concurrency, which nothing is charged to."""
    field: str
    """Column of a Record that holds `name`."""


def bucket_of(scope: str, name: str, limit: Limit, now_ms: int) -> str:
    """The bucket `scope:name:counts:window:start` that a call admitted at `now_ms` (since 1970) is charged to."""
    return _name(
        scope, name, limit.counts, "total" if limit.counts == "concurrency" else limit.window, now_ms
    )


def window_end_ms(window: str, now_ms: int) -> int:
    """When the calendar window (UTC) that `now_ms` falls in ends; far away for total."""
    if window in _LENGTHS_MS:
        length = _LENGTHS_MS[window]
        return (now_ms // length + 1) * length
    if window == "total":
        return FOREVER_MS
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    year, month = divmod(now.year * 12 + now.month, 12)
    return int(datetime(year, month + 1, 1, tzinfo=UTC).timestamp()) * 1000


@functools.lru_cache(maxsize=65_536)
def parsed(bucket: str) -> Bucket:
    """A bucket's name, taken apart.

    Raises:
        ValueError: it is no bucket's name.
    """
    found = _FORM.fullmatch(bucket)
    if found is None:
        raise ValueError(f"no bucket: {bucket!r}")
    scope, name, counts, window, start = found.groups()
    begins_ms = 0
    if start:
        padded = start + "0001-01-01T00:00"[len(start) :]
        begins_ms = int(datetime.fromisoformat(padded).replace(tzinfo=UTC).timestamp()) * 1000
    place = SCOPES.index(scope)
    bit = 0
    if counts in COUNTS:
        bit = 1 << (place * len(COUNTS) + COUNTS.index(counts)) * len(WINDOWS) + WINDOWS.index(window)
    return Bucket(
        scope, name, counts, window, begins_ms, window_end_ms(window, begins_ms), bit, FIELDS[place]
    )


def written(entry: Entry, charged: Sequence[Charge]) -> tuple[int, str]:
    """`Record.limits` and `Record.charges` of a call that these amounts are charged for."""
    mask = 0
    odd: list[tuple[str, int]] = []
    began_ms = entry.began_ms
    for charge in charged:
        name, amount = charge.bucket, charge.amount
        bucket = _known.get(name) or _learnt(name)
        if not bucket.bit:
            continue
        if bucket.counts == "cost":
            usual = entry.charged_micros
        else:
            usual = entry.charged_tokens if bucket.counts == "tokens" else 1
        if (
            amount == usual
            and bucket.begins_ms <= began_ms < bucket.ends_ms
            and getattr(entry, bucket.field) == bucket.name
        ):
            mask |= bucket.bit
        elif amount:
            odd.append((name, amount))
    return mask, json.dumps(odd, ensure_ascii=False, separators=(",", ":")) if odd else ""


_known: dict[str, Bucket] = {}


def _learnt(name: str) -> Bucket:
    if len(_known) > 10_000:
        _known.clear()
    _known[name] = parsed(name)
    return _known[name]


def named(mask: int, owners: tuple[str, str, str, str], began_ms: int) -> Iterator[tuple[str, int]]:
    """The buckets that `Record.limits` stands for, each with what it counts (index in `COUNTS`).

    Args:
        mask: `Record.limits`.
        owners: the Record's key, tenant, model and asked.
        began_ms: the Record's.
    """
    while mask:
        low = mask & -mask
        mask ^= low
        rest, window = divmod(low.bit_length() - 1, len(WINDOWS))
        place, counts = divmod(rest, len(COUNTS))
        yield _name(SCOPES[place], owners[place], COUNTS[counts], WINDOWS[window], began_ms), counts


def name_of(bit: int, owner: str, began_ms: int) -> str:
    """The bucket that one bit of `Record.limits` stands for.

    Args:
        bit: the bit, as a mask.
        owner: the Record's key, tenant, model or asked, whichever the bit's scope is about.
        began_ms: the Record's.
    """
    rest, window = divmod(bit.bit_length() - 1, len(WINDOWS))
    scope, counts = divmod(rest, len(COUNTS))
    return _name(SCOPES[scope], owner, COUNTS[counts], WINDOWS[window], began_ms)


def _name(scope: str, name: str, counts: str, window: str, now_ms: int) -> str:
    start = datetime.fromtimestamp(now_ms / 1000, UTC).isoformat()[: _STARTS[window]]
    return f"{scope}:{name}:{counts}:{window}:{start}"
