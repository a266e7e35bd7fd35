"""Errors as Anthropic words them.

Source: platform.claude.com/docs/en/api/errors and `ErrorType` of the official SDK 2.12 (November 2026).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from baimo.errors import BaimoError
from baimo.server.surfaces.told import told
from baimo.text import text

_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_type(status: int) -> str:
    """The kind of error that Anthropic gives an HTTP status."""
    return _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")


def refusal(error: BaimoError, *, request_id: str) -> bytes:
    """The body of an error answer; also the data of an `error` event in a stream."""
    body = {
        "type": "error",
        "error": {"type": error_type(error.http_status), "message": worded(error)},
        "request_id": request_id or None,
    }
    return msgspec.json.encode(body)


def worded(error: BaimoError) -> str:
    """What is wrong and what to do next, for a reader who sees one message only."""
    error = told(error)
    return text("surfaces.with_advice", message=str(error), advice=error.hint) if error.hint else str(error)
