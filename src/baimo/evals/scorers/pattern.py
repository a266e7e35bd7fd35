"""The reply matches a regular expression.

Prevents the failure where one pattern with nested repeats and one long reply freeze a whole run: every search has a
time limit and runs beside the event loop. A pattern that hits the limit is the task's fault, so the cell is unscored.
"""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass
from typing import Any, ClassVar

from baimo.core.call import Completion
from baimo.core.run import Score
from baimo.core.task import Example
from baimo.errors import TaskError
from baimo.evals.scorers.base import Described, accepted, judged, no_reference, short, visible
from baimo.evals.scorers.text import normalised
from baimo.text import text


class TooSlow(Exception):
    """A search took longer than its limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Regex(Described):
    """The pattern is found in the reply; with `group`, what the group caught is an accepted answer."""

    name: ClassVar[str] = "regex"
    pattern: str = ""
    """Regular expression; empty = the example's target is the pattern."""
    group: int | str | None = None
    """Group that is compared with the target; null = finding the pattern is enough."""
    whole: bool = False
    """Whether the pattern must cover the whole reply."""
    ignore_case: bool = False
    """Whether upper and lower case are the same."""
    dotall: bool = True
    """Whether a dot matches line breaks."""
    seconds: float = 1.0
    """Longest search before the cell is left unscored."""

    def __post_init__(self) -> None:
        """Compile once, so that a broken pattern is found before the first call is paid for."""
        if self.pattern:
            try:
                compiled(self.pattern, self.ignore_case, self.dotall)
            except ValueError as error:
                facts = {"scorer": self.name, "pattern": self.pattern, "problem": error}
                raise TaskError("scorers.bad_pattern", **facts) from error

    async def score(self, example: Example, completion: Completion) -> Score:
        """1 or 0; with `group`, a reply in which the pattern is not found is malformed."""
        answers = accepted(example.target)
        if not answers and (not self.pattern or self.group is not None):
            return no_reference()
        reply = visible(completion.text)
        patterns = (self.pattern,) if self.pattern else answers
        try:
            match = await self._first(patterns, reply)
            caught = match and (match[0] if self.group is None else match[self.group])
        except TooSlow:
            return Score.unscored(text("scorers.regex_slow", pattern=patterns[0], seconds=self.seconds))
        except (ValueError, IndexError) as error:
            return Score.unscored(text("scorers.regex_broken", pattern=patterns[0], problem=error))
        if match is None:
            why = text("scorers.regex_none", pattern=short(patterns[0]), reply=short(reply))
            return judged(0.0, self.group is None, why)
        if self.group is None or not self.pattern:
            return judged(1.0, True, found=short(caught))
        right = normalised(caught or "") in {normalised(answer) for answer in answers}
        why = "" if right else text("scorers.expected", expected=short(answers[0]), found=short(caught))
        return judged(float(right), True, why, found=short(caught))

    async def _first(self, patterns: tuple[str, ...], reply: str) -> Any:
        for pattern in patterns:
            match = await search(
                compiled(pattern, self.ignore_case, self.dotall),
                reply,
                whole=self.whole,
                seconds=self.seconds,
            )
            if match:
                return match
        return None


@functools.lru_cache(maxsize=256)
def compiled(pattern: str, ignore_case: bool = False, dotall: bool = True) -> Any:
    """A compiled expression of the `regex` library, whose searches can be limited in time.

    Raises:
        ValueError: the pattern is no regular expression.
    """
    import regex

    flags = regex.IGNORECASE if ignore_case else 0
    try:
        return regex.compile(pattern, flags | (regex.DOTALL if dotall else 0) | regex.MULTILINE)
    except regex.error as error:
        raise ValueError(str(error)) from error


async def search(expression: Any, reply: str, *, whole: bool = False, seconds: float = 1.0) -> Any:
    """The match or None, found in a thread so that a slow pattern holds up nobody else.

    Raises:
        TooSlow: it took longer than `seconds`.
    """
    find = expression.fullmatch if whole else expression.search
    try:
        return await asyncio.to_thread(
            find, reply.strip() if whole else reply, timeout=seconds, concurrent=True
        )
    except TimeoutError as error:
        raise TooSlow from error
