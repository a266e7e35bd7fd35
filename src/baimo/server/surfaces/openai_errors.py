"""Errors as OpenAI words them.

Source: developers.openai.com/api/docs/guides/error-codes. `type`, `code` and `param` are for programs and stay English;
the message is in the language of the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from baimo import errors
from baimo.errors import BaimoError
from baimo.gateway.failures import kind_of
from baimo.server.surfaces.told import told
from baimo.text import text


class Kind(NamedTuple):
    """How a program tells errors apart."""

    type: str
    code: str | None


_INVALID = "invalid_request_error"
KINDS: Mapping[type[BaimoError], Kind] = {
    BaimoError: Kind("server_error", "internal_error"),
    errors.UsageError: Kind(_INVALID, None),
    errors.MissingExtra: Kind("server_error", "not_installed"),
    errors.UnknownModel: Kind(_INVALID, "model_not_found"),
    errors.TaskError: Kind(_INVALID, None),
    errors.DataError: Kind(_INVALID, None),
    errors.AdapterError: Kind(_INVALID, None),
    errors.ProviderError: Kind("server_error", "upstream_error"),
    errors.AuthenticationFailed: Kind("server_error", "upstream_key_refused"),
    errors.RequestRefused: Kind(_INVALID, None),
    errors.RateLimited: Kind("rate_limit_error", "rate_limit_exceeded"),
    errors.Unreachable: Kind("server_error", "upstream_unreachable"),
    errors.BadReply: Kind("server_error", "upstream_bad_reply"),
    errors.StoreError: Kind("server_error", "store_unavailable"),
    errors.BudgetExceeded: Kind("insufficient_quota", "insufficient_quota"),
    errors.CallRefused: Kind(_INVALID, None),
    errors.Unauthenticated: Kind(_INVALID, "invalid_api_key"),
    errors.Forbidden: Kind("permission_error", "insufficient_permissions"),
    errors.NotFound: Kind(_INVALID, "not_found"),
    errors.Conflict: Kind(_INVALID, "conflict"),
    errors.TooLarge: Kind(_INVALID, "request_too_large"),
    errors.LimitReached: Kind("rate_limit_error", "rate_limit_exceeded"),
    errors.NotSupported: Kind(_INVALID, "not_supported"),
    errors.Overloaded: Kind("server_error", "overloaded"),
}
"""An error that is not listed has the kind of its nearest ancestor."""

_BY_REASON = {"context_length": "context_length_exceeded", "content_policy": "content_policy_violation"}
_BY_WORD = {  # last word of the message's key
    "missing": "missing_required_parameter",
    "wrong_type": "invalid_type",
    "expected": "invalid_type",
    "wrong_value": "invalid_value",
}
_BY_KEY = {
    "finetuning.unknown": "fine_tune_not_found",
    "finetuning.not_available": "model_not_available",
    "finetuning.no_model": "model_not_found",
}


def kind(error: BaimoError) -> Kind:
    """Type and code of an error."""
    found = next(KINDS[one] for one in type(error).__mro__ if one in KINDS)
    if error.key in _BY_KEY:
        return Kind(found.type, _BY_KEY[error.key])
    if found.code is not None:
        return found
    word = error.key.rpartition(".")[2]
    return Kind(found.type, _BY_REASON.get(kind_of(error)) or _BY_WORD.get(word))


def error_object(error: BaimoError) -> dict[str, str | None]:
    """What stands under `error`."""
    type_, code = kind(error)
    error = told(error)
    param = error.facts.get("field") or ("model" if code == "model_not_found" else None)
    message, hint = str(error), error.hint
    if hint:
        message = text("surfaces.with_advice", message=message, advice=hint)
    return {"message": message, "type": type_, "param": None if param is None else str(param), "code": code}


def refusal(error: BaimoError, *, request_id: str) -> bytes:
    """The body of an error answer."""
    body: dict[str, object] = {"error": error_object(error)}
    if request_id:
        body["request_id"] = request_id
    return msgspec.json.encode(body)


def event(error: BaimoError) -> bytes:
    """The last event of a stream that breaks off."""
    return b"data: " + msgspec.json.encode({"error": error_object(error)}) + b"\n\n"
