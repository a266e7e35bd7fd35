"""How alike two texts are, by the measures that OpenAI's text_similarity knows; all of them 0..1.

OpenAI names the measures and not the programs, so each is computed as its own paper or usual program has it:
fuzzy_match as rapidfuzz's WRatio; BLEU with the tokens and smoothing of sacrebleu's sentence score; GLEU (Wu et al.
2016, arXiv 1609.08144); ROUGE-N and ROUGE-L as F1 (Lin 2004); METEOR (Banerjee & Lavie 2005; α 0.9, β 3, γ 0.5) with
exact and stemmed matches, without WordNet's synonyms.

Prevents the failure where Chinese, which has no spaces, is one token and every score is 0 or 1: Chinese, Japanese and
Korean characters are tokens by themselves.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from baimo.evals.graders.stem import stem

Metric = Literal[
    "fuzzy_match", "bleu", "gleu", "meteor", "cosine",
    "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l",
]  # fmt: skip
LONGEST = 8000
"""Tokens that are compared: bounds the measures that take the square of it."""
_ORDER = 4
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
_CHARACTER = re.compile(rf"([{_CJK}])")
_ENTITIES = {"&quot;": '"', "&amp;": "&", "&lt;": "<", "&gt;": ">"}
_MARKS = (  # the tokens of NIST's mteval-v13a, which BLEU scores are comparable in
    (re.compile(r"([{-~\[-` -&(-+:-@/])"), r" \1 "),
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)


def similarity(metric: str, said: str, wanted: str) -> float:
    """How alike `said` is to `wanted`, by any measure but `cosine`; two equal texts that have tokens get 1, by METEOR
    almost (its penalty for fragmentation is never 0)."""
    if metric == "fuzzy_match":
        return fuzzy_match(said, wanted)
    if metric == "bleu":
        return bleu(said, wanted)
    if metric == "gleu":
        return gleu(words(said), words(wanted))
    if metric == "meteor":
        return meteor(words(said), words(wanted))
    if metric == "rouge_l":
        return rouge_l(words(said), words(wanted))
    return rouge_n(words(said), words(wanted), int(metric.removeprefix("rouge_")))


def words(text: str) -> list[str]:
    """Lower-case words without marks; each Chinese, Japanese or Korean character by itself."""
    return _WORD.findall(text.lower())[:LONGEST]


def fuzzy_match(said: str, wanted: str) -> float:
    """rapidfuzz's weighted ratio, case and marks forgiven; two texts that are the same have 1, also empty ones."""
    from rapidfuzz import fuzz, utils

    if said == wanted:
        return 1.0
    return fuzz.WRatio(said, wanted, processor=utils.default_process) / 100


def bleu(said: str, wanted: str) -> float:
    """BLEU of one sentence: n-grams up to 4 or as far as the text goes, precisions of 0 smoothed by halving."""
    chinese = bool(_CHARACTER.search(wanted))
    given, reference = (_marked(text, chinese)[:LONGEST] for text in (said, wanted))
    if not given:
        return 0.0
    logarithms: list[float] = []
    smoothed, any_right = 1.0, False
    for size in range(1, _ORDER + 1):
        ours = _grams(given, size)
        total = sum(ours.values())
        if not total:
            break
        right = sum((ours & _grams(reference, size)).values())
        any_right = any_right or bool(right)
        if not right:
            smoothed *= 2
        logarithms.append(math.log(right / total if right else 1 / (smoothed * total)))
    if not any_right:
        return 0.0
    shortness = min(0.0, 1 - len(reference) / len(given))
    return math.exp(shortness + sum(logarithms) / len(logarithms))


def gleu(said: Sequence[str], wanted: Sequence[str]) -> float:
    """Google's BLEU: the smaller of precision and recall over all n-grams of 1 to 4 tokens together."""
    right = totals = ours = 0
    for size in range(1, _ORDER + 1):
        mine, theirs = _grams(said, size), _grams(wanted, size)
        right += sum((mine & theirs).values())
        ours += sum(mine.values())
        totals += sum(theirs.values())
    most = max(ours, totals)
    return right / most if most else float(said == wanted)


def rouge_n(said: Sequence[str], wanted: Sequence[str], size: int) -> float:
    """F1 of the n-grams; texts shorter than that have 0."""
    mine, theirs = _grams(said, size), _grams(wanted, size)
    return _f1(sum((mine & theirs).values()), sum(mine.values()), sum(theirs.values()))


def rouge_l(said: Sequence[str], wanted: Sequence[str]) -> float:
    """F1 of the longest common subsequence."""
    from rapidfuzz.distance import LCSseq

    return _f1(LCSseq.similarity(said, wanted), len(said), len(wanted))


def meteor(said: Sequence[str], wanted: Sequence[str]) -> float:
    """Harmonic mean of precision and recall (recall counts nine times as much), less for scattered matches."""
    pairs = _aligned(said, wanted)
    if not pairs:
        return 0.0
    precision, recall = len(pairs) / len(said), len(pairs) / len(wanted)
    mean = precision * recall / (0.9 * precision + 0.1 * recall)
    following = sum(
        mine + 1 == next_mine and theirs + 1 == next_theirs
        for (mine, theirs), (next_mine, next_theirs) in pairwise(pairs)
    )
    chunks = len(pairs) - following
    return mean * (1 - 0.5 * (chunks / len(pairs)) ** 3)


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Cosine of two vectors; 0 where one has no direction."""
    across = math.fsum(left * right for left, right in zip(one, other, strict=True))
    lengths = math.hypot(*one) * math.hypot(*other)
    return max(-1.0, min(1.0, across / lengths)) if lengths else 0.0


def _aligned(said: Sequence[str], wanted: Sequence[str]) -> list[tuple[int, int]]:
    """Places of words that match, each used once: the same words first, then words of one stem; from the end, as the
    first programs did."""
    pairs: list[tuple[int, int]] = []
    mine, theirs = dict(enumerate(said)), dict(enumerate(wanted))
    for form in (str, stem):
        places: dict[str, list[int]] = {}
        for place, word in theirs.items():
            places.setdefault(form(word), []).append(place)
        for place, word in reversed(list(mine.items())):
            if free := places.get(form(word)):
                pairs.append((place, free.pop()))
                del mine[place], theirs[pairs[-1][1]]
    return sorted(pairs)


def _marked(text: str, chinese: bool) -> list[str]:
    line = text.strip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, mark in _ENTITIES.items():
        line = line.replace(entity, mark)
    line = _CHARACTER.sub(r" \1 ", line) if chinese else line
    line = f" {line} "
    for pattern, spaced in _MARKS:
        line = pattern.sub(spaced, line)
    return line.split()


def _grams(tokens: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[at : at + size]) for at in range(len(tokens) - size + 1))


def _f1(common: int, said: int, wanted: int) -> float:
    return 2 * common / (said + wanted) if common else 0.0
