"""One call on its way through the gateway."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Protocol

import msgspec

from baimo.core.model import Model
from baimo.core.tenant import DataClass, Key, Tenant
from baimo.gateway.bound import NOTHING, Bound
from baimo.gateway.surface import Peek, Surface
from baimo.store.entry import Charge, Entry

if TYPE_CHECKING:
    from baimo.gateway.cache import LookedUp
    from baimo.gateway.terms import Terms


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

    def whole(self, status: int, head: bytes, body: bytes) -> None:
        """A complete answer, with content-length, in one write; `head` is made by `answers.lines`."""
        ...

    def start(self, status: int, head: bytes) -> None:
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


class Call(msgspec.Struct, kw_only=True):
    """What a client wants."""

    surface: Surface
    body: bytes
    headers: Mapping[bytes, bytes]
    """Lower-case names; only those that matter here (content-type, x-baimo-*, traceparent …)."""
    key: Key
    tenant: Tenant
    reply: Reply
    began: float
    """Monotonic seconds when its head was complete."""
    request_id: str
    """x-request-id, given or made; safe to print."""
    batch: str = ""
    """Batch that it is a line of: `Record.run`; its price is the batch price. Empty = somebody waits for the answer."""
    run: str = ""
    """Evaluation that it belongs to: `Record.run`, and nobody waits for the answer; its price is the usual one."""
    recorded_as: str = ""
    """`Record.surface` where it is another name than the surface's own: evals."""

    @property
    def waits(self) -> bool:
        """Whether somebody waits for the answer."""
        return not self.batch and not self.run


class Choice(msgspec.Struct, frozen=True):
    """Which model, and why; then what to try next."""

    model: Model
    why: str
    """direct, alias, weighted, cheapest, latency, canary, fallback:<reason> …"""
    fallbacks: tuple[Model, ...] = ()
    fallback_on: frozenset[str] = frozenset()
    route: str = ""
    """Name of the route that was asked for; empty = the model was asked for by its own name."""
    hedge_after_ms: float | None = None
    """Also ask the next model when nothing came back by then."""


class Grant(msgspec.Struct, kw_only=True):
    """Who pays for an admitted call, and the most that it may cost."""

    entry: Entry
    """Its Record, open."""
    peek: Peek
    data_class: DataClass
    choice: Choice
    terms: Terms
    """Of the model that is being asked."""
    bound: Bound
    """The most that the attempt may take."""
    deadline: float
    """Monotonic seconds after which it is given up."""
    looked_up: LookedUp
    """What the cache had, and where the answer goes."""
    reserved: tuple[Charge, ...] = ()
    """Every limit that applies, with the most that the call may take of it."""
    lost: Bound = NOTHING
    """The most that attempts may have taken of which no usage came back."""
    began: float = 0.0
    """Monotonic seconds of admission."""
    queue_s: float = 0.0
    """Waited for limits."""
    model_s: float = 0.0
    """Waited for models."""
    out: bool = False
    """An attempt may be under way at a model's server, or have been answered: it is not counted yet."""
    closed: bool = False
    """Its Record is closed."""
    overhead_s: float = 0.0
    """Seconds that the gateway itself took until the answer's head."""
    kept: list[bytes] | None = None
    """What the client gets of a stream, where it is kept; None = it is not."""
    notes: list[str] = []
    """What happened on the way, for the log and the trace."""
