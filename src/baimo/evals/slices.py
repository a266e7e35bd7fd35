"""Mean scores by metadata, so that a model that is best on average and useless in Japanese is seen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from baimo.core.run import Sample

MOST_VALUES = 30
"""A metadata name with more values than this identifies examples rather than kinds of them."""


def slices(
    samples: Iterable[Sample], metadata: Mapping[str, Mapping[str, Any]], *, strict: bool
) -> dict[str, dict[str, dict[str, float]]]:
    """metadata name → value → candidate → mean of the deciding score.

    Args:
        samples: what was judged; the rest is passed over.
        metadata: by example id.
        strict: whether the strict score decides.
    """
    sums: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for sample in samples:
        score = sample.score.strict if strict else sample.score.lenient
        if score is None:
            continue
        for name, value in metadata.get(sample.example, {}).items():
            if isinstance(value, (str, int, bool)):
                sums[name][str(value)][sample.candidate].append(score)
    return {
        name: {
            value: {candidate: sum(scores) / len(scores) for candidate, scores in by_candidate.items()}
            for value, by_candidate in sorted(by_value.items())
        }
        for name, by_value in sorted(sums.items())
        if 1 < len(by_value) <= MOST_VALUES
    }
