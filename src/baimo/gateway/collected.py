"""The client's side of a call that this process makes itself: a line of a batch, a question's embedding, a try-out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence


class Collected:
    """The whole answer of one call; fits `Reply`."""

    def __init__(self) -> None:
        self.gone = False
        self.started = False
        self.status = 0
        self.retry_after_s: float | None = None
        self.body = b""
        self.told: Callable[[Collected], None] | None = None
        """Called within `whole`, so that nothing can happen between the Record and what is done with the answer."""

    def whole(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        self.started = True
        self.status, self.body = status, body
        for name, value in headers:
            if name == b"retry-after" and value.isdigit():
                self.retry_after_s = float(value)
        if self.told is not None:
            self.told(self)

    def start(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self.started = True
        self.status = status

    def write(self, piece: bytes) -> None:
        self.body += piece

    def end(self) -> None:
        self.whole(self.status, (), self.body)

    def abort(self) -> None:
        self.whole(502, (), b"")

    def drained(self) -> Awaitable[None] | None:
        return None
