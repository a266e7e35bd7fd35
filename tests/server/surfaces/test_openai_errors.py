"""Errors as the official SDK reads them."""

from __future__ import annotations

import inspect
import json
from typing import Any

import openai
import pytest

from baimo import errors
from baimo.errors import (
    AuthenticationFailed,
    BadReply,
    BaimoError,
    BudgetExceeded,
    CallRefused,
    Conflict,
    Forbidden,
    LimitReached,
    MissingExtra,
    NotFound,
    NotSupported,
    Overloaded,
    RateLimited,
    RequestRefused,
    TooLarge,
    Unauthenticated,
    UnknownModel,
    Unreachable,
)
from baimo.server.surfaces.openai_errors import KINDS, event, kind, refusal
from baimo.server.surfaces.told import told
from tests.server.surfaces.endpoint import listening

INVALID = "invalid_request_error"
ALL = [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, BaimoError)]
FACTS: dict[str, Any] = {"host": "h", "model": "m", "status": 400, "detail": "d", "key": "–"}


def refused(detail: str) -> RequestRefused:
    return RequestRefused("providers.refused", **{**FACTS, "detail": detail})


CASES: list[tuple[BaimoError, type[openai.APIStatusError], str, str | None, str | None]] = [
    (
        UnknownModel("models.unknown_near", name="x", near="y"),
        openai.NotFoundError,
        INVALID,
        "model_not_found",
        "model",
    ),
    (
        Unauthenticated("surfaces.missing", field="authorization"),
        openai.AuthenticationError,
        INVALID,
        "invalid_api_key",
        "authorization",
    ),
    (
        Forbidden("surfaces.not_offered", surface="x"),
        openai.PermissionDeniedError,
        "permission_error",
        "insufficient_permissions",
        None,
    ),
    (NotFound("surfaces.not_offered", surface="x"), openai.NotFoundError, INVALID, "not_found", None),
    (Conflict("surfaces.not_offered", surface="x"), openai.ConflictError, INVALID, "conflict", None),
    (
        TooLarge("surfaces.not_offered", surface="x"),
        openai.APIStatusError,
        INVALID,
        "request_too_large",
        None,
    ),
    (
        LimitReached("surfaces.not_offered", surface="x"),
        openai.RateLimitError,
        "rate_limit_error",
        "rate_limit_exceeded",
        None,
    ),
    (
        BudgetExceeded("surfaces.not_offered", surface="x"),
        openai.RateLimitError,
        "insufficient_quota",
        "insufficient_quota",
        None,
    ),
    (
        NotSupported("surfaces.not_offered", surface="x"),
        openai.InternalServerError,
        INVALID,
        "not_supported",
        None,
    ),
    (
        Overloaded("surfaces.not_offered", surface="x"),
        openai.InternalServerError,
        "server_error",
        "overloaded",
        None,
    ),
    (
        CallRefused("surfaces.missing", field="messages"),
        openai.BadRequestError,
        INVALID,
        "missing_required_parameter",
        "messages",
    ),
    (
        CallRefused("surfaces.wrong_type", field="n", expected="integer", got="string"),
        openai.BadRequestError,
        INVALID,
        "invalid_type",
        "n",
    ),
    (CallRefused("surfaces.not_json", problem="x"), openai.BadRequestError, INVALID, None, None),
    (refused("no such thing"), openai.BadRequestError, INVALID, None, None),
    (
        refused("This model's maximum context length is 8 tokens"),
        openai.BadRequestError,
        INVALID,
        "context_length_exceeded",
        None,
    ),
    (
        refused("blocked by our content_policy"),
        openai.BadRequestError,
        INVALID,
        "content_policy_violation",
        None,
    ),
    (
        RateLimited("providers.rate_limited", **FACTS),
        openai.RateLimitError,
        "rate_limit_error",
        "rate_limit_exceeded",
        None,
    ),
    (
        AuthenticationFailed("providers.key_refused", **FACTS),
        openai.InternalServerError,
        "server_error",
        "upstream_key_refused",
        None,
    ),
    (
        MissingExtra("vllm.no_program", program="vllm"),
        openai.InternalServerError,
        "server_error",
        "not_installed",
        None,
    ),
    (
        Unreachable("providers.unreachable", problem="p", **FACTS),
        openai.InternalServerError,
        "server_error",
        "upstream_unreachable",
        None,
    ),
    (
        BadReply("providers.truncated", **FACTS),
        openai.InternalServerError,
        "server_error",
        "upstream_bad_reply",
        None,
    ),
]


def test_every_error_becomes_the_exception_that_the_sdk_has_for_it() -> None:
    current: list[BaimoError] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        error = current[-1]
        headers = [(b"content-type", b"application/json"), (b"x-should-retry", b"false")]
        await send({"type": "http.response.start", "status": error.http_status, "headers": headers})
        await send({"type": "http.response.body", "body": refusal(error, request_id="req_7")})

    with (
        listening(app) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="k", max_retries=0) as client,
    ):
        for error, exception, type_, code, param in CASES:
            current.append(error)
            with pytest.raises(exception) as caught:
                client.models.list()
            assert type(caught.value) is exception
            assert (caught.value.type, caught.value.code, caught.value.param) == (type_, code, param), error
            shown = told(error)
            assert str(shown) in caught.value.message and shown.hint in caught.value.message


@pytest.mark.parametrize("one", ALL)
def test_every_error_has_a_kind(one: type[BaimoError]) -> None:
    type_, code = kind(one("surfaces.not_offered", surface="x"))
    assert type_
    # a client tells its own mistakes from ours by the type alone
    ours = one.http_status >= 500 and one is not NotSupported
    assert (type_ == "server_error") == ours
    assert code is None or code.isascii()
    assert KINDS


def test_a_message_is_in_the_servers_language_and_the_code_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAIMO_LANG", "zh")
    error = json.loads(refusal(CallRefused("surfaces.missing", field="messages"), request_id=""))["error"]
    assert error["message"] == "缺少 messages（请补上 messages 后重新发送）"
    assert error["code"] == "missing_required_parameter"


def test_the_request_id_stands_beside_the_error() -> None:
    error = NotFound("surfaces.not_offered", surface="x")
    assert json.loads(refusal(error, request_id="req_7"))["request_id"] == "req_7"
    assert event(error).startswith(b'data: {"error":{"message":')
    assert event(error).endswith(b"}}\n\n")
