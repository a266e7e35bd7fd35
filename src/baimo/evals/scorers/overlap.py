"""How much of the reference the reply repeats, for answers that have no one wording.

Prevents the failure where Chinese, which has no spaces, is one token and every score is 0 or 1: tokens are characters
there and words elsewhere. Sources: SQuAD (arXiv 1606.05250) and CMRC 2018 (arXiv 1810.07366) for F1, Lin 2004 for
ROUGE-L, Post 2018 (arXiv 1804.08771) for BLEU and chrF.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from baimo.core.call import Completion
from baimo.core.registry import Spec, require
from baimo.core.run import Score
from baimo.core.task import Example
from baimo.evals.scorers.base import Described, accepted, judged, no_reference, short, visible
from baimo.text import text

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af"
_TOKEN = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")
_HAN = re.compile(rf"[{_CJK}]")
_ARTICLES = frozenset({"a", "an", "the"})
_LONGEST = 4000  # tokens of a reply that are compared: bounds the quadratic measures

Metric = Literal["f1", "span_f1", "rouge_l", "bleu", "chrf"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextOverlap(Described):
    """Overlap with the best fitting accepted text, 0..1."""

    name: ClassVar[str] = "text_overlap"
    metric: Metric = "f1"
    """f1: bag of tokens (SQuAD); span_f1: longest common run (CMRC 2018); rouge_l: longest common subsequence;
    bleu, chrf: sentence scores of sacrebleu, whose Chinese tokeniser is taken for Chinese references."""

    def __post_init__(self) -> None:
        """Ask for the library before the first call is paid for."""
        if self.metric in ("bleu", "chrf"):
            _sacrebleu()

    @property
    def spec(self) -> Spec:
        """With the library's version where the figures depend on it."""
        version = (
            f"1+sacrebleu-{_sacrebleu().__version__}" if self.metric in ("bleu", "chrf") else self.version
        )
        return Spec(
            name=self.name, args={"metric": self.metric} if self.metric != "f1" else {}, version=version
        )

    async def score(self, example: Example, completion: Completion) -> Score:
        """The best overlap with any accepted text; an empty reply is malformed."""
        answers = accepted(example.target)
        if not answers:
            return no_reference()
        reply = visible(completion.text).strip()
        if not reply and any(answer.strip() for answer in answers):
            return judged(0.0, False, text("scorers.expected", expected=short(answers[0]), found=""))
        values = [overlap(self.metric, reply, answer) for answer in answers]
        best = max(values)
        why = "" if best == 1 else text("scorers.expected", expected=short(answers[0]), found=short(reply))
        exact = any(tokens(reply) == tokens(answer) for answer in answers)
        return judged(best, True, why, metric=self.metric, exact=exact)


def tokens(words: str) -> list[str]:
    """Case-folded words; each Chinese, Japanese or Korean character by itself; marks and English articles left out."""
    folded = unicodedata.normalize("NFKC", words).casefold()
    return [token for token in _TOKEN.findall(folded)[:_LONGEST] if token not in _ARTICLES]


def overlap(metric: Metric, reply: str, reference: str) -> float:
    """How much `reply` and `reference` share, 0..1; two texts of the same tokens share everything."""
    said, wanted = tokens(reply), tokens(reference)
    if said == wanted and (said or reply.strip() == reference.strip()):
        return 1.0
    match metric:
        case "f1":
            return _f1(sum((Counter(said) & Counter(wanted)).values()), said, wanted)
        case "span_f1":
            return _f1(_longest_run(said, wanted), said, wanted)
        case "rouge_l":
            from rapidfuzz.distance import LCSseq

            return _f1(LCSseq.similarity(said, wanted), said, wanted)
        case "bleu":
            tokenizer = "zh" if _HAN.search(reference) else "13a"
            score = _sacrebleu().sentence_bleu(reply, [reference], tokenize=tokenizer).score
        case "chrf":
            score = _sacrebleu().sentence_chrf(reply, [reference]).score
    return min(1.0, max(0.0, score / 100))


def _f1(common: int, said: list[str], wanted: list[str]) -> float:
    return 2 * common / (len(said) + len(wanted)) if common else 0.0


def _longest_run(said: list[str], wanted: list[str]) -> int:
    """Length of the longest run of tokens that both have."""
    best = 0
    before = [0] * (len(wanted) + 1)
    for token in said:
        row = [0] * (len(wanted) + 1)
        for place, other in enumerate(wanted, 1):
            if token == other:
                row[place] = before[place - 1] + 1
                best = max(best, row[place])
        before = row
    return best


def _sacrebleu() -> Any:
    return require("sacrebleu", "text", "scorers.purpose_overlap")
