"""What refusals mean."""

from __future__ import annotations

import json

import pytest

from baimo.errors import AuthenticationFailed, BadReply, ProviderError, RateLimited, RequestRefused
from baimo.providers.faults import Place, body_fault, error_message, http_fault, retry_after_s

PLACE = Place(host="api.acme.test", model="m", key="env:ACME", secrets=("sk-secret",))
NOW = 1_800_000_000.0


def refused(status: int, body: object = "", **headers: str) -> ProviderError:
    data = body if isinstance(body, str) else json.dumps(body)
    named = {name.replace("_", "-").lower(): value for name, value in headers.items()}
    return http_fault(status, named, data.encode(), PLACE, NOW)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, RequestRefused),
        (400, RequestRefused),
        (401, AuthenticationFailed),
        (402, AuthenticationFailed),
        (403, AuthenticationFailed),
        (404, RequestRefused),
        (408, BadReply),
        (413, RequestRefused),
        (422, RequestRefused),
        (429, RateLimited),
        (500, BadReply),
        (502, BadReply),
        (503, BadReply),
        (529, RateLimited),
    ],
)
def test_statuses_have_a_meaning_and_the_message_names_host_and_model(
    status: int, kind: type[ProviderError]
) -> None:
    error = refused(status, {"error": {"message": "because"}})
    assert type(error) is kind
    assert "api.acme.test" in str(error) and " m" in str(error) and error.hint


def test_a_refusal_without_a_key_says_where_to_name_one() -> None:
    place = Place(host="h", model="m", key="")
    error = http_fault(401, {}, b"", place, NOW)
    assert 'key = "env:NAME"' in error.hint


def test_an_overloaded_server_that_says_when_to_come_back_is_a_rate_limit() -> None:
    error = refused(503, Retry_After="7")
    assert isinstance(error, RateLimited) and error.retry_after_s == 7


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (
            429,
            {
                "error": {
                    "message": "You exceeded your current quota",
                    "type": "insufficient_quota",
                    "code": "insufficient_quota",
                }
            },
        ),
        (429, {"error": {"type": "exceeded_current_quota_error", "message": "please check your plan"}}),
        (429, {"error": {"code": "1113", "message": "您的账户余额不足,请充值"}}),
        (
            429,
            {
                "type": "error",
                "error": {
                    "type": "rate_limit_error",
                    "details": {"error_code": "contract_spend_limit_reached"},
                },
            },
        ),
        (
            400,
            {
                "type": "error",
                "error": {"type": "invalid_request_error", "message": "Your credit balance is too low"},
            },
        ),
        (400, {"code": "Arrearage", "message": "Access denied, account is in arrears"}),
        (402, {"error": {"message": "Insufficient Balance"}}),
    ],
)
def test_an_empty_account_is_not_waited_for(status: int, body: object) -> None:
    error = refused(status, body, Retry_After="20")
    assert (
        isinstance(error, AuthenticationFailed) and not error.retryable and error.key == "providers.no_credit"
    )


def test_a_limit_per_minute_that_speaks_of_quota_is_waited_for() -> None:
    body = [
        {
            "error": {
                "code": 429,
                "message": "You exceeded your current quota",
                "details": [{"retryDelay": "45.8s"}],
            }
        }
    ]
    error = refused(429, body)
    assert isinstance(error, RateLimited) and error.retry_after_s == 45.8
    assert "exceeded your current quota" in str(error)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "12"}, 12),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "12", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "Fri, 15 Jan 2027 08:01:00 GMT"}, 60),
        ({"retry-after": "Fri, 15 Jan 2027 07:00:00 GMT"}, 0),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, NOW) == (None if seconds is None else pytest.approx(seconds))


def test_a_server_that_repeats_the_key_does_not_make_us_repeat_it() -> None:
    error = refused(401, {"error": {"message": "Incorrect API key provided: sk-secret"}})
    assert "sk-secret" not in str(error) + repr(error) + str(error.facts)
    assert "***" in str(error) and "env:ACME" in error.hint


def test_a_page_of_html_is_quoted_in_part() -> None:
    error = refused(502, "<html>\n" + "x" * 5000)
    assert len(str(error)) < 450 and "…" in str(error) and "\n" not in str(error)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"error": {"message": "a"}}, "a"),
        ({"error": "a"}, "a"),
        ({"message": "a"}, "a"),
        ({"detail": [{"loc": ["body", "seed"], "msg": "not permitted"}]}, "['body', 'seed']: not permitted"),
        ([{"error": {"message": "a"}}], "a"),
        ({"other": 1}, ""),
        (None, ""),
        (7, ""),
    ],
)
def test_messages_are_found_in_every_shape(data: object, message: str) -> None:
    assert error_message(data) == message


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"error": {"type": "overloaded_error", "message": "Overloaded"}}, RateLimited),
        ({"error": {"code": 429, "message": "x"}}, RateLimited),
        ({"error": {"code": "502", "message": "x"}}, BadReply),
        ({"error": {"type": "invalid_request_error", "message": "x"}}, RequestRefused),
        ({"error": {"type": "authentication_error"}}, AuthenticationFailed),
        ({"error": "went wrong"}, BadReply),
        ({"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}, RateLimited),
        ({"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, AuthenticationFailed),
        ({"base_resp": {"status_code": 1026, "status_msg": "sensitive"}}, RequestRefused),
        ({"base_resp": {"status_code": 1000, "status_msg": "unknown"}}, BadReply),
    ],
)
def test_errors_that_come_with_status_200_are_errors(
    data: dict[str, object], kind: type[ProviderError]
) -> None:
    assert type(body_fault(data, PLACE)) is kind


def test_success_is_no_error() -> None:
    assert body_fault({"base_resp": {"status_code": 0}, "error": None, "choices": []}, PLACE) is None
