"""What all client connections of one process share: routes, limits, one clock and one timer."""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from email.utils import formatdate
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from baimo.core import addresses
from baimo.errors import ConfigError
from baimo.server import azure
from baimo.server.exchange import Exchange
from baimo.server.known import Heads
from baimo.settings import ServeSettings

Handler = Callable[[Exchange], Coroutine[Any, Any, None]]
"""Answers one call through the exchange's `Reply` methods; cancelled when the client leaves."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9.:_\[\]-]+")
TICK_S = 1.0


class Limits(msgspec.Struct, frozen=True):
    """What one client may take. Seconds and bytes."""

    body_bytes: int
    connections: int
    header_s: float
    body_s: float
    idle_s: float
    write_s: float
    head_bytes: int = 64 * 1024
    headers: int = 200
    pipelined: int = 32
    linger_s: float = 2.0
    """How long a refused client may go on sending before its connection is reset."""

    @classmethod
    def of(cls, settings: ServeSettings) -> Limits:
        """From `[serve]`."""
        return cls(
            body_bytes=int(settings.max_body_mib * 1024 * 1024),
            connections=settings.max_connections,
            header_s=settings.header_timeout_s,
            body_s=settings.body_timeout_s,
            idle_s=settings.idle_timeout_s,
            write_s=settings.write_timeout_s,
        )


class Checked(Protocol):
    """A connection, as the timer sees it."""

    def check(self, now: float) -> None: ...

    def renew(self) -> None:
        """The settings have changed."""
        ...


class Lanes:
    """Belongs to one event loop. The application's lifespan puts it into its state as `hot`, where `Lane` finds it."""

    def __init__(
        self,
        routes: Mapping[tuple[bytes, bytes], Handler],
        settings: ServeSettings,
        *,
        uploads: Mapping[bytes, int] = MappingProxyType({}),
        parts: tuple[bytes, bytes, int] | None = None,
    ) -> None:
        """
        Args:
            routes: hot operations by method and exact path; everything else goes to the ASGI application.
            settings: limits, and whose X-Forwarded-For is believed.
            uploads: paths of the application that read their body as it comes, and may be sent so many bytes.
            parts: beginning and end of such paths that have an id between, and the bytes.

        Raises:
            ConfigError: `trusted_proxies` holds something that is no network, `allow_origins` what is no origin.
        """
        self.hot: dict[bytes, dict[bytes, Handler]] = {}
        for (method, path), handler in routes.items():
            self.hot.setdefault(method, {})[path] = handler
        self._uploads = uploads
        self._parts = parts or (b"", b"", 0)
        self.heads = Heads()
        self.drain_s: int | None = None
        """Longest wait for calls in flight when stopping, where that has changed since the start."""
        self.now = 0.0
        """The event loop's clock at the last tick; as exact as time-outs need to be."""
        self.standing = b""
        """Date and Server lines."""
        self.refused: Counter[str] = Counter()
        """Requests that were turned away while they were read, by message key."""
        self.draining = asyncio.Event()
        """Set when the process stops: what never ends by itself should end now."""
        self._connections: set[Checked] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._numbers = itertools.count(1 << 28)  # eight digits, for four billion of them
        self._prefix = secrets.token_hex(6)
        self._follow(settings)

    def adopt(self, settings: ServeSettings) -> None:
        """Go on under other settings, on open connections too.

        Raises:
            ConfigError: as at first; nothing has changed.
        """
        self._follow(settings)
        self.drain_s = graceful_s(settings)
        for lane in self._connections:
            lane.renew()

    def _follow(self, settings: ServeSettings) -> None:
        trusted, self.origins = networks(settings), origins(settings)
        self._trusted = trusted
        self.limits = limits = Limits.of(settings)
        least = min(limits.header_s, limits.body_s, limits.idle_s, limits.write_s)
        self.tick_s = min(TICK_S, least / 4)

    def meant(self, method: bytes, path: bytes) -> tuple[bytes, Handler | None]:
        """What some clients mean by a path that is no hot operation's: the path, and the hot operation if it is one."""
        model = ""
        if path.startswith(azure.PREFIX):
            path, model = azure.plain(path)
        elif path.endswith(b"/") and path.startswith(b"/v1/"):
            path = path.rstrip(b"/")
        handler = self.hot.get(method, {}).get(path)
        return path, azure.deployed(handler, model) if handler is not None and model else handler

    def limits_of(self, path: bytes) -> Limits:
        """What a request for this path may take."""
        start, end, long = self._parts
        if not (start and path.startswith(start) and path.endswith(end)):
            long = self._uploads.get(path, 0)
        limits = self.limits
        return limits if long <= limits.body_bytes else msgspec.structs.replace(limits, body_bytes=long)

    def request_id(self, given: bytes | None) -> str:
        """The client's own, if it is safe to print, else a new one."""
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given.decode("ascii")
        return f"req_{self._prefix}{hex(next(self._numbers))[2:]}"

    @property
    def connections(self) -> int:
        """Client connections."""
        return len(self._connections)

    def trusted(self, address: str) -> bool:
        """Whether this peer's X-Forwarded-For is believed."""
        if not self._trusted:
            return False
        found = addresses.address(address)
        return found is not None and any(found in network for network in self._trusted)

    def forwarded(self, peer: str, chain: bytes) -> str:
        """The client's address behind trusted proxies: the last in the chain that is not one of them.

        Args:
            peer: address of the connection, a trusted proxy.
            chain: X-Forwarded-For.
        """
        for entry in reversed(chain.decode("latin-1").split(",")):
            address = _bare(entry.strip())
            if not address:
                break
            peer = address
            if not self.trusted(address):
                break
        return peer

    def watch(self, connections: set[Any]) -> None:
        """A connection was made: the clock must run."""
        self._connections = connections
        if self._timer is None:
            self._tick()

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self.now = loop.time()
        self.standing = f"date: {formatdate(usegmt=True)}\r\nserver: baimo\r\n".encode()
        for lane in tuple(self._connections):
            lane.check(self.now)
        self._timer = loop.call_later(self.tick_s, self._tick) if self._connections else None


def graceful_s(settings: ServeSettings) -> int:
    """`drain_s` in whole seconds, as uvicorn has it."""
    return max(1, round(settings.drain_s))


def networks(settings: ServeSettings) -> list[addresses.Network]:
    """Whose X-Forwarded-For is believed.

    Raises:
        ConfigError: `trusted_proxies` holds something that is no network.
    """
    return [_network(entry) for entry in settings.trusted_proxies]


def origins(settings: ServeSettings) -> frozenset[bytes]:
    """Whose pages may call the model APIs.

    Raises:
        ConfigError: `allow_origins` holds something that no browser sends as an origin.
    """
    for entry in settings.allow_origins:
        if entry != "*" and not _ORIGIN.fullmatch(entry):
            raise ConfigError("lane.bad_origin", entry=entry)
    return frozenset(entry.encode() for entry in settings.allow_origins)


def _network(entry: str) -> addresses.Network:
    try:
        return addresses.network(entry, strict=False)
    except ValueError:
        raise ConfigError("lane.bad_network", entry=entry) from None


def _bare(entry: str) -> str:
    host = entry[1:].partition("]")[0] if entry.startswith("[") else entry
    if host.count(":") == 1:
        host = host.partition(":")[0]
    found = addresses.address(host)
    return "" if found is None else str(found)
