"""The Report and the tables that are derived from it: pure functions of what was recorded.

Prevents the failure where a report shows a mean over three examples as boldly as one over three thousand:
every slice carries its n, and every cut list says how much was cut."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from baimo.core.ids import plain
from baimo.core.run import Run, Sample
from baimo.core.task import Example, Task
from baimo.core.verdict import Standing, Verdict
from baimo.evals.report.sentences import first_tier, winner

SMALL = 10
"""Samples below which a slice's mean is shown as weak."""
DIFFERENCES = 50
"""Most examples shown side by side."""
_NAMES, _VALUES, _SLICED = 6, 12, 12  # most metadata names, values per name and candidates in the slices


class Point(NamedTuple):
    """A candidate in the plane of quality and price."""

    candidate: str
    score: float
    cost_micros: int
    """Of a thousand answers."""


class Pareto(NamedTuple):
    """Quality against price."""

    points: tuple[Point, ...]
    """Every candidate with a score and a price."""
    front: tuple[Point, ...]
    """Those that no other beats in one without losing in the other, cheapest first; the disqualified left out."""
    unpriced: tuple[Standing, ...]
    """Scored, but their price is not known."""


class Timeline(NamedTuple):
    """How many calls one candidate had got by the time the comparison had made so many."""

    candidate: str
    steps: tuple[tuple[int, int], ...]
    """(calls of the comparison, calls of this candidate), rising."""


class Mean(NamedTuple):
    """A candidate's mean score in a slice."""

    score: float | None
    n: int | None
    """Samples in it; None = not recorded."""

    @property
    def small(self) -> bool:
        """Whether the mean rests on too little to lean on."""
        return self.n is not None and self.n < SMALL


class Slice(NamedTuple):
    """The examples with one value of one metadata name."""

    value: str
    examples: int
    means: Mapping[str, Mean]
    """By candidate."""


class Slicing(NamedTuple):
    """All slices by one metadata name."""

    name: str
    slices: tuple[Slice, ...]
    """Largest first."""
    hidden: int
    """Values that are too many to show."""


class Answer(NamedTuple):
    """What one leader said to one example."""

    candidate: str
    sample: Sample
    score: float
    reply: str | None
    """None = not kept."""


class Difference(NamedTuple):
    """An example on which the leaders earned different scores."""

    example: Example
    answers: tuple[Answer, ...]
    """One per leader that was judged on it, in the order of the leaders."""
    spread: float
    """Best score less worst."""


class Differences(NamedTuple):
    """Where the leaders differ."""

    shown: tuple[Difference, ...]
    """Widest apart first."""
    total: int
    """How many there are."""
    compared: int
    """Examples on which at least two leaders were judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that a reader of one comparison may ask about."""

    run: Run
    """What was done, to repeat it."""
    verdict: Verdict
    """What came out."""
    task: Task
    """What was asked."""
    samples: Sequence[Sample]
    """In the order in which they were made."""
    replies: Mapping[str, str]
    """request_hash → the text of the answer."""

    def decided(self, sample: Sample) -> float | None:
        """The score of a sample that decided: lenient, unless the standings were made from the strict one."""
        return sample.score.strict if _strict_decides(self.verdict) else sample.score.lenient

    def leaders(self, most: int = 4) -> tuple[Standing, ...]:
        """The winner, then the rest of the first tier; runners-up where these are fewer than three."""
        chosen, top = winner(self.verdict), first_tier(self.verdict)
        runners = [
            line for line in self.verdict.standings if line.judged and line not in top and line != chosen
        ]
        ordered = ([chosen] if chosen else []) + [line for line in top if line != chosen]
        return tuple((ordered + runners[: max(0, 3 - len(ordered))])[:most])

    def pareto(self) -> Pareto:
        """Quality against the price of a thousand answers."""
        return pareto(self.verdict)

    def timelines(self, steps: int = 60) -> tuple[Timeline, ...]:
        """Calls over time per candidate, best candidate first; O(samples + steps × candidates)."""
        total = len(self.samples)
        if not total:
            return ()
        marks = sorted({round(total * step / steps) for step in range(1, steps + 1)} - {0})
        seen: Counter[str] = Counter()
        taken: defaultdict[str, list[tuple[int, int]]] = defaultdict(lambda: [(0, 0)])
        start = 0
        for mark in marks:
            seen.update(sample.candidate for sample in self.samples[start:mark])
            for candidate, calls in seen.items():
                taken[candidate].append((mark, calls))
            start = mark
        names = [line.candidate for line in self.verdict.standings]
        return tuple(Timeline(each, tuple(taken[each])) for each in names if each in taken)

    def differences(self, most: int = DIFFERENCES) -> Differences:
        """Examples on which the leaders earned different scores, widest apart first, then in the task's order."""
        leaders = [line.candidate for line in self.leaders()]
        cells: defaultdict[str, dict[str, Sample]] = defaultdict(dict)
        for sample in self.samples:
            if sample.candidate in leaders:
                cells[sample.example][sample.candidate] = sample
        found: list[Difference] = []
        compared = 0
        for example in self.task.examples:
            own = cells.get(example.id, {})
            answers = [answer for each in leaders if (answer := self._answer(own.get(each)))]
            if len(answers) < 2:
                continue
            compared += 1
            scores = [answer.score for answer in answers]
            if max(scores) > min(scores):
                found.append(Difference(example, tuple(answers), max(scores) - min(scores)))
        found.sort(key=lambda each: (-each.spread, -len(each.answers)))
        return Differences(tuple(found[:most]), len(found), compared)

    def _answer(self, sample: Sample | None) -> Answer | None:
        score = self.decided(sample) if sample else None
        if sample is None or score is None:
            return None
        return Answer(sample.candidate, sample, score, self.replies.get(sample.request_hash))

    def slices(self) -> tuple[Slicing, ...]:
        """Mean scores of the best candidates by metadata: names with 2 or more values, no more values than half the
        examples, and the largest slices of each."""
        values = _metadata(self.task.examples)
        chosen = [line.candidate for line in self.verdict.standings if line.judged][:_SLICED]
        if not values or not chosen:
            return ()
        sums: defaultdict[tuple[str, str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
        wanted = set(chosen)
        for sample in self.samples:
            score = self.decided(sample) if sample.candidate in wanted else None
            if score is None:
                continue
            for key, by_example in values.items():
                if sample.example in by_example:
                    cell = sums[key, by_example[sample.example], sample.candidate]
                    cell[0] += score
                    cell[1] += 1
        tables: list[Slicing] = []
        for key, by_example in values.items():
            sizes = Counter(by_example.values()).most_common()
            rows = [
                Slice(value, size, {each: self._mean(key, value, each, sums) for each in chosen})
                for value, size in sizes[:_VALUES]
            ]
            tables.append(Slicing(key, tuple(rows), len(sizes) - len(rows)))
        return tuple(tables)

    def _mean(
        self, key: str, value: str, candidate: str, sums: Mapping[tuple[str, str, str], Sequence[float]]
    ) -> Mean:
        total, n = sums.get((key, value, candidate), (0.0, 0))
        if n:
            return Mean(total / n, int(n))
        recorded = self.verdict.slices.get(key, {}).get(value, {}).get(candidate)
        return Mean(recorded, None) if recorded is not None and not self.samples else Mean(None, 0)


def pareto(verdict: Verdict) -> Pareto:
    """Quality against the price of a thousand answers."""
    scored = [line for line in verdict.standings if line.score is not None]
    points = [
        Point(line.candidate, line.score, line.cost_per_1000_micros)
        for line in scored
        if line.score is not None and line.cost_per_1000_micros is not None
    ]
    barred = {line.candidate for line in scored if any(flag.disqualifies for flag in line.flags)}
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost_micros, -point.score)):
        if point.candidate not in barred and (not front or point.score > front[-1].score):
            front.append(point)
    unpriced = tuple(line for line in scored if line.cost_per_1000_micros is None)
    return Pareto(tuple(points), tuple(front), unpriced)


def _strict_decides(verdict: Verdict) -> bool:
    known = [line for line in verdict.standings if None not in (line.score, line.lenient, line.strict)]
    unlike = [line for line in known if line.score != line.lenient]
    return bool(unlike) and all(line.score == line.strict for line in unlike)


def _metadata(examples: Sequence[Example]) -> dict[str, dict[str, str]]:
    """Metadata name → example id → value as text; names with too few or too many values left out."""
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for example in examples:
        for key, value in example.metadata.items():
            if isinstance(value, (str, int, float, bool)):
                found[str(key)][example.id] = str(value)
    usable = [
        key for key, values in found.items() if 2 <= len(set(values.values())) <= max(2, len(values) // 2)
    ]
    return {key: found[key] for key in usable[:_NAMES]}


def asked(example: Example) -> str:
    """What an example asks, for a person: its input, its last message, or its fields."""
    if example.messages:
        content = example.messages[-1].content
        if isinstance(content, str):
            return content
        return "\n".join(part.data if part.kind == "text" else f"[{part.kind}]" for part in content)
    if set(example.fields) == {"input"} or isinstance(example.fields.get("input"), str):
        return _shown(example.fields["input"])
    return _shown(example.fields)


def expected(example: Example) -> str:
    """The reference of an example, for a person; empty = none."""
    return "" if example.target is None else _shown(example.target)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False, indent=1)
