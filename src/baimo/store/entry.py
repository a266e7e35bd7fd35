"""A Record in the making.

Prevents the failure where accounting is the slow part: one is made and written for every call, so it is a struct whose
fields are the ledger's columns in the ledger's order, and becomes a line without a look at each of them.
"""

from __future__ import annotations

import msgspec


class Charge(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A share of one limit: reserved before the call at its most, charged after it as it was."""

    bucket: str
    """`scope:name:counts:window:start`, e.g. `key:ab12…:cost:month:2026-11`."""
    limit: int
    """The limit in force."""
    amount: int
    """Reserved: the most that the call may take. Charged: what it took (0 for concurrency)."""


class Entry(msgspec.Struct, kw_only=True, gc=False):
    """Flat and mutable, because the request path fills it in. Fields as in `Record`, in the order of `COLUMNS`."""

    id: str
    at_ms: int = 0
    surface: str
    model: str = ""
    model_used: str = ""
    run: str = ""
    tenant: str = ""
    key: str = ""
    status: str = "ok"
    tokens_in: int | None = None
    tokens_out: int | None = None
    tokens_cached: int | None = None
    tokens_reasoning: int | None = None
    estimated: int = 0
    """1 = yes; as the ledger has it."""
    cost_micros: int | None = None
    currency: str = "USD"
    latency_ms: float | None = None
    attempts: int = 0
    request_hash: str = ""
    config_hash: str = ""
    tags: str = "{}"
    """JSON."""
    began_ms: int = 0
    asked: str = ""
    route: str = ""
    http_status: int | None = None
    streamed: int = 0
    """1 = yes; as the ledger has it."""
    queue_ms: float | None = None
    first_byte_ms: float | None = None
    tokens_cache_write: int | None = None
    cost_rest: int | None = None
    price_in: int | None = None
    price_out: int | None = None
    price_cached: int | None = None
    price_cache_write: int | None = None
    price_call: int | None = None
    charged_micros: int = 0
    charged_tokens: int = 0
    unsure: int = 0
    conversation: str = ""
    limits: int = 0
    charges: str = ""
    content_hash: str = ""
    reserved: tuple[Charge, ...] = ()
    """What the limits reserved for it; charged in full if its process dies. Not part of the Record."""
    content: bytes | None = None
    """Prompt and answer, of tenants that opted in. Not part of the Record."""
