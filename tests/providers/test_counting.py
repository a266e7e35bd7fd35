"""Tokens of a request as the model's own template and tokenizer have them: exactly what an answer reports."""

from __future__ import annotations

import asyncio

import pytest
from local_model import FRANCE, NAME, asked

from baimo.providers.local import LocalProvider


@pytest.mark.local
@pytest.mark.parametrize("engine", ["on_openvino", "on_llamacpp"])
def test_a_count_is_what_the_answer_reports(engine: str, request: pytest.FixtureRequest) -> None:
    provider: LocalProvider = request.getfixturevalue(engine)
    question = asked(FRANCE, system="你很简洁。", max_tokens=1)

    async def both() -> tuple[int, int | None]:
        counted = await provider.count_tokens(question)
        return counted, (await provider.complete(question)).usage.tokens_in

    counted, reported = asyncio.run(both())
    assert counted == reported


@pytest.mark.local
def test_the_tokens_of_a_text_are_known_once_the_model_is_loaded(on_llamacpp: LocalProvider) -> None:
    assert on_llamacpp.counted("another", "Paris") is None
    asyncio.run(on_llamacpp.load(NAME))
    assert on_llamacpp.counted(NAME, "") == 0
    assert (on_llamacpp.counted(NAME, "The capital of France is Paris.") or 0) >= 6
