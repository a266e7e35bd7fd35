from __future__ import annotations

from baimo.core.run import Sample, Score
from baimo.evals.slices import MOST_VALUES, slices


def sample(example: str, score: Score, candidate: str = "c") -> Sample:
    return Sample(candidate=candidate, example=example, request_hash="", score=score)


def test_means_are_by_value_and_candidate() -> None:
    metadata = {"1": {"language": "zh"}, "2": {"language": "zh"}, "3": {"language": "en"}}
    samples = [sample(name, Score.of(share)) for name, share in (("1", 1.0), ("2", 0.0), ("3", 1.0))]
    samples.append(sample("3", Score.of(0.0), "other"))
    found = slices(samples, metadata, strict=False)
    assert found == {"language": {"en": {"c": 1.0, "other": 0.0}, "zh": {"c": 0.5}}}


def test_the_score_that_decides_is_the_one_that_is_sliced() -> None:
    metadata = {"1": {"kind": "a"}, "2": {"kind": "b"}}
    samples = [sample("1", Score.of(1.0, 0.0)), sample("2", Score.of(1.0))]
    assert slices(samples, metadata, strict=True)["kind"] == {"a": {"c": 0.0}, "b": {"c": 1.0}}
    assert slices(samples, metadata, strict=False)["kind"] == {"a": {"c": 1.0}, "b": {"c": 1.0}}


def test_what_was_not_judged_is_in_no_slice() -> None:
    metadata = {"1": {"kind": "a"}, "2": {"kind": "b"}, "3": {"kind": "b"}}
    samples = [
        sample("1", Score.of(1.0)),
        sample("2", Score.failed("no answer")),
        sample("3", Score.unscored("judge asleep")),
    ]
    assert slices(samples, metadata, strict=False) == {}  # one value is left: nothing to compare


def test_a_name_that_identifies_examples_is_no_slice() -> None:
    metadata = {str(n): {"id": f"x{n}", "half": n % 2} for n in range(MOST_VALUES + 1)}
    samples = [sample(str(n), Score.of(1.0)) for n in range(MOST_VALUES + 1)]
    assert list(slices(samples, metadata, strict=False)) == ["half"]


def test_metadata_that_is_no_plain_value_is_passed_over() -> None:
    metadata = {"1": {"tags": ["a"], "share": 0.5}, "2": {"tags": ["b"], "share": 0.7}}
    samples = [sample(name, Score.of(1.0)) for name in ("1", "2")]
    assert slices(samples, metadata, strict=False) == {}
