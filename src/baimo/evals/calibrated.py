"""The `calibrated` rule: as few calls as the evidence allows; error rates measured by replay, not proved.

Prevents paying for certainty that is already there. Each candidate is measured against the leader on the examples
that both were scored on, split by what the leader did there: the *loss* rate (candidate falls short where the leader
is right) and the *gain* rate (candidate is right where the leader is not). With e = the leader's error rate, taken
from all that the leader was asked, candidate - leader = e * gain - (1 - e) * loss. That is a post-stratified (doubly
robust, cf. PULSE, arXiv 2605.10405) estimate of the paired difference: a bad candidate is ruled out by a handful of
losses, because no amount of gains can exceed e. All three rates have Beta posteriors, so nothing leans on normality
at four examples.

Two posteriors, because one prior cannot do both jobs. The *fitted* prior (empirical Bayes: what candidates of this
board are like) makes many hopeless candidates cheap: their probabilities of being better by more than epsilon may
sum to delta. The *flat* prior decides the race at the top, where a fitted prior would hand the win to whoever led
early: for no single rival may it exceed about delta / 4. That is what optional stopping costs: a rule that looks
after every batch and stops at p <= delta' is wrong up to about four or five times as often
(docs/findings/engine.md).

Sources: successive rejects on shared examples, SySRs, arXiv 2606.07726; top-two sampling, Russo 2016, arXiv 1602.08448;
UCB-E for models, arXiv 2407.06172; finite populations, Waudby-Smith & Ramdas, arXiv 2006.04347.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baimo.evals.beta import Shape, beta_cdf, beta_nodes, fitted_prior, logit_moments
from baimo.evals.board import Board, Cell, Floats, Pairs, Question, Standing
from baimo.evals.guaranteed import tiers

RACE = 3.5
"""How much stricter than delta a single rival is judged, for being looked at after every batch."""
HASTE = 4.0
"""All levels are taken 1 + HASTE x delta times: loose levels are met early, when the leader still changes."""
START = 3
"""Clusters (examples, without groups) that every candidate answers before anything is decided."""
GROWTH = 0.25
"""Share by which a candidate's answers grow in one step: waste at the end against rounds of waiting."""
LEAD = 0.3
"""Share of all calls that may go to the leader beyond its rivals: its error rate enters every comparison."""
AHEAD = 30
"""Examples that the leader may be ahead of the candidate seen most after it."""
STEP = 1 / 32
"""Size of a batch as a share of the calls made so far."""
CHASE = 8
"""The most candidates tried as the leader at one look."""
HOPELESS = 10
"""A candidate none of whose first answers could be scored is set aside after this many."""


class Evidence(NamedTuple):
    """All candidates against one reference; arrays have shape [N]."""

    reference: int
    error: Shape
    """Posterior of the reference's error rate, from all that it was asked or from the pair's own examples."""
    loss: tuple[Shape, Shape]
    """Posteriors of the loss rates under the fitted and under the flat prior."""
    gain: tuple[Shape, Shape]
    """Likewise for the gain rates."""

    @property
    def ahead(self) -> Floats:
        """Posterior mean of candidate - reference; 0 for the reference itself."""
        error = self.error.mean
        ahead = error * self.gain[0].mean - (1.0 - error) * self.loss[0].mean
        ahead[self.reference] = 0.0
        return ahead


class Risk(NamedTuple):
    """What speaks against announcing a choice; arrays have shape [N]."""

    choice: int
    leader: int
    fitted: Floats
    """P(this candidate makes the choice wrong) under the fitted prior."""
    flat: Floats
    """The same under the flat prior."""

    def bound(self, delta: float) -> float:
        """The level reached: the choice may be announced when this is at most delta."""
        worst = max(float(self.fitted.sum()), RACE * float(self.flat.max(initial=0.0)))
        return min(1.0, (1.0 + HASTE * delta) * worst)


def dispersion(board: Board, pairs: Pairs) -> Floats:
    """Variance of paired differences relative to wins and losses of whole points, each example for itself; shape [N].

    Below 1 where scores are fine-grained (a difference of 0.1 is a tenth of a loss but a hundredth of its variance),
    above 1 where examples of one cluster go together. Each pair's own figure is drawn towards that of all pairs, and
    at few clusters towards "all examples of a cluster are one".
    """
    grain = (pairs.square.sum() + 1.0) / (pairs.absolute.sum() + 1.0)
    grain = (pairs.square + 5.0 * grain) / (pairs.absolute + 5.0)
    if not board.clustered:
        return grain
    count = np.maximum(pairs.count, 1.0)
    mean = pairs.total / count
    between = pairs.cluster_square - 2.0 * mean * pairs.cluster_cross + mean**2 * pairs.cluster_size
    within = np.maximum(pairs.square - count * mean**2, 0.0)
    met: Floats = count**2 / np.maximum(pairs.cluster_size, 1.0)  # clusters in common, were they of one size
    between = between * met / np.maximum(met - 1.0, 1.0)  # one degree of freedom went into the mean
    size = np.diff(board.starts)
    typical = float(np.sum(size**2) / np.sum(size))
    most = float(np.max(met))
    spread = max(float(np.sum(within)), 1e-9)
    pooled = (most * float(np.sum(between)) / spread + 2.0 * typical) / (most + 2.0)
    own: Floats = (met * between + 10.0 * pooled * within) / np.maximum((met + 10.0) * within, 1e-9)
    own[within <= 1e-9] = pooled
    return grain * np.maximum(1.0, own)


def evidence(board: Board, reference: int, question: Question) -> Evidence:
    """Posteriors of the loss and gain rates of every candidate against the reference."""
    pairs = board.pairs(reference)
    gains, losses = (pairs.absolute + pairs.total) / 2.0, (pairs.absolute - pairs.total) / 2.0
    right, missed = pairs.base, np.maximum(pairs.count - pairs.base, 0.0)
    others = np.arange(board.candidates) != reference
    fitted_loss = fitted_prior(losses[others], right[others], least=1.5, most=12.0)
    fitted_gain = fitted_prior(gains[others], missed[others], least=2.0, most=2.0)
    # a set is finite: what was seen of it is known, so evidence grows without limit as the unseen rest shrinks
    rest = 1.0 - board.calls / board.examples if question.target == "set" else np.ones(board.candidates)
    weight = 1.0 / (dispersion(board, pairs) * np.maximum(rest, 1e-9))

    def posterior(hits: Floats, trials: Floats, prior: tuple[float, float]) -> Shape:
        return Shape(prior[0] + weight * hits, prior[1] + weight * np.maximum(trials - hits, 0.0))

    flat = (0.5, 0.5)
    error = posterior(board.count - board.total, board.count, flat)
    error = Shape(*(np.full(board.candidates, each[reference]) for each in error))
    if board.clustered:  # in clusters the two strata vary together, more than the paired difference does
        shared = posterior(missed, pairs.count, flat)
        error = Shape(*(np.where(others, *pair) for pair in zip(shared, error, strict=True)))
    return Evidence(
        reference,
        error,
        (posterior(losses, right, fitted_loss), posterior(losses, right, flat)),
        (posterior(gains, missed, fitted_gain), posterior(gains, missed, flat)),
    )


def exceeding(found: Evidence, threshold: float) -> Floats:
    """P(candidate - reference > threshold) under the fitted (row 0) and the flat prior (row 1), shape [2, N]."""
    error, error_weight = beta_nodes(found.error, 3)
    gain, gain_weight = beta_nodes(Shape(*(np.stack(x) for x in zip(*found.gain, strict=True))), 5)
    loss = Shape(*(np.stack(x)[:, :, None, None] for x in zip(*found.loss, strict=True)))
    error = error[None, :, :, None]
    # error * gain - (1 - error) * loss > threshold, solved for the loss rate
    limit = (error * gain[:, :, None, :] - threshold) / (1.0 - error)
    chance = np.einsum("pnij,i,j->pn", beta_cdf(limit, loss), error_weight, gain_weight)
    chance[:, found.reference] = 0.0
    return chance


def mean_scores(found: Evidence, prior: int) -> Shape:
    """Posterior of each candidate's own mean score, shape [N]: moments of the three rates, matched by a Beta.

    `prior` is 0 for the fitted one, 1 for the flat one.
    """
    error, loss, gain = found.error, found.loss[prior], found.gain[prior]
    mean = (1.0 - error.mean) * (1.0 - loss.mean) + error.mean * gain.mean
    variance = (1.0 - error.mean) ** 2 * loss.variance + error.mean**2 * gain.variance
    variance = variance + (gain.mean - 1.0 + loss.mean) ** 2 * error.variance
    own = found.reference
    mean[own], variance[own] = 1.0 - error.mean[own], error.variance[own]
    mean = np.clip(mean, 1e-9, 1.0 - 1e-9)
    weight = np.maximum(mean * (1.0 - mean) / np.maximum(variance, 1e-18) - 1.0, 1e-3)
    return Shape(weight * mean, weight * (1.0 - mean))


class Rule:
    """`baimo.evals.board.Rule` by posterior probabilities; a function of the board, apart from a cache."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self._known: tuple[Board, int, Risk, Evidence] | None = None

    def propose(self, board: Board, limit: int) -> list[Cell]:
        """First a few examples for everybody; then whoever reduces the risk most for its price, with the leader."""
        if self.certain(board):
            return []
        start = int(board.starts[min(START, len(board.starts) - 1)])
        behind = np.flatnonzero(board.frontier < start)
        if behind.size:
            return self._opening(board, behind, start, limit)
        risk, found = self._risk(board)
        if self._stuck(board, risk):
            return []
        index = self._urgency(board, risk, found)
        size = min(limit, max(4, int(board.calls.sum() * STEP)))
        cells = self._leading(board, risk.leader, size)
        for row in np.argsort(-index, kind="stable"):
            if len(cells) >= size or (cells and index[row] < 0.05 * index.max()):
                break
            step = max(1, math.ceil(GROWTH * board.frontier[row]))
            places = whole_clusters(board, int(row), board.untaken(int(row), step))
            if places.size and index[row] >= 0:
                # a comparison needs both answers
                lead = board.untaken(risk.leader, int(max(0, places[-1] + 1 - board.frontier[risk.leader])))
                cells += board.take(risk.leader, lead[: limit - len(cells)])
                cells += board.take(int(row), places[: limit - len(cells)])
        # everybody else may have answered everything
        return cells or board.take(risk.leader, board.untaken(risk.leader, size))

    def certain(self, board: Board) -> bool:
        """Whether the leader may be announced."""
        return self._level(board) <= self.question.delta

    def standing(self, board: Board) -> Standing:
        """The leader, the level reached, score intervals and tiers; exact once a whole set was seen."""
        risk, found = self._risk(board)
        bound = self._level(board)
        alive = ~self._aside(board) & ((risk.flat > self._rival) | (risk.fitted > self._share(board)))
        alive[risk.choice] = True
        mean, low, high = self._intervals(board, found)
        possible = self._unbeaten(board, found)
        possible[risk.choice] = True
        return Standing(
            leader=risk.choice,
            certain=bound <= self.question.delta,
            error_bound=bound,
            mean=mean,
            low=low,
            high=high,
            tiers=tiers(possible & ~self._aside(board), risk.choice, mean, low, high),
            alive=tuple(int(row) for row in np.flatnonzero(alive)),
            calls_left=0.0 if bound <= self.question.delta else self._forecast(board, risk, found),
        )

    def _unbeaten(self, board: Board, found: Evidence) -> NDArray[np.bool_]:
        """Who is not shown to be below the reference, shape [N].

        Below is who scored less on the examples in common and is as unlikely to be better, under both priors, as a
        rival must be before a leader is announced: so nobody is apart from all others while that is not certain.
        """
        reference, delta = found.reference, self.question.delta
        if board.exhausted and self.question.target == "set":
            possible = means(board) >= means(board)[reference] - 1e-9
        else:
            fitted, flat = exceeding(found, 0.0)
            possible = inseparable(fitted, delta / (1.0 + HASTE * delta)) | (flat > self._rival)
        possible |= board.pairs(reference).total > -1e-9
        possible[reference] = True
        return possible

    def _level(self, board: Board) -> float:
        exact = board.exhausted and self.question.target == "set"
        return 0.0 if exact else self._risk(board)[0].bound(self.question.delta)

    def _risk(self, board: Board) -> tuple[Risk, Evidence]:
        if self._known is None or self._known[:2] != (board, board.version):
            found = self._against_leader(board)
            cheapest = self.question.decision == "cheapest"
            self._known = (
                board,
                board.version,
                (self._thrift if cheapest else self._best)(board, found),
                found,
            )
        return self._known[2], self._known[3]

    def _against_leader(self, board: Board) -> Evidence:
        """Start from the best mean among those seen most, then follow whoever is ahead of it on shared examples."""
        aside = self._aside(board)
        mean = (board.total + 1.0) / (board.count + 2.0)
        rival = int(np.argmax(np.where(~aside & (board.count >= 0.5 * board.count.max()), mean, -1.0)))
        if board.exhausted:
            return evidence(board, int(np.argmax(np.where(aside, -1.0, means(board)))), self.question)
        met: dict[int, tuple[float, Evidence]] = {}
        while rival not in met and len(met) < CHASE:
            found = evidence(board, rival, self.question)
            ahead = np.where(aside, -np.inf, found.ahead)
            met[rival] = float(ahead.max()), found
            rival = int(np.argmax(ahead))
        # each pair is compared on its own examples, so candidates may be ahead of each other in a circle
        return min(met.values(), key=lambda one: one[0])[1]

    def _best(self, board: Board, found: Evidence) -> Risk:
        fitted, flat = np.where(self._aside(board), 0.0, exceeding(found, self.question.epsilon))
        return Risk(found.reference, found.reference, fitted, flat)

    def _thrift(self, board: Board, found: Evidence) -> Risk:
        """The cheapest candidate that looks less than 3/4 epsilon behind.

        Wrong where somebody is more than epsilon above it, or where a cheaper one is less than epsilon / 2 behind the
        best; between epsilon / 2 and epsilon either answer will do.
        """
        aside, epsilon, cost = self._aside(board), self.question.epsilon, board.cost
        behind = means(board).max() - means(board) if board.exhausted else -found.ahead
        good = ~aside & (behind < (epsilon + 1e-9 if board.exhausted else 0.75 * epsilon))
        choice = int(np.argmin(np.where(good, cost, np.inf)))
        if choice == found.reference and not (cost < cost[choice]).any():
            return self._best(board, found)
        above = exceeding(evidence(board, choice, self.question), epsilon)
        cheaper = np.where(cost < cost[choice], exceeding(found, -epsilon / 2.0), 0.0)
        fitted, flat = np.where(aside, 0.0, np.maximum(above, cheaper))
        return Risk(choice, found.reference, fitted, flat)

    def _urgency(self, board: Board, risk: Risk, found: Evidence) -> Floats:
        """What a candidate's next answers are worth for their price, shape [N]; negative = not to be asked."""
        open_race = risk.flat > self._rival
        weight = risk.fitted + np.where(open_race, 3.0 * risk.flat, 0.0)
        if risk.choice != risk.leader:  # the choice is asked along with whoever is most in its way
            weight[risk.choice] = weight.max()
        # Neyman: at linear cost the best numbers of answers go with one over the root of the price
        index = weight * speed(weight, board.frontier) / np.sqrt(board.cost)
        index[(board.frontier >= board.examples) | self._aside(board)] = -1.0
        index[found.reference] = -1.0
        return index

    def _leading(self, board: Board, leader: int, size: int) -> list[Cell]:
        """Ask the leader alone as long as that is a modest share of the calls: it helps every comparison at once."""
        second = int(np.delete(board.frontier, leader).max(initial=0))
        aim = min(int(LEAD * board.calls.sum()), second + AHEAD, board.examples)
        places = board.untaken(leader, max(0, min(size, aim - int(board.frontier[leader]))))
        return board.take(leader, whole_clusters(board, leader, places)[:size])

    def _opening(self, board: Board, behind: NDArray[np.int64], start: int, limit: int) -> list[Cell]:
        cells: list[Cell] = []
        for row in behind[np.argsort(board.frontier[behind], kind="stable")]:
            if len(cells) < limit:
                places = board.untaken(int(row), min(start - int(board.frontier[row]), limit - len(cells)))
                cells += board.take(int(row), places)
        return cells

    def _forecast(self, board: Board, risk: Risk, found: Evidence) -> float:
        """Calls until every candidate's risk has fallen to its share, at the speed at which it fell so far."""
        weight = np.maximum(risk.fitted, risk.flat)
        goal = np.where(risk.flat > self._rival, self._rival, self._share(board))
        more = np.log(np.maximum(weight / goal, 1.0)) / speed(weight, board.frontier)
        more = np.minimum(more, board.examples - board.calls)
        more[found.reference] = np.max(board.calls + more) - board.calls[found.reference]
        return float(np.clip(more.sum(), 1.0, board.examples * board.candidates - board.calls.sum()))

    def _intervals(self, board: Board, found: Evidence) -> tuple[Floats, Floats, Floats]:
        mean = mean_scores(found, 0).mean
        center, spread = logit_moments(
            mean_scores(found, 1)
        )  # nobody's interval leans on what the others are like
        z = NormalDist().inv_cdf(1.0 - self.question.delta / (2.0 * board.candidates))
        low, high = (1.0 / (1.0 + np.exp(-(center + side * z * spread))) for side in (-1.0, 1.0))
        low, high = np.minimum(low, mean), np.maximum(high, mean)
        if self.question.target == "set":
            done = (board.calls >= board.examples) & (board.count > 0)
            mean, low, high = (np.where(done, means(board), x) for x in (mean, low, high))
        unknown = board.count == 0
        return np.where(unknown, np.nan, mean), np.where(unknown, 0.0, low), np.where(unknown, 1.0, high)

    def _stuck(self, board: Board, risk: Risk) -> bool:
        """Whether a rival cannot be told from the leader by all the examples there are (target "population")."""
        complete = (board.calls >= board.examples) & (self.question.target == "population")
        return bool(complete[risk.leader] and (complete & (risk.flat > self._rival)).any())

    @property
    def _rival(self) -> float:
        """The flat probability at which a single rival is out."""
        return self.question.delta / (RACE * (1.0 + HASTE * self.question.delta))

    def _share(self, board: Board) -> float:
        """A candidate's share of what all may sum to."""
        return self.question.delta / (2.0 * board.candidates)

    def _aside(self, board: Board) -> NDArray[np.bool_]:
        return (board.count == 0) & (board.calls >= HOPELESS)


def means(board: Board) -> Floats:
    """Mean of the scores seen, shape [N]; -1 where there is none."""
    return np.where(board.count > 0, board.total / np.maximum(board.count, 1.0), -1.0)


def speed(risk: Floats, asked: NDArray[np.int64]) -> Floats:
    """Nats by which a risk falls per example: what it fell from 1/2 so far; for a tie, what chance alone will bring."""
    asked = np.maximum(asked, 1)
    return np.maximum(np.log(0.5 / np.clip(risk, 1e-300, 0.5)), 0.5) / asked


def inseparable(chance: Floats, delta: float) -> NDArray[np.bool_]:
    """All but the most that have chances to be better than the leader of at most delta in sum; equals stay together."""
    ascending = np.sort(chance)
    fit = int(np.searchsorted(np.cumsum(ascending), delta, side="right"))
    return chance > ascending[fit] * (1.0 - 1e-9) if fit < len(chance) else np.zeros(len(chance), bool)


def whole_clusters(board: Board, candidate: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """These positions and the rest of the cluster that the last one is in."""
    if not board.clustered or not places.size:
        return places
    end = int(board.starts[board.cluster[places[-1]] + 1])
    rest = np.arange(int(places[-1]) + 1, end)
    return np.concatenate([places, rest[~board.taken[candidate, rest]]])
