"""What is known so far: the scores that were paid for, in one shared random order of examples.

Prevents the two mistakes that make comparisons of models expensive or wrong: comparing two candidates on different
examples (the spread between examples then swamps the difference), and counting a failed call as a score of 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SIGNED = np.array([False, True, False, False, False, False, True, False])
"""Which of the sums in `Pairs` change sign when candidate and reference change places."""


class Cell(NamedTuple):
    """One answer to buy: a candidate and the index of an example in the task (not its place in the order)."""

    candidate: int
    example: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is being decided, and how surely."""

    epsilon: float = 0.01
    """Score difference that does not matter: any candidate within it of the best is a right answer."""
    delta: float = 0.05
    """Accepted probability of a wrong answer."""
    decision: Literal["best", "cheapest"] = "best"
    """"best" = the best candidate; "cheapest" = the cheapest one within epsilon of the best."""
    target: Literal["set", "population"] = "set"
    """Means over exactly these examples, or over the population that they were drawn from."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Paired differences candidate - reference on the examples that both were scored on; every field has shape [N]."""

    count: Floats
    """Examples in common."""
    total: Floats
    """Sum of the differences."""
    square: Floats
    """Sum of the squared differences."""
    absolute: Floats
    """Sum of the absolute differences; equals `square` where scores are 0 or 1."""
    base: Floats
    """Sum of the reference's scores on the examples in common."""
    cluster_square: Floats
    """Sum over clusters of (sum of differences in the cluster) squared; equals `square` without clusters."""
    cluster_cross: Floats
    """Sum over clusters of (sum of differences) x (examples in common); equals `total` without clusters."""
    cluster_size: Floats
    """Sum over clusters of (examples in common) squared; equals `count` without clusters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The verdict as far as the evidence goes."""

    leader: int
    """The candidate that would be chosen now."""
    certain: bool
    """Whether the leader may be announced: wrong with probability at most delta."""
    error_bound: float
    """Probability that the leader is the wrong answer, or the level that the guarantee has reached."""
    mean: Floats
    """Estimated mean score of each candidate, shape [N]; NaN where nothing is known."""
    low: Floats
    """Lower ends of the score intervals, simultaneous over candidates at 1 - delta, shape [N]."""
    high: Floats
    """Upper ends of the same."""
    tiers: tuple[tuple[int, ...], ...]
    """Tier 1 cannot be separated from the leader by the evidence at hand; then the next tiers, best first.

    Who was never scored is in none."""
    alive: tuple[int, ...]
    """Candidates that are still in question."""
    calls_left: float
    """Forecast of the calls still needed until certain."""

    def __post_init__(self) -> None:
        """Figures of NumPy become Python's: what a rule says is stored, and stored things have a canonical form."""
        for name, kind in (("leader", int), ("certain", bool), ("error_bound", float), ("calls_left", float)):
            object.__setattr__(self, name, kind(getattr(self, name)))


class Rule(Protocol):
    """Decides what to buy next and what may be said; stateless but for caches, so that it can be replayed."""

    def propose(self, board: Board, limit: int) -> list[Cell]:
        """Up to `limit` cells that were not taken yet; [] when nothing would help."""
        ...

    def certain(self, board: Board) -> bool:
        """Whether the leader may be announced; cheaper than the whole standing."""
        ...

    def standing(self, board: Board) -> Standing: ...


class Board:
    """N candidates by M examples, filled cell by cell.

    `scores` is float32 [N, M] with columns in the shared order: column p is example `order[p]`; NaN = not seen or
    unscored. `taken` marks the cells that were proposed or observed, `seen` those observed (unscored ones too);
    `in_flight` counts those proposed only. `calls`, `count`, `total` and `square` have shape [N]: answers, scored
    ones, sum of their scores, sum of squared scores.
    """

    def __init__(
        self,
        candidates: int,
        examples: int,
        *,
        cost: Sequence[float] | Floats | None = None,
        groups: Sequence[int] | NDArray[np.int64] | None = None,
        seed: int = 0,
    ) -> None:
        self.candidates = candidates
        self.examples = examples
        self.order, self.starts = shared_order(examples, groups, seed)
        self.position = np.empty(examples, np.int64)
        self.position[self.order] = np.arange(examples)
        self.cluster = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        self.clustered = len(self.starts) - 1 < examples
        # columns are stored as rows: one observation reads all candidates on one example
        self._columns = np.full((examples, candidates), np.nan, np.float32)
        self.scores = self._columns.T
        self.seen = np.zeros((examples, candidates), bool).T
        self.taken = np.zeros((examples, candidates), bool).T
        self.frontier = np.zeros(candidates, np.int64)
        self.count = np.zeros(candidates)
        self.total = np.zeros(candidates)
        self.square = np.zeros(candidates)
        self.calls = np.zeros(candidates, np.int64)
        self.version = 0
        self.in_flight = 0
        # [k, :, i] holds the sums of i - k, see Pairs
        self._pairs = np.zeros((candidates, 8 if self.clustered else 5, candidates))
        self._priced = cost is not None
        self._expected = np.ones(candidates) if cost is None else np.asarray(cost, float).copy()
        self._spent = np.zeros(candidates)
        self._paid = np.zeros(candidates)

    @property
    def cost(self) -> Floats:
        """Expected money per call of each candidate, shape [N]: what was announced, corrected by what was paid.

        The announced price weighs as much as five paid calls. Free candidates are given a thousandth of the dearest
        one's price: their answers cost time, too.
        """
        expected = (5.0 * self._expected + self._spent) / (5.0 + self._paid)
        top = float(expected.max(initial=0.0))
        return np.maximum(expected, top / 1000.0) if top > 0 else np.ones(self.candidates)

    @property
    def exhausted(self) -> bool:
        """Whether every cell was observed."""
        return bool((self.calls >= self.examples).all())

    def untaken(self, candidate: int, limit: int) -> NDArray[np.int64]:
        """The next positions of the order that this candidate was not asked yet, at most `limit` of them."""
        start = int(self.frontier[candidate])
        column = self.taken[candidate]
        if not column[start : start + limit].any():
            return np.arange(start, min(start + limit, self.examples))
        return start + np.flatnonzero(~column[start:])[:limit]

    def take(self, candidate: int, positions: NDArray[np.int64]) -> list[Cell]:
        """Mark these positions as proposed and name their cells."""
        self.taken[candidate, positions] = True
        self.in_flight += len(positions)
        self._advance(candidate)
        return [Cell(candidate, int(example)) for example in self.order[positions]]

    def observe(self, cell: Cell, score: float | None, cost: float | None = None) -> None:
        """Enter one answer; None = unscored. A second answer for one cell is ignored, whichever order they arrive in.

        Raises ValueError for a score outside [0, 1].
        """
        candidate, place = cell.candidate, int(self.position[cell.example])
        if score is not None and not 0.0 <= score <= 1.0:
            raise ValueError(f"score {score} of cell {cell} is outside [0, 1]")
        if self.seen[candidate, place]:
            return
        self.in_flight -= int(self.taken[candidate, place])
        self.seen[candidate, place] = self.taken[candidate, place] = True
        self._advance(candidate)
        self.calls[candidate] += 1
        self.version += 1
        if cost is not None and self._priced:
            self._spent[candidate] += cost
            self._paid[candidate] += 1
        if score is not None:
            self._score(candidate, place, float(np.float32(score)))

    def pairs(self, reference: int) -> Pairs:
        """Every candidate against the reference; views on running sums, so constant time."""
        sums = self._pairs[reference]
        rows = (0, 1, 2, 3, 4, 5, 6, 7) if self.clustered else (0, 1, 2, 3, 4, 2, 1, 0)
        return Pairs(*(sums[row] for row in rows))

    def _advance(self, candidate: int) -> None:
        column, place = self.taken[candidate], int(self.frontier[candidate])
        while place < self.examples and column[place]:
            place += 1
        self.frontier[candidate] = place

    def _score(self, candidate: int, place: int, score: float) -> None:
        self.count[candidate] += 1
        self.total[candidate] += score
        self.square[candidate] += score * score
        before = self._cluster_sums(candidate, place) if self.clustered else None
        self._columns[place, candidate] = score
        column = self._columns[place].astype(np.float64)
        common = column == column  # not NaN
        common[candidate] = False
        gain = np.where(common, column - score, 0.0)  # of the others over this candidate
        sums = np.empty((self._pairs.shape[1], self.candidates))
        sums[:5] = common, gain, gain * gain, np.abs(gain), common * score
        if before is not None:
            sums[5:] = self._cluster_sums(candidate, place) - before
        self._pairs[candidate] += sums
        sums[SIGNED[: len(sums)]] *= -1.0
        sums[4] = np.where(common, column, 0.0)  # here the others are the reference
        self._pairs[:, :, candidate] += sums.T

    def _cluster_sums(self, candidate: int, place: int) -> Floats:
        """Squared sum, sum x size and squared size of (other - candidate) in the cluster of this place, [3, N]."""
        cluster = self.cluster[place]
        block = self._columns[self.starts[cluster] : self.starts[cluster + 1]].astype(np.float64)
        gain = block - block[:, candidate, None]
        gain[:, candidate] = np.nan
        size = (~np.isnan(gain)).sum(axis=0).astype(float)
        total = np.nansum(gain, axis=0)
        return np.stack([total * total, total * size, size * size])


def shared_order(
    examples: int, groups: Sequence[int] | NDArray[np.int64] | None, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A random order of the examples in which clusters stay together, and where each cluster starts (length G + 1)."""
    random = np.random.default_rng(seed)
    if groups is None:
        return random.permutation(examples), np.arange(examples + 1)
    names, label = np.unique(np.asarray(groups), return_inverse=True)
    rank = random.permutation(len(names))[label]
    order = np.lexsort((random.permutation(examples), rank))
    return order, np.flatnonzero(np.r_[True, np.diff(rank[order]) != 0, True])
