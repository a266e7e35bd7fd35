"""The process that holds the models of this machine when several workers share the port.

Prevents a model from being loaded once per worker, each of which would take all cores: workers reach this process over
loopback, in OpenAI's words and with a key that lives as long as the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from dataclasses import replace
from hmac import compare_digest

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from baimo.core.call import Provider
from baimo.core.call import Request as Question
from baimo.errors import BaimoError, NotSupported, StoreError, Unauthenticated
from baimo.gateway.surface import Peek, Surface
from baimo.gateway.translated import all_answered, together
from baimo.providers.local import LocalProvider
from baimo.server.credentials import credential
from baimo.server.logs import configure
from baimo.server.surfaces.chat import Chat
from baimo.server.surfaces.completions import Completions
from baimo.server.surfaces.count_tokens import CountTokens
from baimo.settings import ProviderSettings
from baimo.store.adapters import Adapters
from baimo.workspace.adapted import Adapted
from baimo.workspace.workspace import Workspace

VENDOR = "local"
URL = "BAIMO_ENGINE_URL"
KEY = "BAIMO_ENGINE_KEY"
"""Variables in which workers find the process and its key."""


def reached() -> ProviderSettings | None:
    """Settings with which a worker reaches the models of this machine; None = they are in its own process."""
    address = os.environ.get(URL)
    return ProviderSettings(protocol="openai", base_url=address, key=f"env:{KEY}") if address else None


@contextlib.contextmanager
def running(folder: str) -> Generator[None]:
    """The process beside the workers; its address and key are in the environment meanwhile.

    Raises:
        StoreError: it ended before it listened.
    """
    key = secrets.token_urlsafe(32)
    program = [sys.executable, "-m", "baimo.server.engine", folder]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, env={**os.environ, KEY: key}, text=True)
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise StoreError("serve.engine_ended", code=process.wait())
        os.environ[URL], os.environ[KEY] = f"http://127.0.0.1:{port}/v1", key
        yield
    finally:
        os.environ.pop(URL, None)
        os.environ.pop(KEY, None)
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def application(provider: Provider, key: str) -> Starlette:
    """Chat and plain completions by one provider.

    Args:
        provider: answers.
        key: that every request must present.
    """

    def route(surface: Surface) -> Route:
        async def endpoint(request: Request) -> Response:
            request_id = request.headers.get("x-request-id", "")
            try:
                presented = credential(dict(request.headers.raw)) or b""
                if not compare_digest(presented, key.encode()):
                    raise Unauthenticated("gateway.no_key")
                body = await request.body()
                peek = surface.peek(body, dict(request.headers.raw))
                return await _answered(surface, provider, body, peek)
            except BaimoError as error:
                words = surface.refusal(error, request_id=request_id)
                return Response(words, error.http_status, media_type="application/json")

        return Route(f"/v1/{surface.target}", endpoint, methods=["POST"])

    async def count(request: Request) -> Response:
        surface = CountTokens()
        try:
            presented = credential(dict(request.headers.raw)) or b""
            if not compare_digest(presented, key.encode()):
                raise Unauthenticated("gateway.no_key")
            body = await request.body()
            model = surface.peek(body, dict(request.headers.raw)).model.rpartition("/")[2]
            if not isinstance(provider, LocalProvider):
                raise NotSupported("messages.uncountable", model=model)
            words = surface.told(await provider.count_tokens(surface.asked(body, model=model)))
            return Response(words, media_type="application/json")
        except BaimoError as error:
            words = surface.refusal(error, request_id=request.headers.get("x-request-id", ""))
            return Response(words, error.http_status, media_type="application/json")

    counting = Route("/v1/messages/count_tokens", count, methods=["POST"])
    return Starlette(routes=[route(Chat()), route(Completions()), counting])


async def _answered(surface: Surface, provider: Provider, body: bytes, peek: Peek) -> Response:
    question = surface.request(body, peek, model=peek.model)
    name, created_s = secrets.token_hex(12), int(time.time())
    repeats = [replace(question, repeat=number) for number in range(peek.answers)]
    if not peek.stream:
        completions = await all_answered([provider.complete(one) for one in repeats])
        words = surface.answer(completions, peek, id=name, created_s=created_s)
        return Response(words, media_type="application/json")
    stream = _events(surface, provider, repeats, peek, name, created_s)
    first = await anext(stream)  # what fails before the first word has a status of its own
    return StreamingResponse(_joined(first, stream), media_type="text/event-stream")


async def _joined(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


async def _events(
    surface: Surface, provider: Provider, questions: list[Question], peek: Peek, name: str, created_s: int
) -> AsyncGenerator[bytes]:
    events = surface.events(peek, id=name, created_s=created_s)
    begun = False
    try:
        async for number, delta in together([provider.stream(question) for question in questions]):
            begun = True
            yield events.delta(delta, number)
    except BaimoError as error:
        if not begun:
            raise
        yield events.failed(error)
        return
    yield events.end()


def main(folder: str) -> None:
    """Serve until a signal; the first line on standard output is the port."""
    import uvicorn

    from baimo.providers.factory import provider

    with Workspace(folder) as workspace:
        configure(workspace.settings.observe)
        settings = workspace.settings.providers.get(VENDOR, ProviderSettings())
        answering = provider(workspace.catalogue.vendor(VENDOR), settings, weights=workspace.weights)
        made = application(answering, os.environ[KEY])
        config = uvicorn.Config(
            made, lifespan="off", log_config=None, access_log=False, log_level="warning", port=0
        )
        listening = config.bind_socket()
        print(listening.getsockname()[1], flush=True)
        server = uvicorn.Server(config)
        vendor, _, model = workspace.settings.serve.default_model.partition("/")

        async def run() -> None:
            beside = [asyncio.create_task(_forgetting(workspace, answering))]
            if vendor == VENDOR:
                beside.append(asyncio.create_task(_loaded(answering, model)))
            await server.serve([listening])
            for task in beside:
                task.cancel()
            await answering.aclose()

        asyncio.run(run())


async def _loaded(provider: Provider, model: str) -> None:
    """Have the default model ready; who asks for it is told what is wrong with it."""
    if isinstance(provider, LocalProvider):
        with contextlib.suppress(BaimoError):
            await provider.load(model)


async def _forgetting(workspace: Workspace, provider: Provider) -> None:
    """Free the memory of tuned models that are not served any more."""
    if isinstance(provider, LocalProvider):
        adapted = Adapted(Adapters(workspace.store.database), lambda: workspace.catalogue)
        adapted.changed = lambda: provider.forget(adapted.gone)
        await adapted.watch()


if __name__ == "__main__":
    main(sys.argv[1])
