"""The official SDK's Azure client, and what other clients of Azure's paths send."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from baimo.server.azure import plain
from tests.server.served import Served, served
from tests.server.upstream import upstream

TOML = """
[providers.acme]
base_url = "http://127.0.0.1:{port}/v1"
inside = true
[providers.bolt]
protocol = "fake"
inside = true
[providers.bolt.options]
constant = "It is noon."
[models."bolt/small"]
[routes.fast]
models = ["bolt/small"]
"""
VERSION = "2024-10-21"


def vendor(path: str, body: Any) -> Any:
    usage = {"prompt_tokens": 4, "total_tokens": 4}
    row = {"object": "embedding", "index": 0, "embedding": [0.5]}
    return {"object": "list", "model": body["model"], "data": [row], "usage": usage}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with upstream() as seen:
        seen.answers = vendor
        with served(tmp_path_factory.mktemp("house"), TOML.format(port=seen.port)) as endpoint:
            yield endpoint


def client(house: Served, **more: Any) -> openai.AzureOpenAI:
    at = f"http://127.0.0.1:{house.port}"
    return openai.AzureOpenAI(
        azure_endpoint=at, api_version=VERSION, api_key=house.key(), max_retries=0, **more
    )


@pytest.mark.parametrize("model", ["fast", "bolt/small"])
def test_azures_client_calls_every_operation_by_its_own_paths(house: Served, model: str) -> None:
    with client(house) as azure:
        turn: Any = {"model": model, "messages": [{"role": "user", "content": "What time is it?"}]}
        for _ in range(2):  # the second head is known
            assert azure.chat.completions.create(**turn).choices[0].message.content == "It is noon."
        pieces = [
            one.choices[0].delta.content or "" for one in azure.chat.completions.create(**turn, stream=True)
        ]
        assert "".join(pieces) == "It is noon."
        assert (
            azure.completions.create(model=model, prompt="What time is it?").choices[0].text == "It is noon."
        )
        first = azure.responses.create(model=model, input="What time is it?")
        assert first.output_text == "It is noon."
        assert azure.responses.retrieve(first.id).output_text == "It is noon."
        vectors = azure.embeddings.create(model="acme/bge", input="noon", encoding_format="float")
        assert vectors.data[0].embedding == [0.5]
        assert "bolt/small" in [one.id for one in azure.models.list()]


def test_the_deployment_decides_also_where_the_body_names_another_model_or_none(house: Served) -> None:
    with client(house, azure_deployment="fast") as azure:
        made = azure.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "?"}])
        assert made.choices[0].message.content == "It is noon."
    key, path = house.key(), f"/openai/deployments/fast/chat/completions?api-version={VERSION}"
    for body in ({}, {"MODEL": "x"}, {"model": None}):
        body = {"messages": [{"role": "user", "content": "?"}], **body}
        assert house.call("POST", path, None, body, {"api-key": key}).status == 200
    assert house.call("POST", path, key, b"{").status == 400
    assert house.call("POST", path, None, {}).status == 401
    assert house.call("POST", path.replace("fast", "nope"), key, {"messages": []}).status == 404
    assert house.call("POST", "/openai/deployments/fast/audio/transcriptions", key, b"").status == 501


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        (b"/openai/deployments/a%2Fb/chat/completions", (b"/v1/chat/completions", "a/b")),
        (b"/openai/deployments/a/b/completions", (b"/v1/completions", "a/b")),
        (b"/openai/responses/resp_1", (b"/v1/responses/resp_1", "")),
        (b"/openai/v1/chat/completions", (b"/v1/chat/completions", "")),
        (b"/openai/deployments//embeddings", (b"/v1/deployments//embeddings", "")),
        (b"/openai/deployments/%ff/embeddings", (b"/v1/embeddings", "\ufffd")),
    ],
)
def test_azures_paths_stand_for_ours(path: bytes, meant: tuple[bytes, str]) -> None:
    assert plain(path) == meant
