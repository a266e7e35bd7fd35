"""A comparison with answers to judge, for tests that are about reviews."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from baimo.core.call import Completion, Request
from baimo.core.ids import canonical
from baimo.core.message import Message
from baimo.core.record import Record
from baimo.core.run import Run, Sample, Score, StoredAnswer
from baimo.core.task import Example, Task
from baimo.core.verdict import Interval, Standing, Verdict
from baimo.store.audit import Actor
from baimo.store.judgements import Judgements, Review
from baimo.workspace.task_keeping import TaskKeeping
from tests.server.served import Served

QUESTIONS = ("Where is my parcel?", "I want my money back", "Hello", "Is it open?")
TARGETS = ("parcel", "refund", "other", None)
SAID = {
    "a": ("parcel", "refund", "other", "Yes."),
    "b": ("parcel", "parcel", "other", "No."),
    "c": ("other", "other", "other", "Maybe."),
}
"""Candidate → its answers; a and b are the leaders, and differ on the second question."""


def compared(house: Served, tenant: str = "", *, name: str = "mail", run: str = "run_1") -> Run:
    """A finished comparison on a task of this tenant."""
    examples = tuple(
        Example(id=f"e{at}", fields={"input": asked}, target=target)
        for at, (asked, target) in enumerate(zip(QUESTIONS, TARGETS, strict=True))
    )
    keeping, store = TaskKeeping(house.workspace), house.workspace.store
    keeping.create(Task(name=name, examples=examples, scorers=()), tenant, Actor(tenant))
    task = keeping.kept(name, tenant).task
    made = Run(
        id=run,
        task=name,
        name=name,
        tenant=tenant,
        task_hash=task.hash,
        task_blob=sha256(canonical(task)).hexdigest(),
        options={"task": str(keeping.tasks.folder(name, tenant))},
        candidates=(),
        config_hash="",
        seed=1,
        started_ms=1,
        version="1",
        status="done",
    )
    store.begin(made, canonical(task))
    samples = [
        _sample(house, run, candidate, at, said)
        for candidate, all in SAID.items()
        for at, said in enumerate(all)
    ]
    store.add_samples(run, samples, first_position=0)
    store.finish(made, _verdict(run, name))
    return made


def _sample(house: Served, run: str, candidate: str, at: int, said: str) -> Sample:
    hash, target = f"{run}-{candidate}-{at}", TARGETS[at]
    request = Request(model=candidate, messages=(Message(role="user", content=QUESTIONS[at]),))
    answer = StoredAnswer(
        hash=hash,
        request=request,
        completion=Completion(text=said),
        price_micros=1,
        currency="USD",
        created_ms=1,
    )
    record = Record(id=f"rec_{hash}", at_ms=1, surface="eval", model=candidate, status="ok", run=run)
    house.workspace.store.settle(record, answer)
    score = Score.unscored("no reference") if target is None else Score.of(float(said == target))
    return Sample(candidate=candidate, example=f"e{at}", request_hash=hash, score=score)


def _verdict(run: str, task: str) -> Verdict:
    none: dict[str, Any] = dict.fromkeys(
        ("strict", "lenient", "cost_micros", "cost_per_1000_micros", "latency_ms_median")
    )
    counts = dict.fromkeys(
        ("judged", "right", "partial", "wrong", "malformed", "failed", "unscored", "calls"), 0
    )
    standings = tuple(
        Standing(candidate=one, tier=tier, score=0.5, interval=Interval(0.0, 1.0), **none, **counts)
        for one, tier in (("a", 1), ("b", 1), ("c", 2))
    )
    facts: dict[str, Any] = {
        "decision": "tie",
        "stopped": "exhausted",
        "assurance": "calibrated",
        "target": "best",
    }
    return Verdict(
        run=run, task=task, winner=None, certain=False, epsilon=0.05, delta=0.05, error_bound=0.05, examples=4,
        standings=standings, calls=12, calls_paid=12, calls_exhaustive=12, cost_micros=1, cost_exhaustive_micros=1,
        currency="USD", minutes=0.1, **facts,
    )  # fmt: skip


def review(house: Served, tenant: str, number: int = 1, **facts: Any) -> str:
    """An entry of this tenant's queue; its id."""
    kept = Judgements(house.workspace.store.database)
    wanted: dict[str, Any] = {
        "id": kept.new_id(),
        "subject": f"{tenant}-{number}",
        "task": f"{tenant or 'our'}-task",
    }
    wanted |= {"reason": "sample", "rank": 1, "created_ms": 1}
    made = Review(tenant=tenant, **{**wanted, **facts})
    kept.add([made], Actor(tenant), {})
    return made.id
