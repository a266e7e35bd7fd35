"""Ids of Records, made quickly: `rec_` and 20 characters that sort by time, as `core.ids.sortable_id` makes them."""

from __future__ import annotations

import random

from baimo.core.ids import base32


class RecordIds:
    """Ids of one process."""

    __slots__ = ("_bits", "_prefix", "_since")

    _PAIRS = tuple(base32(number, 2) for number in range(1024))

    def __init__(self, seed: int) -> None:
        """
        Args:
            seed: from the system's own entropy: two processes may make ids in the same millisecond.
        """
        self._bits = random.Random(seed).getrandbits
        self._since = -1
        self._prefix = ""

    def next(self, now_ms: int) -> str:
        """An id that no other Record has: 50 random bits for each millisecond."""
        since = now_ms >> 10
        if since != self._since:  # about once a second
            self._since = since
            self._prefix = f"rec_{base32(since, 8)}"
        bits, pairs = self._bits(50), self._PAIRS
        return (
            f"{self._prefix}{pairs[now_ms & 1023]}{pairs[bits >> 40]}{pairs[bits >> 30 & 1023]}"
            f"{pairs[bits >> 20 & 1023]}{pairs[bits >> 10 & 1023]}{pairs[bits & 1023]}"
        )
