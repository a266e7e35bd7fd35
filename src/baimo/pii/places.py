"""Postal addresses by rule: a street or an estate with a number, then everything around it that belongs to it.

Found from the number outwards: "人民路" alone is a street everybody knows, "人民路12号3栋502室" is somebody's home.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from baimo.pii.finding import Hit
from baimo.pii.words import either

_HAN = "\u3400-\u9fff"
_COUNT = r"[0-9一二三四五六七八九十百]{1,6}"
_STREET = re.compile(
    rf"[{_HAN}](?:路|街|大道|道|巷|弄|胡同|里)(?:[东南西北中一二三四五六七八九十]{{1,2}}(?:段|路|街|巷))?(?:[{_HAN}]{{1,5}}(?:巷|弄|里))?"
    rf"\s?(?:{_COUNT}弄)?[0-9一二三四五六七八九十百\-]{{1,8}}(?:号|弄)(?:院|大院|楼)?(?![线门口])"
)
_ESTATE = re.compile(
    rf"[{_HAN}](?:小区|花园|家园|公寓|苑|大厦|新村|广场|宿舍|社区|中心|大楼|写字楼|公馆|华府|豪庭|雅居|城|府|湾|园|里|庄)\s?"
    rf"[0-9A-Z一二三四五六七八九十]{{1,4}}(?:栋|幢|号楼|座|单元|期|区[0-9])"
)
_VILLAGE = re.compile(
    rf"[县区市旗][{_HAN}]{{1,8}}(?:镇|乡|街道)[{_HAN}]{{1,6}}(?:村|社区|屯)[{_HAN}]{{0,4}}{_COUNT}(?:组|队|号|社)"
)
_NOT_STREETS = (
    "公路",
    "电路",
    "线路",
    "铁路",
    "思路",
    "回路",
    "短路",
    "网路",
    "管道",
    "通道",
    "频道",
    "渠道",
    "跑道",
    "轨道",
    "隧道",
    "马路",
)
_ROOM = re.compile(
    rf"[\s,\-]?(?:(?:[{_HAN}]{{2,10}}(?:小区|花园|家园|公寓|苑|大厦|广场|中心|大楼|商城|城|院|园|塔))?\s?"
    rf"[0-9A-Za-z一二三四五六七八九十\-]{{1,7}}(?:号楼|号院|号|栋|幢|座|塔|单元|层|楼|室|户|房|门|组)"
    rf"|[{_HAN}A-Za-z]{{2,14}}?(?:[0-9A-Z一二三四五六七八九十]{{1,4}}(?:号楼|号|栋|幢|座|塔|层|楼|室)|[0-9]{{3,4}}(?![0-9年月日元个人只件米]))"
    rf"|(?:(?![的在是和与及到去有附旁对])[{_HAN}A-Za-z0-9]){{2,12}}?(?:大厦|大楼|广场|写字楼|花园|小区|公寓|产业园|科技园|创意园|家园)"
    rf"(?:[0-9A-Z]{{1,3}}(?:-[0-9A-Z]{{1,5}}){{1,2}})?"
    rf"|[0-9]{{1,4}}(?:-[0-9]{{1,4}}){{0,2}}(?![0-9年月日元个人只件米点\-]))"
)

_LEAD = re.compile(
    r"(?:地址|[住现]址|住所|户籍地?|籍贯|门店|老家)[是为在]?|位于|现住|家住|住在|寄[到往至]|送[到至]|搬[到至]了?|前往|来到|放在|"
    r"去了|来了|[在于到至往住是去]"
)
_TYPES = (
    r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Square|Sq|Terrace|Way|Parkway|Pkwy|"
    r"Circle|Cir|Highway|Hwy|Crescent|Close|Row|Mews|Alley|Trail|Broadway)"
)
_CITY = r"(?:(?:St|Ft|Mt)\. )?[A-Z][A-Za-z'\-]{1,20}(?![0-9A-Za-z])(?: [A-Z][A-Za-z'\-]{1,20}(?![0-9A-Za-z])){0,2}"
_ZIP = r"(?:[A-Z]{2},? ?[0-9]{5}(?:-[0-9]{4})?|[A-Z]{1,2}[0-9][0-9A-Z]? ?[0-9][A-Z]{2}|[A-Z]{2} [0-9]{4}|[0-9]{5})"
_AFTER = (
    r"(?:,? (?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|Fl|Room|Rm|#)\.? ?#?[0-9A-Za-z\-]{1,6})?"
    rf"(?:,? {_CITY}(?:(?:,? {_ZIP}|, [A-Z]{{2}})(?![0-9A-Za-z]))?)?"
)
_SIDE = r"(?:(?:N|S|E|W|NE|NW|SE|SW|North|South|East|West)\.? )?"
_ENGLISH = re.compile(
    r"(?<![0-9A-Za-z.,$€£/])(?:(?:Flat|Unit|Apt\.?|Apartment|Suite) [0-9A-Z]{1,5},? )?"
    rf"[0-9]{{1,6}}[A-Z]?(?:-[0-9]{{1,4}})? {_SIDE}"
    rf"(?:(?:[A-Z][A-Za-z.'\-]{{0,20}}|[0-9]{{1,3}}(?:st|nd|rd|th)) ){{1,4}}?{_TYPES}\b\.?{_AFTER}"
)
_GERMAN = re.compile(
    r"[A-ZÄÖÜ][a-zäöüß]{1,24}(?:straße|strasse|str\.|weg|platz|allee|gasse|ufer|damm) [0-9]{1,4}[a-z]?"
    rf"(?:,? [0-9]{{5}} {_CITY})?(?![0-9A-Za-z])"
)
_FRENCH = re.compile(
    r"(?<![0-9A-Za-z.,])[0-9]{1,4}(?: bis| ter)?,? (?:rue|avenue|boulevard|place|chemin|impasse|quai|cours|route) "
    r"(?:(?:de la|de|du|des) |(?:de )?l'|d')?[A-ZÀ-Ý][A-Za-zÀ-ÿ'\-]{1,24}(?: [A-ZÀ-Ý][A-Za-zÀ-ÿ'\-]{1,24}){0,2}"
    rf"(?:,? [0-9]{{5}} {_CITY})?"
)
_PO_BOX = re.compile(rf"(?i:\bP\.? ?O\.? ?Box) [0-9]{{1,6}}(?:,? {_CITY}(?:,? {_ZIP}(?![0-9A-Za-z]))?)?")
_NOT_NAMED = re.compile(
    r"[0-9\-]+ (?:The|A|Best|Great|Top|Star|Way|Main|Lane|Most|Good|New|More|Different|Easy|Simple)\b"
)


def addresses(text: str) -> Iterator[Hit]:
    """Chinese addresses with a house, block or village; English ones with number, street type and what follows."""
    if re.search("[号弄栋幢座楼单期村社屯区]", text):
        yield from _chinese(text)
    for match in _ENGLISH.finditer(text):
        if not _NOT_NAMED.match(match[0]) or re.search(r"[A-Z]{2} ?[0-9]{5}", match[0]):
            yield Hit("address", match.start(), match.start() + len(match[0].rstrip(".")), 0.8)
    for match in (*_GERMAN.finditer(text), *_FRENCH.finditer(text)):
        yield Hit("address", match.start(), match.end(), 0.75)
    for match in _PO_BOX.finditer(text):
        yield Hit("address", match.start(), match.end(), 0.85)


def _chinese(text: str) -> Iterator[Hit]:
    done = 0
    for core in sorted(
        (match for rule in (_STREET, _ESTATE, _VILLAGE) for match in rule.finditer(text)),
        key=lambda match: match.start(),
    ):
        if core.start() < done or core[0].startswith(_NOT_STREETS):
            continue
        start = max(done, _start(text, core.start()))
        done = core.end()
        for _ in range(5):
            more = _ROOM.match(text, done)
            if more is None:
                break
            done = more.end()
        yield Hit("address", start, done, 0.75)


def _start(text: str, core: int) -> int:
    """Where the address begins: at its province, else after the word that leads to it, else at the run's start."""
    run = re.search(rf"[{_HAN}0-9]{{0,32}}$", text[max(0, core - 32) : core])
    first = core - len(run[0]) if run else core
    before = text[first:core]
    province = re.search(either("chinese", "provinces"), before)
    leads = list(_LEAD.finditer(before))
    if province is not None and (not leads or province.start() >= leads[-1].end() or len(leads[-1][0]) == 1):
        return first + province.start()
    return first + (leads[-1].end() if leads else 0)
