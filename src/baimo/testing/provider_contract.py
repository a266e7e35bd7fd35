"""What the platform relies on in every Provider, as tests.

class TestMine(ProviderContract):
    @asynccontextmanager
    async def providing(self) -> AsyncGenerator[Provider, None]:
        provider = MyProvider(...)
        try:
            yield provider
        finally:
            await provider.aclose()

    def expected(self, prompt: str) -> str | None:
        return prompt  # what the model behind it answers, None where that cannot be known
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from typing import cast, get_args

from baimo.core.call import Completion, Delta, FinishReason, Provider, Request, Usage
from baimo.core.ids import canonical, digest
from baimo.core.message import Message
from baimo.errors import ProviderError


class ProviderContract(ABC):
    """Subclass it in your tests; pytest finds the methods that begin with `test_`."""

    model = "model"
    """A model that the provider knows."""
    prompts: tuple[str, ...] = tuple(f"question {number}" for number in range(12))
    """Prompts that it can answer, all different."""
    secret = ""
    """The key that the provider was given, to be searched for where it must not be."""

    @abstractmethod
    def providing(self) -> AbstractAsyncContextManager[Provider]:
        """A fresh provider inside the running event loop; what it needs is started and stopped around it."""

    def expected(self, prompt: str) -> str | None:
        """The answer to `prompt`, or None where it cannot be known."""
        del prompt
        return None

    def refused(self) -> Request | None:
        """A request that the provider refuses for good, or None if there is none."""
        return None

    def request(self, prompt: str) -> Request:
        """A request with this prompt."""
        return Request(model=self.model, messages=(Message(role="user", content=prompt),))

    def test_an_answer_is_complete_and_counts_what_it_knows(self) -> None:
        async def scenario() -> Completion:
            async with self.providing() as provider:
                return await provider.complete(self.request(self.prompts[0]))

        completion = asyncio.run(scenario())
        wanted = self.expected(self.prompts[0])
        assert wanted is None or completion.text == wanted
        assert completion.finish_reason in get_args(FinishReason)
        assert completion.attempts >= 1
        assert completion.latency_ms is None or completion.latency_ms >= 0
        self.check_usage(completion.usage)

    def test_a_stream_says_the_same_as_a_whole_answer_and_ends_once(self) -> None:
        async def scenario() -> tuple[Completion, list[Delta]]:
            async with self.providing() as provider:
                whole = await provider.complete(self.request(self.prompts[0]))
                return whole, [delta async for delta in provider.stream(self.request(self.prompts[0]))]

        whole, deltas = asyncio.run(scenario())
        assert "".join(delta.text for delta in deltas) == whole.text
        assert "".join(delta.reasoning for delta in deltas) == (whole.reasoning or "")
        assert tuple(call for delta in deltas for call in delta.tool_calls) == whole.tool_calls
        assert [delta.finish_reason is not None for delta in deltas] == [False] * (len(deltas) - 1) + [True]
        assert deltas[-1].finish_reason == whole.finish_reason
        assert all(delta.usage is None for delta in deltas[:-1])
        self.check_usage(deltas[-1].usage or Usage())

    def test_calls_at_once_do_not_mix(self) -> None:
        async def scenario() -> list[Completion]:
            async with self.providing() as provider:
                calls = [provider.complete(self.request(prompt)) for prompt in self.prompts]
                return await asyncio.gather(*calls)

        completions = asyncio.run(scenario())
        for prompt, completion in zip(self.prompts, completions, strict=True):
            wanted = self.expected(prompt)
            assert wanted is None or completion.text == wanted

    def test_a_cancelled_call_leaves_the_provider_usable(self) -> None:
        async def scenario() -> None:
            async with self.providing() as provider:
                for turns in (0, 1, 3, 10):
                    task = asyncio.ensure_future(provider.complete(self.request(self.prompts[0])))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                await asyncio.gather(*(provider.complete(self.request(prompt)) for prompt in self.prompts))

        asyncio.run(scenario())

    def test_a_stream_that_is_dropped_gives_everything_back(self) -> None:
        async def scenario() -> None:
            async with self.providing() as provider:
                for prompt in self.prompts * 3:  # more than any sensible number of calls at once
                    stream = cast("AsyncGenerator[Delta, None]", provider.stream(self.request(prompt)))
                    await anext(stream)
                    await stream.aclose()
                await provider.complete(self.request(self.prompts[0]))

        asyncio.run(asyncio.wait_for(scenario(), 60))

    def test_closing_twice_is_harmless(self) -> None:
        async def scenario() -> None:
            async with self.providing() as provider:
                await provider.complete(self.request(self.prompts[0]))
                await provider.aclose()
                await provider.aclose()

        asyncio.run(scenario())

    def test_the_spec_is_data_that_stays_the_same_and_holds_no_secret(self) -> None:
        async def scenario() -> tuple[bytes, str, str, str]:
            async with self.providing() as provider:
                before = digest(provider.spec)
                await provider.complete(self.request(self.prompts[0]))
                return canonical(provider.spec), before, digest(provider.spec), repr(provider)

        spec, before, after, shown = asyncio.run(scenario())
        assert before == after
        assert not self.secret or self.secret not in spec.decode() + shown

    def test_a_refusal_is_a_provider_error_that_says_something(self) -> None:
        request = self.refused()
        if request is None:
            return

        async def scenario() -> list[Exception]:
            async with self.providing() as provider:
                found: list[Exception] = []
                try:
                    await provider.complete(request)
                except ProviderError as error:
                    found.append(error)
                try:
                    async for _ in provider.stream(request):
                        pass
                except ProviderError as error:
                    found.append(error)
                await provider.complete(self.request(self.prompts[0]))
                return found

        errors = asyncio.run(scenario())
        assert len(errors) == 2, "complete and stream must both raise a ProviderError"
        assert all(str(error) and (not self.secret or self.secret not in str(error)) for error in errors)

    def check_usage(self, usage: Usage) -> None:
        """Counts are None or natural numbers, and the parts are no larger than the whole."""
        counts = (usage.tokens_in, usage.tokens_out, usage.tokens_cached, usage.tokens_reasoning)
        assert all(count is None or count >= 0 for count in counts)
        if usage.tokens_in is not None and usage.tokens_cached is not None:
            assert usage.tokens_cached <= usage.tokens_in
        if usage.tokens_out is not None and usage.tokens_reasoning is not None:
            assert usage.tokens_reasoning <= usage.tokens_out
