# pyright: basic
"""Learning from rewards: the model answers each prompt several times, and what was better than its group's mean gets
likelier (group-relative policy optimisation).

small    LoRA on the upper half of the layers, 8 answers to a prompt, some 40 steps
medium   LoRA on all layers, 8 answers, some 120 steps
large    LoRA on all layers, of higher rank, 16 answers, some 300 steps

Every step learns from answers that the model of that very step gave. Groups are not scaled by their deviation and
answers not by their length unless the settings say so (Dr. GRPO). Sources: Shao et al. 2024, arXiv 2402.03300; Liu et
al. 2025, arXiv 2503.20783; hyperparameters carry OpenAI's names.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy
import torch

from baimo.core.tuning import Row
from baimo.errors import BaimoError, ConfigError, TaskError
from baimo.text import text
from baimo.tuning.bench import Bench, Reward
from baimo.tuning.fit import base as bases
from baimo.tuning.fit import lora, policy
from baimo.tuning.fit.base import LoadedBase
from baimo.tuning.fit.encode import Dialect, Encoded
from baimo.tuning.fit.families import together
from baimo.tuning.fit.loop import Course, Loop
from baimo.tuning.fit.loss import Measured, logprobs
from baimo.tuning.fit.rollout import Engine, Rollout, Sampling, rollouts
from baimo.tuning.plans.grpo import Settings as Settings
from baimo.tuning.plans.grpo import planned as planned
from baimo.tuning.recipes.sft import pace, walk

VERSION = "1"
"""Of this recipe: a change that makes other weights out of the same spec raises it."""

_GRADERS = 8  # answers judged at once: a grader may be a model far away


def run(bench: Bench, settings: Settings, engine: Engine | None = None) -> None:
    """Learn, and leave the result in the job's folder.

    Args:
        bench: lends the rewards.
        settings: as planned.
        engine: samples the answers; None = the model in training itself. Another engine has to follow the weights.

    Raises:
        ProviderError: the base cannot be read, memory is too short, or the loss diverged.
        ConfigError: there is nothing to judge answers by.
        TaskError: not a single row holds a prompt that fits.
    """
    spec = bench.folder.spec()
    base = bases.loaded(bench, bases.precision(settings.precision))
    train = prompts(bench, base.dialect, bench.folder.train(), settings.room)
    weights = lora.adapt(base, rank=settings.rank, alpha=settings.alpha, upper=settings.upper, seed=spec.seed)
    save = functools.partial(lora.write_adapter, base, base_name=spec.base)
    school = School(bench, base, settings, engine, spec.seed)
    course: Course[Item] = Course(
        items=train,
        valid=prompts(bench, base.dialect, bench.folder.valid(), settings.room, needed=False),
        drawn=school.answered,
        cut=school.cut,
        loss=school.measured,
        weight=school.weight,
        tokens=lambda item: len(item.row) if isinstance(item, Answer) else len(item.ids),
        save=save,
    )
    walk(bench, Loop(bench, base, weights, course, pace(settings, spec.seed, settings.eval_interval)), save)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What is to be answered."""

    asked: Row
    """What rewards compare with."""
    ids: tuple[int, ...]
    """Tokens, ending where the answer begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One sampled answer and what it is worth."""

    row: Encoded
    """Prompt and answer; the answer is marked."""
    old: tuple[float, ...]
    """Log-probabilities of its tokens when it was sampled."""
    reward: float
    """As judged; NaN = it could not be."""
    advantage: float
    """Over its group."""
    before: tuple[float, ...] = ()
    """Log-probabilities under the reference; empty where no divergence is wanted."""

    @property
    def teaches(self) -> bool:
        """Whether it has a gradient."""
        return self.advantage != 0 or bool(self.before)


Item = Prompt | Answer


def prompts(
    bench: Bench, dialect: Dialect, rows: Sequence[Row], room: int, *, needed: bool = True
) -> list[Prompt]:
    """The prompts of the rows that leave room for an answer; an answer that a row already has is left out.

    Raises:
        TaskError: there is none, and one is needed.
    """
    kept: list[Prompt] = []
    told: list[dict[str, Any]] = []
    for at, row in enumerate(rows):
        ended = bool(row.messages) and row.messages[-1].role == "assistant"
        asked = replace(row, messages=row.messages[:-1]) if ended else row
        problem = "" if asked.messages else text("preference.no_prompt")
        ids: list[int] = []
        if not problem:
            try:
                ids = dialect.prompt_ids(asked)
            except BaimoError as error:
                problem = str(error)
        if len(ids) + room > dialect.window:
            problem = text("fit.too_long", tokens=len(ids) + room, limit=dialect.window)
        if problem:
            told.append({"line": row.line or at + 1, "problem": problem})
        else:
            kept.append(Prompt(asked=asked, ids=tuple(ids)))
    if told:
        message = text("fit.skipped", count=len(told), rows=len(rows), **told[0])
        bench.folder.tell("notice", code="skipped", message=message, count=len(told), rows=told[:100])
    if needed and not kept:
        raise TaskError("preference.no_prompts", rows=len(rows), problem=told[0]["problem"] if told else "0")
    return kept


class School:
    """Lets the model answer, has the answers judged, and measures what is to be learnt from them."""

    def __init__(
        self, bench: Bench, base: LoadedBase, settings: Settings, engine: Engine | None, seed: int
    ) -> None:
        self._bench, self._base, self._settings, self._seed = bench, base, settings, seed
        self._engine = engine or functools.partial(rollouts, base)
        self._rewards = chosen_rewards(bench.rewards, settings.rewards)

    def weight(self, item: Item) -> float:
        """What an answer counts in the step's mean."""
        return (
            policy.answer_weight(item.row.answers, self._settings.share) if isinstance(item, Answer) else 1.0
        )

    def answered(self, items: Sequence[Item], step: int) -> list[Item]:
        """Answers of the model as it is to the prompts of a step, with advantages; what happened is told."""
        settings = self._settings
        some = [item for item in items if isinstance(item, Prompt)]
        sampling = self._sampling(settings.temperature)
        sampled = self._engine([prompt.ids for prompt in some], settings.group, sampling, self._drawing(step))
        rewards, problems = self._judged(some, sampled)
        if problems:
            first = str(problems[0])
            message = text(
                "preference.ungraded", count=len(problems), answers=len(sampled), step=step + 1, problem=first
            )
            self._bench.folder.tell("notice", code="ungraded", message=message, count=len(problems))
        grouped = torch.tensor(rewards, dtype=torch.float64).view(len(some), settings.group)
        advantages = policy.group_advantages(grouped, scaled=settings.scaled)
        made = zip(sampled, rewards, advantages.flatten().tolist(), strict=True)
        answers = [
            Answer(row=_row(some, each), old=each.logprobs, reward=reward, advantage=advantage)
            for each, reward, advantage in made
        ]
        self._tell(step, sampled, rewards, advantages)
        return [*(self._compared(answers) if settings.kl else answers)]

    def cut(self, items: Sequence[Item], budget: int) -> list[list[Item]]:
        """Micro-batches: the answers to a prompt together; those that teach nothing apart, at no cost."""
        families: dict[int, list[Answer]] = {}
        apart: tuple[list[Item], list[Item]] = ([], [])
        for item in items:
            if isinstance(item, Answer) and item.teaches:
                families.setdefault(item.row.row, []).append(item)
            else:
                apart[isinstance(item, Prompt)].append(item)
        groups = together(list(families.values()), lambda answer: [answer.row], budget)
        return [*([*group] for group in groups), *(some for some in apart if some)]

    def measured(self, items: Sequence[Item]) -> Measured:
        """What a micro-batch of answers teaches, or how well prompts are answered."""
        if asked := [item for item in items if isinstance(item, Prompt)]:
            return self._examined(asked)
        some = [item for item in items if isinstance(item, Answer)]
        rewards = [answer.reward for answer in some if not math.isnan(answer.reward)]
        sums = {"reward": sum(rewards), "rewards": float(len(rewards))}
        if not some[0].teaches:
            return Measured(torch.zeros((), requires_grad=True), 0.0, 0.0, 0, sums)
        found = logprobs(self._base, [answer.row for answer in some], self._settings.temperature)
        device, row = found.values.device, found.row
        old = torch.tensor([each for answer in some for each in answer.old], device=device)
        advantages = torch.tensor([answer.advantage for answer in some], device=device)[row]
        lengths = torch.tensor([answer.row.answers for answer in some], device=device)
        weights = policy.token_weights(lengths, share=self._settings.share, longest=self._settings.room)[row]
        settings = self._settings
        gain = policy.clipped_ratio(found.values, old, advantages, low=settings.low, high=settings.high).gain
        if settings.kl:
            before = torch.tensor([each for answer in some for each in answer.before], device=device)
            gain = gain - settings.kl * policy.divergence(found.values, before)
        total = -(gain * weights).sum()
        return Measured(total, float(total.detach()), float(found.hits.sum()), len(found.values), sums)

    def _examined(self, some: Sequence[Prompt]) -> Measured:
        """Loss = 1 − mean reward, accuracy = mean reward, of answers to validation prompts."""
        samples = self._settings.eval_samples
        sampling = self._sampling(self._settings.temperature if samples > 1 else 0.0)
        sampled = self._engine([prompt.ids for prompt in some], samples, sampling, self._seed)
        rewards = [reward for reward in self._judged(some, sampled)[0] if not math.isnan(reward)]
        return Measured(torch.zeros(()), sum(1 - reward for reward in rewards), sum(rewards), len(rewards))

    def _sampling(self, temperature: float) -> Sampling:
        return Sampling(
            stops=frozenset(self._base.dialect.ends),
            longest=self._settings.room,
            temperature=temperature,
            rows=self._settings.rows,
        )

    def _drawing(self, step: int) -> int:
        """Seed of a step's answers: a resumed job samples what an uninterrupted one does."""
        return self._seed * 1_000_003 + step

    def _judged(
        self, some: Sequence[Prompt], sampled: Sequence[Rollout]
    ) -> tuple[list[float], list[BaimoError]]:
        """The reward of each answer, NaN where a judge failed; equal answers to a prompt are judged once.

        Raises:
            BaimoError: not a single answer could be judged.
        """
        said = [(each.prompt, self._base.dialect.decoded(each.ids)) for each in sampled]
        asked = list(dict.fromkeys(said))
        problems: dict[tuple[int, str], BaimoError] = {}

        def judge(answer: tuple[int, str]) -> float:
            try:
                row = some[answer[0]].asked
                return sum(weight * reward(row, answer[1]) for reward, weight in self._rewards)
            except BaimoError as error:
                problems[answer] = error
                return math.nan

        with ThreadPoolExecutor(_GRADERS) as pool:
            rewards = dict(zip(asked, pool.map(judge, asked), strict=True))
        if asked and len(problems) == len(asked):
            raise problems[asked[0]]
        return [rewards[each] for each in said], [problems[each] for each in said if each in problems]

    def _compared(self, answers: list[Answer]) -> list[Answer]:
        """With what the model said of them before training."""
        before: dict[int, tuple[float, ...]] = {}
        groups = together([answers], lambda answer: [answer.row], self._settings.micro_tokens)
        with torch.no_grad(), self._base.reference():
            for part in groups:
                found = logprobs(self._base, [answer.row for answer in part], self._settings.temperature)
                values = iter(found.values.tolist())
                for answer in part:
                    before[id(answer)] = tuple(next(values) for _ in range(answer.row.answers))
        return [replace(answer, before=before[id(answer)]) for answer in answers]

    def _tell(
        self, step: int, sampled: Sequence[Rollout], rewards: Sequence[float], advantages: torch.Tensor
    ) -> None:
        graded = [reward for reward in rewards if not math.isnan(reward)]
        figures: dict[str, float] = {
            "reward": statistics.fmean(graded),
            "spread": statistics.pstdev(graded),
            "tokens": statistics.fmean(len(each.ids) for each in sampled),
            "ended": statistics.fmean(each.ended for each in sampled),
            "teaching": float((advantages != 0).any(-1).double().mean()),
        }
        counts = {"step": step + 1, "answers": len(sampled), "ungraded": len(rewards) - len(graded)}
        shown = {name: f"{value:.3g}" for name, value in figures.items()}
        message = text("preference.answers", **counts, **shown)
        self._bench.folder.tell("answers", message=message, **counts, **figures)


def chosen_rewards(lent: Mapping[str, Reward], weights: Mapping[str, float]) -> list[tuple[Reward, float]]:
    """What answers are judged by, with weights.

    Raises:
        ConfigError: there is nothing, or nothing of that name.
    """
    if not lent:
        raise ConfigError("preference.no_rewards")
    if not weights:
        name = next((name for name in ("grader", "task") if name in lent), next(iter(lent)))
        weights = {name: 1.0}
    for name in weights:
        if name not in lent:
            raise ConfigError("preference.unknown_reward", name=name, known=", ".join(lent))
    return [(lent[name], weight) for name, weight in weights.items()]


def _row(some: Sequence[Prompt], answer: Rollout) -> Encoded:
    ids = some[answer.prompt].ids
    trained = numpy.zeros(len(ids) + len(answer.ids), dtype=numpy.bool_)
    trained[len(ids) :] = True
    whole = numpy.array([*ids, *answer.ids], dtype=numpy.int64)
    return Encoded(ids=whole, trained=trained, row=answer.prompt)
