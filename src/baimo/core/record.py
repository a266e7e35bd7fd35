"""One Record per call that was made: the ledger's line, on every surface.

Prevents the failure of other ledgers: a call that cost money and left no line, or a line that says 0 where nobody
knew. Unknown is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from baimo.core.call import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What one call was, took and cost."""

    id: str
    """rec_… sortable by time."""
    at_ms: int
    """Wall clock when it was settled, milliseconds since 1970."""
    surface: str
    """Who asked: compare, judge, test, chat …"""
    model: str
    """vendor/model that was asked."""
    model_used: str = ""
    """Model that the provider says it used."""
    run: str = ""
    """Run that it belongs to."""
    tenant: str = ""
    """Tenant that pays; empty = the workspace's owner."""
    key: str = ""
    """Public part of the key that paid."""
    status: str = "ok"
    """ok, or the message key of the error."""
    usage: Usage = Usage()
    """Token counts."""
    cost_micros: int | None = None
    """Micro-units of `currency`; None = unknown."""
    currency: str = "USD"
    """ISO 4217 code."""
    latency_ms: float | None = None
    """Wall time."""
    attempts: int = 1
    """How often it was sent."""
    request_hash: str = ""
    """Digest of the request."""
    config_hash: str = ""
    """Hash of the settings in force."""
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    """Free labels."""
