"""Measures of likeness: by hand, against other programs where they are installed, and by what must hold."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.evals.graders.similarity import bleu, cosine, gleu, meteor, rouge_l, rouge_n, similarity, words
from baimo.evals.graders.stem import stem

TEXT_METRICS = (
    "fuzzy_match",
    "bleu",
    "gleu",
    "meteor",
    "rouge_1",
    "rouge_2",
    "rouge_3",
    "rouge_4",
    "rouge_5",
    "rouge_l",
)
CAT, MAT = words("the cat sat on the mat"), words("the cat is on the mat")
SENTENCES = st.lists(
    st.sampled_from(["a", "the", "Cat,", "sat", "on", "it's", "3.5", "mat."]), max_size=12
).map(" ".join)


def test_rouge_counts_the_n_grams_that_both_have() -> None:
    assert rouge_n(CAT, MAT, 1) == pytest.approx(5 / 6)
    assert rouge_n(CAT, MAT, 2) == pytest.approx(3 / 5)
    assert rouge_n(CAT, MAT, 5) == 0
    assert rouge_l(CAT, MAT) == pytest.approx(5 / 6)
    assert rouge_l(words("police killed the gunman"), words("the gunman police killed")) == pytest.approx(0.5)


def test_gleu_is_the_smaller_of_precision_and_recall() -> None:
    # 6 + 5 + 4 + 3 n-grams in each; 5 + 3 + 1 + 0 of them in both
    assert gleu(CAT, MAT) == pytest.approx(9 / 18)
    assert gleu(["a"], ["a", "b"]) == pytest.approx(1 / 3)
    assert gleu(["a", "b"], ["a"]) == pytest.approx(1 / 3)


def test_meteor_is_what_its_formula_says() -> None:
    # five of six words match in two chunks: the cat | on the mat
    assert meteor(CAT, MAT) == pytest.approx((5 / 6) * (1 - 0.5 * (2 / 5) ** 3))
    # one chunk of three; precision 1, recall 3/4
    assert meteor(list("abc"), list("abcd")) == pytest.approx((0.75 / (0.9 + 0.1 * 0.75)) * (1 - 0.5 / 27))
    assert meteor(words("the jumps"), words("the jumping")) == pytest.approx(1 - 0.5 * (1 / 2) ** 3)
    assert meteor(["x"], ["y"]) == meteor([], []) == 0


@pytest.mark.parametrize(
    ("word", "root"),
    [
        *(("caresses", "caress"), ("ponies", "poni"), ("cats", "cat"), ("feed", "feed"), ("agreed", "agre")),
        *(("plastered", "plaster"), ("bled", "bled"), ("motoring", "motor"), ("sing", "sing")),
        *(("conflated", "conflat"), ("troubled", "troubl"), ("hopping", "hop"), ("falling", "fall")),
        *(("filing", "file"), ("happy", "happi"), ("sky", "sky"), ("relational", "relat")),
        *(("conditional", "condit"), ("digitizer", "digit"), ("operator", "oper"), ("hopefulness", "hope")),
        *(("triplicate", "triplic"), ("formative", "form"), ("electrical", "electr"), ("revival", "reviv")),
        *(("adjustable", "adjust"), ("replacement", "replac"), ("adoption", "adopt"), ("probate", "probat")),
        *(
            ("rate", "rate"),
            ("cease", "ceas"),
            ("controll", "control"),
            ("roll", "roll"),
            ("generalizations", "gener"),
        ),
        *(("oscillators", "oscil"), ("at", "at"), ("巴黎", "巴黎"), ("naïve", "naïve")),
    ],
)
def test_stems_are_those_of_porters_paper(word: str, root: str) -> None:
    assert stem(word) == root


@pytest.mark.parametrize("metric", TEXT_METRICS)
def test_the_same_text_is_as_like_itself_as_the_measure_knows(metric: str) -> None:
    text = "The quick brown fox jumps over the lazy dog."
    assert similarity(metric, text, text) == pytest.approx(1, abs=0.001)
    chinese = "今天天气很好，我们去公园"
    assert similarity(metric, chinese, chinese) == pytest.approx(1, abs=0.001)
    assert 0 < similarity(metric, "今天天气很好，我们去学校", chinese) < 1


@given(st.sampled_from(TEXT_METRICS), st.text(max_size=40) | SENTENCES, st.text(max_size=40) | SENTENCES)
def test_every_measure_is_between_0_and_1(metric: str, said: str, wanted: str) -> None:
    assert 0 <= similarity(metric, said, wanted) <= 1 + 1e-9


@given(SENTENCES, SENTENCES)
def test_what_counts_both_sides_alike_is_symmetric(said: str, wanted: str) -> None:
    for metric in ("gleu", "rouge_1", "rouge_l"):
        assert similarity(metric, said, wanted) == pytest.approx(similarity(metric, wanted, said))


@given(SENTENCES, SENTENCES)
def test_bleu_is_that_of_sacrebleu(said: str, wanted: str) -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    assert bleu(said, wanted) == pytest.approx(sacrebleu.sentence_bleu(said, [wanted]).score / 100, abs=1e-9)


def test_bleu_of_chinese_is_that_of_sacrebleu() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    for said in ("今天 天气很好", "天气", "we like 公园 very much"):
        wanted = "今天天气很好，我们去公园"
        score = sacrebleu.sentence_bleu(said, [wanted], tokenize="zh").score / 100
        assert bleu(said, wanted) == pytest.approx(score, abs=1e-9)


def test_cosine_is_the_angle_and_nothing_has_no_direction() -> None:
    assert cosine([1, 0], [1, 1]) == pytest.approx(math.sqrt(0.5))
    assert cosine([1, 2], [2, 4]) == pytest.approx(1)
    assert cosine([1, 0], [-1, 0]) == -1
    assert cosine([0, 0], [1, 1]) == 0


def test_fuzzy_match_forgives_case_and_marks() -> None:
    assert similarity("fuzzy_match", "Fuzzy Wuzzy!", "fuzzy wuzzy") == 1
    assert similarity("fuzzy_match", "", "") == 1
    assert similarity("fuzzy_match", "", "x") == 0
    assert 0.4 < similarity("fuzzy_match", "fuzzy wuzzy was a bear", "fuzzy wuzzy had no hair") < 0.9
