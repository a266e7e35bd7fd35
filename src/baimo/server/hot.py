"""The hot routes: from an exchange to a call of the gateway, with nothing in between but the key."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import NamedTuple

from baimo.core.tenant import Key, Tenant
from baimo.errors import BaimoError, Unauthenticated
from baimo.gateway.answers import lines, retry_headers
from baimo.gateway.call import Call, Reply
from baimo.gateway.policy import CLASS_HEADER, data_class
from baimo.gateway.surface import Surface
from baimo.server.counting import counting
from baimo.server.credentials import credential
from baimo.server.exchange import Exchange
from baimo.server.files import FORM, LONGEST_FORM
from baimo.server.lanes import Handler, Lanes
from baimo.server.surfaces.responses import Responses
from baimo.server.surfaces.responses_memory import Remembering, begun
from baimo.server.surfaces.table import surfaces
from baimo.store.uploads import LONGEST_PART
from baimo.workspace.serving import Service

JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")
NOBODY, NOBODYS = Key(), Tenant(id="")
"""Who asks, where that was not made out."""


class Refused(NamedTuple):
    """A request of which no call was made; fits `observe.Asked`."""

    headers: Mapping[bytes, bytes]
    request_id: str
    began: float


def hot_routes(service: Service) -> Lanes:
    """The model APIs' POST operations, for `Lane`."""
    routes = {(b"POST", path.encode()): _handler(service, surface) for path, surface in surfaces().items()}
    routes[b"POST", b"/v1/responses"] = _remembering(service, Responses())
    routes[b"POST", b"/v1/messages/count_tokens"] = counting(service)
    return Lanes(
        routes,
        service.settings.serve,
        uploads={b"/v1/files": LONGEST_FORM},
        parts=(b"/v1/uploads/", b"/parts", LONGEST_PART + FORM),
    )


def _handler(service: Service, surface: Surface) -> Handler:
    async def answer(exchange: Exchange) -> None:
        try:
            given = credential(exchange.headers)
            try:
                key, tenant = service.keyring.authenticate(given, exchange.peer)
            except Unauthenticated:
                key, tenant = await service.keyring.looked_up(given, exchange.peer)
        except BaimoError as error:
            _refuse(service, exchange, surface, error)
            return
        await service.gateway.serve(_call(exchange, surface, key, tenant, exchange.body, exchange))

    return answer


def _remembering(service: Service, surface: Surface) -> Handler:
    """Responses: what was said before is put in front, and what is said now is kept."""

    async def answer(exchange: Exchange) -> None:
        memory = service.responses
        try:
            given = credential(exchange.headers)
            try:
                key, tenant = service.keyring.authenticate(given, exchange.peer)
            except Unauthenticated:
                key, tenant = await service.keyring.looked_up(given, exchange.peer)
            data = data_class(service.settings.policy, key, tenant, exchange.headers)
            turn = await begun(exchange.body, memory, tenant=tenant.id, key=key.public, data_class=data)
        except BaimoError as error:
            _refuse(service, exchange, surface, error)
            return
        reply = Remembering(exchange, turn, memory) if turn.kept else None
        call = _call(exchange, surface, key, tenant, turn.body, reply or exchange)
        if turn.data_class != data:
            call.headers = {**call.headers, CLASS_HEADER: turn.data_class.encode()}
        await service.gateway.serve(call)
        if reply is not None:
            await reply.settled()

    return answer


def _call(exchange: Exchange, surface: Surface, key: Key, tenant: Tenant, body: bytes, reply: Reply) -> Call:
    return Call(
        surface=surface,
        body=body,
        headers=exchange.headers,
        key=key,
        tenant=tenant,
        reply=reply,
        began=monotonic(),
        request_id=exchange.request_id,
    )


def _refuse(service: Service, exchange: Exchange, surface: Surface, error: BaimoError) -> None:
    headers = [JSON, *retry_headers(error)]
    if error.http_status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    body = surface.refusal(error, request_id=exchange.request_id)
    exchange.whole(error.http_status, lines(headers), body)
    asked = Refused(exchange.headers, exchange.request_id, monotonic())
    service.observer.refused(error, surface.name, NOBODY, NOBODYS, asked)
