"""The decision engine as a run uses it: candidates may leave, and an exhaustive run asks everything.

A candidate that leaves (no key, constant replies under a judge) must not influence the decision any more, so the
engine is built anew without it and told everything that was observed of the others, in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np

from baimo.evals.board import Cell, Floats, Standing
from baimo.evals.engine import Engine


class _Seen(NamedTuple):
    cell: Cell
    score: float | None
    cost: float | None


class Contest:
    """N candidates on M examples; indices stay those of the first day, whoever leaves."""

    def __init__(
        self,
        *,
        candidates: int,
        examples: int,
        cost: Sequence[float] | None,
        exhaustive: bool = False,
        **question: Any,
    ) -> None:
        """`question` is what `Engine` takes: epsilon, delta, assurance, decision, target, groups, seed."""
        self.candidates = candidates
        self.examples = examples
        self.present = list(range(candidates))
        # a single candidate is there to be measured: who wins is known before the first call
        self._exhaustive = exhaustive or candidates == 1
        self._cost = cost
        self._question = question
        self._seen: list[_Seen] = []
        self._engine = self._made()

    def propose(self, limit: int) -> list[Cell]:
        """The cells to buy next; [] when nothing is left to decide or to ask."""
        cells = self._next_columns(limit) if self._exhaustive else self._engine.propose(limit)
        return [Cell(self.present[cell.candidate], cell.example) for cell in cells]

    def observe(self, cell: Cell, score: float | None, cost: float | None) -> None:
        """Enter one answer; a candidate that has left is not heard."""
        if cell.candidate in self.present:
            self._seen.append(_Seen(cell, score, cost))
            self._engine.observe(Cell(self.present.index(cell.candidate), cell.example), score, cost)

    def withdraw(self, candidate: int) -> None:
        """Decide without this candidate from now on."""
        self.present.remove(candidate)
        if not self.present:
            return
        self._engine = self._made()
        self._seen = [seen for seen in self._seen if seen.cell.candidate != candidate]
        place = {original: index for index, original in enumerate(self.present)}
        for cell, score, cost in self._seen:
            self._engine.observe(Cell(place[cell.candidate], cell.example), score, cost)

    @property
    def reason(self) -> Literal["certain", "exhausted"] | None:
        """Why there is nothing left to buy; None while there is."""
        if not self.present:
            return "exhausted"
        if self._exhaustive:
            return "exhausted" if self._engine.board.exhausted else None
        return self._engine.reason

    def standing(self) -> Standing | None:
        """The engine's standing with the first day's indices; those who left have no figures. None = all left."""
        if not self.present:
            return None
        inner = self._engine.standing()
        return replace(
            inner,
            leader=self.present[inner.leader],
            mean=self._spread(inner.mean, np.nan),
            low=self._spread(inner.low, 0.0),
            high=self._spread(inner.high, 1.0),
            tiers=tuple(tuple(self.present[i] for i in tier) for tier in inner.tiers),
            alive=tuple(self.present[i] for i in inner.alive),
        )

    def _made(self) -> Engine:
        cost = None if self._cost is None else [self._cost[i] for i in self.present]
        return Engine(candidates=len(self.present), examples=self.examples, cost=cost, **self._question)

    def _spread(self, values: Floats, absent: float) -> Floats:
        spread = np.full(self.candidates, absent)
        spread[self.present] = values
        return spread

    def _next_columns(self, limit: int) -> list[Cell]:
        """Everybody on the next examples of the shared order."""
        board, cells = self._engine.board, list[Cell]()
        while len(cells) < limit and not board.taken.all():
            place = int(board.frontier.min())
            for candidate in np.flatnonzero(~board.taken[:, place])[: limit - len(cells)]:
                cells += board.take(int(candidate), np.array([place]))
        return cells
