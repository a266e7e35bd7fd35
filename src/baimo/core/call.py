"""One call of a model: Request in, Completion out, and the contract of everything that can answer.

`Provider` is the architecture: HTTP servers, in-process engines, recorded replies and fakes are interchangeable.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from baimo.core.message import Message, Tool, ToolCall
from baimo.core.registry import Spec

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "unknown"]
USUAL_OUTPUT = 8192
"""Most tokens of an answer where a wire format wants a number and neither the request nor `options.max_tokens` of its
provider says (Anthropic's)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Decoding parameters; None leaves the provider's default."""

    temperature: float | None = None
    """0 = greedy."""
    top_p: float | None = None
    """Nucleus mass."""
    max_tokens: int | None = None
    """Most tokens to generate."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer; not part of it."""
    seed: int | None = None
    """Sampling seed, where the provider has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonFormat:
    """The answer must be JSON; with a schema, JSON that satisfies it (constrained decoding where possible)."""

    schema: Mapping[str, Any] | None = None
    """JSON Schema; None = any JSON object."""
    name: str = "answer"
    """Name that OpenAI-compatible servers want."""
    strict: bool = True
    """Ask the server to enforce the schema."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Everything that determines an answer. Its digest is the key under which the answer is stored."""

    model: str
    """Name as the provider knows it, without the provider's prefix."""
    messages: tuple[Message, ...]
    """The conversation."""
    sampling: Sampling = Sampling()
    """Decoding parameters."""
    tools: tuple[Tool, ...] = ()
    """Functions that the model may call."""
    tool_choice: str | None = None
    """auto, none, required, or the name of a function."""
    response_format: JsonFormat | None = None
    """None = free text."""
    top_logprobs: int | None = None
    """How many alternatives to report per token; None = no logprobs."""
    extra: Mapping[str, Any] | None = None
    """Provider-specific fields, passed through as they are."""
    repeat: int = 0
    """Distinguishes deliberate repetitions of one question (sampling > 0); part of the digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts of one call. None = unknown, never 0."""

    tokens_in: int | None = None
    """Prompt tokens, cached ones included."""
    tokens_out: int | None = None
    """Generated tokens, reasoning included."""
    tokens_cached: int | None = None
    """Prompt tokens that the provider read from its cache."""
    tokens_reasoning: int | None = None
    """Generated tokens that are not part of the visible answer."""
    tokens_cache_write: int | None = None
    """Prompt tokens that the provider wrote into its cache."""
    tokens_cache_write_1h: int | None = None
    """Those of them that it keeps for an hour (Anthropic); the others it keeps for five minutes."""
    unpriced: bool = False
    """Something is billed besides these tokens or at other prices: searches, sound, another speed, region or model."""
    estimated: bool = False
    """Counted by us, not reported by the provider."""

    @classmethod
    def sum(cls, usages: Iterable[Usage]) -> Usage:
        """What several calls took together; what one of them does not report is not known of all of them."""
        every = list(usages)
        if len(every) == 1:
            return every[0]

        def total(counts: list[int | None]) -> int | None:
            known = [count for count in counts if count is not None]
            return sum(known) if known and len(known) == len(counts) else None

        return cls(
            tokens_in=total([one.tokens_in for one in every]),
            tokens_out=total([one.tokens_out for one in every]),
            tokens_cached=total([one.tokens_cached for one in every]),
            tokens_reasoning=total([one.tokens_reasoning for one in every]),
            tokens_cache_write=total([one.tokens_cache_write for one in every]),
            tokens_cache_write_1h=total([one.tokens_cache_write_1h for one in every]),
            unpriced=any(one.unpriced for one in every),
            estimated=any(one.estimated for one in every),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """Log-probability of one generated token, natural logarithm."""

    token: str
    """Its text."""
    logprob: float
    """ln P(token | everything before)."""
    top: tuple[tuple[str, float], ...] = ()
    """Most likely alternatives, best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A model's answer to one Request."""

    text: str
    """What the model said; empty when it only called tools."""
    tool_calls: tuple[ToolCall, ...] = ()
    """Functions it wants called."""
    finish_reason: FinishReason = "unknown"
    """Why it stopped."""
    refused: bool = False
    """The text says why the model will not answer (`refusal` in the OpenAI chat format)."""
    stop_sequence: str | None = None
    """Which of `Sampling.stop` ended it, where the provider says."""
    usage: Usage = Usage()
    """Token counts."""
    model: str = ""
    """Model that the provider says it used."""
    logprobs: tuple[TokenLogprob, ...] | None = None
    """Per token, when asked for."""
    reasoning: str | None = None
    """Visible reasoning of models that show it, kept apart from the answer."""
    latency_ms: float | None = None
    """Wall time of the attempt that succeeded."""
    attempts: int = 1
    """How many times it was sent."""
    adapted: tuple[str, ...] = ()
    """What the model's server would not take and was left out or changed: temperature, seed, json_schema …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A piece of a streamed answer; the last one carries finish_reason and usage."""

    text: str = ""
    """Text that came with this piece."""
    reasoning: str = ""
    """Reasoning text that came with this piece."""
    tool_calls: tuple[ToolCall, ...] = ()
    """Complete calls, sent once each when their arguments are complete."""
    finish_reason: FinishReason | None = None
    """Set on the last piece."""
    refused: bool = False
    """The text is of a refusal; on the last piece: the answer was one."""
    stop_sequence: str | None = None
    """On the last piece: as in `Completion`."""
    usage: Usage | None = None
    """Set on the last piece, when the provider reports it."""
    model: str = ""
    """On the last piece: as in `Completion`."""


class Provider(Protocol):
    """A way to reach models. Implementations are async, safe for many calls at once, and own their connections.

    Every failure is a `ProviderError`; retries, pacing and back-off happen inside.
    """

    @property
    def spec(self) -> Spec:
        """How to build this provider again; part of every stored answer's key. Holds no secret."""
        ...

    async def complete(self, request: Request) -> Completion:
        """Answer one request."""
        ...

    def stream(self, request: Request) -> AsyncIterator[Delta]:
        """Answer one request piece by piece."""
        ...

    async def aclose(self) -> None:
        """Give back connections, threads and memory."""
        ...
