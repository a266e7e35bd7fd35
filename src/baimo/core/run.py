"""What happened: one Sample per (candidate, example), and the Run that they belong to.

Prevents the failure that sinks most leaderboards: wrong, malformed and failed thrown into one column. A wrong or
malformed answer counts against a model; a failed call or a failed scorer leaves the denominator, visibly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from baimo.core.call import Completion, Request
from baimo.core.registry import Spec
from baimo.core.task import Example


class Outcome(StrEnum):
    """How one answer came out."""

    RIGHT = "right"
    """Full marks."""
    PARTIAL = "partial"
    """Some marks."""
    WRONG = "wrong"
    """Well-formed, but no marks."""
    MALFORMED = "malformed"
    """Not in the form that the task asks for (code fences, broken JSON, no number), whatever its content."""
    FAILED = "failed"
    """The provider gave no answer; the model is not to blame."""
    UNSCORED = "unscored"
    """The scorer failed; the model is not to blame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One scorer's judgement of one answer."""

    lenient: float | None
    """0..1 for the content, form forgiven; None = no judgement. This one decides unless a task asks for strict."""
    strict: float | None
    """0..1 for the answer exactly as the contract wants it; None = no judgement."""
    outcome: Outcome
    """The column in which it is counted."""
    explanation: str = ""
    """For a person: what was expected, what was found."""
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Figures of the scorer: fields right, edit distance, judge's votes …"""

    @classmethod
    def of(
        cls, lenient: float, strict: float | None = None, *, explanation: str = "", **details: Any
    ) -> Score:
        """A judgement: right, partial or wrong by `lenient`; malformed when `strict` is 0 but `lenient` is not,
        or when `malformed=True` is among the details."""
        strict = lenient if strict is None else strict
        malformed = bool(details.pop("malformed", False)) or (strict == 0 < lenient)
        if malformed:
            outcome = Outcome.MALFORMED
        elif lenient >= 1:
            outcome = Outcome.RIGHT
        else:
            outcome = Outcome.PARTIAL if lenient > 0 else Outcome.WRONG
        return cls(lenient=lenient, strict=strict, outcome=outcome, explanation=explanation, details=details)

    @classmethod
    def unscored(cls, reason: str, hint: str = "") -> Score:
        """No judgement: the sample leaves the denominator; `hint` says what to do about it."""
        return cls._without(Outcome.UNSCORED, reason, hint)

    @classmethod
    def failed(cls, reason: str, hint: str = "") -> Score:
        """No answer: the sample leaves the denominator; `hint` says what to do about it."""
        return cls._without(Outcome.FAILED, reason, hint)

    @classmethod
    def _without(cls, outcome: Outcome, reason: str, hint: str) -> Score:
        details = {"hint": hint} if hint else {}
        return cls(lenient=None, strict=None, outcome=outcome, explanation=reason, details=details)


class Scorer(Protocol):
    """Judges one answer. A scorer that cannot judge raises ScorerError or returns Score.unscored."""

    @property
    def spec(self) -> Spec:
        """How to build this scorer again."""
        ...

    async def score(self, example: Example, completion: Completion) -> Score:
        """Judge `completion` as an answer to `example`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One (candidate, example) cell of a run."""

    candidate: str
    """Candidate.name."""
    example: str
    """Example.id."""
    request_hash: str
    """Digest of provider spec and request: where the answer is stored."""
    score: Score
    """Judgement of the first scorer."""
    other_scores: Mapping[str, Score] = field(default_factory=dict[str, Score])
    """Judgements of the other scorers, by name."""
    cost_micros: int | None = None
    """What this run paid for it: 0 when the answer was already stored; None = not known."""
    price_micros: int | None = None
    """What the answer costs when it is bought, whoever paid; None = not known."""
    currency: str = "USD"
    """Currency of both."""
    latency_ms: float | None = None
    """Wall time of the call that produced the answer."""
    reused: bool = False
    """The answer was stored already."""
    error: str = ""
    """Message key of the provider's error, when it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One comparison: everything needed to repeat it or to check it."""

    id: str
    """run_… sortable by time."""
    task: str
    """Task.name."""
    task_hash: str
    """Task.hash."""
    task_blob: str = ""
    """Where the store keeps the task as it was read, so that a report can be made when the folder has changed."""
    options: Mapping[str, Any]
    """The options of the verb, as data."""
    candidates: tuple[Mapping[str, Any], ...]
    """Every candidate with its model, prompt, parameters, provider Spec and price, as data."""
    config_hash: str
    """Hash of the settings in force."""
    seed: int
    """Seed of the shared order and of every random choice."""
    started_ms: int
    """Wall clock, milliseconds since 1970."""
    version: str
    """Version of baimo."""
    ended_ms: int | None = None
    """None while it runs, or when it was killed."""
    status: str = "running"
    """queued, running, done, stopped (a limit, or somebody), failed."""
    tenant: str = ""
    """Tenant that pays and may see it; empty = the workspace's owner."""
    key: str = ""
    """Public part of the key that began it; empty = the command line."""
    name: str = ""
    """What whoever began it calls the task, where that is not where it lies."""
    problem: str = ""
    """Why it failed, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    """A completion in the store, under the digest of the request that it answers."""

    hash: str
    """digest([provider spec, request])."""
    request: Request
    """What was asked."""
    completion: Completion
    """What came back."""
    price_micros: int | None
    """What it cost, None = not known."""
    currency: str
    """Currency of the price."""
    created_ms: int
    """When it was bought."""
