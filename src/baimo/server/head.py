"""Heads: which of a request are served, and those of answers, in which no value can end a line early."""

from __future__ import annotations

import http
import json
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from baimo.text import text

Pairs = Sequence[tuple[bytes, bytes]]

STATUS = {
    status: f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase if status in set(http.HTTPStatus) else ''}\r\n".encode()
    for status in range(100, 600)
}
BODILESS = frozenset({204, 304})
_HOST = re.compile(rb"[A-Za-z0-9._-]+(:[0-9]+)?|\[[0-9a-fA-F:.]+\](:[0-9]+)?")
_OF_UPGRADES = frozenset({b"connection", b"upgrade", b"http2-settings"})


def refusal(status: int, key: str, standing: bytes, **facts: object) -> bytes:
    """A complete answer that refuses a request and announces the end of the connection."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = {"message": text(key, **facts), "type": kind, "param": None, "code": key.partition(".")[2]}
    body = json.dumps({"error": error}, ensure_ascii=False).encode()
    retry = b"retry-after: 1\r\n" if status == 503 else b""
    return b"%s%s%scontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s" % (
        STATUS[status],
        standing,
        retry,
        len(body),
        body,
    )


class Refused(NamedTuple):
    """Why a request is not served."""

    status: int
    key: str
    limit: float = 0
    lines: bytes = b""
    """Of the answer's head, beside those that every answer has."""


class Limits(Protocol):
    """Of `lanes.Limits`, what a head is held against."""

    @property
    def body_bytes(self) -> int: ...

    @property
    def headers(self) -> int: ...


def unacceptable(
    method: bytes,
    target: bytes,
    headers: Pairs,
    fields: Mapping[bytes, bytes],
    modern: bool,
    upgrade: bool,
    limits: Limits,
) -> Refused | None:
    """What no handler should see although the parser let it through; None = nothing is wrong.

    Args:
        method: upper case.
        target: as it was sent.
        headers: all of them.
        fields: the same by name.
        modern: HTTP/1.1.
        upgrade: the client wants another protocol, or a tunnel.
        limits: what one client may take.
    """
    length = fields.get(b"content-length")
    if upgrade:
        return Refused(501, "lane.upgrade")
    if modern and b"," in fields.get(b"host", b","):
        return Refused(400, "lane.host")
    if b"transfer-encoding" in fields and (fields[b"transfer-encoding"].lower() != b"chunked" or not modern):
        return Refused(501, "lane.coding")
    if length is not None and int(length) > limits.body_bytes:
        return Refused(413, "lane.long_body", limits.body_bytes)
    if len(headers) > limits.headers:
        return Refused(431, "lane.many_headers", limits.headers)
    if b"expect" in fields and fields[b"expect"].lower() != b"100-continue":
        return Refused(417, "lane.expectation")
    if target[:1] != b"/" and (method, target) != (b"OPTIONS", b"*"):
        return Refused(400, "lane.target")
    return None


def crossing(origin: bytes | None, allowed: frozenset[bytes]) -> bytes:
    """Header lines of an answer that a page from elsewhere may read (https://fetch.spec.whatwg.org/#http-cors-protocol).

    Args:
        origin: where the browser says that the page is from; None = no browser speaks for a page.
        allowed: `serve.allow_origins`.
    """
    if origin is None:
        return b""
    if origin not in allowed and b"*" not in allowed:
        return b"vary: origin\r\n"
    exposed = b"access-control-expose-headers: *\r\nvary: origin\r\n"
    return b"access-control-allow-origin: %s\r\n%s" % (origin, exposed)


def forwarded(headers: Pairs, fields: Mapping[bytes, bytes], secure: bool) -> tuple[Pairs, bool]:
    """The headers, and whether the client spoke TLS, as a trusted proxy has them: for addresses that it is told.

    Args:
        headers: all of them.
        fields: the same by name.
        secure: whether the proxy spoke TLS.
    """
    scheme, host = fields.get(b"x-forwarded-proto", b"").lower(), fields.get(b"x-forwarded-host", b"")
    if scheme in (b"http", b"https"):
        secure = scheme == b"https"
    if _HOST.fullmatch(host):
        headers = [*(pair for pair in headers if pair[0] != b"host"), (b"host", host)]
    return headers, secure


def joined(headers: Pairs) -> dict[bytes, bytes]:
    """Headers by name, the values of a repeated one joined by a comma (RFC 9110, 5.3)."""
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        fields[name] = fields[name] + b", " + value if name in fields else value
    return fields


def not_upgrading(method: bytes, target: bytes, headers: Pairs, modern: bool, keep_alive: bool) -> bytes:
    """A request's head without its offer to go on in another protocol, which a server may pass over (RFC 9110, 7.8).

    Args:
        method: upper case.
        target: as it was sent.
        headers: all of them, as the parser accepted them.
        modern: HTTP/1.1.
        keep_alive: whether the client goes on with the connection.
    """
    lines = [b"%s %s HTTP/%s" % (method, target, b"1.1" if modern else b"1.0")]
    lines += [b"%s: %s" % (name, value) for name, value in headers if name not in _OF_UPGRADES]
    if not keep_alive:
        lines.append(b"connection: close")
    return b"\r\n".join([*lines, b"", b""])
