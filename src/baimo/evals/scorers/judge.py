"""A model judges the answer by a rubric.

Prevents three failures: a candidate that talks its judge into full marks (its text stands between marks that it cannot
know), a judge's broken reply counted as 0 (asked once more, then unscored), and a judge whose prompt nobody can read
(it is a data file, in English and in Chinese). Source: Zheng et al. 2023, arXiv 2306.05685.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, ClassVar, Literal, cast

from baimo.core.call import Completion, Request, Sampling
from baimo.core.ids import digest
from baimo.core.message import Message
from baimo.core.run import Score
from baimo.core.task import Example
from baimo.errors import ProviderError, TaskError
from baimo.evals.scorers.base import Ask, Described, accepted, as_text, judged, short, visible
from baimo.evals.scorers.loose_json import read
from baimo.text import text


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge(Described):
    """Score of a judging model, mapped from its scale to 0..1. The target, if there is one, is its reference."""

    name: ClassVar[str] = "judge"
    model: str
    """vendor/model of the judge."""
    rubric: str = ""
    """What counts; empty = correct, complete and useful."""
    low: int = 1
    """Worst score."""
    high: int = 5
    """Best score."""
    language: Literal["en", "zh"] = "en"
    """Language of the judge's prompt."""
    max_tokens: int = 1024
    """Most tokens of a verdict."""
    ask: Ask | None = None
    """How the judge is called."""

    def __post_init__(self) -> None:
        """Refuse what could not judge before the first call is paid for."""
        needs_judge(self.name, self.ask)
        if self.high <= self.low:
            raise TaskError(
                "scorers.bad_argument", scorer=self.name, name="high", problem=f"{self.high} <= {self.low}"
            )

    async def score(self, example: Example, completion: Completion) -> Score:
        """The judge's score on 0..1; `details` has `raw`, `reasoning` and the answer's length in `chars`."""
        answer = visible(completion.text)
        material = {"question": question(example), "answer": answer}
        scale = {"rubric": self.rubric, "low": self.low, "high": self.high}
        prompt = filled("judge", self.language, material, scale, accepted(example.target))
        try:
            verdict = await asked(self.ask, self.model, prompt, self.language, self.max_tokens, self._given)
        except ProviderError as error:
            return Score.unscored(text("scorers.judge_failed", model=self.model, problem=error))
        if verdict is None:
            return Score.unscored(text("scorers.judge_unreadable", model=self.model))
        raw = float(verdict["score"])
        reasons = short(verdict.get("reasoning") or "", 600)
        content = (raw - self.low) / (self.high - self.low)
        return judged(content, True, reasons, raw=raw, chars=len(answer), reasoning=reasons)

    def _given(self, verdict: Mapping[str, Any]) -> bool:
        """Whether the verdict has a score on the scale."""
        score = verdict.get("score")
        if isinstance(score, str) and len(score) < 10:
            try:
                score = float(score)
            except ValueError:
                return False
        return (
            isinstance(score, (int, float)) and not isinstance(score, bool) and self.low <= score <= self.high
        )


def needs_judge(name: str, ask: Ask | None) -> None:
    """Refuse a judge that nobody can call.

    Raises:
        TaskError: `ask` is None.
    """
    if ask is None:
        raise TaskError("scorers.no_judge", scorer=name)


async def asked(
    ask: Ask | None,
    model: str,
    prompt: str,
    language: str,
    max_tokens: int,
    usable: Callable[[Mapping[str, Any]], bool],
) -> Mapping[str, Any] | None:
    """The judge's verdict as JSON, asked a second time when it is not usable; None when it is not usable then either.

    Raises:
        ProviderError: the judge could not be reached or refused.
    """
    assert ask is not None  # needs_judge
    messages = (Message(role="user", content=prompt),)
    sampling = Sampling(temperature=0.0, max_tokens=max_tokens)
    for _ in range(2):
        reply = await ask(Request(model=model, messages=messages, sampling=sampling))
        reading = read(
            visible(reply.text), lambda value: isinstance(value, dict) and usable(cast("Any", value))
        )
        if reading and isinstance(reading.value, dict) and usable(cast("dict[str, Any]", reading.value)):
            return cast("dict[str, Any]", reading.value)
        again = Message(role="user", content=_parts()[language]["again"])
        messages = (*messages, Message(role="assistant", content=reply.text), again)
    return None


def filled(
    name: str,
    language: str,
    material: Mapping[str, str],
    facts: Mapping[str, Any],
    references: tuple[str, ...],
) -> str:
    """The prompt `name` with the material fenced by marks derived from it, which it therefore cannot contain.

    Args:
        name: judge or pairwise.
        language: en or zh.
        material: texts that were written by others.
        facts: everything else; an empty rubric is replaced by the usual one.
        references: accepted answers; none = the prompt shows none.
    """
    parts = _parts()[language]
    fence = f"material-{digest([material, references])[:16]}"
    shown = ""
    if references:
        shown = f"\n{parts['reference']}\n<{fence}>\n" + "\n".join(references) + f"\n</{fence}>\n"
    rubric = facts["rubric"] or parts["rubric"]
    return _template(name, language).format(
        **{**facts, "rubric": rubric}, **material, fence=fence, reference=shown
    )


def question(example: Example) -> str:
    """What was asked, as text: the conversation, else the field `input` or `question`, else all fields."""
    if example.messages:
        turns = (
            f"{message.role}: {message.content if isinstance(message.content, str) else _spoken(message)}"
            for message in example.messages
        )
        return "\n".join(turns)
    for name in ("input", "question"):
        if name in example.fields:
            return as_text(example.fields[name])
    return as_text(dict(example.fields))


def _spoken(message: Message) -> str:
    parts = [part for part in message.content if not isinstance(part, str)]
    return " ".join(part.data if part.kind == "text" else f"[{part.kind}]" for part in parts)


@functools.cache
def _template(name: str, language: str) -> str:
    return (resources.files("baimo.evals.scorers") / "prompts" / f"{name}.{language}.md").read_text(
        encoding="utf-8"
    )


@functools.cache
def _parts() -> Mapping[str, Mapping[str, str]]:
    return tomllib.loads(
        (resources.files("baimo.evals.scorers") / "prompts" / "parts.toml").read_text(encoding="utf-8")
    )
