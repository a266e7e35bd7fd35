"""A first call of a model: can it be reached, is it metered, can it be priced, and does it do what the catalogue says?

Prevents the failure where a run of thousands of calls finds out that tools are ignored or that no usage is reported.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace

from baimo.core.call import Completion, Delta, JsonFormat, Provider, Request, Sampling, Usage
from baimo.core.message import Message, Tool
from baimo.core.model import Model
from baimo.errors import ProviderError

CHECKS = ("stream", "json_schema", "tools", "logprobs")
"""What can be checked beyond the first call, each with one more small call."""

_SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
    "additionalProperties": False,
}
_ADD = Tool(
    name="add",
    description="Adds two integers.",
    parameters={
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One ability, claimed and seen."""

    ability: str
    """One of `CHECKS`."""
    claimed: bool | None
    """What the catalogue says; None = the catalogue does not speak of it."""
    seen: bool
    """Whether the answer showed it."""
    error: ProviderError | None = None
    """Why the call failed, when it did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What calls of a model showed. A failure is a finding, not an exception."""

    model: str
    """vendor/model that was asked."""
    reachable: bool
    """Whether the first call was answered."""
    error: ProviderError | None = None
    """Why it was not."""
    reply: str = ""
    """Text of the first answer."""
    model_used: str = ""
    """Model that the provider says it used."""
    latency_ms: float | None = None
    """Wall time of the first call, as the provider measured it."""
    usage: Usage = Usage()
    """Token counts of the first call."""
    usage_reported: bool = False
    """Whether both token counts came from the provider, not from an estimate of ours."""
    price_known: bool = False
    """Whether prompt and answer both have a price."""
    currency: str = ""
    """Currency of the price; empty while unknown."""
    cost_micros: int | None = None
    """Cost of all calls together in micro-units of `currency`; None as soon as one is unknown."""
    checks: tuple[Check, ...] = ()
    """In the order of `CHECKS`."""


async def probe(provider: Provider, model: Model, *, checks: Iterable[str] = ()) -> Findings:
    """Make one tiny call, and one more for each check.

    Args:
        provider: reaches the model's vendor.
        model: what to ask, under its upstream name.
        checks: some of `CHECKS`; unknown ones are ignored.
    """
    bill = _Bill(model)
    request = Request(
        model=model.upstream,
        messages=(Message(role="user", content="Reply with the single word: ready"),),
        sampling=Sampling(max_tokens=256),  # a reasoning model needs room before it says anything
    )
    try:
        first = await provider.complete(request)
    except ProviderError as error:
        return Findings(
            model=model.name, reachable=False, error=error, price_known=bill.known, currency=bill.currency
        )
    bill.add(first.usage)
    asked = set(checks)
    done = [await _checked(name, provider, request, model, bill) for name in CHECKS if name in asked]
    return Findings(
        model=model.name,
        reachable=True,
        reply=first.text,
        model_used=first.model,
        latency_ms=first.latency_ms,
        usage=first.usage,
        usage_reported=_reported(first.usage),
        price_known=bill.known,
        currency=bill.currency,
        cost_micros=bill.micros,
        checks=tuple(done),
    )


class _Bill:
    """Cost of the calls so far; unknown for good once one is unknown."""

    def __init__(self, model: Model) -> None:
        self._price = model.price
        self.known = (
            model.price is not None
            and model.price.input_per_million is not None
            and model.price.output_per_million is not None
        )
        self.currency = model.price.currency if model.price is not None else ""
        self.micros: int | None = 0

    def add(self, usage: Usage) -> None:
        cost = None if self._price is None else self._price.cost_micros(usage)
        self.micros = None if cost is None or self.micros is None else self.micros + cost


async def _checked(name: str, provider: Provider, request: Request, model: Model, bill: _Bill) -> Check:
    claimed = None if name == "stream" or not model.abilities else name in model.abilities
    try:
        usage, seen = await _CHECKED[name](provider, request)
    except ProviderError as error:
        bill.add(Usage())  # a refused call may have been billed
        return Check(ability=name, claimed=claimed, seen=False, error=error)
    bill.add(usage)
    return Check(ability=name, claimed=claimed, seen=seen)


async def _stream(provider: Provider, request: Request) -> tuple[Usage, bool]:
    pieces: list[Delta] = [piece async for piece in provider.stream(request)]
    usage = next((piece.usage for piece in reversed(pieces) if piece.usage is not None), Usage())
    finished = any(piece.finish_reason is not None for piece in pieces)
    return usage, finished and any(piece.text or piece.reasoning for piece in pieces)


async def _json_schema(provider: Provider, request: Request) -> tuple[Usage, bool]:
    question = (Message(role="user", content="What is 2 + 3? Answer as JSON with the key answer."),)
    wanted = replace(request, messages=question, response_format=JsonFormat(schema=_SCHEMA))
    completion = await provider.complete(wanted)
    try:
        data = json.loads(completion.text)
    except ValueError:
        return completion.usage, False
    return completion.usage, isinstance(data, dict) and isinstance(data.get("answer"), int)  # type: ignore[reportUnknownMemberType]


async def _tools(provider: Provider, request: Request) -> tuple[Usage, bool]:
    question = (Message(role="user", content="Use the tool to add 2 and 3."),)
    completion = await provider.complete(replace(request, messages=question, tools=(_ADD,)))
    return completion.usage, any(
        _is_sum(call.arguments) for call in completion.tool_calls if call.name == _ADD.name
    )


def _is_sum(arguments: str) -> bool:
    try:
        return json.loads(arguments) in ({"a": 2, "b": 3}, {"a": 3, "b": 2})
    except ValueError:
        return False


async def _logprobs(provider: Provider, request: Request) -> tuple[Usage, bool]:
    completion: Completion = await provider.complete(replace(request, top_logprobs=1))
    return completion.usage, bool(completion.logprobs)


_CHECKED: dict[str, Callable[[Provider, Request], Awaitable[tuple[Usage, bool]]]] = {
    "stream": _stream,
    "json_schema": _json_schema,
    "tools": _tools,
    "logprobs": _logprobs,
}


def _reported(usage: Usage) -> bool:
    return not usage.estimated and usage.tokens_in is not None and usage.tokens_out is not None
