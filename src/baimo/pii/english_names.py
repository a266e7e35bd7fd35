"""Personal names in Latin letters by rule: capitalised words where a sentence, a form or a letter puts a name.

Capitals alone are no reason: "Who was Albert Einstein?" must reach the model as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from baimo.pii.context import lowered, places
from baimo.pii.finding import Hit
from baimo.pii.words import words

_CAPITAL = "A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĖĘĚĞĢĪĮİĶĹĻĽŁŃŅŇŌŐŒŔŘŚŞŠŢŤŪŮŰŲŹŻŽ"
_LETTER = "A-Za-zÀ-ÖØ-öø-ſ"
_SMALL = "a-zß-öø-ÿāăąćčďđēėęěğģīįķĺļľłńņňōőœŕřśşšţťūůűųźżž"
# O'Brien, McDonald, Al-Sayed; not VoiceConsent, not SQL
_WORD = (
    rf"(?:[{_CAPITAL}]['’]|Ma?c|De|Di|La|Le)?[{_CAPITAL}][{_SMALL}]{{1,24}}(?:-[{_CAPITAL}][{_SMALL}]{{1,20}}){{0,2}}"
    rf"(?![{_LETTER}0-9_])"
)
_PARTICLE = (
    r"(?:de la|del|dela|de|della|di|da|dos|du|van der|van den|van|von|der|den|bin|ibn|al|el|la|le|ter)"
)
_NAME = rf"(?P<name>{_WORD}(?: (?:[{_CAPITAL}]\.|(?:{_PARTICLE} )?{_WORD})){{0,3}})"
_CLOSED = r"(?=\s{0,2}(?:[\"'\n,;|})\]<(.]|$|\s?[A-Z][A-Za-z ]{1,20}:))"


_FIRST, _FULL = "first", "full"


class _Rule(NamedTuple):
    """Words that announce a name, and how the name follows them."""

    signs: tuple[str, ...]
    """In lower case; the pattern is tried where one begins."""
    pattern: re.Pattern[str]
    """From the sign to the name."""
    confidence: float
    """Of what it finds."""
    needs: str
    """"first": only a name that begins with a common first name counts; "full": that, or one of several words."""


def _rule(signs: str, before: str, between: str, after: str, confidence: float, needs: str = "") -> _Rule:
    """`signs` are parted by |; `before` must hold in front of them, `between` leads to the name."""
    words = tuple(signs.split("|"))
    spoken = "|".join(sorted(map(re.escape, words), key=len, reverse=True))
    return _Rule(words, re.compile(rf"{before}(?i:{spoken}){between}{_NAME}{after}"), confidence, needs)


_APART = rf"(?<![{_LETTER}0-9_.])"
_CODE = re.compile(r"[\[(_={]|\.[A-Za-z_]|::|\s?=")
_RULES = (
    _rule("mr|mrs|ms|mx|miss|dr|prof|professor|herr|frau|mme", rf"{_APART}(?=[A-Z][a-z])", r"\.? ", "", 0.85),
    _rule("name is|name's|name was", _APART, " ", "", 0.85),
    _rule(
        "my name:|your name:|i am called|goes by|speaking with|speak to|spoke with|spoke to|met with|signed by",
        _APART, " ", "", 0.75,
    ),
    _rule("name", r"(?<![a-z])", r"\s?[\"']?\s?[:=|]\s{0,2}(?P<quote>[\"'])?", _CLOSED, 0.8),
    _rule(
        "contact|contact person|attn|attention|patient|customer|client|employee|sender|recipient|signed|cc|bcc|from|to|"
        "cardholder|beneficiary|payee|applicant|tenant|guest|passenger|attendee|attendees|assigned to|prepared by|"
        "reported by|requested by",
        _APART, r"(?:\s?[\"']?\.?\s?:\s{0,2}[\"']?|=\s?[\"'])", "", 0.75, _FULL,
    ),
    _rule(
        "dear|hi|hello|hey|good morning|good afternoon|good evening",
        r"(?:^|(?<=\n)|(?<=[\n>\"'] )|(?<=[>\"']))", ",? ", r"(?=\s?(?:[,!.:;\n–-]|$))", 0.75,
    ),
    _rule(
        "regards|sincerely|best|best wishes|cheers|thanks|thank you|yours|yours truly|faithfully|respectfully|warmly|"
        "love",
        _APART, r",? ?\n{1,2} ?", r"(?=[ ,]?(?:\n|$))", 0.75,
    ),
    _rule("我叫|姓名|名字|联系人|收件人|收货人", "", r"\s?(?:[:=|是叫为]\s{0,2})?", "", 0.8),
    _rule(
        "contact|call|email|ask for|reach out to|patient|defendant|plaintiff|witness|nurse|officer|attorney|tenant|cc",
        _APART, ",? ", r"(?= (?:at|on|to|via|by|for|about|and|is|was|has)\b|\s?[,.;(\n]|$)", 0.7, _FIRST,
    ),
    _rule("this is", _APART, " ", r"(?= (?i:speaking|calling|from|here|with)\b)", 0.75),
    _rule(
        "wife|husband|son|daughter|brother|sister|mother|father|mom|dad|boss|friend|colleague|manager|partner|girlfriend|"
        "boyfriend|neighbor|neighbour|landlord|tenant|client|patient",
        r"(?:(?<=[Mm]y )|(?<=his )|(?<=her )|(?<=[Oo]ur ))", ",? ", "", 0.7,
    ),
)  # fmt: skip
_MAILBOX = re.compile(rf"{_NAME}[\"']? <$")
_INTRODUCED = re.compile(rf"I(?:'m| am) {_NAME}")


def names(text: str) -> Iterator[Hit]:
    """Names in greetings, signatures, introductions, forms and after titles."""
    low = lowered(text)
    for rule in _RULES:
        for place in places(low, rule.signs):
            match = rule.pattern.match(text, place)
            if match is not None and (end := _end(match)) > 0:
                if "quote" in rule.pattern.groupindex and not _is_filled_in(text, place, match):
                    continue
                several = rule.needs == _FULL and " " in text[match.start("name") : end]
                if rule.needs and not (several or _is_first_name(match["name"])):
                    continue
                yield Hit("name", match.start("name"), end, rule.confidence)
    for place in places(text, (" <",)):
        match = (
            _MAILBOX.search(text, max(0, place - 50), place + 2) if "@" in text[place : place + 66] else None
        )
        if (
            match is not None
            and (end := _end(match)) > 0
            and (" " in match["name"] or _is_first_name(match["name"]))
        ):
            yield Hit("name", match.start("name"), end, 0.8)
    for place in places(text, ("I'm ", "I am ")):
        match = _INTRODUCED.match(text, place)
        if match is not None and (end := _end(match)) > 0:
            closed = re.match(r"[,.;\n]| and\b| from\b|$", text[end : end + 6]) is not None
            if _is_first_name(match["name"]) or (" " in text[match.start("name") : end] and closed):
                yield Hit("name", match.start("name"), end, 0.7)


def _is_filled_in(text: str, place: int, match: re.Match[str]) -> bool:
    """Whether "name:" is a person's field of a form: not `filename:`, not `"name": "Send Message"`."""
    before = _FIELD.search(text, max(0, place - 24), place)
    if before is None:
        return False
    if before["whose"] is not None or _is_first_name(match["name"]):
        return True
    return match["quote"] is None and " " in match["name"]


_FIELD = re.compile(
    r"(?:^|[\n,;{|(\"'>*\-]\s{0,4})(?P<whose>(?:full|first|last|family|given|customer|patient|contact|client|employee|sender|"
    r"recipient|cardholder|billing|shipping|student|applicant|guardian|tenant|guest|passenger|driver|payee)[ _]?)?$",
    re.IGNORECASE,
)


def _is_first_name(name: str) -> bool:
    return name.partition(" ")[0] in words("english", "first_names")


def is_name(text: str) -> bool:
    """Whether all of `text` can be a name: for cells of a column that is headed "name"."""
    match = re.fullmatch(_NAME, text)
    return match is not None and _end(match) == match.end("name")


def _end(match: re.Match[str]) -> int:
    """The end of the name without words that are none; 0 = nothing is left."""
    if _CODE.match(match.string, match.end("name")):
        return 0
    refused = words("english", "not_names")
    kept: list[str] = []
    for word in match["name"].split(" "):
        if word.rstrip(".") in refused and not (kept and len(word.rstrip(".")) == 1):
            break
        kept.append(word)
    while kept and kept[-1].islower():
        kept.pop()
    # "Support Team", "Customer Success": one refused word ahead spoils the rest
    return match.start("name") + len(" ".join(kept)) if kept else 0
