"""A strong model's answers as data for a small one: ask, keep what is good, learn from it.

An answer is kept if the task's scorer says that it is right; where there is no scorer, if enough of several answers
to the same question agree (self-consistency, Wang et al. 2022, arXiv 2203.11171); and in either case only if it is
whole and has the form that was asked for. Then `sft` learns from the kept answers. Whether the teacher may be asked
at all is decided before the first call (`tuning/teaching.py`).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from baimo.core.call import Completion, JsonFormat, Request, Sampling
from baimo.core.ids import digest
from baimo.core.message import Message
from baimo.core.money import MICROS
from baimo.core.tuning import Effort, Row, TuneProgress
from baimo.errors import BudgetExceeded, ProviderError, ScorerError, UsageError
from baimo.text import text
from baimo.tuning.bench import Bench, Facts, Reward, overridden
from baimo.tuning.folder import JobFolder, read_json, rows, write_rows
from baimo.tuning.search.interval import estimate
from baimo.tuning.search.journal import Bill, Cell, Journal
from baimo.tuning.teaching import Teacher, permitted

VERSION = "1"
"""Of this recipe: a change that makes other weights out of the same spec raises it."""
FAILURES = 20
"""Calls that may fail in a row before the recipe gives up: the teacher is not there."""
ROWS, FIGURES = "distilled.jsonl", "distilled.json"

Count = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every value that the recipe uses; what the student does is up to `sft`."""

    teacher: str = ""
    """vendor/model whose answers are learnt."""
    samples: Count = 1
    """Answers to each question."""
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] = 0.0
    """Of the teacher; above 0 where several answers are wanted."""
    max_tokens: Count = 512
    """Longest answer; one that is cut off is not kept."""
    instruction: str = ""
    """System message that the teacher sees in place of the rows' own, and the student never; empty = the rows' own."""
    form: Literal["any", "json"] = "any"
    """json: an answer that is no JSON value is not kept."""
    accept: Share = 1.0
    """Least score of an answer that is kept, where a scorer judges."""
    agreement: Share = 0.5
    """Least share of a question's answers that agree, where none does."""
    keep: Count = 1
    """Most different answers that are kept of one question."""
    calls: Count = 2000
    """Most calls of the teacher."""
    max_cost: float | None = None
    """Most money for them, in the currency of the teacher's price; None = no limit but `calls`."""
    accept_terms: bool = False
    """Somebody has read the teacher's terms and decided that its answers may be learnt from."""
    at_once: Count = 16
    """Calls under way together."""
    student: dict[str, Any] = {}
    """Settings of `sft` that are not derived."""


def planned(effort: Effort, facts: Facts, overrides: Mapping[str, Any]) -> Settings:
    """The dial → how often each question is asked.

    Raises:
        ConfigError: an override that does not exist or is not possible.
    """
    samples = {"small": 1, "medium": 3, "large": 8}[effort]
    wanted = overrides.get("samples")
    samples = wanted if isinstance(wanted, int) else samples
    derived = Settings(
        samples=samples,
        temperature=0.0 if samples == 1 else 0.8,
        keep=1 if effort == "small" else 2,
        calls=max(1, facts.rows * samples),
    )
    return overridden("distill", derived, overrides)


Learn = Callable[[Bench, Mapping[str, Any]], None]
"""Tunes the student on the folder's rows, with settings that are not to be derived."""


def run(bench: Bench, settings: Settings, learn: Learn | None = None) -> None:
    """Ask, keep, learn; the result is the student's adapter with what its teacher cost beside it.

    Args:
        bench: `ask` and `teachers` must be lent; `rewards["task"]` judges, where there is one.
        settings: see `Settings`.
        learn: how the student learns; None = `sft`.

    Raises:
        UsageError: no teacher, or one that may not be asked or learnt from, or no answer was kept.
        ProviderError: the teacher is not there.
    """
    if bench.ask is None or bench.teachers is None or not settings.teacher:
        raise UsageError("distill.no_teacher")
    teacher = bench.teachers(settings.teacher)
    permitted(teacher, accept_terms=settings.accept_terms)
    kept = bench.folder.path / ROWS
    if not kept.exists():
        _tell_terms(bench, teacher)
        asking = _Asking(bench, settings, teacher)
        if wish := asyncio.run(asking.run()):
            bench.folder.tell("paused" if wish == "pause" else "cancelled")
            return
        asking.write()
        bench.rest()
    taught = replace(bench, folder=_Taught(bench.folder.path))
    (learn or _student)(taught, settings.student)


class _Taught(JobFolder):
    """The same folder, as the student sees it: its rows are the kept answers, its result says what they cost."""

    def train(self) -> list[Row]:
        return list(rows(self.path / ROWS))

    def result(self, fill: Callable[[Path], None]) -> Path:
        figures = dict(read_json(self.path / FIGURES))

        def with_figures(at: Path) -> None:
            fill(at)
            (at / "result.json").write_text(json.dumps(figures, ensure_ascii=False, indent=2) + "\n", "utf-8")

        return super().result(with_figures)


def _student(bench: Bench, given: Mapping[str, Any]) -> None:
    from baimo.providers.hf import hf_folder
    from baimo.tuning.facts import facts
    from baimo.tuning.recipes import sft

    base = hf_folder(bench.base, bench.cache)
    known = facts(base, bench.folder.train(), cores=bench.threads, memory_mb=bench.memory_mb)
    settings = sft.planned(bench.folder.spec().effort, known, given)
    bench.folder.tell("plan", recipe="sft", settings=msgspec.to_builtins(settings), facts=known)
    sft.run(bench, settings)


def _tell_terms(bench: Bench, teacher: Teacher) -> None:
    terms = teacher.terms
    if terms.training != "allowed":
        message = text("distill.terms", model=teacher.model.name, note=terms.told, source=terms.source)
        bench.folder.tell(
            "notice", code="terms", message=message, training=terms.training, source=terms.source
        )


@dataclass
class _Asking:
    """All questions, asked of the teacher."""

    bench: Bench
    settings: Settings
    teacher: Teacher
    bill: Bill = field(default_factory=Bill)
    left_out: Counter[str] = field(default_factory=Counter[str])
    """Why answers were not kept."""

    def __post_init__(self) -> None:
        self.journal = Journal(self.bench.folder.path / "teacher.jsonl")
        self.reward: Reward | None = self.bench.rewards.get("task")
        self.questions = [(row, asked) for row in self.bench.folder.train() if (asked := question(row))]
        self.gate = asyncio.Semaphore(self.settings.at_once)
        self.began = time.monotonic()
        self.in_a_row = 0
        self.scores: list[float] = []
        self.kept: list[Row] = []
        self.out_of: Literal["", "calls", "money"] = ""

    async def run(self) -> str:
        """Ask until everything is asked or nothing is left; a wish of the parent ends it and is returned."""
        batch = max(1, 2 * self.settings.at_once // self.settings.samples)
        for at in range(0, len(self.questions), batch):
            if wish := self.bench.folder.wished():
                return wish
            some = self.questions[at : at + batch]
            wanted = len(some) * self.settings.samples
            limit = self.settings.max_cost
            if limit is not None and self.bill.cost_micros >= limit * MICROS:
                self.out_of = "money"
            elif self.bill.calls + wanted > self.settings.calls:
                some = some[: (self.settings.calls - self.bill.calls) // self.settings.samples]
                self.out_of = "calls"
            if self.out_of != "money":
                for cells, (row, _) in zip(await self._answers(some), some, strict=True):
                    self._choose(row, cells)
            self._progress()
            if self.out_of:
                code = "out_of_calls" if self.out_of == "calls" else "out_of_money"
                self._notice(code, left=len(self.questions) - at - len(some))
                break
        return ""

    def write(self) -> None:
        """The kept rows and the figures; rows come last, because they say that this part is over."""
        if not self.kept:
            reasons = ", ".join(
                f"{count} {text(f'distill.left_{why}')}" for why, count in (+self.left_out).items()
            )
            raise UsageError("distill.nothing_kept", calls=self.bill.calls, reasons=reasons)
        path = self.bench.folder.path
        (path / FIGURES).write_text(json.dumps(self.figures(), ensure_ascii=False), "utf-8")
        write_rows(path / ROWS, self.kept)
        self._notice("kept", rows=len(self.kept), asked=self.bill.calls)

    def figures(self) -> dict[str, Any]:
        """What the teacher cost and how good it was."""
        bill, judged = self.bill, estimate(self.scores)
        total = bill.total_micros
        answered = bill.calls - bill.failed
        return {
            "teacher": self.teacher.model.name,
            "terms": msgspec.structs.asdict(self.teacher.terms) | {"accepted": self.settings.accept_terms},
            "questions": len(self.questions),
            "calls": bill.calls,
            "failed": bill.failed,
            "kept": len(self.kept),
            "left_out": dict(+self.left_out),
            "score": None if judged is None else judged._asdict(),
            "tokens_in": bill.tokens_in,
            "tokens_out": bill.tokens_out,
            "cost_micros": total,
            "cost_per_1000_micros": round(1000 * total / answered)
            if total is not None and answered
            else None,
            "cost_per_kept_micros": round(total / len(self.kept))
            if total is not None and self.kept
            else None,
            "currency": self.teacher.model.price.currency if self.teacher.model.price else "",
            "asking_s": round(time.monotonic() - self.began, 3),
        }

    # asking

    async def _answers(self, some: Sequence[tuple[Row, tuple[Message, ...]]]) -> list[list[Cell]]:
        calls = [
            self._answer(row, messages, sample)
            for row, messages in some
            for sample in range(self.settings.samples)
        ]
        ended = await asyncio.gather(*calls, return_exceptions=True)  # none is left under way when one fails
        cells: list[Cell] = []
        for one in ended:
            if isinstance(one, BudgetExceeded):
                self.out_of = "money"
                cells.append(Cell(key="", failed=True))
            elif isinstance(one, BaseException):
                raise one
            else:
                cells.append(one)
        wide = self.settings.samples
        return [cells[at : at + wide] for at in range(0, len(cells), wide)]

    async def _answer(self, row: Row, messages: tuple[Message, ...], sample: int) -> Cell:
        request = self._request(row, messages, sample)
        key = digest([request, row.hash])
        self.bill.calls += 1
        cell = self.journal.known.get(key)
        if cell is None:
            async with self.gate:
                cell = await self._bought(key, request)
            self.journal.keep(cell)
        self.bill.charge(cell)
        return cell

    def _request(self, row: Row, messages: tuple[Message, ...], sample: int) -> Request:
        settings = self.settings
        if settings.instruction:
            told = Message(role="system", content=settings.instruction)
            messages = (told, *(message for message in messages if message.role != "system"))
        seed = self.bench.folder.spec().seed * 1000 + sample if settings.temperature > 0 else None
        sampling = Sampling(temperature=settings.temperature, max_tokens=settings.max_tokens, seed=seed)
        return Request(
            model=settings.teacher,
            messages=messages,
            sampling=sampling,
            tools=row.tools,
            response_format=JsonFormat() if settings.form == "json" else None,
            repeat=sample,
        )

    async def _bought(self, key: str, request: Request) -> Cell:
        assert self.bench.ask is not None
        try:
            completion = await self.bench.ask(request)
        except ProviderError as error:
            self.in_a_row += 1
            if self.in_a_row >= FAILURES:
                raise
            return Cell(key=key, failed=True, why=str(error))
        self.in_a_row = 0
        return Cell(
            key=key,
            text=completion.text,
            tokens_in=completion.usage.tokens_in,
            tokens_out=completion.usage.tokens_out,
            cost_micros=self.teacher.cost_micros(completion.usage),
            cut=_is_cut(completion),
        )

    # choosing

    def _choose(self, row: Row, cells: Sequence[Cell]) -> None:
        """Keep the best answers to one question."""
        whole: list[Cell] = []
        for cell in cells:
            if why := self._unusable(cell):
                self.left_out[why] += 1
            else:
                whole.append(cell)
        chosen = self._judged(row, whole) if self.reward is not None else self._agreed(whole, len(cells))
        for said in chosen[: self.settings.keep]:
            answer = Message(role="assistant", content=said)
            self.kept.append(replace(row, messages=(*question(row), answer), trained=None))

    def _unusable(self, cell: Cell) -> str:
        if cell.failed:
            return "failed"
        if cell.cut:
            return "cut"
        if not cell.text.strip():
            return "empty"
        return "form" if self.settings.form == "json" and not _is_json(cell.text) else ""

    def _judged(self, row: Row, cells: Sequence[Cell]) -> list[str]:
        """Different answers that score enough, the best first."""
        assert self.reward is not None
        good: dict[str, tuple[float, str]] = {}
        for cell in cells:
            try:
                score = self.reward(row, cell.text)
            except ScorerError:
                self.left_out["unjudged"] += 1
                continue
            self.scores.append(score)
            if score < self.settings.accept:
                self.left_out["wrong"] += 1
            else:
                good.setdefault(folded(cell.text), (score, cell.text.strip()))
        return [said for _, said in sorted(good.values(), key=lambda one: -one[0])]

    def _agreed(self, cells: Sequence[Cell], asked: int) -> list[str]:
        """The answer that most of the answers give, if they are enough; a single answer agrees with itself."""
        counts = Counter(folded(cell.text) for cell in cells)
        if not counts:
            return []
        most, count = counts.most_common(1)[0]
        if count / asked < self.settings.agreement:
            self.left_out["disagreed"] += len(cells)
            return []
        self.left_out["disagreed"] += len(cells) - count
        return [next(cell.text.strip() for cell in cells if folded(cell.text) == most)]

    # telling

    def _notice(self, code: str, **facts: Any) -> None:
        self.bench.folder.tell("notice", code=code, message=text(f"distill.{code}", **facts), **facts)

    def _progress(self) -> None:
        bill, elapsed = self.bill, time.monotonic() - self.began
        most = min(self.settings.calls, len(self.questions) * self.settings.samples)
        mean = sum(self.scores) / len(self.scores) if self.scores else None
        progress = TuneProgress(
            step=bill.calls,
            steps=most,
            epoch=round(bill.calls / max(most, 1), 4),
            loss=0.0 if mean is None else 1.0 - mean,
            reward=mean,
            tokens=bill.tokens_in + bill.tokens_out,
            examples=len(self.kept),
            elapsed_s=round(elapsed, 3),
            eta_s=round(elapsed / bill.calls * (most - bill.calls), 1) if bill.calls else None,
        )
        self.bench.folder.tell("progress", progress=progress)


def question(row: Row) -> tuple[Message, ...]:
    """What a row asks: its conversation up to the last turn that is not the assistant's; empty = it asks nothing."""
    messages = row.messages
    while messages and messages[-1].role == "assistant":
        messages = messages[:-1]
    return messages


def folded(words: str) -> str:
    """An answer without differences that say nothing: JSON by value, text without case and spacing."""
    try:
        value = json.loads(words)
    except (ValueError, RecursionError):
        return " ".join(words.casefold().split())
    return f"json {json.dumps(value, sort_keys=True)}"


def _is_json(words: str) -> bool:
    try:
        json.loads(words)
    except (ValueError, RecursionError):
        return False
    return True


def _is_cut(completion: Completion) -> bool:
    return completion.finish_reason in ("length", "content_filter")
