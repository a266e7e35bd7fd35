"""Replace personal data by placeholders before a text leaves, and put it back into what returns.

Prevents three failures: a value that comes back to the wrong place, because the prompt itself held `<EMAIL_1>` (such
text is masked like any value, so nothing that looks like a placeholder leaves unless it is one of ours); an answer
whose placeholder was cut in two by the stream; and a client that waits because a stream was held back needlessly.
"""

from __future__ import annotations

import json as json_text
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cache

from baimo.pii.find import found_in_all
from baimo.pii.finding import Finding

_QUOTED = "quoted"  # not a kind that is found: text of the prompt that looks like a placeholder
LABELS: Mapping[str, str] = {
    "email": "EMAIL",
    "phone": "PHONE",
    "cn_phone": "PHONE",
    "card": "CARD",
    "cn_bank_card": "CARD",
    "ip": "IP",
    "secret": "SECRET",
    "url_credentials": "LOGIN",
    "iban": "IBAN",
    "cn_id": "ID",
    "cn_uscc": "COMPANY",
    "cn_passport": "PASSPORT",
    "cn_permit": "PERMIT",
    "cn_plate": "PLATE",
    "name": "PERSON",
    "address": "ADDRESS",
    _QUOTED: "TEXT",
}
"""Kind → the word in its placeholder, which tells the model what stands there."""
_WORDS = tuple(dict.fromkeys(LABELS.values()))
_PARTING = r"[ _\\\-]"  # models write <EMAIL 1>, Markdown writers <EMAIL\_1>
# escaped brackets count in pairs only: a backslash before a placeholder may be the end of a path
_BRACKETS = (("<", ">"), ("＜", "＞"), ("&lt;", "&gt;"), (r"\\<", r"\\>"), (r"\\u003[cC]", r"\\u003[eE]"))
_INNER = rf" ?(?:{'|'.join(_WORDS)}){_PARTING}{{1,3}}[0-9]{{1,7}} ?"
_FLAGS = re.IGNORECASE | re.ASCII
_PLACEHOLDER = re.compile("|".join(f"{before}{_INNER}{after}" for before, after in _BRACKETS), _FLAGS)
_LABEL_AND_NUMBER = re.compile(rf"({'|'.join(_WORDS)}){_PARTING}{{1,3}}([0-9]{{1,7}})", _FLAGS)
_LONGEST = 40
_OPENERS = "<＜&\\"


class Masker:
    """The values of one conversation and their placeholders. Neither its repr nor anything else shows a value."""

    __slots__ = ("_kinds", "_known", "_numbers", "_of_value", "_values", "counts")

    def __init__(self, kinds: Collection[str] | None = None) -> None:
        """Masks `kinds`; None = every kind of `baimo.pii.find.KINDS`."""
        self._kinds = kinds
        self._values: dict[str, str] = {}
        self._of_value: dict[str, str] = {}
        self._known: dict[str, str] = {}
        self._numbers: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        """Replacements so far by kind; holds no value, so it may be logged."""

    def __repr__(self) -> str:
        return f"Masker({len(self._values)} values)"

    def __bool__(self) -> bool:
        """Whether anything was replaced: if not, answers need no work."""
        return bool(self._values)

    def mask(self, text: str) -> str:
        """`text` with every finding replaced; equal values, here or in an earlier text, get equal placeholders."""
        return self.mask_all([text])[0]

    def mask_all(self, texts: Sequence[str]) -> list[str]:
        """All texts of one request. A name that only the last one introduces is masked in the first one too."""
        findings = found_in_all(texts, self._kinds, known=self._known)
        return [self._masked(text, of_text) for text, of_text in zip(texts, findings, strict=True)]

    def unmask(self, text: str, *, json: bool = False) -> str:
        """`text` with every placeholder of this conversation replaced by its value.

        Args:
            text: what a model wrote; case and spacing inside a placeholder may have changed.
            json: `text` is JSON (the arguments of a tool call), so values are escaped as in a JSON string.
        """
        if not self._values:
            return text
        return _PLACEHOLDER.sub(lambda match: self._restored(match[0], json), text)

    def unmasking(self, *, json: bool = False) -> Unmasking:
        """The same for a text that arrives in pieces."""
        return Unmasking(self, json=json)

    def labels(self) -> frozenset[str]:
        """The words of the placeholders in use."""
        return frozenset(self._numbers)

    def _masked(self, text: str, findings: Sequence[Finding]) -> str:
        pieces: list[str] = []
        at = 0
        for kind, start, end in _with_quoted(text, findings):
            pieces += (text[at:start], self._placeholder(kind, text[start:end]))
            at = end
        return "".join((*pieces, text[at:]))

    def _placeholder(self, kind: str, value: str) -> str:
        self.counts[kind] += 1
        placeholder = self._of_value.get(value)
        if placeholder is None:
            label = LABELS[kind]
            self._numbers[label] += 1
            placeholder = f"<{label}_{self._numbers[label]}>"
            self._of_value[value] = placeholder
            self._values[placeholder] = value
            if kind != _QUOTED:
                self._known[value] = kind
        return placeholder

    def _restored(self, written: str, json: bool) -> str:
        parts = _LABEL_AND_NUMBER.search(written)
        value = self._values.get(f"<{parts[1].upper()}_{int(parts[2])}>") if parts else None
        if value is None:
            return written
        return json_text.dumps(value, ensure_ascii=False)[1:-1] if json else value


class Unmasking:
    """Puts values back into a stream of text. Pieces may be cut anywhere; what cannot be part of a placeholder passes
    at once."""

    __slots__ = ("_held", "_json", "_masker", "_partial")

    def __init__(self, masker: Masker, *, json: bool = False) -> None:
        self._masker = masker
        self._json = json
        self._held = ""
        self._partial = _partial(masker.labels()) if masker else None

    def feed(self, piece: str) -> str:
        """What can be passed on now."""
        if self._partial is None:
            return piece
        text = self._held + piece
        cut = next(
            (
                place
                for place in range(max(0, len(text) - _LONGEST), len(text))
                if text[place] in _OPENERS and self._partial.fullmatch(text, place)
            ),
            len(text),
        )
        self._held = text[cut:]
        return self._masker.unmask(text[:cut], json=self._json)

    def rest(self) -> str:
        """What was held back, once the stream has ended."""
        held, self._held = self._held, ""
        return self._masker.unmask(held, json=self._json)


def _with_quoted(text: str, findings: Sequence[Finding]) -> list[tuple[str, int, int]]:
    """(kind, start, end) of the findings and of placeholder-like text, joined where they overlap."""
    spans = [(finding.start, finding.end, finding.kind) for finding in findings]
    spans += [(match.start(), match.end(), _QUOTED) for match in _PLACEHOLDER.finditer(text)]
    joined: list[tuple[str, int, int]] = []
    for start, end, kind in sorted(spans):
        if joined and start < joined[-1][2]:
            last, first, until = joined.pop()
            joined.append((kind if last == _QUOTED else last, first, max(end, until)))
        else:
            joined.append((kind, start, end))
    return joined


@cache
def _partial(labels: frozenset[str]) -> re.Pattern[str]:
    """Matches every beginning of a placeholder with one of `labels`, and nothing else."""
    begun = "|".join(sorted({label[:size] for label in labels for size in range(1, len(label) + 1)}))
    escape = r"\\(?:u(?:0(?:0(?:3)?)?)?)?"
    opening = rf"<|＜|&(?:l(?:t;?)?)?|\\<|\\u003c|{escape}"
    number = rf"(?:{'|'.join(sorted(labels))}){_PARTING}{{1,3}}[0-9]{{0,7}} ?(?:&(?:gt?)?|{escape})?"
    return re.compile(rf"(?:{opening})|(?:<|＜|&lt;|\\<|\\u003c) ?(?:{begun}|{number})?", _FLAGS)
