"""The scripted model does what its script says, always the same."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from provider_doubles import asked, settings, vendor

from baimo.core.call import Completion, Request, Usage
from baimo.core.message import ToolCall
from baimo.errors import (
    AuthenticationFailed,
    BadReply,
    BaimoError,
    ConfigError,
    ProviderError,
    RequestRefused,
    Unreachable,
)
from baimo.providers.fake import FakeProvider
from baimo.testing.clock import FakeClock


def run(
    *prompts: str, clock: FakeClock | None = None, retries: int = 5, **options: Any
) -> list[Completion | BaimoError]:
    async def scenario() -> list[Completion | BaimoError]:
        given = settings(options=options, retries=retries)
        provider = FakeProvider(vendor("fake"), given, clock=clock or FakeClock())
        found: list[Completion | BaimoError] = []
        for prompt in prompts:
            try:
                found.append(await provider.complete(asked(prompt)))
            except BaimoError as error:
                found.append(error)
        return found

    return asyncio.run(scenario())


def texts(found: list[Completion | BaimoError]) -> list[str]:
    return [answer.text if isinstance(answer, Completion) else str(answer) for answer in found]


def shouting(request: Request) -> str:
    return f"{request.messages[-1].content}!".upper()


async def calling(request: Request) -> Completion:
    call = ToolCall(id="1", name=request.model, arguments="{}")
    return Completion(
        text="", tool_calls=(call,), finish_reason="tool_calls", usage=Usage(tokens_in=1, tokens_out=2)
    )


def test_it_echoes_unless_told_otherwise_and_counts_words() -> None:
    (found,) = run("two words")
    assert isinstance(found, Completion)
    assert (found.text, found.finish_reason, found.model) == ("two words", "stop", "m")
    assert found.usage == Usage(tokens_in=2, tokens_out=2, estimated=True)


def test_constants_tables_and_functions_answer() -> None:
    assert texts(run("a", "b", constant="c")) == ["c", "c"]
    assert texts(run("a", "b", table={"a": "A"}, constant="c")) == ["A", "c"]
    assert texts(run("a", function=f"{__name__}:shouting")) == ["A!"]
    (found,) = run("a", function=f"{__name__}:calling")
    assert isinstance(found, Completion) and found.tool_calls[0].name == "m" and found.usage.tokens_out == 2


def test_a_table_without_an_answer_refuses() -> None:
    (found,) = run("b", table={"a": "A"})
    assert isinstance(found, RequestRefused) and "b" in str(found)


def test_every_request_goes_through_the_script_of_faults_on_its_own() -> None:
    clock = FakeClock()
    found = run("a", "b", "a", clock=clock, errors=["429", "429"])
    assert [answer.attempts for answer in found if isinstance(answer, Completion)] == [3, 3, 1]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("400", RequestRefused),
        ("401", AuthenticationFailed),
        ("500", BadReply),
        ("timeout", Unreachable),
        ("truncated", BadReply),
    ],
)
def test_every_fault_can_be_scripted(fault: str, kind: type[ProviderError]) -> None:
    (found,) = run("a", errors=[fault], retries=0)
    assert type(found) is kind and str(found)


def test_chance_faults_are_a_function_of_the_seed() -> None:
    prompts = [str(number) for number in range(60)]
    first, again, other = (run(*prompts, retries=0, fault_rate=0.3, seed=seed) for seed in (1, 1, 2))
    kinds = [[type(answer).__name__ for answer in found] for found in (first, again, other)]
    assert kinds[0] == kinds[1] != kinds[2]
    assert {"Completion", "BadReply", "Unreachable"} <= set(kinds[0])


def test_latency_is_slept_and_reported() -> None:
    clock = FakeClock()
    (found,) = run("a", clock=clock, latency_ms=250)
    assert clock.now() == 0.25 and isinstance(found, Completion) and found.latency_ms == 250


def test_a_misspelt_option_or_fault_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        run("a", erors=["429"])
    assert "erors" in str(caught.value) and "errors" in caught.value.hint
    (found,) = run("a", errors=["430x"])
    assert isinstance(found, ConfigError) and "430x" in str(found)
