"""One call on its way through the gateway."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from baimo.core.model import Model
from baimo.core.record import Charge, Entry
from baimo.core.tenant import DataClass, Key, Tenant
from baimo.gateway.surface import Peek, Surface


class Reply(Protocol):
    """The client's side of a call. All methods return at once; after `gone` they do nothing."""

    @property
    def gone(self) -> bool:
        """The client has left."""
        ...

    @property
    def started(self) -> bool:
        """The head was sent: the status cannot change any more."""
        ...

    def whole(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """A complete answer, with content-length, in one write."""
        ...

    def start(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """The head of a stream (chunked, TCP_NODELAY)."""
        ...

    def write(self, piece: bytes) -> None: ...

    def end(self) -> None: ...

    def abort(self) -> None:
        """Break the connection: a stream that failed must not look complete."""
        ...

    def drained(self) -> Awaitable[None] | None:
        """None = write on; else wait for it: the client reads slower than the model writes."""
        ...


@dataclass(slots=True, kw_only=True)
class Call:
    """What a client wants."""

    surface: Surface
    body: bytes
    headers: Mapping[bytes, bytes]
    """Lower-case names; only those that matter here (content-type, x-baimo-*, idempotency-key, traceparent …)."""
    key: Key
    tenant: Tenant
    reply: Reply
    began: float
    """Monotonic seconds when its head was complete."""
    request_id: str
    """x-request-id, given or made; safe to print."""


class Choice(NamedTuple):
    """Which model, and why; then what to try next."""

    model: Model
    why: str
    """direct, alias, weighted, cheapest, latency, canary, fallback:<reason> …"""
    fallbacks: tuple[Model, ...] = ()
    fallback_on: frozenset[str] = frozenset()


@dataclass(slots=True, kw_only=True)
class Grant:
    """Who pays for an admitted call, and the most that it may cost."""

    entry: Entry
    """Its Record, open."""
    peek: Peek
    data_class: DataClass
    reserved: tuple[Charge, ...] = ()
    """Every limit that applies, with the most that the call may take of it."""
    queue_ms: float = 0.0
    notes: list[str] = field(default_factory=list[str])
    """What happened on the way, for the log and the trace."""
