"""A circuit breaker per model: a server that only fails is left alone for a while, then tried by one call.

Prevents two failures: every client waiting for the time-out of a server that is down, and a server that has just come
back being run over by everybody at once.
Source: M. Nygard, "Release It!", 2nd ed. 2018, chapter 5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

State = Literal["closed", "open", "half_open"]


class Breaker:
    """Counts failures in a row. Closed: calls pass. Open: none does. Half open: one is on its way to try."""

    __slots__ = (
        "_failures",
        "_now",
        "_told",
        "name",
        "open_until",
        "probe_until",
        "rest_s",
        "state",
        "tolerated",
    )

    def __init__(
        self,
        name: str,
        *,
        failures: int,
        rest_s: float,
        now: Callable[[], float],
        told: Callable[[str, State], None] | None = None,
    ) -> None:
        """
        Args:
            name: of the model whose server it is.
            failures: how many in a row open it.
            rest_s: for how long, seconds.
            now: seconds on a clock that never goes back.
            told: is told of every change of state.
        """
        self.name = name
        self.tolerated = failures
        self.rest_s = rest_s
        self.state: State = "closed"
        self.open_until = 0.0
        self.probe_until = 0.0
        self._failures = 0
        self._now = now
        self._told = told

    def allows(self) -> bool:
        """Whether a call may go now. In the half-open state the one that is told so is the probe."""
        if self.state == "closed":
            return True
        now = self._now()
        if self.state == "open" and now >= self.open_until:
            self._becomes("half_open")
        elif self.state == "open" or now < self.probe_until:
            return False
        # a probe that never reports (its process hangs, its call was given up) does not close the road for ever
        self.probe_until = now + self.rest_s
        return True

    def ready(self) -> bool:
        """Whether a call could go now; takes no probe."""
        if self.state == "closed":
            return True
        return self._now() >= (self.open_until if self.state == "open" else self.probe_until)

    @property
    def rest(self) -> float:
        """Seconds until the next call may try; 0 = now."""
        until = self.open_until if self.state == "open" else self.probe_until
        return 0.0 if self.state == "closed" else max(0.0, until - self._now())

    def succeeded(self) -> None:
        """The server answered, with whatever: it lives."""
        self._failures = 0
        if self.state != "closed":
            self._becomes("closed")

    def failed(self) -> None:
        """No connection, no answer in time, 5xx, or an answer that broke off."""
        self._failures += 1
        if self.state == "half_open" or (self.state == "closed" and self._failures >= self.tolerated):
            self.open_until = self._now() + self.rest_s
            self._becomes("open")

    def gave_up(self) -> None:
        """A call ended without saying anything about the server: its client left, or it lost a race."""
        if self.state == "half_open":
            self.probe_until = 0.0

    def _becomes(self, state: State) -> None:
        self.state = state
        if self._told is not None:
            self._told(self.name, state)
