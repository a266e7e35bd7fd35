"""Anthropic's `POST /v1/messages/count_tokens` for models whose tokenizer is here; no model is asked for it.

Prevents a count that is a guess: every other model is asked through its own API, or the answer is 501.
"""

from __future__ import annotations

import asyncio
from time import monotonic

from baimo.core.tenant import Key, Tenant
from baimo.errors import BaimoError, Forbidden, Unreachable
from baimo.gateway.answers import lines
from baimo.gateway.call import Call
from baimo.gateway.keyring import permits_name, permits_surface
from baimo.server.credentials import credential
from baimo.server.exchange import Exchange
from baimo.server.lanes import Handler
from baimo.server.surfaces.count_tokens import CountTokens
from baimo.workspace.serving import Service

JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")


def counting(service: Service) -> Handler:
    """The handler of the operation."""
    surface = CountTokens()

    async def answer(exchange: Exchange) -> None:
        try:
            key, tenant = await service.keyring.looked_up(credential(exchange.headers), exchange.peer)
            tokens = await _counted(service, surface, exchange, key)
        except BaimoError as error:
            headers = [JSON, *([(b"www-authenticate", b"Bearer")] if error.http_status == 401 else [])]
            words = surface.refusal(error, request_id=exchange.request_id)
            exchange.whole(error.http_status, lines(headers), words)
            return
        if tokens is not None:
            exchange.whole(200, lines([JSON]), surface.told(tokens))
        else:
            await service.gateway.serve(_call(exchange, surface, key, tenant))

    return answer


async def _counted(service: Service, surface: CountTokens, exchange: Exchange, key: Key) -> int | None:
    """Tokens of the request; None = whoever serves the model must say.

    Raises:
        CallRefused: the request is wrong, or the key may not ask this.
        ProviderError: the model cannot be loaded, or not in time.
    """
    asked = surface.peek(exchange.body, exchange.headers).model
    behind = service.parts.router.behind(asked, key)
    if not behind or not service.counts(behind[0]):
        return None
    if not permits_surface(key, surface.name):
        raise Forbidden("gateway.surface_forbidden", key=key.public, surface=surface.name)
    if not (permits_name(key, asked) or all(permits_name(key, one.name) for one in behind)):
        raise Forbidden("gateway.model_forbidden", key=key.public, name=asked)
    request = surface.asked(exchange.body, model=behind[0].upstream)
    limit_s = service.settings.serve.call_timeout_s
    try:
        async with asyncio.timeout(limit_s):
            return await service.count_tokens(behind[0], request, exchange.body)
    except TimeoutError:
        late = Unreachable("gateway.too_late", model=behind[0].name, seconds=round(limit_s))
        late.http_status = 504
        raise late from None


def _call(exchange: Exchange, surface: CountTokens, key: Key, tenant: Tenant) -> Call:
    return Call(
        surface=surface,
        body=exchange.body,
        headers=exchange.headers,
        key=key,
        tenant=tenant,
        reply=exchange,
        began=monotonic(),
        request_id=exchange.request_id,
    )
