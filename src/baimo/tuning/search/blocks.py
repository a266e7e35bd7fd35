"""Which solved examples to show before the question: blocks that are tried against each other, slice by slice.

A block is chosen for each slice (each language, say) by itself, on questions of that slice: proposals that differ in
what they cover meet in successive halving, and the winner is then changed one example at a time. What comes in is
what lies nearest to a question that the block got wrong, what goes out is drawn; a change stays if it scores better
on the same questions. That a few well-chosen examples beat chance: Chang & Jia 2023, arXiv 2212.10378.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

from baimo.core.ids import digest
from baimo.core.task import Example, FewShot, Prompt
from baimo.tuning.search.halving import best_of, rungs_for
from baimo.tuning.search.journal import Cell
from baimo.tuning.search.parts import Parts, sliced
from baimo.tuning.search.trials import Purse, Spent, Trials

MOST_PROPOSALS = 16
NEAR = 8
"""Replacements are drawn among so many nearest to a failed question."""
Block = tuple[str, ...]
"""Ids of the examples, in the order in which they are shown."""


@dataclass(slots=True, kw_only=True)
class Chosen:
    """The result for one slice."""

    slice: str
    """Its name; empty = there is only one."""
    block: Block
    """What is shown."""
    tried: int = 0
    """Blocks that were asked."""
    tries: list[tuple[Block, int, float]] = field(default_factory=list[tuple[Block, int, float]])
    """Each with how many questions it was asked, and its mean there."""


async def chosen_blocks(
    trials: Trials, parts: Parts, prompt: Prompt, *, count: int, by: str, calls: int, seed: int
) -> list[Chosen]:
    """A block for every slice; slices are searched side by side, each with its share of the calls.

    Args:
        trials: asks and scores.
        parts: blocks come from `shown`, questions from `scored`.
        prompt: instruction and templates.
        count: examples of a block.
        by: metadata of the slices; empty = one block for all.
        calls: for all slices together.
        seed: of proposals and changes.
    """
    shown, scored = sliced(parts.shown, by), sliced(parts.scored, by)
    names = [name for name in shown if name in scored]
    searches = [
        _Search(
            trials=trials,
            prompt=prompt,
            by=by,
            name=name,
            pool=shown[name],
            questions=scored[name],
            count=min(count, len(shown[name])),
            purse=Purse(calls // len(names)),
            random=random.Random(digest([seed, name])),
        )
        for name in names
    ]
    found = await asyncio.gather(*(search.run() for search in searches), return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return [one for one in found if isinstance(one, Chosen)]


def with_blocks(prompt: Prompt, chosen: Sequence[Chosen], *, count: int, by: str) -> Prompt:
    """The prompt that shows each slice its block; ids take slices in turn, so other slices see a mixture."""
    turns = zip_longest(*(one.block for one in chosen))
    ids = tuple(id for turn in turns for id in turn if id is not None)
    return replace(prompt, few_shot=FewShot(count=count, by=by or None, ids=ids))


@dataclass(kw_only=True)
class _Search:
    """The search of one slice."""

    trials: Trials
    prompt: Prompt
    by: str
    name: str
    pool: list[Example]
    questions: list[Example]
    count: int
    purse: Purse
    random: random.Random

    def __post_init__(self) -> None:
        self.words = {example.id: words_of(example) for example in self.pool}

    async def run(self) -> Chosen:
        """Halve, then change; what was best when the calls run out is the result."""
        halving = rungs_for(self.purse.calls * 2 // 3, most_arms=MOST_PROPOSALS)
        proposals = self.proposals(halving.arms)
        result = Chosen(slice=self.name, block=proposals[0])
        try:
            result.block, result.tries = await best_of(
                proposals, len(self.questions), halving.first, self._scores
            )
            asked = max((asked for _, asked, _ in result.tries), default=halving.first)
            await self._improve(result, min(asked, len(self.questions)))
        except Spent:
            pass
        result.tried = len(result.tries)
        return result

    def proposals(self, most: int) -> list[Block]:
        """Different blocks: by chance with different answers, then spread over the pool, then by chance."""
        made = [self._varied(), self._spread()]
        made += [self._varied() for _ in range(max(most - 2, 0))]
        return list(dict.fromkeys(made))[: max(most, 1)]

    def _varied(self) -> Block:
        """By chance, answers that were not shown yet before others."""
        order = self.random.sample(self.pool, len(self.pool))
        seen: set[str] = set()
        fresh: list[str] = []
        repeated: list[str] = []
        for example in order:
            answer = digest(example.target)
            (repeated if answer in seen else fresh).append(example.id)
            seen.add(answer)
        return tuple((fresh + repeated)[: self.count])

    def _spread(self) -> Block:
        """Each as far as possible from those before (Gonzalez 1985), by words of question and answer."""
        from rapidfuzz import fuzz, process

        order = self.random.sample(self.pool, min(len(self.pool), 400))
        words = [self.words[example.id] for example in order]
        taken, nearest = [0], process.cdist([words[0]], words, scorer=fuzz.token_ratio)[0]
        while len(taken) < min(self.count, len(order)):
            far = int(nearest.argmin())
            if far in taken:
                break
            taken.append(far)
            nearest = nearest.clip(min=process.cdist([words[far]], words, scorer=fuzz.token_ratio)[0])
        return tuple(order[place].id for place in taken)

    async def _improve(self, result: Chosen, asked: int) -> None:
        """Change one example at a time until nothing is left in the purse."""
        cells = await self._cells(result.block, asked)
        best = _mean(cells)
        tried = {block for block, _, _ in result.tries} | {result.block}
        for _ in range(10 * self.purse.calls + 10):
            block = self._changed(result.block, cells)
            if block in tried:
                continue
            tried.add(block)
            # a change that loses on the first half is not asked the rest
            half = max(asked // 2, 1)
            if _mean(await self._cells(block, half)) < _mean(cells[:half]):
                continue
            changed = await self._cells(block, asked)
            result.tries.append((block, asked, _mean(changed)))
            if _mean(changed) > best:
                result.block, cells, best = block, changed, _mean(changed)

    def _changed(self, block: Block, cells: Sequence[Cell]) -> Block:
        """One example replaced by one that lies near a failed question, at any place of the block."""
        from rapidfuzz import fuzz, process

        failed = [
            question
            for question, cell in zip(self.questions, cells, strict=False)
            if cell.score is not None and cell.score < 1
        ]
        free = [example for example in self.pool if example.id not in block]
        if not free:
            return tuple(self.random.sample(block, len(block)))
        if failed:
            question = words_of(self.random.choice(failed))
            words = [self.words[example.id] for example in free]
            near = process.extract(question, words, scorer=fuzz.token_ratio, limit=NEAR)
            comes = free[self.random.choice(near)[2]]
        else:
            comes = self.random.choice(free)
        goes = self.random.randrange(len(block))
        rest = [id for place, id in enumerate(block) if place != goes]
        rest.insert(self.random.randrange(len(block)), comes.id)
        return tuple(rest)

    async def _scores(self, block: Block, asked: int) -> list[float | None]:
        return [cell.score for cell in await self._cells(block, asked)]

    async def _cells(self, block: Block, asked: int) -> list[Cell]:
        few_shot = FewShot(count=self.count, by=self.by or None, ids=block)
        return await self.trials.scored(
            replace(self.prompt, few_shot=few_shot), self.questions[:asked], self.purse
        )


def words_of(example: Example) -> str:
    """What an example asks and answers, as one text to compare by words."""
    asked = " ".join(str(message.content) for message in example.messages if message.role != "system")
    fields = " ".join(str(value) for value in example.fields.values())
    return f"{fields} {asked} {json.dumps(example.target, ensure_ascii=False, default=str)}".casefold()


def _mean(cells: Sequence[Cell]) -> float:
    known = [cell.score for cell in cells if cell.score is not None]
    return sum(known) / len(known) if known else -1.0
