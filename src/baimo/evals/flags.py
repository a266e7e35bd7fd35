"""Signs that a candidate's figures are not what they seem: read from the replies, after the scores.

Prevents the failure where a constant reply that charms an LLM judge tops the board (Zheng et al. 2024, arXiv
2410.07137), or where one model under two names counts as two. Every function works on whatever cells have been seen.

Only a constant reply under a judge disqualifies: there the score is the judge's opinion of one text and says nothing
about the task. Under a scorer with references a constant reply earns exactly its share of the targets, so the score
already speaks. Copies, length, position, empty replies, refusals and replies cut off are shown but do not disqualify:
each has honest causes.
"""

from __future__ import annotations

import hashlib
import math
import re
import statistics
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

from baimo.core.run import Score
from baimo.core.verdict import Flag

FEWEST = 10
"""Cells below which nothing is said about a candidate."""
_LONG = 80  # characters from which two equal replies cannot be chance
_POPULAR = 8  # a reply that more candidates share lies in the question, not in copying; also bounds the work
_REFUSAL = re.compile(
    r"\s*(?:(?:i['’]?m|i am)\s+(?:really |very |so )?(?:sorry|unable|not able)\b|sorry,|"
    r"i\s+(?:can['’]?t|cannot|won['’]?t)\b|as an ai\b|i must decline|"
    r"(?:非常|很)?(?:抱歉|对不起|遗憾)|我(?:无法|不能|没有办法)|作为(?:一个|一款)?(?:人工智能|AI|语言模型))",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What the flags need to know of one answer; holds no text, so that 51 × 800 stay small."""

    candidate: str
    """Candidate.name."""
    example: str
    """Example.id."""
    mark: int
    """64-bit hash of the normalised reply."""
    chars: int
    """Length of the reply."""
    score: float | None
    """Deciding score; None = not judged."""
    target: int | None = None
    """64-bit hash of the normalised target; None = no text to compare with."""
    refusal: bool = False
    """Whether it begins like a refusal."""
    cut: bool = False
    """Whether it ends at the limit on its length."""
    swayed: bool | None = None
    """Pairwise: whether the verdict turned with the order; None = not pairwise."""
    baseline_chars: int | None = None
    """Pairwise: length of the baseline's reply."""


def cell(
    candidate: str, example: str, reply: str, score: Score, target: Any = None, *, cut: bool = False
) -> Cell:
    """The Cell of one answer."""
    return Cell(
        candidate=candidate,
        example=example,
        mark=mark(reply),
        chars=len(reply.strip()),
        score=score.lenient,
        target=mark(target) if isinstance(target, str) else None,
        refusal=_REFUSAL.match(reply) is not None,
        cut=cut,
        swayed=score.details.get("position_swayed"),
        baseline_chars=score.details.get("baseline_chars"),
    )


def mark(reply: str) -> int:
    """64 bits that are equal for replies that differ in case, spacing, width and marks only."""
    folded = re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", reply).casefold()) or reply.strip()
    return int.from_bytes(hashlib.blake2b(folded.encode("utf-8", "replace"), digest_size=8).digest(), "big")


def flags(
    cells: Iterable[Cell], *, judged: bool, model_of: Mapping[str, str] | None = None
) -> dict[str, tuple[Flag, ...]]:
    """Every candidate's flags; candidates without any are left out.

    Args:
        cells: the answers seen so far, at most one per candidate and example; failed calls left out.
        judged: whether a model judges (judge, pairwise, llm-rubric) and no reference decides.
        model_of: model of each candidate; two prompts of one model may well answer alike.
    """
    models = model_of or {}
    seen = list(cells)
    by_candidate: defaultdict[str, list[Cell]] = defaultdict(list)
    for item in seen:
        by_candidate[item.candidate].append(item)
    raised: defaultdict[str, list[Flag]] = defaultdict(list)
    for name, own in by_candidate.items():
        found = (constant(own, judged=judged), silent(own), cut_off(own), swayed(own))
        raised[name] += [flag for flag in found if flag]
    for copy in copies(seen):
        if copy.first in models and models[copy.first] == models.get(copy.second):
            continue
        for name, other in ((copy.first, copy.second), (copy.second, copy.first)):
            detail = {"of": other, "share": copy.share, "expected": copy.expected, "cells": copy.cells}
            raised[name].append(Flag(kind="copy", detail=detail))
    if judged:
        for name, flag in long_winded(by_candidate).items():
            raised[name].append(flag)
    return {name: tuple(found) for name, found in raised.items() if found}


def constant(own: Sequence[Cell], *, judged: bool) -> Flag | None:
    """A reply that one candidate gives to half of the examples or more, beyond what the targets explain."""
    if len(own) < FEWEST:
        return None
    reply, count = Counter(item.mark for item in own).most_common(1)[0]
    share = count / len(own)
    targets = [item.target for item in own if item.target is not None]
    explained = Counter(targets).most_common(1)[0][1] / len(targets) if targets else 1 / len(own)
    if share < 0.5 or share - explained < 0.25 or any(item.chars == 0 for item in own if item.mark == reply):
        return None
    detail = {"share": share, "explained": explained, "chars": next(c.chars for c in own if c.mark == reply)}
    kind = "constant" if share >= 0.99 else "near_constant"
    return Flag(kind=kind, detail=detail, disqualifies=judged)


def silent(own: Sequence[Cell]) -> Flag | None:
    """Empty replies and refusals in a tenth of the cells or more."""
    if len(own) < FEWEST:
        return None
    empty = sum(item.chars == 0 for item in own) / len(own)
    refusals = sum(item.refusal for item in own) / len(own)
    if max(empty, refusals) < 0.1:
        return None
    kind = "empty" if empty >= refusals else "refusal"
    return Flag(kind=kind, detail={"empty": empty, "refusals": refusals})


def cut_off(own: Sequence[Cell]) -> Flag | None:
    """Replies that end at the limit on their length in a tenth of the cells or more."""
    share = sum(item.cut for item in own) / len(own) if own else 0.0
    return Flag(kind="cut", detail={"share": share}) if len(own) >= FEWEST and share >= 0.1 else None


def swayed(own: Sequence[Cell]) -> Flag | None:
    """Pairwise verdicts that turn with the order of the answers in a fifth of the cells or more."""
    turns = [item.swayed for item in own if item.swayed is not None]
    share = sum(turns) / len(turns) if turns else 0.0
    if len(turns) < FEWEST or share < 0.2:
        return None
    return Flag(kind="position", detail={"share": share, "cells": len(turns)})


class Copy(NamedTuple):
    """Two candidates whose replies are the same too often."""

    first: str
    second: str
    share: float
    """Share of the cells telling for both that are identical."""
    expected: float
    """The same share between each of them and the others."""
    cells: int
    """Cells telling for both."""


def copies(cells: Sequence[Cell]) -> list[Copy]:
    """Pairs whose replies are identical far beyond what correctness explains, worst first.

    Telling is a cell whose reply is long, or short and wrong: right short answers have to be equal. A reply that many
    candidates give lies in the question and tells nothing. Flagged is a pair with at least half of its telling cells
    identical, a quarter more than either shares with others, and six standard errors. Work: O(cells × 8), then one
    bit operation over the examples per pair that shares anything.
    """
    columns: defaultdict[str, list[Cell]] = defaultdict(list)
    for item in cells:
        if item.chars:
            columns[item.example].append(item)
    pairs_only = (
        len({item.candidate for item in cells}) == 2
    )  # no third candidate says what wrong answers share
    told: defaultdict[str, int] = defaultdict(int)
    same: Counter[tuple[str, str]] = Counter()
    shared: Counter[str] = Counter()
    met: Counter[str] = Counter()
    for bit, column in enumerate(columns.values()):
        groups: defaultdict[int, list[str]] = defaultdict(list)
        for item in column:
            wrong = item.score is not None and item.score < 1 and not pairs_only
            if item.chars >= _LONG or wrong:
                groups[item.mark].append(item.candidate)
        telling = {key: group for key, group in groups.items() if len(group) <= _POPULAR}
        size = sum(map(len, telling.values()))
        for group in telling.values():
            for name in group:
                told[name] |= 1 << bit
                shared[name] += len(group) - 1
                met[name] += size - 1
            same.update(combinations(sorted(group), 2))
    found: list[Copy] = []
    for (first, second), count in same.items():
        common = (told[first] & told[second]).bit_count()
        others = [
            (shared[name] - count) / (met[name] - common) for name in (first, second) if met[name] > common
        ]
        expected = max(others, default=0.0)
        share = count / common
        error = max(math.sqrt(expected * (1 - expected) / common), 1 / common)
        if count >= FEWEST and share >= 0.5 and share - expected >= max(0.25, 6 * error):
            found.append(Copy(first, second, share, expected, common))
    return sorted(found, key=lambda copy: (-copy.share, copy.first, copy.second))


def length_bias(cells: Iterable[Cell]) -> float | None:
    """How far length goes with score: correlation of score and log length within examples, −1..1; None = no telling."""
    columns: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for item in cells:
        if item.score is not None:
            columns[item.example].append((math.log1p(item.chars), item.score))
    xx = xy = yy = 0.0
    pairs = 0
    for column in columns.values():
        if len(column) < 2:
            continue
        mean_x = math.fsum(x for x, _ in column) / len(column)
        mean_y = math.fsum(y for _, y in column) / len(column)
        pairs += len(column)
        for x, y in column:
            xx += (x - mean_x) ** 2
            xy += (x - mean_x) * (y - mean_y)
            yy += (y - mean_y) ** 2
    return xy / math.sqrt(xx * yy) if pairs >= 2 * FEWEST and xx > 0 and yy > 0 else None


def long_winded(by_candidate: Mapping[str, Sequence[Cell]]) -> dict[str, Flag]:
    """Candidates that write half as much again as the median one before a judge that likes length, or whose wins over a
    baseline go away with their length."""
    bias = length_bias(item for own in by_candidate.values() for item in own)
    typical = {
        name: statistics.fmean(item.chars for item in own) for name, own in by_candidate.items() if own
    }
    middle = statistics.median(typical.values()) if typical else 0.0
    raised: dict[str, Flag] = {}
    for name, own in by_candidate.items():
        detail: dict[str, float] = {}
        if (
            bias is not None
            and bias >= 0.3
            and middle > 0
            and typical[name] >= 1.5 * middle
            and len(own) >= FEWEST
        ):
            detail = {"correlation": bias, "times_median": typical[name] / middle}
        if (rate := length_controlled(own)) and (rate.raw - rate.controlled >= 0.1):
            detail |= {"win_rate": rate.raw, "length_controlled": rate.controlled}
        if detail:
            raised[name] = Flag(kind="length", detail=detail)
    return raised


class WinRate(NamedTuple):
    """Mean pairwise score against a baseline."""

    raw: float
    """As judged."""
    controlled: float
    """As it would be if both answers were equally long."""


def length_controlled(own: Iterable[Cell]) -> WinRate | None:
    """The win rate with the judge's taste for length taken out; None for fewer than 10 pairwise cells.

    Logistic regression of the pairwise score on tanh of the standardised difference of lengths, read off at a
    difference of 0, as in AlpacaEval 2 (Dubois et al. 2024, arXiv 2404.04475), fitted for one candidate and without
    the term for the difficulty of the instruction. Half a win and half a loss at equal length keep it finite.
    """
    cells = [item for item in own if item.score is not None and item.baseline_chars is not None]
    if len(cells) < FEWEST:
        return None
    differences = [float(item.chars - (item.baseline_chars or 0)) for item in cells]
    spread = statistics.pstdev(differences) or 1.0
    points = [
        (math.tanh(d / spread), item.score or 0.0, 1.0) for d, item in zip(differences, cells, strict=True)
    ]
    raw = math.fsum(y for _, y, _ in points) / len(points)
    level, _ = _logistic([*points, (0.0, 1.0, 0.5), (0.0, 0.0, 0.5)])
    return WinRate(raw, 1 / (1 + math.exp(-level)))


def _logistic(points: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """Level and slope of y ~ σ(level + slope·x) for (x, y, weight); the slope is shrunk by a unit normal prior."""
    level = slope = 0.0
    for _ in range(50):
        g0, g1, h00, h01, h11 = 0.0, -slope, 1e-9, 0.0, 1.0
        for x, y, weight in points:
            p = 1 / (1 + math.exp(-(level + slope * x)))
            g0 += weight * (y - p)
            g1 += weight * (y - p) * x
            h00 += weight * p * (1 - p)
            h01 += weight * p * (1 - p) * x
            h11 += weight * p * (1 - p) * x * x
        determinant = h00 * h11 - h01 * h01
        step0, step1 = (h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant
        # a bounded step: Newton's may overshoot when nearly all points are wins
        level += max(-2.0, min(2.0, step0))
        slope += max(-2.0, min(2.0, step1))
        if abs(step0) + abs(step1) < 1e-9:
            break
    return level, slope
