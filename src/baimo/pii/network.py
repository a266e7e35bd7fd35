"""E-mail addresses, IP addresses, and names and passwords inside URLs."""

from __future__ import annotations

import ipaddress
import re
import string
from collections.abc import Iterator

from baimo.pii.context import places, said_before
from baimo.pii.credentials import is_template
from baimo.pii.finding import Hit

_LOCAL = string.ascii_letters + string.digits + "._%+-'"
_AT_DOMAIN = re.compile(
    r"(?:@|%40|[(\[]at[)\]] ?)[A-Za-z0-9\-]{1,63}(?:\.[A-Za-z0-9\-]{1,63}){0,6}\.([A-Za-z]{2,24})(?![A-Za-z0-9_])"
)
_NO_DOMAINS = frozenset(
    ["png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "css", "js", "ts", "json", "py", "md"]
)
_URL = re.compile(
    r"(?<![A-Za-z0-9+.\-])[A-Za-z][A-Za-z0-9+.\-]{1,20}://([^\s/?#\"'<>]{3,400})@(?=[A-Za-z0-9\[])"
)
_IP4 = re.compile(r"(?<![0-9A-Za-z_.\-])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9A-Za-z_])(?!\.[0-9A-Za-z])")
_IP6 = re.compile(
    r"(?<![0-9A-Za-z:.])(?:[0-9A-Fa-f]{1,4}|:)(?::[0-9A-Fa-f]{0,4}){2,7}(?:(?:\.[0-9]{1,3}){3})?(?![0-9A-Za-z:])"
)
_HOST_WORDS = re.compile(r"\bip|dns|host|server|ping|地址|服务器|主机|网关", re.IGNORECASE)
_VERSION = re.compile(
    r"(?:\b(?:v|version|ver|release|build|kernel|firmware|update|section|chapter|clause|rule|openssl|openssh|chrome|windows|"
    r"ios|android|driver)|§|==|>=|~=|版本号?|版|内核|固件|升级到?|章节?|条款?|节|第|驱动)[\s:=.\-]{0,3}"
    r"(?:[0-9][0-9.]{0,15}[^0-9]{1,4})?$",
    re.IGNORECASE,
)


def emails(text: str) -> Iterator[Hit]:
    """RFC 5322's everyday form; also `%40` of URLs and `(at)`."""
    for at in places(text, ("@", "%40", "(at)", "[at]")):
        match = _AT_DOMAIN.match(text, at)
        if match is None or match[1].lower() in _NO_DOMAINS:
            continue
        before = text[max(0, at - 65) : at]
        before = before.rstrip(" ") if text[at] in "([" else before
        local = before[len(before.rstrip(_LOCAL)) :].lstrip("'")
        start = max(0, at - 65) + len(before) - len(local)
        if not 1 <= len(local) <= 64 or local[0] in ".-" or local[-1] == ".":
            continue
        if (local == "git" and text.startswith(":", match.end())) or _in_authority(text, start):
            continue
        yield Hit("email", start, match.end(), 0.95)


def _in_authority(text: str, start: int) -> bool:
    """Whether this @ separates a URL's password from its host."""
    before = text[max(0, start - 200) : start].split()
    if not before or text[start - 1].isspace():
        return False
    _, scheme, rest = before[-1].rpartition("://")
    return bool(scheme) and "/" not in rest and "?" not in rest


def url_credentials(text: str) -> Iterator[Hit]:
    """`user:password` (or a long token alone) before the @ of a URL (RFC 3986, 3.2.1)."""
    if "://" not in text:
        return
    for match in _URL.finditer(text):
        user, colon, password = match[1].partition(":")
        if colon and password and not (is_template(password) or user.startswith(("<", "{", "$"))):
            yield Hit("url_credentials", match.start(1), match.end(1), 0.97)
        elif not colon and len(user) >= 20 and any(map(str.isdigit, user)):
            yield Hit("url_credentials", match.start(1), match.end(1), 0.92)


def addresses(text: str) -> Iterator[Hit]:
    """IPv4 and IPv6 that point at somebody: not loopback, unspecified, masks, nor four-part version numbers."""
    for match in _IP4.finditer(text):
        if not _is_host(match[0]) or _VERSION.search(text, max(0, match.start() - 40), match.start()):
            continue
        # 3.1.4.2 is rather a clause, a formula or a version than a host
        if len(match[0]) > 7 or said_before(text, match.start(), _HOST_WORDS, 16):
            yield Hit("ip", match.start(), match.end(), 0.9)
    if ":" not in text:
        return
    for match in _IP6.finditer(text):
        groups = [group for group in match[0].split(":") if group] or [""]
        # `1::2` is a slice, `a::b` a scope
        if (
            (max(map(len, groups)) > 2 or (len(groups) > 2 and "::" in match[0]))
            and any(map(str.isdigit, match[0]))
            and _is_host(match[0])
        ):
            yield Hit("ip", match.start(), match.end(), 0.92)


def _is_host(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (parsed.is_loopback or parsed.is_unspecified or address.startswith(("0.", "255.")))
