"""The headers that every answer of the gateway carries."""

from __future__ import annotations

from baimo.core.money import MICROS
from baimo.gateway.answers import Headers, Lines, lines
from baimo.gateway.call import Grant
from baimo.gateway.limits import Remaining
from baimo.store.entry import Entry


def head(grant: Grant, given: Headers, remaining: Remaining, overhead_s: float) -> Lines:
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
    billed = b"" if entry.cost_micros is None else b"x-baimo-cost: %s\r\n%s" % (cost(entry), terms.billed)
    rates = terms.plan.rate_lines(grant.reserved, remaining, entry.began_ms) if terms.plan.has_rates else b""
    return b"%s%sx-baimo-record: %s\r\nx-baimo-overhead-ms: %.3f\r\n%s%s" % (
        lines(given),
        named,
        entry.id.encode("ascii"),
        overhead_s * 1000,
        billed,
        rates,
    )


def cost(entry: Entry) -> bytes:
    """The exact cost in units of its currency: `0.0000123`."""
    exact = (entry.cost_micros or 0) * MICROS + (entry.cost_rest or 0)
    if not exact:
        return b"0"
    units, rest = divmod(exact, MICROS * MICROS)
    return (b"%d.%012d" % (units, rest)).rstrip(b"0").rstrip(b".") if rest else b"%d" % units
