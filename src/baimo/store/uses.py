"""What limits have used, derived from the lines of the ledger."""

from __future__ import annotations

import json
from typing import Any

from baimo.store.buckets import named
from baimo.store.lines import PLACE

_MASK, _CHARGES, _BEGAN = PLACE["limits"], PLACE["charges"], PLACE["began_ms"]
_KEY, _TENANT, _MODEL, _ASKED = PLACE["key"], PLACE["tenant"], PLACE["model"], PLACE["asked"]
_MICROS, _TOKENS = PLACE["charged_micros"], PLACE["charged_tokens"]
_REMEMBERED = 20_000


class Uses:
    """Sums up what lines were charged to the buckets that are asked for."""

    def __init__(self, used: dict[str, int]) -> None:
        """
        Args:
            used: the buckets that count; others are passed over.
        """
        self.used = used
        self._named: dict[tuple[Any, ...], tuple[tuple[str, int], ...]] = {}

    def add(self, line: tuple[Any, ...]) -> None:
        """Count one line's charges in."""
        mask = line[_MASK]
        if mask:
            # the shortest window is a minute: lines of one minute and owner share their buckets
            place = (mask, line[_BEGAN] // 60_000, line[_KEY], line[_TENANT], line[_MODEL], line[_ASKED])
            found = self._named.get(place)
            if found is None:
                if len(self._named) > _REMEMBERED:
                    self._named.clear()
                owners = (line[_KEY], line[_TENANT], line[_MODEL], line[_ASKED])
                every = named(mask, owners, line[_BEGAN])
                found = tuple((name, counts) for name, counts in every if name in self.used)
                self._named[place] = found
            for name, counts in found:
                self.used[name] += line[_MICROS] if counts == 2 else line[_TOKENS] if counts == 1 else 1
        if line[_CHARGES]:
            for name, amount in json.loads(line[_CHARGES]):
                if name in self.used:
                    self.used[name] += amount
