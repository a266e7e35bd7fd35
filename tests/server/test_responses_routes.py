"""The official SDK reads, lists and deletes what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from starlette.applications import Starlette

from baimo.core.tenant import Key, Tenant
from baimo.errors import BaimoError, Unauthenticated
from baimo.server.replies import refused
from baimo.server.responses_routes import routes
from baimo.server.surfaces.responses_memory import begun
from baimo.store.engine import Database
from baimo.store.responses import Responses
from tests.server.surfaces.endpoint import listening, stop


class Keyring:
    """Knows `bm-<tenant>`; the key of `chatty` is for chat only."""

    def authenticate(self, presented: bytes | None, peer: str) -> tuple[Key, Tenant]:
        tenant = (presented or b"").decode().removeprefix("bm-")
        if not tenant:
            raise Unauthenticated("surfaces.missing", field="authorization")
        surfaces = ("chat",) if tenant == "chatty" else ()
        key = Key(public="ab12cd34ef56", digest="", tenant=tenant, surfaces=surfaces)
        return key, Tenant(id=tenant)


@dataclass
class Service:
    responses: Responses
    keyring: Keyring


class App:
    def __init__(self, service: Service) -> None:
        self._app = Starlette(routes=routes())
        self._app.add_exception_handler(BaimoError, refused)
        self._service = service

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app({**scope, "state": {"service": self._service}}, receive, send)


@pytest.fixture(scope="module", autouse=True)
def stopped() -> Iterator[None]:
    yield
    stop()


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    database = Database(f"sqlite:///{tmp_path / 'baimo.db'}")
    memory = Responses(database)
    answer = (
        b'{"id":"resp_1","object":"response","status":"completed","output":[],"created_at":1,"model":"m",'
        b'"parallel_tool_calls":true,"tool_choice":"auto","tools":[]}'
    )
    turn = asyncio.run(begun(b'{"input":"hi"}', memory, tenant="acme", key="k", data_class="public"))
    kept = turn.answered(answer)
    assert kept is not None
    memory.put(kept)
    with listening(App(Service(memory, Keyring()))) as base:
        yield f"{base}/v1"
    database.close()


def client(address: str, tenant: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=address, api_key=f"bm-{tenant}", max_retries=0)


def test_a_kept_response_is_read_listed_and_deleted(address: str) -> None:
    with client(address, "acme") as sdk:
        assert sdk.responses.retrieve("resp_1").id == "resp_1"
        items: Any = sdk.responses.input_items.list("resp_1", limit=5, order="asc").data
        assert [part.text for item in items for part in item.content] == ["hi"]
        sdk.responses.delete("resp_1")
        with pytest.raises(openai.NotFoundError):
            sdk.responses.retrieve("resp_1")


def test_other_tenants_and_other_keys_see_nothing(address: str) -> None:
    with client(address, "other") as sdk:
        for act in (sdk.responses.retrieve, sdk.responses.delete, sdk.responses.input_items.list):
            with pytest.raises(openai.NotFoundError):
                act("resp_1")
    with client(address, "chatty") as sdk:
        for act in (sdk.responses.retrieve, sdk.responses.delete, sdk.responses.input_items.list):
            with pytest.raises(openai.PermissionDeniedError):
                act("resp_1")
    with client(address, "") as sdk, pytest.raises(openai.AuthenticationError):
        sdk.responses.retrieve("resp_1")
    with client(address, "acme") as sdk:
        assert sdk.responses.retrieve("resp_1").id == "resp_1"


@pytest.mark.parametrize(
    "query", [{"limit": "x"}, {"limit": "0"}, {"limit": "-1"}, {"limit": "²"}, {"order": "up"}]
)
def test_what_is_wrong_in_a_query_is_named(address: str, query: dict[str, str]) -> None:
    with client(address, "acme") as sdk, pytest.raises(openai.BadRequestError, match=next(iter(query))):
        sdk.responses.input_items.list("resp_1", extra_query=query)


def test_a_replay_as_a_stream_is_not_offered(address: str) -> None:
    with client(address, "acme") as sdk, pytest.raises(openai.InternalServerError) as caught:
        sdk.responses.retrieve("resp_1", stream=True)
    assert caught.value.status_code == 501
