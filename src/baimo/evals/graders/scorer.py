"""A grader as a scorer: a comparison judges answers exactly as the evals API does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from baimo.core.call import Completion
from baimo.core.run import Score
from baimo.core.task import Example
from baimo.errors import CallRefused, TaskError
from baimo.evals.graders.grading import Helpers, grade, sample_of_completion
from baimo.evals.graders.kinds import Grader, ScoreModel, grader_of, models_of
from baimo.evals.scorers.base import Ask, Described, judged
from baimo.evals.scorers.judge import needs_judge


@dataclass(frozen=True, slots=True, kw_only=True)
class GraderScorer(Described):
    """What one of OpenAI's graders makes of the answer. `item` is the example's fields, its reference is `target`."""

    name: ClassVar[str] = "grader"
    grader: Mapping[str, Any]
    """The grader, as the evals API has it."""
    by: Literal["pass", "score"] = "pass"
    """pass: 1 where the grader passes, as pass rates count; score: its score, mapped to 0..1 where it has a range."""
    ask: Ask | None = None
    """How judges are called."""
    _grader: Grader = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what could not grade before the first call is paid for."""
        try:
            object.__setattr__(self, "_grader", grader_of(self.grader))
        except CallRefused as error:
            raise TaskError("scorers.bad_argument", scorer=self.name, name="grader", problem=error) from error
        if models_of(self._grader):
            needs_judge(self.name, self.ask)

    async def score(self, example: Example, completion: Completion) -> Score:
        """The grade; what the grader could not judge is unscored, an answer that is no JSON where it must be is
        malformed."""
        item = {"target": example.target, **example.metadata, **example.fields}
        made = await grade(self._grader, item, sample_of_completion(completion), Helpers(self.ask))
        if made.failed:
            return Score.unscored(made.problem)
        value = float(made.passed)
        if self.by == "score":
            value = self._share(made.score)
        return judged(value, not made.error, made.problem, raw=made.score, grader=made.name)

    def _share(self, score: float) -> float:
        if isinstance(self._grader, ScoreModel):
            score = (score - self._grader.low) / (self._grader.high - self._grader.low)
        return min(1.0, max(0.0, score))
