"""Answers for experts: which are worth a judgement, what is shown of them, and what becomes of what is said.

Prevents two failures: an expert's hour that decides nothing (answers on which the leaders differ come first, and every
entry says why it is asked), and a text that is copied out of the place where its tenant can have it deleted (question
and answer are read where they are kept, at the moment they are shown).
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from baimo.core.ids import digest
from baimo.core.message import Message
from baimo.core.run import Outcome, Run, Sample
from baimo.core.task import Example, Task
from baimo.core.tenant import DataClass
from baimo.errors import BaimoError, Conflict, NotFound, UsageError
from baimo.evals.agreement import Agreement, agreement
from baimo.evals.tasks.prompts import Renderer
from baimo.store.audit import Actor
from baimo.store.contents import Contents
from baimo.store.judgements import Entry, Judgement, Judgements, Review
from baimo.workspace.ledger_options import LedgerOptions
from baimo.workspace.task_edits import Draft, added, edited
from baimo.workspace.task_keeping import TaskKeeping, placed_of
from baimo.workspace.task_search import question_of

if TYPE_CHECKING:
    from baimo.workspace.workspace import Workspace

RANKS = {
    "leaders_differ": 4000,
    "unscored": 3000,
    "unsure": 2000,
    "no_reference": 2000,
    "call": 1000,
    "sample": 500,
}
"""What a judgement decides, the most first: the verdict, whether a sample counts, how it counts, whether the scorer
can be trusted."""
_MOST = 500
"""Answers that are put on the queue at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which answers are to be judged."""

    run: str = ""
    """Of this comparison."""
    records: bool = False
    """Of calls of the endpoint whose contents are kept."""
    task: str = ""
    """Task that calls belong to."""
    since: str | None = None
    """Calls at or after: a date, or 30d."""
    model: str | None = None
    """Calls of models that fit this pattern."""
    sample: int = 20
    """How many are drawn by chance, besides those that are in doubt."""
    second: float = 0.2
    """Share that a second expert is to judge, too."""


class Shown(NamedTuple):
    """What an expert sees."""

    messages: tuple[Message, ...]
    """What was asked; none = it is not kept any more."""
    answer: str | None
    """None = it is not kept any more."""
    expected: Any
    """Reference of the example; None = there is none."""
    rubric: str


class _Asked(NamedTuple):
    """The task of a comparison, and its examples by id; None = it is forgotten."""

    task: Task | None
    examples: Mapping[str, Example]


class Agreements(NamedTuple):
    """How far judges agree; `chance` are those of answers that were drawn by chance."""

    readers: Agreement
    scorer: Agreement
    """The first reader and the scorer."""
    readers_by_chance: Agreement
    scorer_by_chance: Agreement


class Reviewing:
    """Reviews of one workspace. Methods block."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.kept = Judgements(workspace.store.database)
        self.tasks: TaskKeeping = workspace.tasks

    # the queue

    def queued(self, wanted: Wanted, tenant: str, by: Actor) -> int:
        """Put answers on the queue; how many were not on it yet.

        Raises:
            NotFound: there is no such comparison, or it is another tenant's.
            UsageError: nothing is named.
        """
        if wanted.run:
            found, facts = list(self._of_run(wanted, tenant)), {"run": wanted.run}
        elif wanted.records:
            found, facts = list(self._of_calls(wanted, tenant)), {"task": wanted.task}
        else:
            raise UsageError("reviews.nothing_named", field="/run")
        return self.kept.add(found, by, facts)

    def runs(self, tenant: str, *, limit: int = 20) -> list[Run]:
        """Comparisons that have answers to judge, the newest first."""
        runs = (run for run in self.workspace.store.runs(limit=200) if run.tenant == tenant)
        return [run for run in runs if run.status in ("done", "stopped")][:limit]

    def _of_run(self, wanted: Wanted, tenant: str) -> Iterator[Review]:
        store = self.workspace.store
        run = store.run(wanted.run)
        if run is None or run.tenant != tenant:
            raise NotFound("reviews.no_run", field="/run")
        task, verdict = self.workspace.task_of(run), store.verdict(run.id)
        leaders = {one.candidate for one in verdict.standings if one.tier == 1} if verdict else set[str]()
        examples = {example.id: example for example in task.examples}
        samples = [one for one in store.samples(run.id) if one.request_hash and one.example in examples]
        samples = [one for one in samples if one.score.outcome is not Outcome.FAILED]
        found = [*_doubtful(samples, examples, leaders), *_drawn(samples, run.seed, wanted.sample)]
        texts = {
            hash: one.completion.text
            for hash, one in store.answers({one[0].request_hash for one in found}).items()
        }
        name, now, seen = self._task_name(run, tenant), self.kept.now_ms(), set[str]()
        givers: dict[str, list[str]] = defaultdict(list)
        for one in samples:
            givers[one.request_hash].append(one.candidate)
        for sample, reason, split in sorted(found, key=lambda one: -RANKS[one[1]] - one[2])[:_MOST]:
            if sample.request_hash not in texts:
                continue
            # one answer in the same words needs one judgement, whoever gave it
            subject = digest([run.task_hash, sample.example, texts[sample.request_hash]])
            if subject in seen:
                continue
            seen.add(subject)
            yield Review(
                id=self.kept.new_id(),
                tenant=tenant,
                subject=subject,
                task=name,
                run=run.id,
                example=sample.example,
                answer=sample.request_hash,
                candidates=tuple(givers[sample.request_hash]),
                outcome=sample.score.outcome.value,
                reason=reason,
                rank=RANKS[reason] + split,
                readers=1 + _chosen(subject, wanted.second),
                created_ms=now,
            )

    def _of_calls(self, wanted: Wanted, tenant: str) -> Iterator[Review]:
        if wanted.task:
            self.tasks.tasks.known(wanted.task, tenant)
        options = LedgerOptions(tenant=tenant or "owner", since=wanted.since, model=wanted.model)
        lines = self.workspace.bookkeeping.page(options, limit=1000)
        kept = [one.record for one in lines if one.record.content_hash and one.record.status == "ok"]
        now, dice = self.kept.now_ms(), random.Random(str(wanted))
        for record in dice.sample(kept, min(len(kept), wanted.sample)):
            yield Review(
                id=self.kept.new_id(),
                tenant=tenant,
                subject=record.id,
                task=wanted.task,
                record=record.id,
                model=record.model_used or record.model,
                reason="call",
                rank=RANKS["call"],
                readers=1 + _chosen(record.id, wanted.second),
                created_ms=now,
            )

    def _task_name(self, run: Run, tenant: str) -> str:
        """What the task of a run is called here now; else what it was called then."""
        where = str(run.options.get("task") or "")
        for one in self.tasks.tasks.listed(tenant):
            if str(one.folder) == where or one.folder == (self.workspace.folder / where).resolve():
                return one.name
        return run.name or run.task

    # one of them

    def entry(self, tenant: str, id: str) -> Entry:
        """
        Raises:
            NotFound: there is none, or it is another tenant's.
        """
        found = self.kept.get(tenant, id)
        if found is None:
            raise NotFound("reviews.no_review", field="/review")
        return found

    def questions(self, reviews: Iterable[Review]) -> dict[str, str]:
        """What some of them ask, for lists; calls are not opened for that."""
        wanted, found = list(reviews), dict[str, str]()
        for id in {one.run for one in wanted if one.run}:
            run = self.workspace.store.run(id)
            if run is None:
                continue
            asked = {example.id: question_of(example) for example in self.workspace.task_of(run).examples}
            found |= {one.id: asked[one.example] for one in wanted if one.run == id and one.example in asked}
        return found

    def shown(self, review: Review) -> Shown:
        """What an expert sees of it; who gave the answer is not among it."""
        return next(self.all_shown([review]))

    def all_shown(self, reviews: Iterable[Review]) -> Iterator[Shown]:
        """What experts see of some, in their order; what several come from is read once."""
        tasks, rubrics = dict[str, _Asked](), dict[str, str]()
        for review in reviews:
            if review.task not in rubrics:
                rubrics[review.task] = self._rubric(review)
            if review.record:
                messages, answer = self._call(review)
                yield Shown(messages, answer, None, rubrics[review.task])
                continue
            if review.run not in tasks:
                tasks[review.run] = self._task(review.run)
            answers, (task, examples) = self.workspace.store.answers([review.answer]), tasks[review.run]
            answer = answers[review.answer].completion.text if review.answer in answers else None
            example = examples.get(review.example)
            asked = () if task is None or example is None else _asked(task, example)
            yield Shown(asked, answer, None if example is None else example.target, rubrics[review.task])

    def _task(self, run: str) -> _Asked:
        found = self.workspace.store.run(run)
        if found is None:
            return _Asked(None, {})
        task = self.workspace.task_of(found)
        return _Asked(task, {one.id: one for one in task.examples})

    def _call(self, review: Review) -> tuple[tuple[Message, ...], str | None]:
        from baimo.tuning.data.collected import Kept, from_records

        kept = self._kept(review)
        if not kept:
            return (), None
        rows = from_records([Kept(review.record, kept["surface"], kept["request"], kept["answer"])]).rows
        if not rows:
            return (), None
        *asked, said = rows[0].messages
        return tuple(asked), said.content if isinstance(said.content, str) else None

    def _kept(self, review: Review) -> dict[str, Any]:
        """What is kept with a call; empty = nothing."""
        content = Contents(self.workspace.store.database).content(review.record, tenant=review.tenant)
        return {} if content is None else msgspec.msgpack.decode(content)

    def _rubric(self, review: Review) -> str:
        try:
            return self.tasks.rubric(self.tasks.kept(review.task, review.tenant)) if review.task else ""
        except BaimoError:  # moved or broken meanwhile: the answer can still be judged
            return ""

    def judged(self, tenant: str, judgement: Judgement, by: Actor, *, store: bool) -> Entry:
        """Enter a judgement.

        Args:
            tenant: whose review.
            judgement: what is said.
            by: who says it.
            store: also make the right answer the reference of an example of the task.

        Raises:
            NotFound: there is no such review.
            UsageError: a fix without the right answer, or one to be stored that has none.
            Conflict: it has been judged by as many as are to, and this reader is none of them.
        """
        entry = self.entry(tenant, judgement.review)
        if judgement.said == "fix" and not judgement.correction.strip():
            raise UsageError("reviews.no_correction", field="/correction")
        known = {one.reader for one in self.kept.of(tenant, judgement.review)}
        if judgement.reader not in known and entry.read >= entry.review.readers:
            raise Conflict("reviews.all_read")
        if store:
            judgement = replace(judgement, stored=self._stored(entry.review, judgement, by))
        found = self.kept.judge(tenant, judgement, by)
        if found is None:
            raise NotFound("reviews.no_review", field="/review")
        return found

    def _stored(self, review: Review, judgement: Judgement, by: Actor) -> str:
        """The example that has the right answer now, as split:id."""
        shown = self.shown(review)
        right = judgement.correction if judgement.said == "fix" else shown.answer
        if judgement.said == "reject" or not right:
            raise UsageError("reviews.nothing_right", field="/store")
        if not review.task:
            raise UsageError("reviews.no_task", field="/store")
        kept = self.tasks.kept(review.task, review.tenant)
        lineage = {"source": "review", "review": review.id}
        there = next((one for one in placed_of(kept.task) if one.example.id == review.example), None)
        if review.run and there is not None:
            draft = Draft(expected=_like(right, there.example.target), labels={"review": review.id})
            self.tasks.change(review.task, review.tenant, by, "review", edited(there.id, draft))
            return there.id
        data: DataClass = "public"
        if review.record:
            lineage["record"], data = review.record, self._kept(review).get("data_class", data)
        plain: list[Mapping[str, Any]] = [
            {"role": one.role, "content": one.content} for one in shown.messages
        ]
        if not plain:
            raise UsageError("reviews.not_kept", field="/store")
        id = self.tasks.new_id()
        draft = Draft(messages=plain, expected=right, labels=lineage)
        self.tasks.change(review.task, review.tenant, by, "review", added(draft, "test", id, data))
        return f"test:{id}"

    def agreements(self, tenant: str, *, task: str = "") -> Agreements:
        """How far readers agree with each other, and the first of them with the scorer."""
        said = self.kept.said(tenant, task=task)
        drawn = [one for one in said if one[0].reason in ("sample", "call")]
        return Agreements(
            agreement(_readers(said)),
            agreement(_scorer(said)),
            agreement(_readers(drawn)),
            agreement(_scorer(drawn)),
        )


def _doubtful(
    samples: Sequence[Sample], examples: Mapping[str, Example], leaders: set[str]
) -> Iterator[tuple[Sample, str, int]]:
    """Answers in doubt, with the reason, and how much within it a judgement decides (0 to 100)."""
    by_example: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.candidate in leaders:
            by_example[sample.example].append(sample)
    for group in by_example.values():
        counts = Counter(one.score.outcome is Outcome.RIGHT for one in group)
        if len(counts) > 1:
            # the nearer to half and half, the more of the leaders it tells apart
            even = 200 * min(counts.values()) // len(group)
            yield from ((one, "leaders_differ", even) for one in group)
    for sample in samples:
        if sample.score.outcome is Outcome.UNSCORED:
            yield sample, "unscored", 50
        elif sample.score.lenient is not None and 0 < sample.score.lenient < 1:
            yield sample, "unsure", 100 - int(200 * abs(sample.score.lenient - 0.5))
        elif examples[sample.example].target is None:
            yield sample, "no_reference", 50


def _drawn(samples: Sequence[Sample], seed: int, count: int) -> Iterator[tuple[Sample, str, int]]:
    for sample in random.Random(seed).sample(samples, min(len(samples), count)):
        yield sample, "sample", 0


def _chosen(subject: str, share: float) -> int:
    """Whether a second reader is to judge it: the same for one subject, however often it is asked."""
    return int(int(digest(["second", subject])[:8], 16) / 16**8 < share)


def _asked(task: Task, example: Example) -> tuple[Message, ...]:
    """What every candidate was asked, without solved examples before it."""
    if example.messages:
        return example.messages
    try:
        return Renderer(replace(task.prompts[0], few_shot=None)).messages(example)
    except BaimoError:
        return (Message(role="user", content=json.dumps(dict(example.fields), ensure_ascii=False)),)


def _like(right: str, before: Any) -> Any:
    """A right answer as the kind of reference that there was."""
    if before is None or isinstance(before, str):
        return right
    try:
        return json.loads(right)
    except ValueError:
        return right


def _readers(said: Iterable[tuple[Review, list[Judgement]]]) -> Iterator[tuple[bool, bool]]:
    for _, judgements in said:
        if len(judgements) > 1:
            yield judgements[0].said == "agree", judgements[1].said == "agree"


def _scorer(said: Iterable[tuple[Review, list[Judgement]]]) -> Iterator[tuple[bool, bool]]:
    for review, judgements in said:
        if review.outcome and review.outcome != Outcome.UNSCORED.value:
            yield judgements[0].said == "agree", review.outcome == Outcome.RIGHT.value
