"""Whoever wants to know what the gateway does: metrics, traces, logs. Called on the request path: it must be quick."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from baimo.core.tenant import Key, Tenant
from baimo.errors import BaimoError
from baimo.gateway.breaker import State
from baimo.gateway.call import Call, Grant
from baimo.store.entry import Entry


class Asked(Protocol):
    """A request of which there may be no call: `Call` is one."""

    @property
    def headers(self) -> Mapping[bytes, bytes]: ...

    @property
    def request_id(self) -> str: ...

    @property
    def began(self) -> float:
        """Monotonic seconds."""
        ...


class Observer(Protocol):
    """Is told of everything that happens to calls. What it raises is not caught."""

    def admitted(self, call: Call, grant: Grant) -> None:
        """Reserved and opened; nothing was sent yet."""
        ...

    def settled(self, call: Call, grant: Grant, entry: Entry, overhead_s: float) -> None:
        """The Record is closed.

        Args:
            call: with its headers (traceparent) and reply.
            grant: with its choice and notes.
            entry: the Record; cost_micros or tokens None = unknown, and worth a count.
            overhead_s: seconds that the gateway itself took: neither the model nor the wait for limits.
        """
        ...

    def refused(self, error: BaimoError, surface: str, key: Key, tenant: Tenant, asked: Asked) -> None:
        """A call was not let in; there is no Record.

        Args:
            error: why.
            surface: what it wanted.
            key: whose; without public part where that was not made out.
            tenant: likewise.
            asked: what is known of the request.
        """
        ...

    def attempt_failed(self, grant: Grant, model: str, error: BaimoError, kind: str, unsure: int) -> None:
        """One attempt gave nothing; `kind` as in `fallback_on`."""
        ...

    def breaker(self, model: str, state: State) -> None:
        """A model's server is left alone, tried, or back."""
        ...


class Silent:
    """An observer that looks away."""

    def admitted(self, call: Call, grant: Grant) -> None: ...

    def settled(self, call: Call, grant: Grant, entry: Entry, overhead_s: float) -> None: ...

    def refused(self, error: BaimoError, surface: str, key: Key, tenant: Tenant, asked: Asked) -> None: ...

    def attempt_failed(self, grant: Grant, model: str, error: BaimoError, kind: str, unsure: int) -> None: ...

    def breaker(self, model: str, state: State) -> None: ...
