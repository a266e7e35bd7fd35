"""Personal data and unwanted words in rows: where they are, and rows with personal data replaced.

A value gets one placeholder in all texts of its row, numbered like those of the gateway (`<PHONE_1>`), so that what the
model learns fits what it is asked. Placeholders that stand in a row already are left as they are: masking twice is
masking once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

from baimo.core.message import Message
from baimo.core.texts import Change, in_message, in_value
from baimo.core.tuning import Row
from baimo.pii.find import found, found_in_all
from baimo.pii.finding import Finding
from baimo.pii.mask import LABELS

ROUNDS = 4
"""How often a row is looked through at most: what was masked may uncover what stood beside it."""
_PLACEHOLDER = re.compile(rf"<(?:{'|'.join(dict.fromkeys(LABELS.values()))})_[0-9]+>")
_WIDE = re.compile("[\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff]")


class PersonalData:
    """Looks for personal data; texts that many rows share are looked through once."""

    def __init__(self, kinds: Collection[str] | None = None) -> None:
        self._kinds = kinds
        self._shared: dict[str, Counter[str]] = {}

    def kinds_in(self, row: Row) -> Counter[str]:
        """How much of each kind a row holds."""
        own: list[str] = []
        counts: Counter[str] = Counter()
        for message in row.messages:
            if message.role == "system" and isinstance(message.content, str):
                if message.content not in self._shared:
                    self._shared[message.content] = self._counted(message.content)
                counts += self._shared[message.content]
            else:
                own += _texts(message)
        own += [text for message in row.rejected for text in _texts(message)]
        own += [row.text] if row.text else []
        in_value(row.item, lambda text: own.append(text) or text)
        counts += self._counted("\n\n".join(own))  # in one: what a turn introduces is known in the others
        return counts

    def masked(self, row: Row) -> tuple[Row, Counter[str]]:
        """The row with personal data replaced, and how often each kind was."""
        counts: Counter[str] = Counter()
        if not self.kinds_in(row):
            return row, counts
        for _ in range(ROUNDS):
            texts: list[str] = []
            rebuilt(row, lambda text, texts=texts: texts.append(text) or text)
            # "password": "…" in the arguments of a call is recognised by its name, which the value alone lacks
            written = [call.arguments for one in (*row.messages, *row.rejected) for call in one.tool_calls]
            of_texts = found_in_all([*texts, *written], self._kinds)[: len(texts)]
            findings = [
                [one for one in of_text if not _is_ours(text, one)]
                for text, of_text in zip(texts, of_texts, strict=True)
            ]
            if not any(findings):
                break
            names = _Names(texts)
            shown = iter(
                [names.masked(text, found, counts) for text, found in zip(texts, findings, strict=True)]
            )
            row = rebuilt(row, lambda _, shown=shown: next(shown))
        return row, counts

    def _counted(self, text: str) -> Counter[str]:
        return Counter(one.kind for one in found(text, self._kinds) if not _is_ours(text, one))


class _Names:
    """Placeholders of one row."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._taken = {found for text in texts for found in _PLACEHOLDER.findall(text)}
        self._of_value: dict[str, str] = {}

    def masked(self, text: str, findings: Sequence[Finding], counts: Counter[str]) -> str:
        pieces: list[str] = []
        at = 0
        for one in findings:
            pieces += (text[at : one.start], self._placeholder(one))
            at = one.end
            counts[one.kind] += 1
        return "".join((*pieces, text[at:]))

    def _placeholder(self, finding: Finding) -> str:
        if finding.text not in self._of_value:
            number = 1
            while (name := f"<{LABELS[finding.kind]}_{number}>") in self._taken:
                number += 1
            self._taken.add(name)
            self._of_value[finding.text] = name
        return self._of_value[finding.text]


def rebuilt(row: Row, change: Change) -> Row:
    """The row with every text that is learnt, shown or compared with changed, always in the same order."""
    return replace(
        row,
        messages=tuple(in_message(one, change) for one in row.messages),
        rejected=tuple(in_message(one, change) for one in row.rejected),
        text=change(row.text),
        item=in_value(row.item, change),
    )


def unwanted(words: Collection[str]) -> Callable[[Row], str | None]:
    """A function that gives the first of `words` that stands in a row; None = none.

    Case does not count. Words of scripts with spaces must stand alone; Chinese, Japanese and Korean ones need not.
    """
    plain = sorted({word.casefold().strip() for word in words} - {""}, key=len, reverse=True)
    if not plain:
        return lambda row: None
    alone = (re.escape(w) if _WIDE.search(w) else rf"(?<!\w){re.escape(w)}(?!\w)" for w in plain)
    pattern = re.compile("|".join(alone))

    def found(row: Row) -> str | None:
        texts = (
            text for one in (*row.messages, *row.rejected) if one.role != "system" for text in _texts(one)
        )
        for text in (*texts, row.text):
            if match := pattern.search(text.casefold()):
                return match[0]
        return None

    return found


def _is_ours(text: str, finding: Finding) -> bool:
    """Whether a finding is part of a placeholder."""
    if "_" not in finding.text and "<" not in text[max(0, finding.start - 12) : finding.end]:
        return False
    return any(
        match.start() < finding.end and finding.start < match.end() for match in _PLACEHOLDER.finditer(text)
    )


def _texts(message: Message) -> Iterator[str]:
    if isinstance(message.content, str):
        yield message.content
    else:
        yield from (part.data for part in message.content if part.kind == "text")
    yield from (call.arguments for call in message.tool_calls)
