"""Chinese personal names by rule: a surname, one or two characters, and a reason to believe it.

A surname alone is no reason (高兴, 马上, 黄金 begin with one), so a name counts only after words such as 姓名 or 我叫,
before a title such as 先生, or in a column headed 姓名, and only if what follows can follow a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from baimo.pii.context import lowered, places
from baimo.pii.finding import Hit
from baimo.pii.words import characters, either, words

_HAN = re.compile("[\u3400-\u9fff]")
_RUN = re.compile("[\u3400-\u9fff]{2,8}")
_FOREIGN = re.compile("(?![由被以在是于为])[\u3400-\u9fff]{1,5}(?:·[\u3400-\u9fff]{1,6}){1,3}")
_AND = re.compile(r"[、,，/和与及]\s?")
_SIGNED = re.compile(r"(?:此致\s{0,4}敬礼|敬上|谨上|签名|落款)[!！:]?\s{0,2}\n\s{0,4}")
_WITH_PHONE = re.compile(
    "(?<![\u3400-\u9fff])([\u3400-\u9fff]{2,4})"
    r"(?=[\s,，:]{1,2}(?:\+?86[ \-]?)?1[3-9][0-9](?:[ \-]?[0-9]{4}){2}(?![0-9]))"
)
_RECEIVES = re.compile(
    "(?<![\u3400-\u9fff])([\u3400-\u9fff]{2,4})(?:收|亲启|敬上|谨上|敬启)(?![\u3400-\u9fff])"
)


def names(text: str) -> Iterator[Hit]:
    """Names after a label or a role, before a title, and at the foot of a letter."""
    if _HAN.search(text) is None:
        return
    signs, pattern = _leads()
    for place in places(lowered(text), signs):
        if (lead := pattern.match(text, place)) is not None:
            yield from _after(text, lead)
    for title in _title().finditer(text):
        if (hit := _before(text, title)) is not None:
            yield hit
    for signed in _SIGNED.finditer(text):
        if (end := name_end(text, signed.end(), sure=False)) > 0:
            yield Hit("name", signed.end(), end, 0.75)
    for match in (*_RECEIVES.finditer(text), *_WITH_PHONE.finditer(text)):
        if _is_name(match[1]):
            yield Hit("name", match.start(1), match.end(1), 0.7)


def is_name(text: str) -> bool:
    """Whether all of `text` can be a Chinese name: for cells of a column that is headed 姓名."""
    return _is_name(text) or _FOREIGN.fullmatch(text) is not None


def name_end(text: str, start: int, *, sure: bool) -> int:
    """Where the name that begins at `start` ends; 0 = there is none.

    `sure` means that a name must stand here, so that three characters are taken even if what follows tells nothing.
    """
    foreign = _FOREIGN.match(text, start)
    if foreign is not None:
        closed = not _HAN.match(text, foreign.end()) or _follows().match(text, foreign.end())
        return foreign.end() if sure and closed else 0
    match = _RUN.match(text, start)
    if match is None:
        return 0
    run = match[0]
    sizes = (4, 3) if run[:2] in words("chinese", "compound") else (3, 2)
    if not sure and run[0] == "于":  # more often "at" than a surname
        return 0
    fitting = [size for size in sizes if size <= len(run) and _is_name(run[:size])]
    for size in fitting:
        # a run of eight may go on, so its end is a boundary only if it is shorter
        if len(run) == size or _follows().match(run, size) is not None:
            return start + size
    return start + fitting[0] if sure and fitting else 0


def _after(text: str, lead: re.Match[str]) -> Iterator[Hit]:
    start = lead.end()
    told = (lead["colon"] or lead["told"] or "").strip(" \"'】]") or lead["name"]
    sure = bool(told) or lead["label"] == "我叫"
    end = name_end(text, start, sure=sure and lead["label"] != "我叫")
    while end > 0:
        yield Hit("name", start, end, 0.85 if sure else 0.7)
        more = _AND.match(text, end)
        if more is None:
            return
        start = more.end()
        end = name_end(text, start, sure=False)


def _before(text: str, title: re.Match[str]) -> Hit | None:
    """The name that ends where the title begins; one that is set off on the left goes before one that is not."""
    end = title.start()
    before = text[max(0, end - 5) : end]
    run = re.search("[\u3400-\u9fff]*$", before)
    size_of_run = len(run[0]) if run else 0
    polite = title["polite"] is not None
    loose = 0
    for size in (4, 3, 2, 1):
        if size > size_of_run:
            continue
        name = before[-size:]
        if size == 1:
            if not (polite and name in characters("chinese", "surnames")):
                continue
        elif not _is_name(name) or (size == 4) != (name[:2] in words("chinese", "compound")):
            continue
        left = before[-size - 1 : -size]
        if size == size_of_run or left in characters("chinese", "before_name"):
            return Hit("name", end - size, end, 0.8)
        if not loose and size > 1:
            loose = size
    return Hit("name", end - loose, end, 0.65) if polite and loose else None


def _is_name(text: str) -> bool:
    """Whether it has a name's form: surname, one or two given characters, not an ordinary word."""
    if text[:2] in words("chinese", "compound") and len(text) > 2:
        given = text[2:]
    elif text[0] in characters("chinese", "surnames"):
        given = text[1:]
    else:
        return False
    if not 1 <= len(given) <= 2 or text[:2] in words("chinese", "words"):
        return False
    refused = characters("chinese", "not_given")
    return all(_HAN.match(character) and character not in refused for character in given)


@cache
def _leads() -> tuple[tuple[str, ...], re.Pattern[str]]:
    """The words before a name, and how they lead to it."""
    labels, roles, relations = (either("chinese", name) for name in ("labels", "roles", "relations"))
    roles = f"{roles}|{either('chinese', 'titles')}"
    pattern = re.compile(
        rf"(?P<label>{labels})(?P<colon>\s?[\"'】\]]?\s{{0,2}}(?:[:=|]|是|为|叫)?\s{{0,2}}[\"'【\[]?)"
        rf"|(?P<role>{roles}|(?<!我)叫做?|(?:(?<=[我他她])|(?<=[我他她]的))(?:{relations}))(?P<told>\s?[:=]\s{{0,2}}|\s?)"
        r"|(?P<name>(?:(?<![A-Za-z])|(?<=user)|(?<=full)|(?<=real))(?i:name)\s?[\"']?\s?[:=]\s{0,2}[\"']?)"
    )
    return tuple(f"{labels}|{roles}|{relations}|叫|name".split("|")), pattern


@cache
def _follows() -> re.Pattern[str]:
    return re.compile(f"(?:{either('chinese', 'follows')})")


@cache
def _title() -> re.Pattern[str]:
    polite, titles = either("chinese", "honorifics"), either("chinese", "titles")
    return re.compile(
        f"(?<=[\u3400-\u9fff])(?:(?P<polite>{polite}|总(?=[^\u3400-\u9fff]|[您你好说的]|$))|{titles})(?![们姐])"
    )
