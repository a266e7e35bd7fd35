"""Multiple choice: which label did the reply settle on?

Prevents two failures: a model marked down because it explained itself, and a model marked up because a label that it
rejected was the first one found. What the reply states last counts; a statement that names two labels counts as none.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, cast

from baimo.core.call import Completion
from baimo.core.run import Score
from baimo.core.task import Example
from baimo.evals.scorers.base import Described, accepted, found, judged, no_reference, short, visible
from baimo.evals.scorers.text import normalised
from baimo.text import text

_EMPHASIS = re.compile(r"[*`$]|\\(?:text|mathrm|mathbf|textbf)(?=\{)|\\[()\[\]]")

_ENGLISH = (
    r"(?:answer|choice|option|selection)\)?\s*(?:is|would\s+be|should\s+be|must\s+be|[:=])\s*"
    r"(?:most\s+likely\s+|probably\s+|clearly\s+|therefore\s+)?(?:[:=]\s*)?(?:the\s+)?(?:option|choice|letter|label)?\s*",
    r"\bI(?:'d|\s+would|\s+will|'ll)?\s+(?:choose|pick|select|go\s+with|say|answer)\s+(?:option|choice|label)?\s*",
)
_CHINESE = (
    r"(?:答案|选项|结论|选择)(?:应该|应当|应|就)?(?:是|为|选择|选)?\s*[::]?\s*(?:选项|选择|选)?\s*",
    r"(?<![不别勿未没可筛])选(?:择|项)?\s*[::]?\s*",
)
_AFTER = (
    r"\s*[\])}]?\s*is\s+(?:the\s+)?(?:correct|right|best|true)\b",
    r"\s*[\])}]?\s*(?:项|选项)?\s*(?:是|为)?(?:正确|对的)",
)


class Extracted(NamedTuple):
    """What the reply settled on."""

    labels: tuple[str, ...]
    """One label, several when it is ambiguous, none when there is no answer."""
    bare: bool
    """The reply is nothing but the label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(Described):
    """The reply settles on the right label. Strict: it is nothing but the label; lenient: read out of the text."""

    name: ClassVar[str] = "choice"
    labels: tuple[str, ...] = ()
    """The labels; empty = A, B, C … as many as the example's `choices` or `options`, else A to D."""
    form: Literal["label", "any"] = "label"
    """What strict asks for: the bare label, or any reply that settles on exactly one."""

    async def score(self, example: Example, completion: Completion) -> Score:
        """1 for the right label; a reply that settles on none or several gets 0."""
        options = _options(example)
        labels = self.labels or tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(options) or 4])
        by_form = {normalised(label): label for label in labels}
        targets = {by_form.get(normalised(target)) for target in accepted(example.target)}
        if not targets:
            return no_reference()
        if None in targets:
            return Score.unscored(text("scorers.choice_target", target=short(example.target), labels=labels))
        reply = visible(completion.text)
        extracted = settled(reply, labels)
        if not extracted.labels and len(options) == len(labels):
            extracted = Extracted(_option_named(reply, options, labels), False)
        facts = {
            "expected": short(example.target),
            "found": " ".join(extracted.labels),
            "reply": short(reply),
        }
        if len(extracted.labels) != 1:
            kind = "ambiguous" if extracted.labels else "none"
            form = self.form == "any" and bool(extracted.labels)
            return judged(0.0, form, text(f"scorers.choice_{kind}", **facts), labels=extracted.labels)
        right = extracted.labels[0] in targets
        why = "" if right else text("scorers.choice_wrong", **facts)
        return judged(float(right), extracted.bare or self.form == "any", why, label=extracted.labels[0])


def settled(reply: str, labels: Sequence[str]) -> Extracted:
    """The label that `reply` settles on: a bare label, the last explicit statement, else the only label named."""
    patterns = _patterns(tuple(labels))
    words = _EMPHASIS.sub("", unicodedata.normalize("NFKC", reply)).strip()
    if match := patterns.whole.fullmatch(words):
        return Extracted((patterns.named(match["label"]),), reply.strip() in labels)
    last: tuple[int, tuple[str, ...]] = (-1, ())
    for pattern in patterns.statements:
        for match in pattern.finditer(words):
            if patterns.is_label(match["label"], words[match.end("label") :]):
                second = patterns.second.match(words, match.end("label"))
                both = (match["label"], second["label"]) if second else (match["label"],)
                last = max(last, (match.start("label"), tuple(patterns.named(label) for label in both)))
    if last[1]:
        return Extracted(tuple(dict.fromkeys(last[1])), False)
    for pattern in (patterns.line, patterns.alone):
        mentions = dict.fromkeys(
            patterns.named(match["label"])
            for match in pattern.finditer(words)
            if patterns.is_label(match["label"], words[match.end("label") :], mention=True)
        )
        if len(mentions) == 1:
            return Extracted(tuple(mentions), False)
    return Extracted((), False)


@dataclass(frozen=True, slots=True)
class _Patterns:
    """Expressions compiled for one set of labels."""

    labels: dict[str, str]
    whole: re.Pattern[str]
    statements: tuple[re.Pattern[str], ...]
    second: re.Pattern[str]
    line: re.Pattern[str]
    alone: re.Pattern[str]

    def named(self, label: str) -> str:
        """The label as the task spells it."""
        return self.labels[label.casefold()]

    def is_label(self, label: str, rest: str, *, mention: bool = False) -> bool:
        """Whether a single letter is meant as a label, and not as the article `a` or the pronoun `I`."""
        if len(label) > 1:
            return True
        if label.islower() and (mention or not re.match(r"\s*(?:[\])}.,;]|$)", rest)):
            return False
        return not (label in "AI" and re.match(r"\s+[a-z]", rest) and mention)


@functools.lru_cache(maxsize=256)
def _patterns(labels: tuple[str, ...]) -> _Patterns:
    """Longest label first, so that `card_arrival` is not read as `card`."""
    folded = {unicodedata.normalize("NFKC", label).casefold(): label for label in labels}
    spelt = sorted(folded, key=len, reverse=True)
    # A letter or digit on either side makes it part of a word; a Chinese character does not.
    label = r"(?<![A-Za-z0-9_])(?P<label>" + "|".join(map(re.escape, spelt)) + r")(?![A-Za-z0-9_]|['’][a-z])"
    opened = r"[\[({【「\"'<]*\s*"
    joined = r"\s*[\])}\"'>]*\s*(?:or|and|/|&|,|、|或者?|和|与|及)\s*" + opened
    flags = re.IGNORECASE
    statements = [rf"\\boxed\s*\{{{opened}{label}"]
    statements += [before + opened + label for before in (*_ENGLISH, *_CHINESE)]
    statements += [label + after for after in _AFTER]
    return _Patterns(
        labels=folded,
        whole=re.compile(rf"[\s\[({{\"'<]*{label}[\s\])}}\"'>.,:;!。]*", flags),
        statements=tuple(re.compile(statement, flags) for statement in statements),
        second=re.compile(joined + label + r"(?=\s*(?:[\])}\"'>.,;!。]|$))", flags),
        line=re.compile(rf"^\s*{opened}{label}[\])}}\"'>]*\s*(?:[.):]|$)", flags | re.MULTILINE),
        alone=re.compile(rf"(?<!not )(?<!不是)(?<![不非]){label}", flags),
    )


def _options(example: Example) -> Sequence[str]:
    """The texts behind the labels, when the example gives them as a list."""
    for name in ("choices", "options"):
        value = found(example.fields, name)
        if isinstance(value, Sequence) and not isinstance(value, str):
            return [str(item) for item in cast("Sequence[object]", value)]
    return ()


def _option_named(reply: str, options: Sequence[str], labels: Sequence[str]) -> tuple[str, ...]:
    """The label of the option whose text is the whole reply."""
    said = normalised(reply)
    return tuple(label for label, option in zip(labels, options, strict=True) if normalised(option) == said)[
        :1
    ]
