"""What limits have used, derived from the lines of the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import date, timedelta
from typing import Any

from baimo.store.buckets import COUNTS, FIELDS, FOREVER_MS, WINDOWS, name_of, parsed
from baimo.store.lines import PLACE, charges_of

_LENGTHS_MS = {"minute": 60_000, "hour": 3_600_000, "day": 86_400_000, "total": 1 << 62}
_DAY_MS = _LENGTHS_MS["day"]
_MASK, _CHARGES, _BEGAN = PLACE["limits"], PLACE["charges"], PLACE["began_ms"]
_AMOUNTS = (-1, PLACE["charged_tokens"], PLACE["charged_micros"])
"""By place in COUNTS: where a line says how much; -1 = it counts as one."""


class Uses:
    """Sums up what lines were charged to the buckets that are asked for; a line costs a look-up for each limit."""

    def __init__(self, used: Mapping[str, int], now_ms: int = FOREVER_MS) -> None:
        """
        Args:
            used: the buckets that count, with what each begins with; others are passed over.
            now_ms: wall clock: of windows that run, `lacking` has the others, too.
        """
        self._now_ms = now_ms
        self.lacking: dict[str, int] = {}
        """Buckets of windows that run which lines were charged to and nobody asked for, and how much."""
        self._named = {name: [amount] for name, amount in used.items()}
        self._cells: dict[tuple[int, str, int], list[int]] = {}
        self._months: dict[int, int] = {}
        self._steps: dict[int, tuple[tuple[int, int, int, int, int], ...]] = {}
        for name, cell in self._named.items():
            bucket = parsed(name)
            if bucket.bit:
                length = _LENGTHS_MS.get(bucket.window, 0)
                window = bucket.begins_ms // length if length else self._month(bucket.begins_ms)
                self._cells[bucket.bit, bucket.name, window] = cell

    def add(self, line: tuple[Any, ...]) -> None:
        """Count one line's charges in."""
        mask = line[_MASK]
        if mask:
            began_ms = line[_BEGAN]
            for bit, owner, amount, length, running in self._steps.get(mask) or self._learnt(mask):
                window = began_ms // length if length else self._month(began_ms)
                cell = self._cells.get((bit, line[owner], window))
                if cell is not None:
                    cell[0] += 1 if amount < 0 else line[amount]
                elif window >= running:
                    self._lacks(name_of(bit, line[owner], began_ms), 1 if amount < 0 else line[amount])
        if line[_CHARGES]:
            for name, amount in charges_of(line[_CHARGES]):
                if name in self._named:
                    self._named[name][0] += amount
                else:
                    self._lacks(name, amount)

    @property
    def used(self) -> dict[str, int]:
        """What each bucket has used."""
        return {name: cell[0] for name, cell in self._named.items()}

    def _lacks(self, name: str, amount: int) -> None:
        with suppress(ValueError):  # no bucket
            if amount and parsed(name).ends_ms > self._now_ms:
                self.lacking[name] = self.lacking.get(name, 0) + amount

    def _month(self, moment_ms: int) -> int:
        """Months since the year 0."""
        day = moment_ms // _DAY_MS
        month = self._months.get(day)
        if month is None:
            on = date(1970, 1, 1) + timedelta(days=day)
            month = self._months[day] = on.year * 12 + on.month
        return month

    def _running(self, length: int) -> int:
        if self._now_ms >= FOREVER_MS:
            return FOREVER_MS
        return self._now_ms // length if length else self._month(self._now_ms)

    def _learnt(self, mask: int) -> tuple[tuple[int, int, int, int, int], ...]:
        """What each bit of a mask asks for: bit, column of the owner, column of the amount, length of the window,
        and the window that runs."""
        steps: list[tuple[int, int, int, int, int]] = []
        for place in range(mask.bit_length()):
            if mask >> place & 1:
                rest, window = divmod(place, len(WINDOWS))
                scope, counts = divmod(rest, len(COUNTS))
                length = _LENGTHS_MS.get(WINDOWS[window], 0)
                running = self._running(length)
                steps.append((1 << place, PLACE[FIELDS[scope]], _AMOUNTS[counts], length, running))
        self._steps[mask] = tuple(steps)
        return self._steps[mask]
