"""What a server's refusal means: HTTP status and body to one of the ProviderErrors.

Prevents three failures: an empty account that is retried for ten minutes because it says 429, an error that comes
with status 200 taken for an answer, and a key that a server echoes in its message ending up in a log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any, cast

import msgspec

from baimo.errors import AuthenticationFailed, BadReply, ProviderError, RateLimited, RequestRefused
from baimo.text import text

LONGEST_QUOTE = 300
"""Characters of a server's message that are repeated to the user."""

_NO_CREDIT = re.compile(
    r"insufficient_quota|insufficient_balance|insufficient balance|exceeded_current_quota|billing_hard_limit"
    r"|billing_error|credit balance is too low|spend_limit_reached|Arrearage|余额不足|欠费",
    re.IGNORECASE,
)
_NAMED_STATUS: Mapping[str, int] = {  # error types that come inside streams and bodies with status 200
    "overloaded_error": 529,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "rate_limit_reached_error": 429,
    "engine_overloaded_error": 429,
    "authentication_error": 401,
    "permission_error": 403,
    "billing_error": 402,
    "insufficient_quota": 402,
    "invalid_request_error": 400,
    "not_found_error": 404,
    "request_too_large": 413,
    "timeout_error": 504,
}
_MINIMAX_STATUS: Mapping[int, int] = {  # platform.minimax.io/docs/api-reference/errorcode
    1001: 504,
    1002: 429,
    1004: 401,
    1008: 402,
    1026: 400,
    1027: 400,
    1039: 429,
    1041: 429,
    1042: 400,
    2013: 400,
    2049: 401,
    2056: 429,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a failure happened; what every message names."""

    host: str
    """Host and port, without user or path."""
    model: str
    """Model that was asked."""
    key: str
    """Where the key comes from: env:NAME, file:path, or empty."""
    secrets: tuple[str, ...] = ()
    """Values that must not be repeated."""

    def quote(self, message: str) -> str:
        """A server's words, on one line, without secrets, cut to `LONGEST_QUOTE` characters."""
        for value in sorted(self.secrets, key=len, reverse=True):
            message = message.replace(value, "***")
        line = " ".join(message.split())
        return line if len(line) <= LONGEST_QUOTE else line[: LONGEST_QUOTE - 1] + "…"


def http_fault(
    status: int, headers: Mapping[str, str], body: bytes, place: Place, wall: float
) -> ProviderError:
    """The error that an HTTP answer of status ≥ 300 means.

    Args:
        status: HTTP status.
        headers: of the answer; `Retry-After` (seconds or a date) and `retry-after-ms` are read.
        body: of the answer, at least its first kilobytes.
        place: what the message names.
        wall: now, in seconds since 1970, to read dates.
    """
    data = parsed(body)
    wait = retry_after_s(headers, wall)
    if wait is None:
        wait = _retry_delay(data)
    whole = body.decode("utf-8", errors="replace") if data is None else str(data)
    message = error_message(data)
    error = fault(status, message or whole, place, wait=wait, whole=whole)
    if not message:
        error.facts["unread"] = True  # it may be anybody's page
    return error


def fault(
    status: int, message: str, place: Place, *, wait: float | None = None, whole: str = ""
) -> ProviderError:
    """The error that a status means, wherever it was found; `whole` is searched for signs of an empty account."""
    facts: dict[str, Any] = {
        "host": place.host,
        "model": place.model,
        "status": status,
        "detail": place.quote(message) or "–",
    }
    if status == 402 or (status in {400, 403, 429} and _NO_CREDIT.search(whole or message)):
        return AuthenticationFailed("providers.no_credit", **facts)
    if status in {401, 403}:
        where = place.key or text("providers.key_place")
        return AuthenticationFailed("providers.key_refused", key=where, **facts)
    if status in {429, 529} or (status == 503 and wait is not None):
        return RateLimited("providers.rate_limited", retry_after_s=wait, **facts)
    if status >= 500 or status in {408, 425}:
        return BadReply("providers.server_error", retry_after_s=wait, **facts)
    if status == 404:
        return RequestRefused("providers.not_found", **facts)
    return RequestRefused("providers.redirected" if status < 400 else "providers.refused", **facts)


def body_fault(data: Mapping[str, Any], place: Place) -> ProviderError | None:
    """The error that a body with status 200, or one event of a stream, carries instead of an answer."""
    base = data.get("base_resp")
    if isinstance(base, Mapping):
        base = cast("Mapping[str, Any]", base)
        code = base.get("status_code")
        if isinstance(code, int) and code != 0:
            status = _MINIMAX_STATUS.get(code, 500)
            return fault(status, f"{code} {base.get('status_msg', '')}", place)
    error = data.get("error")
    if not error:
        return None
    message = error_message(data)
    return fault(_named_status(error), message, place, whole=str(error), wait=_retry_delay(data))


def parsed(body: bytes) -> Any:
    """The JSON in `body`, or None."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def error_message(data: Any) -> str:
    """The message in any of the shapes that servers give errors: objects, lists of objects, plain text."""
    if isinstance(data, str):
        return data
    if isinstance(data, Sequence):
        return "; ".join(filter(None, map(error_message, cast("Sequence[Any]", data)[:3])))
    if not isinstance(data, Mapping):
        return ""
    mapping = cast("Mapping[str, Any]", data)
    for name in ("error", "message", "msg", "detail", "errors", "error_msg"):
        if message := error_message(mapping.get(name)):
            where = mapping.get("loc")  # pydantic's way of saying which field
            return f"{where}: {message}" if where else message
    return ""


def retry_after_s(headers: Mapping[str, str], wall: float) -> float | None:
    """Seconds that the server asks to wait (RFC 9110, 10.2.3, and OpenAI's retry-after-ms); None = it does not say."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if not value:
            continue
        try:
            seconds = float(value) * scale
        except ValueError:
            try:
                date = parsedate_to_datetime(value)
            except ValueError:
                continue
            # a date without a zone is GMT, as RFC 9110 wants all of them
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - wall
        if isfinite(seconds):
            return max(0.0, seconds)
    return None


def _retry_delay(data: Any) -> float | None:
    """Google's RetryInfo: `details: [{"retryDelay": "45.8s"}]`."""
    found = re.search(r"'retryDelay': '(\d+(?:\.\d+)?)s'", str(data)) if data else None
    return float(found[1]) if found else None


def _named_status(error: Any) -> int:
    if not isinstance(error, Mapping):
        return 500
    mapping = cast("Mapping[str, Any]", error)
    for name in ("code", "status", "type"):
        value = mapping.get(name)
        if isinstance(value, str) and value.isdigit():
            value = int(value)
        if isinstance(value, int) and 400 <= value < 600:
            return value
        if isinstance(value, str) and value in _NAMED_STATUS:
            return _NAMED_STATUS[value]
    return 500
