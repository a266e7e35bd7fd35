"""Better words for the instruction: try, read what went wrong, let a model rewrite, keep what is best at something.

After Agrawal et al. 2025, "GEPA: Reflective Prompt Evolution Can Outperform Reinforcement Learning", arXiv
2507.19457: a rewrite first has to beat its parent on the few examples that it was written from; only then it is
asked the scored examples and may enter the front. Deviation: prompts here have one instruction, so two parents are
merged by a model that sees where each wins, not by exchanging modules.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle, islice

from baimo.core.call import Sampling
from baimo.core.task import Example, Prompt
from baimo.errors import BaimoError
from baimo.tuning.search.journal import Cell
from baimo.tuning.search.pareto import drawn, front
from baimo.tuning.search.reflection import Trial, merging, reflection, rewritten
from baimo.tuning.search.trials import Purse, Spent, Trials

HEAT = 1.0
"""Else the same failures lead to the same rewrite."""
LONGEST, LONGEST_OWN = 2048, 512
"""Tokens of a rewrite: of a model named for it, which may think first; of the model that is asked, which may ramble."""
MERGE_EVERY = 3
"""Every so many accepted rewrites, two of the front are merged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Idea:
    """One instruction that was tried."""

    id: str
    """start, r1, r2 … for rewrites, m1 … for merges."""
    prompt: Prompt
    """The whole prompt."""
    parents: tuple[str, ...] = ()
    """What it was made of."""
    outcome: str = "accepted"
    """accepted; no better, than its parent on what it was made from; unusable: the reply held no new instruction."""
    before: float | None = None
    """Mean of its parent on the few examples that it was made from."""
    after: float | None = None
    """Its own mean there."""


@dataclass(kw_only=True)
class Evolution:
    """A search that goes on until its purse is empty."""

    trials: Trials
    start: Prompt
    feedback: Sequence[Example]
    """Examples whose failures are read; the model that rewrites sees their references."""
    scored: Sequence[Example]
    """Examples that decide who is on the front; no rewriter sees them."""
    batch: int
    """Examples that a rewrite is made from."""
    language: str
    """Of the rewriter's own instructions: en or zh."""
    purse: Purse
    seed: int = 0
    patience: int = 12
    """Ideas in a row that came to nothing, after which the model that rewrites is not asked again."""
    ideas: list[Idea] = field(default_factory=list[Idea])
    """Everything that was tried, in order."""
    scores: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    """Idea → scored example → score, of those that were accepted."""

    async def run(self) -> Prompt:
        """The prompt with the best mean on the scored examples; the first one where nothing was better."""
        chance = random.Random(self.seed)
        batches = cycle(self.feedback)
        try:
            await self._enter(Idea(id="start", prompt=self.start))
            while self.scores["start"] and self.feedback and not self._hopeless:
                accepted = sum(idea.outcome == "accepted" for idea in self.ideas)
                merges = sum(idea.id.startswith("m") for idea in self.ideas)
                if accepted > 2 and accepted // MERGE_EVERY > merges:
                    await self._merged(chance)
                else:
                    await self._rewritten(chance, list(islice(batches, self.batch)))
        except Spent:
            pass
        return self._named(self.best()).prompt if self.ideas else self.start

    @property
    def _hopeless(self) -> bool:
        last = self.ideas[-self.patience :]
        return len(last) == self.patience and all(idea.outcome != "accepted" for idea in last)

    def best(self) -> str:
        """The idea with the highest mean; of equals the oldest."""
        return max(self.scores, key=lambda id: sum(self.scores[id].values()) / max(len(self.scores[id]), 1))

    async def _rewritten(self, chance: random.Random, batch: list[Example]) -> None:
        parent = self._named(drawn(self.scores, chance))
        tried = await self._tried(parent.prompt, batch)
        if not tried or all(trial.score >= 1 for trial in tried):
            self.purse.take(1)  # nothing to learn from, but it must end
            return
        words = reflection(parent.prompt.system, tried, self.language)
        await self._considered("r", (parent,), words, batch, tried, chance)

    async def _merged(self, chance: random.Random) -> None:
        pair = sorted(front(self.scores), key=lambda id: -sum(self.scores[id].values()))[:2]
        if len(pair) < 2:  # one is best at everything: merge it with the last one that was accepted
            others = [id for id in self.scores if id not in pair]
            pair = [*pair, others[-1]]
        first, second = self._named(pair[0]), self._named(pair[1])
        batch = chance.sample(list(self.feedback), min(2 * self.batch, len(self.feedback)))
        ours = await self._tried(first.prompt, batch)
        theirs = {one.example.id: one.score for one in await self._tried(second.prompt, batch)}
        wins = [
            (one.score > theirs[one.example.id], one)
            for one in ours
            if theirs.get(one.example.id, one.score) != one.score
        ]
        words = merging(first.prompt.system, second.prompt.system, wins, self.language)
        await self._considered("m", (first, second), words, batch, ours, chance)

    async def _considered(
        self,
        kind: str,
        parents: tuple[Idea, ...],
        words: str,
        batch: list[Example],
        tried: list[Trial],
        chance: random.Random,
    ) -> None:
        """Ask for a rewrite, try it where its parent was tried, and let it in if it is better there."""
        number = sum(idea.id.startswith(kind) for idea in self.ideas) + 1
        model = self.trials.work.reflect_with or self.trials.work.model
        longest = LONGEST_OWN if model == self.trials.work.model else LONGEST
        sampling = Sampling(temperature=HEAT, max_tokens=longest, seed=chance.randrange(2**31))
        reply = await self.trials.said(model, words, self.purse, sampling=sampling)
        system = rewritten(reply, parents[0].prompt.system)
        idea = Idea(
            id=f"{kind}{number}",
            prompt=replace(parents[0].prompt, system=system or ""),
            parents=tuple(parent.id for parent in parents),
        )
        known = {one.prompt.system for one in self.ideas}
        if system is None or system in known:
            self.ideas.append(replace(idea, outcome="unusable"))
            return
        try:
            after = await self._tried(idea.prompt, batch)
        except BaimoError:  # a template that does not render
            self.ideas.append(replace(idea, outcome="unusable"))
            return
        judged = {trial.example.id: trial.score for trial in tried}
        both = [(judged[one.example.id], one.score) for one in after if one.example.id in judged]
        before_mean = sum(old for old, _ in both) / max(len(both), 1)
        after_mean = sum(new for _, new in both) / max(len(both), 1)
        idea = replace(idea, before=before_mean, after=after_mean)
        if after_mean <= before_mean:
            self.ideas.append(replace(idea, outcome="no better"))
            return
        await self._enter(idea)

    async def _enter(self, idea: Idea) -> None:
        cells = await self.trials.scored(idea.prompt, self.scored, self.purse)
        judged = zip(self.scored, cells, strict=True)
        self.scores[idea.id] = {one.id: cell.score for one, cell in judged if cell.score is not None}
        self.ideas.append(idea)

    async def _tried(self, prompt: Prompt, batch: Sequence[Example]) -> list[Trial]:
        cells: list[Cell] = await self.trials.scored(prompt, batch, self.purse)
        return [
            Trial(one, self.trials.work.render(prompt, one), cell.text, cell.score, cell.why)
            for one, cell in zip(batch, cells, strict=True)
            if cell.score is not None
        ]

    def _named(self, id: str) -> Idea:
        return next(idea for idea in self.ideas if idea.id == id)
