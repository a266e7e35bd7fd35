"""What a failed attempt means: whether another model may be asked, and whether it may have been billed.

Prevents two failures: a prompt sent twice to a model that was already working on it, and a fallback that is never
tried because a vendor words "your prompt is too long" in its own way.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from baimo.errors import (
    BadReply,
    BaimoError,
    ConfigError,
    LimitReached,
    MissingExtra,
    Overloaded,
    ProviderError,
    RateLimited,
    RequestRefused,
    Unreachable,
)

Kind = Literal["", "error", "timeout", "rate_limit", "context_length", "content_policy"]
"""Names of `RouteSettings.fallback_on`; empty = the request itself is wrong, no model would take it."""

_CONTEXT_LENGTH = re.compile(
    r"context_length_exceeded|exceed_context_size|maximum context length|prompt is too long|input is too long"
    r"|context (?:window|length|size) (?:of|is|exceed)|exceeds? the (?:available |maximum |model'?s? )?context"
    r"|exceeds the maximum number of tokens|exceeded model token limit|range of input length"
    r"|string_above_max_length|input length and .{0,40}exceed context|too many (?:input )?tokens"
    r"|超长|超过.{0,12}(?:上下文|最大长度|长度限制)|输入.{0,6}过长",
    re.IGNORECASE,
)
# OpenAI, Azure, Anthropic, DashScope, Zhipu (1301), MiniMax (1026, 1027), DeepSeek, Moonshot, Gemini
_CONTENT_POLICY = re.compile(
    r"content_policy|content_filter|content filtering policy|content management policy|ResponsibleAIPolicyViolation"
    r"|data_inspection_failed|DataInspectionFailed|Content Exists Risk|input_sensitive|output_sensitive"
    r"|violat\w+ .{0,30}(?:usage|content) polic|flagged .{0,40}(?:policy|safety|violat)|safety (?:system|filter)"
    r"|prompt_blocked|blocked by .{0,20}(?:policy|safety)|\"code\": ?\"?1301|\"status_code\": ?102[67]"
    r"|不安全或敏感|敏感内容|内容安全|风险内容",
    re.IGNORECASE,
)
_TIMEOUTS = frozenset(
    {
        *("read_timeout", "total_timeout", "connect_timeout", "write_timeout", "first_byte_timeout"),
        *("silence_timeout", "pool_wait", "too_late"),
    }
)

_GAVE_UP = frozenset({408, 504, 522, 524})
"""Statuses of something between us and the model that stopped waiting (RFC 9110, 15.5.9 and 15.6.5; 522 and 524 are
Cloudflare's): the model may work on and bill it."""


class Refusal(NamedTuple):
    """An upstream's refusal in the client's own wire format, to be passed on as it came."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class AttemptFailed(Exception):
    """One attempt gave nothing that could be shown to the client."""

    def __init__(
        self, error: BaimoError, *, unsure: int = 0, refusal: Refusal | None = None, body: str = ""
    ) -> None:
        """
        Args:
            error: what happened.
            unsure: attempts in it that may have been executed and billed.
            refusal: what the client may get as it came; None = our own words.
            body: the upstream's words, searched for the reason.
        """
        super().__init__(error.key)
        self.error = error
        self.unsure = unsure
        self.refusal = refusal
        self.kind: Kind = kind_of(error, body)


def kind_of(error: BaseException, body: str = "") -> Kind:
    """Which class of `fallback_on` a failure belongs to.

    Args:
        error: what an attempt raised.
        body: the upstream's answer, if there was one.
    """
    if isinstance(error, (RateLimited, LimitReached)):
        return "rate_limit"
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, Unreachable):
        return "timeout" if error.key.rpartition(".")[2] in _TIMEOUTS else "error"
    if isinstance(error, (RequestRefused, BadReply)):
        words = f"{body} {error.facts.get('detail', '')}"
        if _CONTEXT_LENGTH.search(words):
            return "context_length"
        if _CONTENT_POLICY.search(words):
            return "content_policy"
    if isinstance(error, RequestRefused):
        # the name or path is wrong at this vendor; another model may well be there
        return "error" if error.facts.get("status") == 404 else ""
    if isinstance(error, (ProviderError, ConfigError, MissingExtra, Overloaded)):
        return "error"
    return ""


def may_be_executed(error: BaseException) -> bool:
    """Whether the model may have worked on a request that failed like this, and bill it."""
    if isinstance(error, Unreachable):
        return error.sent
    if isinstance(error, BadReply):
        # a refusal with a status of its own (500, 503) is not billed; an answer that broke off may be
        status = error.facts.get("status")
        return (status is None or status in _GAVE_UP) and error.key != "gateway.no_masker"
    return isinstance(error, TimeoutError)


def of_server(error: BaseException) -> bool:
    """Whether a failure says that the model's server is unwell (and not the request, the key or the load)."""
    return isinstance(error, (Unreachable, BadReply, TimeoutError))
