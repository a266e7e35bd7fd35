"""A model compares the answer with a baseline's, in both orders.

Prevents the failure where the answer that is shown first, or the longer one, wins: a verdict that turns with the order
is a tie and counted as position-swayed, and both lengths are recorded for length control. Sources: Zheng et al. 2023
(arXiv 2306.05685), Dubois et al. 2024 (arXiv 2404.04475).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from baimo.core.call import Completion
from baimo.core.run import Score
from baimo.core.task import Example
from baimo.errors import ProviderError, TaskError
from baimo.evals.scorers.base import Ask, Described, accepted, as_text, found, judged, short, visible
from baimo.evals.scorers.judge import asked, filled, needs_judge, question
from baimo.text import text


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairwise(Described):
    """1 = better than the baseline, 0.5 = no difference, 0 = worse."""

    name: ClassVar[str] = "pairwise"
    model: str
    """vendor/model of the judge."""
    baseline: str = "target"
    """The answer to beat: `target`, a field or metadata name, or a file of JSON lines {"id", "reply"}."""
    rubric: str = ""
    """What counts; empty = correct, complete and useful."""
    language: Literal["en", "zh"] = "en"
    """Language of the judge's prompt."""
    max_tokens: int = 1024
    """Most tokens of a verdict."""
    ask: Ask | None = None
    """How the judge is called."""
    folder: Path = Path()
    """Where `baseline` is looked for."""
    _replies: Mapping[str, str] = field(init=False, repr=False, compare=False, default_factory=dict[str, str])

    def __post_init__(self) -> None:
        """Read the baseline's file once, so that a broken one is found before the first call is paid for."""
        needs_judge(self.name, self.ask)
        if self.baseline.endswith(".jsonl"):
            object.__setattr__(self, "_replies", _read_replies(self.folder / self.baseline))

    def sources(self) -> object:
        """The baseline's replies."""
        return self._replies or None

    async def score(self, example: Example, completion: Completion) -> Score:
        """1, 0.5 or 0; `details` has `votes`, `position_swayed`, `chars` and `baseline_chars`."""
        other = self._baseline(example)
        if other is None:
            return Score.unscored(text("scorers.pairwise_baseline", baseline=self.baseline))
        answer = visible(completion.text)
        references = accepted(example.target) if self.baseline != "target" else ()
        if answer.strip() == other.strip():
            return judged(0.5, True, text("scorers.pairwise_same"), **_lengths(answer, other), votes=[])
        try:
            verdicts = await asyncio.gather(
                self._verdict(example, answer, other, references),
                self._verdict(example, other, answer, references),
            )
        except ProviderError as error:
            return Score.unscored(text("scorers.judge_failed", model=self.model, problem=error))
        if None in verdicts:
            return Score.unscored(text("scorers.judge_unreadable", model=self.model))
        votes = [_vote(cast("Mapping[str, Any]", verdict)) for verdict in verdicts]
        # first order: the answer is A; second order: it is B
        points = [{"A": 1.0, "B": 0.0, "tie": 0.5}[votes[0]], {"A": 0.0, "B": 1.0, "tie": 0.5}[votes[1]]]
        swayed = {*points} == {0.0, 1.0}
        value = 0.5 if swayed else min(1.0, max(0.0, (round(points[0] * 2) + round(points[1] * 2)) / 4))
        reasons = [
            short(cast("Mapping[str, Any]", verdict).get("reasoning") or "", 400) for verdict in verdicts
        ]
        why = text("scorers.pairwise_swayed") if swayed else " | ".join(reasons)
        details = {"votes": votes, "position_swayed": swayed, "reasoning": reasons}
        return judged(value, True, why, **details, **_lengths(answer, other))

    async def _verdict(
        self, example: Example, first: str, second: str, references: tuple[str, ...]
    ) -> Mapping[str, Any] | None:
        material = {"question": question(example), "first": first, "second": second}
        prompt = filled("pairwise", self.language, material, {"rubric": self.rubric}, references)
        return await asked(
            self.ask, self.model, prompt, self.language, self.max_tokens, lambda v: _vote(v) != ""
        )

    def _baseline(self, example: Example) -> str | None:
        if self.baseline == "target":
            return next(iter(accepted(example.target)), None)
        if self._replies:
            return self._replies.get(example.id)
        value = found(example.fields, self.baseline)
        value = found(example.metadata, self.baseline) if value is None else value
        return None if value is None else as_text(value)


def _vote(verdict: Mapping[str, Any]) -> str:
    """A, B or tie; empty when the verdict says none of them."""
    said = str(verdict.get("verdict", "")).strip().strip("[]()\"'").casefold()
    return {"a": "A", "b": "B", "tie": "tie", "c": "tie"}.get(
        said.removeprefix("answer ").removeprefix("回答"), ""
    )


def _lengths(answer: str, other: str) -> dict[str, Any]:
    return {"chars": len(answer), "baseline_chars": len(other)}


def _read_replies(path: Path) -> Mapping[str, str]:
    replies: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError("scorers.bad_file", scorer="pairwise", path=path, problem=error) from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            replies[str(row["id"])] = str(row["reply"])
        except (ValueError, KeyError, TypeError) as error:
            raise TaskError("scorers.bad_line", path=path, line=number, problem=error) from error
    return replies
