"""A better way to ask, found by trying: no weights change.

First which solved examples to show (blocks chosen slice by slice, or the nearest to each question), then in which
words to instruct (reflection on failures). Every choice is made on one part of the train split; the few prompts that
are left over then meet on another part that nothing was chosen on, and those are the figures of the result. The
prompt of the task is among them, so the result is never worse there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from baimo.core.ids import plain
from baimo.core.money import MICROS
from baimo.core.task import Example, FewShot, Prompt
from baimo.core.tuning import Effort, TuneProgress
from baimo.errors import UsageError
from baimo.text import text
from baimo.tuning.bench import Bench, Facts, overridden
from baimo.tuning.search.blocks import Chosen, chosen_blocks, with_blocks
from baimo.tuning.search.instructions import Evolution, Idea
from baimo.tuning.search.interval import Estimate, gain_of, mean_of
from baimo.tuning.search.journal import Cell
from baimo.tuning.search.parts import parts_of, sliced
from baimo.tuning.search.reflection import is_constant
from baimo.tuning.search.trials import Purse, Spent, Trials
from baimo.tuning.search.work import Work
from baimo.tuning.search.written import pinned, write

LEAST_EXAMPLES = 12
"""Solved examples below which three parts make no sense."""
CALLS: Mapping[Effort, int] = {"small": 600, "medium": 2000, "large": 8000}
SLICES_BY = "language"
"""Metadata that blocks follow when every example has it and nothing else was said."""
VERSION = "1"
"""Of this recipe: a change that makes another prompt out of the same spec raises it."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every value that the search uses."""

    calls: int = CALLS["small"]
    """Most calls, of the model that is asked and of the one that rewrites."""
    max_cost: float | None = None
    """Most money, in the workspace's currency; None = no limit but `calls`."""
    shots: int = 6
    """Solved examples that are shown, where the task's prompt does not say."""
    by: str = "auto"
    """Metadata whose values get blocks of their own; auto = the prompt's, else `language`; empty = none."""
    select: str = "any"
    """fixed: the same block for every question (prefix caches work); similar: the nearest; any = the better one."""
    instruct: float = 0.4
    """Part of the calls that goes into better words; 0 = the instruction stays as it is."""
    reflect_with: str = ""
    """vendor/model that rewrites the instruction; empty = the one that is asked."""
    language: str = "en"
    """In which the rewriting model is spoken to: en or zh."""
    batch: int = 6
    """Examples that a rewrite is made from."""
    patience: int = 5
    """Rewrites in a row that came to nothing, after which there are no more."""
    scored: int = 30
    """Examples on which rewrites compete."""
    confirmed: int = 48
    """Examples on which those that are left over meet."""
    at_once: int = 16
    """Calls under way together."""


def planned(effort: Effort, facts: Facts, overrides: Mapping[str, Any]) -> Settings:
    """The dial → everything else.

    Args:
        effort: small, medium or large: how many calls.
        facts: `rows` = examples of the train split.
        overrides: values by name; they win.

    Raises:
        ConfigError: an override that does not exist or is not possible.
    """
    wanted = overrides.get("calls")
    calls = int(wanted) if isinstance(wanted, (int, str)) and str(wanted).isdigit() else CALLS[effort]
    derived = Settings(
        calls=calls,
        # the uncertainty of the choice and that of the figure shrink alike when calls grow
        scored=max(8, min(round(1.2 * calls**0.5), facts.rows * 3 // 10)),
        confirmed=max(8, min(2 * round(calls**0.5), facts.rows // 5)),
        batch={"small": 6, "medium": 8, "large": 10}[effort],
        patience={"small": 5, "medium": 12, "large": 25}[effort],
    )
    return overridden("prompt", derived, overrides)


def run(bench: Bench, settings: Settings) -> None:
    """Search, tell, keep the result.

    Raises:
        UsageError: no task is lent, or its train split is too small.
        ProviderError: the model is not there.
    """
    if bench.work is None:
        raise UsageError("search.no_work")
    work = replace(bench.work, reflect_with=settings.reflect_with or bench.work.reflect_with)
    solved = [example for example in work.train if example.target is not None]
    if len(solved) < LEAST_EXAMPLES:
        raise UsageError("search.too_few", found=len(solved), least=LEAST_EXAMPLES)
    work = replace(work, train=tuple(solved))
    search = _Searching(bench, work, settings)
    try:
        asyncio.run(search.run())
    except _Wished as wish:
        bench.folder.tell("paused" if str(wish) == "pause" else "cancelled")


class _Wished(Exception):
    """The parent wants the search to pause or to end; what was asked is in the journal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finalist:
    """A prompt that is left over, and how it did where nothing was chosen."""

    name: str
    prompt: Prompt
    cells: Sequence[Cell] = ()
    estimate: Estimate | None = None


@dataclass
class _Searching:
    bench: Bench
    work: Work
    settings: Settings
    history: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def __post_init__(self) -> None:
        spec = self.bench.folder.spec()
        self.seed = spec.seed
        self.by = self._by()
        given = self.work.prompt.few_shot
        self.count = given.count if given and given.count > 0 else self.settings.shots
        self.start = pinned(self.work, self.work.prompt)
        already = self.start.few_shot.ids if self.start.few_shot else ()
        confirmed = self.settings.confirmed
        self.parts = parts_of(self.work.train, self.by, self.seed, confirmed=confirmed, already=already)
        limit = self.settings.max_cost
        self.began = time.monotonic()
        self.best: float | None = None
        self.trials = Trials(
            work=self.work,
            journal=Path(self.bench.folder.path) / "trials.jsonl",
            calls=self.settings.calls,
            cost_micros=None if limit is None else round(limit * MICROS),
            at_once=self.settings.at_once,
            look=self._look,
        )

    async def run(self) -> None:
        settings, parts = self.settings, self.parts
        counts = {"shown": len(parts.shown), "scored": len(parts.scored), "confirmed": len(parts.confirmed)}
        self.bench.folder.tell("plan", settings=msgspec.structs.asdict(settings), by=self.by, **counts)
        start = self.start
        finalists = [_Finalist(name="start", prompt=start)]
        measuring = 4 * len(parts.confirmed)  # calls that nothing else may take
        free = settings.calls - measuring
        if free < LEAST_EXAMPLES:
            raise UsageError("search.too_few_calls", calls=settings.calls, least=measuring + LEAST_EXAMPLES)
        shown = await self._shown(start, round(free * (1 - settings.instruct)))
        finalists += shown
        best = await self._best_shown(finalists)
        if settings.instruct > 0:
            finalists += await self._instructed(best, settings.calls - measuring - self.trials.bill.calls)
        await self._confirmed(finalists)

    # what is shown

    async def _shown(self, start: Prompt, calls: int) -> list[_Finalist]:
        """Blocks chosen by trying, and the nearest examples."""
        if all(example.messages for example in self.work.train):
            self._notice("conversations")
        found: list[_Finalist] = []
        if self.settings.select in ("any", "similar"):
            nearest = FewShot(count=self.count, by=self.by or None, select="similar")
            found.append(_Finalist(name="similar", prompt=replace(start, name="similar", few_shot=nearest)))
        if self.settings.select in ("any", "fixed"):
            # three prompts then meet on the scored examples
            halving = calls - 3 * self.settings.scored
            blocks: list[Chosen] = []
            if halving >= LEAST_EXAMPLES:
                blocks = await chosen_blocks(
                    self.trials,
                    self.parts,
                    replace(start, name="blocks"),
                    count=self.count,
                    by=self.by,
                    calls=halving,
                    seed=self.seed,
                )
            for one in blocks:
                self._told_blocks(one)
            if blocks:
                prompt = with_blocks(replace(start, name="blocks"), blocks, count=self.count, by=self.by)
                found.append(_Finalist(name="blocks", prompt=prompt))
        return found

    async def _best_shown(self, candidates: Sequence[_Finalist]) -> _Finalist:
        """The one that scores best on the scored examples; of equals the first."""
        means: list[float] = []
        examples = self.parts.scored[: self.settings.scored]
        for one in candidates:
            try:
                cells = await self.trials.scored(one.prompt, examples, Purse(len(examples)))
            except Spent:
                break
            means.append(self._told("shown", one.name, one.prompt, examples, cells))
        return candidates[max(range(len(means)), key=means.__getitem__)] if means else candidates[0]

    # in which words

    async def _instructed(self, best: _Finalist, calls: int) -> list[_Finalist]:
        """Better words for the best prompt so far."""
        if all(example.messages and example.messages[0].role == "system" for example in self.work.train):
            self._notice("own_system")
            return []
        block = best.prompt.few_shot
        shown = set(block.ids if block else ())
        evolution = Evolution(
            trials=self.trials,
            start=best.prompt,
            feedback=[example for example in self.parts.shown if example.id not in shown],
            scored=self.parts.scored[: self.settings.scored],
            batch=self.settings.batch,
            language=self.settings.language,
            patience=self.settings.patience,
            purse=Purse(max(calls, 0)),
            seed=self.seed,
        )
        prompt = await evolution.run()
        for idea in evolution.ideas:
            self._told_idea(idea, evolution.scores.get(idea.id, {}))
        if prompt == best.prompt:
            self._notice("no_better_words")
            return []
        return [_Finalist(name="instructed", prompt=replace(prompt, name="instructed"))]

    # which one it is

    async def _confirmed(self, finalists: Sequence[_Finalist]) -> None:
        """Measure where nothing was chosen, and keep the best; of equals the earlier, simpler one."""
        examples = self.parts.confirmed
        measured: list[_Finalist] = []
        for one in finalists:
            try:
                cells = await self.trials.scored(one.prompt, examples, Purse(len(examples)))
            except Spent:
                break
            estimate = mean_of(examples, [cell.score for cell in cells])
            self._told("confirmed", one.name, one.prompt, examples, cells)
            measured.append(replace(one, cells=cells, estimate=estimate))
        known = [one for one in measured if one.estimate is not None]
        if not known or known[0].name != "start":
            raise UsageError("search.nothing_judged", calls=self.trials.bill.calls)
        winner = max(known, key=lambda one: one.estimate.mean if one.estimate else -1.0)
        figures = self._figures(known, winner)
        prompt = replace(winner.prompt, name="tuned") if winner is not known[0] else winner.prompt
        if prompt.system and not is_constant(prompt.system):
            self._notice("system_varies")
        self.bench.folder.result(lambda at: write(at, self.work, prompt, self.history, figures))
        self.bench.folder.tell("done", figures=figures)

    def _figures(self, known: Sequence[_Finalist], winner: _Finalist) -> dict[str, Any]:
        bill, examples = self.trials.bill, self.parts.confirmed
        before = known[0]
        gain = gain_of(examples, [cell.score for cell in winner.cells], [cell.score for cell in before.cells])
        assert winner.estimate is not None and before.estimate is not None
        return {
            "model": self.work.model,
            "reflect_with": self.work.reflect_with or self.work.model,
            "winner": winner.name,
            "before": before.estimate._asdict(),
            "after": winner.estimate._asdict(),
            "gain": None if gain is None else gain._asdict(),
            "confirmed": len(examples),
            "finalists": {one.name: one.estimate._asdict() for one in known if one.estimate},
            "by": self.by,
            "calls": bill.calls,
            "failed": bill.failed,
            "tokens_in": bill.tokens_in,
            "tokens_out": bill.tokens_out,
            "cost_micros": bill.total_micros,
            "currency": self.work.currency,
        }

    # what is told

    def _told(
        self, stage: str, name: str, prompt: Prompt, examples: Sequence[Example], cells: Sequence[Cell]
    ) -> float:
        estimate = mean_of(examples, [cell.score for cell in cells])
        line: dict[str, Any] = {"stage": stage, "name": name, "prompt": plain(prompt)}
        line |= {"asked": len(examples), "calls": self.trials.bill.calls}
        line |= {"slices": self._by_slice(examples, cells)} if self.by else {}
        if estimate is not None:
            line |= estimate._asdict()
            self.best = max(self.best or 0.0, estimate.mean)
        self.history.append(line)
        return estimate.mean if estimate else -1.0

    def _by_slice(self, examples: Sequence[Example], cells: Sequence[Cell]) -> dict[str, float]:
        scores = {example.id: cell.score for example, cell in zip(examples, cells, strict=True)}
        means: dict[str, float] = {}
        for name, members in sliced(examples, self.by).items():
            known = [score for one in members if (score := scores[one.id]) is not None]
            if known:
                means[name] = sum(known) / len(known)
        return means

    def _told_blocks(self, chosen: Chosen) -> None:
        for block, asked, mean in chosen.tries:
            line = {"stage": "block", "name": chosen.slice, "ids": list(block), "asked": asked, "mean": mean}
            self.history.append({**line, "chosen": block == chosen.block})

    def _told_idea(self, idea: Idea, scores: Mapping[str, float]) -> None:
        line: dict[str, Any] = {"stage": "instruction", "name": idea.id, "system": idea.prompt.system}
        line |= {"parents": list(idea.parents), "outcome": idea.outcome}
        line |= {"batch_before": idea.before, "batch_after": idea.after}
        examples = [one for one in self.parts.scored if one.id in scores]
        estimate = mean_of(examples, [scores[one.id] for one in examples])
        self.history.append({**line, **(estimate._asdict() if estimate else {})})

    def _notice(self, code: str) -> None:
        self.bench.folder.tell("notice", code=code, message=text(f"search.{code}"))

    def _look(self) -> None:
        """Between batches: tell how far it is, and whether the parent wants something else."""
        if wish := self.bench.folder.wished():
            raise _Wished(wish)
        bill, elapsed = self.trials.bill, time.monotonic() - self.began
        done = bill.ended  # not what is under way: the time of a call would be taken for that of a dozen
        rest = self.settings.calls - done
        self.bench.folder.tell(
            "progress",
            progress=TuneProgress(
                step=done,
                steps=self.settings.calls,
                epoch=round(done / self.settings.calls, 4),
                loss=1.0 - (self.best or 0.0),
                reward=self.best,
                tokens=bill.tokens_in + bill.tokens_out,
                examples=done,
                elapsed_s=round(elapsed, 3),
                eta_s=round(elapsed / done * rest, 1) if done else None,
            ),
        )

    def _by(self) -> str:
        """The metadata whose values get blocks of their own."""
        if self.settings.by != "auto":
            return self.settings.by
        given = self.work.prompt.few_shot
        if given is not None and given.by:
            return given.by
        everywhere = all(SLICES_BY in example.metadata for example in self.work.train)
        return SLICES_BY if everywhere else ""
