from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from decimal import Decimal

from baimo.core.call import Completion, Delta, Request, TokenLogprob, Usage
from baimo.core.message import ToolCall
from baimo.core.model import Model
from baimo.core.money import Price
from baimo.core.registry import Spec
from baimo.errors import AuthenticationFailed, RequestRefused
from baimo.models.probe import CHECKS, Findings, probe

USAGE = Usage(tokens_in=10, tokens_out=5)
PRICE = Price(currency="CNY", input_per_million=Decimal(2), output_per_million=Decimal(8))


class Scripted:
    """Answers each request with what the script makes of it."""

    def __init__(self, answer: Callable[[Request], Completion], *, pieces: tuple[Delta, ...] = ()) -> None:
        self.answer = answer
        self.pieces = pieces
        self.asked: list[Request] = []

    @property
    def spec(self) -> Spec:
        return Spec(name="scripted")

    async def complete(self, request: Request) -> Completion:
        self.asked.append(request)
        return self.answer(request)

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        self.asked.append(request)
        for piece in self.pieces:
            yield piece

    async def aclose(self) -> None:
        return None


def able(request: Request) -> Completion:
    if request.tools:
        call = ToolCall(id="1", name="add", arguments='{"b": 3, "a": 2}')
        return Completion(text="", tool_calls=(call,), usage=USAGE)
    if request.response_format:
        return Completion(text='{"answer": 5}', usage=USAGE)
    logprobs = (TokenLogprob(token="ready", logprob=-0.1),) if request.top_logprobs else None
    return Completion(text="ready", usage=USAGE, model="m-2026", latency_ms=12.5, logprobs=logprobs)


WHOLE_STREAM = (Delta(text="rea"), Delta(text="dy"), Delta(finish_reason="stop", usage=USAGE))


def model(price: Price | None = PRICE, abilities: tuple[str, ...] = ("tools",)) -> Model:
    return Model(name="acme/m", vendor="acme", upstream="m", price=price, abilities=abilities)


def found(provider: Scripted, asked: Model, *checks: str) -> Findings:
    return asyncio.run(probe(provider, asked, checks=checks))


def test_one_call_shows_reachability_latency_usage_and_price() -> None:
    provider = Scripted(able)
    result = found(provider, model())
    assert (result.reachable, result.reply, result.model_used, result.latency_ms) == (
        True,
        "ready",
        "m-2026",
        12.5,
    )
    assert (result.usage_reported, result.price_known, result.currency) == (True, True, "CNY")
    assert result.cost_micros == 60
    assert [request.model for request in provider.asked] == ["m"]


def test_abilities_are_confirmed_by_one_call_each_and_their_cost_is_added() -> None:
    result = found(Scripted(able, pieces=WHOLE_STREAM), model(), *CHECKS)
    assert [(check.ability, check.claimed, check.seen) for check in result.checks] == [
        ("stream", None, True),
        ("json_schema", False, True),
        ("tools", True, True),
        ("logprobs", False, True),
    ]
    assert result.cost_micros == 5 * 60


def test_a_model_that_ignores_what_it_is_asked_for_is_found_out() -> None:
    result = found(Scripted(lambda _: Completion(text="sure!", usage=USAGE)), model(), *CHECKS)
    assert not any(check.seen for check in result.checks)
    assert all(check.error is None for check in result.checks)


def test_json_of_another_shape_and_tools_with_other_arguments_do_not_count() -> None:
    def sloppy(request: Request) -> Completion:
        call = ToolCall(id="1", name="add", arguments='{"a": 2}')
        return Completion(text="[1]", tool_calls=(call,), usage=USAGE)

    assert not any(check.seen for check in found(Scripted(sloppy), model(), "json_schema", "tools").checks)


def test_a_stream_that_breaks_off_does_not_count() -> None:
    (check,) = found(Scripted(able, pieces=WHOLE_STREAM[:1]), model(), "stream").checks
    assert not check.seen


def test_a_refused_check_is_a_finding_and_makes_the_cost_unknown() -> None:
    def strict(request: Request) -> Completion:
        if request.tools:
            raise RequestRefused("models.unknown", name="tools")
        return able(request)

    result = found(Scripted(strict), model(), "tools", "logprobs")
    assert isinstance(result.checks[0].error, RequestRefused)
    assert result.checks[1].seen
    assert result.cost_micros is None


def test_an_unreachable_model_is_a_finding_with_the_error() -> None:
    def closed(request: Request) -> Completion:
        raise AuthenticationFailed("models.unknown", name="x")

    result = found(Scripted(closed), model(), *CHECKS)
    assert (result.reachable, result.checks, result.price_known) == (False, (), True)
    assert isinstance(result.error, AuthenticationFailed)


def test_an_unknown_price_leaves_the_cost_unknown_and_an_estimate_is_no_report() -> None:
    estimated = Usage(tokens_in=10, tokens_out=5, estimated=True)
    result = found(Scripted(lambda _: Completion(text="ready", usage=estimated)), model(price=None))
    assert (result.price_known, result.currency, result.cost_micros) == (False, "", None)
    assert not result.usage_reported


def test_a_catalogue_that_says_nothing_claims_nothing() -> None:
    (check,) = found(Scripted(able), model(abilities=()), "tools").checks
    assert check.claimed is None
