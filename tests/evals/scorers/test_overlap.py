"""Overlap of texts."""

from __future__ import annotations

import pytest

from baimo.core.run import Outcome
from tests.evals.scorers import judge

METRICS = ["f1", "span_f1", "rouge_l", "bleu", "chrf"]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("text", ["the cat sat on the mat", "光荣和ω-force", "42", "."])
def test_a_repeated_reference_shares_everything(metric: str, text: str) -> None:
    assert judge("text_overlap", text, text, metric=metric).lenient == 1


@pytest.mark.parametrize("metric", METRICS)
def test_nothing_in_common_is_nothing(metric: str) -> None:
    assert judge("text_overlap", "zzz", "光荣", metric=metric).lenient == 0


@pytest.mark.parametrize("metric", METRICS)
def test_a_closer_reply_scores_higher(metric: str) -> None:
    reference = "由光荣公司和ω-force共同开发的战国无双系列作品"
    near = judge("text_overlap", "光荣公司和ω-force共同开发的作品", reference, metric=metric).lenient
    far = judge("text_overlap", "这是一款任天堂的游戏作品", reference, metric=metric).lenient
    assert near is not None
    assert far is not None
    assert near > far


def test_f1_counts_tokens_and_span_f1_the_longest_run() -> None:
    assert judge("text_overlap", "b x c", "b c").lenient == pytest.approx(0.8)
    assert judge("text_overlap", "b x c", "b c", metric="span_f1").lenient == pytest.approx(0.4)
    assert judge("text_overlap", "c x b", "b c", metric="rouge_l").lenient == pytest.approx(0.4)


def test_chinese_counts_by_character() -> None:
    assert judge("text_overlap", "北京大", "北京大学").lenient == pytest.approx(6 / 7)


def test_the_best_accepted_text_counts() -> None:
    assert judge("text_overlap", "b", ["x y", "b"]).details["exact"] is True


def test_an_empty_reply_is_malformed() -> None:
    assert judge("text_overlap", " ", "b").outcome is Outcome.MALFORMED


def test_a_library_s_version_belongs_to_its_figures() -> None:
    from pathlib import Path

    from baimo.core.registry import Spec
    from baimo.evals.scorers.registry import scorer

    assert (
        "sacrebleu" in scorer(Spec(name="text_overlap", args={"metric": "bleu"}), folder=Path()).spec.version
    )
