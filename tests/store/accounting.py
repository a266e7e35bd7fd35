"""Entries, limits and a scripted clock for the tests of the ledger."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from msgspec.structs import replace

from baimo.core.money import Rates
from baimo.core.tenant import Limit
from baimo.store.buckets import bucket_of, parsed
from baimo.store.entry import Charge, Entry

NOW_MS = 1_800_000_030_000
"""2027-01-15T08:00:30Z."""
RATES = Rates(150_000, 600_000, 75_000, 150_000, 0)
_numbers = itertools.count()


class Hands:
    """A clock whose wall time is set by hand."""

    def __init__(self, wall_ms: int = NOW_MS) -> None:
        self.wall_ms = wall_ms
        self.steady = 0.0

    def now(self) -> float:
        return self.steady

    def wall(self) -> float:
        return self.wall_ms / 1000


def entry(id: str = "", **changes: object) -> Entry:
    """A call that is about to begin."""
    values = {
        "surface": "chat",
        "model": "v/m",
        "tenant": "acme",
        "key": "k1",
        "asked": "m",
        "route": "direct",
        "began_ms": NOW_MS,
        "config_hash": "c" * 64,
    }
    return Entry(id=id or f"rec_{next(_numbers):08d}", **(values | changes))  # type: ignore[arg-type]


def ended(call: Entry, tokens_in: int = 120, tokens_out: int = 40, **changes: object) -> Entry:
    """The same call when it went well."""
    call.tokens_in, call.tokens_out = tokens_in, tokens_out
    call.cost_micros, call.cost_rest = RATES.cost(tokens_in, tokens_out)
    call.price_in, call.price_out, call.price_call = RATES.input, RATES.output, RATES.call
    call.price_cached, call.price_cache_write = RATES.cached, RATES.cache_write
    call.charged_micros, call.charged_tokens = call.cost_micros, tokens_in + tokens_out
    call.http_status, call.attempts, call.latency_ms, call.queue_ms = 200, 1, 12.5, 0
    for name, value in changes.items():
        setattr(call, name, value)
    return call


def charge(
    limit: Limit, amount: int, *, scope: str = "key", name: str = "k1", now_ms: int = NOW_MS
) -> Charge:
    """A share of a limit."""
    return Charge(bucket_of(scope, name, limit, now_ms), limit.amount, amount)


def charged(call: Entry, reserved: Sequence[Charge]) -> tuple[Charge, ...]:
    """What the reservations of a call that ended turn into."""
    counted = {"cost": call.charged_micros, "tokens": call.charged_tokens, "requests": 1, "concurrency": 0}
    return tuple(replace(each, amount=counted[parsed(each.bucket).counts]) for each in reserved)
