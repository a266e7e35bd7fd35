"""Status lines and headers of answers, written so that no value can end a line early."""

from __future__ import annotations

import http
import json
from collections.abc import Sequence

from baimo.text import text

Pairs = Sequence[tuple[bytes, bytes]]

STATUS = {
    status: f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase if status in set(http.HTTPStatus) else ''}\r\n".encode()
    for status in range(100, 600)
}
BODILESS = frozenset({204, 304})


def lines(headers: Pairs) -> bytes:
    """Header lines.

    Raises:
        ValueError: a name or value holds a line break or NUL.
    """
    block = b"".join([b"%s: %s\r\n" % pair for pair in headers])
    count = len(headers)
    if block.count(b"\n") != count or block.count(b"\r") != count or b"\0" in block:
        raise ValueError("a response header holds a line break")
    return block


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
