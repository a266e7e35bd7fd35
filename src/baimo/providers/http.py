"""Connections to one server: pooled, kept alive, bounded in every stage, and every failure named.

Prevents the failures where a silent server holds a run for ever, a library's traceback stands in for a message, or
credentials travel where nobody sent them: redirects are not followed and ~/.netrc is not read (aiohttp would do both
once told to trust the environment), so the proxy variables are resolved here.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from baimo.errors import BadReply, ProviderError, Unreachable
from baimo.providers.faults import Place
from baimo.settings import ProviderSettings

LARGEST_BODY = 64 * 1024 * 1024
"""Most bytes of one answer that are read."""
LARGEST_REFUSAL = 1024 * 1024
"""Most bytes of an error answer that are read, but for its last piece."""


class Http:
    """The connections that one provider owns; opened by the first call, closed by `aclose`."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        self._timeout = aiohttp.ClientTimeout(
            total=settings.total_timeout_s,
            sock_connect=settings.connect_timeout_s,
            sock_read=settings.read_timeout_s,
        )
        self._open: aiohttp.ClientSession | None = None
        self._proxies: dict[URL, str | None] = {}

    @asynccontextmanager
    async def post(
        self, url: URL, *, headers: Mapping[str, str], body: bytes, place: Place
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """Send `body` once; the answer's head has arrived, whatever its status.

        Raises:
            Unreachable: no connection, TLS or name failure, or a timeout.
            BadReply: the answer broke off, is too large or is not HTTP. Also raised while the block reads it.
        """
        origin = url.origin()
        if origin not in self._proxies:  # looked for once: it takes as long as sending
            self._proxies[origin] = _proxy(origin)
        proxy = self._proxies[origin]
        try:
            async with self._session().post(
                url, data=body, headers=headers, proxy=proxy, allow_redirects=False
            ) as response:
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # `from None`: a client library's errors may quote headers or a proxy's password
            raise self._fault(error, place) from None

    async def whole(self, response: aiohttp.ClientResponse, place: Place) -> bytes:
        """The body of an answer, if it is not absurdly large."""
        pieces: list[bytes] = []
        size = 0
        async for piece in response.content.iter_any():
            size += len(piece)
            if size > LARGEST_BODY:
                raise BadReply("providers.too_large", host=place.host, model=place.model, limit=LARGEST_BODY)
            pieces.append(piece)
        return b"".join(pieces)

    async def refusal(self, response: aiohttp.ClientResponse) -> bytes:
        """What came of an error's body, up to `LARGEST_REFUSAL`: its status says what it is, even if it breaks off."""
        body = bytearray()
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async for piece in response.content.iter_any():
                body += piece
                if len(body) >= LARGEST_REFUSAL:
                    break
        return bytes(body)

    async def aclose(self) -> None:
        """Close all connections."""
        session, self._open = self._open, None
        if session is not None:
            await session.close()

    def _session(self) -> aiohttp.ClientSession:
        if self._open is None:
            self._open = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30, ttl_dns_cache=300),
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=True,
            )
        return self._open

    def _fault(self, error: BaseException, place: Place) -> ProviderError:
        facts: dict[str, Any] = {"host": place.host, "model": place.model}
        problem = place.quote(_reason(error))
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            seconds = self._settings.connect_timeout_s
            return Unreachable(
                "providers.connect_timeout", sent=False, stage="connect", seconds=seconds, **facts
            )
        if isinstance(error, aiohttp.SocketTimeoutError):
            return Unreachable("providers.read_timeout", seconds=self._settings.read_timeout_s, **facts)
        if isinstance(error, TimeoutError) and getattr(error, "errno", None) != errno.ETIMEDOUT:
            return Unreachable("providers.total_timeout", seconds=self._settings.total_timeout_s, **facts)
        for kinds, stage, key in _NEVER_SENT:
            if isinstance(error, kinds):
                fault = Unreachable(key, sent=False, stage=stage, problem=problem, **facts)
                fault.retryable = stage != "tls"  # a certificate does not mend itself
                return fault
        if isinstance(error, aiohttp.ClientPayloadError):
            return BadReply("providers.truncated", **facts)
        if isinstance(error, (aiohttp.ClientConnectionError, OSError)):
            return Unreachable("providers.disconnected", **facts)
        return BadReply("providers.not_http", problem=problem, **facts)


_NEVER_SENT: Sequence[tuple[tuple[type[BaseException], ...], str, str]] = (
    ((aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError), "tls", "providers.tls"),
    ((aiohttp.ClientConnectorDNSError,), "dns", "providers.unknown_host"),
    ((aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError), "proxy", "providers.proxy"),
    ((aiohttp.ClientConnectorError,), "connect", "providers.unreachable"),
)
"""Failures before the first byte of a request, with stage and message; the first that fits counts."""


def _proxy(url: URL) -> str | None:
    proxies = getproxies()
    if not proxies or url.host is None or proxy_bypass(url.host):
        return None
    return proxies.get(url.scheme) or proxies.get("all")


def _reason(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"HTTP {error.status}"
    inner = getattr(error, "os_error", None) or getattr(error, "certificate_error", None)
    return str(getattr(inner, "strerror", None) or inner or "") or type(error).__name__
