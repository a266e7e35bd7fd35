"""Ids of Records, made quickly: `rec_` and 20 characters that sort by time, as `core.ids.sortable_id` makes them."""

from __future__ import annotations

import random

from baimo.core.ids import base32


class RecordIds:
    """Ids of one process."""

    __slots__ = ("_bits", "_now_ms", "_number", "_second", "_since", "_stem")

    _PAIRS = tuple(base32(number, 2) for number in range(1024))

    def __init__(self, seed: int) -> None:
        """
        Args:
            seed: from the system's own entropy: two processes may make ids in the same millisecond.
        """
        self._bits = random.Random(seed).getrandbits
        self._now_ms = self._since = -1
        self._number = 0
        self._second = self._stem = ""

    def next(self, now_ms: int) -> str:
        """An id that no other Record has: 50 random bits for each millisecond, counted on within it."""
        number, pairs = self._number + 1 & 1023, self._PAIRS
        if now_ms != self._now_ms or not number:
            self._now_ms = now_ms
            since = now_ms >> 10
            if since != self._since:  # about once a second
                self._since, self._second = since, f"rec_{base32(since, 8)}"
            bits = self._bits(50)
            number = bits & 1023
            self._stem = (
                f"{self._second}{pairs[now_ms & 1023]}{pairs[bits >> 40]}{pairs[bits >> 30 & 1023]}"
                f"{pairs[bits >> 20 & 1023]}{pairs[bits >> 10 & 1023]}"
            )
        self._number = number
        return self._stem + pairs[number]
