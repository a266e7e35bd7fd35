"""Room for work that can wait: beside the calls for whose answers somebody waits, never before them.

Prevents the failure of a nightly batch that makes everybody's chat slow: a model of this machine answers a batch only
while nobody else wants it, and a vendor's server gets a share of the connections that it was given.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from baimo.core.waiting import happened

LOOK_S = 0.05
"""How often it is looked whether somebody still waits."""


class Room(NamedTuple):
    """What a vendor's models may be given."""

    concurrency: int
    """Calls at once, of everybody."""
    share: int
    """Of these, what can wait may take so many; at least 1."""
    idle_only: bool
    """Nothing is begun while somebody waits for an answer of this vendor."""


class Gate:
    """Who may begin. Belongs to one event loop."""

    def __init__(self, waited_for: Mapping[str, int], room: Callable[[str], Room]) -> None:
        """
        Args:
            waited_for: calls in flight for whose answers somebody waits, by vendor; `Gateway.waited_for`.
            room: of a vendor.
        """
        self._waited_for = waited_for
        self._room = room
        self._taken: Counter[str] = Counter()
        self._news = asyncio.Event()

    async def enter(self, vendors: Collection[str], halted: Callable[[], bool]) -> bool:
        """Wait until a call to one of these vendors may begin; False = `halted` first.

        Args:
            vendors: of all models that may be asked; there must be room at each.
            halted: whether nothing is to be begun any more; looked at whenever `nudge` is called.
        """
        while not halted():
            if all(self._free(vendor) for vendor in vendors):
                self._taken.update(vendors)
                return True
            await happened(self._news, LOOK_S)
        return False

    def leave(self, vendors: Collection[str]) -> None:
        """The call has ended."""
        self._taken.subtract(vendors)
        self.nudge()

    def nudge(self) -> None:
        """Whoever waits looks again."""
        self._news.set()
        self._news = asyncio.Event()

    def _free(self, vendor: str) -> bool:
        room, others, mine = self._room(vendor), self._waited_for.get(vendor, 0), self._taken[vendor]
        if room.idle_only and others:
            return False
        return mine < room.share and mine + others < room.concurrency
