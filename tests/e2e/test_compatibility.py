"""The official SDKs against a running `baimo serve`: every surface with every kind of model, as the guide promises."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anthropic
import openai
import pytest

from tests.e2e.compatibility import MODELS, REMOTE, TABLE, Cell, cells, markdown
from tests.e2e.scenarios import SCENARIOS, Clients
from tests.serving import Endpoint, serving
from tests.upstream import Upstream, upstream

ROOT = Path(__file__).parents[2]
CONFIG = """
[serve]
breaker_failures = 10000
default_model = "plain/model"

[providers.plain]
base_url = "{plain}"
inside = true

[providers.modern]
base_url = "{modern}"
inside = true
quirks = ["responses"]

[providers.claude]
protocol = "anthropic"
base_url = "{claude}"
inside = true

[providers.scripted]
protocol = "fake"
inside = true
options.function = "tests.e2e.model_script:answer"

[providers.shaky]
protocol = "fake"
inside = true
options.errors = ["503", "429"]
"""
MODELS_CONFIG = """
[models."{name}"]
input_per_million = 1.0
output_per_million = 2.0
context_window = 8192
"""
PATHS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "count_tokens": "/v1/messages/count_tokens",
    "embeddings": "/v1/embeddings",
    "rerank": "/v1/rerank",
    "moderations": "/v1/moderations",
    "transcriptions": "/v1/audio/transcriptions",
    "speech": "/v1/audio/speech",
    "images": "/v1/images/generations",
}
_numbers = itertools.count()


class Bench(NamedTuple):
    """A server, and the model's servers behind it."""

    endpoint: Endpoint
    upstreams: dict[str, Upstream]

    clients: Clients

    def trying(self, retries: int) -> Clients:
        """The SDKs with another number of retries."""
        one, other = self.clients.openai, self.clients.anthropic
        return Clients(one.with_options(max_retries=retries), other.with_options(max_retries=retries))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("compatibility") / "w"
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(upstream()) for name in REMOTE}
        plain, modern, claude = (servers[name].address for name in REMOTE)
        config = CONFIG.format(plain=plain, modern=modern, claude=claude.removesuffix("/v1"))
        for name in (*MODELS.values(), "shaky/model"):
            config += "" if name.startswith("local/") else MODELS_CONFIG.format(name=name)
        environment = {"PYTHONPATH": str(ROOT)}
        endpoint = stack.enter_context(serving(folder, config, environment=environment))
        key, address = endpoint.key, endpoint.address
        clients = Clients(  # as programs make them: nothing but address and key is changed
            stack.enter_context(openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0)),
            stack.enter_context(anthropic.Anthropic(base_url=address, api_key=key, max_retries=0)),
        )
        yield Bench(endpoint, servers, clients)


def _marked(cell: Cell) -> Any:
    runs = cell.dialect == "local" and not cell.outcome.startswith("501")
    marks = [pytest.mark.local, pytest.mark.xdist_group("local")] if runs else []
    return pytest.param(cell, id=str(cell), marks=marks)


@pytest.mark.parametrize("cell", [_marked(cell) for cell in cells()])
def test_the_sdk_gets_what_the_table_says(bench: Bench, cell: Cell) -> None:
    scenario, model = SCENARIOS[cell.surface, cell.feature], MODELS[cell.dialect]
    behind = bench.upstreams.get(cell.dialect)
    before = behind.asked.copy() if behind else None
    if cell.refused:
        kinds = (openai.APIStatusError, anthropic.APIStatusError)
        with pytest.raises(kinds) as refusal:
            scenario(bench.clients, model, True)
        assert f"{refusal.value.status_code}" == cell.outcome[:3]
        assert cell.outcome[4:] in str(refusal.value)
        assert behind is None or behind.asked == before
        return
    fulfilled = scenario(bench.clients, model, cell.dialect != "local")
    assert fulfilled is (cell.outcome != "-") or fulfilled is None
    if behind is not None and before is not None:
        paths = set(behind.asked - before)
        assert paths == {PATHS[cell.surface]} or cell.outcome != "="
        assert paths.isdisjoint({PATHS[cell.surface]}) or cell.outcome == "=" or cell.surface == "chat"


def test_every_surface_of_the_server_is_in_the_table() -> None:
    from baimo.server.surfaces.table import surfaces

    assert {surface.name: path for path, surface in surfaces().items()} == PATHS
    assert list(TABLE) == list(PATHS)


@pytest.mark.parametrize("page", ["serve.md", "serve.zh.md"])
def test_the_guide_shows_this_very_table(page: str) -> None:
    assert markdown() in (ROOT / "docs" / "guides" / page).read_text(encoding="utf-8")


# errors: whatever the model's server says, the SDK raises the class that its users catch

Asked = Callable[[Clients, str, str], Any]
_user: Callable[[str], Any] = lambda wish: [{"role": "user", "content": wish}]  # noqa: E731
SAYING: dict[str, Asked] = {
    "chat": lambda c, m, w: c.openai.chat.completions.create(model=m, messages=_user(w)),
    "completions": lambda c, m, w: c.openai.completions.create(model=m, prompt=w),
    "responses": lambda c, m, w: c.openai.responses.create(model=m, input=w),
    "messages": lambda c, m, w: c.anthropic.messages.create(model=m, messages=_user(w), max_tokens=9),
    "embeddings": lambda c, m, w: c.openai.embeddings.create(model=m, input=w, encoding_format="float"),
    "rerank": lambda c, m, w: c.openai.post(
        "/rerank", body={"model": m, "query": w, "documents": ["a"]}, cast_to=object
    ),
    "moderations": lambda c, m, w: c.openai.moderations.create(model=m, input=w),
    "transcriptions": lambda c, m, w: c.openai.audio.transcriptions.create(
        model=m, file=("s.wav", b"RIFF", "audio/wav"), prompt=w
    ),
    "speech": lambda c, m, w: c.openai.audio.speech.create(model=m, input=w, voice="alloy"),
    "images": lambda c, m, w: c.openai.images.generate(model=m, prompt=w),
}
RAISED = {
    400: ("BadRequestError", 400, "told to say 400"),
    401: ("InternalServerError", 502, "your key is not at fault"),
    404: ("NotFoundError", 404, "told to say 404"),
    429: ("RateLimitError", 429, "told to say 429"),
    500: ("InternalServerError", 502, "500"),
}
"""What the model's server says → the SDK's exception, its status, words of its message."""
REACHED = [
    (surface, dialect)
    for surface in SAYING
    for dialect in REMOTE
    if not TABLE[surface]["whole"][REMOTE.index(dialect)][:1].isdigit()
]


@pytest.mark.parametrize("said", list(RAISED))
@pytest.mark.parametrize(("surface", "dialect"), REACHED)
def test_an_error_of_the_models_server_is_the_exception_that_programs_catch(
    bench: Bench, surface: str, dialect: str, said: int
) -> None:
    name, status, words = RAISED[said]
    sdk: Any = anthropic if surface == "messages" else openai
    with pytest.raises(getattr(sdk, name)) as raised:
        SAYING[surface](bench.clients, MODELS[dialect], f"status {said}")
    assert raised.value.status_code == status
    assert words in str(raised.value)


@pytest.mark.parametrize(("surface", "dialect"), REACHED)
def test_the_sdk_tries_again_until_the_server_is_well(bench: Bench, surface: str, dialect: str) -> None:
    wish = f"flaky 2 #{next(_numbers)}"
    SAYING[surface](bench.trying(4), MODELS[dialect], wish)
    assert bench.upstreams[dialect].refused[wish] == 2


@pytest.mark.parametrize("surface", [one for one in SAYING if one != "messages"])
def test_the_sdk_does_not_try_again_where_the_server_says_that_it_is_final(
    bench: Bench, surface: str
) -> None:
    model = bench.upstreams["responses"]
    before = model.asked.total()
    with pytest.raises(openai.RateLimitError):
        SAYING[surface](bench.trying(3), MODELS["responses"], "status 429 final")
    assert model.asked.total() == before + 1


def test_a_scripted_fault_is_an_exception_too(bench: Bench) -> None:
    with pytest.raises((openai.RateLimitError, openai.InternalServerError)):
        SAYING["chat"](bench.clients, "shaky/model", "hello")


def test_what_is_not_offered_is_said_in_the_words_of_the_api_and_not_asked_for_again(bench: Bench) -> None:
    client = bench.trying(3).openai
    with pytest.raises(openai.InternalServerError) as refusal:
        client.vector_stores.create(name="shelf")
    assert refusal.value.status_code == 501
    assert refusal.value.response.headers["x-should-retry"] == "false"
    assert refusal.value.code == "not_supported"


def test_what_a_vendor_keeps_for_all_tenants_is_not_reached(bench: Bench) -> None:
    tool: Any = {"type": "file_search", "vector_store_ids": ["vs_of_somebody_else"]}
    before = bench.upstreams["responses"].asked.total()
    with pytest.raises(openai.PermissionDeniedError) as refusal:
        bench.clients.openai.responses.create(model=MODELS["responses"], input="hi", tools=[tool])
    assert refusal.value.param == "tools[0].vector_store_ids"
    assert bench.upstreams["responses"].asked.total() == before


# the asynchronous clients


@pytest.mark.parametrize("dialect", [*REMOTE, "fake"])
def test_the_asynchronous_clients_get_the_same(bench: Bench, dialect: str) -> None:
    model, key, address = MODELS[dialect], bench.endpoint.key, bench.endpoint.address

    async def talk() -> None:
        async with (
            openai.AsyncOpenAI(base_url=f"{address}/v1", api_key=key) as one,
            anthropic.AsyncAnthropic(base_url=address, api_key=key) as other,
        ):
            answers = await asyncio.gather(
                *(one.chat.completions.create(model=model, messages=_user(f"hi {i}")) for i in range(8))
            )
            assert [a.choices[0].message.content for a in answers] == [f"echo: hi {i}" for i in range(8)]
            stream = await one.chat.completions.create(model=model, messages=_user("say a b"), stream=True)
            said = "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
            assert said.strip() in ("a b", "echo: say a b")
            response = await one.responses.create(model=model, input="hi")
            assert response.output_text == "echo: hi"
            message = await other.messages.create(model=model, messages=_user("hi"), max_tokens=9)
            assert message.content[0].text == "echo: hi"  # type: ignore[union-attr]
            async with other.messages.stream(model=model, messages=_user("hi"), max_tokens=9) as events:
                assert (await events.get_final_message()).stop_reason == "end_turn"

    asyncio.run(talk())
