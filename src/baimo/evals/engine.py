"""The decision engine: what to ask next, and when the answer is certain.

A caller asks `propose()` for a batch, buys those answers, enters them with `observe()` in the proposed order, and goes
on until `done`. Everything is a function of the seed and of what was observed, in that order, so a run that was killed
resumes where it stopped when its answers are entered again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from baimo.evals.board import Board, Cell, Floats, Question, Rule, Standing


class Engine:
    """Find the candidate that is best within epsilon, wrong with probability at most delta, for the least money."""

    def __init__(
        self,
        *,
        candidates: int,
        examples: int,
        epsilon: float = 0.01,
        delta: float = 0.05,
        assurance: Literal["calibrated", "guaranteed"] = "calibrated",
        decision: Literal["best", "cheapest"] = "best",
        target: Literal["set", "population"] = "set",
        cost: Sequence[float] | Floats | None = None,
        groups: Sequence[int] | NDArray[np.int64] | None = None,
        seed: int = 0,
    ) -> None:
        """`cost` [N] is the expected money per call in any unit, None = count calls; `groups` [M] names clusters."""
        question = Question(epsilon=epsilon, delta=delta, decision=decision, target=target)
        self.board = Board(candidates, examples, cost=cost, groups=groups, seed=seed)
        self.rule = rule_for(assurance, question)
        self._standing: tuple[int, Standing] | None = None
        self._dry = False

    def propose(self, limit: int = 64) -> list[Cell]:
        """The cells to buy next, at most `limit`, none proposed before; [] when done or when all are in flight."""
        cells = self.rule.propose(self.board, limit)
        self._dry = not cells and not self.board.in_flight
        return cells

    def observe(self, cell: Cell, score: float | None, cost: float | None = None) -> None:
        """Enter one answer: its score in [0, 1], or None when it could not be scored, and the money that it cost."""
        self._dry = False
        self.board.observe(cell, score, cost)

    def standing(self) -> Standing:
        """The verdict so far; computed once per state of the board."""
        if self._standing is None or self._standing[0] != self.board.version:
            self._standing = (self.board.version, self.rule.standing(self.board))
        return self._standing[1]

    @property
    def done(self) -> bool:
        """Whether there is nothing left to buy for."""
        return self.reason is not None

    @property
    def reason(self) -> Literal["certain", "exhausted"] | None:
        """Why it is done; None while it is not. "exhausted" = everything that could help was bought."""
        if self.board.exhausted:
            return "exhausted"
        if self.rule.certain(self.board):
            return "certain"
        return "exhausted" if self._dry else None


def rule_for(assurance: Literal["calibrated", "guaranteed"], question: Question) -> Rule:
    """The rule behind one word of the command line."""
    if assurance == "guaranteed":
        from baimo.evals import guaranteed

        return guaranteed.Rule(question)
    from baimo.evals import calibrated

    return calibrated.Rule(question)
