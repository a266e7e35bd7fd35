"""Small reports to draw: every field of a line has a plausible default, and a test names what it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from baimo.core.run import Run, Sample, Score
from baimo.core.task import Example, Task
from baimo.core.verdict import Forecast, Interval, Progress, Standing, Verdict
from baimo.evals.report.report import Report

SECONDS_2026 = 1_767_225_600


def standing(candidate: str, score: float | None = 0.9, *, tier: int | None = 1, **changes: Any) -> Standing:
    judged = 0 if score is None else 100
    facts: dict[str, Any] = {
        "interval": Interval(0.0, 1.0)
        if score is None
        else Interval(max(0.0, score - 0.04), min(1.0, score + 0.03)),
        "strict": score,
        "lenient": score,
        "judged": judged,
        "right": round(100 * (score or 0)),
        "partial": 0,
        "wrong": judged - round(100 * (score or 0)),
        "malformed": 0,
        "failed": 0,
        "unscored": 0,
        "calls": judged,
        "cost_micros": 250_000,
        "cost_per_1000_micros": 2_500_000,
        "latency_ms_median": 840.0,
    }
    return Standing(candidate=candidate, score=score, tier=tier, **{**facts, **changes})


def verdict(lines: Sequence[Standing], **changes: Any) -> Verdict:
    total = 500 * len(lines)
    calls = sum(line.calls for line in lines)
    facts: dict[str, Any] = {
        "run": "run_01k2x9f3ab",
        "task": "smart-home",
        "winner": next((line.candidate for line in lines if line.judged), None),
        "decision": "best",
        "certain": True,
        "stopped": "certain",
        "assurance": "calibrated",
        "epsilon": 0.01,
        "delta": 0.05,
        "error_bound": 0.032,
        "target": "set",
        "examples": 500,
        "calls": calls,
        "calls_paid": calls,
        "calls_exhaustive": total,
        "cost_micros": 1_710_000,
        "cost_exhaustive_micros": 41_200_000,
        "currency": "USD",
        "minutes": 4.2,
        "calls_left": 0.0,
    }
    return Verdict(standings=tuple(lines), **{**facts, **changes})


def forecast(**changes: Any) -> Forecast:
    facts: dict[str, Any] = {
        "calls": Interval(100, 400),
        "calls_exhaustive": 1500,
        "cost_micros": Interval(1_000_000, 4_000_000),
        "cost_exhaustive_micros": 41_000_000,
        "minutes": Interval(3, 9),
    }
    return Forecast(**{**facts, **changes})


def run(candidates: Sequence[str], **options: Any) -> Run:
    price = {
        "currency": "USD",
        "input_per_million": "0.15",
        "output_per_million": "0.6",
        "source": "vendor",
        "as_of": "2026-05-01",
    }
    return Run(
        id="run_01k2x9f3ab",
        task="smart-home",
        task_hash="a1" * 32,
        options={"task": "tasks/smart-home", **options},
        candidates=tuple({"name": name, "model": name, "price": price} for name in candidates),
        config_hash="b2" * 32,
        seed=7,
        started_ms=SECONDS_2026 * 1000,
        version="0.1.0",
        status="done",
    )


def examples(count: int) -> tuple[Example, ...]:
    return tuple(
        Example(
            id=f"e{number}",
            fields={"input": f"question {number}"},
            target=f"answer {number}",
            metadata={"language": "de" if number % 20 == 19 else "zh" if number % 2 else "en"},
        )
        for number in range(count)
    )


def samples(scores: Mapping[str, Sequence[float]], **changes: Any) -> list[Sample]:
    """One sample per candidate and example, example by example."""
    return [
        Sample(
            candidate=name,
            example=f"e{place}",
            request_hash=f"{name}/{place}",
            score=Score.of(own[place]),
            **changes,
        )
        for place in range(max(map(len, scores.values()), default=0))
        for name, own in scores.items()
        if place < len(own)
    ]


def report(
    lines: Sequence[Standing],
    cells: Sequence[Sample] = (),
    *,
    replies: Mapping[str, str] | None = None,
    task: Task | None = None,
    **changes: Any,
) -> Report:
    texts = {cell.request_hash: f"reply of {cell.candidate} to {cell.example}" for cell in cells}
    return Report(
        run=run([line.candidate for line in lines]),
        verdict=verdict(lines, **changes),
        task=task or Task(name="smart-home", examples=examples(40), scorers=()),
        samples=cells,
        replies=texts if replies is None else replies,
    )


def full(**changes: Any) -> Report:
    """Four candidates, two in the first tier, with slices, differences, a flag, a missing price, a failure."""
    from baimo.core.verdict import Flag

    names = ("acme/large", "acme/small", "local/open", "other/base")
    scores = {
        name: [float((place * 7 + rank * 3) % 10 >= rank * 2 + 1) for place in range(40 - 8 * rank)]
        for rank, name in enumerate(names)
    }
    lines = [
        standing(names[0], 0.93, cost_per_1000_micros=9_100_000),
        standing(names[1], 0.92, cost_per_1000_micros=420_000, strict=0.5, malformed=4, wrong=4),
        standing(names[2], 0.7, tier=2, cost_per_1000_micros=0, cost_micros=0, failed=3),
        standing(
            names[3],
            0.5,
            tier=3,
            cost_per_1000_micros=None,
            cost_micros=None,
            unscored=2,
            flags=(Flag(kind="near_constant", detail={"share": 0.8, "explained": 0.1}, disqualifies=True),),
        ),
    ]
    return report(lines, samples(scores), forecast=forecast(unpriced=(names[3],)), **changes)


def many(count: int, **changes: Any) -> Report:
    """As many candidates as are asked for, three in the first tier."""
    lines = [
        standing(
            f"vendor-{rank % 17}/model-{rank}",
            0.95 - 0.9 * rank / count,
            tier=1 if rank < 3 else 2 + rank // 60,
            cost_per_1000_micros=10_000 * (1 + rank * rank),
        )
        for rank in range(count)
    ]
    cells = samples(
        {
            line.candidate: [float(place % (rank + 2) > 0) for place in range(max(3, 40 - rank))]
            for rank, line in enumerate(lines)
        }
    )
    return report(lines, cells, **changes)


def progress(lines: Sequence[Standing], **changes: Any) -> Progress:
    facts: dict[str, Any] = {
        "calls": 412,
        "calls_paid": 400,
        "calls_left": 1893.0,
        "calls_exhaustive": 40_800,
        "cost_micros": 820_000,
        "cost_left_micros": 3_400_000,
        "cost_exhaustive_micros": 41_200_000,
        "currency": "USD",
        "elapsed_s": 65.0,
        "eta_s": 240.0,
        "error_bound": 0.21,
        "delta": 0.05,
    }
    return Progress(standings=tuple(lines), **{**facts, **changes})
