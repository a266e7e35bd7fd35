"""One Record per call that was made: the ledger's line, on every surface.

Prevents the failure of other ledgers: a call that cost money and left no line, or a line that says 0 where nobody
knew. Unknown is None. A Record is written twice: opened before anything is sent, closed however the call ended; a
call that was open when its process died is closed by the next one as `interrupted`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from baimo.core.call import Usage

INTERRUPTED = "gateway.interrupted"
"""Status of a call whose process died: what it cost is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What one call was, took and cost."""

    id: str
    """rec_… sortable by time."""
    at_ms: int
    """Wall clock when it was settled, milliseconds since 1970."""
    surface: str
    """Who asked: compare, judge, test, chat, messages, responses, embeddings …"""
    model: str
    """vendor/model that was asked."""
    model_used: str = ""
    """Model that the provider says it used."""
    run: str = ""
    """Run or batch that it belongs to."""
    tenant: str = ""
    """Tenant that pays; empty = the workspace's owner."""
    key: str = ""
    """Public part of the key that paid."""
    status: str = "ok"
    """ok, or the message key of the error."""
    usage: Usage = Usage()
    """Token counts."""
    cost_micros: int | None = None
    """Micro-units of `currency`, rounded half to even; None = unknown."""
    cost_rest: int | None = None
    """Millionths of a micro-unit that the rounding left (may be negative), so that sums are exact."""
    currency: str = "USD"
    """ISO 4217 code."""
    latency_ms: float | None = None
    """Wall time from admission to the last byte."""
    attempts: int = 1
    """How often it was sent; 0 = answered from the cache or never sent."""
    request_hash: str = ""
    """Digest of the request."""
    config_hash: str = ""
    """Hash of the settings in force."""
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    """Free labels."""
    began_ms: int | None = None
    """Wall clock of admission; limits are charged to the windows that it falls in."""
    asked: str = ""
    """Name that the client asked for: a model, an alias or a route."""
    route: str = ""
    """Why this model: direct, alias, weighted, fallback:<reason>, cheapest, latency, canary, cache …"""
    http_status: int | None = None
    """Status that the client got; 499 = it was gone before the end."""
    streamed: bool = False
    """The answer was a stream."""
    queue_ms: float | None = None
    """Waiting for limits before anything was sent."""
    first_byte_ms: float | None = None
    """From admission to the first byte of the answer's body."""
    price_in: int | None = None
    """Micro-units of `currency` per million prompt tokens that the cost was reckoned with."""
    price_out: int | None = None
    """Likewise, generated tokens."""
    price_cached: int | None = None
    """Likewise, prompt tokens read from the provider's cache."""
    price_cache_write: int | None = None
    """Likewise, prompt tokens written into it. Where some of them are kept for an hour, at a rate of its own, this is
    what all were written at on average, rounded half to even."""
    price_call: int | None = None
    """Micro-units per call, where a vendor bills calls."""
    charged_micros: int = 0
    """What budgets were charged, micro-units of money.currency: the cost, or the most it may have been."""
    charged_tokens: int = 0
    """What token limits were charged: the tokens, or the most there may have been."""
    unsure: int = 0
    """Attempts that may have been executed and billed although no usage came back."""
    conversation: str = ""
    """Keyed hash of the conversation's beginning: its turns share it."""
    content_hash: str = ""
    """SHA-256 of the prompt and answer that are kept with it, sealed; empty = none are. Outlives them."""
    limits: int = 0
    """Which limits it was charged to: one bit for each kind of limit (`Bucket.bit`)."""
    charges: str = ""
    """JSON [[bucket, amount], …] of the charges that cannot be told from `limits` and the fields above."""


def linked(previous: bytes, line: bytes) -> bytes:
    """The hash that chains a ledger line to all lines before it: SHA-256 of the previous hash and this line.

    Args:
        previous: hash of the line before, 32 bytes; zeros before the first.
        line: canonical bytes of the Record.
    """
    return hashlib.sha256(previous + line).digest()
