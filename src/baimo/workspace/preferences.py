"""What votes are good for: rows that a model learns preferences from, and how often each model was preferred."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from baimo.core.message import Message
from baimo.core.tuning import Row
from baimo.errors import DataError
from baimo.store.votes import BAD, TIE, Vote

Z95 = 1.959963984540054
"""Standard normal quantile of 0.975."""


class Standing(NamedTuple):
    """How often a model was preferred. Every vote counts once, however many stood side by side."""

    model: str
    votes: int
    """In which it answered."""
    wins: int
    losses: int
    ties: int
    bad: int
    """No answer was of any use."""
    rate: float | None
    """wins / (wins + losses); None = none was decided."""
    low: float | None
    high: float | None
    """Of its interval, 95 %."""
    chance: float | None
    """The rate that it would have if all were equally good."""


def preferences(vote: Vote) -> Iterator[dict[str, Any]]:
    """A vote in OpenAI's form for direct preference optimization: one row for each answer that was not chosen.

    A tie prefers nobody, and neither do two answers that say the same; without words there is nothing to learn.
    Source: developers.openai.com/api/docs/guides/direct-preference-optimization.
    """
    chosen = next((one.answer for one in vote.answers if one.place == vote.choice), None)
    if vote.asked is None or not chosen:
        return
    messages = msgspec.json.decode(vote.asked)
    for one in vote.answers:
        if one.place != vote.choice and one.answer and one.answer != chosen:
            yield {
                "input": {"messages": messages},
                "preferred_output": [{"role": "assistant", "content": chosen}],
                "non_preferred_output": [{"role": "assistant", "content": one.answer}],
            }


def preference_rows(votes: Iterable[Vote], skipped: Counter[str]) -> list[Row]:
    """Votes as rows to learn preferences from; `skipped` counts why others are none.

    Args:
        votes: that were cast.
        skipped: tied (nobody is preferred), forgotten (their words are not kept), broken (with pictures).
    """
    from baimo.tuning.data.collected import Vote as Preference
    from baimo.tuning.data.collected import from_votes
    from baimo.tuning.data.turns import Place, turns

    made: list[Row] = []
    for vote in votes:
        rows = list(preferences(vote))
        if vote.choice in (TIE, BAD):
            skipped["tied"] += 1
        elif not rows:
            skipped["forgotten" if vote.asked is None else "empty"] += 1
        for row in rows:
            try:
                asked = turns(row["input"]["messages"], Place(Path(vote.id), 1)).messages
            except DataError:
                skipped["broken"] += 1
                continue
            good, bad = (
                Message(role="assistant", content=row[name][0]["content"])
                for name in ("preferred_output", "non_preferred_output")
            )
            made += from_votes([Preference(asked, good, bad, conversation=vote.id, id=vote.id)])
    return made


def standings(outcomes: Iterable[tuple[str, Mapping[str, str]]]) -> list[Standing]:
    """How often each model was preferred, the best first.

    Args:
        outcomes: of each vote its choice, and place → model.
    """
    counts: dict[str, dict[str, float]] = defaultdict(
        lambda: dict.fromkeys(("votes", "wins", "losses", "ties", "bad", "expected"), 0)
    )
    for choice, models in outcomes:
        for place, model in models.items():
            count = counts[model]
            count["votes"] += 1
            if choice in (TIE, BAD):
                count["ties" if choice == TIE else "bad"] += 1
                continue
            count["wins" if choice == place else "losses"] += 1
            count["expected"] += 1 / len(models)
    found = [_standing(model, count) for model, count in counts.items()]
    return sorted(found, key=lambda one: (-1.0 if one.low is None else -one.low, one.model))


def wilson(wins: int, of: int, z: float = Z95) -> tuple[float, float]:
    """The score interval of a share: it keeps its promise with few votes, too, and never leaves 0 to 1.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the
    American Statistical Association 22 (1927), 209–212.

    Args:
        wins: how many.
        of: of how many; at least 1.
        z: quantile of the standard normal.
    """
    share, spread = wins / of, z * z / of
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / of + spread / (4 * of)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def _standing(model: str, count: Mapping[str, float]) -> Standing:
    whole = {name: int(count[name]) for name in ("votes", "wins", "losses", "ties", "bad")}
    decided = whole["wins"] + whole["losses"]
    if not decided:
        return Standing(model, **whole, rate=None, low=None, high=None, chance=None)
    low, high = wilson(whole["wins"], decided)
    chance = count["expected"] / decided
    return Standing(model, **whole, rate=whole["wins"] / decided, low=low, high=high, chance=chance)
