"""The client's side of a call that this process makes itself: a line of a batch, a question's embedding, a try-out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from baimo.gateway.answers import by_name
from baimo.gateway.call import Reply


class Collected:
    """The whole answer of one call; fits `Reply`."""

    def __init__(self, client: Reply | None = None) -> None:
        """
        Args:
            client: who waits for what becomes of the answer.
        """
        self._client = client
        self.started = False
        self.status = 0
        self.retry_after_s: float | None = None
        self.body = b""
        self.told: Callable[[Collected], None] | None = None
        """Called within `whole`, so that nothing can happen between the Record and what is done with the answer."""

    @property
    def gone(self) -> bool:
        """The client has left."""
        return self._client is not None and self._client.gone

    def whole(self, status: int, head: bytes, body: bytes) -> None:
        self.started = True
        self.status, self.body = status, body
        patience = by_name(head).get(b"retry-after", b"")
        if patience.isdigit():
            self.retry_after_s = float(patience)
        if self.told is not None:
            self.told(self)

    def start(self, status: int, head: bytes) -> None:
        self.started = True
        self.status = status

    def write(self, piece: bytes) -> None:
        self.body += piece

    def end(self) -> None:
        self.whole(self.status, b"", self.body)

    def abort(self) -> None:
        self.whole(502, b"", b"")

    def drained(self) -> Awaitable[None] | None:
        return None
