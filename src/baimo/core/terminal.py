"""Where long work is told of: drawn on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO

PLAIN_EVERY_S = 10.0
"""Seconds between two plain lines."""


class Telling:
    """A stream, and when it is to be told again.

    Args:
        stream: where to; stderr, because stdout is for data.
        clock: seconds, monotonic.
        environment: variables that decide on colour: TERM, NO_COLOR.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.stream = sys.stderr if stream is None else stream
        dumb = environment.get("TERM", "") in ("dumb", "unknown") or bool(environment.get("NO_COLOR"))
        self.plain = dumb or not self.stream.isatty()
        """A pipe, a dumb terminal or one without colour: nothing may be drawn."""
        self._clock = clock
        self._told_at = -PLAIN_EVERY_S

    def due(self, every_s: float = PLAIN_EVERY_S, *, last: bool = False) -> bool:
        """Whether it was not told for so long, or this is the `last` time; then it counts as told now."""
        now = self._clock()
        if not last and now - self._told_at < every_s:
            return False
        self._told_at = now
        return True
