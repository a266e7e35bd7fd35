"""The `guaranteed` rule: wrong with probability at most delta, for any board, any purchases and any stopping.

Prevents a verdict that only simulations support: nothing here is asymptotic, and no figure rests on a model of the
candidates or of the examples. It rests on this: the shared order is a uniformly random one (of blocks, where examples
come in groups), and scores lie in [0, 1].

Claim, decision "best". Let i* be a candidate that no other beats on the examples which both have a score for:
the best mean, where nothing is unscored. With probability at least 1 - delta, at every moment at once, (a) i*
is in tier 1; (b) a leader reported as certain is at most epsilon behind i*; (c) every score interval holds
its mean, so the tiers below the first are in order, too. (Unscored examples could let candidates beat each
other in a circle; there is no best one then.)

Proof. *The null.* Candidates walk the order in step; F_t is everything, bought or not, in blocks 1..t. Who is
active in block t + 1, the opponent (weights w on active candidates), the anchor and all stakes are functions
of F_t: nothing that a candidate showed further along is used, so purchases, crashes and looks cannot steer a
bet. Over all blocks the differences k - i* on common examples sum to at most 0 for every k. So their mean in
block t + 1, given F_t, is at most -(their past sum) / (blocks left) without replacement (Waudby-Smith &
Ramdas 2020), at most 0 for a population; the w-average of these bounds the mean of the opponent's gain. A
stake on the excess multiplies wealth by a factor of mean at most 1 (Waudby-Smith & Ramdas 2024). No
independence is needed, and no union over k: the opponent is one bet.
*Slack.* At most once for each pair a share of that wealth moves into bets on H(i, j): i is at least epsilon
above the anchor j, which is the leader by data seen before. Where j would be a wrong answer, H(i*, j) is
true, so W = (wealth of i*) + sum over wrong j of (its wealth in H(i*, j)) is a nonnegative supermartingale
from 1. By Ville's inequality W ever reaches 1 / delta' with probability at most delta'. A candidate is
dropped for good when its first part reaches 1 / delta', and said to be at most epsilon above j when both
parts do, or when all was seen. A wrong certain j needs one of the two for i*, whatever happens to the others:
no union over candidates, pairs or looks.
*Shares.* 95 % of delta pays for the decision, 5 % for all score intervals (a union over candidates);
"cheapest" gives half of its 95 % to a second family, against "i is within epsilon of all", of which only the
true answer's can err.

docs/findings/guaranteed.md tells what was measured and what did not help.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baimo.evals.betting import CAPITAL, Interval, grown, mean_interval, stakes
from baimo.evals.board import Board, Cell, Floats, Question, Standing
from baimo.evals.duels import Duel, Duels, Rows, blend

REPORTED = 0.05
"""Share of delta spent on the score intervals."""
SETTLE = 100
"""Blocks before wealth moves to bets with slack (an eighth of the board where that is less): leaders still change."""
MOVED = 0.8
"""Share of a candidate's wealth that moves to bets with slack against an anchor."""
NEAR = 10.0
"""Only candidates less than this many epsilon below the anchor gain enough by slack."""
RIVALS = 16
"""The most candidates that make up an opponent; more only cost time."""
SHARPNESS = 5.0
"""Weight of an active candidate in the opponent: exp(SHARPNESS x (its total - the best total)); almost the leader."""


class Page(NamedTuple):
    """Whom one block was bet on; kept so that a candidate that rested can catch up by the same bets."""

    rivals: list[int]
    weights: list[float]
    anchor: int
    anchor_mean: float


class Rule:
    """`baimo.evals.board.Rule` with a proof; a function of the board's order and outcomes, apart from caches."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self._walk: Walk | None = None

    def walk(self, board: Board) -> Walk:
        """The walk along this board, as far as its purchases go."""
        if self._walk is None or self._walk.board is not board:
            self._walk = Walk(board, self.question)
        self._walk.advance()
        return self._walk

    def propose(self, board: Board, limit: int) -> list[Cell]:
        """The lowest open cells of the active candidates, cheap candidates first; [] when certain or all in flight.

        Looks at most an eighth of the walk ahead, so that little is bought for candidates that are about to drop out.
        """
        walk = self.walk(board)
        if walk.certain:
            return []
        rows = walk.active
        end = min(walk.blocks, max(5, walk.front + max(2, walk.front // 8)))
        final = int(board.starts[end])
        ahead = [board.untaken(int(row), limit) for row in rows]
        owner = np.repeat(rows, [len(places) for places in ahead])
        place = np.concatenate(ahead)
        chosen = np.lexsort((board.cost[owner], place))[:limit]
        chosen = chosen[place[chosen] < final]
        cells = [cell for row in rows for cell in board.take(int(row), place[chosen[owner[chosen] == row]])]
        return sorted(cells, key=lambda cell: int(board.position[cell.example]))

    def certain(self, board: Board) -> bool:
        """Whether the leader may be announced."""
        return self.walk(board).certain

    def standing(self, board: Board) -> Standing:
        """The verdict after the blocks that all active candidates have completed."""
        walk = self.walk(board)
        low, high = walk.intervals()
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = board.total / board.count
        return Standing(
            leader=walk.leader,
            certain=walk.certain,
            error_bound=walk.error_bound,
            mean=mean,
            low=low,
            high=high,
            tiers=tiers(walk.possible, walk.leader, mean, low, high),
            alive=tuple(int(row) for row in walk.active),
            calls_left=walk.calls_left(),
        )


class Walk:
    """All wealth along one board. Purses have shape [N, G]: candidates, bettors; R counts the rows in hand."""

    def __init__(self, board: Board, question: Question, *, settle: int = SETTLE) -> None:
        count = board.candidates
        self.board, self.question = board, question
        self.cheapest = question.decision == "cheapest"
        self.blocks = len(board.starts) - 1
        self.width = int(np.diff(board.starts).max())
        self.settle = min(settle, self.blocks // 8)
        self.threshold = (2 if self.cheapest else 1) / (question.delta * (1 - REPORTED))
        self.price = board.cost  # frozen: what later answers cost must not steer earlier bets
        self.front = 0
        self.certain = count == 1
        self.pages: list[Page] = []
        self.duels = Duels(board)
        self.place = np.zeros(count, np.int64)
        self.total, self.scored, self.square = np.zeros(count), np.zeros(count), np.zeros(count)
        self.mean = np.full(count, 0.5)  # over the walk so far
        self.strict, self.strict_peak = np.tile(CAPITAL, (count, 1)), np.zeros(count)
        self.within, self.within_peak = self.strict.copy(), np.zeros(count)
        self.slack: dict[int, Floats] = {}
        self.slack_peak: dict[int, Floats] = {}
        self.moved: dict[int, NDArray[np.bool_]] = {}
        self.low, self.high = np.zeros(count), np.ones(count)
        self._renewed = np.zeros(count, np.int64)
        self.anchor = int(np.argmin(self.price))
        self._activate()

    @property
    def possible(self) -> NDArray[np.bool_]:
        """Candidates that may be the answer: not shown to be below the best (or below it by more than epsilon)."""
        return (self.within_peak if self.cheapest else self.strict_peak) < self.threshold

    @property
    def leader(self) -> int:
        """The anchor once certain; until then by the means so far: the best, or the cheapest within epsilon of it."""
        if self.certain:
            return self.anchor
        if not self.cheapest:
            return int(self.active[np.argmax(self.mean[self.active])])
        in_question = self.possible & (self.scored > 0)
        if not in_question.any():
            return self.anchor
        good = in_question & (self.mean >= self.mean[in_question].max() - self.question.epsilon)
        return int(np.lexsort((-self.mean, np.where(good, self.price, np.inf)))[0])

    @property
    def error_bound(self) -> float:
        """Least level at which the evidence of this moment would name the leader; valid at every moment at once."""
        leader = self.leader
        others = np.arange(self.board.candidates) != leader
        bound = 1.0 / max(float(self._peak(leader)[others].min(initial=np.inf)), 1.0)
        if self.cheapest:
            cheaper = self.price < self.price[leader]
            bound += 1.0 / max(float(self.within_peak[cheaper].min(initial=np.inf)), 1.0)
        return min(bound, 1.0)

    def advance(self) -> None:
        """Go on while the active candidates have been seen on the next block."""
        while not self.certain:
            late = self.active[self.place[self.active] < self.front]
            if late.size:
                if not self._catch_up(int(late[0])):
                    return
            elif self.front == self.blocks:
                if self.question.target == "population":
                    return
                self._settle_exactly()
            elif self._seen(self.active, self.front):
                self._turn()
            else:
                return
            self._elect()

    def intervals(self) -> Interval:
        """Score intervals, simultaneous over candidates and moments; renewed where a walk has grown by an eighth."""
        grown_by = self.place * 8 >= self._renewed * 9
        rows = np.flatnonzero(
            (self.place > self._renewed) & (grown_by | (self.place == self.blocks) | self.certain)
        )
        if rows.size:
            self._renewed[rows] = self.place[rows]
            units = self.blocks if self.question.target == "set" else math.inf
            alpha = self.question.delta * REPORTED / self.board.candidates
            seen = self.place[rows].astype(float)
            self.low[rows], self.high[rows] = mean_interval(
                self.total[rows], self.scored[rows], seen, units, self.width, alpha
            )
        return Interval(self.low.copy(), self.high.copy())

    def calls_left(self) -> float:
        """Forecast from the differences seen so far, as if they were true; the examples left bound it."""
        rows = self.active[self.active != self.anchor]
        if self.certain or not rows.size:
            return 0.0
        place = self.place[rows]
        gap = np.maximum(self.mean[self.anchor] - self.mean[rows] + self.question.epsilon, 1e-6)
        spread = (self.square[rows] + 0.5) / (place + 1)
        need = math.log(self.threshold) - np.log(np.maximum(self._peak()[rows], 0.05))
        ahead = need * 2 * spread / (gap * gap)
        if self.question.target == "set":  # the more of a finite set was seen, the more a block tells
            worth = place / np.maximum(1 - place / self.blocks, 1e-9) + ahead
            ahead = worth / (1 + worth / self.blocks) - place
        ahead = np.minimum(np.maximum(ahead, 1), self.blocks - place)
        return float((ahead.sum() + ahead.max()) * self.board.examples / self.blocks)

    def _peak(self, anchor: int | None = None) -> Floats:
        """Greatest wealth so far against each candidate being more than epsilon above an anchor, shape [N]."""
        anchor = self.anchor if anchor is None else anchor
        return np.maximum(self.strict_peak, self.slack_peak.get(anchor, self.strict_peak))

    def _activate(self) -> None:
        """Active are the anchor and whoever may still be more than epsilon above it."""
        in_question = self._peak() < self.threshold
        in_question[self.anchor] = True
        self.active = np.flatnonzero(in_question)

    def _seen(self, rows: Rows, block: int) -> bool:
        start, end = self.board.starts[block], self.board.starts[block + 1]
        return bool(self.board.seen[rows, start:end].all())

    def _turn(self) -> None:
        """All active candidates take the next block together."""
        rows, mean = self.active, self.mean
        lead = (mean[rows] - mean[rows].max()) * self.front * self.width
        chosen = np.argsort(-lead, kind="stable")[:RIVALS]
        weights = np.exp(SHARPNESS * lead[chosen])
        chosen, weights = chosen[weights > 0.01], weights[weights > 0.01]
        weights /= weights.sum()
        page = Page(rows[chosen].tolist(), weights.tolist(), self.anchor, float(mean[self.anchor]))
        self.pages.append(page)
        self.front += 1
        self._step(rows, page)

    def _catch_up(self, row: int) -> bool:
        """Take a candidate that rested through the blocks it missed; False where its next block was not seen."""
        rows = np.array([row])
        while self.place[row] < self.front and (row == self.anchor or self._peak()[row] < self.threshold):
            if not self._seen(rows, int(self.place[row])):
                return False
            self._step(rows, self.pages[int(self.place[row])])
        return True

    def _step(self, rows: Rows, page: Page) -> None:
        """One block of bets for rows that stand at the same place."""
        block, epsilon = int(self.place[rows[0]]), self.question.epsilon
        duels = {rival: self.duels.duel(rival, rows, block) for rival in {*page.rivals, page.anchor}}
        opponent = blend([duels[rival] for rival in page.rivals], page.weights)
        self._bet(self.strict, rows, block, opponent, 0.0)
        if self.cheapest:
            self._bet(self.within, rows, block, opponent, -epsilon)
        if page.anchor in self.slack:
            self._bet(self.slack[page.anchor], rows, block, duels[page.anchor], epsilon)
        self.square[rows] += (opponent.now.total / self.width) ** 2
        self._score(rows, block)
        self._note(rows, page.anchor)
        if self.place[rows[0]] >= self.settle and epsilon > 0:
            self._move(rows, page)

    def _score(self, rows: Rows, block: int) -> None:
        scores = self.board.scores[rows, self.board.starts[block] : self.board.starts[block + 1]].astype(
            np.float64
        )
        there = ~np.isnan(scores)
        self.total[rows] += np.where(there, scores, 0.0).sum(axis=1)
        self.scored[rows] += there.sum(axis=1)
        self.mean[rows] = np.where(
            self.scored[rows] > 0, self.total[rows] / np.maximum(self.scored[rows], 1.0), 0.5
        )
        self.place[rows] += 1

    def _bet(self, purse: Floats, rows: Rows, block: int, duel: Duel, slack: float) -> None:
        """Bet that the rows do worse than the rival; hypothesis: rival - row + slack has a mean of at most 0."""
        gain = (duel.now.total + slack * duel.now.common) / self.width
        past = (duel.before.total + slack * duel.before.common) / self.width
        left = self.blocks - block if self.question.target == "set" else math.inf
        square = (self.square[rows] + 0.5) / (block + 1)
        reach = max(1.0, 1.0 - slack)
        stake = stakes(-past / left, past / (block + 1), square, reach, block)
        purse[rows] = grown(purse[rows], gain, -past / left, stake, reach)

    def _note(self, rows: Rows, anchor: int) -> None:
        """Keep the greatest wealth that was reached."""
        wealth = self.strict[rows].sum(axis=1)
        self.strict_peak[rows] = np.maximum(self.strict_peak[rows], wealth)
        if anchor in self.slack:
            both = wealth + self.slack[anchor][rows].sum(axis=1)
            self.slack_peak[anchor][rows] = np.maximum(self.slack_peak[anchor][rows], both)
        if self.cheapest:
            self.within_peak[rows] = np.maximum(self.within_peak[rows], self.within[rows].sum(axis=1))

    def _move(self, rows: Rows, page: Page) -> None:
        """Move wealth to bets with slack against the anchor, once for each pair, where it will grow faster there."""
        anchor = page.anchor
        if anchor not in self.slack:
            self.slack[anchor] = np.zeros_like(self.strict)
            self.slack_peak[anchor] = np.zeros_like(self.strict_peak)
            self.moved[anchor] = np.zeros(len(self.strict_peak), bool)
        # the anchor's mean as it was then, not as it is now: a candidate that catches up must not look ahead
        ahead = (page.anchor_mean - self.mean[rows]) / self.question.epsilon
        near = rows[(ahead > -1) & (ahead < NEAR) & (rows != anchor) & ~self.moved[anchor][rows]]
        if near.size:
            self.slack[anchor][near] = MOVED * self.strict[near]
            self.strict[near] *= 1 - MOVED
            self.moved[anchor][near] = True

    def _elect(self) -> None:
        """Choose the anchor anew, from blocks that are complete, and with it who is active."""
        possible = self.possible
        if not possible.any():  # contradictory evidence, within delta: keep the least refuted
            possible[np.argmin(self.within_peak if self.cheapest else self.strict_peak)] = True
        if self.cheapest:
            possible &= self.price == self.price[possible].min()
        mean, here = self.mean, np.flatnonzero(possible & (self.place == self.front))
        here = here if here.size else np.flatnonzero(possible)
        best = int(here[np.argmax(mean[here])])
        lead = (mean[best] - mean[self.anchor]) * self.place[best]
        # one standard error of lead before a change, for a change wakes the candidates that rest
        if not possible[self.anchor] or lead > math.sqrt(max(1.0, self.square[self.anchor])):
            self.anchor = best
        self._activate()
        alone = self.active.size == 1 and self.place[self.anchor] == self.front
        self.certain = self.certain or bool(alone)

    def _settle_exactly(self) -> None:
        """The whole set was seen for all active candidates: their differences are exact."""
        rows = self.active
        duels = [self.duels.lead(int(rival), rows, self.blocks) for rival in rows]
        behind = np.max([duel.total / np.maximum(duel.common, 1.0) for duel in duels], axis=0)
        if self.cheapest and behind[rows == self.anchor][0] > self.question.epsilon + 1e-12:
            self.within_peak[self.anchor] = np.inf  # not the answer: another one is elected
            return
        if not self.cheapest:
            beaten = behind > 0
            if beaten.all():  # a circle, which only unscored examples make
                beaten[np.argmax(self.mean[rows])] = False
            best = rows[~beaten]
            final = int(best[np.argmax(self.mean[best])])
            self.strict_peak[rows[beaten]] = np.inf
            # who rests is settled against the old anchor, hence against a better one, but for unscored examples
            complete = bool((self.scored == self.board.starts[self.place]).all())
            self.certain, self.anchor = complete or final == self.anchor, final
        self.slack_peak.setdefault(self.anchor, self.strict_peak.copy())[rows] = np.inf


def tiers(
    possible: NDArray[np.bool_], leader: int, mean: Floats, low: Floats, high: Floats
) -> tuple[tuple[int, ...], ...]:
    """Tier 1: who may be the answer. Below, a tier ends where all intervals above it lie above all those below.

    Who was never scored is in no tier, unless it leads: nothing is known of it.
    """
    known = ~np.isnan(mean)
    known[leader] = True
    first = possible & known
    first[leader] = True
    order = [row for row in np.argsort(-np.nan_to_num(mean, nan=-1.0), kind="stable") if known[row]]
    top = tuple(int(row) for row in order if first[row])
    rest = [int(row) for row in order if not first[row]]
    if not rest:
        return (top,)
    floor = np.minimum.accumulate(low[rest])
    ceiling = np.maximum.accumulate(high[rest][::-1])[::-1]
    cuts = [place for place in range(1, len(rest)) if ceiling[place] < floor[place - 1]]
    return (top, *(tuple(rest[a:b]) for a, b in zip([0, *cuts], [*cuts, len(rest)], strict=True)))
