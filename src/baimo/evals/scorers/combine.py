"""Several scorers as one: every one must be satisfied (`all`), or one is enough (`any`)."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from baimo.core.call import Completion
from baimo.core.registry import Spec
from baimo.core.run import Score, Scorer
from baimo.core.task import Example
from baimo.evals.scorers.base import Ask, Described
from baimo.text import text


@dataclass(frozen=True, slots=True, kw_only=True)
class All(Described):
    """The lowest score of the parts: each of them must be satisfied."""

    name: ClassVar[str] = "all"
    scorers: tuple[Mapping[str, typing.Any], ...]
    """Parts as {name = …, argument = …}."""
    folder: Path = Path()
    """Where relative paths of the parts start."""
    ask: Ask | None = None
    """How judges among the parts are called."""
    runs: bool = True
    """Whether files of code among the parts are run, or only read."""

    _parts: tuple[Scorer, ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        """Build every part once, so that a wrong one is found before the first call is paid for."""
        parts = tuple(part_of(part, self.folder, self.ask, self.runs) for part in self.scorers)
        object.__setattr__(self, "_parts", parts)

    async def score(self, example: Example, completion: Completion) -> Score:
        """Lowest lenient and lowest strict score; one unscored part leaves the whole unscored."""
        scores = [(part.spec.name, await part.score(example, completion)) for part in self._parts]
        if not scores or any(score.lenient is None for _, score in scores):
            reasons = "; ".join(
                f"{name}: {score.explanation}" for name, score in scores if score.lenient is None
            )
            return Score.unscored(text("scorers.part_unscored", reasons=reasons))
        lenient = self.chosen([score.lenient or 0.0 for _, score in scores])
        strict = self.chosen([score.strict or 0.0 for _, score in scores])
        why = "; ".join(f"{name}: {score.explanation}" for name, score in scores if score.explanation)
        parts = [{"scorer": name, "lenient": score.lenient, "strict": score.strict} for name, score in scores]
        return Score.of(lenient, strict, explanation="" if lenient == strict == 1 else why, parts=parts)

    @classmethod
    def chosen(cls, values: list[float]) -> float:
        """The value that decides."""
        return min(values)


def part_of(part: Mapping[str, typing.Any], folder: Path, ask: Ask | None, runs: bool) -> Scorer:
    """The scorer that one entry of a list names."""
    from baimo.evals.scorers.registry import scorer

    args = {name: value for name, value in part.items() if name != "name"}
    return scorer(Spec(name=str(part.get("name", "")), args=args), folder=folder, ask=ask, runs=runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Any(All):
    """The highest score of the parts: one satisfied part is enough."""

    name: ClassVar[str] = "any"

    @classmethod
    def chosen(cls, values: list[float]) -> float:
        """The value that decides."""
        return max(values)
