"""Scorers that compare words: the whole reply, or what it contains."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import ClassVar, Literal

from baimo.core.call import Completion
from baimo.core.run import Score
from baimo.core.task import Example
from baimo.evals.scorers.base import Described, accepted, no_reference, short, visible
from baimo.text import text

# Full-width forms are folded by NFKC; these are the punctuation marks that it leaves alone.
_MARKS = str.maketrans("“”„«»‘’`´。、—–−·", '"""""\'\'\'\'.,---.')
_EDGES = " \t\r\n\"'*_.,;:!?…"
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_CJK_GAP = re.compile(rf"(?<=[{_CJK}])\s+|\s+(?=[{_CJK}])")


def normalised(
    words: str, *, case: bool = True, whitespace: bool = True, punctuation: bool = True, unicode: bool = True
) -> str:
    """`words` with the differences removed that each switch names.

    Args:
        words: any text.
        case: Unicode case folding.
        whitespace: runs become one space; none is kept beside Chinese or Japanese characters.
        punctuation: quotes, emphasis and sentence marks around the text go; inside it, and brackets, signs and
            other symbols, they stay: `-5`, `C#`, `[1]` keep their meaning.
        unicode: NFKC, so that full-width letters, digits and marks equal the plain ones.
    """
    if unicode:
        words = unicodedata.normalize("NFKC", words).translate(_MARKS)
    if case:
        words = words.casefold()
    if whitespace:
        words = _CJK_GAP.sub("", " ".join(words.split()))
    if punctuation:
        words = words.strip(_EDGES) or words.strip()
    return words


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact(Described):
    """The whole reply is an accepted answer. Strict: character by character; lenient: after normalising."""

    name: ClassVar[str] = "exact"
    case: bool = False
    """Whether upper and lower case differ."""
    whitespace: bool = False
    """Whether spaces and line breaks inside count."""
    punctuation: bool = False
    """Whether quotes, emphasis and sentence marks around the answer count."""
    unicode: bool = False
    """Whether full-width and other compatibility forms differ from the plain ones."""

    async def score(self, example: Example, completion: Completion) -> Score:
        """1 for an accepted answer, 0 for anything else."""
        answers = accepted(example.target)
        if not answers:
            return no_reference()
        reply = visible(completion.text).strip()
        strict = completion.text.strip() in {answer.strip() for answer in answers}
        if strict or self._form(reply) in {self._form(answer) for answer in answers}:
            why = "" if strict else text("scorers.exact_form", expected=short(answers[0]), found=short(reply))
            return Score.of(1.0, float(strict), explanation=why)
        why = text("scorers.expected", expected=short(answers[0]), found=short(reply))
        return Score.of(0.0, explanation=why, malformed=not reply)

    def _form(self, words: str) -> str:
        return normalised(
            words,
            case=not self.case,
            whitespace=not self.whitespace,
            punctuation=not self.punctuation,
            unicode=not self.unicode,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Contains(Described):
    """The reply contains the given texts. Strict: literally; lenient: full-width forms and spacing forgiven."""

    name: ClassVar[str] = "contains"
    values: tuple[str, ...] = ()
    """What to look for; empty = the example's target."""
    mode: Literal["any", "all", "none"] = "any"
    """any: one is enough; all: every one; none: not a single one may occur."""
    ignore_case: bool = False
    """Whether upper and lower case are the same."""
    share: bool = False
    """With mode all: score the share that was found."""

    async def score(self, example: Example, completion: Completion) -> Score:
        """1 or 0, or the share found; `details` lists found and missing."""
        values = self.values or accepted(example.target)
        if not values:
            return no_reference()
        reply = visible(completion.text)
        literal = [self._in(value, reply) for value in values]
        loose = [
            hit or self._in(_loose(value), _loose(reply)) for hit, value in zip(literal, values, strict=True)
        ]
        lists = {
            "found": [value for value, hit in zip(values, loose, strict=True) if hit],
            "missing": [value for value, hit in zip(values, loose, strict=True) if not hit],
        }
        lenient, strict = self._mark(loose), self._mark(literal)
        if self.mode == "none":  # a hit in either reading is a hit
            strict = lenient
        why = "" if lenient == 1 else text(f"scorers.contains_{self.mode}", **_lines(lists))
        return Score.of(lenient, strict, explanation=why, **lists)

    def _in(self, value: str, reply: str) -> bool:
        return value.casefold() in reply.casefold() if self.ignore_case else value in reply

    def _mark(self, hits: list[bool]) -> float:
        match self.mode:
            case "any":
                return float(any(hits))
            case "none":
                return float(not any(hits))
            case "all":
                return sum(hits) / len(hits) if self.share else float(all(hits))


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainsAnyCase(Contains):
    """`contains` where upper and lower case are the same."""

    name: ClassVar[str] = "icontains"
    ignore_case: bool = True


def _loose(words: str) -> str:
    return normalised(words, case=False, punctuation=False)


def _lines(lists: dict[str, list[str]]) -> dict[str, str]:
    return {name: short(", ".join(values)) for name, values in lists.items()}
