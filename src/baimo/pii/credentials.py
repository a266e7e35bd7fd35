"""Keys, tokens and passwords: by the shape that their issuer gave them, or by the name that stands before them.

A value after a name is judged, because code and manuals are full of `password = input()`: it counts when it is a
literal, never when it is a placeholder, a type, a variable or a word of a sentence.
"""

from __future__ import annotations

import bisect
import math
import re
from collections import Counter
from collections.abc import Iterator

from baimo.pii.context import lowered, places
from baimo.pii.finding import Hit
from baimo.pii.words import words

_SHAPES: tuple[tuple[str, str], ...] = (
    (
        "sk-",
        r"sk-(?:[A-Za-z0-9_]{2,20}-){0,3}[A-Za-z0-9_\-]{20,200}",
    ),  # OpenAI, Anthropic, DeepSeek, Bailian, …
    ("AKIA", r"AKIA[A-Z2-7]{16}"),
    ("ASIA", r"ASIA[A-Z2-7]{16}"),
    *((f"gh{kind}_", rf"gh{kind}_[A-Za-z0-9]{{36,255}}") for kind in "pousr"),
    ("github_pat_", r"github_pat_[A-Za-z0-9_]{22,255}"),
    ("glpat-", r"glpat-[A-Za-z0-9_\-]{20,64}"),
    ("AIza", r"AIza[A-Za-z0-9_\-]{35}"),
    ("ya29.", r"ya29\.[A-Za-z0-9_\-]{20,512}"),
    ("GOCSPX-", r"GOCSPX-[A-Za-z0-9_\-]{28}"),
    ("xox", r"xox[abeoprs]-[A-Za-z0-9\-]{10,250}"),
    ("xapp-", r"xapp-[A-Za-z0-9\-]{20,250}"),
    ("sk_", r"sk_(?:live|test)_[A-Za-z0-9]{16,247}"),  # Stripe
    ("rk_", r"rk_(?:live|test)_[A-Za-z0-9]{16,247}"),
    ("whsec_", r"whsec_[A-Za-z0-9+/=]{24,128}"),
    ("LTAI", r"LTAI[A-Za-z0-9]{12,26}"),  # Alibaba Cloud
    ("AKID", r"AKID[A-Za-z0-9]{28,40}"),  # Tencent Cloud
    ("AKLT", r"AKLT[A-Za-z0-9_\-]{30,60}"),  # Volcano Engine
    ("bce-v3/", r"bce-v3/ALTAK-[A-Za-z0-9]{10,40}/[a-f0-9]{32,64}"),  # Baidu
    ("bm-", r"bm-[A-Za-z0-9_]{12}-[A-Za-z0-9_]{48}"),
    ("hf_", r"hf_[A-Za-z0-9]{30,40}"),
    ("npm_", r"npm_[A-Za-z0-9]{36}"),
    ("pypi-", r"pypi-AgE[A-Za-z0-9_\-]{50,250}"),
    ("gsk_", r"gsk_[A-Za-z0-9]{40,60}"),
    ("xai-", r"xai-[A-Za-z0-9]{60,100}"),
    ("SG.", r"SG\.[A-Za-z0-9_\-]{20,24}\.[A-Za-z0-9_\-]{39,50}"),
    ("dop_v1_", r"dop_v1_[a-f0-9]{64}"),
    ("eyJ", r"eyJ[A-Za-z0-9_\-]{10,4000}\.eyJ[A-Za-z0-9_\-]{10,8000}\.[A-Za-z0-9_\-]{10,2000}"),  # RFC 7519
)
_KNOWN = tuple(
    (sign, re.compile(rf"(?<![A-Za-z0-9_\-]){shape}(?![A-Za-z0-9_\-])")) for sign, shape in _SHAPES
)
_INSIDE = (
    (":AA", re.compile(r"(?<![0-9A-Za-z])[0-9]{8,10}:AA[A-Za-z0-9_\-]{33}(?![A-Za-z0-9_\-])")),  # Telegram
    ("hooks.slack.com", re.compile(r"(?<=services/)T[A-Z0-9]{8,12}/B[A-Z0-9]{8,12}/[A-Za-z0-9]{20,28}")),
)
_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_FINISH = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?:\\n|\s{2}(?=\"))?")
_MATERIAL = re.compile(r"[A-Za-z0-9+/=\s]{0,20000}")
_LONGEST_KEY = 20_000
_BEARER = re.compile(r"(?i:\b(?:bearer|basic))\s{1,2}([A-Za-z0-9._~+/\-]{16,4000}={0,2})")
_BARE = r"(?:[^\s\"'`,;，；！？。、）】」》\u3400-\u9fff]|[,;](?=[!-~])(?![A-Za-z_]{1,20}\s?[:=])){1,256}"
_VALUE = rf"(?:\"([^\"\n]{{1,256}})\"|'([^'\n]{{1,256}})'|`([^`\n]{{1,256}})`|\"?({_BARE}))"
_IS = r"(?:\s{0,2}(?:[:=]{1,2}>?|是|为|(?i:is)\s)|'s\s)\s{0,2}"
_PASSWORD = re.compile(
    r"(?i:(?P<flag>(?<=--))?(?:password|passwd|passphrase|passcode|pwd|(?P<bare>(?<![A-Za-z])pass))|(?P<zh>密码|密碼|口令))"
    rf"\s?[\"']?\]?(?P<sep>{_IS}|\s{{0,2}}(?:就是|改为|改成)\s{{0,2}}|(?<=[码碼令])\s{{0,2}}|\s)(?P<value>{_VALUE})"
)
_KEY = re.compile(
    r"(?i:secret(?:[_\-]?(?:access[_\-]?)?(?:key|id))?|token|credentials?|密钥|秘钥|私钥|令牌|"
    r"(?:(?<=api)|(?<=access)|(?<=private)|(?<=auth)|(?<=signing)|(?<=encryption)|"
    r"(?<=(?:api|uth)[_\- ])|(?<=(?:access|rivate|igning|yption)[_\- ]))key(?:[_\-]?(?:id|secret))?)"
    rf"\s?[\"']?\]?{_IS}(?P<value>{_VALUE})"
)
_RANDOM = re.compile(
    r"(?<![A-Za-z0-9+/_\-.])(?=[A-Za-z+/]{0,40}[0-9])[A-Za-z0-9+/_\-]{24,128}={0,2}(?![A-Za-z0-9+/_\-.])"
)
_HASH = re.compile(
    r"sha|md5|commit|etag|digest|checksum|hash|blob|id[\"']?\s?[:=]|指纹|摘要|哈希", re.IGNORECASE
)
_TEMPLATE = re.compile(
    r"<|\{|\$\{|\$\(|\$[A-Za-z_]+$|%[sd(]|%[A-Z_]+%$|\[|\(|[*x•.\-_#?]{3,}|X{3,}|your[_\-]|my[_\-]?(?:pass|secret|token|key)|"
    r"(?:process|os|self|this|cfg|config|settings|env|request|args|options|props|data|user|secrets?)[.\[]|changeme|"
    r"(?:none|null|nil|true|false|undefined|str|string|text|bytes|int|bool|optional|required|pass|password|passwd|pwd|secret|"
    r"token|example|empty|missing|invalid|incorrect|wrong|expired)\W*$|[A-Za-z_][A-Za-z0-9_.]*\(",
    re.IGNORECASE,
)
_CALL_OR_TYPE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*[\[(]")
_WORD = re.compile(r"[A-Za-z][A-Za-z_]*")


def is_template(value: str) -> bool:
    """Whether it stands for a value: `<password>`, `${TOKEN}`, `****`, `os.environ[…]`, a type, null."""
    return _TEMPLATE.match(value) is not None


def secrets(text: str) -> Iterator[Hit]:
    """Everything that opens a door."""
    yield from _private_keys(text)
    for sign, shape in _KNOWN:
        for place in places(text, (sign,)):
            match = shape.match(text, place)
            if match is not None and (sign != "sk-" or _looks_random(match[0][3:])):
                yield Hit("secret", match.start(), match.end(), 0.97)
    for sign, shape in _INSIDE:
        for match in shape.finditer(text) if sign in text else ():
            yield Hit("secret", match.start(), match.end(), 0.95)
    low = lowered(text)
    for place in places(low, ("bearer ", "basic ")):
        match = _BEARER.match(text, place)
        if match is not None and _looks_random(match[1]):
            yield Hit("secret", match.start(1), match.end(1), 0.9)
    yield from _passwords(text, low)
    yield from _keys(text, low)
    yield from _near_keys(text, low)


def _private_keys(text: str) -> Iterator[Hit]:
    """PEM blocks (RFC 7468); one that was cut off reaches as far as key material does."""
    ends = [match.end() for match in _FINISH.finditer(text)] if "-----BEGIN" in text else []
    at = 0
    while begin := _BEGIN.search(text, at):
        place = bisect.bisect(ends, begin.end())
        if place < len(ends) and ends[place] - begin.end() <= _LONGEST_KEY:
            at = ends[place]
        else:
            material = _MATERIAL.match(text, begin.end())
            at = material.end() if material else begin.end()
        yield Hit("secret", begin.start(), at, 0.99)


def _passwords(text: str, low: str) -> Iterator[Hit]:
    for place in places(low, ("pass", "pwd", "密码", "密碼", "口令")):
        match = _PASSWORD.match(text, place)
        if match is None:
            continue
        group, value, start, end = _value(match)
        separator = match["sep"].strip(" \n\t'")
        if text[max(0, match.start() - 1) : match.start()] in ("?", "&") and group == 4:
            value = value.partition("&")[0]
            end = start + len(value)
        if group == 4 and _is_prose_or_code(value, separator, match, text[end : end + 24]):
            continue
        bare = match["bare"] is not None and (not separator or " " in value)
        if group < 4 and (bare or value != value.strip(" ")):
            continue  # `'…' + pass + '…'`, "pass `session` on", or the flags of a program's pass
        if len(value) >= (3 if group < 4 else 4) and not is_template(value):
            yield Hit("secret", start, end, 0.85)


def _is_prose_or_code(value: str, separator: str, match: re.Match[str], after: str) -> bool:
    """Whether an unquoted value is a word, a number's unit or a variable rather than a password."""
    if _CALL_OR_TYPE.match(value):
        return True
    telling = any(not character.isalpha() for character in value)
    if not separator:
        if match["flag"] is not None:
            return not telling and re.match(r"\s*(?:$|\n)", after) is None
        return not match["zh"] or len(value) < 6 or not any(map(str.isdigit, value))
    if separator.lower() in ("is", "s"):
        closed = re.match(r"\s*(?:$|[\n.!])", after) is not None and len(value) >= 5
        return not (telling or closed) or value.lower().strip(".-") in words("english", "not_passwords")
    if separator in ("是", "为", "就是", "改为", "改成"):
        return not telling or re.match(r"\s?[位个]", after) is not None
    if telling and not _WORD.fullmatch(value.replace(".", "_")):
        return re.match(r"\s?[位个]", after) is not None
    # a bare word: a password in `PASSWORD=word` and `password: word` at the end of a line, else a name in code or prose
    if "=" in separator and match["sep"] != separator:
        return True
    return re.match(r"\s*(?:$|[\n&#])", after) is None or len(value) < 4


def _keys(text: str, low: str) -> Iterator[Hit]:
    for place in places(low, ("secret", "key", "token", "credential", "密钥", "秘钥", "私钥", "令牌")):
        match = _KEY.match(text, place)
        if match is None:
            continue
        group, value, start, end = _value(match)
        if group == 4 and "&" in value:
            value = value.partition("&")[0]
            end = start + len(value)
        if (
            re.fullmatch(r"[A-Za-z0-9+/_=.~\-]{16,512}", value)
            and _looks_random(value)
            and not is_template(value)
        ):
            yield Hit("secret", start, end, 0.88)


def _near_keys(text: str, low: str) -> Iterator[Hit]:
    """Random strings in a sentence that speaks of a key: "the token you asked for: …", "… is the secret"."""
    for place in places(low, ("secret", "api key", "token", "密钥", "秘钥", "令牌", "key=")):
        first, last = low.rfind("\n", 0, place) + 1, low.find("\n", place)
        first, last = max(first, place - 160), min(len(low) if last < 0 else last, place + 180)
        for match in _RANDOM.finditer(text, first, last):
            # a path is no key, so its parts are looked at
            near = match.start() - place < 48 and place - match.end() < 24
            if (
                near
                and _looks_random(match[0].replace("/", "-"))
                and not _HASH.search(text, max(0, match.start() - 24), match.start())
            ):
                yield Hit("secret", match.start(), match.end(), 0.7)


def _value(match: re.Match[str]) -> tuple[int, str, int, int]:
    """Which way it was quoted (4 = not), the value, and its span; unquoted ones lose the sentence's punctuation."""
    first = match.re.groupindex["value"]
    group = next(way for way in (1, 2, 3, 4) if match[first + way] is not None)
    value, start = match[first + group], match.start(first + group)
    if group == 4:
        value = value.rstrip(".,:)?]}>")
    return group, value, start, start + len(value)


def _looks_random(value: str) -> bool:
    """Whether some stretch between dashes mixes letters and digits at 3 bits or more a character, or is long hex."""
    for stretch in re.split(r"[_.\-]", value):
        if len(stretch) < 12 or stretch.isalpha() or stretch.isdigit():
            continue
        counts = Counter(stretch).values()
        if -sum(count / len(stretch) * math.log2(count / len(stretch)) for count in counts) >= 3.0:
            return True
    return False
