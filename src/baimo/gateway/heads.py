"""The headers that every answer of the gateway carries."""

from __future__ import annotations

from baimo.core.money import MICROS
from baimo.gateway.answers import Headers, lines
from baimo.gateway.call import Grant
from baimo.gateway.limits import Remaining
from baimo.store.entry import Entry

STREAMED = lines([(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")])
"""Lines of every stream: caches and nginx hand its pieces on as they come."""
_PLACES = 12
"""Decimal places of an exact cost: millionths of a millionth."""


def head(grant: Grant, given: Headers, remaining: Remaining, overhead_s: float) -> bytes:
    """Headers of an answer: the model's own that are passed on, then ours; x-request-id is the server's.

    Args:
        grant: with its Record, closed or, for a stream, still open: then the cost is not known and not said.
        given: of the model's answer.
        remaining: what is left of a limit.
        overhead_s: seconds that the gateway itself took so far.
    """
    entry, terms = grant.entry, grant.terms
    named = terms.named
    if entry.model is not terms.model.name:  # from the cache
        named = lines([(b"x-baimo-model", entry.model.encode("utf-8"))])
    ours = f"x-baimo-record: {entry.id}\r\nx-baimo-overhead-ms: {overhead_s * 1000:.3f}\r\n"
    if entry.cost_micros is not None:
        ours += f"x-baimo-cost: {cost(entry)}\r\n{terms.billed}"
    if terms.plan.has_rates:
        ours += terms.plan.rate_lines(grant.reserved, remaining, entry.began_ms)
    return lines(given) + named + ours.encode("latin-1")


def cost(entry: Entry) -> str:
    """The exact cost in units of its currency: `0.0000123`."""
    exact = (entry.cost_micros or 0) * MICROS + (entry.cost_rest or 0)
    if not exact:
        return "0"
    digits = str(exact).zfill(_PLACES + 1)
    return f"{digits[:-_PLACES]}.{digits[-_PLACES:]}".rstrip("0").rstrip(".")
