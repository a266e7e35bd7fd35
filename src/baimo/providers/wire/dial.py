"""A new connection: name, TCP, proxy, TLS, each failure named by its stage.

Addresses are tried as RFC 8305 ("Happy Eyeballs") asks: the families take turns, the next one begins when the last has
not answered within a quarter of a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from baimo.errors import Unreachable
from baimo.providers.wire.origin import Origin, Proxy

STAGGER_S = 0.25
LARGEST_PROXY_ANSWER = 65_536

Made = TypeVar("Made", bound=asyncio.Protocol)
Candidate = tuple[int, int, Any]
"""Family, protocol, address."""


@functools.cache
def tls() -> ssl.SSLContext:
    """Certificates of the system (or SSL_CERT_FILE); where it has none, those of certifi."""
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if not (paths.cafile or paths.capath):
        with contextlib.suppress(ImportError):
            import certifi

            context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


async def dial(origin: Origin, make: Callable[[], Made], context: ssl.SSLContext | None = None) -> Made:
    """An open connection whose protocol `make` made.

    Args:
        origin: where to.
        make: called once, when bytes can flow.
        context: for https; None = `tls()`.

    Raises:
        Unreachable: with stage dns, connect, proxy or tls; nothing was sent.
    """
    way = _Way(origin, context)
    try:
        async with asyncio.timeout(origin.stages.connect_s):
            return await way.open(make)
    except TimeoutError:
        raise way.fault("wire.connect_timeout", seconds=origin.stages.connect_s) from None
    except socket.gaierror as error:
        raise way.fault("wire.unknown_host", problem=error.strerror or str(error)) from None
    except ssl.SSLError as error:
        fault = way.fault(
            "wire.tls", problem=getattr(error, "verify_message", "") or error.reason or str(error)
        )
        fault.retryable = False  # a certificate does not mend itself
        raise fault from None
    except OSError as error:
        key = {"proxy": "wire.proxy", "tls": "wire.tls"}.get(way.stage, "wire.refused")
        raise way.fault(key, problem=error.strerror or str(error) or type(error).__name__) from None


class _Way:
    """Knows how far it has come."""

    def __init__(self, origin: Origin, context: ssl.SSLContext | None) -> None:
        self.origin = origin
        self.stage = "dns"
        self._context = (context or tls()) if origin.scheme == "https" else None

    def fault(self, key: str, **facts: object) -> Unreachable:
        return Unreachable(key, sent=False, stage=self.stage, host=self.origin.name, **facts)

    async def open(self, make: Callable[[], Made]) -> Made:
        loop = asyncio.get_running_loop()
        candidates = await self._resolved()
        if len(candidates) == 1 and candidates[0][0] == socket.AF_INET and self._is_direct:
            # no choice and nothing between: one step of the event loop's own, for half the processor time
            _, made = await loop.create_connection(make, *candidates[0][2])
            return made
        connected = await _first(candidates)
        try:
            if self.origin.proxy is not None and self._context is not None:
                self.stage = "proxy"
                await self._tunnel(connected, self.origin.proxy)
            self.stage = "tls" if self._context is not None else "connect"
            name = self.origin.host if self._context is not None else None
            _, made = await loop.create_connection(
                make, sock=connected, ssl=self._context, server_hostname=name
            )
        except BaseException:
            connected.close()
            raise
        return made

    @property
    def _is_direct(self) -> bool:
        return self.origin.proxy is None and self._context is None

    async def _resolved(self) -> list[Candidate]:
        if self.origin.socket:
            self.stage = "connect"
            return [(socket.AF_UNIX, 0, self.origin.socket)]
        at = self.origin.proxy or self.origin
        found = await asyncio.get_running_loop().getaddrinfo(at.host, at.port, type=socket.SOCK_STREAM)
        self.stage = "proxy" if self.origin.proxy is not None else "connect"
        return _taking_turns(found)

    async def _tunnel(self, connected: socket.socket, proxy: Proxy) -> None:
        loop = asyncio.get_running_loop()
        host = f"[{self.origin.host}]" if ":" in self.origin.host else self.origin.host
        at = f"{host}:{self.origin.port}".encode("ascii" if host.isascii() else "idna")
        allowed = b"proxy-authorization: %s\r\n" % proxy.authorization if proxy.authorization else b""
        await loop.sock_sendall(connected, b"CONNECT %s HTTP/1.1\r\nhost: %s\r\n%s\r\n" % (at, at, allowed))
        head = b""
        while b"\r\n\r\n" not in head:
            piece = await loop.sock_recv(connected, 4096)
            head += piece
            if not piece or len(head) > LARGEST_PROXY_ANSWER:
                raise ConnectionError("no answer to CONNECT")
        status = head.split(b" ", 2)[1:2]
        # in TLS the client speaks first: a byte after the head cannot come from the server behind the proxy
        if not head.startswith(b"HTTP/1.") or status != [b"200"] or not head.endswith(b"\r\n\r\n"):
            code = status[0][:3].decode("ascii", "replace") if status else "?"
            raise ConnectionError(f"HTTP {code}")


def _taking_turns(found: Sequence[tuple[Any, ...]]) -> list[Candidate]:
    families: dict[int, list[Candidate]] = {}
    for family, _, proto, _, address in found:
        families.setdefault(family, []).append((family, proto, address))
    rounds = itertools.zip_longest(*families.values())
    return [candidate for row in rounds for candidate in row if candidate is not None]


async def _first(candidates: list[Candidate]) -> socket.socket:
    if len(candidates) == 1:
        return await _connected(*candidates[0])
    trying: set[asyncio.Task[socket.socket]] = set()
    problem: BaseException | None = None
    won: socket.socket | None = None
    try:
        while won is None and (candidates or trying):
            if candidates:
                trying.add(asyncio.create_task(_connected(*candidates.pop(0))))
            done, trying = await asyncio.wait(
                trying, timeout=STAGGER_S if candidates else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                if task.exception() is not None:
                    problem = task.exception()
                elif won is None:
                    won = task.result()
                else:
                    task.result().close()
    finally:
        for task in trying:
            task.cancel()
            task.add_done_callback(_close)
    if won is None:
        raise problem or OSError("no address")
    return won


def _close(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _connected(family: int, proto: int, address: Any) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM, proto)
    try:
        made.setblocking(False)
        if family != socket.AF_UNIX:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made
