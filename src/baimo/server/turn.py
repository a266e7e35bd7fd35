"""Requests of one connection take turns: what a request may do with its connection, and what it hears from it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol


class Shared(Protocol):
    """What all connections have in common."""

    standing: bytes
    """Header lines of every answer."""
    origins: frozenset[bytes]
    """Whose pages may call the model APIs."""


class Line(Protocol):
    """The client's connection, as the request whose turn it is sees it."""

    draining: bool
    """It closes after this answer."""
    loop: asyncio.AbstractEventLoop
    tasks: set[Any]
    """What must end before the process does."""

    @property
    def lanes(self) -> Shared: ...

    @property
    def body_limit(self) -> int:
        """Most bytes of a request's body."""
        ...

    def write(self, data: bytes) -> None: ...

    def later(self, write: Callable[[], None]) -> None:
        """Call it when everything that came with this pass of the event loop was looked at."""
        ...

    def push(self) -> None:
        """Everything that was written goes to the socket now: only then is it known whether the client keeps up."""
        ...

    def drained(self) -> Awaitable[None] | None:
        """None while the client keeps up, else wait for it."""
        ...

    def read(self, on: bool) -> None:
        """Back-pressure on a client that sends faster than it is listened to."""
        ...

    def ended(self, keep_alive: bool) -> None:
        """The answer is written."""
        ...

    def abort(self) -> None:
        """Break the connection; the turn itself is not told."""
        ...


class Turn(Protocol):
    """A request, as its connection sees it."""

    @property
    def started(self) -> bool:
        """The head of its answer was written."""
        ...

    def begin(self) -> None:
        """It is its turn."""
        ...

    def take(self, piece: bytes) -> bool:
        """Bytes of its body; False = it is too long."""
        ...

    def body_ended(self) -> None: ...

    def lost(self) -> None:
        """The client has gone."""
        ...
