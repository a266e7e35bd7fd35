"""Paired differences along the walk: how far one candidate is ahead of others on their common scored examples.

Prevents comparing on different examples: a difference counts only where both were scored, now and in every sum of the
past, also for candidates that rested for a while.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baimo.evals.board import Board, Floats

Rows = NDArray[np.int64]


class Gap(NamedTuple):
    """Differences rival - row over some examples; both fields have shape [R]."""

    total: Floats
    """Sum of the differences."""
    common: Floats
    """Examples on which both have a score."""


class Duel(NamedTuple):
    """One rival against some rows."""

    now: Gap
    """In one block of examples."""
    before: Gap
    """In all blocks before it."""


class Leads:
    """How far one rival is ahead of every candidate, up to the block that each candidate reached with it."""

    def __init__(self, count: int) -> None:
        self.total, self.common = np.zeros(count), np.zeros(count)
        self.place = np.zeros(count, np.int64)


class Duels:
    """All duels of one board; sums are carried on block by block, or taken afresh where they fell behind."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self._leads: dict[int, Leads] = {}

    def lead(self, rival: int, rows: Rows, block: int) -> Gap:
        """The gap over all blocks before this one."""
        leads = self._leads.setdefault(rival, Leads(self.board.candidates))
        stale = rows[leads.place[rows] != block]
        if stale.size:
            leads.total[stale], leads.common[stale] = self._gap(
                rival, stale, 0, int(self.board.starts[block])
            )
            leads.place[stale] = block
        return Gap(leads.total[rows], leads.common[rows])

    def duel(self, rival: int, rows: Rows, block: int) -> Duel:
        """The gap in this block, and that over all blocks before."""
        before = self.lead(rival, rows, block)
        now = self._gap(rival, rows, int(self.board.starts[block]), int(self.board.starts[block + 1]))
        leads = self._leads[rival]
        leads.total[rows], leads.common[rows] = before.total + now.total, before.common + now.common
        leads.place[rows] = block + 1
        return Duel(now, before)

    def _gap(self, rival: int, rows: Rows, start: int, end: int) -> Gap:
        gain = self.board.scores[rival, start:end].astype(np.float64) - self.board.scores[rows, start:end]
        common = ~np.isnan(gain)
        return Gap(np.where(common, gain, 0.0).sum(axis=1), common.sum(axis=1).astype(float))


def blend(duels: list[Duel], weights: list[float]) -> Duel:
    """The weighted mean of several rivals' duels: one opponent made of many."""
    if len(duels) == 1:
        return duels[0]
    pairs = list(zip(duels, weights, strict=True))
    now = Gap(sum_of([w * d.now.total for d, w in pairs]), sum_of([w * d.now.common for d, w in pairs]))
    before = Gap(
        sum_of([w * d.before.total for d, w in pairs]), sum_of([w * d.before.common for d, w in pairs])
    )
    return Duel(now, before)


def sum_of(parts: list[Floats]) -> Floats:
    """Elementwise; cheaper than stacking a few short arrays."""
    return sum(parts[1:], parts[0])
