"""Find personal data and secrets in a text: `found(text)`.

Rules, not a model: each kind is a shape with a check (checksum, date, range) or a shape with a reason near by (a label,
a title). The same text always gives the same findings, in linear time, with nothing read or sent.
`docs/concepts/pii.md` lists the rules and what they miss; `docs/findings/pii.md` says how often.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from baimo.pii import chinese_names, columns, credentials, english_names, network, numbers, phones, places
from baimo.pii.finding import Finding, Hit, Rule
from baimo.pii.fold import folded
from baimo.pii.spans import again, settled

_RULES: tuple[tuple[Rule, tuple[str, ...]], ...] = (
    (network.emails, ("email",)),
    (phones.phones, ("phone",)),
    (phones.mobiles, ("cn_phone",)),
    (numbers.cards, ("card", "cn_bank_card")),
    (network.addresses, ("ip",)),
    (credentials.secrets, ("secret",)),
    (network.url_credentials, ("url_credentials",)),
    (numbers.accounts, ("iban",)),
    (numbers.identities, ("cn_id", "cn_permit")),
    (numbers.companies, ("cn_uscc",)),
    (numbers.documents, ("cn_passport", "cn_permit")),
    (numbers.plates, ("cn_plate",)),
    (chinese_names.names, ("name",)),
    (english_names.names, ("name",)),
    (columns.names, ("name",)),
    (places.addresses, ("address",)),
)
KINDS: tuple[str, ...] = tuple(dict.fromkeys(kind for _, kinds in _RULES for kind in kinds))
"""Every kind that can be found."""
_BY_CONTEXT = {"name": 2, "secret": 6, "cn_passport": 8, "cn_permit": 8, "phone": 7}
"""Kinds that a word near by reveals, with the fewest characters from which a value is sought elsewhere too."""


def found(text: str, kinds: Collection[str] | None = None) -> list[Finding]:
    """Findings in the order of the text, none overlapping.

    Args:
        text: any text; also JSON text, whose escapes are never cut.
        kinds: which kinds to look for; None = all of `KINDS`.

    Raises:
        ValueError: a kind that does not exist (a mistake of the caller, so not an error of the catalogue).
    """
    return found_in_all([text], kinds)[0]


def found_in_all(
    texts: Sequence[str], kinds: Collection[str] | None = None, *, known: Mapping[str, str] | None = None
) -> list[list[Finding]]:
    """The findings of texts that belong together, one list for each.

    A name that one text introduces, or a password that it labels, is found in the others too, as are the values of
    `known` (value → kind), which were found before. Otherwise as `found`.
    """
    wanted = frozenset(KINDS if kinds is None else kinds)
    if not wanted <= frozenset(KINDS):
        raise ValueError(f"no such kind: {', '.join(sorted(wanted - frozenset(KINDS)))}")
    forms = [folded(text) for text in texts]
    hits = [_hits(form.plain, wanted) for form in forms]
    values = {folded(value).plain: kind for value, kind in (known or {}).items() if kind in wanted}
    for form, of_form in zip(forms, hits, strict=True):
        values.update(
            (form.plain[hit.start : hit.end], hit.kind) for hit in of_form if hit.kind in _BY_CONTEXT
        )
    values = {value: kind for value, kind in values.items() if _is_telling(value, kind)}
    return [
        [
            _finding(text, hit, *form.original(hit.start, hit.end))
            for hit in settled(form.plain, [*of_form, *again(form.plain, values)])
        ]
        for text, form, of_form in zip(texts, forms, hits, strict=True)
    ]


def _is_telling(value: str, kind: str) -> bool:
    """Whether a value means the same elsewhere: not one letter, not a password that is a word."""
    return len(value) >= _BY_CONTEXT.get(kind, 1 << 30) and not (kind == "secret" and value.isalpha())


def _hits(plain: str, wanted: frozenset[str]) -> list[Hit]:
    return [
        hit
        for rule, kinds in _RULES
        if not wanted.isdisjoint(kinds)
        for hit in rule(plain)
        if hit.kind in wanted
    ]


def _finding(text: str, hit: Hit, start: int, end: int) -> Finding:
    return Finding(kind=hit.kind, start=start, end=end, text=text[start:end], confidence=hit.confidence)
