"""A model behind an HTTP server: what the wire formats have in common.

One attempt is: read the key, translate, send, judge the status, translate back; and where the server refuses an
optional parameter, learn that this model does not take it and send the rest. A wire format is a subclass with four
translations and no I/O.
"""

from __future__ import annotations

import dataclasses
import random
from abc import abstractmethod
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, cast

import msgspec

from baimo.config import secret
from baimo.core.call import Completion, Delta, Request
from baimo.core.ids import plain
from baimo.core.model import Vendor
from baimo.core.registry import Spec
from baimo.errors import AuthenticationFailed, BadReply, ConfigError, ProviderError, RequestRefused
from baimo.providers.address import base_address
from baimo.providers.faults import Place, body_fault, http_fault, parsed
from baimo.providers.pace import Clock
from baimo.providers.paced import PacedProvider, as_delta, gathered, log
from baimo.providers.quirks import known, lasts, learnt
from baimo.providers.retry import Patience
from baimo.providers.sse import Event, SseParser
from baimo.providers.weights import Located
from baimo.settings import ProviderSettings
from baimo.text import text

if TYPE_CHECKING:
    import aiohttp


class Outgoing(NamedTuple):
    """One request in a wire format."""

    path: str
    """To be put behind the base address."""
    body: dict[str, Any]
    """JSON-ready."""
    adapted: tuple[str, ...]
    """What was left out or changed because of quirks."""
    quirks: frozenset[str]
    """The quirks it was written with."""
    query: Mapping[str, str] = {}
    """To be put behind the path."""
    json_tool: str | None = None
    """Name of a tool that only carries the JSON answer."""


class Answer(NamedTuple):
    """An answer of status 200 whose body has not been read."""

    outgoing: Outgoing
    place: Place
    response: aiohttp.ClientResponse
    started: float


class Reader(Protocol):
    """Turns the events of one stream into deltas."""

    def feed(self, event: Event) -> Iterable[Delta]:
        """The deltas that this event completes."""
        ...

    def close(self) -> Iterable[Delta]:
        """The last delta; BadReply when the stream ended before the answer did."""
        ...


class ServerProvider(PacedProvider):
    """Implements `Provider` for one server and one wire format."""

    protocol: ClassVar[str]
    options: ClassVar[frozenset[str]] = frozenset()
    version: ClassVar[str] = "1"  # raised when the same request would be put differently on the wire

    def __init__(
        self,
        vendor: Vendor,
        settings: ProviderSettings,
        *,
        weights: Located | None = None,
        clock: Clock | None = None,
        chance: random.Random | None = None,
    ) -> None:
        # its library takes 8 MB, and an endpoint that only passes through needs none of it
        from baimo.providers.http import Http

        del weights  # for engines in this process
        super().__init__(settings, clock=clock, chance=chance)
        self.vendor = vendor
        self.settings = settings
        self.base = base_address(vendor, settings, known=self.options)
        self.quirks = known(vendor, settings.quirks)
        self._http = Http(settings)
        self._learnt: dict[str, frozenset[str]] = {}

    @property
    def spec(self) -> Spec:
        """Wire format, address, quirks and options; no key, and no values of headers, which may be keys."""
        arguments: dict[str, Any] = {"vendor": self.vendor.name, "base_url": str(self.base)}
        optional = {
            "quirks": sorted(self.quirks),
            "options": plain(self.settings.options),
            "headers": sorted(self.settings.headers),
        }
        arguments.update({name: value for name, value in optional.items() if value})
        return Spec(name=self.protocol, args=arguments, version=self.version)

    @abstractmethod
    def outgoing(self, request: Request, quirks: frozenset[str], *, stream: bool) -> Outgoing:
        """The request in this wire format."""

    @abstractmethod
    def key_headers(self, key: str) -> dict[str, str]:
        """Headers that present the key."""

    @abstractmethod
    def completion(self, data: Mapping[str, Any], outgoing: Outgoing, place: Place) -> Completion:
        """The answer in a whole body; BadReply when there is none in it."""

    @abstractmethod
    def reader(self, outgoing: Outgoing, place: Place) -> Reader:
        """Reads one stream."""

    async def attempt(self, request: Request, patience: Patience) -> Completion:
        """One exchange for a whole answer; what came as a stream nevertheless is put together."""
        async with self._answer(request, patience, stream=False) as answer:
            if answer.response.content_type == "text/event-stream":
                async with aclosing(self._pieces(answer)) as pieces:
                    completion = dataclasses.replace(await gathered(pieces), model=request.model)
            else:
                completion = await self._whole(answer)
        elapsed = (self.clock.now() - answer.started) * 1000
        return dataclasses.replace(completion, latency_ms=elapsed, adapted=answer.outgoing.adapted)

    async def attempt_stream(self, request: Request, patience: Patience) -> AsyncGenerator[Delta, None]:
        """One exchange for a stream; what came whole nevertheless is its only piece."""
        async with self._answer(request, patience, stream=True) as answer:
            if answer.response.content_type == "application/json":
                yield as_delta(await self._whole(answer))
                return
            async with aclosing(self._pieces(answer)) as pieces:
                async for delta in pieces:
                    yield delta

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _whole(self, answer: Answer) -> Completion:
        data = parsed(await self._http.whole(answer.response, answer.place))
        if not isinstance(data, dict):
            raise BadReply("providers.malformed", host=answer.place.host, model=answer.place.model)
        data = cast("dict[str, Any]", data)
        if error := body_fault(data, answer.place):
            raise error
        return self.completion(data, answer.outgoing, answer.place)

    async def _pieces(self, answer: Answer) -> AsyncGenerator[Delta, None]:
        parser, reader = SseParser(), self.reader(answer.outgoing, answer.place)
        async for piece in answer.response.content.iter_any():
            for event in parser.feed(piece):
                for delta in reader.feed(event):
                    yield delta
        for event in parser.close():
            for delta in reader.feed(event):
                yield delta
        for delta in reader.close():
            yield delta

    @asynccontextmanager
    async def _answer(
        self, request: Request, patience: Patience, *, stream: bool
    ) -> AsyncGenerator[Answer, None]:
        """Send until the status is 200 or a refusal teaches nothing new."""
        own: frozenset[str] = frozenset()  # what was learnt of this request alone
        while True:
            quirks = self._quirks(request.model) | own
            outgoing = self.outgoing(request, quirks, stream=stream or "stream_only" in quirks)
            headers, place = self._headers(request.model)
            url = self.base.joinpath(outgoing.path).update_query(outgoing.query)
            body = _encoded(outgoing, place)
            patience.attempts += 1
            started = self.clock.now()
            async with self._http.post(url, headers=headers, body=body, place=place) as response:
                if response.status < 300:
                    yield Answer(outgoing, place, response, started)
                    return
                refusal = await self._http.refusal(response)
            error = http_fault(response.status, response.headers, refusal, place, self.clock.wall())
            quirk = self._learns(request.model, error, refusal, outgoing)
            if quirk is None:
                raise error
            own |= {quirk}

    def _headers(self, model: str) -> tuple[dict[str, str], Place]:
        """Headers of one attempt. Keys are read here and live no longer than the attempt."""
        reference = self.settings.key or (
            f"env:{self.vendor.key_variable}" if self.vendor.key_variable else ""
        )
        shown = reference if reference.startswith(("env:", "file:")) else ""
        host = f"{self.base.host}:{self.base.port}" if self.base.explicit_port else str(self.base.host)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "baimo",
            "Accept-Encoding": "identity",
        }
        secrets: list[str] = []
        try:
            if reference:
                key = secret(reference)
                secrets.append(key)
                headers.update(self.key_headers(key))
            for name, value in self.settings.headers.items():
                headers[name] = secret(value) if value.startswith(("env:", "file:")) else value
                secrets.append(headers[name])
        except ConfigError as error:
            facts: dict[str, Any] = {
                "provider": self.vendor.name,
                "model": model,
                "problem": str(error),
                "advice": error.hint,
            }
            raise AuthenticationFailed("providers.no_key", **facts) from None
        if not all(value.isprintable() for value in headers.values()):
            raise AuthenticationFailed(
                "providers.unprintable_key", provider=self.vendor.name, key=shown or "–"
            )
        return headers, Place(host=host, model=model, key=shown, secrets=tuple(filter(None, secrets)))

    def _learns(self, model: str, error: ProviderError, refusal: bytes, outgoing: Outgoing) -> str | None:
        """The quirk to send the request again with."""
        if not isinstance(error, RequestRefused) or error.facts.get("status") not in {400, 422}:
            return None
        said, quirks = refusal.decode("utf-8", errors="replace"), self._quirks(model)
        quirk = learnt(said, outgoing.body, outgoing.quirks)
        if quirk is not None and quirk not in quirks and lasts(quirk, said):
            self._learnt[model] = quirks | {quirk}
            log.warning(text("providers.adapts", provider=self.vendor.name, model=model, quirk=quirk))
        return quirk

    def _quirks(self, model: str) -> frozenset[str]:
        return self._learnt.get(model, self.quirks)


def tool_choice(request: Request) -> str | None:
    """`Request.tool_choice`; None also where there is nothing to choose, which servers refuse to hear.

    Raises:
        RequestRefused: a call is demanded of a model that has no tools.
    """
    choice = request.tool_choice
    if choice is None or request.tools:
        return choice
    if choice in {"auto", "none"}:
        return None
    raise RequestRefused("providers.no_tools", choice=choice)


def sent_extra(request: Request, quirks: frozenset[str], adapted: list[str]) -> dict[str, Any]:
    """`Request.extra` without `example`, which names an example for recorded replies and never leaves the house, and
    without what `quirks` take from it."""
    sent = {name: plain(value) for name, value in (request.extra or {}).items() if name != "example"}
    if "no_effort" in quirks and sent.pop("reasoning_effort", None) is not None:
        adapted.append("reasoning_effort")
    return sent


def _encoded(outgoing: Outgoing, place: Place) -> bytes:
    try:
        return msgspec.json.encode(outgoing.body)
    except (TypeError, ValueError) as error:
        facts: dict[str, Any] = {"host": place.host, "model": place.model, "problem": str(error)}
        raise RequestRefused("providers.unsendable", **facts) from error
